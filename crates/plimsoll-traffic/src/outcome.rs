//! What became of a request: how policies that learn from servers are told.
//!
//! In goes one `Outcome` per lease, when the answer's head has come or the attempt has failed; a lease that is dropped
//! without one was cancelled, and nobody learns from it. It must cost nothing to policies that don't learn.

use crate::time::Micros;

/// How a server dealt with a request; see [`Lease::observe`](crate::Lease::observe).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// When that was known: for an answer, when its head had come.
    pub now: Micros,
    /// What it was.
    pub result: Verdict,
}

/// The end of the waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The server answered, and not with a failure of its own.
    Answered,
    /// No connection, no answer, a malformed one, or one that says that the server failed.
    Failed,
    /// Somebody gave up waiting: the client went away or a deadline passed that says nothing about the server. All that
    /// is known is that the answer takes longer than this.
    Cancelled,
}

impl Outcome {
    /// An outcome.
    pub fn new(now: Micros, result: Verdict) -> Outcome {
        Outcome { now, result }
    }
}
