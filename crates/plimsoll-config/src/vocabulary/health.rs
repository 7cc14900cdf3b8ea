//! The keys of a backend's health.
//!
//! Texts are shown to users, so they are sentences about what happens.

use super::Default::{Alternative, Number, Percent, Said, Time};
use super::{Kind, Table, key};
use crate::defaults as d;

pub(super) static HEALTH: Table = Table {
    id: "health",
    title: "a health table",
    about: "How servers are asked regularly whether they are well. One of `path`, `tcp` and `program` says how.",
    keys: &[
        key(
            "path",
            Kind::Text("path"),
            Alternative,
            "An HTTP request for this path, e.g. `\"/healthz\"`, on a connection of its own, passes if its answer is whole, in time and as the keys below say.",
        ),
        key("tcp", Kind::Bool, Alternative, "`true`: a connection that is made passes."),
        key(
            "program",
            Kind::List(1, &Kind::Text("text")),
            Alternative,
            "A program by its absolute path, and its arguments; exit code 0 passes. `{address}`, `{host}`, `{port}`, `{server}` and `{backend}` are filled in; the environment has `PLIMSOLL_ADDRESS` and so on, `PATH`, and nothing else. There is no shell. At `timeout` it is killed, with all that it started.",
        ),
        key("method", Kind::Text("method"), Said("GET"), "The method of the request.").only_with("path"),
        key("host", Kind::Text("host"), Said("the server's address"), "The request's `Host`.")
            .only_with("path"),
        key(
            "headers",
            Kind::Map("header", &Kind::Text("value")),
            Said("no further fields"),
            "Further fields of the request.",
        )
        .only_with("path"),
        key(
            "status",
            Kind::Many(&Kind::Text("status or range")),
            Said("200-399"),
            "The statuses that pass: `\"200\"`, `\"200-299\"`, or several of them.",
        )
        .only_with("path"),
        key(
            "body",
            Kind::Text("text"),
            Said("any body"),
            "What the answer's body must have in it; at most 64 KiB of it may come.",
        )
        .only_with("path"),
        key(
            "body_regex",
            Kind::Text("regular expression"),
            Said("any body"),
            "A regular expression that must match somewhere in the answer's body.",
        )
        .only_with("path"),
        key(
            "port",
            Kind::Number(1, 65_535),
            Said("the server's own"),
            "Where to ask, if not at the server's own port.",
        ),
        key(
            "every",
            Kind::Time(d::SHORTEST_CHECK, d::LONGEST_CHECK),
            Time(d::CHECK_EVERY),
            "The time from one check of a server to the next, ± 20 %.",
        ),
        key(
            "every_down",
            Kind::Time(d::SHORTEST_CHECK, d::LONGEST_CHECK),
            Said("1s, or `every` if that is shorter"),
            "The same for a server that is new or down, within the first minute and whenever a check has passed; else it is `every`.",
        ),
        key(
            "timeout",
            Kind::Time(d::SHORTEST_CHECK_TIMEOUT, d::LONGEST_CHECK_TIMEOUT),
            Said("2s, or `every` if that is shorter"),
            "The time for a whole check, from connecting to the answer's last byte. Not longer than `every`.",
        ),
        key("fall", Kind::Number(1, 100), Number(d::CHECK_FALL), "Failures in a row that take a server out."),
        key(
            "rise",
            Kind::Number(1, 100),
            Number(d::CHECK_RISE),
            "Passes in a row that bring it back. A server that has never passed needs one.",
        ),
    ],
    later: &["tls", "grpc"],
    elsewhere: &[
        ("uri", "path"),
        ("url", "path"),
        ("command", "program"),
        ("exec", "program"),
        ("interval", "every"),
        ("inter", "every"),
        ("period", "every"),
        ("downinter", "every_down"),
        ("fastinter", "every_down"),
        ("unhealthy_interval", "every_down"),
        ("fails", "fall"),
        ("unhealthy_threshold", "fall"),
        ("passes", "rise"),
        ("healthy_threshold", "rise"),
        ("expected_status", "status"),
        ("expect_status", "status"),
        ("statuses", "status"),
        ("expect", "body"),
    ],
};

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
