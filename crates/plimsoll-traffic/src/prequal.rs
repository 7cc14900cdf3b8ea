//! Prequal: the server to take by what servers lately said of their load (Wydrowski et al., *Load is not what you should balance*, NSDI 2024).
//!
//! In go what servers report, unasked with an answer or asked by a probe, and which of them get requests; out comes the best of those
//! heard of: of the servers that are not hot the fastest, else the least loaded. One worker's memory: a pool that many share would send
//! all of them to the same server. It must never rely on what is old: with fewer than two fresh reports it has no opinion.

use std::cell::{Cell, RefCell};

use plimsoll_config::model;

use crate::recent::Recent;
use crate::time::Micros;

/// Reports kept ("16 suffices").
const POOL: usize = 16;
/// Counts of requests in flight that tell hot from cold: the latest.
const HEARD: usize = 64;
/// Reports that more come in than go out, for each that is used: the paper's delta.
const SURPLUS: f32 = 1.0;

/// What a server said.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Probe {
    server: u32,
    in_flight: u32,
    /// In microseconds: no NaN, and not negative.
    latency: f32,
    heard: Micros,
    uses: u32,
}

/// One worker's memory.
#[derive(Debug)]
pub(crate) struct Prequal {
    /// Above this share of what was heard a server is hot, in hundredths.
    quantile: u32,
    /// In microseconds.
    age: u64,
    /// Probes for each request; 0 where servers report with their answers.
    probes: f32,
    /// Reports removed for each request.
    removals: f32,
    /// Uses of a report.
    reuse: f32,
    pool: RefCell<Vec<Probe>>,
    heard: RefCell<Vec<u32>>,
    /// Where the next one goes in `heard`.
    place: Cell<usize>,
    /// The most in flight that is not hot; -1 when everybody is.
    threshold: Cell<i64>,
    /// Fractions that are carried over.
    owed_uses: Cell<f32>,
    owed_removals: Cell<f32>,
    owed_probes: Cell<f32>,
    /// Which is removed next: the oldest, or the worst.
    oldest: Cell<bool>,
    /// The tier that served last: probes go there.
    pub(crate) tier: Cell<usize>,
    pub(crate) recent: Recent,
}

impl Prequal {
    /// For `servers` that can be taken.
    pub(crate) fn new(spec: &model::Prequal, servers: usize, recent: Recent) -> Prequal {
        let probes = spec.probe.as_ref().map_or(0.0, |probe| probe.rate as f32 / 100.0);
        // One report for each answer is little: only one in four is thrown away before it is used up.
        let (incoming, removals) = if probes > 0.0 { (probes, probes.min(3.0) / 3.0) } else { (1.0, 0.25) };
        Prequal {
            quantile: spec.quantile,
            age: spec.age.as_micros() as u64,
            probes,
            removals,
            reuse: reuse(incoming, removals, servers),
            pool: RefCell::new(Vec::with_capacity(POOL + 1)),
            heard: RefCell::new(Vec::with_capacity(HEARD)),
            place: Cell::new(0),
            threshold: Cell::new(-1),
            owed_uses: Cell::new(0.0),
            owed_removals: Cell::new(0.0),
            owed_probes: Cell::new(0.0),
            oldest: Cell::new(true),
            tier: Cell::new(0),
            recent,
        }
    }

    /// Goes on with what was heard of servers that are still there; `place` says where, `None` for the others.
    pub(crate) fn remember(&self, before: &Prequal, place: impl Fn(u32) -> Option<u32>) {
        let known = before.pool.borrow();
        let there = known.iter().filter_map(|probe| Some(Probe { server: place(probe.server)?, ..*probe }));
        // Into the room that is there: what is collected anew has only just enough, and the next report would make it grow.
        self.pool.borrow_mut().extend(there);
        self.heard.borrow_mut().extend_from_slice(&before.heard.borrow());
        self.place.set(before.place.get());
        self.judge();
    }

    /// True where reports come by probes.
    pub(crate) fn asks(&self) -> bool {
        self.probes > 0.0
    }

    /// The best server heard of among those that `pass`; `None` with fewer than two fresh reports.
    pub(crate) fn choose(&self, now: Micros, passes: impl Fn(u32) -> bool) -> Option<u32> {
        let mut pool = self.pool.borrow_mut();
        pool.retain(|probe| now.since(probe.heard) < self.age);
        if pool.len() < 2 {
            return None;
        }
        // Going down from the best, since each one that is asked costs a look at a line that all cores write.
        let mut out = 0u32;
        let (best, server) = loop {
            let left = (0..pool.len()).filter(|&i| out >> i & 1 == 0);
            let best = left.min_by_key(|&i| self.rank(&pool[i]))?;
            if passes(pool[best].server) {
                break (best, pool[best].server);
            }
            out |= 1 << best;
        };
        pool[best].uses -= 1;
        if pool[best].uses == 0 {
            pool.swap_remove(best);
        }
        Some(server)
    }

    /// A server was picked.
    pub(crate) fn taken(&self, server: u32, now: Micros) {
        self.recent.count(server, now.millis());
        self.sent(server);
    }

    /// A request goes to `server`: what is known of it is corrected, reports are removed, probes become due.
    fn sent(&self, server: u32) {
        let mut pool = self.pool.borrow_mut();
        pool.iter_mut().filter(|probe| probe.server == server).for_each(|probe| probe.in_flight += 1);
        for _ in 0..carry(&self.owed_removals, self.removals) {
            self.remove(&mut pool);
        }
        // Where nobody fetches them, they don't pile up.
        self.owed_probes.set((self.owed_probes.get() + self.probes).min(POOL as f32));
    }

    /// Whether another probe is due; it then counts as sent.
    pub(crate) fn is_due(&self) -> bool {
        let owed = self.owed_probes.get();
        if owed >= 1.0 {
            self.owed_probes.set(owed - 1.0);
        }
        owed >= 1.0
    }

    /// A server said that so many requests are in flight there and how long one takes, in microseconds.
    pub(crate) fn hear(&self, server: u32, in_flight: u32, latency: f32, now: Micros) {
        self.note(in_flight);
        let mut pool = self.pool.borrow_mut();
        pool.retain(|probe| probe.server != server);
        let uses = carry(&self.owed_uses, self.reuse).max(1);
        pool.push(Probe { server, in_flight, latency, heard: now, uses });
        if pool.len() > POOL {
            let oldest = oldest(&pool).expect("it is not empty");
            pool.swap_remove(oldest);
        }
    }

    /// A server failed: what it said before, which may be the look of quick errors, is void.
    pub(crate) fn forget(&self, server: u32) {
        self.pool.borrow_mut().retain(|probe| probe.server != server);
    }

    /// Hot ones last, by their load; before them the others by latency, and of equals by load: as one number.
    #[inline]
    fn rank(&self, probe: &Probe) -> u64 {
        let hot = i64::from(probe.in_flight) > self.threshold.get();
        // Numbers that are not negative are ordered as their bits are, and leave the first one free.
        let latency = if hot { 0 } else { probe.latency.to_bits() & 0x7fff_ffff };
        u64::from(hot) << 63 | u64::from(latency) << 32 | u64::from(probe.in_flight)
    }

    /// Takes one out: by turns the oldest and the worst.
    fn remove(&self, pool: &mut Vec<Probe>) {
        let by_age = self.oldest.replace(!self.oldest.get());
        let worst = || (0..pool.len()).max_by_key(|&i| self.rank(&pool[i]));
        if let Some(place) = if by_age { oldest(pool) } else { worst() } {
            pool.swap_remove(place);
        }
    }

    /// Counts in what is in flight somewhere.
    fn note(&self, in_flight: u32) {
        let mut heard = self.heard.borrow_mut();
        if heard.len() < HEARD {
            heard.push(in_flight);
        } else {
            heard[self.place.get()] = in_flight;
            self.place.set((self.place.get() + 1) % HEARD);
        }
        drop(heard);
        self.judge();
    }

    /// Tells hot from cold by what is in flight at those that were heard.
    fn judge(&self) {
        let heard = self.heard.borrow();
        if heard.is_empty() {
            return;
        }
        self.threshold.set(match self.quantile {
            0 => -1,
            100.. => i64::MAX,
            quantile => {
                let mut sorted = [0; HEARD];
                let sorted = &mut sorted[..heard.len()];
                sorted.copy_from_slice(&heard);
                let place = quantile as usize * (sorted.len() - 1) / 100;
                i64::from(*sorted.select_nth_unstable(place).1)
            }
        });
    }
}

fn oldest(pool: &[Probe]) -> Option<usize> {
    (0..pool.len()).min_by_key(|&i| pool[i].heard)
}

/// How often a report is used, so that about as many come in as go out: the paper's b_reuse.
fn reuse(incoming: f32, removals: f32, servers: usize) -> f32 {
    let fresh = 1.0 - (POOL as f32 / servers.max(1) as f32).min(1.0);
    let surplus = fresh * incoming - removals;
    if surplus <= 0.0 {
        return POOL as f32; // too few servers: age and removal alone
    }
    ((1.0 + SURPLUS) / surplus).clamp(1.0, POOL as f32)
}

/// Whole units of what is owed with `more`; the fraction stays.
fn carry(owed: &Cell<f32>, more: f32) -> u32 {
    let sum = owed.get() + more;
    owed.set(sum.fract());
    sum as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000;

    fn prequal(quantile: u32) -> Prequal {
        let probe = Some(model::Probe { path: "/load".into(), rate: 300 });
        let spec = model::Prequal { quantile, age: Duration::from_secs(1), probe };
        Prequal::new(&spec, 100, Recent::new(0, &mut Dice::new(1)))
    }

    fn any(_: u32) -> bool {
        true
    }

    #[test]
    fn reports_are_used_as_often_as_the_paper_has_it() {
        assert!((reuse(3.0, 1.0, 100) - 1.32).abs() < 0.01);
        assert!((reuse(1.0, 0.25, 100) - 3.39).abs() < 0.01);
        assert_eq!(reuse(3.0, 1.0, 10), 16.0, "too few servers");
        let prequal = prequal(84);
        let uses: u32 = (0..1_000).map(|_| carry(&prequal.owed_uses, 1.32)).sum();
        assert!(uses.abs_diff(1_320) <= 1, "{uses}");
    }

    #[test]
    fn the_fastest_that_is_not_hot_goes_first_and_of_hot_ones_the_least_loaded() {
        let prequal = prequal(50);
        for (server, in_flight, latency) in [(0, 1, 9.0), (1, 2, 5.0), (2, 3, 7.0), (3, 9, 1.0)] {
            prequal.hear(server, in_flight, latency, Micros(1));
        }
        // Half of 1, 2, 3, 9 is 2: 0 and 1 are cold.
        let best = |not: &[u32]| prequal.choose(Micros(2), |server| !not.contains(&server));
        assert_eq!(best(&[]), Some(1));
        assert_eq!(best(&[1]), Some(0));
        assert_eq!(best(&[0, 1]), Some(2));
    }

    #[test]
    fn a_higher_quantile_never_makes_a_server_hot() {
        let mut dice = Dice::new(3);
        let reports: Vec<u32> = (0..40).map(|_| dice.below(20)).collect();
        let threshold = |quantile| {
            let prequal = prequal(quantile);
            reports.iter().zip(0..).for_each(|(&r, server)| prequal.hear(server, r, 1.0, Micros(1)));
            prequal.threshold.get()
        };
        let thresholds: Vec<i64> = (0..=100).map(threshold).collect();
        assert!(thresholds.is_sorted(), "{thresholds:?}");
        assert_eq!((thresholds[0], thresholds[100]), (-1, i64::MAX));
    }

    #[test]
    fn no_report_outlives_its_age_or_its_uses_and_one_alone_is_no_choice() {
        let prequal = prequal(84);
        prequal.hear(0, 1, 1.0, Micros(0));
        assert_eq!(prequal.choose(Micros(1), any), None);
        prequal.hear(1, 1, 2.0, Micros(SECOND / 2));
        prequal.hear(2, 1, 3.0, Micros(SECOND / 2));
        assert_eq!(prequal.choose(Micros(SECOND - 1), any), Some(0));
        assert_eq!(prequal.choose(Micros(SECOND), any), Some(1));
        assert_eq!(prequal.choose(Micros(2 * SECOND), any), None);
        let (mut picks, fresh) = (0, Micros(3 * SECOND));
        (0..POOL as u32).for_each(|server| prequal.hear(server, 1, 1.0, fresh));
        while prequal.choose(fresh, any).is_some() {
            picks += 1;
        }
        assert!((15..=22).contains(&picks), "16 reports of 1.32 uses: {picks}");
    }

    #[test]
    fn the_pool_keeps_sixteen_and_of_a_server_the_last() {
        let prequal = prequal(84);
        for server in 0..40 {
            prequal.hear(server, 1, 1.0, Micros(u64::from(server)));
            prequal.hear(server, 2, 1.0, Micros(u64::from(server)));
        }
        let pool = prequal.pool.borrow();
        let mut servers: Vec<u32> = pool.iter().map(|probe| probe.server).collect();
        servers.sort_unstable();
        assert_eq!(servers, (24..40).collect::<Vec<_>>());
        assert!(pool.iter().all(|probe| probe.in_flight == 2));
    }

    #[test]
    fn a_request_counts_there_and_takes_by_turns_the_oldest_and_the_worst() {
        let prequal = prequal(100);
        for (server, latency, at) in [(0, 1.0, 1), (1, 9.0, 2), (2, 2.0, 3), (3, 3.0, 4)] {
            prequal.hear(server, 1, latency, Micros(at));
        }
        let servers = || {
            let mut servers: Vec<u32> = prequal.pool.borrow().iter().map(|probe| probe.server).collect();
            servers.sort_unstable();
            servers
        };
        prequal.sent(2);
        assert_eq!(servers(), [1, 2, 3], "the oldest went");
        prequal.sent(2);
        assert_eq!(servers(), [2, 3], "the worst went");
        assert!(prequal.pool.borrow().iter().any(|probe| probe.server == 2 && probe.in_flight == 3));
        prequal.forget(2);
        assert_eq!(servers(), [3]);
    }

    #[test]
    fn three_probes_are_due_for_each_request_and_they_do_not_pile_up() {
        let prequal = prequal(84);
        let due = || (0..100).take_while(|_| prequal.is_due()).count();
        assert_eq!(due(), 0);
        prequal.sent(0);
        assert_eq!(due(), 3);
        (0..50).for_each(|_| prequal.sent(0));
        assert_eq!(due(), POOL);
    }
}
