//! What a simulated server knows of its own load, for those policies that are told: Prequal's estimate, and ORCA's figures.
//!
//! In go its answers with what was on it when each request came, and the work that it has done; out comes how long a request takes with as much on
//! it as there is now: the median of the latest answers whose requests found it most nearly so, in proportion where there is more or less on it now than they found. Else a
//! server that everybody runs to would seem quick for as long as nobody has come out of its queue, and one that has emptied would seem as slow as
//! it was, get nothing, and never learn better. Old answers don't count.
//! The network has no part in it. How busy it is it measures as an agent does, over whole periods: processor time that requests took, over what its
//! cores have. A slow processor needs more time for a request; one that a neighbour takes is not there to be used, and nothing is said of that.

use std::collections::VecDeque;

use plimsoll_traffic::Report;

/// Answers remembered.
const KEPT: usize = 64;
/// Of those that came nearest, so many of the latest.
const NEAREST: usize = 8;

/// How long it counts what it does before it says so, in nanoseconds: A58's usual period of reports.
const PERIOD: u64 = 10_000_000_000;
/// What the last request's time on a core counts, as in C3's own code.
const NEWEST: f64 = 0.9;

/// One server's memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gauge {
    answers: VecDeque<Answer>,
    /// The period at hand, what was done in it, and what was done in the one before.
    period: u64,
    now: Done,
    last: Done,
    /// The mean time of a request on a core, in units, mostly the last one's.
    service: f64,
}

/// What was done in a period.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Done {
    requests: u32,
    errors: u32,
    /// Processor time, in nanoseconds.
    busy: f64,
}

/// A request that is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// Processor time, in nanoseconds.
    pub(crate) busy: f64,
    /// Time on a core, in units: more than that while a neighbour takes some of it.
    pub(crate) service: f64,
    pub(crate) failed: bool,
}

/// What a server says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    /// As production reads it.
    pub(crate) report: Report,
    /// Requests that wait for a core, and the mean time of one on a core, in units: what C3 is told.
    pub(crate) queue: u32,
    pub(crate) service: f64,
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

    /// It has done something.
    pub(crate) fn done(&mut self, work: Work, at: u64) {
        let period = at / PERIOD;
        if period != self.period {
            self.last = if period == self.period + 1 { self.now } else { Done::default() };
            (self.period, self.now) = (period, Done::default());
        }
        self.now.requests += 1;
        self.now.errors += u32::from(work.failed);
        self.now.busy += work.busy;
        self.service +=
            if self.service == 0.0 { work.service } else { NEWEST * (work.service - self.service) };
    }

    /// What it says with `jobs` on it and so many cores; of its latency only what it has learned since `oldest`.
    pub(crate) fn say(&self, jobs: u32, cores: u32, oldest: u64) -> Said {
        let latency = self.latency(jobs, oldest).map(|nanoseconds| nanoseconds as f32 / 1_000.0);
        let seconds = PERIOD as f64 / 1e9;
        let report = Report {
            cpu: self.last.busy / (PERIOD as f64 * f64::from(cores)),
            requests: f64::from(self.last.requests) / seconds,
            errors: f64::from(self.last.errors) / seconds,
            in_flight: Some(jobs),
            latency,
            ..Report::default()
        };
        Said { report, queue: jobs.saturating_sub(cores), service: self.service }
    }

    /// What a request takes with `jobs` on the server, in nanoseconds; `None` without an answer since `oldest`.
    fn latency(&self, jobs: u32, oldest: u64) -> Option<u64> {
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

    #[test]
    fn says_what_it_did_in_the_last_whole_period() {
        let mut gauge = Gauge::default();
        let mut work = |at: u64, busy, failed| {
            gauge.done(Work { busy, service: busy / 1e9, failed }, at * 1_000_000_000);
        };
        (0..10).for_each(|second| work(second, 2e9, second == 0));
        work(10, 5e9, false);
        let Said { report, queue, service } = gauge.say(6, 4, 0);
        assert_eq!((report.cpu, report.requests, report.errors), (0.5, 1.0, 0.1), "20 of 40 seconds");
        assert_eq!((report.in_flight, queue), (Some(6), 2));
        assert!((service - 4.7).abs() < 1e-9, "a tenth of 2 and nine of 5: {service}");
        gauge.done(Work { busy: 1e9, service: 1.0, failed: false }, 35_000_000_000);
        assert_eq!(gauge.say(0, 4, 0).report.requests, 0.0, "nothing in the period before");
    }
}
