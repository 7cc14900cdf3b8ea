//! Active checks, as production's prober makes them: each instance asks each server regularly, and tells its backend.
//!
//! In go the times and the state of the machines, out go results to `traffic`, which decides what they mean and when the next check is due. A check costs a
//! server nothing and takes no time, unless the server hangs: then it takes the whole timeout. It fails where requests do, and where the timeline says that
//! it is the check that is wrong.

use plimsoll_config::model::Check;
use plimsoll_traffic::Micros;

use crate::engine::Run;
use crate::events::Event;
use crate::front::{Front, Production};

/// Nanoseconds in a microsecond.
const MICRO: u64 = 1_000;

impl Run<'_> {
    /// All servers are new, so each is checked at once.
    pub(crate) fn begin_checks(&mut self) {
        let Front::Production(production) = &self.front else { return };
        for instance in 0..production.instances() {
            for server in 0..self.machines.len() as u32 {
                if production.check(server).is_some() {
                    self.events.push(self.now, Event::Check { instance, server });
                }
            }
        }
    }

    pub(crate) fn check(&mut self, instance: u32, server: u32) {
        let Front::Production(production) = &self.front else { return };
        let Some(check) = production.check(server) else { return };
        let timeout = check.timeout.as_nanos() as u64;
        let (index, began) = (server as usize, self.now);
        if !self.surroundings.down[index] && self.machines[index].hangs() {
            return self.events.push(began + timeout, Event::CheckLate { instance, server });
        }
        let by_chance = self.streams.checks.unit() < self.surroundings.fail[index].share;
        let fails = by_chance || self.surroundings.checks_fail[index];
        let result = match (self.surroundings.down[index], fails) {
            (true, _) => Err("refused"),
            (false, true) => Err("an error"),
            (false, false) => Ok(()),
        };
        self.checked((instance, server), result, began);
    }

    pub(crate) fn check_late(&mut self, instance: u32, server: u32) {
        let Front::Production(production) = &self.front else { return };
        let Some(check) = production.check(server) else { return };
        let began = self.now - check.timeout.as_nanos() as u64;
        self.checked((instance, server), Err("timed out"), began);
    }

    fn checked(&mut self, (instance, server): (u32, u32), result: Result<(), &str>, began: u64) {
        let Front::Production(production) = &self.front else { return };
        let Some(interval) = production.checked(instance, server, result, began, self.now) else { return };
        // As production has it: the second check of a server comes after a random part of the interval, so that they are spread.
        let dice = &mut self.streams.checks;
        let part = if began == 0 { dice.unit() } else { 0.8 + 0.4 * dice.unit() };
        let next = (began + (interval as f64 * part) as u64).max(self.now);
        self.events.push(next, Event::Check { instance, server });
    }
}

impl Production {
    /// How a server is checked; `None` also for one that is gone.
    fn check(&self, server: u32) -> Option<&Check> {
        self.own(server)?;
        self.pattern().check.as_ref()
    }

    /// Tells an instance; gives the nanoseconds from one check to the next.
    fn checked(
        &self,
        instance: u32,
        server: u32,
        result: Result<(), &str>,
        began: u64,
        now: u64,
    ) -> Option<u64> {
        let (own, check) = (self.own(server)?, self.check(server)?);
        let backend = self.instance(instance);
        let (took, now) = (std::time::Duration::from_nanos(now - began), Micros(now / MICRO).millis());
        backend.probed(own, result, took, now);
        Some(backend.check_after(own, check, now).as_nanos() as u64)
    }
}
