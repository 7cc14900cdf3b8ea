//! How many requests a server may have in flight, found out by how long its answers take.
//!
//! In go latencies, how much was in flight, and the time; out comes a limit. A server without load answers in its least latency. Once it is full, what more it is
//! given waits there, and latency grows in proportion; so the limit goes by the gradient, the least latency over the one just seen, with room for its square root to find out whether there is more
//! (Netflix's concurrency-limits, Envoy's adaptive concurrency). A full server of `c` places settles at `tolerance * c + sqrt(limit)`: it is never idle, and waiting is done here, where it can be
//! ordered, given up and refused.
//!
//! The least latency is the median of a time with little load, never the least of many samples, which would be luck. Where there is no such time, half the limit is taken away for two windows now and
//! then, as BBR does, and at once when nothing is known or the limit has halved without latency becoming less; without that, a server that is always loaded would be thought to be slow, and its limit would drift upward. It must never fall below `least`, nor go by fast errors.

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::PoisonError;

use crate::sync::{Mutex, MutexGuard};

use plimsoll_config::model::AdaptiveConcurrency;

use crate::backend::Backend;
use crate::dice::Dice;
use crate::outcome::{Outcome, Verdict};
use crate::pace::{BUCKETS, bucket, lower_bound, upper_bound};
use crate::server::Live;
use crate::time::Micros;

/// Latencies that make a median: so many times the limit, within these bounds. The median of `n` exponential ones is off by `1.44 / sqrt(n)`, and the clamp at 1 makes of
/// that a limit that is too small by 0.4 times as much: 0.3 square roots, where there is room for a whole one.
const LIMITS: u32 = 4;
const FEWEST: u32 = 20;
const MOST: u32 = 1_000;
/// The fewest where the least latency is measured, which counts until the next time: that is then off by 14 %, which `tolerance` bears.
const MEASURED: u32 = 100;
/// A window is no shorter, in microseconds, nor than so many times the least latency; with few latencies it is so many times longer.
const SHORTEST: u64 = 50_000;
const LATENCIES: u64 = 2;
const PATIENCE: u64 = 10;
/// One window's part in the limit: it takes several to be sure, and some to be quick.
const WEIGHT: f64 = 0.5;
/// One quiet window's part in the least latency.
const QUIET: f64 = 0.3;
/// While a server is full, latency is in proportion to what is in flight; with so much less than that it is full no more.
const FULL: f64 = 1.2;
/// So much faster than what was thought the least is hardly luck.
const FASTER: f64 = 0.5;
/// Halved at most by one window.
const STEEPEST: f64 = 0.5;

/// What is known of one server; outlives configurations.
#[derive(Debug)]
pub(crate) struct Gradient {
    /// Latencies of the window, by bucket.
    counts: Box<[AtomicU32]>,
    count: AtomicU32,
    /// The most that was in flight.
    peak: AtomicU32,
    /// When the window may end, in microseconds.
    ends: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Clone, PartialEq)]
struct State {
    limit: f64,
    /// The least latency in microseconds; 0 when it is not known.
    least: f64,
    /// When that was measured, and the highest limit since.
    measured: Micros,
    highest: f64,
    /// When the window began.
    began: Micros,
    phase: Phase,
}

/// What a window is for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Steady,
    /// Half the limit was taken away; what is under way belongs to the old one.
    Settling(Probe),
    /// What is measured now is the least latency.
    Measuring(Probe),
}

/// A look at what latency is with less.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Probe {
    /// The limit to go back to.
    back: f64,
    /// The median before half was taken away, and what was in flight.
    median: f64,
    peak: f64,
}

/// What a window has seen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// In microseconds.
    median: f64,
    peak: u32,
    now: Micros,
}

/// What is told of a server's limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// Requests in flight at once; as large as it is where `max_requests` is less.
    pub limit: u32,
    /// The latency without load that it goes by, in microseconds; 0 while it is not known.
    pub least_latency: u64,
}

impl Gradient {
    pub(crate) fn new(rules: &AdaptiveConcurrency) -> Gradient {
        Gradient {
            counts: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(),
            count: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            ends: AtomicU64::new(0),
            state: Mutex::new(State {
                limit: f64::from(rules.start),
                least: 0.0,
                measured: Micros(0),
                highest: f64::from(rules.start),
                began: Micros(0),
                phase: Phase::Steady,
            }),
        }
    }

    pub(crate) fn told(&self) -> Limit {
        let state = self.state();
        Limit { limit: state.limit.round() as u32, least_latency: state.least as u64 }
    }

    /// Takes over what another process found.
    pub(crate) fn recall(&self, known: Limit, rules: &AdaptiveConcurrency, now: Micros) {
        let mut state = self.state();
        state.limit = f64::from(known.limit.max(rules.least));
        state.highest = state.limit;
        let most = upper_bound(BUCKETS - 1); // no more was ever counted
        (state.least, state.measured) = (known.least_latency.min(most) as f64, now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a failure took longer than an answer without load; not while that is not known.
    fn is_late(&self, took: u64) -> bool {
        let least = self.state().least;
        least > 0.0 && took as f64 >= least
    }

    /// An answer took `took` microseconds, and with it `in_flight` requests were on the server, whose limit is kept in `live`. True if that has risen. One of the workers
    /// ends the window; what others count at that very moment may be lost, which no median notices.
    fn observe(
        &self,
        (took, in_flight): (u64, u32),
        live: &Live,
        (rules, most): (&AdaptiveConcurrency, u32),
        now: Micros,
        seed: u64,
    ) -> bool {
        self.counts[bucket(took)].fetch_add(1, Relaxed);
        self.peak.fetch_max(in_flight, Relaxed);
        let count = self.count.fetch_add(1, Relaxed) + 1;
        if count < FEWEST || now.0 < self.ends.load(Relaxed) {
            return false;
        }
        let Ok(mut state) = self.state.try_lock() else { return false };
        let length = SHORTEST.max(LATENCIES * state.least as u64);
        let fewest = if matches!(state.phase, Phase::Measuring(_)) { MEASURED } else { FEWEST };
        let enough = (LIMITS.saturating_mul(state.limit as u32)).clamp(fewest, MOST);
        let since = now.since(state.began);
        if since < length || (count < enough && since < PATIENCE * length) {
            return false;
        }
        let (median, peak) = (self.median(), self.peak.swap(0, Relaxed));
        self.counts.iter().for_each(|count| count.store(0, Relaxed));
        self.count.store(0, Relaxed);
        state.step(&Seen { median, peak, now }, rules, most, seed);
        state.began = now;
        self.ends.store(now.0 + SHORTEST.max(LATENCIES * state.least as u64), Relaxed);
        // Under the lock, so that no older one comes after it.
        let limit = state.limit.round() as u32;
        let rises = limit > live.limit();
        live.set_limit(limit);
        rises
    }

    /// By a straight line within its bucket.
    fn median(&self) -> f64 {
        let counts: Vec<u32> = self.counts.iter().map(|count| count.load(Relaxed)).collect();
        let half = f64::from(counts.iter().sum::<u32>()) / 2.0;
        let mut below = 0.0;
        for (bucket, &count) in counts.iter().enumerate() {
            let count = f64::from(count);
            if count > 0.0 && below + count >= half {
                let (low, high) = (lower_bound(bucket) as f64, upper_bound(bucket) as f64 + 1.0);
                return (low + (high - low) * (half - below) / count).max(1.0);
            }
            below += count;
        }
        1.0
    }
}

impl State {
    /// A window has ended: what follows from what it has seen.
    fn step(&mut self, seen: &Seen, rules: &AdaptiveConcurrency, most: u32, seed: u64) {
        match self.phase {
            Phase::Settling(probe) => return self.phase = Phase::Measuring(probe),
            Phase::Measuring(probe) => {
                (self.least, self.measured) = (seen.median, seen.now);
                let in_proportion = probe.median * f64::from(seen.peak) / probe.peak;
                if seen.median < FULL * in_proportion && self.limit > f64::from(rules.least) {
                    self.probe(probe.back, seen); // it is still full with half of it, and may be with a quarter
                } else {
                    (self.limit, self.highest, self.phase) = (probe.back, probe.back, Phase::Steady);
                }
            }
            // Too little load to say anything but how fast it is without.
            Phase::Steady if f64::from(seen.peak) * 2.0 <= self.limit => {
                let known = self.least > 0.0;
                self.least =
                    if known { self.least + QUIET * (seen.median - self.least) } else { seen.median };
                self.measured = seen.now;
            }
            Phase::Steady => self.follow(seen, rules, seed),
        }
        // `most` may be less than `least` by a server's own word.
        self.limit = self.limit.max(f64::from(rules.least)).min(f64::from(most.max(1)));
    }

    fn follow(&mut self, seen: &Seen, rules: &AdaptiveConcurrency, seed: u64) {
        if self.least == 0.0 {
            return self.probe(self.limit, seen);
        }
        if seen.median < FASTER * self.least {
            self.least += QUIET * (seen.median - self.least);
        }
        let tolerance = f64::from(rules.tolerance) / 100.0;
        let gradient = (tolerance * self.least / seen.median).clamp(STEEPEST, 1.0);
        let next = self.limit * gradient + self.limit.sqrt();
        self.limit += WEIGHT * (next - self.limit);
        self.highest = self.highest.max(self.limit);
        // Not all servers at once.
        let part = 0.75 + 0.5 * Dice::new(seed ^ self.measured.0).unit();
        let is_due = seen.now.since(self.measured) as f64 >= rules.probe.as_micros() as f64 * part;
        // What takes as long with half as much in flight is slow by itself.
        if is_due || self.limit < self.highest / 2.0 {
            self.probe(self.limit, seen);
        }
    }

    fn probe(&mut self, back: f64, seen: &Seen) {
        self.phase = Phase::Settling(Probe { back, median: seen.median, peak: f64::from(seen.peak.max(1)) });
        self.limit /= 2.0;
    }
}

impl Backend {
    /// Notes how long a request took whose server was picked at `since`, and lets the server's limit follow.
    #[inline(never)]
    pub(crate) fn measure(&self, index: u32, since: Micros, outcome: Option<&Outcome>) {
        let (Some(rules), Some(outcome)) = (&self.adaptive, outcome) else { return };
        let server = &self.servers[index as usize];
        let Some(gradient) = &server.gradient else { return };
        let took = outcome.now.since(since);
        match outcome.result {
            Verdict::Answered => {}
            // An error may be fast because it is one. What failed late took so long at least.
            Verdict::Failed if gradient.is_late(took) => {}
            Verdict::Failed | Verdict::Cancelled => return,
        }
        let bounds = (rules, server.max_requests);
        // Who waits for room has more of it now.
        if gradient.observe((took, server.live.in_flight()), &server.live, bounds, outcome.now, server.seed())
        {
            self.poke(outcome.now);
        }
    }

    /// The limit of a server that was found out; `None` where it is what the file says.
    pub fn limit(&self, server: usize) -> Option<Limit> {
        self.adaptive.as_ref()?;
        self.servers[server].gradient.as_ref().map(|gradient| gradient.told())
    }

    /// Takes over what another process found out of a server's limit.
    pub(crate) fn recall_limit(&self, server: usize, known: Limit, now: Micros) {
        if let (Some(rules), Some(gradient)) = (&self.adaptive, &self.servers[server].gradient) {
            gradient.recall(known, rules, now);
            self.servers[server].live.set_limit(gradient.told().limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    /// A server of so many places that takes `service` each, and is always given all it may have; what is beyond its places waits there.
    struct Loaded {
        gradient: Gradient,
        live: Live,
        rules: AdaptiveConcurrency,
        places: f64,
        service: f64,
        dice: Dice,
        now: f64,
        most: u32,
    }

    impl Loaded {
        fn new(places: u32, seed: u64) -> Loaded {
            let rules = AdaptiveConcurrency::default();
            let gradient = Gradient::new(&rules);
            let (service, dice) = (10_000.0, Dice::new(seed));
            let live = Live::default();
            Loaded {
                gradient,
                live,
                rules,
                places: f64::from(places),
                service,
                dice,
                now: 0.0,
                most: 100_000,
            }
        }

        fn limit(&self) -> f64 {
            f64::from(self.gradient.told().limit)
        }

        /// For so many microseconds; gives the part of the capacity that was used, and the mean limit.
        fn run(&mut self, micros: f64, demand: f64) -> (f64, f64) {
            let until = self.now + micros;
            let (mut done, mut limits, mut time) = (0.0, 0.0, 0.0);
            while self.now < until {
                let in_flight = self.limit().min(demand);
                let busy = in_flight.min(self.places);
                let step = self.service / busy;
                self.now += step;
                done += 1.0;
                (limits, time) = (limits + self.limit() * step, time + step);
                // Exponential service, and in line before it.
                let drawn = -self.service * (1.0 - self.dice.unit()).ln();
                let waits = (in_flight - busy).max(0.0) / self.places * self.service;
                let took = (drawn + waits) as u64;
                let bounds = (&self.rules, self.most);
                self.gradient.observe(
                    (took, in_flight as u32),
                    &self.live,
                    bounds,
                    Micros(self.now as u64),
                    7,
                );
            }
            (done * self.service / self.places / micros, limits / time)
        }
    }

    #[test]
    fn a_limit_finds_the_capacity_and_keeps_it_busy() {
        for places in [10, 50, 400] {
            let mut server = Loaded::new(places, 3);
            server.run(20e6, 1e9);
            let (used, mean) = server.run(200e6, 1e9);
            let c = f64::from(places);
            assert!(used >= 0.95, "{places}: only {used} of it is used");
            assert!((c..=1.3 * c + c.sqrt() + 4.0).contains(&mean), "{places}: {mean}");
        }
    }

    #[test]
    fn it_follows_a_capacity_that_halves_and_comes_back() {
        let mut server = Loaded::new(100, 5);
        server.run(20e6, 1e9);
        server.places = 50.0;
        server.run(3e6, 1e9);
        let (used, mean) = server.run(100e6, 1e9);
        assert!(used > 0.95 && mean < 85.0, "{used} used at {mean}");
        server.places = 100.0;
        server.run(5e6, 1e9);
        let (used, mean) = server.run(100e6, 1e9);
        assert!(used > 0.95 && mean < 150.0, "{used} used at {mean}");
    }

    #[test]
    fn a_server_that_becomes_slower_for_good_is_believed_after_a_probe() {
        let mut server = Loaded::new(50, 9);
        server.run(20e6, 1e9);
        server.service = 30_000.0;
        let (used, _) = server.run(10e6, 1e9);
        assert!(used > 0.8, "{used} is used until that is known");
        let (used, mean) = server.run(100e6, 1e9);
        assert!(used > 0.95 && mean < 85.0, "{used} used at {mean}");
        let least = server.gradient.told().least_latency;
        assert!(
            (15 * MS..27 * MS).contains(&least),
            "the median of 30 ms is 20.8, and {least} µs is not near"
        );
    }

    #[test]
    fn without_load_it_stays_where_it_is_and_knows_how_fast_the_server_is() {
        let mut server = Loaded::new(50, 11);
        let before = server.limit();
        server.run(60e6, 5.0);
        assert_eq!(server.limit(), before);
        let least = server.gradient.told().least_latency;
        assert!((6 * MS..8 * MS).contains(&least), "{least}");
    }

    #[test]
    fn it_never_leaves_its_bounds() {
        let mut server = Loaded::new(1, 13);
        server.run(60e6, 1e9);
        // Its latency is known no better than with the least of 3: 1.1 x 3, and the square root.
        assert!((3.0..9.0).contains(&server.limit()), "{}", server.limit());
        server.rules.least = 30;
        server.run(2e6, 1e9);
        assert_eq!(server.limit(), 30.0);
        let mut server = Loaded::new(400, 13);
        server.most = 40;
        server.run(20e6, 1e9);
        assert!(server.limit() <= 40.0);
    }

    #[test]
    fn a_probe_gives_the_limit_back() {
        let rules = AdaptiveConcurrency::default();
        let mut state = State {
            limit: 60.0,
            least: 10_000.0,
            measured: Micros(0),
            highest: 60.0,
            began: Micros(0),
            phase: Phase::Steady,
        };
        let late = Micros(60_000_000);
        let step = |state: &mut State, median, peak| {
            state.step(&Seen { median, peak, now: late }, &rules, 1_000, 1);
        };
        step(&mut state, 12_000.0, 60);
        let Phase::Settling(probe) = state.phase else { panic!("{state:?}") };
        assert_eq!(state.limit, probe.back / 2.0);
        step(&mut state, 12_000.0, 60);
        assert_eq!(state.phase, Phase::Measuring(probe));
        step(&mut state, 11_000.0, 32);
        assert_eq!(
            (state.limit, state.least, state.phase, state.measured),
            (probe.back, 11_000.0, Phase::Steady, late)
        );
    }

    #[test]
    fn one_that_is_still_full_with_half_of_it_is_given_a_quarter() {
        let rules = AdaptiveConcurrency::default();
        let mut server = Loaded::new(4, 17);
        server.run(3e6, 1e9);
        let least = server.gradient.told().least_latency;
        assert!(
            (5 * MS..12 * MS).contains(&least),
            "{least} is not what it takes without load, begun at {}",
            rules.start
        );
    }

    #[test]
    fn fast_errors_and_clients_that_leave_say_nothing_and_what_fails_late_does() {
        use crate::balancer::{Ask, Balancer};
        use plimsoll_config::model::{Address, Balance, Server};
        use std::sync::Arc;
        let server = Server::new("a", Address::Name("a".into(), 80));
        let adaptive = Some(AdaptiveConcurrency { start: 4, ..AdaptiveConcurrency::default() });
        let spec = plimsoll_config::model::Backend::new("b", vec![server], Balance::Random);
        let spec = plimsoll_config::model::Backend { adaptive, ..spec };
        let backend = Arc::new(Backend::new(&spec, None));
        let mut dice = Dice::new(1);
        let balancer = Balancer::new(Arc::clone(&backend), &mut dice);
        let mut time = 0;
        let mut ask = |took: u64, verdict: Verdict, times: u64| {
            for _ in 0..times {
                let ask = Ask { now: Micros(time), key: 0, tried: &[] };
                let lease = balancer.pick(&ask, &mut dice).expect("it has room");
                time += took;
                lease.finish(&Outcome::new(Micros(time), verdict));
            }
            backend.limit(0).expect("it is found out").least_latency
        };
        assert_eq!(ask(MS / 5, Verdict::Failed, 500), 0, "nothing is known, and an error tells nothing");
        let least = ask(10 * MS, Verdict::Answered, 500);
        assert!((9 * MS..12 * MS).contains(&least), "{least}");
        assert_eq!(ask(MS, Verdict::Failed, 2_000), least);
        assert_eq!(ask(MS, Verdict::Cancelled, 2_000), least);
        assert!(ask(100 * MS, Verdict::Failed, 500) > least);
        assert_eq!(backend.servers[0].most(), 4);
        let off = Backend::new(&plimsoll_config::model::Backend { adaptive: None, ..spec }, Some(&backend));
        assert_eq!(off.servers[0].most(), u32::MAX);
        // What is under way by the old rules says nothing of the new ones.
        off.servers[0].live.set_limit(2);
        assert_eq!(off.servers[0].most(), u32::MAX);
    }

    #[test]
    fn what_another_process_found_is_taken_over_whole_and_no_nonsense_stops_a_window() {
        let rules = AdaptiveConcurrency::default();
        let gradient = Gradient::new(&rules);
        gradient.recall(Limit { limit: 6, least_latency: u64::MAX }, &rules, Micros(1));
        let state = gradient.state().clone();
        assert_eq!((state.limit, state.highest, state.phase), (6.0, 6.0, Phase::Steady));
        let longest = LATENCIES * state.least as u64;
        assert!(longest > 0 && longest <= LATENCIES * upper_bound(BUCKETS - 1), "{longest}");
    }
}
