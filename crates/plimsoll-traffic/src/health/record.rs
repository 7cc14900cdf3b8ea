//! What is known of one server's health.

use std::sync::PoisonError;

use plimsoll_config::model::{self, ServerState};

use super::checks::LastCheck;
use crate::dice::Dice;
use crate::server::Live;
use crate::sync::{Mutex, MutexGuard};
use crate::time::Millis;

/// Seconds over which shares of failures are counted.
const WINDOW: usize = 10;
const SECOND: u64 = 1_000;
/// How long a server must serve well until one of its ejections is forgotten, in milliseconds: Envoy's interval.
const FORGET: u64 = 10_000;
/// Doublings that count; ten seconds a thousand times is longer than any limit.
const MOST_TIMES: u32 = 10;
/// Of a reason, in bytes: it comes from a peer.
const REASON: usize = 200;

/// What people are told of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The state.
    pub state: State,
    /// Why; empty for a server of which nothing is to be said.
    pub reason: String,
    /// Since when.
    pub since: Millis,
    /// Since when it is to do what the file, an operator or itself says; 0 for always.
    pub told_since: Millis,
}

/// The states of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It serves.
    Up,
    /// It is new, and no check has passed yet.
    Starting,
    /// Its check fails.
    Down,
    /// Too many of its requests failed.
    Ejected,
    /// It was ejected, and the next request, or the one under way, decides.
    Trial,
}

impl State {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Starting => "starting",
            State::Down => "down",
            State::Ejected => "ejected",
            State::Trial => "trial",
        }
    }
}

/// What checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Check {
    /// There are none.
    #[default]
    Off,
    Starting,
    Up,
    Down,
}

/// What requests say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Ejection {
    #[default]
    None,
    Until(Millis),
    /// For the request that tries it.
    Waits,
    /// A request tries it.
    Tried,
}

/// The health of one server; outlives configurations.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<Record>);

impl Health {
    pub(crate) fn new(record: Record) -> Health {
        Health(Mutex::new(record))
    }

    /// To be changed under the roster's lock only, and never held for two servers at once.
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) check: Check,
    /// Results in a row that speak against `check`.
    pub(crate) streak: u32,
    pub(crate) ejection: Ejection,
    /// Ejections that are not forgotten.
    times: u32,
    /// When the last one ended.
    pub(crate) admitted: Millis,
    since: Millis,
    reason: String,
    /// What it is to do, and since when: 0 if that was never anything else.
    told: (ServerState, Millis),
    /// A check has passed since it was new.
    pub(crate) has_passed: bool,
    /// What became of the last one, and of all.
    pub(crate) last: Option<LastCheck>,
    /// How asking its agent went.
    pub(crate) agent: Option<LastCheck>,
    /// It began with its backend: nobody served before it.
    pub(crate) first: bool,
    /// Requests and failures as they were at the last full seconds, newest last.
    samples: Vec<(u64, u64)>,
    sampled: Millis,
}

/// What another process is told; ages and spans are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remembered {
    /// What the check said: passed or failed; nothing for a server without one, or without a result.
    pub check: Option<bool>,
    /// Whether a check has passed since it was new.
    pub has_passed: bool,
    /// It is ejected for so long; 0 once it waits for its trial.
    pub ejected_for: Option<u64>,
    /// Ejections so far.
    pub ejections: u32,
    /// How long it has been so.
    pub age: u64,
    /// Why.
    pub reason: String,
}

impl Record {
    /// Of a server that is to be checked before it serves.
    pub(crate) fn starting(first: bool) -> Record {
        Record { check: Check::Starting, reason: "not checked yet".into(), first, ..Record::default() }
    }

    /// Begins or ends to go by checks. One that served without them goes on until they fail.
    pub(crate) fn goes_by(&mut self, checks: bool) {
        match (self.check, checks) {
            (Check::Off, true) => (self.check, self.has_passed) = (Check::Up, true),
            (_, false) => (self.check, self.last) = (Check::Off, None),
            (_, true) => {}
        }
    }

    /// It comes back from maintenance, and may be quite another program by now: what checks found before says nothing.
    pub(crate) fn comes_back(&mut self, now: Millis) {
        (self.check, self.streak) = (Check::Starting, 0);
        (self.has_passed, self.first) = (false, false);
        self.change(now, "not checked since its maintenance");
    }

    /// It is looked at for the first time, which is when it began: whoever makes it knows no time.
    pub(crate) fn begins(&mut self, now: Millis) {
        if self.since == Millis(0) {
            self.since = now;
        }
    }

    /// What it is to do now.
    pub(crate) fn is_told(&mut self, state: ServerState, now: Millis) {
        if self.told.0 != state {
            self.told = (state, now);
        }
    }

    /// What it is to do, and for how many milliseconds that has been so, if it was ever anything else.
    pub(crate) fn told(&self, now: Millis) -> Option<(ServerState, u64)> {
        let (state, since) = self.told;
        (since != Millis(0)).then(|| (state, now.0.saturating_sub(since.0)))
    }

    /// Takes over [`told`](Record::told) from another process.
    pub(crate) fn recall_told(&mut self, (state, age): (ServerState, u64), now: Millis) {
        self.told = (state, Millis(now.0.saturating_sub(age).max(1)));
    }

    /// Whether a check has ever passed or failed, or none is needed.
    pub(crate) fn has_begun(&self) -> bool {
        self.check != Check::Starting
    }

    pub(crate) fn since(&self) -> Millis {
        self.since
    }

    /// Whether a check has passed since it was new, or none is needed.
    pub(crate) fn has_passed(&self) -> bool {
        self.has_passed || self.check == Check::Off
    }

    /// Whether the next request may try it: its ejection is over, and nothing else speaks against it.
    pub(crate) fn awaits_trial(&self) -> bool {
        self.ejection == Ejection::Waits && matches!(self.check, Check::Off | Check::Up)
    }

    pub(crate) fn is_well(&self) -> bool {
        matches!(self.check, Check::Off | Check::Up) && self.ejection == Ejection::None
    }

    pub(crate) fn says(&mut self, reason: &str) {
        self.reason.clear();
        self.reason.extend(reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON));
    }

    pub(crate) fn change(&mut self, now: Millis, reason: &str) {
        self.since = now;
        self.says(reason);
    }

    /// How long the ejection that begins now lasts, in milliseconds: twice as long each time, ± 20 %, so that what failed together does
    /// not come back together.
    pub(crate) fn next_ejection(&mut self, rules: &model::Eject, now: Millis, seed: u64) -> u64 {
        if self.ejection == Ejection::None {
            let served = now.0.saturating_sub(self.admitted.0);
            self.times = self.times.saturating_sub(u32::try_from(served / FORGET).unwrap_or(u32::MAX));
        }
        let longest = rules.longest.as_millis() as u64;
        let length = (rules.base.as_millis() as u64).saturating_mul(1 << self.times).min(longest);
        self.times = (self.times + 1).min(MOST_TIMES);
        let jitter = Dice::new(seed).below_u64(401);
        length / 1_000 * (800 + jitter) + length % 1_000 * (800 + jitter) / 1_000
    }

    /// Notes the counters once a second.
    pub(crate) fn sample(&mut self, live: &Live, now: Millis) {
        if self.sampled != Millis(0) && now.0.saturating_sub(self.sampled.0) < SECOND {
            return;
        }
        self.sampled = now;
        if self.samples.len() == WINDOW {
            self.samples.remove(0);
        }
        self.samples.push((live.assigned(), live.failures()));
    }

    /// Requests and failures within the window.
    pub(crate) fn window(&self, live: &Live) -> (u64, u64) {
        let (requests, failures) =
            self.samples.first().copied().unwrap_or((live.assigned(), live.failures()));
        (live.assigned().saturating_sub(requests), live.failures().saturating_sub(failures))
    }

    /// What was counted before says nothing any more.
    pub(crate) fn forget_window(&mut self) {
        self.samples.clear();
    }

    pub(crate) fn condition(&self) -> Condition {
        let state = match (self.check, self.ejection) {
            (Check::Down, _) => State::Down,
            (Check::Starting, _) => State::Starting,
            (_, Ejection::Until(_)) => State::Ejected,
            (_, Ejection::Waits | Ejection::Tried) => State::Trial,
            (Check::Off | Check::Up, Ejection::None) => State::Up,
        };
        Condition { state, reason: self.reason.clone(), since: self.since, told_since: self.told.1 }
    }

    /// `None` when there is nothing to remember. What checks found is worth it unless the server `is_away`, in maintenance.
    pub(crate) fn remembered(&self, now: Millis, is_away: bool) -> Option<Remembered> {
        let check = match self.check {
            Check::Off | Check::Starting => None,
            Check::Up => Some(true),
            Check::Down => Some(false),
        };
        let remembered = Remembered {
            check: check.filter(|_| !is_away),
            has_passed: self.has_passed && !is_away,
            ejected_for: match self.ejection {
                Ejection::None => None,
                Ejection::Until(until) => Some(until.0.saturating_sub(now.0)),
                Ejection::Waits | Ejection::Tried => Some(0),
            },
            ejections: self.times,
            age: now.0.saturating_sub(self.since.0),
            reason: self.reason.clone(),
        };
        let says = check.is_some() || remembered.ejected_for.is_some() || remembered.ejections > 0;
        says.then_some(remembered)
    }

    /// Takes over what another process knew, as far as `rules` still allow.
    pub(crate) fn recall(&mut self, known: &Remembered, rules: Option<&model::Eject>, now: Millis) {
        match (self.check, known.check) {
            (Check::Off, _) | (_, None) => {}
            (_, Some(true)) => self.check = Check::Up,
            (_, Some(false)) => self.check = Check::Down,
        }
        self.has_passed |= known.has_passed;
        if let (Some(rules), Some(left)) = (rules, known.ejected_for) {
            // No longer than this configuration could make it.
            let left = left.min(rules.longest.as_millis() as u64 * 6 / 5);
            self.ejection = if left == 0 { Ejection::Waits } else { Ejection::Until(Millis(now.0 + left)) };
        }
        self.times = known.ejections.min(MOST_TIMES);
        // Not 0, which is the time of one that has not begun.
        self.change(Millis(now.0.saturating_sub(known.age).max(1)), &known.reason);
    }
}
