//! The measurement in `bench/faults` before the program under test: servers that are slow, fail, hang, restart, go away, are too few, or come and go.
//!
//! Each fault has bounds in `bench/faults/run` (`BOUNDS`), with wide margins; the tool ends with 1 where one is broken. It runs in one test, so that
//! the loads follow each other and do not disturb each other.

#[path = "peers/need.rs"]
mod need;
#[path = "peers/process.rs"]
mod process;
mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use need::need;

/// `bench/faults/run` to its end.
fn measure(arguments: &[&str]) -> Option<Output> {
    let python = need("python3")?;
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/faults/run");
    let mut command = Command::new(python);
    command.arg(tool).args(arguments).env("PLIMSOLL", env!("CARGO_BIN_EXE_plimsoll"));
    Some(command.stdin(Stdio::null()).output().expect("Python was found"))
}

#[test]
fn every_fault_is_borne_within_its_bounds_and_a_storm_is_noticed_where_nothing_holds_it_back() {
    let Some(output) = measure(&["--only", "Plimsoll", "Plimsoll without a limit"]) else { return };
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}\n{errors}", output.status);
    let measured: Vec<&str> = said.lines().filter(|line| line.contains("| Plimsoll ")).collect();
    let rows = if need("knotd").is_some() { 11 } else { 10 };
    assert_eq!(measured.len(), rows, "a row for each: {said}");
    let storm = measured.iter().find(|line| line.contains("without a limit")).expect("it was asked for");
    assert!(storm.contains("| never |"), "the clients see what an outage looks like: {said}");
}
