//! The keys of a server's own word: an agent that is asked, and a field of its answers.
//!
//! Texts are shown to users, so they are sentences about what happens.

use super::Default::{Alternative, Required, Said};
use super::{Key, Kind, Table, key};
use crate::defaults as d;

const PORT: &str = "The TCP port of an agent beside each server that is asked for its word: one line of HAProxy's `agent-check` protocol, such as `75%`, `drain` or `down # disk full`.";

const fn port(default: super::Default) -> Key {
    key("port", Kind::Number(1, 65_535), default, PORT)
}

const ADDRESS: Key = key(
    "address",
    Kind::Text("IP address"),
    Said("the server's own"),
    "Where the agent listens, if not beside the server.",
);

const EVERY: Key = key(
    "every",
    Kind::Time(d::SHORTEST_CHECK, d::LONGEST_CHECK),
    Said("5s"),
    "The time from one question to the next, ± 20 %.",
);

const TIMEOUT: Key = key(
    "timeout",
    Kind::Time(d::SHORTEST_CHECK_TIMEOUT, d::LONGEST_CHECK_TIMEOUT),
    Said("2s, or `every` if that is shorter"),
    "The time for an answer, from connecting to its line's end. Not longer than `every`.",
);

const SEND: Key = key(
    "send",
    Kind::Text("text"),
    Said("nothing"),
    "What the agent is sent first, as it stands; end it with `\\n` if it waits for a line.",
);

const ELSEWHERE: &[(&str, &str)] = &[
    ("agent-port", "port"),
    ("agent_port", "port"),
    ("agent-addr", "address"),
    ("agent_addr", "address"),
    ("addr", "address"),
    ("agent-inter", "every"),
    ("agent_inter", "every"),
    ("inter", "every"),
    ("interval", "every"),
    ("agent-send", "send"),
    ("agent_send", "send"),
];

/// Of a backend.
pub(super) static AGENT: Table = Table {
    id: "agent",
    title: "an agent table",
    about: "How servers say themselves that they want less, or nothing: over `port`, in `header`, or both.",
    keys: &[
        port(Alternative),
        key(
            "header",
            Kind::Text("header"),
            Said("answers say nothing"),
            "The field of servers' answers in which they may say the same. It does not go on to clients. Only for servers that never copy a field of a request into an answer.",
        ),
        ADDRESS.only_with("port"),
        EVERY.only_with("port"),
        TIMEOUT.only_with("port"),
        SEND.only_with("port"),
    ],
    later: &[],
    elsewhere: ELSEWHERE,
};

/// Of a server.
pub(super) static SERVER_AGENT: Table = Table {
    id: "server_agent",
    title: "a server's agent table",
    about: "How this server's agent is asked.",
    keys: &[port(Required), ADDRESS, EVERY, TIMEOUT, SEND],
    later: &["header"],
    elsewhere: ELSEWHERE,
};
