//! The keys of listeners, backends and servers.
//!
//! Texts are shown to users (reference, schema, messages), so they are sentences about what happens.

use std::time::Duration;

use super::Default::{Alternative, Bool, Filled, Number, Percent, Required, Said, Text, Time};
use super::adaptive::ADAPTIVE;
use super::agent::{AGENT, SERVER_AGENT};
use super::discover::DISCOVER;
use super::health::{EJECT, HEALTH};
use super::queue::QUEUE;
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
            Alternative,
            "The servers: addresses, or tables with the keys below. With `discover` there may be none; those that are here serve beside the ones it finds.",
        ),
        key(
            "discover",
            Kind::Table(&DISCOVER),
            Said("only `servers`"),
            "Where further servers come from, and from where changes of them are taken while requests go on.",
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
        key(
            "adaptive_concurrency",
            Kind::Switch(&ADAPTIVE),
            Said("`false`: the limit is `max_requests`"),
            "A limit of requests in flight for each server that follows how long its answers take, never above `max_requests`: `true`, or a table with the keys below.",
        ),
        key(
            "slow_start",
            Kind::Time(Duration::ZERO, d::LONGEST_RAMP),
            Time(d::SLOW_START),
            "How long the share of a server that is added or comes back grows, from a tenth to what its weight says; `0s` is not at all. `hash` and `first` don't go by shares.",
        ),
        key(
            "subset",
            Kind::Table(&SUBSET),
            Said("all servers"),
            "Uses only some of the servers, where many instances with many servers would make too many connections.",
        ),
        key(
            "weights",
            Kind::Short("from", &WEIGHTS),
            Text("static"),
            "Where weights come from: `static`, the servers' own `weight`, or `orca`, what servers report, as a factor on it.",
        ),
        key(
            "health",
            Kind::ShortOrNo("path", &HEALTH),
            Said("servers are not checked"),
            "How servers are asked regularly whether they are well: a path, `\"tcp\"`, or a table with the keys below.",
        ),
        key(
            "agent",
            Kind::Table(&AGENT),
            Said("servers are not asked for their word"),
            "How servers say themselves that they want less, or nothing.",
        ),
        key(
            "eject",
            Kind::Switch(&EJECT),
            Filled,
            "When a server whose requests fail is passed over for a while: a table with the keys below, or `false` for never.",
        ),
        key(
            "panic",
            Kind::Percent(0, 100),
            Percent(d::PANIC),
            "When fewer of the servers are well, all that accept connections serve, as long as no other priority and no backup can; `0%` is never.",
        ),
        key(
            "queue",
            Kind::Switch(&QUEUE),
            Filled,
            "Where requests wait while every server has `max_requests` in flight: a table with the keys below, or `false` for nowhere; they are then refused at once.",
        ),
    ],
    later: &["tls", "proxy_protocol"],
    elsewhere: &[
        ("server", "servers"),
        ("to", "servers"),
        ("algorithm", "balance"),
        ("policy", "balance"),
        ("lb_policy", "balance"),
        ("maxconn", "max_requests"),
        ("concurrency", "adaptive_concurrency"),
        ("check", "health"),
        ("health_check", "health"),
        ("healthcheck", "health"),
        ("health_checks", "health"),
        ("agent_check", "agent"),
        ("agent-check", "agent"),
        ("outlier_detection", "eject"),
        ("passive_health", "eject"),
        ("healthy_panic_threshold", "panic"),
        ("discovery", "discover"),
        ("resolve", "discover"),
        ("dynamic", "discover"),
        ("service_discovery", "discover"),
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
        key(
            "priority",
            Kind::Number(0, d::MOST_PRIORITY),
            Number(0),
            "0 serves first. A higher number takes what the lower ones cannot: all of it when none of them can be reached, a part when less than 72 % can.",
        ),
        key("backup", Kind::Bool, Bool(false), "Serves only when no other can, whatever their priority."),
        key(
            "max_requests",
            Kind::Number(1, d::MOST),
            Said("the backend's `max_requests`"),
            "Requests in flight at once, over all workers.",
        ),
        key(
            "health",
            Kind::ShortOrNo("path", &HEALTH),
            Said("the backend's `health`"),
            "How this server is checked; `false`: it is not, and counts as well.",
        ),
        key(
            "agent",
            Kind::Switch(&SERVER_AGENT),
            Said("the backend's `agent`"),
            "How this server's agent is asked; `false`: it is not.",
        ),
        super::state::STATE,
    ],
    later: &["tls", "zone", "slow_start"],
    elsewhere: &[
        ("url", "address"),
        ("host", "address"),
        ("maxconn", "max_requests"),
        ("max_conns", "max_requests"),
    ],
};

/// The policies of `balance`.
static POLICIES: Choice = Choice {
    words: &["p2c", "ewma", "least_time", "least_conn", "round_robin", "random", "hash", "first", "prequal"],
    later: &[],
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
        ("ring", "hash"),
        ("ring_hash", "hash"),
        ("ketama", "hash"),
        ("rendezvous", "hash"),
        ("peak_ewma", "ewma"),
    ],
};

/// The sources of `weights`.
static SOURCES: Choice = Choice {
    words: &["static", "orca"],
    later: &[],
    elsewhere: &[("reported", "orca"), ("dynamic", "orca"), ("client_side_weighted_round_robin", "orca")],
};

pub(super) static WEIGHTS: Table = Table {
    id: "weights",
    title: "a weights table",
    about: "Where weights come from.",
    keys: &[
        key(
            "from",
            Kind::Choice(&SOURCES),
            Required,
            "`static`: the servers' own `weight` alone. `orca`: times what servers report in the field `endpoint-load-metrics` of their answers, by gRPC's formula: requests a second divided by utilization, to which the share of errors is added.",
        ),
        key(
            "blackout",
            Kind::Time(Duration::ZERO, d::LONGEST_RAMP),
            Said("`10s`"),
            "How long a server must have reported before it counts. Only with `orca`.",
        ),
        key(
            "expiration",
            Kind::Time(d::PREQUAL_AGE, d::LONGEST_RAMP),
            Said("`3m`"),
            "How long a report counts. Only with `orca`.",
        ),
        key(
            "error_penalty",
            Kind::Factor(0, d::MOST_PENALTY),
            Said("`1`"),
            "How many times the share of errors is added to the utilization. Only with `orca`.",
        ),
    ],
    later: &["metrics"],
    elsewhere: &[
        ("source", "from"),
        ("blackout_period", "blackout"),
        ("weight_expiration_period", "expiration"),
        ("error_utilization_penalty", "error_penalty"),
    ],
};

/// The methods of `hash`.
static METHODS: Choice = Choice {
    words: &["maglev", "ring", "rendezvous"],
    later: &[],
    elsewhere: &[("ketama", "ring"), ("ring_hash", "ring"), ("hrw", "rendezvous"), ("table", "maglev")],
};

pub(super) static SUBSET: Table = Table {
    id: "subset",
    title: "a subset's table",
    about: "Which servers this instance uses.",
    keys: &[
        key(
            "size",
            Kind::Number(d::SMALLEST_SUBSET, d::MOST),
            Required,
            "How many servers of each priority.",
        ),
        key(
            "instance",
            Kind::Text("name"),
            Required,
            "What tells this instance from the others, for example `${HOSTNAME}`. The same name gets the same servers at every start.",
        ),
    ],
    later: &[],
    elsewhere: &[("count", "size"), ("id", "instance"), ("seed", "instance"), ("name", "instance")],
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
            "`p2c`: of two at random the one with fewer requests in flight. `round_robin`: in turn, smoothly by weight. `least_conn`: the fewest requests in flight. `ewma` (also called `least_time`): of two at random the one where measured latency times requests in flight is less. `random`: by weight. `hash`: the same key goes to the same server. `first`: the first in the list that has room. `prequal`: of the servers that lately reported their load, the fastest that is not hot.",
        ),
        key(
            "key",
            Kind::Text("hash key"),
            Said("`client_ip`"),
            "What `hash` goes by: `client_ip`, `path`, `header:NAME`, `cookie:NAME` or `query:NAME`. A request without it goes by the client's address. Only with `hash`.",
        ),
        key(
            "method",
            Kind::Choice(&METHODS),
            Said("`maglev`"),
            "How `hash` maps keys to servers. `maglev`: evenly, and few more keys than necessary move when a server goes. `ring`: exactly those move, less evenly (160 points a server). `rendezvous`: exactly those and evenly, but slower with thousands of servers. Only with `hash`.",
        ),
        key(
            "bound",
            Kind::Factor(d::BOUND.0, d::BOUND.1),
            Said("no bound"),
            "No server has more than so many times its part of all requests in flight; a key whose server has goes to the next. 1.25 is a good value. Only with `hash`.",
        ),
        key(
            "decay",
            Kind::Time(d::SHORTEST_DECAY, d::LONGEST_RAMP),
            Said("`10s`"),
            "How long `ewma` remembers a latency; at least a hundred times what a request usually takes. Only with `ewma`.",
        ),
        key(
            "quantile",
            Kind::Factor(0, 100),
            Said("`0.84`"),
            "Which share of the reported requests in flight does not make a server hot: `0` goes by requests in flight alone, `1` by latency alone. Only with `prequal`.",
        ),
        key(
            "age",
            Kind::Time(d::SHORTEST_DECAY, d::LONGEST_RAMP),
            Said("`1s`"),
            "How long a report counts. Only with `prequal`.",
        ),
        key(
            "probe",
            Kind::Text("path"),
            Said("servers report with their answers"),
            "Servers are asked for their load by GET requests for this path, beside the traffic. Only with `prequal`.",
        ),
        key(
            "probes",
            Kind::Factor(d::PROBES.0, d::PROBES.1),
            Said("`3`"),
            "Probes for each request. Only with `probe`.",
        )
        .only_with("probe"),
    ],
    later: &["choices"],
    elsewhere: &[("by", "key"), ("name", "policy"), ("algorithm", "policy")],
};
