//! What rate limits remember, on its way to another process.
//!
//! Twice: when that starts, so that it never serves without, and once it serves, for what was counted meanwhile. The first makes its limits; the second is found by the seeds that
//! these were made with. Never more keys than the process that hands them over allows.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_traffic::{Micros, RateLimit, RateMemory};

use crate::limits::{Earlier, Limiter};
use crate::snapshot::{Route, Snapshot};

/// A limit as another process had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnedLimit {
    /// The route's name.
    pub route: String,
    /// Its key, as it is written.
    pub key: String,
    /// So many requests…
    pub requests: u32,
    /// …in so much time.
    pub per: Duration,
    /// So many at once.
    pub burst: u32,
    /// What it remembers.
    pub memory: RateMemory,
}

impl LearnedLimit {
    /// For the limits of this process.
    pub(crate) fn earlier(&self, now: Micros) -> Earlier<'_> {
        let rate = RateLimit::after(self.requests, self.per, self.burst, &self.memory, now);
        Earlier { key: &self.key, of: (self.requests, self.per, self.burst), rate: Arc::new(rate) }
    }
}

impl Limiter {
    fn learned(&self, route: &str, now: Micros, most: usize) -> LearnedLimit {
        let (requests, per, burst) = (self.spec.requests, self.spec.per, self.spec.burst);
        let memory = self.rate.memory(now, most);
        LearnedLimit { route: route.to_owned(), key: self.name.clone(), requests, per, burst, memory }
    }
}

impl Snapshot {
    /// What rate limits remember as of `now`, of `most` keys in all; each limit may have as many of them.
    #[must_use]
    pub fn learned_limits(&self, now: Micros, most: usize) -> Vec<LearnedLimit> {
        let count = self.routes.iter().map(|route| route.limits.len()).sum::<usize>();
        let of = |route: &'_ Route| -> Vec<LearnedLimit> {
            route.limits.iter().map(|limit| limit.learned(&route.name, now, most / count)).collect()
        };
        self.routes.iter().flat_map(of).collect()
    }

    /// Its limits go on with what those of another process remember as of `now`. Before it serves.
    #[must_use]
    pub fn limited_as(mut self, learned: &[LearnedLimit], now: Micros) -> Snapshot {
        for (spec, route) in self.config.routes.iter().zip(&mut self.routes) {
            let earlier = learned.iter().filter(|limit| limit.route == spec.name);
            route.limits = Limiter::of(&spec.limits, earlier.map(|limit| limit.earlier(now)).collect(), now);
        }
        self
    }

    /// Takes what the same limits of another process have counted until `now`. While it serves.
    pub fn recall_limits(&self, learned: &[LearnedLimit], now: Micros) {
        let all = || self.routes.iter().flat_map(|route| &route.limits);
        for LearnedLimit { memory, .. } in learned {
            all().for_each(|limit| limit.rate.recall(memory, now)); // those of other seeds make nothing of it
        }
    }
}
