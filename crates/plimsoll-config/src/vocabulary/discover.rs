//! The keys of a backend's `discover`.
//!
//! Texts are shown to users (reference, schema, messages), so they are sentences about what happens.

use super::Default::{Alternative, Bool, Said};
use super::{Kind, Table, key};
use crate::defaults as d;

pub(super) static DISCOVER: Table = Table {
    id: "discover",
    title: "a discover table",
    about: "Where servers come from; exactly one of `file`, `dns`, `dns_srv` and `http`.",
    keys: &[
        key(
            "file",
            Kind::Text("path"),
            Alternative,
            "A list of servers in JSON, read again when it changes: addresses, tables with the keys of a server, or Prometheus' `file_sd` format.",
        ),
        key(
            "dns",
            Kind::Text("name:port"),
            Alternative,
            "A name; each of its addresses (A and AAAA) is a server. Asked again when its TTL is over, after 1 to 60 seconds.",
        ),
        key(
            "dns_srv",
            Kind::Text("name"),
            Alternative,
            "A name with SRV records, e.g. `\"_http._tcp.web.internal\"`: each target's addresses are servers, with the record's port, priority and weight. Asked again when its TTL is over, after 1 to 60 seconds.",
        ),
        key(
            "http",
            Kind::Text("URL"),
            Alternative,
            "An `http://` or `https://` URL that answers with a list as `file` has it. Asked with `If-None-Match`.",
        ),
        key(
            "ca",
            Kind::Text("path"),
            Said("those that the system believes"),
            "A file in PEM with the certificates that an `https://` URL's has to lead to; no others are believed. Read at each question. Only with `http`.",
        ),
        key(
            "resolver",
            Kind::Text("address"),
            Said("those of /etc/resolv.conf, after /etc/hosts"),
            "The name server to ask, e.g. `\"127.0.0.1:5353\"`; without a port it is 53. Only with `dns` and `dns_srv`.",
        ),
        key(
            "every",
            Kind::Time(d::SHORTEST_POLL, d::LONGEST_POLL),
            Said("`1s` for a file, `10s` for a URL"),
            "How often a file is looked at or a URL is asked. Only with `file` and `http`.",
        ),
        key(
            "allow_empty",
            Kind::Bool,
            Bool(false),
            "Believes an answer that has no server at all. Otherwise the servers stay as they were.",
        ),
    ],
    later: &["consul", "docker", "etcd", "kubernetes", "tls", "headers"],
    elsewhere: &[
        ("path", "file"),
        ("file_sd", "file"),
        ("url", "http"),
        ("http_sd", "http"),
        ("https", "http"),
        ("name", "dns"),
        ("a", "dns"),
        ("srv", "dns_srv"),
        ("resolvers", "resolver"),
        ("nameserver", "resolver"),
        ("cafile", "ca"),
        ("ca_file", "ca"),
        ("ca_cert", "ca"),
        ("cacert", "ca"),
        ("certificates", "ca"),
        ("interval", "every"),
        ("refresh", "every"),
    ],
};
