//! The keys of a backend's health.
//!
//! Texts are shown to users, so they are sentences about what happens.

use super::Default::{Number, Percent, Time};
use super::{Kind, Table, key};
use crate::defaults as d;

pub(super) static EJECT: Table = Table {
    id: "eject",
    title: "an eject table",
    about: "When a server whose requests fail is passed over for a while. A failure is a connection that is not made, an answer that does not come in time or makes no sense, and 502, 503 or 504.",
    keys: &[
        key(
            "consecutive",
            Kind::Number(0, d::MOST),
            Number(d::EJECT_CONSECUTIVE),
            "Failures in a row; `0` does not look at that.",
        ),
        key(
            "share",
            Kind::Percent(0, 100),
            Percent(d::EJECT_SHARE),
            "Failed requests of the last ten seconds, if they are also twice the median of the other servers; `0%` does not look at that.",
        ),
        key(
            "requests",
            Kind::Number(1, d::MOST),
            Number(d::EJECT_REQUESTS),
            "Requests within the ten seconds without which `share` says nothing.",
        ),
        key(
            "time",
            Kind::Time(d::SHORTEST_EJECTION, d::LONGEST_EJECTION),
            Time(d::EJECT_BASE),
            "How long, ± 20 %; each further time twice as long. Then one request tries the server, after a check if there are any, and decides.",
        ),
        key(
            "longest",
            Kind::Time(d::SHORTEST_EJECTION, d::LONGEST_EJECTION),
            Time(d::EJECT_LONGEST),
            "No ejection takes longer, ± 20 %.",
        ),
        key(
            "most",
            Kind::Percent(1, 100),
            Percent(d::EJECT_MOST),
            "Servers that may be out afterwards, for whatever reason. Never the last one.",
        ),
    ],
    later: &[],
    elsewhere: &[
        ("max_fails", "consecutive"),
        ("consecutive_5xx", "consecutive"),
        ("error_limit", "consecutive"),
        ("fail_timeout", "time"),
        ("fail_duration", "time"),
        ("base_ejection_time", "time"),
        ("max_ejection_time", "longest"),
        ("max_ejection_percent", "most"),
        ("failure_percentage", "share"),
    ],
};
