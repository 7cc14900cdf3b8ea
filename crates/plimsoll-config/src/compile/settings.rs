//! The tables that stand alone: timeouts, limits, HTTP, log.
//!
//! Values come with their defaults filled in; where one was wrong, a zero stands in its place and nobody sees it.

use std::num::NonZeroUsize;

use ipnet::IpNet;

use super::Compiler;
use crate::address::{Fault, parse_network};
use crate::model::{Http, Limits, Log, LogFormat, LogOutput, Timeouts, Underscores};
use crate::node::Fields;
use crate::pattern::is_token;
use crate::problem::{Code, Problem};

/// The longest name of a request id's field.
const LONGEST_ID_FIELD: usize = 64;
/// Fields that cannot carry a request's id: HTTP, proxies or tracing write and read them.
const OTHERS_FIELDS: &[&str] = &[
    "accept",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "location",
    "proxy-connection",
    "proxy-status",
    "retry-after",
    "server",
    "set-cookie",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

pub(super) fn workers(root: &Fields) -> Option<NonZeroUsize> {
    NonZeroUsize::new(root.number("workers").map_or(0, to_usize))
}

pub(super) fn timeouts(root: &Fields) -> Timeouts {
    let time = |name| root.table("timeout").and_then(|fields| fields.time(name)).unwrap_or_default();
    Timeouts {
        header: time("header"),
        body: time("body"),
        keep_alive: time("keep_alive"),
        connect: time("connect"),
        first_byte: time("first_byte"),
        idle: time("idle"),
        tunnel: time("tunnel"),
        pool_idle: time("pool_idle"),
        drain: time("drain"),
    }
}

pub(super) fn limits(root: &Fields) -> Limits {
    let table = root.table("limits");
    let number = |name| table.and_then(|fields| fields.number(name)).map_or(0, to_usize);
    Limits {
        target: number("target"),
        header: number("header"),
        fields: number("fields"),
        requests_per_connection: table
            .and_then(|fields| fields.count("requests_per_connection"))
            .unwrap_or(0),
        connection_age: table.and_then(|fields| fields.time("connection_age")).unwrap_or_default(),
        replay: number("replay"),
        pool: number("pool"),
        memory: table.and_then(|fields| fields.number("memory")),
    }
}

/// The vocabulary's bounds are far below what a `usize` holds.
fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Compiler<'_> {
    pub(super) fn trusted(&mut self, root: &Fields) -> Vec<IpNet> {
        for item in root.items("trusted").iter().filter_map(|item| item.text()) {
            if parse_network(item.text).is_ok_and(|network| network.prefix_len() == 0) {
                let problem =
                    Problem::new(Code::Suspicious, item.at, format!("`{}` trusts every client", item.text));
                let help = "anybody can then claim any address; name the networks of your own proxies";
                self.report.warn(problem.help(help.to_owned()));
            }
        }
        self.read_all(root.items("trusted"), parse_network)
    }

    pub(super) fn http(&mut self, root: &Fields) -> Http {
        let table = root.table("http");
        let underscores = table.and_then(|fields| fields.text("underscores")).map(|written| written.text);
        Http {
            underscores: match underscores {
                Some("drop") => Underscores::Drop,
                Some("keep") => Underscores::Keep,
                _ => Underscores::Refuse,
            },
            via: self.read(table.and_then(|fields| fields.text("via")), parse_pseudonym),
            request_id: self.read(table.and_then(|fields| fields.text("request_id")), parse_id_field),
        }
    }

    pub(super) fn log(&mut self, root: &Fields) -> Log {
        let table = root.table("log");
        let format = table.and_then(|fields| fields.text("format")).map(|written| written.text);
        Log {
            format: match format {
                Some("common") => LogFormat::Common,
                Some("combined") => LogFormat::Combined,
                Some("off") => LogFormat::Off,
                _ => LogFormat::Json,
            },
            output: self
                .read(table.and_then(|fields| fields.text("output")), parse_output)
                .unwrap_or(LogOutput::Stdout),
        }
    }
}

/// RFC 9110, 7.6.3: a pseudonym is a token.
fn parse_pseudonym(text: &str) -> Result<String, Fault> {
    if is_token(text) {
        return Ok(text.to_owned());
    }
    Err(Fault::new(Code::BadValue, format!("`{text}` is not a pseudonym"))
        .help("one word of letters, digits and `-._`: \"edge-1\""))
}

/// A field that nobody else writes or reads: what we make of it would break what it is for.
fn parse_id_field(text: &str) -> Result<String, Fault> {
    let help = "write a name of your own such as \"X-Request-ID\"";
    if !is_token(text) || text.contains('_') {
        return Err(Fault::new(Code::BadValue, format!("`{text}` cannot be the field of a request's id"))
            .help("letters, digits and `-`: \"X-Request-ID\""));
    }
    if text.len() > LONGEST_ID_FIELD {
        return Err(Fault::new(Code::BadValue, "the name of the request id's field is too long").help(help));
    }
    if OTHERS_FIELDS.iter().any(|other| text.eq_ignore_ascii_case(other)) {
        return Err(Fault::new(Code::BadValue, format!("`{text}` has a meaning of its own")).help(help));
    }
    Ok(text.to_owned())
}

fn parse_output(text: &str) -> Result<LogOutput, Fault> {
    match text {
        "stdout" => Ok(LogOutput::Stdout),
        "" => Err(Fault::new(Code::BadValue, "`output` is empty").help("write \"stdout\" or a path")),
        "stderr" | "syslog" => {
            Err(Fault::new(Code::NotSupported, format!("a log to {text} is not supported yet"))
                .help(format!("write \"stdout\" or a path; a file of that name is \"./{text}\"")))
        }
        path if path.contains("://") || path.starts_with("syslog:") || path.contains('\0') => {
            Err(Fault::new(Code::BadValue, format!("`{path}` is not a path"))
                .help("write \"stdout\" or a path"))
        }
        path if path.ends_with('/') => Err(Fault::new(Code::BadValue, format!("`{path}` is a folder"))
            .help(format!("write \"{path}access.log\""))),
        path => Ok(LogOutput::File(path.into())),
    }
}
