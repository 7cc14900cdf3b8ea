//! The keys of routes.
//!
//! Texts are shown to users (reference, schema, messages), so they are sentences about what happens.

use super::Default::{Alternative, Filled, Number, Required, Said, Text, Texts};
use super::limit::LIMIT;
use super::queue::PRIORITY;
use super::retry::{HEDGE, RETRY};
use super::{Choice, Kind, Table, key};
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
            "hedge",
            Kind::Short("after", &HEDGE),
            Said("one server is asked"),
            "Asks a second server where the first has not answered after this, and takes the answer that comes first: `GET` and `HEAD` without a body only, within the budget of retries, and only below 80 % of what the servers may have in flight. Only with `to`.",
        )
        .only_with("to"),
        key(
            "upgrade",
            Kind::List(0, &Kind::Text("protocol")),
            Texts(d::UPGRADE),
            "Protocols that a connection may be upgraded to; `[]` allows none. Only with `to`.",
        )
        .only_with("to"),
        key(
            "sticky",
            Kind::Short("by", &ROUTE_STICKY),
            Said("every request by itself"),
            "Keeps a client's requests at one server: by a cookie or a header, or a table with the keys below. Only with `to`.",
        )
        .only_with("to"),
        key(
            "limit",
            Kind::Many(&Kind::Table(&LIMIT)),
            Said("no limit"),
            "How many requests one client may make: a table with the keys below, or several that a request has to pass all.",
        ),
        key(
            "priority",
            Kind::Short("class", &PRIORITY),
            Said("`normal`"),
            "How much its requests matter while not all can be served: `high`, `normal` or `low`, or a table with the keys below. Only with `to`.",
        )
        .only_with("to"),
    ],
    later: &["rewrite", "headers", "auth", "cache"],
    elsewhere: &[
        ("backend", "to"),
        ("service", "to"),
        ("upstream", "to"),
        ("proxy_pass", "to"),
        ("hosts", "host"),
        ("hostname", "host"),
        ("prefix", "path"),
        ("timeouts", "timeout"),
        ("affinity", "sticky"),
        ("session", "sticky"),
        ("session_affinity", "sticky"),
        ("stickiness", "sticky"),
        ("retries", "retry"),
        ("rate_limit", "limit"),
        ("limits", "limit"),
        ("limit_req", "limit"),
        ("hedging", "hedge"),
        ("hedge_policy", "hedge"),
    ],
};

pub(super) static ROUTE_STICKY: Table = Table {
    id: "route_sticky",
    title: "a route's sticky table",
    about: "How requests that belong together are told.",
    keys: &[
        key(
            "by",
            Kind::Text("sticky key"),
            Required,
            "`cookie` or `cookie:NAME`: the answer sets a sealed cookie, which takes the `secret` of `[sticky]`; without a name it is called `plimsoll-` and the first backend of `to`. `header:NAME`: the same value goes to the same server; a request without it is balanced like any other.",
        ),
        key(
            "max_age",
            Kind::Time(d::SHORTEST_COOKIE, d::LONGEST),
            Said("until the browser ends its session"),
            "How long a client keeps the cookie, from when it was set. Only with a cookie.",
        ),
        key("path", Kind::Text("path"), Said("`/`"), "The cookie's `Path`. Only with a cookie."),
        key(
            "same_site",
            Kind::Choice(&SAME_SITE),
            Said("`lax`"),
            "The cookie's `SameSite`; `none` sets `Secure` too, as browsers want it. Only with a cookie.",
        ),
        key(
            "secure",
            Kind::Bool,
            Said("where a trusted proxy says `X-Forwarded-Proto: https`"),
            "`true` always sets the cookie's `Secure`. Only with a cookie.",
        ),
    ],
    later: &["domain"],
    elsewhere: &[
        ("cookie", "by"),
        ("header", "by"),
        ("key", "by"),
        ("name", "by"),
        ("ttl", "max_age"),
        ("expires", "max_age"),
        ("maxlife", "max_age"),
        ("samesite", "same_site"),
    ],
};

static SAME_SITE: Choice = Choice { words: &["lax", "strict", "none"], later: &[], elsewhere: &[] };

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
