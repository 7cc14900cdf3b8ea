//! `plimsoll verify`: the policies of the program keep their contracts, and a balancer is judged by what it does.
//!
//! Runs the real program as origins, as a balancer and as the judge, on loopback.

#[path = "support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use support::Plimsoll;

struct Origin {
    child: Child,
    address: String,
    control: String,
}

impl Origin {
    fn start(name: &str) -> Origin {
        let mut child = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
            .args(["origin", "--listen", ":0", "--control", ":0", "--name", name])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program is built");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut next = |before: &str, after: &str| {
            let line = lines.next().expect("it says where it listens").expect("it is text");
            let (_, rest) = line.split_once(before).unwrap_or_else(|| panic!("no address in {line}"));
            rest.trim_end_matches(after).to_owned()
        };
        let (address, control) = (next("http://", ""), next("http://", "/_origin"));
        Origin { child, address, control }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn verify(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_plimsoll")).arg("verify").args(arguments).output().expect("it is built")
}

/// Judges a balancer that is set to `balance` as if it were `policy`.
fn judge(balance: &str, policy: &str) -> (Option<i32>, Value) {
    let origins = ["a", "b", "c"].map(Origin::start);
    let servers: Vec<String> = origins.iter().map(|o| format!("\"{}\"", o.address)).collect();
    let balancer = Plimsoll::start(&format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"all\"\n[backend.all]\nbalance = {balance}\nslow_start = \"0s\"\nservers = [{}]\n",
        servers.join(", ")
    ));
    let url = format!("http://{}", balancer.address());
    let controls = origins.iter().map(|o| o.control.as_str()).collect::<Vec<_>>().join(",");
    let out = verify(&["--json", "--url", &url, "--policy", policy, "--control", &controls]);
    let page = serde_json::from_slice(&out.stdout);
    (out.status.code(), page.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr))))
}

fn holds(page: &Value, contract: &str) -> Option<bool> {
    let findings = page["findings"].as_array().expect("findings");
    findings.iter().find(|f| f["contract"] == contract).and_then(|f| f["holds"].as_bool())
}

#[test]
fn one_policy_is_held_against_its_contracts() {
    let out = verify(&["--policy", "round_robin", "--seed", "3", "--json"]);
    let page: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!((out.status.code(), &page["ok"]), (Some(0), &Value::Bool(true)), "{page:#}");
    assert_eq!(holds(&page, "smooth"), Some(true));
    assert_eq!(holds(&page, "outage"), None, "round robin does not go by keys");
}

#[test]
fn a_balancer_in_turns_keeps_what_turns_promise() {
    let (code, page) = judge("\"round_robin\"", "round_robin");
    assert_eq!((code, &page["ok"]), (Some(0), &Value::Bool(true)), "{page:#}");
    assert_eq!(holds(&page, "dying"), Some(true));
}

#[test]
fn a_balancer_by_chance_does_not_keep_what_turns_promise() {
    let (code, page) = judge("\"random\"", "round_robin");
    assert_eq!((code, holds(&page, "smooth")), (Some(1), Some(false)), "{page:#}");
}

#[test]
fn wrong_options_and_absent_balancers_are_told() {
    assert_eq!(verify(&["--policy", "no_such"]).status.code(), Some(2));
    let nowhere = ["--url", "http://192.0.2.1", "--policy", "p2c", "--control", ":1,:2"];
    assert_eq!(verify(&nowhere).status.code(), Some(2), "not on loopback");
    let nobody = ["--url", "http://127.0.0.1:1", "--policy", "p2c", "--control", "127.0.0.1:1,127.0.0.1:1"];
    assert_eq!(verify(&nobody).status.code(), Some(3));
}
