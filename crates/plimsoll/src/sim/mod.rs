//! The verb `plimsoll sim`: scenarios to run, tables, JSON and pictures to show.
//!
//! Reads scenario files and configurations, writes what `plimsoll-sim` made of them, and ends with 1 when an expectation is
//! broken. It decides nothing about simulations: names in, text out.

mod show;
mod work;

use std::path::{Path, PathBuf};

use plimsoll_config::model::Config;
use plimsoll_sim::{Policy, SHIPPED, Scenario, Study};

use crate::cli;
use crate::configuration;
use crate::exit::Exit;
use crate::terminal::{err, print};

/// Runs `plimsoll sim`.
pub(crate) fn run(args: &cli::Sim) -> Exit {
    let names: Vec<&String> = args.names.iter().chain(&args.scenarios).collect();
    if args.speed {
        return print(&work::speed());
    }
    if args.list {
        return print(&show::list());
    }
    if names.is_empty() {
        err("plimsoll sim: name a scenario; these ship, and `plimsoll sim all` runs them all:\n\n");
        err(&show::list());
        return Exit::Usage;
    }
    match scenarios(args, &names) {
        Ok(scenarios) => match args.plot.as_deref().map_or(Ok(()), |path| fits(path, scenarios.len())) {
            Ok(()) => study(args, scenarios),
            Err(problem) => {
                err(&format!("plimsoll sim: {problem}\n"));
                Exit::Usage
            }
        },
        Err(Told::Already(exit)) => exit,
        Err(Told::Not(problem)) => {
            err(&format!("plimsoll sim: {problem}\n"));
            Exit::Configuration
        }
    }
}

/// Why there is nothing to run.
enum Told {
    /// The user knows.
    Already(Exit),
    /// The user does not know yet.
    Not(String),
}

impl From<String> for Told {
    fn from(problem: String) -> Told {
        Told::Not(problem)
    }
}

/// Everything that was asked for, ready to run.
fn scenarios(args: &cli::Sim, names: &[&String]) -> Result<Vec<Scenario>, Told> {
    let mut scenarios = Vec::new();
    for name in names {
        match name.as_str() {
            "all" => scenarios.extend(SHIPPED.iter().filter_map(|(name, _)| Scenario::shipped(name))),
            file if file.ends_with(".toml") => scenarios.push(read(Path::new(file))?),
            name => scenarios.push(Scenario::shipped(name).ok_or_else(|| {
                format!("there is no scenario \"{name}\"; `plimsoll sim --list` shows them, and a file's name ends with .toml")
            })?),
        }
    }
    for (index, scenario) in scenarios.iter().enumerate() {
        if scenarios[..index].iter().any(|other| other.name == scenario.name) {
            return Err(Told::Not(format!("\"{}\" is named twice: one would hide the other", scenario.name)));
        }
    }
    if let Some(seed) = args.seed {
        scenarios.iter_mut().for_each(|scenario| scenario.seed = seed);
    }
    let policies = policies(&args.compare)?;
    match &args.config {
        Some(path) => played(args, path, &scenarios, &policies),
        None if policies.is_empty() => Ok(scenarios),
        None => Ok(scenarios.into_iter().map(|s| s.comparing(&policies)).collect()),
    }
}

fn policies(names: &[String]) -> Result<Vec<Policy>, String> {
    let parse = |(index, name): (usize, &String)| {
        if names[..index].contains(name) {
            return Err(format!("--compare {name}: it is named twice, and would do the same again"));
        }
        Policy::parse(name).map_err(|problem| format!("--compare {name}: {problem}"))
    };
    names.iter().enumerate().map(parse).collect()
}

/// A scenario from a file; what it names is looked for beside it.
fn read(path: &Path) -> Result<Scenario, String> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))
    };
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let beside = |file: &str| read(&path.with_file_name(file));
    Scenario::parse(&name, &path.display().to_string(), &read(path)?, &beside)
}

/// Each scenario played by each backend of a configuration.
fn played(
    args: &cli::Sim,
    path: &Path,
    scenarios: &[Scenario],
    compare: &[Policy],
) -> Result<Vec<Scenario>, Told> {
    let (_, loaded) =
        configuration::load(Some(path)).map_err(|e| Told::Already(configuration::show_error(&e)))?;
    configuration::show_warnings(&loaded.warnings);
    let config: &Config = &loaded.config;
    let wanted = |name: &str| args.backend.as_ref().is_none_or(|only| only == name);
    let mut played = Vec::new();
    for (index, backend) in config.backends.iter().enumerate().filter(|(_, b)| wanted(&b.name)) {
        let mut policies = vec![Policy::of_backend(backend)];
        policies.extend(compare.iter().map(|policy| policy.clone().in_backend(backend)));
        for scenario in scenarios {
            let mut scenario = scenario.clone().comparing(&policies).with_servers(backend, config, index)?;
            scenario.name = format!("{}, played by {}", scenario.name, backend.name);
            played.push(scenario);
        }
    }
    if played.is_empty() {
        return Err(Told::Not(format!("{}: there is no such backend", path.display())));
    }
    err("What a scenario expects, it expects of its own servers: nothing is judged here.\n");
    Ok(played)
}

/// Runs and shows all.
fn study(args: &cli::Sim, scenarios: Vec<Scenario>) -> Exit {
    let (mut holds, mut texts, mut values) = (true, Vec::new(), Vec::new());
    for scenario in scenarios {
        let study = work::run(scenario);
        holds &= study.holds();
        let drawn = args.plot.as_ref().map_or(Ok(()), |path| plot(path, &study));
        if let Err(problem) = drawn {
            err(&format!("plimsoll sim: {problem}\n"));
            return Exit::Start;
        }
        if args.json {
            values.push(study.to_json());
        } else {
            texts.push(show::study(&study));
            if let Some(exit) = crate::terminal::stream(texts.last().map_or("", String::as_str)) {
                return exit;
            }
        }
    }
    let printed =
        if args.json { print(&format!("{:#}\n", serde_json::Value::Array(values))) } else { Exit::Fine };
    if holds { printed } else { Exit::Configuration }
}

fn is_svg(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "svg")
}

/// Whether pictures of so many scenarios can go there.
fn fits(path: &Path, scenarios: usize) -> Result<(), String> {
    if is_svg(path) && scenarios > 1 {
        return Err(format!("{}: one file cannot take several scenarios; name a folder", path.display()));
    }
    if !is_svg(path) && path.extension().is_some() && !path.is_dir() {
        return Err(format!("{}: pictures are SVG: name a FILE.svg, or a folder", path.display()));
    }
    Ok(())
}

/// Writes the picture to the file, or into the folder.
fn plot(path: &Path, study: &Study) -> Result<(), String> {
    let name = study.scenario.name.replace(['/', ' ', ','], "-");
    let file: PathBuf = if is_svg(path) { path.to_owned() } else { path.join(format!("{name}.svg")) };
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    std::fs::write(&file, study.plot()).map_err(|error| format!("{}: {error}", file.display()))
}
