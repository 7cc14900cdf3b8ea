//! The house's rules as tests: who may use what, how long things get, which words do not appear.
//!
//! `tidy/table.rs` holds the rules as data, `tidy/rules.rs` as functions with examples of what each must catch, and
//! `tidy/source.rs` reads Rust. Here they meet the workspace.

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/table.rs"]
mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use rules::{
    FILE_CEILING, FUNCTION_WALL, banned_words, empty_names, forbidden_dependencies, forbidden_paths,
    lock_problems, long_files, long_functions, machine_paths, missing_introduction, panicking_words,
    unused_dependencies,
};
use source::{Source, functions};
use table::{CRATES, Crate, EXCEPT, LISTED_ONLY, LONG_FILES, LONG_FUNCTIONS};

/// Folders that hold nothing written by hand.
const SKIPPED: [&str; 6] = ["target", ".git", "corpus", "artifacts", "node_modules", "__pycache__"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Every file of the workspace below `folder` whose name passes, from the root, with `/` between.
fn files(folder: &str, passes: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(root().join(folder)) else {
        return found;
    };
    for entry in entries.map(|entry| entry.expect("the work tree is readable")) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let kind = entry.file_type().expect("the work tree is readable");
        if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
            found.extend(files(&path, passes));
        } else if kind.is_file() && passes(&name) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let found: Vec<Source> = files("crates", &|name| name.ends_with(".rs"))
        .iter()
        .map(|path| Source::new(path, &read(path)))
        .collect();
    assert!(found.len() > 50, "only {} files were found", found.len());
    found
}

#[track_caller]
fn assert_none(wrong: impl IntoIterator<Item = String>) {
    let wrong: Vec<String> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn everywhere(rule: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    sources().iter().flat_map(rule).collect()
}

fn rules_of(source: &Source) -> Option<&'static Crate> {
    CRATES.iter().find(|krate| source.krate() == Some(krate.name) && !source.is_test())
}

#[test]
fn each_crate_names_only_what_it_may() {
    assert_none(everywhere(|s| rules_of(s).map_or(Vec::new(), |krate| forbidden_paths(s, krate, EXCEPT))));
}

#[test]
fn every_exception_is_needed() {
    let sources = sources();
    for except in EXCEPT {
        assert!(!except.why.is_empty());
        let source = sources
            .iter()
            .find(|s| s.path == except.file)
            .unwrap_or_else(|| panic!("{} is gone", except.file));
        let krate = rules_of(source).expect("exceptions are for crates in the table");
        assert!(
            !forbidden_paths(source, krate, &[]).is_empty(),
            "{} needs no {} any more",
            except.file,
            except.path
        );
    }
}

#[test]
fn dependencies_point_downwards() {
    let folders: BTreeSet<String> = files("crates", &|name| name == "Cargo.toml")
        .iter()
        .filter_map(|path| path.split('/').nth(1).map(str::to_owned))
        .collect();
    let known: BTreeSet<String> = CRATES.iter().map(|krate| krate.name.to_owned()).collect();
    assert_eq!(folders, known, "a crate needs its row in the table");
    let wrong = CRATES
        .iter()
        .flat_map(|krate| forbidden_dependencies(krate, &read(&format!("crates/{}/Cargo.toml", krate.name))));
    assert_none(wrong);
}

#[test]
fn every_dependency_is_used() {
    let sources = sources();
    let mut wrong = Vec::new();
    for krate in CRATES {
        let own: Vec<&Source> = sources.iter().filter(|s| s.krate() == Some(krate.name)).collect();
        let manifest = read(&format!("crates/{}/Cargo.toml", krate.name));
        wrong.extend(unused_dependencies(krate.name, &manifest, &own));
    }
    assert_none(wrong);
}

#[test]
fn locked_packages_are_the_wanted_ones() {
    assert_none(lock_problems(&read("Cargo.lock")));
}

#[test]
fn what_is_only_listed_is_not_built() {
    for name in LISTED_ONLY {
        let tree =
            ["tree", "--locked", "--offline", "--workspace", "--edges", "normal,build", "--invert", name];
        let output = Command::new(env!("CARGO")).args(tree).output().expect("cargo runs this test");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && output.stdout.is_empty() && said.contains("nothing to print"),
            "{name}: {said}"
        );
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    assert_none(everywhere(missing_introduction));
}

#[test]
fn functions_stay_below_the_wall() {
    assert_none(everywhere(|s| if s.is_test() { Vec::new() } else { long_functions(s, LONG_FUNCTIONS) }));
    let stale = |(file, name, _): &&(&str, &str, &str)| {
        let long = functions(&Source::new(file, &read(file)).code);
        !long.iter().any(|f| f.name == *name && f.lines > FUNCTION_WALL)
    };
    assert_eq!(LONG_FUNCTIONS.iter().find(stale), None, "is short by now");
}

#[test]
fn files_stay_below_the_ceiling() {
    assert_none(everywhere(|s| long_files(s, LONG_FILES)));
    let stale = |(file, _): &&(&str, &str)| Source::new(file, &read(file)).production_lines() <= FILE_CEILING;
    assert_eq!(LONG_FILES.iter().find(stale), None, "is short by now");
}

#[test]
fn banned_words_stand_nowhere() {
    assert_none(everywhere(banned_words));
}

#[test]
fn only_tests_unwrap() {
    assert_none(everywhere(panicking_words));
}

#[test]
fn names_say_something() {
    assert_none(everywhere(empty_names));
}

#[test]
fn nothing_names_a_place_on_one_machine() {
    let is_text = |name: &str| {
        let ends = [".rs", ".md", ".toml", ".py", ".sh", ".js", ".html", ".expected"];
        ends.iter().any(|end| name.ends_with(end)) || !name.contains('.')
    };
    let wrong = files("", &is_text).into_iter().filter_map(|path| {
        let text = String::from_utf8(std::fs::read(root().join(&path)).ok()?).ok()?;
        Some(machine_paths(&path, &text))
    });
    assert_none(wrong.flatten());
}
