//! How late a worker's event loop is.
//!
//! In go its ticks, each with when it was due; out comes, for whoever looks now and then, by how much it was late at the least since the last look. One late
//! tick among punctual ones says little, so the least counts. A loop that does not tick at all is later the longer one looks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::deadline::TICK;

/// Lateness of one worker, which writes it; one other thread looks.
#[derive(Debug)]
pub(crate) struct Lag {
    since: Instant,
    /// The least since somebody looked, in microseconds; `u64::MAX` before the first tick.
    least: AtomicU64,
    /// When the next tick is due, in microseconds after `since`.
    due: AtomicU64,
}

impl Lag {
    /// Of a worker that is to begin.
    pub(crate) fn new(now: Instant) -> Lag {
        // Until its first tick it is not late: a start takes as long as it takes.
        Lag { since: now, least: AtomicU64::new(0), due: AtomicU64::new(0) }
    }

    /// The loop ticks now, and should have when it was due. The next tick is due one `TICK` from now.
    pub(crate) fn tick(&self, due: Instant, now: Instant) {
        // Two facts by themselves: who reads an old one of them is told of a lateness that was true a moment ago.
        self.least.fetch_min(micros(now.saturating_duration_since(due)), Ordering::Relaxed);
        self.due.store(micros(now.saturating_duration_since(self.since) + TICK), Ordering::Relaxed);
    }

    /// By how much it was late since the last look, at the least; without a tick, by how much it is.
    pub(crate) fn take(&self, now: Instant) -> Duration {
        let least = self.least.swap(u64::MAX, Ordering::Relaxed);
        if least != u64::MAX {
            return Duration::from_micros(least);
        }
        let due = self.since + Duration::from_micros(self.due.load(Ordering::Relaxed));
        now.saturating_duration_since(due)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn one_late_tick_among_punctual_ones_says_nothing() {
        let begin = Instant::now();
        let lag = Lag::new(begin);
        assert_eq!(lag.take(begin), Duration::ZERO);
        lag.tick(begin + ms(100), begin + ms(900));
        lag.tick(begin + ms(950), begin + ms(953));
        assert_eq!(lag.take(begin + ms(1_000)), ms(3));
    }

    #[test]
    fn late_ticks_are_as_late_as_they_were_however_often_one_looks() {
        let begin = Instant::now();
        let lag = Lag::new(begin);
        lag.take(begin);
        lag.tick(begin + ms(50), begin + ms(1_300));
        lag.tick(begin + ms(1_350), begin + ms(2_550));
        assert_eq!(lag.take(begin + ms(2_600)), ms(1_200));
    }

    #[test]
    fn a_loop_that_does_not_tick_is_later_with_every_look() {
        let begin = Instant::now();
        let lag = Lag::new(begin);
        lag.tick(begin, begin);
        let looks = [500, 1_000, 1_500].map(|at| lag.take(begin + ms(at)));
        assert_eq!(looks, [Duration::ZERO, ms(950), ms(1_450)], "the first look takes the punctual tick");
    }
}
