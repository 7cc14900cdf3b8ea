//! What the tests of tracing set up: a server, a collector that records, and the program between them.

use std::net::SocketAddr;

use crate::page::Page;
use crate::process::until;
use crate::spans::{Span, spans};
use crate::support::oracle::{Request, Response};
use crate::support::{Client, Origin, Plimsoll};

/// A trace that somebody else has begun, and the span in it.
pub(crate) const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
pub(crate) const PARENT: &str = "00f067aa0ba902b7";

/// Loopback is where trusted proxies are.
pub(crate) const TRUSTED: &str = "trusted = [\"127.0.0.0/8\"]\n";

pub(crate) struct Stage {
    pub(crate) origin: Origin,
    pub(crate) collector: Origin,
    pub(crate) program: Plimsoll,
}

impl Stage {
    /// With everything recorded, or as `tracing` says; `top` stands at the top of the file.
    pub(crate) fn with(top: &str, tracing: &str) -> Stage {
        Stage::before(Origin::serve(), top, tracing)
    }

    /// The same with that collector.
    pub(crate) fn before(collector: Origin, top: &str, tracing: &str) -> Stage {
        let origin = Origin::serve();
        let text = file(&[origin.address()], top, Some(collector.address()), tracing);
        let program = Plimsoll::start(&text);
        Stage { origin, collector, program }
    }

    /// Asks for `/` with these fields.
    pub(crate) fn ask(&self, fields: &str) -> Response {
        ask(self.program.address(), fields)
    }

    /// The value of a field of the last request that a server got; `None` unless there is just one.
    pub(crate) fn last(&self, name: &str) -> Option<String> {
        let (_, request) = self.origin.arrived(0).pop().expect("one has arrived");
        one(&request, name)
    }

    /// Waits for so many spans.
    #[track_caller]
    pub(crate) fn spans(&self, count: usize) -> Vec<Span> {
        until("the spans", || spans(&self.collector).len() >= count);
        let all = spans(&self.collector);
        assert_eq!(all.len(), count, "{all:#?}");
        all
    }

    pub(crate) fn page(&self) -> Page {
        Page::of(admin(&self.program))
    }

    /// Spans dropped for that reason so far.
    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        self.page().sum("plimsoll_tracing_spans_dropped_total", &[("reason", reason)])
    }
}

/// The program's file: one worker, one listener, request ids, an admin address.
pub(crate) fn file(
    servers: &[SocketAddr],
    top: &str,
    collector: Option<SocketAddr>,
    tracing: &str,
) -> String {
    let servers: Vec<String> = servers.iter().map(|address| format!("\"{address}\"")).collect();
    let tracing = collector.map(|address| format!("[tracing]\notlp = \"http://{address}\"\n{tracing}\n"));
    format!(
        "workers = 1\n{top}\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = [{}]\n[http]\nrequest_id = \"X-Request-ID\"\n\
         [admin]\nbind = \"127.0.0.1:0\"\n{}",
        servers.join(", "),
        tracing.unwrap_or_default()
    )
}

pub(crate) fn admin(program: &Plimsoll) -> SocketAddr {
    let lines = program.stderr_lines();
    let admin = lines.iter().find_map(|line| line.strip_prefix("plimsoll: admin on "));
    admin.expect("it says where").parse().expect("an address")
}

/// Asks for `/` with these fields, on a connection of its own.
pub(crate) fn ask(to: SocketAddr, fields: &str) -> Response {
    let mut client = Client::connect(to);
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes());
    client.answer().whole()
}

/// Asks so many times on one connection; every answer is a 200.
pub(crate) fn ask_often(to: SocketAddr, count: usize, fields: &str) {
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let mut client = Client::connect(to);
    for _ in 0..count {
        client.send(request.as_bytes());
        assert_eq!(client.answer().whole().status, 200);
    }
}

/// The value of a field, if there is just one.
pub(crate) fn one(request: &Request, name: &str) -> Option<String> {
    match request.fields.all(name)[..] {
        [value] => Some(String::from_utf8(value.to_vec()).expect("ASCII")),
        _ => None,
    }
}

/// A `traceparent` line of that trace.
pub(crate) fn parent(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{PARENT}-{flags}\r\n")
}

/// Trace, span and flags of a `traceparent`.
pub(crate) fn pieces(value: &str) -> (String, String, String) {
    let pieces: Vec<&str> = value.split('-').collect();
    let ["00", trace, span, flags] = pieces[..] else { panic!("no traceparent: {value}") };
    assert_eq!((trace.len(), span.len(), flags.len()), (32, 16, 2), "{value}");
    (trace.to_owned(), span.to_owned(), flags.to_owned())
}
