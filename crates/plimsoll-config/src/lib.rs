//! Text in, a checked configuration or a list of problems out.
//!
//! Pure: opens no file, reads no clock and no environment, knows nothing of what runs. `load` takes the texts that
//! `control` has read. `model` is what all other crates see; `problem` is what an operator sees.
//!
//! The way of a text: `source` (TOML to a tree with places, `${ENV}` filled in), `merge` (several files to one tree),
//! `check` (the tree against the `vocabulary`: types, units, ranges, unknown keys, defaults), `compile` (what the values
//! mean together). Each reports all that it finds, and none stops at the first.

mod address;
mod check;
mod compile;
pub mod defaults;
mod edit;
mod effective;
mod flags;
mod interpolate;
mod json;
mod list;
mod merge;
pub mod model;
mod node;
mod pattern;
mod problem;
mod render;
mod schema;
mod secret;
mod share;
mod source;
mod suggest;
mod units;
mod vocabulary;

pub use edit::{Edit, edit};
pub use flags::from_flags;
pub use json::{Unsound, parse_json};
pub use list::{parse_list, parse_server, whole};
pub use problem::{Code, Problem, Problems};
pub use schema::schema;
pub use source::Source;
pub use suggest::closest;

use std::path::PathBuf;

use model::Config;
use problem::Report;
use source::{At, Raw, RawKey};

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What to run.
    pub config: Config,
    /// The same as TOML, with every key that has a value and where it came from: `# default` or `# plimsoll.toml:12`.
    /// Keys without a value of their own stand in comments. Loads to the same `config`.
    pub effective: String,
    /// What is allowed but hardly meant; mostly empty.
    pub warnings: Problems,
    /// Files with certificates that it names.
    pub authorities: Vec<Authority>,
}

/// A file with certificates, which is read while the process runs, and where a configuration names it.
#[derive(Debug, Clone)]
pub struct Authority {
    /// The file.
    pub path: PathBuf,
    at: At,
}

impl Loaded {
    /// Adds a warning about a file: what is wrong with it, and what follows.
    pub fn warn_about(&mut self, authority: &Authority, message: &str, help: &str) {
        let problem = Problem::new(Code::Suspicious, authority.at, message);
        self.warnings.add(problem.help(help.to_owned()));
    }
}

/// The patterns of the main file's `include`, as written. Whoever calls reads the files and hands all to `load`.
///
/// Fails only if the text is not TOML. Every other problem, those of `include` too, is left to `load`, which reports it
/// together with the rest.
pub fn includes(main: &Source) -> Result<Vec<String>, Problems> {
    let mut report = Report::default();
    match source::parse(0, main, &|_| Some(String::new()), &mut report) {
        Some(entries) => Ok(merge::patterns(main, &entries, &mut Report::default())),
        None => Err(report.finish(std::slice::from_ref(main)).expect_err("what is not TOML was reported")),
    }
}

/// Checks all sources together. The first is the main file; the order of the others has no meaning.
///
/// `env` gives the value of an environment variable. Fails with every problem at once, except that texts which are not
/// TOML are reported alone.
pub fn load(sources: &[Source], env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
    if sources.is_empty() {
        // Problems need a text to point into.
        return load(&[Source { path: "no file".to_owned(), text: String::new() }], env);
    }
    let mut report = Report::default();
    let mut parsed = Vec::with_capacity(sources.len());
    for (file, source) in sources.iter().enumerate() {
        parsed.push(source::parse(file, source, env, &mut report));
    }
    let Some(parsed) = parsed.into_iter().collect::<Option<Vec<_>>>() else {
        return Err(report.only_syntax().finish(sources).expect_err("what is not TOML was reported"));
    };
    if let (Some(main), Some(entries)) = (sources.first(), parsed.first()) {
        merge::patterns(main, entries, &mut report);
    }
    let entries = merge::merge(parsed, &mut report);
    finish(entries, sources, report)
}

/// Checks and compiles a whole tree.
fn finish(entries: Vec<(RawKey, Raw)>, sources: &[Source], mut report: Report) -> Result<Loaded, Problems> {
    let start = At { file: 0, start: 0, end: 0 };
    let root = check::check(&vocabulary::ROOT, entries, start, &mut report);
    let config = compile::compile(&root, sources, &mut report);
    let named = std::mem::take(&mut report.authorities).into_iter();
    let authorities = named.map(|(path, at)| Authority { path, at }).collect();
    let warnings = report.finish(sources)?;
    Ok(Loaded { config, effective: effective::effective(&root, sources), warnings, authorities })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_source_at_all_is_a_problem_that_can_be_shown() {
        let problems = load(&[], &|_| None).unwrap_err();
        assert!(problems.render(false).contains("there is no listener"));
    }

    #[test]
    fn what_is_not_toml_has_no_patterns() {
        let source = |text: &str| Source { path: "x.toml".to_owned(), text: text.to_owned() };
        assert!(includes(&source("include = [")).is_err());
        assert_eq!(includes(&source("include = [\"a\"]\nnonsense = 1")).unwrap(), ["a"]);
        assert!(includes(&source("workers = 0")).unwrap().is_empty());
    }
}
