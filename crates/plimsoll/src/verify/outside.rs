//! Contracts of a balancer seen from outside: it stands in front of origins that say who they are and can be made to fail.
//!
//! In go the balancer's address, the origins' control addresses and what the balancer is set to do; out come findings. Origins are put back
//! as they were found, also after a signal.

use plimsoll_sim::contracts::{Finding, Kind, Promise};

use super::origins::Origins;
use super::place::Place;
use super::signals::Signals;
use super::stage::{Reply, Stage, Task};
use super::{faults, order, shares};
use crate::cli;

/// What can be seen from outside, in the order in which it is looked at.
pub(super) const CONTRACTS: [&str; 13] = [
    "order",
    "shares",
    "smooth",
    "outage",
    "return",
    "one-down",
    "small",
    "busy",
    "slow",
    "failing",
    "dying",
    "revived",
    "busy-pair",
];

/// What is asked for, before anybody was met.
#[derive(Debug)]
pub(super) struct Site {
    controls: Vec<Place>,
    task: Task,
}

impl Site {
    pub(super) fn new(args: &cli::Verify, url: &str, promise: &Promise) -> Result<Site, String> {
        let place = |text: &String| Place::new(text, args.remote);
        let balancer = place(&url.to_owned())?;
        let controls = args.control.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let weights = if args.weights.is_empty() { vec![1; controls.len()] } else { args.weights.clone() };
        if controls.len() < 2 || controls.len() > 64 {
            return Err(
                "--control names 2 to 64 control addresses of origins, all that the balancer has".to_owned()
            );
        }
        if let Some(own) = controls.iter().find(|control| control.address == balancer.address) {
            return Err(format!(
                "{} is the balancer itself; --control names the origins behind it",
                own.address
            ));
        }
        if weights.len() != controls.len() || weights.contains(&0) {
            return Err("--weights names one weight, above 0, for each of --control".to_owned());
        }
        if matches!(promise.kind, Kind::Reports { .. } | Kind::Subset(_) | Kind::Sessions) {
            return Err(format!(
                "what {} promises cannot be seen from outside; plimsoll verify --policy {} runs it in this program",
                promise.name, promise.name
            ));
        }
        if matches!(promise.kind, Kind::Keys(_)) && args.key.is_none() {
            return Err("a hash goes by a key: name it, for example --key header:x-user".to_owned());
        }
        let task = Task {
            balancer,
            weights,
            key: args.key.clone(),
            promise: promise.clone(),
            only: args.contract.clone(),
        };
        Ok(Site { controls, task })
    }

    /// Runs every check; what was found, and what else is worth to know.
    pub(super) async fn verify(self) -> Result<(Vec<Finding>, Vec<String>), String> {
        let origins = Origins::find(&self.controls).await?;
        let mut stage = Stage::new(self.task, origins);
        // From here on: also those that come while origins are put back, which a signal must not cut short.
        let mut signals = Signals::listen().map_err(|error| format!("cannot listen to signals: {error}"))?;
        let outcome = tokio::select! {
            outcome = all(&mut stage) => outcome,
            // The loser's requests are dropped with the runtime.
            name = signals.next() => Err(format!("ended by {name}; the origins are as they were")),
        };
        let restored = stage.origins.restore().await;
        restored.and(outcome)?;
        Ok(stage.outcome())
    }
}

async fn all(stage: &mut Stage) -> Result<(), String> {
    stage.origins.calm().await?;
    let heard = match stage.kind() {
        // Whom it has chosen is for its own check.
        Kind::Order => stage.sequence(20).await.iter().any(Reply::fine),
        _ => stage.settle().await.is_some(),
    };
    stage.know_all()?;
    if !heard {
        return Err(format!(
            "not every origin of --control is heard through {}; is the balancer in front of all of them?",
            stage.balancer()
        ));
    }
    match stage.kind() {
        Kind::Order => order::all(stage).await?,
        _ => shares::all(stage).await?,
    }
    stage.know_all()?;
    faults::all(stage).await?;
    stage.know_all()
}
