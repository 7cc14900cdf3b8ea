//! The keys of a route's rate limits.
//!
//! Texts are shown to users, so they are sentences about what happens.

use super::Default::{Bool, Required, Said, Text};
use super::{Kind, Table, key};
use crate::defaults as d;

pub(super) static LIMIT: Table = Table {
    id: "limit",
    title: "a limit table",
    about: "How many requests one client may make, or whatever else is counted. Further ones are answered with 429.",
    keys: &[
        key(
            "rate",
            Kind::Text("rate"),
            Required,
            "Requests in a time, in the long run: `\"100/s\"`, `\"30/m\"` or `\"1000/h\"`.",
        ),
        key(
            "burst",
            Kind::Number(1, d::MOST),
            Said("what `rate` allows in one second, at least 1"),
            "So many at once, after a silence.",
        ),
        key(
            "key",
            Kind::Text("limit key"),
            Text(d::LIMIT_KEY),
            "Whose requests are counted together: `client_ip` (an IPv6 client by its /64), `path`, `header:NAME`, `cookie:NAME` or `query:NAME`. A request without it counts by its client's address.",
        ),
        key(
            "dry_run",
            Kind::Bool,
            Bool(false),
            "Refuses nobody; log and metrics tell whom it would have refused.",
        ),
    ],
    later: &["redis", "name"],
    elsewhere: &[
        ("average", "rate"),
        ("requests", "rate"),
        ("limit", "rate"),
        ("by", "key"),
        ("zone", "key"),
        ("shadow", "dry_run"),
    ],
};
