//! The model's part about further attempts: after what a request is tried again, and how often.
//!
//! As everywhere in the model, a value is always meaningful. What is safe to repeat is decided by `plimsoll-traffic`, not here.

use std::time::Duration;

use super::Share;

/// What a route wants to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Further tries after the first, always at another server (default 2).
    pub attempts: u32,
    /// What each request of the route adds to the budget of its backend, in attempts (default 20 %).
    pub budget: Share,
    /// After what (default all).
    pub on: RetryOn,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts: crate::defaults::RETRIES as u32,
            budget: crate::defaults::RETRY_BUDGET,
            on: RetryOn::USUAL,
        }
    }
}

/// After what a request is tried again, as far as that is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection to the server.
    pub connect: bool,
    /// The connection broke before the first byte of an answer.
    pub reset: bool,
    /// No answer began in time.
    pub timeout: bool,
    /// An answer with status 502.
    pub bad_gateway: bool,
    /// An answer with status 503.
    pub unavailable: bool,
    /// An answer with status 504.
    pub gateway_timeout: bool,
}

impl RetryOn {
    /// What routes have that say nothing of it.
    pub const USUAL: RetryOn = RetryOn {
        connect: true,
        reset: true,
        timeout: false,
        bad_gateway: true,
        unavailable: true,
        gateway_timeout: true,
    };
    /// After none of these.
    pub const NEVER: RetryOn = RetryOn {
        connect: false,
        reset: false,
        timeout: false,
        bad_gateway: false,
        unavailable: false,
        gateway_timeout: false,
    };

    /// Whether an answer with this status is one to try again after.
    #[must_use]
    pub fn has(&self, status: u16) -> bool {
        match status {
            502 => self.bad_gateway,
            503 => self.unavailable,
            504 => self.gateway_timeout,
            _ => false,
        }
    }
}

/// When a request that waits for its answer is sent to a second server too; the first answer wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hedge {
    /// After what this many thousandths of the route's answers take at most: 950 or more.
    Quantile(u32),
    /// After this time.
    After(Duration),
}
