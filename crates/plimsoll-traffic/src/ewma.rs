//! How long a server is expected to take: peak EWMA, as Finagle and linkerd have it, with two of its faults mended.
//!
//! In go the latencies that all workers see, out comes a cost, by which the cheaper of two servers drawn is taken. What is
//! known about a server is shared (`Live`); the mean over all of them is this worker's own. A server that hangs must
//! never look fast: Finagle's estimate fades to nothing while no answer comes, so the server that hangs draws
//! nearly everything. Here it fades to the mean, and is never less than the mean age of the requests that wait.

use std::cell::Cell;
use std::time::Duration;

use crate::outcome::{Outcome, Verdict};
use crate::recent::Recent;
use crate::server::Live;
use crate::time::Micros;

/// What a failure counts as, in microseconds, unless it took longer: errors that come fast must not look like speed.
pub(crate) const PENALTY: f32 = 1_000_000.0;
/// What is expected of servers before anybody answered, in microseconds (linkerd's default).
const UNKNOWN: f32 = 30_000.0;
/// Samples that the mean over all servers remembers.
const MEMORY: f32 = 1_000.0;

/// One worker's memory.
#[derive(Debug)]
pub(crate) struct Ewma {
    /// Microseconds until a sample counts 1/e.
    decay: f32,
    /// The mean latency of all servers, in microseconds, and how many samples it is made of (up to `MEMORY`).
    fleet: Cell<f32>,
    samples: Cell<f32>,
    pub(crate) recent: Recent,
}

/// What a request would cost at a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Requests in flight there.
    pub(crate) in_flight: u32,
    /// Its weight as a part of the mean weight.
    pub(crate) weight: f32,
}

impl Ewma {
    /// Begins with the mean of what is known of `servers`.
    pub(crate) fn new<'a>(decay: Duration, servers: impl Iterator<Item = &'a Live>, recent: Recent) -> Ewma {
        let known: Vec<f32> = servers.filter_map(Live::latency).map(|(latency, _)| latency).collect();
        let mean = known.iter().sum::<f32>() / known.len().max(1) as f32;
        let fleet = Cell::new(if known.is_empty() { UNKNOWN } else { mean });
        let samples = Cell::new((known.len() as f32).min(MEMORY));
        Ewma { decay: decay.as_micros() as f32, fleet, samples, recent }
    }

    /// The expected latency in microseconds: the estimate, on its way back to the mean of all servers where it is above;
    /// never below the mean age of the requests that wait.
    pub(crate) fn latency(&self, live: &Live, now: Micros) -> f32 {
        let fleet = self.fleet.get();
        let estimate = match live.latency() {
            None => fleet,
            Some((latency, _)) if latency <= fleet => latency,
            Some((latency, at)) => fleet + (latency - fleet) * self.fading(at, now),
        };
        estimate.max(live.mean_wait(now))
    }

    /// The latency for the place in line that a request would get. With equal weights it is `latency * (in_flight + 1)`.
    /// The weight divides only those in flight: idle servers that are equally fast stay equal, and are taken by weight because they
    /// are drawn and counted by it. (Divided as a whole, the heavier of two idle servers would get everything.)
    pub(crate) fn cost(&self, live: &Live, load: Load, now: Micros) -> f32 {
        self.latency(live, now) * (1.0 + load.in_flight as f32 / load.weight)
    }

    /// Takes in what became of a request that was sent at `since`.
    pub(crate) fn learn(&self, live: &Live, since: Micros, outcome: &Outcome) {
        let took = outcome.now.since(since) as f32;
        let before = live.latency();
        let sample = match outcome.result {
            Verdict::Answered => took,
            Verdict::Failed => took.max(PENALTY),
            // The answer would have taken longer than this: that can only raise an estimate.
            Verdict::Cancelled if took > before.map_or(self.fleet.get(), |(latency, _)| latency) => took,
            Verdict::Cancelled => return,
        };
        let next = match before {
            Some((latency, at)) if sample < latency => {
                let kept = self.fading(at, outcome.now);
                latency * kept + sample * (1.0 - kept)
            }
            _ => sample,
        };
        live.set_latency(next, outcome.now);
        let samples = (self.samples.get() + 1.0).min(MEMORY);
        self.samples.set(samples);
        self.fleet.set(self.fleet.get() + (sample - self.fleet.get()) / samples);
    }

    /// How much of an estimate made at `at` is left.
    fn fading(&self, at: u32, now: Micros) -> f32 {
        (-(elapsed_millis(at, now) as f32) * 1_000.0 / self.decay).exp()
    }
}

/// The stamp of a time: its milliseconds, wrapping after 49 days, which a difference bears.
pub(crate) fn stamp(now: Micros) -> u32 {
    now.millis().0 as u32
}

/// Milliseconds since the stamp; 0 when another worker's clock is ahead.
fn elapsed_millis(stamped: u32, now: Micros) -> u32 {
    let elapsed = stamp(now).wrapping_sub(stamped);
    if elapsed > u32::MAX / 2 { 0 } else { elapsed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    const SECOND: u64 = 1_000_000;

    fn ewma() -> Ewma {
        Ewma::new(Duration::from_secs(10), [].into_iter(), Recent::new(0, &mut Dice::new(1)))
    }

    fn answered(ewma: &Ewma, live: &Live, since: u64, now: u64) {
        ewma.learn(live, Micros(since), &Outcome::new(Micros(now), Verdict::Answered));
    }

    fn close(a: f32, b: f32) -> bool {
        (a - b).abs() <= b.abs() * 1e-3
    }

    #[test]
    fn a_rise_counts_at_once_and_a_fall_by_the_time_since() {
        let (ewma, live) = (ewma(), Live::default());
        answered(&ewma, &live, 0, 1_000);
        assert_eq!(live.latency().unwrap().0, 1_000.0);
        answered(&ewma, &live, 0, 50_000);
        assert_eq!(live.latency().unwrap().0, 50_000.0);
        // Ten seconds later one sample of 1 ms: 1/e of the old is left.
        answered(&ewma, &live, 10 * SECOND + 49_000, 10 * SECOND + 50_000);
        let wanted = 50_000.0 * (-1f32).exp() + 1_000.0 * (1.0 - (-1f32).exp());
        assert!(close(live.latency().unwrap().0, wanted), "{:?}", live.latency());
    }

    #[test]
    fn an_estimate_above_the_mean_fades_to_the_mean_and_one_below_stays() {
        let (ewma, slow, fast) = (ewma(), Live::default(), Live::default());
        ewma.fleet.set(10_000.0);
        slow.set_latency(110_000.0, Micros(0));
        fast.set_latency(1_000.0, Micros(0));
        let wanted = 10_000.0 + 100_000.0 * (-1f32).exp();
        assert!(close(ewma.latency(&slow, Micros(10 * SECOND)), wanted));
        assert!(close(ewma.latency(&slow, Micros(10_000 * SECOND)), 10_000.0), "never below the mean");
        assert_eq!(ewma.latency(&fast, Micros(10_000 * SECOND)), 1_000.0);
    }

    #[test]
    fn a_server_that_hangs_looks_slower_with_every_second() {
        let (ewma, live) = (ewma(), Live::default());
        answered(&ewma, &live, 0, 1_000);
        live.begin_wait(Micros(SECOND));
        live.begin_wait(Micros(3 * SECOND));
        assert_eq!(ewma.latency(&live, Micros(4 * SECOND)), 2.0 * SECOND as f32);
        assert_eq!(ewma.latency(&live, Micros(64 * SECOND)), 62.0 * SECOND as f32);
        live.end_wait(Micros(SECOND));
        live.end_wait(Micros(3 * SECOND));
        assert_eq!(ewma.latency(&live, Micros(64 * SECOND)), 1_000.0);
    }

    #[test]
    fn a_failure_costs_a_second_however_fast_it_came() {
        let (ewma, live) = (ewma(), Live::default());
        let fail = |since, now| ewma.learn(&live, Micros(since), &Outcome::new(Micros(now), Verdict::Failed));
        fail(0, 100);
        assert_eq!(live.latency().unwrap().0, PENALTY);
        fail(0, 5 * SECOND);
        assert_eq!(live.latency().unwrap().0, 5.0 * SECOND as f32);
    }

    #[test]
    fn giving_up_can_only_raise_an_estimate() {
        let (ewma, live) = (ewma(), Live::default());
        answered(&ewma, &live, 0, 40_000);
        let give_up = |now| ewma.learn(&live, Micros(0), &Outcome::new(Micros(now), Verdict::Cancelled));
        give_up(100);
        assert_eq!(live.latency().unwrap().0, 40_000.0);
        give_up(80_000);
        assert_eq!(live.latency().unwrap().0, 80_000.0);
    }

    #[test]
    fn more_in_flight_or_older_requests_never_lower_the_cost() {
        let (ewma, mut dice) = (ewma(), Dice::new(4));
        ewma.fleet.set(5_000.0);
        for _ in 0..10_000 {
            let live = Live::default();
            let now = Micros(100 * SECOND);
            if dice.below(3) > 0 {
                live.set_latency(dice.below(1_000_000) as f32, Micros(dice.below_u64(now.0)));
            }
            let weight = 0.1 + dice.unit() as f32 * 5.0;
            let in_flight = dice.below(100);
            let cost = |in_flight, live: &Live, now| ewma.cost(live, Load { in_flight, weight }, now);
            assert!(cost(in_flight + 1, &live, now) >= cost(in_flight, &live, now));
            live.begin_wait(Micros(dice.below_u64(now.0)));
            let later = Micros(now.0 + dice.below_u64(10 * SECOND));
            let (before, after) = (live.mean_wait(now), live.mean_wait(later));
            assert!(after >= before && ewma.latency(&live, later) >= after);
        }
    }

    #[test]
    fn the_mean_begins_with_what_is_known_and_is_a_plain_mean_at_first() {
        let (a, b) = (Live::default(), Live::default());
        a.set_latency(2_000.0, Micros(5));
        let recent = Recent::new(0, &mut Dice::new(1));
        let ewma = Ewma::new(Duration::from_secs(10), [&a, &b].into_iter(), recent);
        assert_eq!(ewma.latency(&b, Micros(6)), 2_000.0);
        answered(&ewma, &a, 0, 4_000);
        assert_eq!(ewma.latency(&b, Micros(4_000)), 3_000.0);
        assert_eq!(super::tests::ewma().latency(&b, Micros(0)), UNKNOWN);
    }

    #[test]
    fn stamps_bear_the_wrap_and_a_clock_that_is_behind() {
        let late = Micros((u64::from(u32::MAX) + 5) * 1_000);
        assert_eq!(elapsed_millis(u32::MAX - 4, late), 9);
        assert_eq!(elapsed_millis(stamp(Micros(9_000)), Micros(5_000)), 0);
    }
}
