//! The model's part about waiting: who may wait for a server, how long, and who matters more.
//!
//! As everywhere in the model, a value is always meaningful. It decides nothing: that is `plimsoll-traffic`'s.

use std::time::Duration;

use super::HashKey;
use crate::defaults;

/// Where requests wait while every server of a backend has as many as it may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Requests that wait at once, over all workers; at least 1 (1,024).
    pub max: u32,
    /// How long one waits at most (1 s).
    pub timeout: Duration,
    /// Where the oldest has waited longer than this for a tenth of a second, the backend is overloaded (20 ms).
    pub target: Duration,
    /// Requests with the same value share one turn; `None`: every request has a turn of its own.
    pub fair: Option<HashKey>,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            max: defaults::QUEUE_MAX as u32,
            timeout: defaults::QUEUE_TIMEOUT,
            target: defaults::QUEUE_TARGET,
            fair: None,
        }
    }
}

/// How much requests of a route matter where not all can be served.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Priority {
    /// Of those that say nothing themselves.
    pub class: Class,
    /// The field in which a request says its class; lower case. Who is not trusted can only lower it.
    pub header: Option<String>,
}

/// A class of requests, the least important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Class {
    /// Refused first.
    Low,
    /// The usual one.
    #[default]
    Normal,
    /// Served first.
    High,
}

impl Class {
    /// By its name, in any case.
    pub fn named(text: &[u8]) -> Option<Class> {
        let names: [(&[u8], Class); 3] =
            [(b"low", Class::Low), (b"normal", Class::Normal), (b"high", Class::High)];
        names.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, class)| class)
    }
}
