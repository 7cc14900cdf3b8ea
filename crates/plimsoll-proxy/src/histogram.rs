//! How long things took, as counts in fixed buckets: one writer, any number of readers.
//!
//! Durations go in; out come the counts below each bound of [`BOUNDS`] and the sum, in the form that Prometheus wants, and
//! from them quantiles for people. The bounds are part of the product's interface: dashboards and alerts name them.

use std::time::Duration;

use crate::stats::Counter;

/// The buckets' upper bounds, in microseconds; one more bucket takes what is longer.
pub const BOUNDS: [u64; 17] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

const BUCKETS: usize = BOUNDS.len() + 1;

/// Counts of durations. Its owner is the only writer.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Counter; BUCKETS],
    /// In microseconds.
    sum: Counter,
}

impl Histogram {
    pub(crate) fn observe(&self, took: Took) {
        self.buckets[took.bucket].add(1);
        self.sum.add(took.micros);
    }
}

/// A duration and its bucket, found once for all histograms that count it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    micros: u64,
    bucket: usize,
}

impl From<Duration> for Took {
    fn from(duration: Duration) -> Took {
        // In 64 bits: this is done for every request, and half a million years are enough.
        let micros = duration.as_secs().wrapping_mul(1_000_000) + u64::from(duration.subsec_micros());
        Took { micros, bucket: BOUNDS.partition_point(|&bound| bound < micros) }
    }
}

/// What one or more histograms have counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durations {
    /// By bucket; the last one is for what is longer than every bound.
    pub buckets: [u64; BUCKETS],
    /// Of all durations together, in microseconds.
    pub sum: u64,
}

impl Durations {
    pub(crate) fn add(&mut self, histogram: &Histogram) {
        for (total, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *total += bucket.read();
        }
        self.sum += histogram.sum.read();
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The duration that this share of all stayed below, in microseconds, by straight lines within the buckets, as Prometheus'
    /// `histogram_quantile` has it; `None` if there were none. Beyond the last bound the last bound.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let rank = share * self.count() as f64;
        let (mut before, mut low) = (0, 0);
        for (&bucket, &bound) in self.buckets.iter().zip(&BOUNDS) {
            if bucket > 0 && (before + bucket) as f64 >= rank {
                let part = (rank - before as f64) / bucket as f64;
                return Some(low + ((bound - low) as f64 * part) as u64);
            }
            (before, low) = (before + bucket, bound);
        }
        (self.count() > 0).then_some(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: &[u64]) -> Durations {
        let histogram = Histogram::default();
        micros.iter().for_each(|&m| histogram.observe(Duration::from_micros(m).into()));
        let mut durations = Durations::default();
        durations.add(&histogram);
        durations
    }

    #[test]
    fn a_bound_belongs_to_the_bucket_that_it_closes() {
        for (n, &bound) in BOUNDS.iter().enumerate() {
            assert_eq!(of(&[bound]).buckets[n], 1, "{bound}");
            assert_eq!(of(&[bound + 1]).buckets[n + 1], 1, "{bound} and one");
        }
        assert_eq!(of(&[0]).buckets[0], 1);
    }

    #[test]
    fn nothing_is_lost() {
        let durations = of(&[1, 999, 70_000_000, u64::MAX / 4]);
        assert_eq!((durations.count(), durations.sum), (4, 70_001_000 + u64::MAX / 4));
    }

    #[test]
    fn quantiles_lie_in_the_bucket_of_their_rank() {
        let durations = of(&[[700; 98].as_slice(), &[40_000, 80_000]].concat());
        assert_eq!(durations.quantile(0.5), Some(500 + 500 * 50 / 98));
        assert_eq!(durations.quantile(0.99), Some(50_000));
        assert_eq!(durations.quantile(1.0), Some(100_000));
        assert_eq!(of(&[90_000_000]).quantile(0.5), Some(60_000_000));
        assert_eq!(of(&[]).quantile(0.5), None);
    }
}
