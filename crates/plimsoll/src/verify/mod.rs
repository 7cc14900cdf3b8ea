//! The verb `plimsoll verify`: holds policies, or any balancer in front of origins, against what they promise.
//!
//! Without `--url` the contracts of `plimsoll-sim` run on production's balancer, in this process. With it the part that can be seen
//! from outside runs over loopback against whoever answers there. This file reads the options and ends; it judges nothing.

mod client;
mod faults;
mod figures;
mod order;
mod origins;
mod outside;
mod place;
mod shares;
mod show;
mod signals;
mod stage;

pub(crate) use client::Key;
use plimsoll_sim::contracts::{CONTRACTS, Contract, Finding, Promise, Reading, called, maker, policies};

use crate::cli;
use crate::exit::Exit;
use crate::serve;
use crate::terminal;

/// Runs `plimsoll verify`.
pub(crate) fn run(args: &cli::Verify) -> Exit {
    let outcome = promises(&args.policy).map_err(usage).and_then(|chosen| match &args.url {
        None => inside(&chosen, &args.contract, args.seed),
        Some(url) => outside(args, url, &chosen),
    });
    match outcome {
        Ok((findings, notes)) => finish(args.json, &findings, &notes),
        Err((exit, reason)) => {
            terminal::err(&format!("plimsoll verify: {reason}\n"));
            exit
        }
    }
}

type Outcome = Result<(Vec<Finding>, Vec<String>), (Exit, String)>;

/// The policies of these names, or all.
fn promises(names: &[String]) -> Result<Vec<Promise>, String> {
    let all = policies();
    if names.is_empty() {
        return Ok(all);
    }
    let known = all.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
    let find =
        |name: &String| called(name).ok_or_else(|| format!("there is no policy {name}; there are {known}"));
    names.iter().map(find).collect()
}

/// The contracts of these names, or all.
fn contracts(names: &[String]) -> Result<Vec<&'static Contract>, String> {
    known(names, &CONTRACTS.map(|contract| contract.name))?;
    let wanted = |contract: &&Contract| names.is_empty() || names.iter().any(|name| name == contract.name);
    Ok(CONTRACTS.iter().filter(wanted).collect())
}

fn known(names: &[String], contracts: &[&str]) -> Result<(), String> {
    match names.iter().find(|name| !contracts.contains(&name.as_str())) {
        Some(name) => Err(format!("there is no contract {name} here; there are {}", contracts.join(", "))),
        None => Ok(()),
    }
}

fn inside(chosen: &[Promise], names: &[String], seed: u64) -> Outcome {
    let contracts = contracts(names).map_err(usage)?;
    let hold = |promise: &Promise| -> Vec<Finding> {
        let make = maker(&promise.backend);
        contracts.iter().map(|contract| contract.hold(promise, &make, seed)).collect()
    };
    let findings: Vec<Finding> = chosen.iter().flat_map(hold).collect();
    measured(&findings)?;
    Ok((findings, Vec::new()))
}

fn outside(args: &cli::Verify, url: &str, chosen: &[Promise]) -> Outcome {
    let [promise] = chosen else {
        return Err(usage("a balancer has one policy: name it, for example --policy round_robin".to_owned()));
    };
    known(&args.contract, &outside::CONTRACTS).map_err(usage)?;
    let site = outside::Site::new(args, url, promise).map_err(usage)?;
    let outcome = serve::runtime().map_err(|e| e.to_string()).and_then(|r| r.block_on(site.verify()));
    let (findings, notes) = outcome.map_err(|reason| (Exit::Start, reason))?;
    measured(&findings)?;
    Ok((findings, notes))
}

/// Nothing measured is nothing kept: it must not pass for it.
fn measured(findings: &[Finding]) -> Result<(), (Exit, String)> {
    let is_measured = |finding: &Finding| matches!(finding.reading, Reading::Measured { .. });
    if findings.iter().any(is_measured) {
        return Ok(());
    }
    Err(usage("no contract of --contract is promised by this policy; nothing was measured".to_owned()))
}

fn usage(reason: String) -> (Exit, String) {
    (Exit::Usage, reason)
}

fn finish(json: bool, findings: &[Finding], notes: &[String]) -> Exit {
    let text = if json { show::json(findings, notes) } else { show::table(findings, notes) };
    match terminal::print(&text) {
        Exit::Fine if findings.iter().any(|finding| !finding.reading.holds()) => Exit::Configuration,
        exit => exit,
    }
}
