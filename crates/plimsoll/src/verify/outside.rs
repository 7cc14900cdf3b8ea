//! Contracts of a balancer seen from outside: it stands in front of origins that say who they are and can be made to fail.
//!
//! In go the balancer's address, the origins' control addresses and what the balancer is set to do; out come findings. Requests are
//! bounded in number and time. Origins are put back as they were found, also after Ctrl-C.

use std::time::{Duration, Instant};

use plimsoll_sim::contracts::{Finding, Kind, Promise, Reading, Unit};
use tokio::task::JoinSet;

use super::client::{Client, Key, Trouble};
use super::origins::Origins;
use super::place::Place;
use super::{faults, shares};
use crate::cli;

/// For one answer, where nothing is slow.
const PATIENCE: Duration = Duration::from_secs(5);
/// For a balancer to believe again in a server that is back.
pub(super) const REVIVAL: Duration = Duration::from_secs(20);

/// What is asked for, before anybody was met.
#[derive(Debug)]
pub(super) struct Site {
    balancer: Place,
    controls: Vec<Place>,
    weights: Vec<u16>,
    key: Option<Key>,
    promise: Promise,
}

/// A balancer under test and its origins.
#[derive(Debug)]
pub(super) struct Stage {
    balancer: Place,
    key: Option<Key>,
    pub(super) origins: Origins,
    pub(super) weights: Vec<u16>,
    pub(super) kind: Kind,
    policy: &'static str,
    client: Client,
    next_key: u64,
    pub(super) findings: Vec<Finding>,
    notes: Vec<String>,
}

/// What became of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// Who answered, by the place in `--control`.
    pub(super) origin: Option<usize>,
    /// An answer below 500 that came whole and in time.
    pub(super) fine: bool,
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
        Ok(Site { balancer, controls, weights, key: args.key.clone(), promise: promise.clone() })
    }

    /// Runs every check; what was found, and what else is worth to know.
    pub(super) async fn verify(self) -> Result<(Vec<Finding>, Vec<String>), String> {
        let origins = Origins::find(&self.controls).await?;
        let client = Client::new(self.balancer.clone(), self.key.clone());
        let mut stage = Stage {
            balancer: self.balancer,
            key: self.key,
            origins,
            weights: self.weights,
            kind: self.promise.kind,
            policy: self.promise.name,
            client,
            next_key: 0,
            findings: Vec::new(),
            notes: Vec::new(),
        };
        let outcome = tokio::select! {
            outcome = stage.all() => outcome,
            // The loser's requests are dropped with the runtime.
            _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
        };
        let restored = stage.origins.restore().await;
        outcome.and(restored)?;
        Ok((stage.findings, stage.notes))
    }
}

impl Stage {
    async fn all(&mut self) -> Result<(), String> {
        self.origins.calm().await?;
        if !matches!(self.kind, Kind::Order) && self.settle().await.is_none() {
            return Err(format!(
                "not every origin of --control is heard through {}; is the balancer in front of all of them?",
                self.balancer.address
            ));
        }
        shares::all(self).await?;
        faults::all(self).await
    }

    /// Writes down what a check has found.
    pub(super) fn found(&mut self, contract: &'static str, says: &'static str, reading: Reading) {
        self.findings.push(Finding { policy: self.policy, contract, says, reading });
    }

    pub(super) fn measured(
        &mut self,
        contract: &'static str,
        says: &'static str,
        figure: f64,
        bound: f64,
        unit: Unit,
    ) {
        self.found(contract, says, Reading::Measured { figure, bound, unit });
    }

    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// One request after the other on one connection, each with a key of its own.
    pub(super) async fn sequence(&mut self, requests: u64) -> Vec<Reply> {
        let first = self.next_key;
        self.next_key += requests;
        self.keys(first..first + requests).await
    }

    /// One request for each key.
    pub(super) async fn keys(&mut self, keys: std::ops::Range<u64>) -> Vec<Reply> {
        let mut replies = Vec::new();
        for key in keys {
            let answer = self.client.ask(key, PATIENCE).await;
            replies.push(reply(&self.origins, answer));
        }
        replies
    }

    /// A client of its own on a connection of its own.
    pub(super) fn another_client(&self) -> Client {
        Client::new(self.balancer.clone(), self.key.clone())
    }

    pub(super) fn fresh_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    /// So many clients at once, each asking again as soon as it is answered, until `total` were asked for or `limit` has passed.
    pub(super) async fn crowd(&mut self, clients: usize, total: u64, limit: Duration) -> Vec<Reply> {
        let until = Instant::now() + limit;
        let each = total / clients as u64;
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let (mut client, first) = (self.another_client(), self.next_key);
            self.next_key += each;
            tasks.spawn(async move {
                let mut answers = Vec::new();
                for key in first..first + each {
                    if Instant::now() >= until {
                        break;
                    }
                    answers.push(client.ask(key, PATIENCE).await);
                }
                answers
            });
        }
        let answers = tasks.join_all().await;
        answers.into_iter().flatten().map(|answer| reply(&self.origins, answer)).collect()
    }

    /// Asks until every origin has answered; how long it took, if it did within `REVIVAL`.
    pub(super) async fn settle(&mut self) -> Option<Duration> {
        let begin = Instant::now();
        let mut heard = vec![false; self.origins.len()];
        while begin.elapsed() < REVIVAL {
            for reply in self.sequence(20).await {
                if let (Some(origin), true) = (reply.origin, reply.fine) {
                    heard[origin] = true;
                }
            }
            if heard.iter().all(|&heard| heard) {
                return Some(begin.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }
}

fn reply(origins: &Origins, answer: Result<super::client::Answer, Trouble>) -> Reply {
    match answer {
        Ok(answer) => Reply { origin: origins.place(answer.origin.as_deref()), fine: answer.status < 500 },
        Err(Trouble::Broken(_) | Trouble::Late) => Reply { origin: None, fine: false },
    }
}
