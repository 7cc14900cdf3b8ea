//! How long answers take lately: two quantiles of the last ten to twenty seconds, one pair for all workers.
//!
//! In go durations, out come a high quantile and the median, as of the last second. Buckets are an eighth of a power of two wide and the upper
//! bound is told, so a quantile is at most an eighth too large and never too small: no more requests are above it than it says. Must never say
//! anything on few durations.

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU32, AtomicU64};

use crate::time::Millis;

/// Fewer durations in the time that counts say nothing about a high quantile.
pub const LEAST: u64 = 100;
/// A half of the time that counts, in milliseconds.
const HALF: u64 = 10_000;
/// How often the quantiles are worked out anew.
const REFRESH: u64 = 1_000;
/// Eighths of powers of two of microseconds, up to 2^27: 134 s.
pub(crate) const BUCKETS: usize = 8 * 25;

/// Durations of something that happens again and again.
#[derive(Debug)]
pub struct Pace {
    /// The high quantile, in thousandths.
    per_mille: u32,
    /// The half that is being filled, and the one before.
    halves: [Box<[AtomicU32]>; 2],
    /// Which one is being filled, in the lowest bit, and above it since when, in milliseconds.
    turn: AtomicU64,
    /// When the quantiles are to be worked out, in milliseconds.
    due: AtomicU64,
    /// In microseconds; 0 for unknown.
    high: AtomicU64,
    median: AtomicU64,
}

impl Pace {
    /// Nothing is known; `per_mille` is the high quantile, 950 for p95.
    pub fn new(per_mille: u32) -> Pace {
        let half = || (0..BUCKETS).map(|_| AtomicU32::new(0)).collect();
        let unknown = || AtomicU64::new(0);
        Pace {
            per_mille,
            halves: [half(), half()],
            turn: unknown(),
            due: unknown(),
            high: unknown(),
            median: unknown(),
        }
    }

    /// The high quantile that it tells, in thousandths.
    pub fn per_mille(&self) -> u32 {
        self.per_mille
    }

    /// An answer came after so many microseconds.
    pub fn observe(&self, micros: u64, now: Millis) {
        self.refresh(now);
        let half = (self.turn.load(Relaxed) & 1) as usize;
        self.halves[half][bucket(micros)].fetch_add(1, Relaxed);
    }

    /// What the high quantile's part of the answers stay below, in microseconds; `None` as long as there are too few.
    pub fn high(&self, now: Millis) -> Option<u64> {
        self.refresh(now);
        Some(self.high.load(Relaxed)).filter(|&micros| micros > 0)
    }

    /// What half of them stay below.
    pub fn median(&self, now: Millis) -> Option<u64> {
        self.refresh(now);
        Some(self.median.load(Relaxed)).filter(|&micros| micros > 0)
    }

    /// One of those who come by works the quantiles out when that is due.
    #[inline]
    fn refresh(&self, now: Millis) {
        let due = self.due.load(Relaxed);
        if now.0 >= due && self.due.compare_exchange(due, now.0 + REFRESH, Relaxed, Relaxed).is_ok() {
            self.work_out(now);
        }
    }

    fn work_out(&self, now: Millis) {
        let turn = self.turn.load(Relaxed);
        let age = now.0.saturating_sub(turn >> 1);
        if age >= HALF {
            let next = (turn & 1) ^ 1;
            // What somebody counts there at this very moment is lost, which no quantile notices.
            self.halves[next as usize].iter().for_each(|count| count.store(0, Relaxed));
            if age >= 2 * HALF {
                self.halves[(turn & 1) as usize].iter().for_each(|count| count.store(0, Relaxed));
            }
            self.turn.store(now.0 << 1 | next, Relaxed);
        }
        let [one, other] = &self.halves;
        let counts =
            || one.iter().zip(other).map(|(a, b)| u64::from(a.load(Relaxed)) + u64::from(b.load(Relaxed)));
        let all: u64 = counts().sum();
        let quantile = |per_mille: u32| {
            let rank = (all * u64::from(per_mille)).div_ceil(1_000);
            let mut below = 0;
            let at = counts().position(|count| {
                below += count;
                below >= rank
            });
            if all < LEAST { 0 } else { at.map_or(0, upper_bound) }
        };
        self.high.store(quantile(self.per_mille), Relaxed);
        self.median.store(quantile(500), Relaxed);
    }
}

/// Eight buckets a power of two; below 8 µs one each.
pub(crate) fn bucket(micros: u64) -> usize {
    if micros < 8 {
        return micros as usize;
    }
    let power = 63 - micros.leading_zeros() as usize;
    ((power - 2) * 8 + (micros >> (power - 3) & 7) as usize).min(BUCKETS - 1)
}

/// The smallest duration of a bucket.
pub(crate) fn lower_bound(bucket: usize) -> u64 {
    bucket.checked_sub(1).map_or(0, |below| upper_bound(below) + 1)
}

/// The largest duration of a bucket.
pub(crate) fn upper_bound(bucket: usize) -> u64 {
    let (power, eighth) = (bucket / 8, (bucket % 8) as u64);
    if power == 0 { eighth } else { ((8 + eighth + 1) << (power - 1)) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn every_duration_is_in_the_bucket_whose_bound_is_next_above_it() {
        for micros in (0..100_000).chain((17..27).flat_map(|p| [(1 << p) - 1, 1 << p, (1 << p) + 1])) {
            let (at, bound) = (bucket(micros), upper_bound(bucket(micros)));
            assert!(bound >= micros && bound <= micros + micros / 8, "{micros}: {bound}");
            assert!(at == 0 || upper_bound(at - 1) < micros, "{micros}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn few_durations_say_nothing() {
        let pace = Pace::new(950);
        (0..LEAST - 1).for_each(|_| pace.observe(5_000, Millis(10)));
        assert_eq!(pace.high(Millis(1_010)), None);
        pace.observe(5_000, Millis(1_011));
        assert_eq!(pace.high(Millis(2_010)), Some(upper_bound(bucket(5_000))));
    }

    #[test]
    fn no_more_are_above_than_it_says_and_not_much_less() {
        let mut dice = Dice::new(8);
        for per_mille in [950, 990] {
            let pace = Pace::new(per_mille);
            let drawn: Vec<u64> = (0..20_000).map(|_| (-(1.0 - dice.unit()).ln() * 8_000.0) as u64).collect();
            drawn.iter().for_each(|&micros| pace.observe(micros, Millis(5)));
            let high = pace.high(Millis(1_005)).expect("there are enough");
            let above = drawn.iter().filter(|&&micros| micros > high).count() as f64 / 20_000.0;
            let allowed = 1.0 - f64::from(per_mille) / 1e3;
            assert!(above <= allowed && above >= allowed / 2.0, "{above}");
            let median = pace.median(Millis(1_005)).expect("there are enough");
            assert!((5_545..5_545 * 9 / 8 + 200).contains(&median), "{median}");
        }
    }

    #[test]
    fn what_is_older_than_twenty_seconds_is_forgotten() {
        let pace = Pace::new(950);
        (0..1_000).for_each(|_| pace.observe(80_000, Millis(0)));
        assert!(pace.high(Millis(9_000)).is_some_and(|high| high >= 80_000));
        (0..1_000).for_each(|_| pace.observe(1_000, Millis(10_500)));
        assert!(pace.high(Millis(12_000)).is_some_and(|high| high >= 80_000), "half of them");
        (0..1_000).for_each(|_| pace.observe(1_000, Millis(21_000)));
        assert!(pace.high(Millis(22_001)).is_some_and(|high| high < 1_200));
        assert_eq!(pace.high(Millis(60_000)), None);
    }
}
