//! What came of a run: counts, latencies with their confidence, the load of every server over time.
//!
//! In go the ends of requests and looks at the servers, out come figures. Latency is what clients waited: a good answer's
//! sojourn, or the time until the client or the balancer gave up, since a figure that left those out would praise the policy that
//! loses most. Failures and refusals are counted apart: a fast error is no fast answer.

use crate::histogram::Histogram;

/// Batches for the confidence of means (Law, Simulation Modeling and Analysis, 9.5.3).
pub const BATCHES: usize = 20;
/// Student's t for 97.5 % and `BATCHES - 1` degrees of freedom.
const T: f64 = 2.093;
/// Loads that the census tells apart.
const LEVELS: usize = 64;
/// Bins of a series at most.
pub(crate) const BINS: usize = 4_000;

/// How requests ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// With a good answer.
    pub good: u64,
    /// With an answer that says the server failed, or a broken connection.
    pub failed: u64,
    /// With no server to go to.
    pub refused: u64,
    /// With nobody waiting any more.
    pub timed_out: u64,
}

impl Ends {
    /// All of them.
    pub fn all(&self) -> u64 {
        self.good + self.failed + self.refused + self.timed_out
    }

    fn count(&mut self, end: End) {
        match end {
            End::Good => self.good += 1,
            End::Failed => self.failed += 1,
            End::Refused => self.refused += 1,
            End::TimedOut => self.timed_out += 1,
        }
    }

    fn merge(&mut self, other: &Ends) {
        self.good += other.good;
        self.failed += other.failed;
        self.refused += other.refused;
        self.timed_out += other.timed_out;
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Good,
    Failed,
    Refused,
    TimedOut,
}

impl End {
    /// Whether what was waited counts as latency: a fast error is no fast answer.
    fn is_latency(self) -> bool {
        matches!(self, End::Good | End::TimedOut)
    }
}

/// What happened in one bin.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bin {
    /// Requests on each server when the bin ended.
    pub load: Vec<u32>,
    /// Attempts that each server was given.
    pub assigned: Vec<u32>,
    /// Requests that arrived.
    pub arrived: u64,
    /// Those that ended well.
    pub good: u64,
}

/// What happened over time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// In units.
    pub width: f64,
    /// From the start.
    pub bins: Vec<Bin>,
}

/// Where the keys of a hash went when servers were taken out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moved {
    /// The fullest server's keys over the mean, before.
    pub fullest: f64,
    /// The part of all keys that have another server afterwards.
    pub moved: f64,
    /// The part that had to: their server is gone.
    pub had_to: f64,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What clients waited, in units, of requests measured.
    pub latency: Histogram,
    /// Their mean and number by batch, in order of arrival.
    pub batches: Vec<(f64, u64)>,
    /// How the measured ended.
    pub ends: Ends,
    /// How those of the high class ended, which are part of all.
    pub high: Ends,
    /// What those of the high class waited, as `latency`.
    pub high_latency: Histogram,
    /// How those ended whose key is not the commonest; none where each has its own.
    pub modest: Ends,
    /// Of all that arrived, those that were still on their way when nothing more could happen.
    pub stuck: u64,
    /// Requests in all; tries of clients beyond the first don't count.
    pub arrived: u64,
    /// Attempts given to each server in all.
    pub assigned: Vec<u64>,
    /// Servers found with so many requests on them, by arrivals of requests.
    pub census: Vec<u64>,
    /// The time from the warm-up's end to the last event, in units.
    pub span: f64,
    /// Requests in the system, averaged over it.
    pub mean_in_system: f64,
    /// What those spent in the system who failed or were refused, in units.
    pub lost_time: f64,
    /// Work done for those who had left, in units.
    pub wasted: f64,
    /// Over time; where several runs were added up, of the first.
    pub series: Series,
    /// The same of the others.
    pub(crate) others: Vec<Series>,
    /// If servers were taken out.
    pub moved: Option<Moved>,
    /// Simulated events.
    pub events: u64,
    /// The world's capacity, for what is relative to it.
    pub(crate) capacity: f64,
    /// When its last change has happened.
    pub(crate) last_change: f64,
}

impl Report {
    pub(crate) fn new(servers: usize, capacity: f64, last_change: f64) -> Report {
        Report {
            latency: Histogram::default(),
            batches: vec![(0.0, 0); BATCHES],
            ends: Ends::default(),
            high: Ends::default(),
            high_latency: Histogram::default(),
            modest: Ends::default(),
            stuck: 0,
            arrived: 0,
            assigned: vec![0; servers],
            census: vec![0; LEVELS],
            span: 0.0,
            mean_in_system: 0.0,
            lost_time: 0.0,
            wasted: 0.0,
            series: Series::default(),
            others: Vec::new(),
            moved: None,
            events: 0,
            capacity,
            last_change,
        }
    }

    pub(crate) fn end(&mut self, end: End, waited: f64, batch: usize) {
        self.ends.count(end);
        if end.is_latency() {
            self.latency.add(waited);
            let batch = &mut self.batches[batch];
            (batch.0, batch.1) = (batch.0 + waited, batch.1 + 1);
        } else {
            self.lost_time += waited;
        }
    }

    /// If it is of the high class, counts it there too.
    pub(crate) fn count_high(&mut self, is_high: bool, end: End, waited: f64) {
        if is_high {
            self.high.count(end);
            if end.is_latency() {
                self.high_latency.add(waited);
            }
        }
    }

    /// If its key is not the commonest, counts it there too.
    pub(crate) fn count_modest(&mut self, is_modest: bool, end: End) {
        if is_modest {
            self.modest.count(end);
        }
    }

    pub(crate) fn count_load(&mut self, load: usize) {
        self.census[load.min(LEVELS - 1)] += 1;
    }

    /// Adds a run of the same world with another seed.
    pub fn merge(&mut self, other: &Report) {
        self.latency.merge(&other.latency);
        self.batches.extend(&other.batches);
        self.ends.merge(&other.ends);
        self.high.merge(&other.high);
        self.high_latency.merge(&other.high_latency);
        self.modest.merge(&other.modest);
        self.stuck += other.stuck;
        self.arrived += other.arrived;
        self.assigned.iter_mut().zip(&other.assigned).for_each(|(a, b)| *a += b);
        self.census.iter_mut().zip(&other.census).for_each(|(a, b)| *a += b);
        let share = other.span / (self.span + other.span);
        self.mean_in_system = self.mean_in_system * (1.0 - share) + other.mean_in_system * share;
        self.span += other.span;
        self.lost_time += other.lost_time;
        self.wasted += other.wasted;
        self.events += other.events;
        self.others.extend(other.all_series().cloned());
    }

    /// How many runs it is made of.
    pub fn runs(&self) -> u32 {
        self.all_series().count() as u32
    }

    fn all_series(&self) -> impl Iterator<Item = &Series> {
        std::iter::once(&self.series).chain(&self.others)
    }

    /// Half the width of the mean's 95 % confidence interval, by batch means; NaN when a batch is empty.
    pub fn confidence(&self) -> f64 {
        let means: Vec<f64> = self.batches.iter().map(|&(sum, count)| sum / count as f64).collect();
        let n = means.len() as f64;
        let mean = means.iter().sum::<f64>() / n;
        let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (n - 1.0);
        T * (variance / n).sqrt()
    }

    /// The part of all attempts that the servers in `range` were given.
    pub fn share(&self, range: std::ops::Range<usize>) -> f64 {
        self.assigned[range].iter().sum::<u64>() as f64 / self.assigned.iter().sum::<u64>() as f64
    }

    /// The part of looks at a server that found `level` requests or more on it.
    pub fn tail(&self, level: usize) -> f64 {
        let above: u64 = self.census[level.min(LEVELS)..].iter().sum();
        above as f64 / self.census.iter().sum::<u64>() as f64
    }

    /// Arrival rate times mean sojourn over requests in the system: 1 by Little's law.
    pub fn little(&self) -> f64 {
        let sojourns = self.latency.count() as f64 * self.latency.mean() + self.lost_time;
        sojourns / self.span / self.mean_in_system
    }

    /// The bins of all runs that begin in `window`; all without one.
    pub(crate) fn window(&self, window: Option<[f64; 2]>) -> impl Iterator<Item = &Bin> {
        let inside = move |&(index, _): &(usize, &Bin)| {
            let begin = index as f64 * self.series.width;
            window.is_none_or(|[from, to]| begin >= from - 1e-9 && begin < to - 1e-9)
        };
        self.all_series()
            .flat_map(move |series| series.bins.iter().enumerate().filter(inside))
            .map(|(_, bin)| bin)
    }

    /// Good answers in a unit over the capacity, in `window`.
    pub fn goodput(&self, window: Option<[f64; 2]>) -> f64 {
        let (mut good, mut count) = (0, 0.0);
        for bin in self.window(window) {
            (good, count) = (good + bin.good, count + 1.0);
        }
        good as f64 / (count * self.series.width) / self.capacity
    }

    /// Units from the last change until, for five bins, seven of eight requests that arrive are answered well; infinite if that
    /// never happens. Of several runs the longest.
    pub fn recovery(&self) -> f64 {
        let of = |series: &Series| {
            let fine = |bin: &Bin| bin.arrived > 0 && bin.good as f64 >= 0.875 * bin.arrived as f64;
            let from = (self.last_change / series.width).round() as usize;
            let bins = series.bins.get(from..).unwrap_or_default();
            let found = bins.windows(5).position(|five| five.iter().all(fine));
            found.map_or(f64::INFINITY, |after| after as f64 * series.width)
        };
        self.all_series().map(of).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(2, 2.0, 20.0)
    }

    #[test]
    fn what_clients_gave_up_is_latency_and_what_failed_fast_is_not() {
        let mut r = report();
        for (end, waited) in [(End::Good, 1.0), (End::TimedOut, 9.0), (End::Failed, 0.0), (End::Refused, 0.0)]
        {
            r.end(end, waited, 0);
        }
        assert_eq!((r.latency.mean(), r.ends.all()), (5.0, 4));
    }

    #[test]
    fn equal_batches_leave_no_doubt_and_unequal_ones_do() {
        let mut r = report();
        (0..BATCHES).for_each(|batch| r.end(End::Good, 2.0, batch));
        assert_eq!(r.confidence(), 0.0);
        r.end(End::Good, 4.0, 0);
        assert!(r.confidence() > 0.0);
    }

    #[test]
    fn recovery_is_the_first_of_five_good_bins_after_the_last_change() {
        let mut r = report();
        r.series.width = 10.0;
        let bins = [9, 1, 1, 9, 1, 9, 9, 9, 9, 9];
        r.series.bins = bins.map(|good| Bin { arrived: 10, good, ..Bin::default() }).to_vec();
        assert_eq!(r.recovery(), 30.0);
        r.series.bins.pop();
        assert_eq!(r.recovery(), f64::INFINITY);
        assert_eq!(r.goodput(Some([0.0, 20.0])), 10.0 / 20.0 / 2.0);
    }

    #[test]
    fn what_is_over_time_is_that_of_all_runs() {
        let run = |goods: [u64; 7]| {
            let mut r = report();
            r.series.width = 10.0;
            r.series.bins = goods.map(|good| Bin { arrived: 10, good, ..Bin::default() }).to_vec();
            r
        };
        let mut r = run([9, 9, 9, 9, 9, 9, 9]);
        r.merge(&run([5, 9, 9, 9, 9, 9, 9]));
        r.merge(&run([9, 1, 9, 9, 9, 9, 9]));
        assert_eq!((r.runs(), r.recovery(), r.window(Some([0.0, 20.0])).count()), (3, 0.0, 6));
        assert_eq!(r.goodput(Some([0.0, 20.0])), 42.0 / 60.0 / 2.0);
        r.merge(&run([9, 9, 1, 9, 9, 9, 9]));
        assert_eq!(r.recovery(), f64::INFINITY, "of the worst");
    }
}
