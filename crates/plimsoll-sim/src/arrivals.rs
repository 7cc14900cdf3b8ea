//! When requests come: a Poisson stream, bursts, an even stream, a trace, or a closed loop of clients.
//!
//! In goes the mean rate, out come gaps. The stream has dice of its own, so the n-th request comes at the same time under
//! every policy; in a closed loop, where answers make requests, only the thinking times can be the same.

use plimsoll_traffic::Dice;
use serde::Deserialize;

use crate::law::exponential;
use crate::quantity::{AboveOne, Count, NotNegative, Positive, Share};

/// An arrival process as a scenario names it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrivals {
    /// Independent of one another.
    Poisson,
    /// All gaps alike.
    Even,
    /// Poisson with two rates that take turns; the mean stays what `load` says.
    Bursts {
        /// The rate in a burst over the mean rate; `share * times` is at most 1.
        times: AboveOne,
        /// The part of the time that bursts take.
        share: Share,
        /// The mean length of a burst, in units.
        length: Positive,
    },
    /// As a file says: a line a request, its time in seconds and, if wished, the service it needs in seconds.
    Trace {
        /// The file, from where the scenario is.
        file: String,
    },
    /// Clients that wait for their answer, think, and ask again; `load` has no meaning.
    Closed {
        /// How many.
        clients: Count,
        /// Their mean time to think, in units, exponential.
        think: NotNegative,
    },
}

/// A request of a trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traced {
    /// When, in seconds.
    pub at: f64,
    /// The service it needs, in seconds.
    pub service: Option<f64>,
}

/// Reads a trace: two columns at most, split by commas or blanks; `#` begins a comment.
///
/// # Errors
/// The first line that is not understood, or that goes back in time.
pub fn parse_trace(text: &str) -> Result<Vec<Traced>, String> {
    let mut trace: Vec<Traced> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split([',', ' ', '\t']).filter(|word| !word.is_empty());
        let Some(first) = words.next() else { continue };
        let seconds = |word: &str| {
            let value = word.parse::<f64>().ok().filter(|s| s.is_finite() && *s >= 0.0);
            value.ok_or_else(|| format!("line {number}: \"{word}\" is not a time in seconds"))
        };
        let traced = Traced { at: seconds(first)?, service: words.next().map(seconds).transpose()? };
        if words.next().is_some() {
            return Err(format!("line {number}: more than two columns"));
        }
        if trace.last().is_some_and(|last| last.at > traced.at) {
            return Err(format!("line {number}: it is earlier than the line before"));
        }
        trace.push(traced);
    }
    if trace.is_empty() { Err("there is no request in it".to_owned()) } else { Ok(trace) }
}

/// An open stream under way: gaps at a mean rate of 1.
#[derive(Debug)]
pub(crate) enum Stream {
    Poisson,
    Even,
    Bursts { rates: [f64; 2], leave: [f64; 2], bursting: bool },
}

impl Stream {
    /// `None` for what is not an open stream. `length` and rates are per mean gap here: `rate` is arrivals in a unit.
    pub(crate) fn new(arrivals: &Arrivals, rate: f64, dice: &mut Dice) -> Option<Stream> {
        Some(match *arrivals {
            Arrivals::Poisson => Stream::Poisson,
            Arrivals::Even => Stream::Even,
            Arrivals::Bursts { times, share, length } => {
                let (p, high) = (share.0, times.0);
                let low = ((1.0 - p * high) / (1.0 - p)).max(0.0);
                let end = 1.0 / (length.0 * rate);
                Stream::Bursts {
                    rates: [low, high],
                    leave: [end * p / (1.0 - p), end],
                    bursting: dice.unit() < p,
                }
            }
            Arrivals::Trace { .. } | Arrivals::Closed { .. } => return None,
        })
    }

    /// The next gap, in mean gaps.
    pub(crate) fn gap(&mut self, dice: &mut Dice) -> f64 {
        match self {
            Stream::Poisson => exponential(dice),
            Stream::Even => 1.0,
            Stream::Bursts { rates, leave, bursting } => {
                let mut gap = 0.0;
                loop {
                    let (rate, leave) = (rates[usize::from(*bursting)], leave[usize::from(*bursting)]);
                    gap += exponential(dice) / (rate + leave);
                    if dice.unit() * (rate + leave) < rate {
                        return gap;
                    }
                    *bursting = !*bursting;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(arrivals: &Arrivals) -> Vec<f64> {
        let mut dice = Dice::new(4);
        let mut stream = Stream::new(arrivals, 10.0, &mut dice).unwrap();
        (0..400_000).map(|_| stream.gap(&mut dice)).collect()
    }

    fn mean_and_cv2(gaps: &[f64]) -> (f64, f64) {
        let n = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / n;
        (mean, gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / n / mean / mean)
    }

    #[test]
    fn every_stream_has_the_mean_rate_and_its_own_burstiness() {
        let bursts = Arrivals::Bursts { times: AboveOne(5.0), share: Share(0.1), length: Positive(20.0) };
        let (poisson, even, bursts) = (gaps(&Arrivals::Poisson), gaps(&Arrivals::Even), gaps(&bursts));
        let (mean, cv2) = mean_and_cv2(&poisson);
        assert!((mean - 1.0).abs() < 0.01 && (cv2 - 1.0).abs() < 0.02, "{mean} {cv2}");
        assert_eq!(mean_and_cv2(&even), (1.0, 0.0));
        let (mean, cv2) = mean_and_cv2(&bursts);
        assert!((mean - 1.0).abs() < 0.05 && cv2 > 1.5, "{mean} {cv2}");
    }

    #[test]
    fn a_trace_is_lines_of_times_that_never_go_back() {
        let trace = parse_trace("# seconds, service\n0\n0.5, 0.01\n\n0.5\t0.02 # same time\n").unwrap();
        let expected = [(0.0, None), (0.5, Some(0.01)), (0.5, Some(0.02))];
        assert_eq!(trace, expected.map(|(at, service)| Traced { at, service }));
        for (wrong, why) in
            [("", "no request"), ("1\n0.5", "line 2"), ("x", "line 1"), ("1 2 3", "two columns")]
        {
            assert!(parse_trace(wrong).unwrap_err().contains(why), "{wrong:?}");
        }
    }
}
