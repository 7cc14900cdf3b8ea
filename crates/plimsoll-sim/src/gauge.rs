//! What a simulated server knows of its own load, for those policies that are told: Prequal's estimate.
//!
//! In go its answers with what was on it when each request came; out comes how long a request takes with as much on it as there is now:
//! the median of the latest answers whose requests found it most nearly so, in proportion where there is more or less on it now than they found. Else a
//! server that everybody runs to would seem quick for as long as nobody has come out of its queue, and one that has emptied would seem as slow as
//! it was, get nothing, and never learn better. Old answers don't count.
//! The network has no part in it.

use std::collections::VecDeque;

/// Answers remembered.
const KEPT: usize = 64;
/// Of those that came nearest, so many of the latest.
const NEAREST: usize = 8;

/// One server's memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gauge {
    answers: VecDeque<Answer>,
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    /// On the server when the request came.
    met: u32,
    took: u64,
    at: u64,
}

impl Gauge {
    /// An answer after `took` nanoseconds to a request that found `met` others.
    pub(crate) fn note(&mut self, met: u32, took: u64, at: u64) {
        if self.answers.len() == KEPT {
            self.answers.pop_front();
        }
        self.answers.push_back(Answer { met, took, at });
    }

    /// What a request takes with `jobs` on the server, in nanoseconds; `None` without an answer since `oldest`.
    pub(crate) fn latency(&self, jobs: u32, oldest: u64) -> Option<u64> {
        let fresh = || self.answers.iter().rev().take_while(|answer| answer.at >= oldest);
        let nearest = fresh().map(|answer| answer.met.abs_diff(jobs)).min()?;
        let mut took = [0; NEAREST];
        let mut count = 0;
        for answer in fresh().filter(|answer| answer.met.abs_diff(jobs) == nearest).take(NEAREST) {
            took[count] = answer.took * u64::from(jobs + 1) / u64::from(answer.met + 1);
            count += 1;
        }
        Some(*took[..count].select_nth_unstable(count / 2).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_median_of_the_nearest_load() {
        let mut gauge = Gauge::default();
        assert_eq!(gauge.latency(0, 0), None);
        for (met, took, at) in [(1, 10, 1), (1, 30, 2), (1, 20, 3), (5, 100, 4)] {
            gauge.note(met, took, at);
        }
        assert_eq!(gauge.latency(1, 0), Some(20));
        assert_eq!(gauge.latency(2, 0), Some(30), "half as much more");
        assert_eq!(gauge.latency(4, 0), Some(83), "a sixth less");
        assert_eq!(gauge.latency(11, 0), Some(200));
        assert_eq!(gauge.latency(1, 4), Some(33), "older ones don't count");
        assert_eq!(gauge.latency(1, 5), None);
    }
}
