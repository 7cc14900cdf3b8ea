//! The bounds of chance: how far a right chooser may stray, so that one in a million right ones is called wrong.
//!
//! Numbers in, numbers out. `RARE` is the same everywhere: with some hundred judgements in a run, a broken contract means a broken
//! chooser and not an unlucky seed.

/// Standard deviations beyond which a normal variable lies, on one side, once in a million.
pub const RARE: f64 = 4.753;

/// Pearson's statistic of counts against shares (which sum up to 1); infinite of no counts, which agree with no shares.
pub fn chi_square(counts: &[u64], shares: &[f64]) -> f64 {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return f64::INFINITY;
    }
    counts
        .iter()
        .zip(shares)
        .filter(|&(_, &share)| share > 0.0)
        .map(|(&count, &share)| {
            let wanted = share * total as f64;
            (count as f64 - wanted).powi(2) / wanted
        })
        .sum()
}

/// What chi-square exceeds once in a million, by degrees of freedom (Wilson and Hilferty, 1931; a little above the exact value).
pub fn chi_square_bound(degrees: usize) -> f64 {
    let degrees = degrees as f64;
    let spread = 2.0 / (9.0 * degrees);
    degrees * (1.0 - spread + RARE * spread.sqrt()).powi(3)
}

/// The most of `trials` that come true once in a million, each with `chance`; as a share.
pub fn share_bound(chance: f64, trials: u64) -> f64 {
    chance + RARE * (chance * (1.0 - chance) / trials as f64).sqrt() + RARE * RARE / (2.0 * trials as f64)
}

/// The longest wait, in draws, for something that each of `draws` brings with `chance`: exceeded once in a million runs.
pub(super) fn gap_bound(chance: f64, draws: u64) -> f64 {
    ((draws as f64 * 1e6).ln() / -(1.0 - chance).ln()).ceil() + 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_tables_or_a_little_above() {
        // The points that chi-square exceeds once in a million, by numerical integration of its density.
        for (degrees, exact) in [(1, 23.93), (2, 27.63), (3, 30.66), (9, 44.81), (16, 58.32)] {
            let bound = chi_square_bound(degrees);
            assert!(bound >= exact && bound < 1.15 * exact, "{degrees}: {bound}");
        }
        assert!((chi_square(&[10, 10, 10], &[1.0 / 3.0; 3])).abs() < 1e-9);
        assert!((chi_square(&[20, 10, 0], &[1.0 / 3.0; 3]) - 20.0).abs() < 1e-9);
        assert_eq!(chi_square(&[0, 0, 0], &[1.0 / 3.0; 3]), f64::INFINITY);
    }

    #[test]
    fn shares_and_gaps_leave_room_for_chance_only() {
        assert!((0.04..0.06).contains(&share_bound(0.04, 10_000)));
        assert_eq!(share_bound(1.0, 100), 1.0 + RARE * RARE / 200.0);
        // 0.9^k * 1e5 * 1e6 = 1 at k = 240.
        assert_eq!(gap_bound(0.1, 100_000), 242.0);
    }
}
