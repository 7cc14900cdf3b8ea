//! Origins, a balancer in front of them, and `plimsoll verify --url` as the judge.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::balancer::{Balancer, Defect, Rule};

/// A `plimsoll origin` on ports from the kernel.
#[derive(Debug)]
pub(crate) struct Origin {
    child: Child,
    pub(crate) address: String,
    pub(crate) control: String,
}

impl Origin {
    pub(crate) fn start(name: &str) -> Origin {
        Origin::with(name, &[])
    }

    pub(crate) fn with(name: &str, options: &[&str]) -> Origin {
        let mut child = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
            .args(["origin", "--listen", ":0", "--control", ":0", "--name", name])
            .args(options)
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

    pub(crate) fn three() -> [Origin; 3] {
        ["a", "b", "c"].map(Origin::start)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As `--control` takes them.
pub(crate) fn controls(origins: &[Origin]) -> String {
    origins.iter().map(|o| o.control.as_str()).collect::<Vec<_>>().join(",")
}

pub(crate) fn verify(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_plimsoll")).arg("verify").args(arguments).output().expect("it is built")
}

/// What the judge said.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) code: Option<i32>,
    pub(crate) page: Value,
}

impl Verdict {
    /// Of `plimsoll verify --json` with these arguments.
    pub(crate) fn of(arguments: &[&str]) -> Verdict {
        let out = verify(&[&["--json"], arguments].concat());
        let page = serde_json::from_slice(&out.stdout);
        Verdict {
            code: out.status.code(),
            page: page.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr))),
        }
    }

    /// Whether this contract holds; nothing if it is not promised.
    pub(crate) fn holds(&self, contract: &str) -> Option<bool> {
        let findings = self.page["findings"].as_array().expect("findings");
        findings.iter().find(|f| f["contract"] == contract).and_then(|f| f["holds"].as_bool())
    }
}

/// Has a balancer judged as `policy`, by these contracts (all if there are none).
pub(crate) fn judge(
    rule: Rule,
    defect: Defect,
    policy: &str,
    weights: [u16; 3],
    contracts: &[&str],
) -> Verdict {
    let origins = Origin::three();
    let servers: Vec<(String, u16)> =
        origins.iter().zip(weights).map(|(origin, weight)| (origin.address.clone(), weight)).collect();
    let balancer = Balancer::start(rule, defect, &servers);
    let (url, controls) = (format!("http://{}", balancer.address), controls(&origins));
    let (weights, only) = (weights.map(|w| w.to_string()).join(","), contracts.join(","));
    let mut arguments =
        vec!["--url", &url, "--control", &controls, "--policy", policy, "--weights", &weights];
    if rule == Rule::Keys {
        arguments.extend(["--key", "header:x-user"]);
    }
    if !contracts.is_empty() {
        arguments.extend(["--contract", &only]);
    }
    Verdict::of(&arguments)
}
