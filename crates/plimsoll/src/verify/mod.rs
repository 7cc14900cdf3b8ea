//! The verb `plimsoll verify`: holds policies, or any balancer in front of origins, against what they promise.
//!
//! Without `--url` the contracts of `plimsoll-sim` run on production's balancer, in this process. With it the part that can be seen
//! from outside runs over loopback against whoever answers there. This file reads the options and ends; it judges nothing.

mod client;
mod faults;
mod origins;
mod outside;
mod place;
mod shares;
mod show;

pub(crate) use client::Key;
use plimsoll_sim::contracts::{Finding, Promise, hold, maker, policies};

use crate::cli;
use crate::exit::Exit;
use crate::serve;
use crate::terminal;

/// Runs `plimsoll verify`.
pub(crate) fn run(args: &cli::Verify) -> Exit {
    let chosen = match promises(&args.policy) {
        Ok(chosen) => chosen,
        Err(reason) => return usage(&reason),
    };
    match &args.url {
        None => finish(args.json, &inside(&chosen, args.seed), &[]),
        Some(url) => {
            let [promise] = &chosen[..] else {
                return usage("a balancer has one policy: name it, for example --policy round_robin");
            };
            let site = match outside::Site::new(args, url, promise) {
                Ok(site) => site,
                Err(reason) => return usage(&reason),
            };
            let outcome = serve::runtime().map_err(|e| e.to_string()).and_then(|r| r.block_on(site.verify()));
            match outcome {
                Ok((findings, notes)) => finish(args.json, &findings, &notes),
                Err(reason) => {
                    terminal::err(&format!("plimsoll verify: {reason}\n"));
                    Exit::Start
                }
            }
        }
    }
}

/// The policies of these names, or all.
fn promises(names: &[String]) -> Result<Vec<Promise>, String> {
    let all = policies();
    if names.is_empty() {
        return Ok(all);
    }
    let known = all.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        let found = all.iter().find(|p| p.name == name);
        found.cloned().ok_or_else(|| format!("there is no policy {name}; there are {known}"))
    };
    names.iter().map(find).collect()
}

fn inside(chosen: &[Promise], seed: u64) -> Vec<Finding> {
    chosen.iter().flat_map(|promise| hold(promise, &maker(&promise.backend), seed)).collect()
}

fn finish(json: bool, findings: &[Finding], notes: &[String]) -> Exit {
    let text = if json { show::json(findings, notes) } else { show::table(findings, notes) };
    match terminal::print(&text) {
        Exit::Fine if findings.iter().any(|finding| !finding.reading.holds()) => Exit::Configuration,
        exit => exit,
    }
}

fn usage(reason: &str) -> Exit {
    terminal::err(&format!("plimsoll verify: {reason}\n"));
    Exit::Usage
}
