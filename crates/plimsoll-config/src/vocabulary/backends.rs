//! The keys of listeners, backends and servers.
//!
//! Texts are shown to users (reference, schema, messages), so they are sentences about what happens.

use super::Default::{Bool, Number, Required, Said, Text};
use super::{Choice, Kind, Table, key};
use crate::defaults as d;

pub(super) static LISTEN: Table = Table {
    id: "listen",
    title: "[[listen]]",
    about: "An address that accepts clients.",
    keys: &[
        key(
            "bind",
            Kind::Text("bind address"),
            Required,
            "Where to listen: `\":8080\"` (every address, IPv6 and IPv4), `\"127.0.0.1:8080\"` or `\"[::1]:8080\"`. Port 0 takes a free one.",
        ),
        key(
            "to",
            Kind::TextOr("backend or address", &Kind::List(1, &Kind::Short("address", &SERVER))),
            Said("404 for what no route matches"),
            "Takes what no route matches: the servers themselves, or one backend's name or one address.",
        ),
        key(
            "max_connections",
            Kind::Number(1, d::MOST),
            Said("what the descriptor limit allows"),
            "Connections at once.",
        ),
        key(
            "max_connections_per_client",
            Kind::Number(1, d::MOST),
            Said("no limit of its own"),
            "Connections at once from one client address; an IPv6 client counts by its /64.",
        ),
    ],
    later: &["tls", "redirect_http", "proxy_protocol", "http2", "http3"],
    elsewhere: &[("address", "bind"), ("listen", "bind"), ("port", "bind"), ("maxconn", "max_connections")],
};

pub(super) static BACKEND: Table = Table {
    id: "backend",
    title: "[backend.NAME]",
    about: "A named group of servers that can serve the same requests. A name has letters, digits, `-`, `_` and `.`.",
    keys: &[
        key(
            "servers",
            Kind::List(1, &Kind::Short("address", &SERVER)),
            Required,
            "The servers: addresses, or tables with the keys below.",
        ),
        key(
            "balance",
            Kind::Short("policy", &BALANCE),
            Text(d::POLICY),
            "How a server is chosen: a policy's name, or a table with the keys below.",
        ),
        key(
            "max_requests",
            Kind::Number(1, d::MOST),
            Number(d::MAX_REQUESTS),
            "Requests in flight at once per server, unless the server says otherwise.",
        ),
    ],
    later: &[
        "discover",
        "health",
        "slow_start",
        "queue",
        "priority",
        "sticky",
        "retry",
        "eject",
        "panic",
        "subset",
        "tls",
        "proxy_protocol",
    ],
    elsewhere: &[
        ("server", "servers"),
        ("to", "servers"),
        ("algorithm", "balance"),
        ("policy", "balance"),
        ("lb_policy", "balance"),
        ("maxconn", "max_requests"),
    ],
};

pub(super) static SERVER: Table = Table {
    id: "server",
    title: "a server's table",
    about: "One address in a backend.",
    keys: &[
        key(
            "address",
            Kind::Text("address"),
            Required,
            "`\"10.0.0.1:3000\"`, `\"[::1]:3000\"`, `\":3000\"` (127.0.0.1), `\"name.internal:3000\"` (resolved once, at start) or `\"unix:/run/app.sock\"`.",
        ),
        key(
            "name",
            Kind::Text("name"),
            Said("the address as written"),
            "Its identity in logs and for hashing, unique in its backend.",
        ),
        key(
            "weight",
            Kind::Number(0, d::MOST_WEIGHT),
            Number(d::WEIGHT),
            "Its share, relative to the others; 0 takes nothing new.",
        ),
        key("backup", Kind::Bool, Bool(false), "Serves only when no other can."),
        key(
            "max_requests",
            Kind::Number(1, d::MOST),
            Said("the backend's `max_requests`"),
            "Requests in flight at once, over all workers.",
        ),
    ],
    later: &["tls", "health", "zone", "slow_start"],
    elsewhere: &[
        ("url", "address"),
        ("host", "address"),
        ("maxconn", "max_requests"),
        ("max_conns", "max_requests"),
    ],
};

/// The policies of `balance`.
static POLICIES: Choice = Choice {
    words: &["p2c", "round_robin", "least_conn", "random", "hash", "first"],
    later: &["ewma", "least_time", "prequal", "ring", "rendezvous"],
    elsewhere: &[
        ("roundrobin", "round_robin"),
        ("rr", "round_robin"),
        ("wrr", "round_robin"),
        ("weighted", "round_robin"),
        ("leastconn", "least_conn"),
        ("leastconns", "least_conn"),
        ("lc", "least_conn"),
        ("wlc", "least_conn"),
        ("least_connections", "least_conn"),
        ("least_request", "p2c"),
        ("power_of_two", "p2c"),
        ("random_two", "p2c"),
        ("random_choose", "p2c"),
        ("ip_hash", "hash"),
        ("source", "hash"),
        ("uri", "hash"),
        ("uri_hash", "hash"),
        ("maglev", "hash"),
        ("consistent", "hash"),
        ("consistent_hash", "hash"),
        ("ring_hash", "ring"),
        ("peak_ewma", "ewma"),
    ],
};

pub(super) static BALANCE: Table = Table {
    id: "balance",
    title: "a balance table",
    about: "How a server is chosen.",
    keys: &[
        key(
            "policy",
            Kind::Choice(&POLICIES),
            Required,
            "`p2c`: of two at random the one with fewer requests in flight. `round_robin`: in turn, smoothly by weight. `least_conn`: the fewest requests in flight. `random`: by weight. `hash`: the same key goes to the same server. `first`: the first in the list that has room.",
        ),
        key(
            "key",
            Kind::Text("hash key"),
            Said("`client_ip`"),
            "What `hash` goes by: `client_ip`, `path`, `header:NAME`, `cookie:NAME` or `query:NAME`. A request without it goes by the client's address. Only with `hash`.",
        ),
    ],
    later: &["choices", "bound"],
    elsewhere: &[("by", "key"), ("name", "policy"), ("algorithm", "policy")],
};
