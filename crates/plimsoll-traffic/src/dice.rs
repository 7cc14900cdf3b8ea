//! The source of chance: one seeded generator per worker, passed in wherever something is drawn.
//!
//! In goes a seed, out come numbers; the same seed gives the same numbers on every machine. It is xoshiro256++
//! (Blackman and Vigna, 2019), seeded through splitmix64 as its authors advise. It must never be used for secrets:
//! its state can be computed from its output.

/// A seeded generator of uniform numbers; not for secrets.
#[derive(Debug, Clone)]
pub struct Dice {
    state: [u64; 4],
}

impl Dice {
    /// Dice that always fall the same way for the same seed.
    pub fn new(seed: u64) -> Dice {
        let mut s = seed;
        Dice { state: std::array::from_fn(|_| splitmix64(&mut s)) }
    }

    /// 64 uniform bits.
    #[expect(
        clippy::should_implement_trait,
        reason = "dice never run out, so an iterator's Option would only be noise"
    )]
    pub fn next(&mut self) -> u64 {
        let s = &mut self.state;
        let drawn = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        drawn
    }

    /// Uniform in `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u32) -> u32 {
        self.below_u64(u64::from(n)) as u32
    }

    /// Uniform in `0..n`; 0 when `n` is 0. The bias of multiplying without rejection is at most `n / 2^64`, and our `n`
    /// are sums of weights, far below 2^48.
    pub(crate) fn below_u64(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// Uniform in `[0, 1)`, in steps of 2^-53.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_gives_its_published_sequence() {
        let mut state = 1_234_567;
        let drawn: Vec<u64> = (0..3).map(|_| splitmix64(&mut state)).collect();
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn xoshiro_gives_its_published_sequence() {
        let mut dice = Dice { state: [1, 2, 3, 4] };
        let drawn: Vec<u64> = (0..4).map(|_| dice.next()).collect();
        assert_eq!(drawn, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }

    #[test]
    fn below_is_uniform_and_stays_below() {
        let mut dice = Dice::new(7);
        let mut counts = [0u32; 10];
        for _ in 0..100_000 {
            counts[dice.below(10) as usize] += 1;
        }
        let chi: f64 = counts.iter().map(|&c| (f64::from(c) - 1e4).powi(2) / 1e4).sum();
        assert!(chi < 27.9, "chi-square {chi} exceeds the 0.1 % point of 9 degrees of freedom");
        assert_eq!((dice.below(0), dice.below(1)), (0, 0));
    }

    #[test]
    fn unit_has_the_mean_and_variance_of_a_uniform_number() {
        let mut dice = Dice::new(8);
        let drawn: Vec<f64> = (0..100_000).map(|_| dice.unit()).collect();
        let mean = drawn.iter().sum::<f64>() / 1e5;
        let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e5;
        assert!((mean - 0.5).abs() < 0.004 && (variance - 1.0 / 12.0).abs() < 0.001, "{mean} {variance}");
        assert!(drawn.iter().all(|x| (0.0..1.0).contains(x)));
    }

    #[test]
    fn a_seed_fixes_the_sequence_and_another_changes_it() {
        let draw = |seed| Dice::new(seed).next();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
