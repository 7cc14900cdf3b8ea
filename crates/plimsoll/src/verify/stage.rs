//! A balancer under test with its origins: asks through it, takes origins down and waits for them, writes down what was found.
//!
//! Requests are bounded in number and time. Whatever has no good answer from an origin is kept as such, and a finding with any is broken.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use plimsoll_sim::contracts::{Finding, Kind, Promise, Reading, Unit};
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};

use super::client::{Answer, Client, Key, Trouble};
use super::figures::lost;
use super::origins::Origins;
use super::place::Place;

/// For one answer, where nothing is slow.
const PATIENCE: Duration = Duration::from_secs(5);
/// For a balancer to believe again in a server that is back.
pub(super) const REVIVAL: Duration = Duration::from_secs(20);
/// For a balancer to find out that a server is down: three checks that are two seconds apart, and then some.
const NOTICE: Duration = Duration::from_secs(10);
/// Between two looks at what a balancer has found out.
const LOOKS: Duration = Duration::from_millis(50);

/// What to hold the balancer against.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) balancer: Place,
    pub(super) weights: Vec<u16>,
    pub(super) key: Option<Key>,
    pub(super) promise: Promise,
    /// The names of these contracts only; all if there are none.
    pub(super) only: Vec<String>,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Stage {
    task: Task,
    pub(super) origins: Origins,
    client: Client,
    next_key: u64,
    findings: Vec<Finding>,
    notes: Vec<String>,
    /// Who answered and is not among the origins.
    unknown: Option<String>,
}

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply {
    /// Who answered, by the place in `--control`.
    pub(super) origin: Option<usize>,
    /// 0 when no whole answer came in time.
    pub(super) status: u16,
}

/// A request of its own client.
#[derive(Debug)]
pub(super) enum Asked {
    Answered(Reply),
    /// It took longer, and goes on.
    Waits(Waiting),
}

/// A request that goes on; `Stage::end` waits for it.
#[derive(Debug)]
pub(super) struct Waiting(JoinHandle<Result<Answer, Trouble>>);

impl Reply {
    /// Whether an origin has answered, and not with a failure.
    pub(super) fn fine(&self) -> bool {
        self.origin.is_some() && (200..500).contains(&self.status)
    }
}

impl Waiting {
    pub(super) fn has_ended(&self) -> bool {
        self.0.is_finished()
    }
}

impl Stage {
    pub(super) fn new(task: Task, origins: Origins) -> Stage {
        let client = Client::new(task.balancer.clone(), task.key.clone());
        Stage { task, origins, client, next_key: 0, findings: Vec::new(), notes: Vec::new(), unknown: None }
    }

    pub(super) fn kind(&self) -> Kind {
        self.task.promise.kind
    }

    pub(super) fn balancer(&self) -> SocketAddr {
        self.task.balancer.address
    }

    /// An error where an answer came from an origin that nobody has named: no share could be judged without it.
    pub(super) fn know_all(&self) -> Result<(), String> {
        match &self.unknown {
            Some(name) => Err(format!(
                "{name} answers through {} too, and no --control leads to it; name the control addresses of all origins",
                self.balancer()
            )),
            None => Ok(()),
        }
    }

    pub(super) fn weights(&self) -> &[u16] {
        &self.task.weights
    }

    /// Whether one of these contracts is asked for.
    pub(super) fn wants(&self, contracts: &[&str]) -> bool {
        self.task.only.is_empty()
            || contracts.iter().any(|name| self.task.only.iter().any(|only| only == name))
    }

    /// Findings and notes.
    pub(super) fn outcome(self) -> (Vec<Finding>, Vec<String>) {
        (self.findings, self.notes)
    }

    /// Writes down what a check has found.
    pub(super) fn found(&mut self, contract: &'static str, says: &'static str, reading: Reading) {
        if self.wants(&[contract]) {
            self.findings.push(Finding { policy: self.task.promise.name, contract, says, reading });
        }
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

    /// Says so where any of these had no good answer.
    pub(super) fn note_lost(&mut self, contract: &str, replies: &[Reply]) {
        let lost = lost(replies);
        if lost > 0 && self.wants(&[contract]) {
            self.note(format!(
                "{contract}: {lost} of {} requests got no good answer from an origin",
                replies.len()
            ));
        }
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
            replies.push(self.reply(answer));
        }
        replies
    }

    /// One request on a connection of its own, which may take longer than `soon`, up to `patience`.
    pub(super) async fn one(&mut self, soon: Duration, patience: Duration) -> Asked {
        let mut client = self.another_client();
        let key = self.next_key;
        self.next_key += 1;
        let mut asked = tokio::spawn(async move { client.ask(key, patience).await });
        match tokio::time::timeout(soon, &mut asked).await {
            Ok(answer) => Asked::Answered(self.reply(answer.expect("asking does not panic"))),
            Err(_) => Asked::Waits(Waiting(asked)),
        }
    }

    pub(super) async fn end(&mut self, waiting: Waiting) -> Reply {
        self.reply(waiting.0.await.expect("asking does not panic"))
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
        answers.into_iter().flatten().map(|answer| self.reply(answer)).collect()
    }

    /// Kills these origins and asks until the balancer has found out: until nothing of a round is lost, or it has had its time.
    ///
    /// What it costs until then is for another check; what is lost from then on counts.
    pub(super) async fn take_down(&mut self, down: &[usize]) -> Result<(), String> {
        for &origin in down {
            self.origins.change(origin, &json!({ "refuse": true, "abort": true })).await?;
        }
        let begin = Instant::now();
        loop {
            let replies = self.sequence(20 * self.origins.len() as u64).await;
            if lost(&replies) == 0 || begin.elapsed() >= NOTICE {
                return Ok(());
            }
            tokio::time::sleep(LOOKS).await;
        }
    }

    /// All up again, and heard.
    pub(super) async fn revive(&mut self) -> Result<(), String> {
        self.origins.calm().await?;
        if self.settle().await.is_none() {
            self.note(
                "a server that came back was not used again in time; what follows is measured without it"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Asks until every origin has answered that idle servers are chosen from; how long it took, if it did within `REVIVAL`.
    pub(super) async fn settle(&mut self) -> Option<Duration> {
        let begin = Instant::now();
        let chosen = if self.kind() == Kind::Order { 1 } else { self.origins.len() };
        let mut heard = vec![false; self.origins.len()];
        while begin.elapsed() < REVIVAL {
            for reply in self.sequence(20).await {
                if let (Some(origin), true) = (reply.origin, reply.fine()) {
                    heard[origin] = true;
                }
            }
            if heard[..chosen].iter().all(|&heard| heard) {
                return Some(begin.elapsed());
            }
            tokio::time::sleep(LOOKS).await;
        }
        None
    }

    fn another_client(&self) -> Client {
        Client::new(self.task.balancer.clone(), self.task.key.clone())
    }

    fn reply(&mut self, answer: Result<Answer, Trouble>) -> Reply {
        match answer {
            Ok(Answer { status, origin, .. }) => {
                let place = self.origins.place(origin.as_deref());
                if let (Some(name), None) = (origin, place) {
                    self.unknown.get_or_insert(name);
                }
                Reply { origin: place, status }
            }
            Err(Trouble::Broken(_) | Trouble::Late) => Reply { origin: None, status: 0 },
        }
    }
}
