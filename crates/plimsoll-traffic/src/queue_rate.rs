//! How fast a queue moves: how many went in each tenth of the last second.
//!
//! In come those who go, out comes the most that went in one tenth. Servers that finish many requests at once (batches, a pause of a garbage
//! collector) move it in leaps, and the most of a second still says what one leap takes. It must not guess: before it has seen
//! a second it says nothing.

use crate::time::Micros;

/// A tenth of a second, in microseconds.
const TENTH: u64 = 100_000;
const TENTHS: u64 = 10;

/// The last second, in tenths.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    counts: [u64; TENTHS as usize],
    /// The tenth that is counted in now, and the one since when there was always somebody who went within a second.
    tenth: u64,
    since: Option<u64>,
}

impl Rate {
    /// Somebody goes.
    pub(crate) fn count(&mut self, now: Micros) {
        let tenth = self.turn(now);
        self.since.get_or_insert(tenth);
        self.counts[(tenth % TENTHS) as usize] += 1;
    }

    /// The most that went in a tenth of a second; `None` before a second has been seen.
    pub(crate) fn peak(&mut self, now: Micros) -> Option<u64> {
        let tenth = self.turn(now);
        let since = self.since?;
        (tenth >= since + TENTHS).then(|| self.counts.iter().copied().max().unwrap_or(0))
    }

    /// Forgets what is older than a second.
    fn turn(&mut self, now: Micros) -> u64 {
        let tenth = now.0 / TENTH;
        let passed = tenth.saturating_sub(self.tenth);
        for ahead in 1..=passed.min(TENTHS) {
            self.counts[((self.tenth + ahead) % TENTHS) as usize] = 0;
        }
        self.tenth = self.tenth.max(tenth);
        // A second in which nobody went: it stood still, or nobody waited. What comes is to be seen anew.
        if passed >= TENTHS || self.counts.iter().all(|&count| count == 0) {
            self.since = None;
        }
        self.tenth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tenth: u64) -> Micros {
        Micros(tenth * TENTH + 7)
    }

    #[test]
    fn says_nothing_before_a_second_and_then_the_most_of_a_tenth() {
        let mut rate = Rate::default();
        for tenth in 50..60 {
            (0..tenth - 45).for_each(|_| rate.count(at(tenth)));
            assert_eq!(rate.peak(at(tenth)), None);
        }
        assert_eq!(rate.peak(at(60)), Some(14));
        assert_eq!(rate.peak(at(68)), Some(14));
        rate.count(at(68));
        assert_eq!(rate.peak(at(69)), Some(1), "what is older than a second is forgotten");
    }

    #[test]
    fn a_second_without_anybody_is_a_new_beginning() {
        let mut rate = Rate::default();
        (0..30).for_each(|tenth| rate.count(at(tenth)));
        assert_eq!(rate.peak(at(29)), Some(1));
        assert_eq!(rate.peak(at(45)), None);
        rate.count(at(46));
        assert_eq!(rate.peak(at(47)), None);
    }

    #[test]
    fn a_clock_that_is_behind_changes_nothing() {
        let mut rate = Rate::default();
        (0..30).for_each(|tenth| rate.count(at(tenth)));
        assert_eq!(rate.peak(at(3)), Some(1));
    }
}
