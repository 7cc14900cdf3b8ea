//! The keys of a backend's queue and of a route's priority.
//!
//! Texts are shown to users (reference, schema, messages), so they are sentences about what happens.

use super::Default::{Number, Said, Text, Time};
use super::{Choice, Kind, Table, key};
use crate::defaults as d;

pub(super) static QUEUE: Table = Table {
    id: "queue",
    title: "a queue's table",
    about: "Where requests wait while every server has `max_requests` in flight. What cannot wait is answered with 503 and `Retry-After`.",
    keys: &[
        key(
            "max",
            Kind::Number(1, d::MOST_QUEUED),
            Number(d::QUEUE_MAX),
            "Requests that wait at once, over all workers. When it is full, a more important one takes the place of the least important; else the newcomer is refused, or the oldest when the backend is overloaded.",
        ),
        key(
            "timeout",
            Kind::Time(d::SHORTEST, d::LONGEST_QUEUE),
            Time(d::QUEUE_TIMEOUT),
            "How long a request waits at most.",
        ),
        key(
            "target",
            Kind::Time(d::SHORTEST, d::LONGEST_QUEUE),
            Time(d::QUEUE_TARGET),
            "When the oldest has waited longer than this for a tenth of a second, the backend is overloaded: the newest then goes first, and those who cannot be reached any more are refused before their time.",
        ),
        key(
            "fair",
            Kind::Text("hash key"),
            Said("every request by itself"),
            "Clients take turns, whatever each of them sends: `client_ip` (an IPv6 client counts by its /64), `path`, `header:NAME`, `cookie:NAME` or `query:NAME`. A request without it counts by the client's address.",
        ),
    ],
    later: &["sojourn", "per_server"],
    elsewhere: &[
        ("size", "max"),
        ("length", "max"),
        ("limit", "max"),
        ("maxqueue", "max"),
        ("max_queue", "max"),
        ("wait", "timeout"),
        ("deadline", "timeout"),
        ("codel", "target"),
        ("codel_target", "target"),
        ("fairness", "fair"),
        ("key", "fair"),
    ],
};

pub(super) static PRIORITY: Table = Table {
    id: "priority",
    title: "a priority table",
    about: "How much requests of a route matter while not all of them can be served: a higher class goes first, and a lower one is refused first.",
    keys: &[
        key(
            "class",
            Kind::Choice(&CLASSES),
            Text("normal"),
            "The class of requests that do not say one: `high`, `normal` or `low`.",
        ),
        key(
            "header",
            Kind::Text("header"),
            Said("requests do not choose"),
            "The field in which a request says its class. Clients that are not `trusted` can only lower it.",
        ),
    ],
    later: &["from"],
    elsewhere: &[("level", "class"), ("default", "class"), ("priority", "class"), ("field", "header")],
};

static CLASSES: Choice = Choice {
    words: &["high", "normal", "low"],
    later: &[],
    elsewhere: &[("critical", "high"), ("medium", "normal"), ("default", "normal"), ("batch", "low")],
};
