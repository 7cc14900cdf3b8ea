//! All tables, and the keys of the top level.
//!
//! Texts here and beside are shown to users (reference, schema, messages), so they are sentences about what happens,
//! with units. Adding a key makes the checker accept it; `compile` must then use it.

use super::Default::{Bool, Filled, Required, Said};
use super::adaptive::ADAPTIVE;
use super::agent::{AGENT, SERVER_AGENT};
use super::backends::{BACKEND, BALANCE, LISTEN, SERVER, SUBSET, WEIGHTS};
use super::discover::DISCOVER;
use super::health::{EJECT, HEALTH};
use super::limit::LIMIT;
use super::queue::{PRIORITY, QUEUE};
use super::retry::{HEDGE, RETRY};
use super::routes::{REDIRECT, RESPOND, ROUTE, ROUTE_STICKY, ROUTE_TIMEOUT};
use super::settings::{ADMIN, HTTP, LIMITS, LOG, SECRET, STICKY, TIMEOUT};
use super::tracing::TRACING;
use super::{Kind, Table, key};
use crate::defaults as d;

/// Every table, for the schema and for "it belongs in".
pub(crate) static ALL: &[&Table] = &[
    &ROOT,
    &LISTEN,
    &BACKEND,
    &SERVER,
    &DISCOVER,
    &BALANCE,
    &SUBSET,
    &WEIGHTS,
    &HEALTH,
    &EJECT,
    &AGENT,
    &SERVER_AGENT,
    &ADAPTIVE,
    &QUEUE,
    &ROUTE,
    &RESPOND,
    &REDIRECT,
    &ROUTE_TIMEOUT,
    &RETRY,
    &HEDGE,
    &ROUTE_STICKY,
    &LIMIT,
    &PRIORITY,
    &TIMEOUT,
    &LIMITS,
    &HTTP,
    &LOG,
    &STICKY,
    &ADMIN,
    &SECRET,
    &TRACING,
];

pub(crate) static ROOT: Table = Table {
    id: "top",
    title: "the top level",
    about: "The whole configuration.",
    keys: &[
        key(
            "workers",
            Kind::Number(1, d::MOST_WORKERS),
            Said("one per usable core"),
            "Worker threads. A change takes a restart.",
        ),
        key(
            "watch",
            Kind::Bool,
            Bool(false),
            "Reload when this file or an included one has changed and is the same again a second later.",
        ),
        key(
            "trusted",
            Kind::List(0, &Kind::Text("network")),
            Said("nobody"),
            "Addresses and networks of the proxies in front, whose `X-Forwarded-*` and `Forwarded` are believed and extended.",
        ),
        key(
            "include",
            Kind::List(0, &Kind::Text("pattern")),
            Said("no other file"),
            "Further files, as patterns relative to this file. Their order has no meaning. Only in the main file.",
        ),
        key("listen", Kind::List(0, &Kind::Table(&LISTEN)), Required, "The addresses that accept clients."),
        key(
            "backend",
            Kind::Map("backend", &Kind::Table(&BACKEND)),
            Said("none"),
            "Named groups of servers that can serve the same requests.",
        ),
        key("route", Kind::List(0, &Kind::Table(&ROUTE)), Said("none"), "Which requests go where."),
        key("timeout", Kind::Table(&TIMEOUT), Filled, "Waiting times."),
        key("limits", Kind::Table(&LIMITS), Filled, "Sizes and counts that peers cannot exceed."),
        key("http", Kind::Table(&HTTP), Filled, "Choices about HTTP itself."),
        key("log", Kind::Table(&LOG), Filled, "The access log."),
        key(
            "sticky",
            Kind::Table(&STICKY),
            Said("no sticky cookies"),
            "What all sticky routes have in common.",
        ),
        key("admin", Kind::Table(&ADMIN), Said("no admin address"), "The admin addresses."),
        key(
            "tracing",
            Kind::Table(&TRACING),
            Said("no spans; `traceparent` and `tracestate` pass like any other field"),
            "Spans of requests, for an OpenTelemetry collector.",
        ),
    ],
    later: &["test", "discover"],
    elsewhere: &[
        ("upstream", "backend"),
        ("upstreams", "backend"),
        ("cluster", "backend"),
        ("clusters", "backend"),
        ("service", "backend"),
        ("services", "backend"),
        ("pool", "backend"),
        ("frontend", "listen"),
        ("server", "listen"),
        ("bind", "listen"),
        ("entrypoint", "listen"),
        ("entrypoints", "listen"),
        ("location", "route"),
        ("access_log", "log"),
        ("logging", "log"),
        ("opentelemetry", "tracing"),
        ("otel", "tracing"),
        ("threads", "workers"),
        ("nbthread", "workers"),
        ("worker_processes", "workers"),
    ],
};
