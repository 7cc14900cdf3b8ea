//! What is known of a server, for the process that comes after this one.
//!
//! Out goes what was learned, with ages instead of times, because another process has another clock; in it comes there. Requests in
//! flight are no part of it: they end where they began. It must never tell more than was known, or as if it had been learned later.

use crate::sync::atomic::Ordering::Relaxed;

use plimsoll_config::model::ServerState;

use crate::backend::Backend;
use crate::gradient::Limit;
use crate::health::Remembered;
use crate::ramp::NEW;
use crate::server::{REFUSED_FOR, Server};
use crate::time::{Micros, Millis};

/// What was learned about one server.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    /// It refused a connection, and is passed over for so many more milliseconds.
    pub refused_for: Option<u64>,
    /// The expected latency in microseconds, and how many milliseconds ago that was said.
    pub latency: Option<(f32, u32)>,
    /// Its share began to grow so many milliseconds ago.
    pub ramp: Option<u64>,
    /// Its limit of requests in flight that was found out.
    pub limit: Option<Limit>,
    /// What it is to do, and for how many milliseconds that has been so, if it was ever anything else.
    pub told: Option<(ServerState, u64)>,
    /// What is known of its health.
    pub health: Option<Remembered>,
}

impl Server {
    /// What is known as of `now`; `None` for nothing.
    pub fn memory(&self, now: Millis) -> Option<Memory> {
        let stamp = now.0 as u32;
        let ramp = Some(self.live.ramp.load(Relaxed)).filter(|&began| began != 0 && began != NEW);
        let (told, health) = {
            let record = self.health.record();
            (record.told(now), record.remembered(now, self.state == ServerState::Maint))
        };
        let memory = Memory {
            refused_for: Some(self.live.refused_until().saturating_sub(now.0)).filter(|&left| left > 0),
            latency: self.live.latency().map(|(latency, said)| (latency, stamp.wrapping_sub(said))),
            ramp: ramp.map(|began| now.0.saturating_sub(began)),
            limit: self
                .gradient
                .as_ref()
                .map(|gradient| gradient.told())
                .filter(|told| told.least_latency > 0),
            told,
            health,
        };
        (memory != Memory::default()).then_some(memory)
    }
}

impl Backend {
    /// Takes over what another process knew of servers.
    pub fn recall<'m>(&self, known: impl IntoIterator<Item = (usize, &'m Memory)>, now: Millis) {
        known.into_iter().for_each(|(server, memory)| self.recall_one(server, memory, now));
        self.settle();
    }

    fn recall_one(&self, server: usize, memory: &Memory, now: Millis) {
        let (index, server) = (server, &self.servers[server]);
        if let Some(left) = memory.refused_for {
            server.live.pass_over_until(now.0.saturating_add(left.min(REFUSED_FOR)));
        }
        if let Some((latency, age)) = memory.latency.filter(|(latency, _)| latency.is_finite()) {
            let said = now.0.saturating_sub(u64::from(age));
            server.live.set_latency(latency, Micros(said.saturating_mul(1_000)));
        }
        if let Some(age) = memory.ramp {
            self.ramp.begin(server, Millis(now.0.saturating_sub(age)));
        }
        if let Some(known) = memory.limit {
            self.recall_limit(index, known, Micros(now.0.saturating_mul(1_000)));
        }
        if let Some(told) = memory.told {
            server.health.record().recall_told(told, now);
        }
        if let Some(known) = &memory.health {
            self.recall_health(index, known, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_config::model::{self, Balance};
    use std::time::Duration;

    fn backend() -> Backend {
        let server = |name: &str| model::Server::new(name, model::Address::Name(name.to_owned(), 80));
        let servers = vec![server("a"), server("c")];
        let slow_start = Duration::from_secs(10);
        Backend::new(&model::Backend { slow_start, ..model::Backend::new("b", servers, Balance::P2c) }, None)
    }

    #[test]
    fn a_successor_with_another_clock_knows_the_same() {
        let (old, new) = (backend(), backend());
        assert_eq!(old.servers[0].memory(Millis(5_000)), None, "nothing is known");
        old.servers[0].live.refused(Millis(4_600));
        old.servers[0].live.set_latency(2_500.0, Micros(1_000_000));
        old.ramp.begin(&old.servers[0], Millis(2_000));
        old.servers[0].health.record().is_told(ServerState::Ready, Millis(3_000)); // as ever
        old.servers[0].health.record().is_told(ServerState::Drain, Millis(3_500));
        old.servers[0].health.record().is_told(ServerState::Drain, Millis(4_500));
        let memory = old.servers[0].memory(Millis(5_000)).expect("much is known");
        assert_eq!(
            memory,
            Memory {
                refused_for: Some(600),
                latency: Some((2_500.0, 4_000)),
                ramp: Some(3_000),
                limit: None,
                told: Some((ServerState::Drain, 1_500)),
                health: None
            }
        );
        new.recall([(0, &memory)], Millis(900_000));
        let live = &new.servers[0].live;
        assert!(live.is_refused(Millis(900_599)) && !live.is_refused(Millis(900_600)));
        assert_eq!(new.condition(0).told_since, Millis(898_500));
        assert_eq!(live.refusals(), 0, "it has not seen the refusal itself");
        assert_eq!(live.latency(), Some((2_500.0, 896_000)));
        let share = |backend: &Backend, now| backend.ramp.share(&backend.servers[0], Millis(now));
        assert_eq!(share(&new, 900_000), share(&old, 5_000));
        assert!(new.ramp.is_active(Millis(900_000)));
        assert_eq!(new.servers[1].memory(Millis(900_000)), None);
    }

    #[test]
    fn nonsense_is_not_believed() {
        let new = backend();
        let nonsense = Memory {
            refused_for: Some(u64::MAX),
            latency: Some((f32::NAN, u32::MAX)),
            ramp: Some(u64::MAX),
            limit: None,
            told: Some((ServerState::Maint, u64::MAX)),
            health: None,
        };
        new.recall([(0, &nonsense)], Millis(3_600_000));
        assert!(!new.servers[0].live.is_refused(Millis(3_600_000 + REFUSED_FOR)));
        assert_eq!(new.servers[0].live.latency(), None);
    }
}
