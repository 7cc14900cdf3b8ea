//! The keys of `tracing`.
//!
//! Texts are shown to users (reference, schema, messages), so they are sentences about what happens.

use super::Default::{Required, Said, Text};
use super::{Choice, Kind, Table, key};
use crate::defaults as d;

pub(super) static TRACING: Table = Table {
    id: "tracing",
    title: "[tracing]",
    about: "Spans of requests, for an OpenTelemetry collector.",
    keys: &[
        key(
            "otlp",
            Kind::Text("URL"),
            Required,
            "Where a collector takes OTLP over HTTP, e.g. `\"http://127.0.0.1:4318\"`; `/v1/traces` is appended.",
        ),
        key(
            "sample",
            Kind::Text("share"),
            Text(d::SAMPLE),
            "How many requests are recorded, e.g. `\"0.1%\"`, of those without a `traceparent` that decides it.",
        ),
        key(
            "parents",
            Kind::Choice(&Choice {
                words: &["limited", "all", "trusted"],
                later: &[],
                elsewhere: &[("any", "all"), ("everybody", "all"), ("nobody", "trusted")],
            }),
            Text(d::PARENTS),
            "Whose `traceparent` is believed. `limited`: everybody's, but of clients that are not `trusted` at most 10 requests a second and worker are recorded because they ask for it. `all`: everybody's. `trusted`: that of `trusted` peers; for others a new trace begins.",
        ),
        key("service", Kind::Text("name"), Text(d::SERVICE), "The `service.name` that spans carry."),
        key(
            "headers",
            Kind::Map("header", &Kind::Text("value")),
            Said("no further fields"),
            "Further fields of each request to the collector.",
        ),
    ],
    later: &["attributes", "tls"],
    elsewhere: &[
        ("endpoint", "otlp"),
        ("url", "otlp"),
        ("exporter", "otlp"),
        ("ratio", "sample"),
        ("rate", "sample"),
        ("sampling", "sample"),
        ("sampler", "sample"),
        ("service_name", "service"),
    ],
};
