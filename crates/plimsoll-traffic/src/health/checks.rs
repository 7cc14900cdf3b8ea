//! What is kept of checks beside the state: the last result, for people, and how often they are due.
//!
//! In comes what a check found and how long that took; out goes when the next one should be. Never decides about a state: `Backend::checked` does.

use std::time::Duration;

use plimsoll_config::model::{self, ServerState};

use super::record::{Check, Record};
use crate::backend::Backend;
use crate::time::Millis;

/// How long a server that went down is expected back any moment, in milliseconds.
const EDGE: u64 = 60_000;
/// Of a reason, in characters: it comes from a peer.
const REASON: usize = 200;

/// How many results in a row change a state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CheckRules {
    pub(crate) fall: u32,
    pub(crate) rise: u32,
}

impl CheckRules {
    pub(crate) fn of(check: &model::Check) -> CheckRules {
        CheckRules { fall: check.fall, rise: check.rise }
    }
}

/// What the checks of a server found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastCheck {
    /// Whether the last one passed; if not, why not.
    pub result: Result<(), String>,
    /// When it ended.
    pub at: Millis,
    /// How long it took.
    pub took: Duration,
    /// Checks that passed, and that failed, since the process started or the server was new.
    pub passed: u64,
    /// See `passed`.
    pub failed: u64,
}

impl LastCheck {
    /// One more after `before`.
    fn after(before: Option<&LastCheck>, result: Result<(), &str>, took: Duration, at: Millis) -> LastCheck {
        let (passed, failed) = before.map_or((0, 0), |last| (last.passed, last.failed));
        LastCheck {
            result: result.map_err(|reason| reason.chars().take(REASON).collect()),
            at,
            took,
            passed: passed + u64::from(result.is_ok()),
            failed: failed + u64::from(result.is_err()),
        }
    }
}

impl Backend {
    /// A check of a server ended, after so long: notes it, and decides what follows.
    pub fn probed(&self, server: usize, result: Result<(), &str>, took: Duration, now: Millis) {
        {
            let _deciding = self.roster();
            let mut record = self.servers[server].health.record();
            record.last = Some(LastCheck::after(record.last.as_ref(), result, took, now));
        }
        self.checked(server, result, now);
    }

    /// A server's agent was asked, and answered or not. That says nothing about the server: what it answered does, elsewhere.
    pub fn asked(&self, server: usize, result: Result<(), &str>, took: Duration, now: Millis) {
        let mut record = self.servers[server].health.record();
        record.agent = Some(LastCheck::after(record.agent.as_ref(), result, took, now));
    }

    /// How asking a server's agent went; `None` before the first time.
    pub fn last_asked(&self, server: usize) -> Option<LastCheck> {
        self.servers[server].health.record().agent.clone()
    }

    /// What the checks of a server found so far; `None` before the first.
    pub fn last_check(&self, server: usize) -> Option<LastCheck> {
        self.servers[server].health.record().last.clone()
    }

    /// Whether a server is to be checked as soon as can be: no check has ended since it was new, or came back from maintenance.
    pub fn awaits_check(&self, server: usize) -> bool {
        let server = &self.servers[server];
        server.state != ServerState::Maint && !server.health.record().has_begun()
    }

    /// How long after the beginning of a server's last check the next one should begin, before jitter.
    pub fn check_after(&self, server: usize, check: &model::Check, now: Millis) -> Duration {
        if self.servers[server].health.record().is_at_edge(now) { check.every_down } else { check.every }
    }
}

impl Record {
    /// Whether it does not serve, and may any moment.
    fn is_at_edge(&self, now: Millis) -> bool {
        let just_passed = self.last.as_ref().is_some_and(|last| last.result.is_ok());
        match self.check {
            Check::Starting => true,
            Check::Down => just_passed || now.0.saturating_sub(self.since().0) < EDGE,
            Check::Off | Check::Up => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_config::model::{Address, Balance, How, ServerCheck};

    use super::*;
    use crate::health::State;

    const SECOND: Duration = Duration::from_secs(1);

    fn backend(checks: &[ServerCheck]) -> (Backend, model::Check) {
        let server = |(i, check): (usize, &ServerCheck)| model::Server {
            check: check.clone(),
            ..model::Server::new(&format!("s{i}"), Address::Name(format!("s{i}"), 80))
        };
        let servers = checks.iter().enumerate().map(server).collect();
        let check = model::Check::new(How::Tcp);
        let spec =
            model::Backend { check: Some(check.clone()), ..model::Backend::new("b", servers, Balance::P2c) };
        (Backend::new(&spec, None), check)
    }

    #[test]
    fn a_server_of_which_nothing_is_known_yet_is_as_it_is_since_it_is_there() {
        let (backend, _) = backend(&[ServerCheck::Backends, ServerCheck::Never]);
        // Clocks begin an hour before the process.
        [3_600_500, 3_601_000].into_iter().for_each(|now| backend.tick(Millis(now)));
        let since = [0, 1].map(|server| backend.condition(server).since);
        assert_eq!(since, [Millis(3_600_500); 2]);
        backend.probed(0, Ok(()), SECOND, Millis(3_602_000));
        assert_eq!(backend.condition(0).since, Millis(3_602_000));
        let known = crate::Remembered { age: 7 * 3_600_000, ..crate::Remembered::default() };
        backend.recall_health(1, &known, Millis(3_600_000));
        backend.tick(Millis(3_603_000));
        assert_eq!(backend.condition(1).since, Millis(1), "for hours, with the process before this one");
    }

    #[test]
    fn a_server_that_has_never_passed_needs_one_pass_however_often_it_failed() {
        let (backend, _) = backend(&[ServerCheck::Backends, ServerCheck::Backends]);
        let state = |result: Result<(), &str>| {
            backend.probed(0, result, SECOND, Millis(1));
            backend.condition(0).state
        };
        assert_eq!(
            [state(Err("refused")), state(Err("refused")), state(Ok(()))],
            [State::Down, State::Down, State::Up]
        );
        assert_eq!(
            [state(Err("x")), state(Err("x")), state(Err("x")), state(Ok(()))],
            [State::Up, State::Up, State::Down, State::Down]
        );
        let last = backend.last_check(0).unwrap();
        assert_eq!(
            (last.result, last.at, last.took, last.passed, last.failed),
            (Ok(()), Millis(1), SECOND, 2, 5)
        );
    }

    #[test]
    fn a_server_goes_by_its_own_rules_or_by_none() {
        let own = model::Check { fall: 1, ..model::Check::new(How::Tcp) };
        let (backend, _) =
            backend(&[ServerCheck::Backends, ServerCheck::Own(Box::new(own)), ServerCheck::Never]);
        (0..3).for_each(|server| backend.probed(server, Ok(()), SECOND, Millis(1)));
        (0..3).for_each(|server| backend.probed(server, Err("x"), SECOND, Millis(2)));
        let states: Vec<State> = (0..3).map(|server| backend.condition(server).state).collect();
        assert_eq!(states, [State::Up, State::Down, State::Up]);
    }

    #[test]
    fn is_asked_more_often_while_it_may_come_back_any_moment() {
        let (backend, check) = backend(&[ServerCheck::Backends, ServerCheck::Backends]);
        let after = |now| backend.check_after(0, &check, Millis(now));
        assert_eq!(after(0), SECOND, "new");
        backend.probed(0, Ok(()), SECOND, Millis(1_000));
        assert_eq!(after(1_000), 5 * SECOND, "up");
        (0..3).for_each(|_| backend.probed(0, Err("x"), SECOND, Millis(2_000)));
        assert_eq!([after(2_000), after(61_999), after(62_000)], [SECOND, SECOND, 5 * SECOND]);
        backend.probed(0, Ok(()), SECOND, Millis(100_000));
        assert_eq!(after(100_000), SECOND, "one more pass brings it back");
    }

    #[test]
    fn a_backend_tells_nothing_of_its_first_servers_that_are_well() {
        let (backend, _) = backend(&[ServerCheck::Backends, ServerCheck::Backends]);
        backend.probed(0, Ok(()), SECOND, Millis(1));
        assert!(backend.turns().is_empty());
        backend.probed(1, Err("refused"), SECOND, Millis(1));
        backend.probed(1, Ok(()), SECOND, Millis(1));
        assert_eq!(backend.turns().len(), 2, "one that was down first is worth a line");
    }
}
