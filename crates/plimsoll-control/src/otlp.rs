//! OTLP: recorded requests as the messages that an OpenTelemetry collector takes.
//!
//! Only what is sent is declared, by the numbers of opentelemetry-proto 1.x (`trace.proto`, `common.proto`, `trace_service.proto`), which never
//! change. Names of attributes are those of the semantic conventions for HTTP (stable since 1.23), and `plimsoll.*` for what they have no name for.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use plimsoll_config::model::Address;
use plimsoll_proxy::{AttemptSpan, RequestSpan, TraceParent};
use prost::Message;

const SCHEMA: &str = "https://opentelemetry.io/schemas/1.27.0";
/// Methods that a span may be named after; others are chosen by clients, and there is no end to them.
const METHODS: &[&str] =
    &["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"];
/// `SpanFlags`: it is known whether the parent is elsewhere; it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
/// `SpanKind`.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
/// `StatusCode`.
const ERROR: i32 = 2;

/// `ExportTraceServiceRequest`.
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

/// `InstrumentationScope`.
#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// `ExportTraceServiceResponse`.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// Spans that the collector has not taken, by its own answer, and why. Who answers with something else has taken all.
pub(crate) fn rejected(answer: &[u8]) -> (u64, String) {
    let answer = Response::decode(answer).unwrap_or_default();
    let partial = answer.partial_success.unwrap_or_default();
    (u64::try_from(partial.rejected_spans).unwrap_or(0), partial.error_message)
}

/// The message that carries these requests, with their attempts, as spans of `service`; `instance` names this process.
pub(crate) fn message(requests: &[RequestSpan], service: &str, instance: &str) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let mut resource = Attributes::default();
    resource.text("service.name", service);
    resource.text("service.version", version);
    resource.text("service.instance.id", instance);
    resource.number("process.pid", u64::from(std::process::id()));
    let spans = requests.iter().flat_map(|request| {
        std::iter::once(server_span(request))
            .chain(request.attempts.iter().enumerate().map(|(n, attempt)| client_span(request, n, attempt)))
    });
    let scope = Scope { name: "plimsoll".to_owned(), version: version.to_owned() };
    let scope_spans =
        ScopeSpans { scope: Some(scope), spans: spans.collect(), schema_url: SCHEMA.to_owned() };
    let all = ResourceSpans {
        resource: Some(Resource { attributes: resource.0 }),
        scope_spans: vec![scope_spans],
        schema_url: SCHEMA.to_owned(),
    };
    Request { resource_spans: vec![all] }.encode_to_vec()
}

#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn add(&mut self, key: &str, value: Value) {
        self.0.push(KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) });
    }

    /// What is empty is not known, and is left out.
    fn text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.add(key, Value::Text(value.to_owned()));
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        self.add(key, Value::Number(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn method(&mut self, method: &str) {
        if METHODS.contains(&method) {
            return self.text("http.request.method", method);
        }
        self.text("http.request.method", "_OTHER");
        self.text("http.request.method_original", method);
    }

    /// A status that was sent, and what the error was, if it is one.
    fn outcome(&mut self, status: u16, reason: &str, is_error: bool) {
        if status > 0 {
            self.number("http.response.status_code", u64::from(status));
        }
        if is_error && reason.is_empty() {
            self.text("error.type", &status.to_string());
        } else if is_error {
            self.text("error.type", reason);
        }
    }

    fn host(&mut self, host: &str, default_port: u64) {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().unwrap_or(default_port)),
            _ => (host, default_port),
        };
        self.text("server.address", name.trim_start_matches('[').trim_end_matches(']'));
        if !name.is_empty() {
            self.number("server.port", port);
        }
    }
}

/// What a request was to its client.
fn server_span(request: &RequestSpan) -> Span {
    let mut attributes = Attributes::default();
    attributes.method(&request.method);
    attributes.text("url.scheme", &request.scheme);
    attributes.text("url.path", &request.path);
    let route = request.route_path.as_deref().unwrap_or_default();
    attributes.text("http.route", route);
    attributes.host(&request.host, if request.scheme == "https" { 443 } else { 80 });
    attributes.text("client.address", &request.client.to_string());
    attributes.text("network.peer.address", &request.peer.to_string());
    attributes.text("network.protocol.version", if request.http10 { "1.0" } else { "1.1" });
    attributes.text("user_agent.original", &request.user_agent);
    let is_error = is_error(request);
    attributes.outcome(request.status, request.reason, is_error);
    for (key, value) in [
        ("plimsoll.request_id", &request.request_id),
        ("plimsoll.route", &request.route),
        ("plimsoll.backend", &request.backend),
        ("plimsoll.server", &request.server),
    ] {
        attributes.text(key, value.as_deref().unwrap_or_default());
    }
    attributes.number("plimsoll.attempts", request.attempts.len() as u64);
    attributes.text("plimsoll.end", &String::from_utf8_lossy(&request.end));
    attributes.text("plimsoll.reason", request.reason);
    attributes.number("plimsoll.received_bytes", request.received);
    attributes.number("plimsoll.sent_bytes", request.sent);
    let remote = if request.parent.is_some() { IS_REMOTE } else { 0 };
    Span {
        trace_id: request.context.trace.to_be_bytes().to_vec(),
        span_id: request.context.span.to_be_bytes().to_vec(),
        trace_state: request.state.clone(),
        parent_span_id: request.parent.map_or_else(Vec::new, |parent| parent.to_be_bytes().to_vec()),
        name: name(&request.method, route),
        kind: SERVER,
        start_time_unix_nano: nanos(request.began),
        end_time_unix_nano: nanos(request.began + request.took),
        attributes: attributes.0,
        status: status(is_error, request.reason),
        flags: flags(&request.context) | HAS_IS_REMOTE | remote,
    }
}

/// What attempt `n` of a request was to us, who asked a server.
fn client_span(request: &RequestSpan, n: usize, attempt: &AttemptSpan) -> Span {
    let mut attributes = Attributes::default();
    attributes.method(&request.method);
    address(&mut attributes, &attempt.address, &request.path);
    // For who asks, a 4xx is an error too.
    let is_error = !attempt.reason.is_empty() || attempt.status >= 400;
    attributes.outcome(attempt.status, attempt.reason, is_error);
    if n > 0 {
        attributes.number("http.request.resend_count", n as u64);
    }
    attributes.text("plimsoll.backend", request.backend.as_deref().unwrap_or_default());
    attributes.text("plimsoll.server", &attempt.server);
    let began = request.began + attempt.after;
    Span {
        trace_id: request.context.trace.to_be_bytes().to_vec(),
        span_id: attempt.id.to_be_bytes().to_vec(),
        trace_state: request.state.clone(),
        parent_span_id: request.context.span.to_be_bytes().to_vec(),
        name: name(&request.method, ""),
        kind: CLIENT,
        start_time_unix_nano: nanos(began),
        end_time_unix_nano: nanos(began + attempt.took),
        attributes: attributes.0,
        status: status(is_error, attempt.reason),
        flags: flags(&request.context) | HAS_IS_REMOTE,
    }
}

/// Where a server is, and what it was asked for.
fn address(attributes: &mut Attributes, address: &Address, path: &str) {
    let (host, port) = match address {
        Address::Socket(socket) => (socket.ip().to_string(), socket.port()),
        Address::Name(host, port) => (host.clone(), *port),
        Address::Unix(socket) => {
            attributes.text("server.address", &socket.display().to_string());
            return attributes.text("network.transport", "unix");
        }
    };
    attributes.text("server.address", &host);
    attributes.number("server.port", u64::from(port));
    if host.parse::<IpAddr>().is_ok() {
        attributes.text("network.peer.address", &host);
        attributes.number("network.peer.port", u64::from(port));
    }
    if path.starts_with('/') {
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        attributes.text("url.full", &format!("http://{host}:{port}{path}"));
    }
}

/// 5xx, or cut for another reason than the client's doing. A client's mistake is not an error of who serves it.
fn is_error(request: &RequestSpan) -> bool {
    let clients_doing = matches!(request.end[0], b'C' | b'c') || (400..500).contains(&request.status);
    request.status >= 500 || (!request.reason.is_empty() && !clients_doing)
}

/// Few: the method and the route, as both are configured.
fn name(method: &str, route: &str) -> String {
    let method = if METHODS.contains(&method) { method } else { "HTTP" };
    if route.is_empty() { method.to_owned() } else { format!("{method} {route}") }
}

fn status(is_error: bool, message: &str) -> Option<Status> {
    is_error.then(|| Status { message: message.to_owned(), code: ERROR })
}

fn flags(context: &TraceParent) -> u32 {
    u32::from(context.sampled) | (u32::from(context.random) << 1)
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A request with two attempts, the first of which failed.
    pub(crate) fn request() -> RequestSpan {
        let attempt = |id, server: &str, status, reason| AttemptSpan {
            id,
            server: server.to_owned(),
            address: Address::Socket("10.0.0.1:3000".parse().unwrap()),
            after: Duration::from_millis(id),
            took: Duration::from_millis(5),
            status,
            reason,
        };
        RequestSpan {
            context: TraceParent { trace: 0x0102, span: 3, sampled: true, random: true },
            parent: Some(4),
            state: "a=1".to_owned(),
            began: UNIX_EPOCH + Duration::from_secs(1),
            took: Duration::from_millis(20),
            method: "GET".to_owned(),
            scheme: "http".to_owned(),
            host: "shop.example:8080".to_owned(),
            path: "/v1/cart".to_owned(),
            user_agent: String::new(),
            http10: false,
            client: "203.0.113.9".parse().unwrap(),
            peer: "10.0.0.9".parse().unwrap(),
            request_id: Some("r-1".to_owned()),
            status: 200,
            received: 10,
            sent: 20,
            route: Some("shop".to_owned()),
            route_path: Some("/v1/*".to_owned()),
            backend: Some("b".to_owned()),
            server: Some("two".to_owned()),
            end: *b"--",
            reason: "",
            attempts: vec![attempt(1, "one", 0, "connect_failed"), attempt(2, "two", 200, "")],
        }
    }

    fn attribute<'s>(span: &'s Span, key: &str) -> Option<&'s Value> {
        let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
        found.value.as_ref()?.value.as_ref()
    }

    fn text<'s>(span: &'s Span, key: &str) -> Option<&'s str> {
        match attribute(span, key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    #[test]
    fn a_request_is_a_span_and_each_attempt_its_child() {
        let message = Request::decode(&*message(&[request()], "edge", "i")).unwrap();
        let spans = &message.resource_spans[0].scope_spans[0].spans;
        let [request, first, second] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((request.name.as_str(), request.kind, request.flags), ("GET /v1/*", SERVER, 0x303));
        assert_eq!(
            (request.start_time_unix_nano, request.end_time_unix_nano),
            (1_000_000_000, 1_020_000_000)
        );
        assert_eq!(request.trace_id, 0x0102_u128.to_be_bytes());
        assert_eq!(request.parent_span_id, 4_u64.to_be_bytes());
        assert_eq!(text(request, "server.address"), Some("shop.example"));
        assert_eq!(attribute(request, "server.port"), Some(&Value::Number(8080)));
        assert_eq!(text(request, "client.address"), Some("203.0.113.9"));
        assert_eq!((text(request, "error.type"), &request.status), (None, &None));
        for attempt in [first, second] {
            assert_eq!((attempt.kind, &attempt.parent_span_id), (CLIENT, &request.span_id));
            assert_eq!((&attempt.trace_id, &attempt.trace_state), (&request.trace_id, &request.trace_state));
        }
        assert_eq!(text(first, "error.type"), Some("connect_failed"));
        assert_eq!(first.status.as_ref().map(|status| status.code), Some(ERROR));
        assert_eq!(attribute(first, "http.request.resend_count"), None);
        assert_eq!(attribute(second, "http.request.resend_count"), Some(&Value::Number(1)));
        assert_eq!(text(second, "url.full"), Some("http://10.0.0.1:3000/v1/cart"));
        assert_eq!(second.start_time_unix_nano, 1_002_000_000);
    }

    #[test]
    fn only_what_is_not_the_clients_doing_is_an_error() {
        let of = |status, end: &[u8; 2], reason| {
            let span = server_span(&RequestSpan { status, end: *end, reason, ..request() });
            (
                span.status.map(|status| status.code),
                text(&span_of(status, end, reason), "error.type").map(str::to_owned),
            )
        };
        assert_eq!(of(200, b"--", ""), (None, None));
        assert_eq!(of(404, b"LC", "no_route"), (None, None));
        assert_eq!(of(400, b"PR", "bad_host"), (None, None));
        assert_eq!(of(0, b"CH", "client_closed"), (None, None));
        assert_eq!(of(503, b"--", ""), (Some(ERROR), Some("503".to_owned())));
        assert_eq!(of(502, b"SC", "connect_failed"), (Some(ERROR), Some("connect_failed".to_owned())));
        assert_eq!(of(200, b"SD", "server_closed"), (Some(ERROR), Some("server_closed".to_owned())));
    }

    fn span_of(status: u16, end: &[u8; 2], reason: &'static str) -> Span {
        server_span(&RequestSpan { status, end: *end, reason, ..request() })
    }

    #[test]
    fn names_do_not_grow_with_what_clients_send() {
        let span = server_span(&RequestSpan { method: "BREW".to_owned(), route_path: None, ..request() });
        assert_eq!(span.name, "HTTP");
        assert_eq!(text(&span, "http.request.method"), Some("_OTHER"));
        assert_eq!(text(&span, "http.request.method_original"), Some("BREW"));
    }

    #[test]
    fn a_collectors_partial_success_is_understood() {
        let partial = PartialSuccess { rejected_spans: 3, error_message: "full".to_owned() };
        let answer = Response { partial_success: Some(partial) }.encode_to_vec();
        assert_eq!(rejected(&answer), (3, "full".to_owned()));
        assert_eq!(rejected(b""), (0, String::new()));
        assert_eq!(rejected(b"<html>"), (0, String::new()));
    }

    #[test]
    fn hosts_are_split_from_their_ports() {
        for (host, name, port) in
            [("a", "a", 443), ("a:8080", "a", 8080), ("[::1]", "::1", 443), ("[::1]:1", "::1", 1)]
        {
            let mut attributes = Attributes::default();
            attributes.host(host, 443);
            let values: Vec<_> = attributes.0.into_iter().filter_map(|a| a.value?.value).collect();
            assert_eq!(values, [Value::Text(name.to_owned()), Value::Number(port)]);
        }
    }
}
