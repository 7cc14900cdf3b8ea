//! The rules: each a function from a file to what is wrong in it, one line of text for each finding.
//!
//! At the foot, each rule is shown what it must catch and what it must let pass, because a rule that catches nothing looks
//! exactly like a tidy house.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Source, functions, line_of, paths, words};
use crate::table::{BANNED_PACKAGES, Crate, Except, LISTED_ONLY, Never, SINGLE_PACKAGES};

pub(crate) const FUNCTION_WALL: usize = 70;
pub(crate) const FILE_CEILING: usize = 500;

pub(crate) fn forbidden_paths(source: &Source, krate: &Crate, except: &[Except]) -> Vec<String> {
    let mut wrong = Vec::new();
    for named in paths(&source.production) {
        for Never(path, why) in krate.never.iter().copied().flatten() {
            let is_excepted = |e: &Except| e.file == source.path && is_within(&named.path, e.path);
            // Importing `std::time` would hide every later `time::Instant`.
            let hides = named.imported && is_within(path, &named.path);
            if (is_within(&named.path, path) || hides) && !except.iter().any(is_excepted) {
                wrong.push(format!(
                    "{}:{}: {} is not for {}: {why}",
                    source.path, named.line, named.path, krate.name
                ));
            }
        }
    }
    wrong
}

/// `path` is `root` or below it.
pub(crate) fn is_within(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

pub(crate) fn missing_introduction(source: &Source) -> Vec<String> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![format!(
        "{}:1: begin with `//!`: what the file is for, what comes in and goes out, what it must never do",
        source.path
    )]
}

pub(crate) fn long_functions(source: &Source, listed: &[(&str, &str, &str)]) -> Vec<String> {
    functions(&source.code)
        .into_iter()
        .filter(|f| f.lines > FUNCTION_WALL)
        .filter(|f| !listed.iter().any(|(file, name, _)| *file == source.path && *name == f.name))
        .map(|f| {
            format!(
                "{}:{}: `{}` has {} lines, {FUNCTION_WALL} is the wall",
                source.path, f.line, f.name, f.lines
            )
        })
        .collect()
}

pub(crate) fn long_files(source: &Source, listed: &[(&str, &str)]) -> Vec<String> {
    let lines = source.production_lines();
    if source.is_test() || lines <= FILE_CEILING || listed.iter().any(|(file, _)| *file == source.path) {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines without tests, {FILE_CEILING} is the ceiling", source.path)]
}

/// Words of code that stand nowhere, tests included.
pub(crate) fn banned_words(source: &Source) -> Vec<String> {
    let banned = [
        ("unsafe", "forbidden in the whole workspace"),
        ("todo!", "finish it, or leave it out"),
        ("unimplemented!", "finish it, or leave it out"),
        ("dbg!", "left over from debugging"),
    ];
    named(source, &source.code, &banned)
}

/// Words of code that only tests may use.
pub(crate) fn panicking_words(source: &Source) -> Vec<String> {
    if source.is_test() {
        return Vec::new();
    }
    named(
        source,
        &source.production,
        &[(".unwrap()", "a peer can cause errors, never a panic; `expect` states an invariant")],
    )
}

pub(crate) fn named(source: &Source, code: &str, banned: &[(&str, &str)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (word, why) in banned {
        let plain = |at: &usize| !code[at + word.len()..].starts_with('_');
        let places: Vec<usize> = match word.starts_with('.') {
            true => code.match_indices(word).map(|(at, _)| at).collect(),
            false => words(code, word).filter(plain).collect(),
        };
        wrong.extend(
            places.iter().map(|&at| format!("{}:{}: `{word}`: {why}", source.path, line_of(code, at))),
        );
    }
    wrong
}

/// Names that say nothing.
pub(crate) fn empty_names(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for keyword in ["struct", "enum", "trait", "type"] {
        for at in words(&source.code, keyword) {
            let name: String = source.code[at + keyword.len()..]
                .trim_start()
                .chars()
                .take_while(|c| c.is_alphanumeric())
                .collect();
            let says_nothing = ["Manager", "Helper", "Util", "Utils", "Common", "Inner", "Context"]
                .iter()
                .any(|w| name.ends_with(w));
            if says_nothing {
                wrong.push(format!(
                    "{}:{}: `{name}` could be anything",
                    source.path,
                    line_of(&source.code, at)
                ));
            }
        }
    }
    // In tests, `get_` is what a client does.
    let getters =
        functions(&source.production).into_iter().filter(|f| f.name.starts_with("get_") && !source.is_test());
    wrong.extend(getters.map(|f| format!("{}:{}: `{}`: no `get_` in names", source.path, f.line, f.name)));
    wrong
}

/// Places that exist on one machine only.
pub(crate) fn machine_paths(path: &str, text: &str) -> Vec<String> {
    // In halves, so that this file does not name them itself.
    let places = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("/wo", "rk/"),
        concat!("C:", "\\\\"),
    ];
    let found = places.iter().flat_map(|place| text.match_indices(place));
    found
        .map(|(at, place)| format!("{path}:{}: {place} exists on one machine only", line_of(text, at)))
        .collect()
}

pub(crate) fn forbidden_dependencies(krate: &Crate, manifest: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (section, name) in dependencies(manifest) {
        let ours = name.starts_with("plimsoll");
        if ours && !krate.below.contains(&name) {
            wrong.push(format!("{}: depends on {name}, which is not below it", krate.name));
        }
        if !ours && section == "dependencies" && !krate.others.contains(&name) {
            wrong.push(format!("{}: {name} is not among the crates that it may use", krate.name));
        }
    }
    wrong
}

/// Section and name of every dependency in a manifest, as this workspace writes them.
pub(crate) fn dependencies(manifest: &str) -> Vec<(&str, &str)> {
    let (mut section, mut found) = ("", Vec::new());
    for line in manifest.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').rsplit('.').next().unwrap_or_default();
        } else if section.ends_with("dependencies") && !line.is_empty() && !line.starts_with('#') {
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            found.push((section, &line[..end]));
        }
    }
    found
}

/// Dependencies that no file of the crate names.
pub(crate) fn unused_dependencies(krate: &str, manifest: &str, sources: &[&Source]) -> Vec<String> {
    let named = |name: &str| {
        let path = format!("{}::", name.replace('-', "_"));
        sources.iter().any(|s| words(&s.code, &path).next().is_some())
    };
    let unused = dependencies(manifest).into_iter().filter(|(_, name)| !named(name));
    unused.map(|(section, name)| format!("{krate}: {name} in [{section}] is not used")).collect()
}

/// What is wrong with the packages that a lock file names.
pub(crate) fn lock_problems(lock: &str) -> Vec<String> {
    let value =
        |line: &str, key: &str| line.strip_prefix(key).map(|v| v.trim_matches([' ', '=', '"']).to_owned());
    let mut versions: BTreeMap<String, u32> = BTreeMap::new();
    let mut sources: BTreeSet<String> = BTreeSet::new();
    for line in lock.lines() {
        if let Some(name) = value(line, "name = ") {
            *versions.entry(name).or_default() += 1;
        } else if let Some(source) = value(line, "source = ") {
            sources.insert(source);
        }
    }
    let mut wrong = Vec::new();
    let is_there = |name: &str| versions.contains_key(name) && !LISTED_ONLY.contains(&name);
    for (name, why) in BANNED_PACKAGES.iter().filter(|(name, _)| is_there(name)) {
        wrong.push(format!("Cargo.lock: {name}: {why}"));
    }
    for name in SINGLE_PACKAGES.iter().filter(|name| versions.get(**name).is_some_and(|n| *n > 1)) {
        wrong.push(format!("Cargo.lock: more than one version of {name}"));
    }
    for source in sources.iter().filter(|source| !source.starts_with("registry+")) {
        wrong.push(format!("Cargo.lock: {source}: packages come from the registry"));
    }
    if sources.len() > 1 {
        wrong.push(format!("Cargo.lock: packages come from {} places", sources.len()));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_none;
    use crate::table::CRATES;

    const AT: &str = "crates/plimsoll-traffic/src/x.rs";

    fn traffic() -> &'static Crate {
        CRATES.iter().find(|krate| krate.name == "plimsoll-traffic").expect("it is in the table")
    }

    #[track_caller]
    fn catches(rule: impl Fn(&Source) -> Vec<String>, bad: &[&str], good: &[&str]) {
        for text in bad {
            assert_eq!(rule(&Source::new(AT, text)).len(), 1, "must be caught once: {text}");
        }
        for text in good {
            assert_none(rule(&Source::new(AT, text)));
        }
    }

    #[test]
    fn forbidden_paths_are_seen_through_every_spelling() {
        catches(
            |s| forbidden_paths(s, traffic(), &[]),
            &[
                "use std::time::Instant;",
                "use std::time::{Duration, Instant as Now};",
                "pub(crate) use std::{fmt, thread::{sleep}};\n",
                "fn f() -> u64 { std::time::Instant::now().elapsed() }",
                "fn f() { tokio::spawn(async {}); }",
                "#[cfg(test)]\nmod tests { use std::thread; }\nuse rand::Rng;",
                "use std::fmt;\n\nfn f() {}\n\npub use ::socket2::Socket;",
            ],
            &[
                "use std::time::Duration; use std::net::{IpAddr, Ipv6Addr};",
                "// use std::time::Instant;\n/* tokio::spawn */ const A: &str = \"std::thread::sleep\";",
                "use std::fmt;\n#[cfg(test)]\nmod tests {\n use std::time::Instant;\n fn f() { std::thread::sleep(x) }\n}",
                "fn f() -> impl Iterator + use<'_> { mytokio::spawn() }",
            ],
        );
        for hiding in [
            "use std::time;\nfn f() { time::Instant::now(); }",
            "use std::net::*;",
            "use std::{time::{self as t, Duration}};",
        ] {
            assert!(!forbidden_paths(&Source::new(AT, hiding), traffic(), &[]).is_empty(), "{hiding}");
        }
    }

    #[test]
    fn an_exception_is_for_one_file_and_one_path() {
        let except = |path| [Except { file: AT, path, why: "because" }];
        let source = Source::new(AT, "use std::fs::File;");
        assert_none(forbidden_paths(&source, traffic(), &except("std::fs")));
        assert_eq!(forbidden_paths(&source, traffic(), &except("std::env")).len(), 1);
        let elsewhere = Source::new("crates/plimsoll-traffic/src/y.rs", "use std::fs::File;");
        assert_eq!(forbidden_paths(&elsewhere, traffic(), &except("std::fs")).len(), 1);
    }

    #[test]
    fn a_file_without_introduction_is_caught() {
        catches(
            missing_introduction,
            &["use a::b;", "// x\n", "\n//! x\n", "//!\nuse a::b;"],
            &["//! What it is for.\n\nuse a::b;"],
        );
    }

    #[test]
    fn a_long_function_is_caught_unless_it_is_listed() {
        let body = |lines: usize| {
            format!(
                "const F: fn(u8) = g;\nfn long() {{\n{}}}\nfn g(_: u8);",
                "    x(\"}\"); // }\n".repeat(lines)
            )
        };
        catches(|s| long_functions(s, &[]), &[&body(69)], &[&body(68)]);
        assert_none(long_functions(&Source::new(AT, &body(69)), &[(AT, "long", "because")]));
        assert_eq!(long_functions(&Source::new(AT, &body(69)), &[(AT, "g", "because")]).len(), 1);
    }

    #[test]
    fn a_long_file_is_caught_and_its_tests_do_not_count() {
        let code = "const A: u8 = 0;\n";
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", code.repeat(600));
        let (long, short) = (format!("{}{tests}", code.repeat(501)), format!("{}{tests}", code.repeat(500)));
        catches(|s| long_files(s, &[]), &[&long], &[&short]);
        assert_none(long_files(&Source::new(AT, &long), &[(AT, "because")]));
        assert_none(long_files(&Source::new("crates/plimsoll/tests/x.rs", &long), &[]));
    }

    #[test]
    fn banned_words_are_caught_in_code_only() {
        catches(
            banned_words,
            &[
                "fn f() { todo!() }",
                "fn f() { unimplemented!(\"x\") }",
                "fn f() { dbg!(1); }",
                "const A: u8 = unsafe { f() };",
            ],
            &[
                "// todo!()\nconst A: &str = \"unsafe\";",
                "#![forbid(unsafe_code)]",
                "fn todo() {}",
                "const C: char = '\"'; // dbg!",
            ],
        );
    }

    #[test]
    fn unwrap_is_caught_outside_tests() {
        catches(
            panicking_words,
            &[
                "fn f() { x\n.unwrap(); }",
                "#[cfg(test)]\nmod tests { fn f() { x.unwrap() } }\nfn g() { y.unwrap() }",
            ],
            &[
                "fn f() { x.unwrap_or(1); x.expect(\"an invariant\"); }",
                "#[cfg(test)]\n#[allow(missing_docs)]\nmod tests { fn f() { x.unwrap() } }",
                "/// `x.unwrap()`\nfn f() { r#\"x.unwrap()\"#; }",
            ],
        );
        let test = Source::new("crates/plimsoll/tests/x.rs", "fn f() { x.unwrap() }");
        assert_none(panicking_words(&test));
    }

    #[test]
    fn empty_names_are_caught() {
        catches(
            empty_names,
            &["struct PoolManager;", "enum Inner { A }", "trait ByteUtil {}", "fn get_server() {}"],
            &[
                "struct Utility;",
                "fn gets() {}",
                "use std::task::Context;",
                "// struct Helper\nfn target() {}",
            ],
        );
    }

    #[test]
    fn machine_paths_are_caught() {
        let bad = concat!("see /ho", "me/me/notes.md");
        assert_eq!(machine_paths("x.md", bad).len(), 1);
        assert_none(machine_paths("x.md", "see /etc/plimsoll/plimsoll.toml and http://a/homepage"));
    }

    #[test]
    fn a_dependency_upwards_or_unknown_is_caught() {
        let wrong = |manifest| forbidden_dependencies(traffic(), manifest);
        assert_eq!(wrong("[dependencies]\nplimsoll-proxy.workspace = true\n").len(), 1);
        assert_eq!(wrong("[dev-dependencies]\nplimsoll-sim = { path = \"../plimsoll-sim\" }\n").len(), 1);
        assert_eq!(wrong("[target.'cfg(unix)'.dependencies]\ntokio = \"1\"\n").len(), 1);
        assert_none(wrong(
            "[package]\nname = \"x\"\n[dependencies]\nplimsoll-config.workspace = true\n# why\n\n[dev-dependencies]\nproptest = \"1\"\n",
        ));
    }

    #[test]
    fn an_unused_dependency_is_caught() {
        let source = Source::new(AT, "use http_body_util::BodyExt;\n// memchr::memchr\n");
        let unused = |manifest| unused_dependencies("x", manifest, &[&source]).len();
        assert_eq!(unused("[dependencies]\nhttp-body-util = \"1\"\n"), 0);
        assert_eq!(unused("[dependencies]\nmemchr.workspace = true\nbody-util = \"1\"\n"), 2);
    }

    #[test]
    fn an_unwanted_package_is_caught() {
        let package = |name: &str, source: &str| {
            format!("[[package]]\nname = \"{name}\"\nversion = \"1\"\nsource = \"{source}\"\n\n")
        };
        let fine = package("tokio", "registry+x");
        assert_none(lock_problems(&fine));
        for bad in [
            package("openssl", "registry+x"),
            package("tokio", "registry+x"),
            package("a", "git+x"),
            package("a", "registry+y"),
        ] {
            assert!(!lock_problems(&format!("{fine}{bad}")).is_empty(), "{bad}");
        }
    }
}
