//! Which servers can serve: what checks say, what requests met, and what follows from both for a backend as a whole.
//!
//! In come results of checks, failures and answers, and the time; out goes one bit in each server's `Live` that picks look at, and for people
//! a state with its reason and since when. All decisions of a backend are made under one lock, which a request takes only when
//! it failed or is a trial. What is known belongs to the server's identity. It must never take out the last server, nor more than the
//! configuration allows; and when too few are left it lets everybody serve (panic) rather than nobody.

mod checks;
#[cfg(test)]
mod every_state;
#[cfg(test)]
mod joining;
mod record;
mod roster;

use crate::sync::atomic::Ordering::Relaxed;

use plimsoll_config::model;

pub(crate) use self::checks::CheckRules;
pub use self::checks::LastCheck;
use self::record::{Check, Ejection};
pub use self::record::{Condition, Remembered, State};
pub(crate) use self::record::{Health, Record};
pub(crate) use self::roster::Roster;
pub use self::roster::Turn;
use crate::backend::Backend;
use crate::time::Millis;

impl Backend {
    /// A check of a server passed, or says why not.
    pub fn checked(&self, server: usize, result: Result<(), &str>, now: Millis) {
        let Some(rules) = &self.servers[server].check else { return };
        let mut roster = self.roster();
        let mut record = self.servers[server].health.record();
        let (before, well) = (record.check, result.is_ok());
        match (record.check, &result) {
            (Check::Up, Ok(())) | (Check::Down, Err(_)) => record.streak = 0,
            (Check::Starting, _) => record.streak = u32::MAX, // one result says it
            (Check::Down, Ok(())) if !record.has_passed => record.streak = u32::MAX, // it is as good as new
            _ => record.streak += 1,
        }
        if let (Check::Down, Err(reason)) = (record.check, &result) {
            record.says(reason);
        }
        let waits = well && matches!(record.ejection, Ejection::Until(until) if until <= now);
        if waits {
            record.ejection = Ejection::Waits;
        }
        let needed = if before == Check::Up { rules.fall } else { rules.rise };
        if record.streak >= needed {
            record.streak = 0;
            record.check = if well { Check::Up } else { Check::Down };
            record.change(now, result.err().unwrap_or("the check passed"));
        }
        let changed = record.check != before;
        let first = before == Check::Starting && record.first;
        record.first &= !well;
        record.has_passed |= well;
        drop(record);
        if changed {
            let turn = if well { Turn::Up } else { Turn::Down };
            // Of servers that are all new none has to be spared.
            if well && !first {
                self.ramp.begin(&self.servers[server], now);
            }
            // Nor is there anything to tell of them.
            if !(well && first) {
                roster.tell(turn, &self.servers[server]);
            }
        }
        // Of a thousand servers, hundreds are checked in a second: most results change nothing.
        if changed || waits {
            roster.settle(self.panic, &self.ramp.trials);
        }
    }

    /// A request to a server failed in a way that is the server's fault.
    pub(crate) fn failed(&self, server: usize, reason: &str, trial: bool, now: Millis) {
        let live = &self.servers[server].live;
        let row = live.count_failure();
        let Some(rules) = &self.eject else { return };
        // Of the failures after those that were not enough only every so manyth looks again, so that nobody queues at the lock.
        if trial || row.is_multiple_of(rules.consecutive) {
            let reason = if trial {
                format!("its trial failed: {reason}")
            } else {
                format!("{row} failures in a row, the last: {reason}")
            };
            self.eject(server, rules, &reason, trial, now);
        }
    }

    fn eject(&self, server: usize, rules: &model::Eject, reason: &str, trial: bool, now: Millis) {
        let mut roster = self.roster();
        let health = &self.servers[server].health;
        let (ejection, is_well) = {
            let record = health.record();
            (record.ejection, record.is_well() && !self.servers[server].says_down)
        };
        let may = match ejection {
            // It is out already: what else fails was sent before.
            Ejection::Until(_) | Ejection::Waits => false,
            Ejection::Tried => trial,
            Ejection::None => is_well && roster.may_spare(health, rules.most),
        };
        if !may {
            return;
        }
        let mut record = health.record();
        let length = record.next_ejection(rules, now, self.servers[server].seed() ^ now.0);
        record.ejection = Ejection::Until(Millis(now.0.saturating_add(length)));
        record.change(now, reason);
        drop(record);
        self.servers[server].live.count_ejection();
        roster.tell(Turn::Ejected, &self.servers[server]);
        roster.settle(self.panic, &self.ramp.trials);
    }

    /// A request was answered after earlier ones had failed, or it was a trial.
    pub(crate) fn recovered(&self, server: usize, trial: bool, now: Millis) {
        self.servers[server].live.end_failures();
        if !trial {
            return;
        }
        let mut roster = self.roster();
        let mut record = self.servers[server].health.record();
        if record.ejection != Ejection::Tried {
            return;
        }
        record.ejection = Ejection::None;
        record.admitted = now;
        record.forget_window();
        record.change(now, "its trial was answered");
        drop(record);
        self.ramp.begin(&self.servers[server], now);
        roster.tell(Turn::Admitted, &self.servers[server]);
        roster.settle(self.panic, &self.ramp.trials);
    }

    /// A trial ended without saying anything about the server: there is to be another one.
    pub(crate) fn undecided(&self, server: usize) {
        let mut roster = self.roster();
        let mut record = self.servers[server].health.record();
        if record.ejection == Ejection::Tried {
            record.ejection = Ejection::Waits;
        }
        drop(record);
        roster.settle(self.panic, &self.ramp.trials);
    }

    /// A server that waits for its trial; it is on trial from now on.
    pub(crate) fn take_trial(&self, tried: &[u32]) -> Option<u32> {
        let mut roster = self.roster();
        let waits = |index: &u32| {
            let server = &self.servers[*index as usize];
            !server.says_down
                && server.has_room()
                && server.health.record().awaits_trial()
                && !tried.contains(index)
        };
        let mut members = self.tiers.iter().flat_map(|tier| tier.members.iter().copied());
        let Some(index) = members.find(waits) else {
            // Whoever waits is full now: all picks would ask for it in vain.
            roster.settle(self.panic, &self.ramp.trials);
            return None;
        };
        self.servers[index as usize].health.record().ejection = Ejection::Tried;
        roster.settle(self.panic, &self.ramp.trials);
        Some(index)
    }

    /// To be called once or twice a second, and after a change of the configuration: ends ejections and judges shares of failures.
    pub fn tick(&self, now: Millis) {
        let mut roster = self.roster();
        if !roster.is_of(self) {
            roster.returning(self).for_each(|server| server.health.record().comes_back(now));
            roster.install(self);
        }
        for server in &self.servers {
            let mut record = server.health.record();
            record.begins(now);
            record.is_told(server.state, now);
            record.goes_by(server.check.is_some());
            match (record.ejection, record.check) {
                // The successor of a check that failed is a check that passes: `checked` sees to it.
                (Ejection::Until(until), Check::Off) if until <= now => record.ejection = Ejection::Waits,
                _ => {}
            }
            if self.eject.is_none() {
                record.ejection = Ejection::None;
            }
            record.sample(&server.live, now);
        }
        roster.settle(self.panic, &self.ramp.trials);
        drop(roster);
        if let Some(rules) = self.eject.as_ref().filter(|rules| rules.share > 0) {
            self.judge_shares(rules, now);
        }
    }

    /// Ejects servers of whose requests too many fail, while the others' do not.
    fn judge_shares(&self, rules: &model::Eject, now: Millis) {
        let of = |server: &crate::server::Server| {
            let (requests, failures) = server.health.record().window(&server.live);
            (requests >= u64::from(rules.requests)).then(|| failures as f64 / requests as f64)
        };
        let shares: Vec<Option<f64>> = self.servers.iter().map(of).collect();
        let mut sorted: Vec<f64> = shares.iter().copied().flatten().collect();
        sorted.sort_by(f64::total_cmp);
        for (server, &share) in shares.iter().enumerate() {
            let Some(share) = share.filter(|share| *share * 100.0 >= f64::from(rules.share)) else {
                continue;
            };
            if share >= 2.0 * median_of_others(&sorted, share) {
                let reason = format!("{:.0} % of its requests failed within ten seconds", share * 100.0);
                self.eject(server, rules, &reason, false, now);
            }
        }
    }

    /// Takes over what another process knew; to be [settled](Backend::settle) when all is.
    pub(crate) fn recall_health(&self, server: usize, known: &Remembered, now: Millis) {
        let _roster = self.roster();
        let mut record = self.servers[server].health.record();
        record.recall(known, self.eject.as_ref(), now);
        // Whoever passes for the first time here joins others. (All begin with the same word, so this is done once.)
        if record.has_passed && record.first {
            drop(record);
            self.servers.iter().for_each(|server| server.health.record().first = false);
        }
    }

    /// Works out who is passed over.
    pub(crate) fn settle(&self) {
        self.roster().settle(self.panic, &self.ramp.trials);
    }

    /// The state of a server, for people.
    pub fn condition(&self, server: usize) -> Condition {
        self.servers[server].health.record().condition()
    }

    /// Whether so few servers are well that all that accept connections serve.
    pub fn panics(&self) -> bool {
        self.roster().panics()
    }

    /// What happened to servers since the last call, and why, oldest first; of very many the oldest are forgotten.
    pub fn turns(&self) -> Vec<(Turn, Box<str>, String)> {
        self.roster().turns()
    }

    /// Servers that are well, and all that could be: those with a weight.
    pub fn healthy(&self) -> (usize, usize) {
        self.roster().healthy()
    }

    /// Whether any server waits for its trial.
    #[inline]
    pub(crate) fn has_trials(&self) -> bool {
        self.ramp.trials.load(Relaxed) > 0
    }
}

/// The median of `sorted` without one `own` in it, the lower of two; of two servers it is the other one's, of one 0.
fn median_of_others(sorted: &[f64], own: f64) -> f64 {
    let Some(place) = sorted.len().checked_sub(2).map(|last| last / 2) else { return 0.0 };
    let own = sorted.partition_point(|share| *share < own);
    // Without that one everything behind it moves up.
    sorted[if own <= place { place + 1 } else { place }]
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;
    use std::time::Duration;

    use plimsoll_config::model::{Address, Balance};

    use super::*;
    use crate::balancer::{Ask, Balancer};
    use crate::dice::Dice;
    use crate::lease::Lease;
    use crate::time::Micros;

    pub(super) const SECOND: u64 = 1_000;

    pub(super) fn spec(servers: usize) -> model::Backend {
        let server = |i: usize| model::Server::new(&format!("s{i}"), Address::Name(format!("s{i}"), 80));
        model::Backend {
            eject: Some(model::Eject::default()),
            panic: 50,
            slow_start: Duration::from_secs(10),
            ..model::Backend::new("b", (0..servers).map(server).collect(), Balance::P2c)
        }
    }

    pub(super) fn checked(servers: usize) -> model::Backend {
        model::Backend { check: Some(model::Check::new(model::How::Tcp)), ..spec(servers) }
    }

    pub(super) fn fail(backend: &Backend, server: usize, times: u32, now: u64) {
        (0..times).for_each(|_| backend.failed(server, "503", false, Millis(now)));
    }

    pub(super) fn state(backend: &Backend, server: usize) -> State {
        backend.condition(server).state
    }

    pub(super) fn barred(backend: &Backend) -> Vec<usize> {
        (0..backend.servers.len()).filter(|&i| backend.servers[i].live.is_barred()).collect()
    }

    fn pick(balancer: &Rc<Balancer>, now: u64) -> Lease {
        let ask = Ask { now: Micros(now * 1_000), key: 0, tried: &[] };
        balancer.pick(&ask, &mut Dice::new(now)).expect("somebody serves")
    }

    #[test]
    fn ejects_after_five_consecutive_failures() {
        let backend = Backend::new(&spec(3), None);
        fail(&backend, 1, 4, SECOND);
        backend.recovered(1, false, Millis(SECOND));
        fail(&backend, 1, 4, SECOND);
        assert!(barred(&backend).is_empty());
        fail(&backend, 1, 1, 2 * SECOND);
        assert_eq!(barred(&backend), [1]);
        let told = backend.condition(1);
        assert_eq!((told.state, told.since), (State::Ejected, Millis(2 * SECOND)));
        assert_eq!(told.reason, "5 failures in a row, the last: 503");
        assert_eq!(backend.turns(), [(Turn::Ejected, "s1".into(), told.reason)]);
    }

    #[test]
    fn what_one_crash_breaks_is_one_failure_and_crashes_one_after_the_other_are_several() {
        let backend = Arc::new(Backend::new(&spec(3), None));
        let balancer = Balancer::new(Arc::clone(&backend), &mut Dice::new(1));
        // The others are tried: with one under way it is never the least loaded.
        let of_zero = |now: u64| {
            let ask = Ask { now: Micros(now * 1_000), key: 0, tried: &[1, 2] };
            balancer.pick(&ask, &mut Dice::new(now)).expect("it is up")
        };
        let under_way: Vec<Lease> = (0..20).map(|_| of_zero(SECOND)).collect();
        under_way.iter().for_each(|lease| lease.broke("server_closed", Micros(2_000_000)));
        assert_eq!((state(&backend, 0), backend.servers[0].live.failures()), (State::Up, 20));
        for crash in 2..=5 {
            let lease = of_zero(crash * SECOND);
            lease.broke("server_closed", Micros(crash * 1_000_000 + 1));
        }
        assert_eq!(state(&backend, 0), State::Ejected);
    }

    #[test]
    fn an_ejection_lasts_twice_as_long_each_time_and_no_longer_than_the_limit() {
        let backend = Backend::new(&spec(3), None);
        let mut now = SECOND;
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            let trial = expected > 10;
            fail(&backend, 0, if trial { 0 } else { 5 }, now);
            if trial {
                assert_eq!(backend.take_trial(&[]), Some(0));
                backend.failed(0, "503", true, Millis(now));
            }
            let began = now;
            while state(&backend, 0) == State::Ejected {
                now += 100;
                backend.tick(Millis(now));
            }
            let lasted = now - began;
            assert!(
                (expected * 800..=expected * 1_200 + 100).contains(&lasted),
                "{lasted} ms, not {expected} s"
            );
        }
    }

    #[test]
    fn ejections_are_forgotten_after_serving_well() {
        let backend = Backend::new(&spec(3), None);
        let eject = |now| {
            fail(&backend, 0, 5, now);
            let Ejection::Until(until) = backend.servers[0].health.record().ejection else {
                panic!("ejected")
            };
            (until.0 - now).div_ceil(SECOND)
        };
        let admit = |now| {
            backend.tick(Millis(now));
            assert_eq!(backend.take_trial(&[]), Some(0));
            backend.recovered(0, true, Millis(now));
        };
        assert!((8..=12).contains(&eject(SECOND)));
        admit(20 * SECOND);
        assert!((16..=24).contains(&eject(21 * SECOND)));
        admit(50 * SECOND);
        assert!((8..=12).contains(&eject(80 * SECOND)), "thirty good seconds");
    }

    #[test]
    fn one_request_is_the_trial_and_its_answer_decides() {
        let backend = Arc::new(Backend::new(&spec(2), None));
        let balancer = Balancer::new(Arc::clone(&backend), &mut Dice::new(1));
        fail(&backend, 0, 5, SECOND);
        assert!((0..50).all(|_| pick(&balancer, 2 * SECOND).index() == 1));
        backend.tick(Millis(14 * SECOND));
        let trial = pick(&balancer, 14 * SECOND);
        assert_eq!((trial.index(), state(&backend, 0)), (0, State::Trial));
        assert!((0..50).all(|_| pick(&balancer, 14 * SECOND).index() == 1), "one is enough");
        drop(trial);
        let again = pick(&balancer, 14 * SECOND);
        assert_eq!(again.index(), 0, "the first one was cancelled");
        again.succeeded(Micros(15_000_000));
        drop(again);
        assert_eq!((state(&backend, 0), barred(&backend)), (State::Up, vec![]));
        assert!((0..50).any(|_| pick(&balancer, 16 * SECOND).index() == 0));
    }

    #[test]
    fn of_two_the_one_with_a_share_of_failures_goes_and_never_both() {
        for both in [false, true] {
            let backend = Backend::new(&spec(2), None);
            for second in 1..30 {
                for (server, fails) in backend.servers.iter().zip([true, both]) {
                    for request in 0..10 {
                        assert!(server.live.take(u32::MAX));
                        server.live.give_back();
                        if fails && request % 3 > 0 {
                            server.live.count_failure();
                        }
                    }
                }
                backend.tick(Millis(second * SECOND));
            }
            let expected = if both { vec![] } else { vec![0] };
            let out: Vec<usize> = (0..2).filter(|&i| backend.servers[i].live.ejections() > 0).collect();
            assert_eq!(out, expected, "a fault of all is no reason against one");
        }
    }

    #[test]
    fn the_median_is_that_of_the_others() {
        let of = |shares: &[f64], own| median_of_others(shares, own);
        assert_eq!([of(&[0.6], 0.6), of(&[0.1, 0.6], 0.6), of(&[0.1, 0.6], 0.1)], [0.0, 0.1, 0.6]);
        assert_eq!([of(&[0.1, 0.2, 0.9], 0.1), of(&[0.1, 0.2, 0.9], 0.2)], [0.2, 0.1]);
        assert_eq!([of(&[0.1, 0.2, 0.9], 0.9), of(&[0.5; 4], 0.5)], [0.1, 0.5]);
    }

    #[test]
    fn a_trial_waits_until_its_server_has_room() {
        let mut spec = spec(2);
        spec.servers[0].max_requests = 3;
        let backend = Arc::new(Backend::new(&spec, None));
        (0..3).for_each(|_| assert!(backend.servers[0].live.take(3)));
        fail(&backend, 0, 5, SECOND);
        backend.tick(Millis(20 * SECOND));
        assert_eq!((state(&backend, 0), backend.has_trials()), (State::Trial, false), "nobody looks in vain");
        backend.servers[0].live.give_back();
        backend.tick(Millis(21 * SECOND));
        assert!(backend.has_trials());
        assert_eq!(backend.take_trial(&[]), Some(0));
    }

    #[test]
    fn a_new_server_is_out_until_one_check_passes() {
        let first = Backend::new(&checked(2), None);
        assert!(barred(&first).is_empty(), "nobody is known to be well: all serve");
        first.checked(0, Ok(()), Millis(SECOND));
        first.checked(1, Ok(()), Millis(SECOND));
        assert!(!first.ramp.is_active(Millis(SECOND)), "all are new");
        let more = Backend::new(&checked(3), Some(&first));
        assert_eq!((barred(&more), state(&more, 2)), (vec![2], State::Starting));
        more.tick(Millis(2 * SECOND));
        more.checked(2, Ok(()), Millis(2 * SECOND));
        assert_eq!((barred(&more), state(&more, 2)), (vec![], State::Up));
        assert!(more.ramp.is_active(Millis(2 * SECOND)));
    }

    #[test]
    fn a_trial_waits_for_a_check_that_passes() {
        let backend = Backend::new(&checked(3), None);
        (0..3).for_each(|i| backend.checked(i, Ok(()), Millis(SECOND)));
        fail(&backend, 0, 5, SECOND);
        backend.checked(0, Ok(()), Millis(20 * SECOND));
        assert!(backend.has_trials());
        (0..3).for_each(|_| backend.checked(0, Err("x"), Millis(30 * SECOND)));
        assert_eq!((state(&backend, 0), backend.has_trials()), (State::Down, false));
        assert_eq!(backend.take_trial(&[]), None);
        (0..2).for_each(|_| backend.checked(0, Ok(()), Millis(40 * SECOND)));
        assert_eq!((state(&backend, 0), backend.take_trial(&[])), (State::Trial, Some(0)));
    }

    #[test]
    fn three_failed_checks_take_a_server_out_and_two_passes_bring_it_back() {
        let backend = Backend::new(&checked(3), None);
        (0..3).for_each(|i| backend.checked(i, Ok(()), Millis(SECOND)));
        let check = |result: Result<(), &str>| {
            backend.checked(1, result, Millis(9 * SECOND));
            state(&backend, 1)
        };
        assert_eq!([check(Err("x")), check(Err("x")), check(Ok(())), check(Err("x"))], [State::Up; 4]);
        assert_eq!([check(Err("x")), check(Err("status 500"))], [State::Up, State::Down]);
        assert_eq!(backend.condition(1).reason, "status 500");
        assert_eq!([check(Ok(())), check(Err("y")), check(Ok(()))], [State::Down; 3]);
        assert_eq!((check(Ok(())), barred(&backend)), (State::Up, vec![]));
        let told = |turn, reason: &str| (turn, "s1".into(), reason.to_owned());
        // Each by its own reason, however late it is told.
        let turns = [told(Turn::Down, "status 500"), told(Turn::Up, "the check passed")];
        assert_eq!(backend.turns(), turns);
    }

    #[test]
    fn when_too_few_are_well_everybody_serves_unless_another_level_can() {
        let down = |backend: &Backend, servers: std::ops::Range<usize>| {
            backend.tick(Millis(1));
            (0..backend.servers.len()).for_each(|i| backend.checked(i, Ok(()), Millis(SECOND)));
            servers.for_each(|i| (0..3).for_each(|_| backend.checked(i, Err("x"), Millis(SECOND))));
            (barred(backend).len(), backend.panics())
        };
        assert_eq!(down(&Backend::new(&checked(4), None), 0..2), (2, false));
        assert_eq!(down(&Backend::new(&checked(4), None), 0..3), (0, true));
        assert_eq!(down(&Backend::new(&model::Backend { panic: 0, ..checked(4) }, None), 0..4), (4, false));
        let mut second = checked(8);
        second.servers.iter_mut().skip(4).for_each(|s| s.priority = 1);
        assert_eq!(down(&Backend::new(&second, None), 0..4), (4, false));
        let mut backup = checked(5);
        backup.servers[4].backup = true;
        assert_eq!(down(&Backend::new(&backup, None), 0..4), (4, false));
        assert_eq!(down(&Backend::new(&backup, None), 0..5), (0, true));
    }

    #[test]
    fn a_reload_keeps_what_is_known_and_decides_for_the_servers_in_force() {
        let old = Backend::new(&spec(4), None);
        fail(&old, 0, 5, SECOND);
        fail(&old, 1, 5, SECOND);
        let new = Backend::new(&spec(3), Some(&old));
        assert_eq!(barred(&new), [0, 1], "before it is in force nothing changes");
        new.tick(Millis(SECOND));
        assert_eq!((barred(&new), new.panics()), (vec![], true), "two of three are too many");
        let with = Backend::new(&checked(3), Some(&new));
        with.tick(Millis(SECOND));
        assert_eq!([state(&with, 0), state(&with, 2)], [State::Ejected, State::Up]);
    }

    #[test]
    fn another_process_knows_the_same() {
        let (old, new) = (Backend::new(&checked(5), None), Backend::new(&checked(5), None));
        (0..3).for_each(|i| old.checked(i, Ok(()), Millis(SECOND)));
        old.checked(3, Err("refused"), Millis(SECOND));
        fail(&old, 1, 5, 2 * SECOND);
        (0..3).for_each(|_| old.checked(0, Err("status 500"), Millis(3 * SECOND)));
        for server in 0..5 {
            let known = old.servers[server].memory(Millis(4 * SECOND));
            assert_eq!(known.is_none(), server == 4, "no check of that one has ended");
            new.recall(known.iter().map(|known| (server, known)), Millis(100 * SECOND));
        }
        let told = |backend: &Backend, now: u64| {
            let tell = |i| {
                let Condition { state, reason, since, .. } = backend.condition(i);
                (state, reason, now - since.0)
            };
            (0..4).map(tell).collect::<Vec<_>>()
        };
        assert_eq!(told(&new, 100 * SECOND), told(&old, 4 * SECOND));
        assert_eq!((barred(&old), old.panics()), (vec![3, 4], true));
        assert_eq!((barred(&new), new.panics()), (vec![3, 4], true), "the third has never passed");
        new.checked(4, Ok(()), Millis(101 * SECOND));
        assert!(new.ramp.is_active(Millis(101 * SECOND)), "it joins others");
    }
}
