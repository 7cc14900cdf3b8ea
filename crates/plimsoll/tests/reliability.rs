//! The measurement in `bench/reliability`: it sees what is lost, and it can measure the program under test.
//!
//! The figures of docs/RELIABILITY.md are worth nothing if the clients cannot see a loss, or cannot see an upgrade.

#[path = "peers/need.rs"]
mod need;
#[path = "peers/process.rs"]
mod process;
mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use need::need;

/// `bench/reliability/run` to its end.
fn measure(arguments: &[&str]) -> Option<Output> {
    let python = need("python3")?;
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/reliability/run");
    let mut command = Command::new(python);
    command.arg(tool).args(arguments).env("PLIMSOLL", env!("CARGO_BIN_EXE_plimsoll"));
    Some(command.stdin(Stdio::null()).output().expect("Python was found"))
}

#[track_caller]
fn expect_success(output: &Output) -> String {
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}\n{errors}", output.status);
    said.into_owned()
}

#[test]
fn every_kind_of_loss_is_noticed() {
    let Some(output) = measure(&["--self-check"]) else { return };
    assert!(expect_success(&output).contains("every loss was noticed"));
}

#[test]
fn reloads_and_an_upgrade_are_measured_and_lose_nothing() {
    let arguments = ["--what", "both", "--seconds", "6", "--patience", "60", "--only", "Plimsoll"];
    let Some(output) = measure(&arguments) else { return };
    let said = expect_success(&output);
    assert!(said.contains("| 5 of 5 | 1 of 1 |"), "{said}");
}
