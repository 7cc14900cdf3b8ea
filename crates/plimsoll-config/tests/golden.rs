//! Every kind of problem as an operator sees it: each `golden/NAME.toml` against `golden/NAME.expected`.
//!
//! A folder `golden/NAME/` is one configuration of several files, `main.toml` first. `UPDATE_GOLDEN=1` writes what is
//! expected anew; read the difference before keeping it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use plimsoll_config::{Problems, Source, load};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn source(path: &Path) -> Source {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    Source { path: name, text: fs::read_to_string(path).unwrap() }
}

fn sources(path: &Path) -> Vec<Source> {
    if !path.is_dir() {
        return vec![source(path)];
    }
    let mut sources: Vec<_> = entries(path).iter().map(|path| source(path)).collect();
    sources.sort_by_key(|source| source.path != "main.toml");
    sources
}

/// The cases, each with where its expectation stands.
fn cases() -> Vec<(PathBuf, PathBuf)> {
    let is_case =
        |path: &PathBuf| path.is_dir() || path.extension().is_some_and(|extension| extension == "toml");
    entries(&golden())
        .into_iter()
        .filter(is_case)
        .map(|path| (path.clone(), path.with_extension("expected")))
        .collect()
}

fn env(name: &str) -> Option<String> {
    (name == "SET").then(|| "value".to_owned())
}

/// The problems of a case, or its warnings.
fn outcome(path: &Path) -> Problems {
    match load(&sources(path), &env) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    }
}

#[test]
fn problems_look_as_expected() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differing = Vec::new();
    for (path, expectation) in cases() {
        let rendered = outcome(&path).render(false);
        assert!(!rendered.is_empty(), "{} has no problem", path.display());
        if update {
            fs::write(&expectation, &rendered).unwrap();
        }
        let expected = fs::read_to_string(&expectation).unwrap_or_default();
        if rendered != expected {
            differing.push(format!("{}:\n{rendered}\nexpected:\n{expected}", path.display()));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn every_kind_of_problem_is_shown() {
    let mut shown = BTreeSet::new();
    for (path, _) in cases() {
        shown.extend(outcome(&path).iter().map(|problem| problem.code().as_str()));
    }
    // A code has no list of its own at run time; a new one must be added here with a case.
    let all = [
        "bad-address",
        "bad-reference",
        "bad-unit",
        "bad-value",
        "duplicate",
        "duplicate-key",
        "duplicate-route",
        "key-conflict",
        "missing-key",
        "not-supported-yet",
        "nothing-to-do",
        "out-of-range",
        "set-twice",
        "suspicious",
        "syntax",
        "unknown-backend",
        "unknown-key",
        "unknown-word",
        "unset-variable",
        "unused-backend",
        "wrong-type",
    ];
    assert_eq!(shown, BTreeSet::from(all));
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/CONFIGURATION.md");
    let reference = fs::read_to_string(reference).unwrap();
    for code in all {
        assert!(reference.contains(&format!("| `{code}` |")), "{code} is not in the reference");
    }
}

#[test]
fn json_says_the_same_as_the_text() {
    for (path, _) in cases() {
        let problems = outcome(&path);
        let json = problems.to_json();
        let rendered = problems.render(false);
        assert_eq!(json.as_array().unwrap().len(), problems.len());
        for problem in json.as_array().unwrap() {
            let place = format!(
                "--> {}:{}:{}",
                problem["file"].as_str().unwrap(),
                problem["line"],
                problem["column"]
            );
            assert!(rendered.contains(&place), "{place} in\n{rendered}");
            let title =
                format!("[{}]: {}", problem["code"].as_str().unwrap(), problem["message"].as_str().unwrap());
            assert!(rendered.contains(&title), "{title} in\n{rendered}");
            if let Some(help) = problem["help"].as_str() {
                assert!(rendered.contains(help), "{help} in\n{rendered}");
            }
        }
    }
}

#[test]
fn colour_is_only_there_when_asked_for() {
    let (path, _) = cases().remove(0);
    let problems = outcome(&path);
    assert!(!problems.render(false).contains('\u{1b}'));
    assert!(problems.render(true).contains('\u{1b}'));
}
