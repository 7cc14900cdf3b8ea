//! What the configuration says of servers that report their load.
//!
//! A part of the model, with the same promise: a value of these types is always meaningful.

use std::time::Duration;

/// How weights that servers report are taken (gRPC's A58).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// How long a server must have reported before it counts.
    pub blackout: Duration,
    /// How long a report counts.
    pub expiration: Duration,
    /// How often the share of errors is added to the utilization, in hundredths.
    pub penalty: u32,
}

/// The parameters of `prequal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prequal {
    /// Which share of the reported counts in flight is not hot, in hundredths: 0 to 100.
    pub quantile: u32,
    /// How long a report counts.
    pub age: Duration,
    /// Servers are asked; `None`: they report with their answers.
    pub probe: Option<Probe>,
}

/// How servers are asked for their load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is asked for, with GET.
    pub path: String,
    /// How often for each request, in hundredths.
    pub rate: u32,
}
