//! A limit of requests in flight that is found out instead of said.

use std::time::Duration;

use crate::defaults;

/// How a server's limit follows how long its answers take, below its `max_requests`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdaptiveConcurrency {
    /// No server's limit is less; at least 1.
    pub least: u32,
    /// What a server begins with.
    pub start: u32,
    /// How many times the unloaded latency is no sign of load yet, in hundredths; at least 100.
    pub tolerance: u32,
    /// The time after which the unloaded latency is measured anew.
    pub probe: Duration,
}

impl Default for AdaptiveConcurrency {
    fn default() -> AdaptiveConcurrency {
        AdaptiveConcurrency {
            least: defaults::ADAPTIVE_LEAST as u32,
            start: defaults::ADAPTIVE_START as u32,
            tolerance: defaults::ADAPTIVE_TOLERANCE as u32,
            probe: defaults::ADAPTIVE_PROBE,
        }
    }
}
