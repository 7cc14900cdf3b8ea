//! Weights that servers report themselves: gRPC's A58, as a factor on every choice by weight.
//!
//! In go reports and the time, out comes for each server a part of `ramp::WHOLE`, which `ramp` multiplies with the part that slow start
//! leaves it. Shared by all workers, since a server's capacity is one fact; one of them works the factors out once a second.
//! A server without a usable report counts as the mean. It must never take a server out of the choice.

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU32, AtomicU64};

use plimsoll_config::model;

use crate::ramp::WHOLE;
use crate::report::Report;
use crate::server::{Live, Server};
use crate::time::Millis;

/// How often the factors change, in milliseconds: A58's weight update period.
const UPDATE: u64 = 1_000;
/// No weight counts for more than this times the mean, or less than the mean divided by it: a wrong report can only do so much
/// (gRPC's C++ library caps likewise).
const MOST: f32 = 10.0;

/// What is known of the reports of one backend.
#[derive(Debug)]
pub(crate) struct Reported {
    blackout: u64,
    expiration: u64,
    penalty: f64,
    /// When the factors are worked out next, in milliseconds.
    next: AtomicU64,
    /// By server: the weight that the factors are worked out from, an `f32`, or [`UNKNOWN`]. Only of use to whoever works them out, and here so that a pick
    /// never allocates.
    weights: Box<[AtomicU32]>,
}

/// No number, as an `f32`.
const UNKNOWN: u32 = u32::MAX;

/// What one server reported last.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The weight, an `f32`, and below it the milliseconds of its report, wrapping; 0 for none.
    weight: AtomicU64,
    /// Since when it reports, in milliseconds and one more; 0 when it does not.
    since: AtomicU64,
    /// Of `WHOLE`; 0 stands for `WHOLE`.
    factor: AtomicU64,
}

impl Said {
    /// It was away: its reports count anew.
    pub(crate) fn begin(&self) {
        self.since.store(0, Relaxed);
    }

    pub(crate) fn factor(&self) -> u64 {
        match self.factor.load(Relaxed) {
            0 => WHOLE,
            factor => factor,
        }
    }
}

impl Reported {
    /// For so many servers.
    pub(crate) fn new(spec: &model::Reported, servers: usize) -> Reported {
        Reported {
            blackout: spec.blackout.as_millis() as u64,
            expiration: spec.expiration.as_millis() as u64,
            penalty: f64::from(spec.penalty) / 100.0,
            next: AtomicU64::new(0),
            weights: (0..servers).map(|_| AtomicU32::new(UNKNOWN)).collect(),
        }
    }

    /// Takes in a report. One from which no weight follows changes nothing (A58).
    pub(crate) fn hear(&self, live: &Live, report: &Report, now: Millis) {
        let Some(weight) = report.weight(self.penalty) else { return };
        let said = &live.said;
        if said.since.load(Relaxed) == 0 {
            said.since.store(now.0 + 1, Relaxed);
        }
        // Of two workers at the same instant one is lost, which the next report mends.
        said.weight.store(u64::from((weight as f32).to_bits()) << 32 | (now.0 & 0xffff_ffff), Relaxed);
    }

    /// The weight, unless it expired or the server has not reported for long enough.
    fn weight(&self, live: &Live, now: Millis) -> Option<f32> {
        let (packed, since) = (live.said.weight.load(Relaxed), live.said.since.load(Relaxed));
        if packed == 0 || since == 0 {
            return None;
        }
        let age = (now.0 as u32).wrapping_sub(packed as u32);
        let age = if age > u32::MAX / 2 { 0 } else { u64::from(age) }; // another worker's clock may be ahead
        if age >= self.expiration {
            live.said.begin();
            return None;
        }
        let weight = f32::from_bits((packed >> 32) as u32);
        (now.0 + 1 >= since + self.blackout).then_some(weight)
    }

    /// Works the factors out if it is time.
    pub(crate) fn refresh(&self, servers: &[Server], now: Millis) {
        let next = self.next.load(Relaxed);
        if now.0 < next || self.next.compare_exchange(next, now.0 + UPDATE, Relaxed, Relaxed).is_err() {
            return;
        }
        // Once each: a report that comes meanwhile counts in all that follows from it, or in nothing.
        for (own, server) in self.weights.iter().zip(servers) {
            own.store(self.weight(&server.live, now).map_or(UNKNOWN, f32::to_bits), Relaxed);
        }
        let weight =
            |own: &AtomicU32| Some(own.load(Relaxed)).filter(|&bits| bits != UNKNOWN).map(f32::from_bits);
        let known = || self.weights.iter().filter_map(weight);
        let count = known().count();
        if count < 2 {
            // A58: with fewer than two there is nothing to weigh against.
            servers.iter().for_each(|server| server.live.said.factor.store(0, Relaxed));
            return;
        }
        let mean = known().sum::<f32>() / count as f32;
        let bounded = |weight: f32| weight.clamp(mean / MOST, mean * MOST);
        let most = known().map(bounded).fold(if count < servers.len() { mean } else { 0.0 }, f32::max);
        for (server, own) in servers.iter().zip(&self.weights) {
            let factor = (bounded(weight(own).unwrap_or(mean)) / most * WHOLE as f32).round() as u64;
            server.live.said.factor.store(factor.clamp(1, WHOLE), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_config::model::Address;
    use std::sync::Arc;
    use std::time::Duration;

    const SECOND: u64 = 1_000;

    fn reported(servers: usize) -> Reported {
        let (blackout, expiration) = (Duration::from_secs(10), Duration::from_secs(180));
        Reported::new(&model::Reported { blackout, expiration, penalty: 100 }, servers)
    }

    fn servers(count: u16) -> Vec<Server> {
        let server = |i| Server {
            name: format!("s{i}").into(),
            address: Address::Name("a".into(), i),
            weight: 1,
            priority: 0,
            backup: false,
            max_requests: 1,
            check: None,
            health: Arc::default(),
            gradient: None,
            state: plimsoll_config::model::ServerState::Ready,
            says_down: false,
            live: Arc::default(),
        };
        (0..count).map(server).collect()
    }

    fn factors(servers: &[Server]) -> Vec<u64> {
        servers.iter().map(|s| s.live.said.factor()).collect()
    }

    fn says(requests: f64) -> Report {
        Report { cpu: 0.5, requests, ..Report::default() }
    }

    #[test]
    fn weights_count_after_the_blackout_and_until_they_expire() {
        let (reported, servers) = (reported(2), servers(2));
        let tell = |now: u64| {
            reported.hear(&servers[0].live, &says(10.0), Millis(now));
            reported.hear(&servers[1].live, &says(30.0), Millis(now));
        };
        tell(SECOND);
        reported.refresh(&servers, Millis(5 * SECOND));
        assert_eq!(factors(&servers), [WHOLE, WHOLE], "not yet");
        reported.refresh(&servers, Millis(11 * SECOND));
        assert_eq!(factors(&servers), [333, 1_000]);
        tell(100 * SECOND);
        reported.refresh(&servers, Millis(279 * SECOND));
        assert_eq!(factors(&servers), [333, 1_000]);
        reported.refresh(&servers, Millis(280 * SECOND));
        assert_eq!(factors(&servers), [WHOLE, WHOLE], "expired");
        tell(281 * SECOND);
        reported.refresh(&servers, Millis(285 * SECOND));
        assert_eq!(factors(&servers), [WHOLE, WHOLE], "and the blackout begins anew");
    }

    #[test]
    fn who_reports_nothing_counts_as_the_mean_and_one_alone_changes_nothing() {
        let (reported, servers) = (reported(3), servers(3));
        reported.hear(&servers[0].live, &says(10.0), Millis(0));
        reported.refresh(&servers, Millis(20 * SECOND));
        assert_eq!(factors(&servers), [WHOLE; 3]);
        reported.hear(&servers[1].live, &says(30.0), Millis(20 * SECOND));
        reported.refresh(&servers, Millis(40 * SECOND));
        assert_eq!(factors(&servers), [333, 1_000, 667]);
    }

    #[test]
    fn a_wrong_report_can_only_do_so_much() {
        let (reported, servers) = (reported(21), servers(21));
        for server in &servers {
            reported.hear(&server.live, &says(10.0), Millis(0));
        }
        reported.hear(&servers[0].live, &says(1e30), Millis(0));
        reported.refresh(&servers, Millis(20 * SECOND));
        assert!(factors(&servers).iter().all(|&factor| factor >= WHOLE / 100), "{:?}", factors(&servers));
    }

    #[test]
    fn factors_stay_as_they_are_for_a_second_and_a_server_that_was_away_waits_again() {
        let (reported, servers) = (reported(2), servers(2));
        reported.hear(&servers[0].live, &says(10.0), Millis(0));
        reported.hear(&servers[1].live, &says(30.0), Millis(0));
        reported.refresh(&servers, Millis(10 * SECOND));
        reported.hear(&servers[0].live, &says(30.0), Millis(10 * SECOND));
        reported.refresh(&servers, Millis(11 * SECOND - 1));
        assert_eq!(factors(&servers), [333, 1_000]);
        reported.refresh(&servers, Millis(11 * SECOND));
        assert_eq!(factors(&servers), [1_000, 1_000]);
        servers[1].live.said.begin();
        reported.hear(&servers[1].live, &says(90.0), Millis(12 * SECOND));
        reported.refresh(&servers, Millis(21 * SECOND));
        assert_eq!(factors(&servers), [1_000, 1_000]);
        reported.refresh(&servers, Millis(22 * SECOND));
        assert_eq!(factors(&servers), [333, 1_000]);
    }
}
