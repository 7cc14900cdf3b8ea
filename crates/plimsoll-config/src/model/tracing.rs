//! Spans of requests, and where they are sent.

use crate::share::Share;

/// Spans of requests, for an OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracing {
    /// Where spans are sent.
    pub otlp: Endpoint,
    /// How many requests are recorded, of those whose parent does not decide it.
    pub sample: Share,
    /// Whose trace context is believed.
    pub parents: Parents,
    /// `service.name` of the resource (`plimsoll`).
    pub service: String,
    /// Further fields of each request to the collector: names and values.
    pub headers: Vec<(String, String)>,
}

/// Where a collector takes OTLP over HTTP: `http://HOST:PORT/BASE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an IP address; of IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What stands before `/v1/traces`: empty, or begins with `/` and does not end with it.
    pub base: String,
}

/// Whose `traceparent` is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parents {
    /// Everybody's, but a client that is not trusted can have only so many requests recorded (the default).
    Limited,
    /// Everybody's.
    All,
    /// That of peers in `Config::trusted`; for all others a new trace begins.
    Trusted,
}
