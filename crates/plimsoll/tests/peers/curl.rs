//! Runs `curl` and reads what it has to tell: every head, the body, its exit code and its own statistics.

// Two test programs include this module and each uses a part of it.
#![allow(dead_code)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::process::scratch;

/// One head as curl saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// The value of a field, named in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What came of one run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// 0, or what curl complains of.
    pub(crate) exit: i32,
    /// All heads, interim ones included.
    pub(crate) heads: Vec<Head>,
    /// All bodies, one after the other.
    pub(crate) body: Vec<u8>,
    /// `%{json}` of each transfer.
    pub(crate) transfers: Vec<Value>,
}

impl Outcome {
    /// The last head; a run without any is the failure.
    #[track_caller]
    pub(crate) fn last(&self) -> &Head {
        self.heads.last().unwrap_or_else(|| panic!("no head came: {self:?}"))
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// How many connections it opened.
    pub(crate) fn connects(&self) -> u64 {
        self.transfers.iter().filter_map(|transfer| transfer["num_connects"].as_u64()).sum()
    }
}

/// Runs curl with these arguments, without anybody's configuration or proxy.
pub(crate) fn run(curl: &Path, arguments: &[&str]) -> Outcome {
    let heads = scratch("heads");
    let mut command = Command::new(curl);
    command
        .args(["-q", "-s", "--noproxy", "*", "--max-time", "40", "-w", "%{stderr}%{json}\n", "-D"])
        .arg(&heads);
    let output = command.args(arguments).output().expect("curl can be run");
    let text = String::from_utf8_lossy(&std::fs::read(&heads).unwrap_or_default()).into_owned();
    let _ = std::fs::remove_file(&heads);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Outcome {
        exit: output.status.code().expect("curl ends by itself"),
        heads: text.split("\r\n\r\n").filter_map(head).collect(),
        body: output.stdout,
        transfers: stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
    }
}

fn head(text: &str) -> Option<Head> {
    let mut lines = text.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let field =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    Some(Head { status, fields: lines.filter_map(field).collect() })
}
