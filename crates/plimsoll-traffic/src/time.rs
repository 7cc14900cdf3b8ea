//! The time, as an argument, in milliseconds or in microseconds. Zero is [`START`] before the process started.
//!
//! The caller reads the clock and passes what it read; the simulator passes its own. Nothing in this crate may produce
//! a time by itself.

/// When clocks begin: an hour before the process, so that what the one before it learned in its last hour has a time here.
pub const START: Millis = Millis(3_600_000);

/// Milliseconds: fine enough for what lasts seconds.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Millis(pub u64);

/// Microseconds: what latencies are measured in.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Micros(pub u64);

impl Micros {
    /// The same time, rounded down.
    pub const fn millis(self) -> Millis {
        Millis(self.0 / 1_000)
    }

    /// The time since `earlier`; 0 when that lies ahead.
    pub const fn since(self, earlier: Micros) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl From<Millis> for Micros {
    fn from(millis: Millis) -> Micros {
        Micros(millis.0.saturating_mul(1_000))
    }
}
