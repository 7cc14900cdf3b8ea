//! Tracing: where in a trace a request stands, and what is recorded of those that are sampled.
//!
//! Every request has its trace context; whether it is recorded is for `plimsoll-traffic` to say. Only a sampled one costs memory. When its
//! record ends, it leaves through a bounded queue as a [`RequestSpan`]: names, numbers and times, for whoever took the other end. With the
//! queue full it is dropped and counted: no request ever waits. Nothing here knows how spans are sent, or to whom.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use plimsoll_config::model::{Address, PathMatch, Tracing};
use plimsoll_http::trace_context::spell;
use plimsoll_http::{Head, Known, TraceParent};
use plimsoll_traffic::{Dice, Parent, Server, continues, sampled};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::access_log::Record;
use crate::error::Error;
use crate::forward::Client;
use crate::request_id::is_named;
use crate::snapshot::View;
use crate::worker::Worker;

/// Recorded requests that may wait for whoever sends them: some MB, and as many as others allow (2,048 spans each).
const QUEUE: usize = 4096;
/// Attempts that are recorded of one request; retries are limited far below.
const ATTEMPTS: usize = 32;
/// Bytes of a text that a client chose.
const TEXT: usize = 1024;
/// Bytes of `tracestate` that a span repeats: what the specification asks everybody to pass on, at least.
const STATE: usize = 512;

const TRACEPARENT: &[u8] = b"traceparent";
const TRACESTATE: &[u8] = b"tracestate";
/// Where the span's id stands in a `traceparent`.
const SPAN_AT: std::ops::Range<usize> = 36..52;

/// Spans dropped since the process started because a queue was full.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Spans dropped since the process started because a queue was full.
pub(crate) fn dropped_by_all() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// A recorded request that has ended.
#[derive(Debug, Clone)]
pub struct RequestSpan {
    /// Where it stands in its trace: the span's own id in `span`.
    pub context: TraceParent,
    /// The span that the client named.
    pub parent: Option<u64>,
    /// The client's `tracestate`, if it was passed on.
    pub state: String,
    /// When its head was complete.
    pub began: SystemTime,
    /// Until the exchange ended.
    pub took: Duration,
    /// As received.
    pub method: String,
    /// `http`, or what a trusted proxy says.
    pub scheme: String,
    /// With its port, as received; empty if there was none.
    pub host: String,
    /// The path, without the query: that may hold secrets.
    pub path: String,
    /// `User-Agent`, or empty.
    pub user_agent: String,
    /// HTTP/1.0 instead of 1.1.
    pub http10: bool,
    /// The client, and the other end of its connection.
    pub client: IpAddr,
    /// The other end of the connection.
    pub peer: IpAddr,
    /// If requests have ids.
    pub request_id: Option<String>,
    /// Sent to the client; 0 if none was.
    pub status: u16,
    /// From and to the client, heads included.
    pub received: u64,
    /// See `received`.
    pub sent: u64,
    /// The route's name.
    pub route: Option<String>,
    /// The route's path as it is configured: one of few.
    pub route_path: Option<String>,
    /// The backend's name.
    pub backend: Option<String>,
    /// The name of the server tried last.
    pub server: Option<String>,
    /// The two letters of the access log.
    pub end: [u8; 2],
    /// The access log's reason; empty if it ended well.
    pub reason: &'static str,
    /// In their order.
    pub attempts: Vec<AttemptSpan>,
}

/// One try at one server.
#[derive(Debug, Clone)]
pub struct AttemptSpan {
    /// What the server was told as its parent.
    pub id: u64,
    /// The server's name.
    pub server: String,
    /// Where it listens.
    pub address: Address,
    /// After the request began.
    pub after: Duration,
    /// Until it failed, or the exchange ended.
    pub took: Duration,
    /// The answer's status; 0 if there was none.
    pub status: u16,
    /// Why it failed; empty if it did not.
    pub reason: &'static str,
}

impl AttemptSpan {
    /// An attempt that begins `after` its request.
    pub(crate) fn new(id: u64, server: &Server, after: Duration) -> AttemptSpan {
        AttemptSpan {
            id,
            server: server.name.to_string(),
            address: server.address.clone(),
            after,
            took: Duration::ZERO,
            status: 0,
            reason: "",
        }
    }
}

impl RequestSpan {
    /// How many spans it makes: itself, and one for each attempt.
    #[must_use]
    pub fn spans(&self) -> u64 {
        1 + self.attempts.len() as u64
    }
}

/// Where recorded requests are left. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SpanQueue(Sender<RequestSpan>);

/// A queue and its other end.
#[must_use]
pub fn span_queue() -> (SpanQueue, Receiver<RequestSpan>) {
    let (sender, receiver) = channel(QUEUE);
    (SpanQueue(sender), receiver)
}

impl SpanQueue {
    fn leave(&self, span: RequestSpan) {
        let spans = span.spans();
        if self.0.try_send(span).is_err() {
            DROPPED.fetch_add(spans, Ordering::Relaxed);
        }
    }
}

/// How requests are traced.
pub(crate) struct Tracer {
    pub(crate) settings: Tracing,
    pub(crate) queue: SpanQueue,
}

/// What is kept of a sampled request until its record ends.
pub(crate) struct Recorded {
    queue: SpanQueue,
    span: RequestSpan,
    /// Where in the head for servers the sender's id stands.
    id_at: Option<usize>,
    /// The last attempt goes on.
    trying: bool,
}

/// A request's place in its trace.
pub(crate) struct Traced {
    /// What is sent on: our own span in `span`.
    pub(crate) context: TraceParent,
    /// It goes on with the client's trace, so `tracestate` passes.
    pub(crate) continued: bool,
    /// If it is sampled.
    pub(crate) recorded: Option<Box<Recorded>>,
}

/// Finds out where a request stands, decides whether it is recorded, and notes what can be noted only now.
#[inline(never)]
pub(crate) fn begin(
    tracer: &Tracer,
    worker: &Worker,
    client: &Client,
    (head, bytes): (&Head, &[u8]),
    host: &[u8],
) -> Traced {
    let settings = &tracer.settings;
    let parent = parent(head, bytes).filter(|_| continues(settings.parents, client.trusted));
    let asks = parent.map(|parent| Parent { sampled: parent.sampled, trusted: client.trusted });
    let (dice, budget) = (&mut *worker.dice.borrow_mut(), &mut *worker.trace_budget.borrow_mut());
    let now = worker.deadlines.now();
    let sampled = sampled(asks, settings.parents, settings.sample, budget, now, dice);
    let (trace, random) = match &parent {
        Some(parent) => (parent.trace, parent.random),
        None => ((u128::from(dice.next()) << 64) | u128::from(new_id(dice)), true),
    };
    let context = TraceParent { trace, span: new_id(dice), sampled, random };
    let parent = parent.map(|parent| parent.span);
    let recorded = sampled.then(|| {
        let span = RequestSpan::new(context, parent, client, (head, bytes), host);
        Box::new(Recorded { queue: tracer.queue.clone(), span, id_at: None, trying: false })
    });
    Traced { context, continued: parent.is_some(), recorded }
}

/// The one valid `traceparent`; none if there are several.
fn parent(head: &Head, bytes: &[u8]) -> Option<TraceParent> {
    let mut found = head.fields().iter().filter(|field| is_named(field, bytes, TRACEPARENT));
    match (found.next(), found.next()) {
        (Some(field), None) => TraceParent::parse(field.value.of(bytes)),
        _ => None,
    }
}

/// Random and not 0.
fn new_id(dice: &mut Dice) -> u64 {
    dice.next().max(1)
}

impl RequestSpan {
    fn new(
        context: TraceParent,
        parent: Option<u64>,
        client: &Client,
        (head, bytes): (&Head, &[u8]),
        host: &[u8],
    ) -> RequestSpan {
        let path = head.target().of(bytes).split(|&b| b == b'?').next().unwrap_or_default();
        let proto = head.fields().iter().find(|f| client.trusted && f.known == Known::XForwardedProto);
        let https = proto.is_some_and(|f| f.value.of(bytes).eq_ignore_ascii_case(b"https"));
        RequestSpan {
            context,
            parent,
            state: if parent.is_some() { state(head, bytes) } else { String::new() },
            began: SystemTime::UNIX_EPOCH,
            took: Duration::ZERO,
            method: text(head.method(bytes)),
            scheme: if https { "https" } else { "http" }.to_owned(),
            host: text(host),
            path: text(path),
            user_agent: text(head.value(bytes, "user-agent").unwrap_or_default()),
            http10: head.version() == plimsoll_http::Version::Http10,
            client: client.address,
            peer: client.peer,
            request_id: None,
            status: 0,
            received: 0,
            sent: 0,
            route: None,
            route_path: None,
            backend: None,
            server: None,
            end: *b"--",
            reason: "",
            attempts: Vec::new(),
        }
    }
}

/// A text that a client chose, as far as it is kept.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT)]).into_owned()
}

/// All `tracestate` fields as one; empty if that is longer than what is repeated, because a part of it would say something else.
fn state(head: &Head, bytes: &[u8]) -> String {
    let fields = head.fields().iter().filter(|field| is_named(field, bytes, TRACESTATE));
    let values: Vec<String> = fields.map(|field| text(field.value.of(bytes))).collect();
    let joined = values.join(",");
    if joined.len() <= STATE { joined } else { String::new() }
}

/// True for the field that we write, and for the one that means nothing without a trace that goes on.
pub(crate) fn replaces(field: &plimsoll_http::Field, buffer: &[u8], continued: bool) -> bool {
    is_named(field, buffer, TRACEPARENT) || (!continued && is_named(field, buffer, TRACESTATE))
}

/// Appends `traceparent`; gives where in `out` the sender's id stands.
pub(crate) fn write(out: &mut Vec<u8>, context: &TraceParent) -> usize {
    let at = out.len() + TRACEPARENT.len() + 2 + SPAN_AT.start;
    plimsoll_http::emit::field(out, TRACEPARENT, &context.write());
    at
}

impl Recorded {
    /// The head for servers has been written, with the sender's id at `at`.
    pub(crate) fn sent_as(&mut self, at: Option<usize>) {
        self.id_at = at;
    }

    /// An attempt begins. It has an id of its own, and `head` tells the server so.
    #[inline(never)]
    pub(crate) fn attempt_begins(
        &mut self,
        server: &Server,
        after: Duration,
        head: &mut [u8],
        dice: &mut Dice,
    ) {
        if self.span.attempts.len() >= ATTEMPTS {
            return;
        }
        let id = self.another(head, dice);
        self.span.attempts.push(AttemptSpan::new(id, server, after));
        self.trying = true;
    }

    /// An id for another attempt; `head` tells the server.
    pub(crate) fn another(&self, head: &mut [u8], dice: &mut Dice) -> u64 {
        let id = new_id(dice);
        let place = self.id_at.and_then(|at| head.get_mut(at..at + SPAN_AT.len()));
        if let Some(place) = place {
            spell(place, id.into());
        }
        id
    }

    /// Two servers were asked. The answer of one `goes on`, and its span with it.
    pub(crate) fn hedged(
        &mut self,
        mut second: AttemptSpan,
        (status, reason): (u16, &'static str),
        goes_on: bool,
        now: Duration,
    ) {
        if goes_on {
            self.end_attempt(0, "", now);
            self.span.attempts.push(second);
            self.trying = true;
        } else {
            (second.status, second.reason, second.took) = (status, reason, now.saturating_sub(second.after));
            // The first one is the last of the list as long as it goes on.
            let place = self.span.attempts.len() - usize::from(self.trying);
            self.span.attempts.insert(place, second);
        }
    }

    /// The attempt has failed; `now` is since the request began.
    pub(crate) fn attempt_failed(&mut self, error: &Error, now: Duration) {
        self.end_attempt(0, error.reason(), now);
    }

    /// The attempt's answer is not passed on.
    pub(crate) fn attempt_answered(&mut self, status: u16, now: Duration) {
        self.end_attempt(status, "", now);
    }

    fn end_attempt(&mut self, status: u16, reason: &'static str, now: Duration) {
        if !std::mem::take(&mut self.trying) {
            return;
        }
        if let Some(last) = self.span.attempts.last_mut() {
            (last.status, last.reason, last.took) = (status, reason, now.saturating_sub(last.after));
        }
    }

    /// The record has ended: completes the span and leaves it for whoever sends it.
    #[inline(never)]
    pub(crate) fn leave(
        mut self,
        record: &Record,
        view: &View,
        (end, reason): ([u8; 2], &'static str),
        total: Duration,
    ) {
        self.end_attempt(record.status, reason, total);
        let Recorded { queue, mut span, .. } = self;
        let shared = &view.shared;
        let backend = record.backend.map(|backend| view.backends[backend].balancer.backend());
        let path = record.route.and_then(|route| shared.config.routes.get(route)?.matcher.path.as_ref());
        span.began = SystemTime::now() - total;
        span.took = total;
        span.client = record.client;
        span.request_id = record.request_id.as_deref().map(text);
        span.status = record.status;
        (span.received, span.sent) = (record.received, record.sent);
        span.route = record.route.map(|route| shared.routes[route].name.to_string());
        span.route_path = path.map(|path| match path {
            PathMatch::Exact(path) => path.clone(),
            PathMatch::Prefix(path) => format!("{path}/*"),
        });
        span.server = backend
            .zip(record.server)
            .map(|(backend, server)| backend.servers[server as usize].name.to_string());
        span.backend = backend.map(|backend| backend.name.to_string());
        (span.end, span.reason) = (end, reason);
        queue.leave(span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_http::{Kind, Limits};

    const VALID: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";

    fn head(fields: &str) -> (Head, String) {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut head = Head::new(Kind::Request);
        let limits = Limits { target: 8192, section: 32768, fields: 100 };
        assert_eq!(head.parse(text.as_bytes(), &limits), Ok(true));
        (head, text)
    }

    #[test]
    fn one_valid_field_names_the_parent() {
        let of = |fields: &str| {
            let (head, text) = head(fields);
            parent(&head, text.as_bytes()).map(|parent| parent.span)
        };
        assert_eq!(of(VALID), Some(0x00f0_67aa_0ba9_02b7));
        assert_eq!(of(&VALID.replace("traceparent", "TraceParent")), Some(0x00f0_67aa_0ba9_02b7));
        assert_eq!(of(""), None);
        assert_eq!(of(&VALID.replace("-01", "-1")), None);
        assert_eq!(of(&VALID.repeat(2)), None, "nobody can say which one is meant");
    }

    #[test]
    fn state_is_one_list_and_never_a_part_of_one() {
        let of = |fields: &str| {
            let (head, text) = head(fields);
            state(&head, text.as_bytes())
        };
        assert_eq!(of("tracestate: a=1\r\nTracestate: b=2\r\n"), "a=1,b=2");
        assert_eq!(of(&format!("tracestate: a={}\r\n", "x".repeat(STATE))), "");
    }

    #[test]
    fn an_attempt_tells_the_server_its_own_id() {
        let context = TraceParent { trace: 7, span: 8, sampled: true, random: true };
        let mut out = b"GET / HTTP/1.1\r\n".to_vec();
        let at = write(&mut out, &context);
        assert_eq!(&out[at..at + 16], b"0000000000000008");
        spell(&mut out[at..at + 16], 0xabc);
        assert!(out.ends_with(b"traceparent: 00-00000000000000000000000000000007-0000000000000abc-03\r\n"));
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (queue, mut receiver) = span_queue();
        let (head, text) = head("");
        let client = Client::new(IpAddr::from([127, 0, 0, 1]), &[]);
        let context = TraceParent { trace: 1, span: 1, sampled: true, random: true };
        let span = RequestSpan::new(context, None, &client, (&head, text.as_bytes()), b"a");
        let before = dropped_by_all();
        (0..QUEUE + 3).for_each(|_| queue.leave(span.clone()));
        assert_eq!(dropped_by_all() - before, 3);
        assert!(receiver.try_recv().is_ok());
    }
}
