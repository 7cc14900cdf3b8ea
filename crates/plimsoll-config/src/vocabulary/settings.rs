//! The keys of the tables that stand alone: timeout, limits, http, log, admin.
//!
//! Texts are shown to users (reference, schema, messages), so they are sentences about what happens.

use super::Default::{Number, Required, Said, Size, Text, Time};
use super::{Choice, Kind, Table, key};
use crate::defaults as d;

pub(super) static TIMEOUT: Table = Table {
    id: "timeout",
    title: "[timeout]",
    about: "Waiting times.",
    keys: &[
        key(
            "header",
            Kind::Time(d::SHORTEST, d::LONGEST_HEADER),
            Time(d::HEADER_TIMEOUT),
            "A request's head, from its first byte to its last; then 408.",
        ),
        key(
            "body",
            Kind::Time(d::SHORTEST, d::LONGEST),
            Time(d::BODY_TIMEOUT),
            "Between bytes of a request body; after 10 s it must also come at 240 bytes a second or more on average.",
        ),
        key(
            "keep_alive",
            Kind::Time(d::SHORTEST, d::LONGEST),
            Time(d::KEEP_ALIVE),
            "An idle client connection between requests.",
        ),
        key(
            "connect",
            Kind::Time(d::SHORTEST, d::LONGEST_HEADER),
            Time(d::CONNECT),
            "Connecting to a server.",
        ),
        key(
            "first_byte",
            Kind::Time(d::SHORTEST, d::LONGEST),
            Time(d::FIRST_BYTE),
            "From the request's last byte to the end of the server's head; then 504.",
        ),
        key(
            "idle",
            Kind::Time(d::SHORTEST, d::LONGEST),
            Time(d::IDLE),
            "Between bytes of a response, from the server and towards the client.",
        ),
        key(
            "tunnel",
            Kind::Time(d::SHORTEST, d::LONGEST),
            Time(d::TUNNEL),
            "A tunnel (WebSocket) without a byte in either direction.",
        ),
        key(
            "pool_idle",
            Kind::Time(d::SHORTEST, d::LONGEST),
            Time(d::POOL_IDLE),
            "An idle connection to a server, kept for the next request.",
        ),
        key(
            "drain",
            Kind::Time(std::time::Duration::ZERO, d::LONGEST),
            Time(d::DRAIN),
            "How long a graceful stop waits for what is in flight; 0s cuts at once.",
        ),
    ],
    later: &["queue", "tls"],
    elsewhere: &[
        ("client_header", "header"),
        ("client", "body"),
        ("keepalive", "keep_alive"),
        ("http_keep_alive", "keep_alive"),
        ("read", "first_byte"),
        ("server", "first_byte"),
        ("websocket", "tunnel"),
        ("shutdown", "drain"),
    ],
};

pub(super) static LIMITS: Table = Table {
    id: "limits",
    title: "[limits]",
    about: "Sizes and counts that peers cannot exceed.",
    keys: &[
        key("target", Kind::Size(64, d::LARGEST_HEAD), Size(d::TARGET_SIZE), "A request target; then 414."),
        key(
            "header",
            Kind::Size(1 << 10, d::LARGEST_HEAD),
            Size(d::HEADER_SIZE),
            "A header section; then 431.",
        ),
        key("fields", Kind::Number(1, 10_000), Number(d::FIELDS), "Header fields; then 431."),
        key(
            "requests_per_connection",
            Kind::Number(1, 1_000_000_000),
            Number(d::REQUESTS_PER_CONNECTION),
            "Requests on one client connection; 1 turns keep-alive off.",
        ),
        key(
            "connection_age",
            Kind::Time(std::time::Duration::from_secs(1), d::LONGEST),
            Time(d::CONNECTION_AGE),
            "Age of a client connection after which its next answer closes it.",
        ),
        key(
            "replay",
            Kind::Size(0, d::LARGEST_BUFFER),
            Size(d::REPLAY),
            "Bytes of a request body kept for a retry; a longer body is not tried again.",
        ),
        key(
            "pool",
            Kind::Number(0, d::MOST),
            Number(d::POOL),
            "Idle connections kept per server and worker; 0 keeps none.",
        ),
        key(
            "memory",
            Kind::Size(4 << 20, 1 << 50),
            Said("what the control group allows, or what the machine has"),
            "Memory of the process. Above 90 % connections are no longer kept alive, above 93, 95 and 98 % new requests of the low, normal and high class are answered with 503.",
        ),
    ],
    later: &[],
    elsewhere: &[("headers", "fields"), ("uri", "target"), ("url", "target")],
};

pub(super) static HTTP: Table = Table {
    id: "http",
    title: "[http]",
    about: "Choices about HTTP itself.",
    keys: &[
        key(
            "underscores",
            Kind::Choice(&Choice {
                words: &["refuse", "drop", "keep"],
                later: &[],
                elsewhere: &[("allow", "keep"), ("reject", "refuse"), ("ignore", "drop")],
            }),
            Text(d::UNDERSCORES),
            "Field names with `_`, which many servers take for `-`: `refuse` answers 400, `drop` leaves the field out, `keep` passes it on.",
        ),
        key(
            "via",
            Kind::Text("pseudonym"),
            Said("no `Via` field"),
            "The name to put in a `Via` field, both ways.",
        ),
        key(
            "request_id",
            Kind::Text("field name"),
            Said("no request ids"),
            "The field for a request's id, e.g. `\"X-Request-ID\"`: kept if it comes from a `trusted` peer and is 1 to 128 letters, digits and `-._~+/=:@`, else made anew; sent to the server and with the answer, logged, and part of the span.",
        ),
    ],
    later: &["http2", "http3", "compression"],
    elsewhere: &[("unique_id", "request_id"), ("unique_id_header", "request_id")],
};

pub(super) static LOG: Table = Table {
    id: "log",
    title: "[log]",
    about: "The access log.",
    keys: &[
        key(
            "format",
            Kind::Choice(&Choice {
                words: &["json", "common", "combined", "off"],
                later: &[],
                elsewhere: &[
                    ("none", "off"),
                    ("clf", "common"),
                    ("apache", "combined"),
                    ("nginx", "combined"),
                    ("text", "combined"),
                ],
            }),
            Text(d::LOG_FORMAT),
            "`json`: one object a line. `common`, `combined`: as web servers write them. `off`: none.",
        ),
        key(
            "output",
            Kind::Text("path"),
            Text(d::LOG_OUTPUT),
            "`stdout`, or a file's path: it is appended to, and opened anew on USR1.",
        ),
    ],
    later: &["level", "sample", "fields"],
    elsewhere: &[("path", "output"), ("file", "output"), ("to", "output")],
};

pub(super) static ADMIN: Table = Table {
    id: "admin",
    title: "[admin]",
    about: "The admin addresses.",
    keys: &[
        key(
            "bind",
            Kind::Many(&Kind::Text("address or Unix socket")),
            Required,
            "Where to answer, e.g. `\"127.0.0.1:9900\"` or `\"unix:/run/plimsoll/admin.sock\"`. Other addresses than loopback ones take a `token`.",
        ),
        key("mode", Kind::Text("octal"), Text(d::ADMIN_MODE), "Permissions of Unix sockets."),
        key(
            "token",
            Kind::TextOr("environment variable", &Kind::Table(&SECRET)),
            Said("none"),
            "What requests have to bring as `Authorization: Bearer …`. `\"${NAME}\"` takes it from the environment.",
        ),
        key(
            "audit",
            Kind::Text("path"),
            Said("standard error"),
            "Where each change that an operator makes to a server is written, as a JSON line. The file is opened for each line, so it can be moved away at any time.",
        ),
    ],
    later: &["tls"],
    elsewhere: &[
        ("listen", "bind"),
        ("address", "bind"),
        ("port", "bind"),
        ("socket", "bind"),
        ("password", "token"),
    ],
};

pub(super) static STICKY: Table = Table {
    id: "sticky",
    title: "[sticky]",
    about: "What all sticky routes have in common.",
    keys: &[key(
        "secret",
        Kind::TextOr("environment variable", &Kind::Table(&SECRET)),
        Required,
        "What cookies are sealed with; the same on all instances behind one address. `\"${NAME}\"` takes it from the environment. With another secret every session finds a server anew.",
    )],
    later: &[],
    elsewhere: &[("key", "secret"), ("token", "secret"), ("password", "secret")],
};

pub(super) static SECRET: Table = Table {
    id: "secret",
    title: "a secret",
    about: "Something that stands in no configuration.",
    keys: &[key(
        "file",
        Kind::Text("path"),
        Required,
        "A file with nothing else in it; read at the start and at every reload.",
    )],
    later: &[],
    elsewhere: &[("path", "file")],
};
