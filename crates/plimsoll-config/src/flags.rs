//! A configuration without a file: `plimsoll run --listen :8080 --to :8000,:8001`.
//!
//! The flags become the same tree that a file would, so they get the same checks and messages; their places point into
//! the command line as it was typed. Variables are left to the shell.

use crate::problem::{Code, Problem, Problems, Report};
use crate::source::{At, Raw, RawKey, RawValue, Source};
use crate::{Loaded, finish};

/// What stands for the file's name.
pub(crate) const COMMAND_LINE: &str = "command line";

/// The name of the backend that several listeners share.
const SHARED: &str = "default";

/// Checks flags, of which each may stand several times and hold several values, separated by commas. Every listener
/// sends to all servers.
pub fn from_flags(listen: &[String], to: &[String]) -> Result<Loaded, Problems> {
    let mut line = Line::default();
    let binds = line.flag("--listen", listen);
    let servers = line.flag("--to", to);
    let mut report = Report::default();
    let end = At { file: 0, start: line.text.len(), end: line.text.len() };
    if binds.is_empty() {
        let problem = Problem::new(Code::NothingToDo, end, "there is no `--listen`");
        report.error(problem.help("add --listen :8080".to_owned()));
    }
    if servers.is_empty() {
        let problem = Problem::new(Code::NothingToDo, end, "there is no `--to`");
        report.error(problem.help("add --to :8000,:8001".to_owned()));
    }
    let sources = [Source { path: COMMAND_LINE.to_owned(), text: line.text }];
    if binds.is_empty() || servers.is_empty() {
        return Err(report.finish(&sources).expect_err("a flag that is not there was reported"));
    }
    finish(tree(binds, servers), &sources, report)
}

/// The command line as it is put together, so that places have a text to point into.
#[derive(Default)]
struct Line {
    text: String,
}

impl Line {
    fn flag(&mut self, name: &str, values: &[String]) -> Vec<Raw> {
        let mut parts = Vec::new();
        for value in values {
            let gap = if self.text.is_empty() { "" } else { " " };
            self.text.push_str(&format!("{gap}{name} "));
            for (index, part) in value.split(',').enumerate() {
                let comma = if index == 0 { "" } else { "," };
                self.text.push_str(comma);
                let start = self.text.len();
                self.text.push_str(part);
                let at = At { file: 0, start, end: self.text.len() };
                parts.push(Raw { at, value: RawValue::Text(part.trim().to_owned()) });
            }
        }
        parts
    }
}

/// One listener keeps its servers to itself; several share a backend, so that their requests are counted together.
fn tree(binds: Vec<Raw>, servers: Vec<Raw>) -> Vec<(RawKey, Raw)> {
    let at = servers[0].at;
    let servers = Raw { at, value: RawValue::List(servers) };
    let text = |text: &str| Raw { at, value: RawValue::Text(text.to_owned()) };
    let (to, backends) = if binds.len() == 1 {
        (servers, None)
    } else {
        let backend = table(at, vec![(key("servers", at), servers)]);
        (text(SHARED), Some(table(at, vec![(key(SHARED, at), backend)])))
    };
    let listener = |bind: Raw| {
        let at = bind.at;
        table(at, vec![(key("bind", at), bind), (key("to", at), to.clone())])
    };
    let listeners = binds.into_iter().map(listener).collect();
    let mut entries = vec![(key("listen", at), Raw { at, value: RawValue::List(listeners) })];
    entries.extend(backends.map(|backends| (key("backend", at), backends)));
    entries
}

fn key(name: &str, at: At) -> RawKey {
    RawKey { name: name.to_owned(), at }
}

fn table(at: At, entries: Vec<(RawKey, Raw)>) -> Raw {
    Raw { at, value: RawValue::Table(entries) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(listen: &[&str], to: &[&str]) -> Result<Loaded, Problems> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        from_flags(&owned(listen), &owned(to))
    }

    #[test]
    fn one_listener_has_its_own_backend() {
        let config = flags(&[":8080"], &[":8000,:8001", ":8002"]).unwrap().config;
        assert_eq!(config.backends[0].name, "listen :8080");
        let names: Vec<_> = config.backends[0].servers.iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, [":8000", ":8001", ":8002"]);
        assert_eq!(config.listeners[0].fallback, Some(0));
    }

    #[test]
    fn several_listeners_share_one_backend() {
        let config = flags(&[":8080,:8081"], &[":8000"]).unwrap().config;
        assert_eq!(config.backends.len(), 1);
        assert_eq!(
            config.listeners.iter().map(|listener| listener.fallback).collect::<Vec<_>>(),
            [Some(0); 2]
        );
    }

    #[test]
    fn a_problem_points_into_the_command_line() {
        let problems = flags(&[":8080"], &[":8000,http://a"]).unwrap_err();
        let place = problems.iter().map(|problem| problems.place(problem)).next().unwrap();
        assert_eq!(place, ("command line", 1, 27));
    }

    #[test]
    fn both_flags_are_needed() {
        assert_eq!(flags(&[], &[]).unwrap_err().len(), 2);
        assert_eq!(flags(&[":8080"], &[]).unwrap_err().len(), 1);
    }
}
