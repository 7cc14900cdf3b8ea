//! Several sources to one tree.
//!
//! `listen` and `route` add up, `backend` adds up by name, everything else may stand in one source only. So the order of
//! included files cannot have a meaning.

use crate::problem::{Code, Problem, Report};
use crate::source::{Raw, RawKey, RawValue, Source};
use crate::vocabulary::ROOT;

type Entries = Vec<(RawKey, Raw)>;

/// Joins the sources; the first is the main one.
pub(crate) fn merge(parsed: Vec<Entries>, report: &mut Report) -> Entries {
    let mut merged = Entries::new();
    for (file, entries) in parsed.into_iter().enumerate() {
        for (key, raw) in entries {
            if file > 0 && key.name == "include" {
                let problem =
                    Problem::new(Code::KeyConflict, key.at, "only the main file can include others");
                report.error(problem.help("name the pattern in the main file's `include`".to_owned()));
            } else {
                add(&mut merged, key, raw, report);
            }
        }
    }
    merged
}

fn add(merged: &mut Entries, key: RawKey, raw: Raw, report: &mut Report) {
    let Some((first, there)) = merged.iter_mut().find(|(other, _)| other.name == key.name) else {
        merged.push((key, raw));
        return;
    };
    match (key.name.as_str(), &mut there.value, raw.value) {
        ("listen" | "route", RawValue::List(all), RawValue::List(more)) => all.extend(more),
        ("backend", RawValue::Table(all), RawValue::Table(more)) => add_backends(all, more, report),
        // Not ours to judge: the checker reports each for what it is.
        (name, _, value) if ROOT.key(name).is_none() || matches!(name, "listen" | "route" | "backend") => {
            merged.push((key, Raw { at: raw.at, value }));
        }
        (name, _, _) => report.error(
            Problem::new(Code::SetTwice, key.at, format!("`{name}` is set in two files"))
                .also(first.at, "first here")
                .help("keep it in one of them".to_owned()),
        ),
    }
}

fn add_backends(all: &mut Entries, more: Entries, report: &mut Report) {
    for (key, raw) in more {
        match all.iter().find(|(other, _)| other.name == key.name) {
            Some((first, _)) => report.error(
                Problem::new(Code::Duplicate, key.at, format!("the backend `{}` stands twice", key.name))
                    .also(first.at, "first here")
                    .help("rename one of them, or list all servers in one".to_owned()),
            ),
            None => all.push((key, raw)),
        }
    }
}

/// The patterns of `include`.
pub(crate) fn patterns(main: &Source, entries: &Entries, report: &mut Report) -> Vec<String> {
    let Some((_, raw)) = entries.iter().find(|(key, _)| key.name == "include") else {
        return Vec::new();
    };
    // Wrong types are the checker's to report.
    let RawValue::List(items) = &raw.value else {
        return Vec::new();
    };
    let mut patterns = Vec::with_capacity(items.len());
    for item in items {
        let written = main.text.get(item.at.start..item.at.end).unwrap_or_default();
        match &item.value {
            RawValue::Text(_) if written.contains("${") => report.error(
                Problem::new(Code::BadReference, item.at, "`include` is read before variables are")
                    .help("write the path itself".to_owned()),
            ),
            RawValue::Text(text) if text.is_empty() => {
                report.error(Problem::new(Code::BadValue, item.at, "an empty pattern"));
            }
            RawValue::Text(text) => patterns.push(text.clone()),
            _ => {}
        }
    }
    patterns
}
