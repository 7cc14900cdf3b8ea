//! What can be measured of a run, and what may be expected of it.
//!
//! In goes a report, out come numbers and verdicts. A measure that has no value (nothing was answered, nothing was removed) is NaN,
//! and NaN meets no expectation.

use std::ops::Range;

use serde::Deserialize;

use crate::report::Report;

/// Something to measure. Times are in units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The mean of what clients waited.
    Mean,
    /// Half waited no longer.
    P50,
    /// 90 % waited no longer.
    P90,
    /// 99 % waited no longer.
    P99,
    /// 99.9 % waited no longer.
    P999,
    /// The part of all attempts that a group was given.
    Share,
    /// The attempts that a group was given; of several runs the mean, as with all that is counted.
    Assigned,
    /// The most attempts that one server of a group was given.
    MostAssigned,
    /// The fewest.
    FewestAssigned,
    /// The most over the mean.
    Fullest,
    /// Attempts beyond one a request, as a part of all requests.
    Extra,
    /// Requests on a server of a group, on average over the ends of bins.
    InFlight,
    /// Looks at a server that found `level` requests or more, as a part of all looks.
    Tail,
    /// Good answers in a unit over the capacity.
    Goodput,
    /// Units after the last change until most are answered well again.
    Recovery,
    /// Requests that ended in an error, as a part of all.
    Failed,
    /// Requests for which there was no server, as a part of all.
    Refused,
    /// Requests that nobody waited for any more, as a part of all.
    TimedOut,
    /// Requests of the high class that were answered well, as a part of all of that class.
    HighGood,
    /// 99 % of those of the high class waited no longer.
    HighP99,
    /// Requests of all keys but the commonest that were answered well, as a part of all of those.
    ModestGood,
    /// Requests that never ended.
    Stuck,
    /// Keys that have another server after a removal, as a part of all.
    Moved,
    /// Keys that have another server although theirs is still there, as a part of all.
    Disturbed,
    /// The fullest server's keys over the mean.
    KeyBalance,
    /// Arrival rate times sojourn over requests in the system.
    Little,
}

/// Where to measure.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scope {
    pub(crate) servers: Range<usize>,
    pub(crate) level: usize,
    pub(crate) window: Option<[f64; 2]>,
}

/// What the number should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// This, give or take a part of it.
    Near(f64, f64),
    /// From the one to the other.
    Between(f64, f64),
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
}

impl Measure {
    /// As a scenario file writes it.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Mean => "mean",
            Measure::P50 => "p50",
            Measure::P90 => "p90",
            Measure::P99 => "p99",
            Measure::P999 => "p999",
            Measure::Share => "share",
            Measure::Assigned => "assigned",
            Measure::MostAssigned => "most_assigned",
            Measure::FewestAssigned => "fewest_assigned",
            Measure::Fullest => "fullest",
            Measure::Extra => "extra",
            Measure::InFlight => "in_flight",
            Measure::Tail => "tail",
            Measure::Goodput => "goodput",
            Measure::Recovery => "recovery",
            Measure::Failed => "failed",
            Measure::Refused => "refused",
            Measure::TimedOut => "timed_out",
            Measure::HighGood => "high_good",
            Measure::HighP99 => "high_p99",
            Measure::ModestGood => "modest_good",
            Measure::Stuck => "stuck",
            Measure::Moved => "moved",
            Measure::Disturbed => "disturbed",
            Measure::KeyBalance => "key_balance",
            Measure::Little => "little",
        }
    }

    pub(crate) fn of(self, report: &Report, scope: &Scope) -> f64 {
        let part = |count: u64| count as f64 / report.ends.all() as f64;
        let assigned = || assigned(report, scope);
        let sum = |servers: Range<usize>| assigned()[servers].iter().sum::<u64>() as f64;
        let most = || assigned()[scope.servers.clone()].iter().max().map_or(f64::NAN, |&n| n as f64);
        let fewest = || assigned()[scope.servers.clone()].iter().min().map_or(f64::NAN, |&n| n as f64);
        let of_a_run = |sum: f64| sum / f64::from(report.runs());
        let moved = report.moved;
        match self {
            Measure::Mean => report.latency.mean(),
            Measure::P50 => report.latency.quantile(0.5),
            Measure::P90 => report.latency.quantile(0.9),
            Measure::P99 => report.latency.quantile(0.99),
            Measure::P999 => report.latency.quantile(0.999),
            Measure::Share => sum(scope.servers.clone()) / sum(0..report.assigned.len()),
            Measure::Assigned => of_a_run(sum(scope.servers.clone())),
            Measure::MostAssigned => of_a_run(most()),
            Measure::FewestAssigned => of_a_run(fewest()),
            Measure::Fullest => most() * scope.servers.len() as f64 / sum(scope.servers.clone()),
            Measure::Extra => report.assigned.iter().sum::<u64>() as f64 / report.arrived as f64 - 1.0,
            Measure::InFlight => in_flight(report, scope),
            Measure::Tail => report.tail(scope.level),
            Measure::Goodput => report.goodput(scope.window),
            Measure::Recovery => report.recovery(),
            Measure::Failed => part(report.ends.failed),
            Measure::Refused => part(report.ends.refused),
            Measure::TimedOut => part(report.ends.timed_out),
            Measure::HighGood => report.high.good as f64 / report.high.all() as f64,
            Measure::HighP99 => report.high_latency.quantile(0.99),
            Measure::ModestGood => report.modest.good as f64 / report.modest.all() as f64,
            Measure::Stuck => of_a_run(report.stuck as f64),
            Measure::Moved => moved.map_or(f64::NAN, |m| m.moved),
            Measure::Disturbed => moved.map_or(f64::NAN, |m| m.moved - m.had_to),
            Measure::KeyBalance => moved.map_or(f64::NAN, |m| m.fullest),
            Measure::Little => report.little(),
        }
    }
}

/// Attempts by server, in the window if there is one.
fn assigned(report: &Report, scope: &Scope) -> Vec<u64> {
    if scope.window.is_none() {
        return report.assigned.clone();
    }
    let mut sums = vec![0; report.assigned.len()];
    for bin in report.window(scope.window) {
        sums.iter_mut().zip(&bin.assigned).for_each(|(sum, &n)| *sum += u64::from(n));
    }
    sums
}

/// The mean of what was on each of the servers when bins ended.
fn in_flight(report: &Report, scope: &Scope) -> f64 {
    let bins = report.window(scope.window).map(|bin| &bin.load[scope.servers.clone()]);
    let (sum, count) = bins.fold((0.0, 0.0), |(sum, count), load| {
        (sum + load.iter().map(|&n| f64::from(n)).sum::<f64>(), count + load.len() as f64)
    });
    sum / count
}

impl Bound {
    /// Whether `value` is as it should be.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Bound::Near(is, within) => (value - is).abs() <= within * is.abs(),
            Bound::Between(low, high) => (low..=high).contains(&value),
            Bound::AtLeast(low) => value >= low,
            Bound::AtMost(high) => value <= high,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Bound::Near(is, within) => write!(f, "{} ± {} %", figure(is), figure(within * 100.0)),
            Bound::Between(low, high) => write!(f, "{} to {}", figure(low), figure(high)),
            Bound::AtLeast(low) => write!(f, "≥ {}", figure(low)),
            Bound::AtMost(high) => write!(f, "≤ {}", figure(high)),
        }
    }
}

/// A number with about four figures that mean something; what is not nothing is shown as more than nothing from a millionth on.
pub fn figure(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        s if s >= 1_000.0 || !s.is_finite() => 0,
        s if s >= 100.0 => 1,
        s if s >= 10.0 => 2,
        s if s >= 1.0 || s == 0.0 => 3,
        s if s >= 0.001 => 4,
        _ => 6,
    };
    let text = format!("{value:.decimals$}");
    let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    match short {
        "NaN" => "none".to_owned(),
        "inf" => "never".to_owned(),
        short => short.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_meets_no_expectation_and_infinity_is_at_least_anything() {
        let bounds =
            [Bound::Near(1.0, 9.0), Bound::Between(0.0, 9.0), Bound::AtLeast(0.0), Bound::AtMost(9.0)];
        assert!(bounds.iter().all(|b| !b.holds(f64::NAN) && b.holds(1.0)));
        assert!(Bound::AtLeast(5.0).holds(f64::INFINITY) && !Bound::AtMost(5.0).holds(f64::INFINITY));
        assert!(Bound::Near(2.0, 0.05).holds(2.09) && !Bound::Near(2.0, 0.05).holds(2.11));
    }

    #[test]
    fn figures_are_short() {
        let shown =
            [0.0, 0.01234, 0.000_028, 2.6141, 12.0, 123.46, 12345.6, f64::NAN, f64::INFINITY].map(figure);
        assert_eq!(shown, ["0", "0.0123", "0.000028", "2.614", "12", "123.5", "12346", "none", "never"]);
    }
}
