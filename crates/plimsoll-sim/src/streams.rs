//! Chance, one stream a purpose: so that the n-th request comes at the same time, needs the same work and meets the same
//! luck under every policy (common random numbers), however often a policy rolls its own dice.

use plimsoll_traffic::{Dice, hash_key};

use crate::law::{Sampler, exponential};
use crate::world::{Keys, World};

/// The dice of a run.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) arrivals: Dice,
    pub(crate) work: Dice,
    /// Which worker gets it, by which key it is hashed, whether it fails.
    pub(crate) nature: Dice,
    pub(crate) thinking: Dice,
    pub(crate) network: Dice,
    pub(crate) neighbours: Dice,
    /// Seeds of the balancers' own dice.
    pub(crate) balancers: Dice,
    /// When servers are checked, and whether a check meets a failure.
    pub(crate) checks: Dice,
    pub(crate) sampler: Sampler,
    keys: Option<Zipf>,
}

/// Keys by rank: the cumulative weights.
#[derive(Debug)]
struct Zipf(Vec<f64>);

impl Streams {
    pub(crate) fn new(world: &World, seed: u64) -> Streams {
        let mut seeds = Dice::new(seed);
        let mut stream = || Dice::new(seeds.next());
        Streams {
            arrivals: stream(),
            work: stream(),
            nature: stream(),
            thinking: stream(),
            network: stream(),
            neighbours: stream(),
            balancers: stream(),
            checks: stream(),
            sampler: Sampler::new(world.service),
            keys: world.keys.map(Zipf::new),
        }
    }

    /// What the next request is hashed by.
    pub(crate) fn key(&mut self) -> u64 {
        match &self.keys {
            None => self.nature.next(),
            Some(keys) => hash_key(&keys.rank(self.nature.unit()).to_le_bytes()),
        }
    }

    /// Whether keys come more than once, and this one is not the commonest.
    pub(crate) fn is_modest(&self, key: u64) -> bool {
        self.keys.is_some() && key != hash_key(&0u64.to_le_bytes())
    }

    /// One way between a balancer and a server: a fixed half and an exponential half.
    pub(crate) fn delay(&mut self, mean: f64) -> f64 {
        mean / 2.0 * (1.0 + exponential(&mut self.network))
    }
}

impl Zipf {
    fn new(keys: Keys) -> Zipf {
        let weights = (1..=keys.count).map(|rank| f64::from(rank).powf(-keys.zipf));
        Zipf(
            weights
                .scan(0.0, |sum, w| {
                    *sum += w;
                    Some(*sum)
                })
                .collect(),
        )
    }

    fn rank(&self, unit: f64) -> u64 {
        let place = unit * self.0.last().copied().unwrap_or(0.0);
        self.0.partition_point(|&end| end <= place) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_as_zipf_says() {
        let keys = Zipf::new(Keys { count: 3, zipf: 1.0 });
        // 6/11, 3/11, 2/11.
        let drawn = [0.0, 0.54, 0.55, 0.81, 0.82, 0.999_999].map(|unit| keys.rank(unit));
        assert_eq!(drawn, [0, 0, 1, 1, 2, 2]);
    }
}
