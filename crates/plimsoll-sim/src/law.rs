//! How much work a request is: the laws of service times, each with mean 1.
//!
//! In goes a law as a scenario names it, out come draws and the second moment that theory needs. Chance comes from the
//! dice that the caller hands over; a draw takes from no others, so that the n-th request is the same under every policy.

use std::f64::consts::TAU;

use plimsoll_traffic::Dice;
use serde::Deserialize;

use crate::quantity::{AboveOne, Positive, Share};

/// A law of service times; the mean is 1 whatever the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Law {
    /// All alike.
    Deterministic,
    /// Memoryless.
    Exponential,
    /// The logarithm is normal.
    Lognormal {
        /// Standard deviation over mean.
        cv: Positive,
    },
    /// A power law between a smallest and a largest value: heavy tails with finite moments.
    BoundedPareto {
        /// The exponent of the tail.
        alpha: AboveOne,
        /// The largest value over the smallest.
        span: AboveOne,
    },
    /// Two sizes.
    Bimodal {
        /// The part of the requests that are large.
        share: Share,
        /// The large size over the small one.
        times: AboveOne,
    },
    /// Normal, drawn again while not above 0.
    Normal {
        /// Standard deviation over mean, before values below 0 are left out.
        cv: Positive,
    },
}

/// A law made ready for drawing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sampler {
    law: Law,
    /// What makes the mean 1.
    scale: f64,
}

impl Law {
    /// E\[S²\], for Pollaczek and Khinchine.
    pub fn second_moment(&self) -> f64 {
        match *self {
            Law::Deterministic => 1.0,
            Law::Exponential => 2.0,
            Law::Lognormal { cv } => 1.0 + cv.0 * cv.0,
            Law::BoundedPareto { alpha, span } => {
                pareto_moment(alpha.0, span.0, 2.0) / pareto_moment(alpha.0, span.0, 1.0).powi(2)
            }
            Law::Bimodal { share, times } => {
                let (small, large) = (1.0 - share.0, share.0 * times.0);
                (small + large * times.0) / (small + large).powi(2)
            }
            Law::Normal { cv } => normal_moment(cv.0, 2) / normal_moment(cv.0, 1).powi(2),
        }
    }
}

impl Sampler {
    pub(crate) fn new(law: Law) -> Sampler {
        let mean = match law {
            Law::Deterministic | Law::Exponential | Law::Lognormal { .. } => 1.0,
            Law::BoundedPareto { alpha, span } => pareto_moment(alpha.0, span.0, 1.0),
            Law::Bimodal { share, times } => 1.0 - share.0 + share.0 * times.0,
            Law::Normal { cv } => normal_moment(cv.0, 1),
        };
        Sampler { law, scale: 1.0 / mean }
    }

    pub(crate) fn draw(&self, dice: &mut Dice) -> f64 {
        let raw = match self.law {
            Law::Deterministic => 1.0,
            Law::Exponential => exponential(dice),
            Law::Lognormal { cv } => {
                let variance = (1.0 + cv.0 * cv.0).ln();
                (variance.sqrt() * normal(dice) - variance / 2.0).exp()
            }
            Law::BoundedPareto { alpha, span } => {
                (1.0 - dice.unit() * (1.0 - span.0.powf(-alpha.0))).powf(-1.0 / alpha.0)
            }
            Law::Bimodal { share, times } => {
                if dice.unit() < share.0 {
                    times.0
                } else {
                    1.0
                }
            }
            Law::Normal { cv } => loop {
                let value = 1.0 + cv.0 * normal(dice);
                if value > 0.0 {
                    break value;
                }
            },
        };
        raw * self.scale
    }
}

/// With mean 1.
pub(crate) fn exponential(dice: &mut Dice) -> f64 {
    -(1.0 - dice.unit()).ln()
}

/// Standard, by Box and Muller; half of each pair is thrown away so that draws don't depend on earlier ones.
fn normal(dice: &mut Dice) -> f64 {
    let radius = (2.0 * exponential(dice)).sqrt();
    radius * (TAU * dice.unit()).cos()
}

/// The k-th moment of a Pareto law of exponent `alpha` between 1 and `span`.
fn pareto_moment(alpha: f64, span: f64, k: f64) -> f64 {
    let norm = alpha / (1.0 - span.powf(-alpha));
    let exponent = k - alpha;
    norm * if exponent.abs() < 1e-12 { span.ln() } else { (span.powf(exponent) - 1.0) / exponent }
}

/// The k-th moment of a normal law of mean 1 and deviation `cv`, given that it is above 0; Simpson's rule.
fn normal_moment(cv: f64, k: i32) -> f64 {
    const STEPS: i32 = 20_000;
    let width = (1.0 + 12.0 * cv) / f64::from(STEPS);
    let (mut mass, mut moment) = (0.0, 0.0);
    for step in 0..=STEPS {
        let x = f64::from(step) * width;
        let factor = match step {
            0 | STEPS => 1.0,
            odd if odd % 2 == 1 => 4.0,
            _ => 2.0,
        };
        let density = factor * (-((x - 1.0) / cv).powi(2) / 2.0).exp();
        mass += density;
        moment += density * x.powi(k);
    }
    moment / mass
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laws() -> [Law; 7] {
        [
            Law::Deterministic,
            Law::Exponential,
            Law::Lognormal { cv: Positive(2.0) },
            Law::BoundedPareto { alpha: AboveOne(2.5), span: AboveOne(1e3) },
            Law::Bimodal { share: Share(0.1), times: AboveOne(10.0) },
            Law::Normal { cv: Positive(1.0) },
            Law::Normal { cv: Positive(0.1) },
        ]
    }

    #[test]
    fn every_law_has_mean_one_and_the_second_moment_it_claims() {
        for law in laws() {
            let (sampler, mut dice, n) = (Sampler::new(law), Dice::new(1), 1_000_000);
            let drawn: Vec<f64> = (0..n).map(|_| sampler.draw(&mut dice)).collect();
            let mean = drawn.iter().sum::<f64>() / f64::from(n);
            let second = drawn.iter().map(|x| x * x).sum::<f64>() / f64::from(n);
            assert!(drawn.iter().all(|&x| x > 0.0), "{law:?}");
            assert!((mean - 1.0).abs() < 0.01, "{law:?}: mean {mean}");
            assert!((second / law.second_moment() - 1.0).abs() < 0.06, "{law:?}: {second}");
        }
    }

    #[test]
    fn the_pareto_of_the_heavy_tail_scenario_has_its_known_second_moment() {
        // E[X] = 3 (1 - 1e-2) and E[X²] = 3 (1e2 - 1), both over 1 - 1e-6: 297 / 2.97².
        let law = Law::BoundedPareto { alpha: AboveOne(1.5), span: AboveOne(1e4) };
        assert!((law.second_moment() - 33.67).abs() < 0.01, "{}", law.second_moment());
    }

    #[test]
    fn one_draw_takes_the_same_dice_whatever_came_before() {
        let sampler = Sampler::new(Law::Lognormal { cv: Positive(1.0) });
        let (mut a, mut b) = (Dice::new(3), Dice::new(3));
        sampler.draw(&mut a);
        a = Dice::new(3);
        assert_eq!(sampler.draw(&mut a), sampler.draw(&mut b));
    }
}
