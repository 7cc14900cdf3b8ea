//! The keys of routes.
//!
//! Texts are shown to users (reference, schema, messages), so they are sentences about what happens.

use super::Default::{Alternative, Filled, Number, Required, Said, Text, Texts};
use super::{Kind, Table, key};
use crate::defaults as d;

pub(super) static ROUTE: Table = Table {
    id: "route",
    title: "[[route]]",
    about: "Which requests go where. All conditions must hold; of the routes that match, the most specific wins (exact host before wildcard before none, then exact path before longer prefix before shorter). The order in the file has no meaning.",
    keys: &[
        key("name", Kind::Text("name"), Said("made from the conditions"), "What logs call it; unique."),
        key(
            "host",
            Kind::Text("host"),
            Said("any"),
            "`\"example.com\"`, or `\"*.example.com\"` for every name below it. Without port.",
        ),
        key(
            "path",
            Kind::Text("path"),
            Said("any"),
            "`\"/exact\"`, or `\"/prefix/*\"` for `/prefix` and everything below it.",
        ),
        key(
            "method",
            Kind::Many(&Kind::Text("method")),
            Said("any"),
            "One method or several, e.g. `[\"GET\", \"HEAD\"]`.",
        ),
        key(
            "header",
            Kind::Map("header", &Kind::Text("value")),
            Said("any"),
            "Headers that must have exactly these values; `\"*\"` asks only that the header is there.",
        ),
        key(
            "to",
            Kind::TextOr("backend", &Kind::Map("backend", &Kind::Number(0, d::MOST_WEIGHT))),
            Alternative,
            "A backend's name, or a table of backends with weights: `{ web = 95, canary = 5 }`. A route has one of `to`, `respond` and `redirect`.",
        ),
        key("respond", Kind::Table(&RESPOND), Alternative, "Answers by itself."),
        key(
            "redirect",
            Kind::Short("to", &REDIRECT),
            Alternative,
            "Sends the client elsewhere: a location, or a table with the keys below.",
        ),
        key(
            "timeout",
            Kind::Table(&ROUTE_TIMEOUT),
            Said("those of `[timeout]`"),
            "Waiting times of this route. Only with `to`.",
        )
        .only_with("to"),
        key(
            "max_body",
            Kind::Size(0, u64::MAX >> 1),
            Said("no limit"),
            "Largest request body; a larger one is answered with 413. Only with `to`.",
        )
        .only_with("to"),
        key("retry", Kind::Table(&RETRY), Filled, "What happens when a server fails. Only with `to`.")
            .only_with("to"),
        key(
            "upgrade",
            Kind::List(0, &Kind::Text("protocol")),
            Texts(d::UPGRADE),
            "Protocols that a connection may be upgraded to; `[]` allows none. Only with `to`.",
        )
        .only_with("to"),
    ],
    later: &["limit", "sticky", "hedge", "priority", "rewrite", "headers", "auth", "cache"],
    elsewhere: &[
        ("backend", "to"),
        ("service", "to"),
        ("upstream", "to"),
        ("proxy_pass", "to"),
        ("hosts", "host"),
        ("hostname", "host"),
        ("prefix", "path"),
        ("timeouts", "timeout"),
    ],
};

pub(super) static RESPOND: Table = Table {
    id: "respond",
    title: "a respond table",
    about: "An answer that needs no server.",
    keys: &[
        key("status", Kind::Number(200, 599), Number(d::RESPOND_STATUS), "The status code."),
        key("body", Kind::Text("text"), Text(""), "The body, sent as it stands."),
        key("content_type", Kind::Text("media type"), Text(d::CONTENT_TYPE), "The `Content-Type`."),
    ],
    later: &["headers", "file"],
    elsewhere: &[("code", "status"), ("type", "content_type"), ("text", "body")],
};

pub(super) static REDIRECT: Table = Table {
    id: "redirect",
    title: "a redirect table",
    about: "Where a client is sent.",
    keys: &[
        key(
            "to",
            Kind::Text("location"),
            Required,
            "The `Location`: `https://…`, `http://…` or `/…`. `{host}`, `{path}` (with its leading slash) and `{query}` (with its `?`, or empty) are filled in.",
        ),
        key(
            "status",
            Kind::Status(&[301, 302, 303, 307, 308]),
            Number(d::REDIRECT_STATUS),
            "The status code.",
        ),
    ],
    later: &[],
    elsewhere: &[("code", "status"), ("location", "to"), ("url", "to")],
};

pub(super) static ROUTE_TIMEOUT: Table = Table {
    id: "route_timeout",
    title: "a route's timeout table",
    about: "Waiting times of one route.",
    keys: &[
        key(
            "first_byte",
            Kind::Time(d::SHORTEST, d::LONGEST),
            Said("`timeout.first_byte`"),
            "From the request's last byte to the end of the server's head; then 504.",
        ),
        key(
            "idle",
            Kind::Time(d::SHORTEST, d::LONGEST),
            Said("`timeout.idle`"),
            "Between bytes of the response.",
        ),
        key(
            "tunnel",
            Kind::Time(d::SHORTEST, d::LONGEST),
            Said("`timeout.tunnel`"),
            "A tunnel without a byte in either direction.",
        ),
        key(
            "total",
            Kind::Time(d::SHORTEST, d::LONGEST),
            Said("no limit"),
            "The whole exchange with all its tries; tunnels excepted.",
        ),
    ],
    later: &[],
    elsewhere: &[("read", "first_byte"), ("response", "first_byte"), ("websocket", "tunnel")],
};

pub(super) static RETRY: Table = Table {
    id: "retry",
    title: "a retry table",
    about: "What happens when a server fails.",
    keys: &[key(
        "attempts",
        Kind::Number(0, d::MOST_RETRIES),
        Number(d::RETRIES),
        "Further tries after the first, always at another server; 0 for none. Only what is safe to repeat is tried again.",
    )],
    later: &["budget", "on", "backoff", "replay", "timeout"],
    elsewhere: &[("retries", "attempts"), ("max", "attempts"), ("tries", "attempts"), ("count", "attempts")],
};
