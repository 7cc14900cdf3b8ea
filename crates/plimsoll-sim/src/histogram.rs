//! How often which value came: constant memory, values to within half a percent.
//!
//! In go values above 0, out come quantiles and the complementary distribution. A bucket is what shares the exponent and the
//! first seven bits of the fraction, so 128 to each doubling (as in HDR histograms). Sums are exact and kept beside.

/// Bits of the fraction that tell buckets apart.
const FINE: u32 = 7;
/// The smallest value told from 0: 2^-24 of a unit.
const LOW: u64 = (1023 - 24) << FINE;
/// The largest: 2^40 units.
const HIGH: u64 = (1023 + 40) << FINE;

/// Counts by value, with the sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    counts: Vec<u32>,
    total: u64,
    sum: f64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; (HIGH - LOW) as usize], total: 0, sum: 0.0 }
    }
}

impl Histogram {
    pub(crate) fn add(&mut self, value: f64) {
        let bucket = (value.to_bits() >> (52 - FINE)).clamp(LOW, HIGH - 1) - LOW;
        self.counts[bucket as usize] += 1;
        self.total += 1;
        self.sum += value;
    }

    pub(crate) fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.total += other.total;
        self.sum += other.sum;
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The exact mean; NaN of nothing.
    pub fn mean(&self) -> f64 {
        self.sum / self.total as f64
    }

    /// The value that a part `q` (0 to 1) of all does not exceed; NaN of nothing.
    pub fn quantile(&self, q: f64) -> f64 {
        let rank = ((self.total as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, &count) in self.counts.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                return (edge(bucket) + edge(bucket + 1)) / 2.0;
            }
        }
        f64::NAN
    }

    /// Points (x, part of all values above x), falling, one for each bucket in use.
    pub(crate) fn tail(&self) -> Vec<(f64, f64)> {
        let mut above = self.total;
        let used = self.counts.iter().enumerate().filter(|&(_, &count)| count > 0);
        used.map(|(bucket, &count)| {
            above -= u64::from(count);
            (edge(bucket + 1), above as f64 / self.total as f64)
        })
        .collect()
    }
}

/// The lower edge of a bucket.
fn edge(bucket: usize) -> f64 {
    f64::from_bits((bucket as u64 + LOW) << (52 - FINE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_half_a_percent() {
        let mut h = Histogram::default();
        (1..=100_000).for_each(|i| h.add(f64::from(i) / 100.0));
        for q in [0.001, 0.5, 0.9, 0.99, 0.999, 1.0] {
            assert!((h.quantile(q) / (1000.0 * q) - 1.0).abs() < 0.005, "{q}: {}", h.quantile(q));
        }
        assert!((h.mean() - 500.005).abs() < 1e-6);
    }

    #[test]
    fn merging_is_adding_all() {
        let (mut a, mut b, mut both) = (Histogram::default(), Histogram::default(), Histogram::default());
        for i in 1..100 {
            if i % 3 == 0 {
                a.add(f64::from(i));
            } else {
                b.add(f64::from(i));
            }
            both.add(f64::from(i));
        }
        a.merge(&b);
        assert_eq!((a.counts, a.total), (both.counts, both.total));
    }

    #[test]
    fn the_tail_falls_to_nothing() {
        let mut h = Histogram::default();
        [1.0, 2.0, 2.0, 8.0].iter().for_each(|&x| h.add(x));
        let tail: Vec<f64> = h.tail().into_iter().map(|(_, above)| above).collect();
        assert_eq!(tail, [0.75, 0.25, 0.0]);
        assert!(Histogram::default().quantile(0.5).is_nan() && Histogram::default().tail().is_empty());
    }

    #[test]
    fn what_is_beyond_its_range_is_counted_at_the_edge() {
        let mut h = Histogram::default();
        [0.0, 1e-30, 1e30].iter().for_each(|&x| h.add(x));
        assert_eq!(h.count(), 3);
    }
}
