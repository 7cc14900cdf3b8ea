//! The keys of a route's further attempts.
//!
//! Texts are shown to users (reference, schema, messages), so they are sentences about what happens.

use super::Default::{Number, Required, Text, Texts};
use super::{Choice, Kind, Table, key};
use crate::defaults as d;

pub(super) static RETRY: Table = Table {
    id: "retry",
    title: "a retry table",
    about: "What happens when a server fails. Only what is safe to repeat is tried again.",
    keys: &[
        key(
            "attempts",
            Kind::Number(0, d::MOST_RETRIES),
            Number(d::RETRIES),
            "Further tries after the first, always at another server; 0 for none.",
        ),
        key(
            "budget",
            Kind::Text("share"),
            Text(d::RETRY_BUDGET_TEXT),
            "How many of the route's requests may have another try: each adds so much to the budget of its backend, which allows 10 tries a second besides. When it is used up, clients get failures as they are.",
        ),
        key(
            "on",
            Kind::List(0, &Kind::Choice(&ON)),
            Texts(&["connect", "reset", "502", "503", "504"]),
            "After what: no connection, a connection that broke before the answer's first byte, no answer within `first_byte`, or these statuses of an answer. All but `connect` only where the method may be repeated.",
        ),
    ],
    later: &["backoff", "replay", "timeout"],
    elsewhere: &[
        ("retries", "attempts"),
        ("max", "attempts"),
        ("tries", "attempts"),
        ("count", "attempts"),
        ("budget_percent", "budget"),
        ("retry_on", "on"),
        ("statuses", "on"),
        ("codes", "on"),
    ],
};

pub(super) static ON: Choice = Choice {
    words: &["connect", "reset", "timeout", "502", "503", "504"],
    later: &[],
    elsewhere: &[
        ("connect_failure", "connect"),
        ("conn_failure", "connect"),
        ("refused", "connect"),
        ("error", "reset"),
        ("empty_response", "reset"),
        ("response_timeout", "timeout"),
        ("first_byte", "timeout"),
        ("http_502", "502"),
        ("http_503", "503"),
        ("http_504", "504"),
    ],
};

pub(super) static HEDGE: Table = Table {
    id: "hedge",
    title: "a hedge table",
    about: "When a request that waits for its answer is sent to a second server.",
    keys: &[key(
        "after",
        Kind::Text("quantile or time"),
        Required,
        "`p95` to `p99.9`: after what so many of the route's answers take at most lately, once there are 100 of them; or a time such as `50ms`.",
    )],
    later: &[],
    elsewhere: &[("delay", "after"), ("percentile", "after"), ("quantile", "after")],
};
