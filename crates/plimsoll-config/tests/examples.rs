//! Every file in `examples/` loads, without a warning, and its effective form loads to the same configuration.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use plimsoll_config::model::{self, Action, Address, Balance, HashKey};
use plimsoll_config::{Loaded, Source, from_flags, includes, load, schema};

fn example(name: &str) -> Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    load_text(name, &fs::read_to_string(path).unwrap())
}

fn load_text(name: &str, text: &str) -> Loaded {
    let source = Source { path: name.to_owned(), text: text.to_owned() };
    load(&[source], &|_| None).unwrap_or_else(|problems| panic!("{problems}"))
}

fn names() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<_> = names.filter(|name| name.ends_with(".toml")).collect();
    assert!(names.len() >= 10, "{names:?}");
    names
}

#[test]
fn every_example_loads_without_a_warning() {
    for name in names() {
        assert!(example(&name).warnings.is_empty(), "{name}");
    }
}

#[test]
fn the_effective_form_loads_to_the_same_configuration() {
    for name in names() {
        let loaded = example(&name);
        let again = load_text("effective", &loaded.effective);
        assert_eq!(again.config, loaded.config, "{name}:\n{}", loaded.effective);
    }
    let flags = from_flags(&[":8080,:8081".to_owned()], &[":8000,unix:/run/a.sock".to_owned()]).unwrap();
    assert_eq!(load_text("effective", &flags.effective).config, flags.config);
}

#[test]
fn every_line_of_the_effective_form_says_where_it_came_from() {
    for name in names() {
        for line in example(&name).effective.lines().filter(|line| !line.is_empty()) {
            let (_, origin) = line.rsplit_once("# ").unwrap();
            assert!(origin.starts_with("default") || origin.starts_with(&format!("{name}:")), "{line}");
        }
    }
}

/// By name alone; `full.model` shows that each has its effect.
#[test]
fn the_full_example_names_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/full.toml");
    let text = fs::read_to_string(path).unwrap();
    let schema = schema();
    let tables = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    for table in tables {
        for key in table["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
            let named = [format!("{key} ="), format!("{key}="), format!("[{key}]"), format!("[{key}.")];
            let padded = |line: &str| line.split('=').next().is_some_and(|start| start.trim() == key);
            let found = named.iter().any(|form| text.contains(form.as_str())) || text.lines().any(padded);
            assert!(found, "{key} of {}", table["title"]);
        }
    }
}

#[test]
fn every_key_of_the_full_example_reaches_the_model() {
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/full.model");
    let model = format!("{:#?}\n", example("full.toml").config);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&expected, &model).unwrap();
    }
    assert_eq!(model, fs::read_to_string(expected).unwrap());
}

#[test]
fn the_effective_form_looks_as_expected() {
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/full.effective");
    let effective = example("full.toml").effective;
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&expected, &effective).unwrap();
    }
    assert_eq!(effective, fs::read_to_string(expected).unwrap());
}

#[test]
fn the_examples_mean_what_they_are_named_after() {
    let weights: Vec<_> =
        example("weighted.toml").config.backends[0].servers.iter().map(|s| s.weight).collect();
    assert!(weights.iter().any(|weight| *weight != weights[0]), "{weights:?}");
    let canary = example("canary.toml").config;
    assert!(
        canary.routes.iter().any(|route| matches!(&route.action, Action::Proxy(split) if split.len() == 2))
    );
    let hash = example("hash.toml").config;
    assert!(
        hash.backends
            .iter()
            .any(|b| matches!(&b.balance, Balance::Hash(hash) if matches!(hash.key, HashKey::Cookie(_))))
    );
    assert!(example("backup.toml").config.backends[0].servers.iter().any(|server| server.backup));
    let unix = example("unix-socket.toml").config;
    assert!(unix.backends[0].servers.iter().all(|server| matches!(server.address, Address::Unix(_))));
    let discover = example("discover.toml").config;
    assert!(
        matches!(&discover.backends[0].discover, Some(found) if matches!(found.source, model::Source::Dns { .. }))
    );
    assert!(!example("behind-cdn.toml").config.trusted.is_empty());
}

#[test]
fn several_files_add_up_in_any_order() {
    let main = Source {
        path: "a.toml".to_owned(),
        text: "include = [\"*.toml\"]\n[[listen]]\nbind = \":80\"".to_owned(),
    };
    let one = Source {
        path: "b.toml".to_owned(),
        text: "[backend.b]\nservers = [\":1\"]\n[[route]]\nto = \"c\"".to_owned(),
    };
    let two =
        "[backend.c]\nservers = [\":2\"]\n[[route]]\npath = \"/b\"\nto = \"b\"\n[log]\nformat = \"off\"";
    let two = Source { path: "c.toml".to_owned(), text: two.to_owned() };
    assert_eq!(includes(&main).unwrap(), ["*.toml"]);
    for sources in [[main.clone(), one.clone(), two.clone()], [main, two, one]] {
        let config = load(&sources, &|_| None).unwrap().config;
        assert_eq!((config.backends.len(), config.routes.len(), config.listeners.len()), (2, 2, 1));
        for route in &config.routes {
            let Action::Proxy(split) = &route.action else { panic!("{route:?}") };
            let wanted = if route.matcher.path.is_some() { "b" } else { "c" };
            assert_eq!(config.backends[split[0].0].name, wanted);
        }
    }
}
