//! The time, as an argument: milliseconds since the process started.
//!
//! The caller reads the clock and passes a `Millis`; the simulator passes its own. Nothing in this crate may produce
//! one by itself.

/// Milliseconds since the process started.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Millis(pub u64);
