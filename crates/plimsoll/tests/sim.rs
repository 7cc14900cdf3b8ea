//! `plimsoll sim` as a user meets it: scenarios by name and from files, a configuration's own servers, verdicts and exit codes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const SMALL: &str = "about = \"small\"\npolicies = [\"p2c\", \"random\"]\n[world]\nrequests = 20_000\n\
    servers = [{ name = \"slow\", count = 1, speed = 0.5 }, { name = \"others\", count = 3 }]\n\
    [[case]]\nname = \"one\"\n[[case]]\nname = \"two\"\nskip = \"not built\"\n[[case.expect]]\n\
    policy = \"p2c\"\nmeasure = \"mean\"\nat_most = 1\nwhy = \"x\"\n";

fn sim(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_plimsoll")).arg("sim").args(arguments).output();
    output.expect("the program is built")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sim-{}-{name}", std::process::id()));
    std::fs::write(&path, text).expect("the test's own directory can be written");
    path
}

/// The small scenario with something expected of its first case.
fn expecting(at_most: f64) -> String {
    let expect = format!(
        "name = \"one\"\nexpect = [{{ policy = \"p2c\", measure = \"mean\", at_most = {at_most}, why = \"x\" }}]"
    );
    SMALL.replace("name = \"one\"", &expect)
}

#[test]
fn what_ships_is_listed_and_runs_by_name() {
    let list = stdout(&sim(&["--list"]));
    assert!(list.contains("gray-failure") && list.lines().count() >= 12, "{list}");
    let output = sim(&["hang", "--compare", "p2c", "--seed", "7"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("(seed 7)") && stdout(&output).contains("SKIPPED"),
        "{}",
        stdout(&output)
    );
    assert!(output.stderr.is_empty(), "no bar where there is no terminal");
}

#[test]
fn a_broken_expectation_ends_with_one_and_a_skipped_one_is_said() {
    let (fine, broken) = (file("fine.toml", &expecting(50.0)), file("broken.toml", &expecting(0.1)));
    let output = sim(&[fine.to_str().expect("ASCII")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("1 as expected, 0 BROKEN, 1 SKIPPED"), "{}", stdout(&output));
    let output = sim(&[broken.to_str().expect("ASCII"), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(
        (&json[0]["holds"], &json[0]["expectations"][0]["verdict"]),
        (&Value::Bool(false), &"broken".into())
    );
    assert_eq!(json[0]["expectations"][1]["reason"], "not built");
}

#[test]
fn one_seed_gives_the_same_bytes() {
    let path = file("same.toml", SMALL);
    let path = path.to_str().expect("ASCII");
    let [a, b, other] = [&["--json"][..], &["--json"], &["--json", "--seed", "2"]]
        .map(|more| sim(&[&[path], more].concat()).stdout);
    assert_eq!(a, b);
    assert_ne!(a, other);
}

#[test]
fn a_users_servers_play_and_nothing_is_judged() {
    let config = "[[listen]]\nbind = \":1\"\nto = \"web\"\n[backend.web]\nbalance = \"least_conn\"\n\
        servers = [\"10.0.0.1:1\", { address = \"10.0.0.2:1\", weight = 3 }]\n";
    let (config, scenario) = (file("plimsoll.toml", config), file("played.toml", &expecting(0.1)));
    let (config, scenario) = (config.to_str().expect("ASCII"), scenario.to_str().expect("ASCII"));
    let output = sim(&["--config", config, "--scenario", scenario, "--compare", "p2c"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("played by web") && text.contains("2 servers") && text.contains("p2c"), "{text}");
    assert!(stderr(&output).contains("nothing is judged"), "{}", stderr(&output));
    let output = sim(&["--config", config, "--backend", "other", "hang"]);
    assert_eq!(output.status.code(), Some(1), "there is no such backend");
}

#[test]
fn a_picture_is_drawn_of_each() {
    let scenario = file("drawn.toml", SMALL);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sim-{}-plots", std::process::id()));
    let output = sim(&[scenario.to_str().expect("ASCII"), "--plot", folder.to_str().expect("ASCII")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let drawn: Vec<_> = std::fs::read_dir(&folder).expect("it was made").collect();
    assert_eq!(drawn.len(), 1);
    let picture = std::fs::read_to_string(drawn[0].as_ref().expect("readable").path()).expect("readable");
    assert!(picture.starts_with("<svg") && picture.contains("random"));
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let wrong = file("wrong.toml", &SMALL.replace("requests", "reqeusts"));
    for (arguments, code, says) in [
        (&[wrong.to_str().expect("ASCII")][..], 1, "wrong.toml:4:1: unknown field `reqeusts`"),
        (&["teleport"], 1, "no scenario \"teleport\""),
        (&["hang", "--compare", "p2d"], 1, "--compare p2d"),
        (&["hang", "uniform", "--compare", "random", "--plot", "one.svg"], 2, "name a folder"),
        (&["hang", "--plot", "one.png"], 2, "one.png: pictures are SVG"),
        (&["hang", "hang"], 1, "\"hang\" is named twice"),
        (&["all", "hang"], 1, "\"hang\" is named twice"),
        (&["hang", "--compare", "p2c,p2c"], 1, "--compare p2c: it is named twice"),
        (&[], 2, "name a scenario"),
    ] {
        let output = sim(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
    }
}
