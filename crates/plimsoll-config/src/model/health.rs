//! How a backend finds out which of its servers can serve.

use std::time::Duration;

use crate::defaults;

/// When a server that fails requests is passed over for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eject {
    /// Failures in a row; 0 does not look at that.
    pub consecutive: u32,
    /// Percent of the requests of the last ten seconds that failed; 0 does not look at that.
    pub share: u32,
    /// Requests in that time without which the share says nothing.
    pub requests: u32,
    /// How long for the first time; each further time twice as long.
    pub base: Duration,
    /// The longest time.
    pub longest: Duration,
    /// Percent of the servers that may be out afterwards, for whatever reason. Never the last one.
    pub most: u32,
}

impl Default for Eject {
    fn default() -> Eject {
        Eject {
            consecutive: defaults::EJECT_CONSECUTIVE as u32,
            share: defaults::EJECT_SHARE as u32,
            requests: defaults::EJECT_REQUESTS as u32,
            base: defaults::EJECT_BASE,
            longest: defaults::EJECT_LONGEST,
            most: defaults::EJECT_MOST as u32,
        }
    }
}

/// Servers are asked regularly whether they are well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The time between two questions.
    pub every: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Failures in a row that take a server out.
    pub fall: u32,
    /// Passes in a row that bring it back. A server that is new needs one.
    pub rise: u32,
}
