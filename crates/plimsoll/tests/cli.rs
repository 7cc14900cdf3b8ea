//! The command line as a user meets it: help, completions, man pages, exit codes, closed pipes.

// A test fails by panicking, its helpers as well.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output, Stdio};

fn plimsoll(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_plimsoll")).args(args).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

const VERBS: [&str; 8] = ["run", "demo", "origin", "check", "config", "sim", "completions", "man"];

#[test]
fn help_names_every_verb_and_each_verb_has_examples() {
    let help = plimsoll(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(stdout(&help).contains("Exit status:"), "{}", stdout(&help));
    for verb in VERBS {
        let line = |line: &str| line.split_whitespace().next() == Some(verb);
        assert!(stdout(&help).lines().any(line), "{verb} is not in {}", stdout(&help));
        let own = plimsoll(&[verb, "--help"]);
        assert_eq!(own.status.code(), Some(0));
        assert!(stdout(&own).contains(&format!("  plimsoll {verb}")), "{}", stdout(&own));
    }
}

#[test]
fn without_a_verb_it_prints_the_help() {
    let output = plimsoll(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("Usage: plimsoll <COMMAND>"), "{}", stderr(&output));
}

#[test]
fn a_mistyped_verb_or_option_gets_a_suggestion() {
    for (args, suggestion) in [(["chekc", "x"], "'check'"), (["origin", "--dely"], "'--delay'")] {
        let output = plimsoll(&args);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(suggestion), "{}", stderr(&output));
    }
}

#[test]
fn no_colour_reaches_a_pipe() {
    for args in [["--help", ""], ["nonsense", ""], ["man", "run"]] {
        let output = plimsoll(&args);
        assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "{args:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    for args in [vec!["completions", "bash"], vec!["man"], vec!["--help"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
            .args(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(stderr(&output), "", "{args:?}");
    }
}

#[test]
fn the_documentation_names_every_verb_option_and_exit_code() {
    let documentation = include_str!("../../../docs/CLI.md");
    for verb in VERBS {
        assert!(documentation.contains(&format!("| `plimsoll {verb}` |")), "{verb}");
        for option in
            stdout(&plimsoll(&[verb, "--help"])).split_whitespace().filter(|word| word.starts_with("--"))
        {
            let option = option.trim_matches(|c: char| !c.is_ascii_alphabetic() && c != '-');
            assert!(option == "--help" || documentation.contains(option), "{verb} {option}");
        }
    }
    let help = plimsoll(&["--help"]);
    let codes = stdout(&help).split("Exit status:\n").nth(1).unwrap();
    for (code, meaning) in codes.lines().map(|line| line.trim().split_once("  ").unwrap()) {
        assert!(documentation.contains(&format!("| {code} | {meaning} |")), "{code} {meaning}");
    }
}

/// A folder of its own with a configuration, removed at the end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str, text: &str) -> Folder {
        let root = std::env::temp_dir().join(format!("plimsoll-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("plimsoll.toml"), text).unwrap();
        Folder(root)
    }

    fn plimsoll(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_plimsoll")).args(args).current_dir(&self.0).output().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const GOOD: &str = "[[listen]]\nbind = \":8080\"\nto = [\"127.0.0.1:3000\"]\n";
const BAD: &str = "[[listen]]\nbind = \":8080\"\ntoo = [\"127.0.0.1:3000\"]\nnonsense = 1\n";

#[test]
fn check_finds_the_file_in_the_working_directory() {
    let folder = Folder::new("good", GOOD);
    let output = folder.plimsoll(&["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "plimsoll.toml: fine, 1 listener, 1 backend, 0 routes\n");
    let json: serde_json::Value =
        serde_json::from_slice(&folder.plimsoll(&["check", "--json"]).stdout).unwrap();
    assert_eq!(json, serde_json::json!({ "ok": true, "problems": [], "warnings": [] }));
}

#[test]
fn check_reports_every_problem_with_its_place() {
    let folder = Folder::new("bad", BAD);
    let output = folder.plimsoll(&["check", "plimsoll.toml"]);
    assert_eq!(output.status.code(), Some(1));
    for expected in ["plimsoll.toml:3:1", "plimsoll.toml:4:1", "did you mean `to`", " problems\n"] {
        assert!(stderr(&output).contains(expected), "{expected} is not in {}", stderr(&output));
    }
    let json = folder.plimsoll(&["check", "--json"]);
    assert_eq!(json.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["ok"], false);
    let unknown =
        json["problems"].as_array().unwrap().iter().find(|problem| problem["code"] == "unknown-key").unwrap();
    assert_eq!((&unknown["line"], &unknown["file"]), (&3.into(), &"plimsoll.toml".into()));
}

#[test]
fn a_file_that_is_not_there_is_code_1_with_the_next_step() {
    let folder = Folder::new("gone", GOOD);
    for verb in ["check", "config"] {
        let output = folder.plimsoll(&[verb, "gone.toml"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr(&output).contains("cannot read gone.toml: there is no such file"),
            "{}",
            stderr(&output)
        );
        assert!(stderr(&output).contains("help: "), "{}", stderr(&output));
    }
}

#[test]
fn config_prints_what_can_be_loaded_again() {
    let folder = Folder::new("config", GOOD);
    let first = folder.plimsoll(&["config"]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    std::fs::write(folder.0.join("again.toml"), &first.stdout).unwrap();
    let second = folder.plimsoll(&["check", "again.toml"]);
    assert_eq!(second.status.code(), Some(0), "{}\n{}", stdout(&first), stderr(&second));
}

#[test]
fn the_schema_is_json() {
    let output = plimsoll(&["config", "--schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(schema["properties"]["listen"].is_object(), "{schema}");
}

/// Of nobody; good for a hundred years.
const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBhzCCAS2gAwIBAgIUA/ebfBJ58mi/FhBspo5rVPtKhqMwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNUGxpbXNvbGwgdGVzdDAgFw0yNjExMjYwODEyNDRaGA8yMTI2
MTEwMjA4MTI0NFowGDEWMBQGA1UEAwwNUGxpbXNvbGwgdGVzdDBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABHw1CC77rxdUFTosKZukoBfSifrBGWyTTkRf6GcR3fzD
68SJGK7eanx36ICvxSJj7XdVS0Eoty0RTRVjie3iBcKjUzBRMB0GA1UdDgQWBBRt
K949Nedb/ri2OBFxx0XPVzZihDAfBgNVHSMEGDAWgBRtK949Nedb/ri2OBFxx0XP
VzZihDAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIE5jfS1S4rbM
jeH/d/0eAZRbXolzg8yGVbn8l8wtuU25AiEAj04H8ozSzDePIQGwdkpQG1RKdrtH
IqBV+tdC7/oZFTw=
-----END CERTIFICATE-----
";

#[test]
fn check_warns_of_certificates_that_cannot_be_used() {
    let text = "[[listen]]\nbind = \":8080\"\nto = \"web\"\n[backend.web]\n\
                discover = { http = \"https://registry.internal/servers\", ca = \"ca.pem\" }\n";
    let folder = Folder::new("authorities", text);
    let file = folder.0.join("ca.pem");
    let warns = |reason: &str| {
        let output = folder.plimsoll(&["check"]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "it may come before it is needed: {said}");
        assert!(said.contains(&format!("warning[suspicious]: ca.pem: {reason}")), "{said}");
        assert!(
            said.contains("plimsoll.toml:5:") && said.contains("help: it is read for each question"),
            "{said}"
        );
        let json = folder.plimsoll(&["check", "--json"]);
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!((&json["ok"], &json["warnings"][0]["line"]), (&true.into(), &5.into()), "{json}");
    };
    warns("cannot read it: No such file");
    std::fs::create_dir(&file).unwrap();
    warns("cannot read it: Is a directory");
    std::fs::remove_dir(&file).unwrap();
    for nothing in ["", "secret\n", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        std::fs::write(&file, nothing).unwrap();
        warns("there is no certificate in it");
    }
    std::fs::write(&file, AUTHORITY.replace("MIIB", "MIIA")).unwrap();
    warns("");
    std::fs::write(&file, AUTHORITY).unwrap();
    let output = folder.plimsoll(&["check"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
}
