//! What is to become of a request: judged, routed, and made ready to be sent on.
//!
//! Everything that needs the bytes of a received head happens here, in one go and without waiting; afterwards they are gone,
//! and `exchange` works with a [`Plan`] and the little that [`Asked`] remembers.

use std::net::IpAddr;
use std::rc::Rc;

use plimsoll_config::model::{Action, Balance, HashKey, Underscores};
use plimsoll_http::framing::{self, Framing};
use plimsoll_http::{Head, Reason, Version, host_without_port};
use plimsoll_traffic::pressure::Level;
use plimsoll_traffic::{Rank, Session, hash_key, idempotent, split};

use crate::access_log::Record;
use crate::buffer::Buffer;
use crate::downstream::Downstream;
use crate::error::{Error, Phase, What, Who};
use crate::forward::{self, Added, Client};
use crate::pump::Pump;
use crate::reply::Form;
use crate::snapshot::{Route, View};
use crate::sticky::Sticky;
use crate::waiting;
use crate::worker::Worker;
use crate::{limits, request_id, trace};

/// What is remembered of a request once its head's bytes are gone.
pub(crate) struct Asked {
    pub(crate) keep_alive: bool,
    pub(crate) http10: bool,
    pub(crate) to_head: bool,
    pub(crate) idempotent: bool,
    /// It may be sent to two servers at once: `GET` or `HEAD`, without a body.
    pub(crate) hedgeable: bool,
    /// It waits for a 100 before it sends its body.
    pub(crate) expects_continue: bool,
    /// The protocol that the client wants to switch to, where the route allows it.
    pub(crate) upgrade: Option<Box<str>>,
    /// Hash of the key that places the request, for a backend that goes by one.
    pub(crate) key: u64,
    /// Where it belongs, on a sticky route.
    pub(crate) session: Option<Session>,
    /// How much it matters and whose it is, should it have to wait.
    pub(crate) rank: Rank,
    /// A proxy that is trusted says that the client came over TLS. Only known on a sticky route.
    pub(crate) over_tls: bool,
    /// Whole lines for the answer's head.
    pub(crate) fields: Vec<u8>,
}

/// What is going to happen to a request.
pub(crate) enum Plan {
    /// `whole`: there is nothing more to read of the request.
    Refuse { error: Error, whole: bool, form: Form },
    /// The route answers by itself.
    Answer { route: usize, location: Option<Vec<u8>>, body_follows: bool },
    /// A server of `backend` answers.
    Proxy { route: usize, backend: usize, up: Box<Pump> },
}

/// Judges the head at the front of the client's buffer, finds the route, and prepares what is sent on.
pub(crate) fn plan(
    down: &mut Downstream,
    worker: &Rc<Worker>,
    view: &View,
    head: &Head,
    record: &mut Record,
) -> (Asked, Plan) {
    let bytes = &down.buffer.filled()[..head.len()];
    let mut asked = Asked::new(head, bytes);
    let judged = judge(head, bytes, view.shared.config.http.underscores);
    let host = judged.as_ref().ok().and_then(|j| j.host).map_or(&b""[..], |span| span.of(bytes));
    record.note(head, bytes, host);
    let continued = identify(down, worker, view, (head, bytes, host), record);
    let refuse = |error, whole| Plan::Refuse { error, whole, form: Form::of(head.value(bytes, "accept")) };
    let judged = match judged {
        Ok(judged) => judged,
        Err(reason) => {
            return (asked, refuse(Error::new(Who::Client, Phase::Request, What::Malformed(reason)), false));
        }
    };
    asked.keep_alive = judged.keep_alive;
    asked.expects_continue = judged.expects_continue;
    let bodiless = judged.framing == Framing::None;
    let target = judged.target.origin_form(bytes).rest;
    let Some(number) = find_route(view, down.listener, head, bytes, (host, target)) else {
        return (asked, refuse(Error::new(Who::Us, Phase::Connect, What::NoRoute), bodiless));
    };
    let route = &view.shared.routes[number];
    record.routed(number);
    let client = down.client.named_by(head, bytes, &view.shared.config.trusted);
    record.client = client.address;
    if let Some(error) = asked.refusal((worker, view, route), (head, bytes, target), &client, record) {
        return (asked, refuse(error, bodiless));
    }
    let Action::Proxy(weights) = &route.action else {
        let location = location(&route.action, host, target);
        return (asked, Plan::Answer { route: number, location, body_follows: !bodiless });
    };
    if matches!(judged.framing, Framing::Length(n) if n > route.body_max) {
        return (asked, refuse(Error::new(Who::Client, Phase::Head, What::BodyTooLarge), false));
    }
    let backend = asked.backend(route, weights, (head, bytes), worker, client.trusted);
    if let Balance::Hash(hash) = &view.backends[backend].balancer.backend().balance {
        asked.key = place(&hash.key, head, bytes, target, client.address);
    }
    asked.rank = waiting::rank(view, (route, backend), (head, bytes, target), &client);
    asked.upgrade = upgrade(&judged, bytes, route);
    asked.hedgeable &= bodiless && asked.upgrade.is_none();
    let mut out = worker.take_text();
    let wanted = asked.upgrade.as_deref().map(str::as_bytes);
    let own_authority = if judged.host.is_none() { down.stream.local_address() } else { None };
    let added = Added {
        upgrade: wanted,
        own_authority,
        request_id: record.id_field(),
        trace: record.trace.map(|context| (context, continued)),
        cookie: route.sticky.as_ref().and_then(Sticky::cookie).and_then(|c| c.to_take_out(head, bytes)),
    };
    let http = &view.shared.config.http;
    let id_at = forward::request(&mut out, (head, bytes), &judged, &client, http, &added);
    if let Some(recorded) = &mut record.recorded {
        recorded.sent_as(id_at);
    }
    let replay = asked.idempotent.then_some(view.shared.config.limits.replay);
    let body = take_body(&mut down.buffer, head.len(), judged.framing);
    record.received += body.len() as u64;
    let mut up = Box::write(Box::new_uninit(), Pump::new(out, judged.framing, judged.framing, body, replay));
    up.body_max = route.body_max;
    (asked, Plan::Proxy { route: number, backend, up })
}

impl Asked {
    fn new(head: &Head, bytes: &[u8]) -> Asked {
        let method = head.method(bytes);
        Asked {
            keep_alive: false,
            http10: head.version() == Version::Http10,
            to_head: method == b"HEAD",
            idempotent: idempotent(method),
            hedgeable: matches!(method, b"GET" | b"HEAD"),
            expects_continue: false,
            upgrade: None,
            key: 0,
            session: None,
            rank: Rank::default(),
            over_tls: false,
            fields: Vec::new(),
        }
    }

    /// Why it goes no further: this process is short of something, or its client has asked enough.
    fn refusal(
        &mut self,
        (worker, view, route): (&Worker, &View, &Route),
        (head, bytes, target): (&Head, &[u8], &[u8]),
        client: &Client,
        record: &mut Record,
    ) -> Option<Error> {
        let pressure = view.shared.stats.pressure();
        if pressure.level() > Level::NoKeepAlive
            && pressure.refuses(waiting::class(route, (head, bytes), client))
        {
            return Some(Error::new(Who::Us, Phase::Request, What::Overloaded));
        }
        if route.limits.is_empty() {
            return None;
        }
        let now = worker.deadlines.micros();
        let ruling = limits::rule(&route.limits, (head, bytes), target, client.address, now);
        self.fields = ruling.fields;
        record.would_refuse = ruling.would_refuse;
        ruling.refused.then(|| Error::new(Who::Client, Phase::Request, What::RateLimited))
    }

    /// Which of the route's backends it goes to.
    fn backend(
        &mut self,
        route: &Route,
        weights: &[(usize, u32)],
        message: (&Head, &[u8]),
        worker: &Worker,
        trusted: bool,
    ) -> usize {
        match (&route.sticky, weights) {
            (Some(sticky), _) => self.join(sticky, message, weights, worker, trusted),
            (None, [(only, _)]) => *only,
            (None, _) => split(weights, &mut worker.dice.borrow_mut()),
        }
    }

    /// Finds where a request of a sticky route belongs; gives its backend.
    #[inline(never)] // keeps the way of all others short
    fn join(
        &mut self,
        sticky: &Sticky,
        (head, bytes): (&Head, &[u8]),
        weights: &[(usize, u32)],
        worker: &Worker,
        trusted: bool,
    ) -> usize {
        let belongs = sticky.belongs((head, bytes), weights, &mut worker.dice.borrow_mut());
        self.session = belongs.session;
        let proto = || head.value(bytes, "x-forwarded-proto");
        self.over_tls = trusted && proto().is_some_and(|proto| proto.eq_ignore_ascii_case(b"https"));
        belongs.backend
    }
}

/// Gives the request the ids that the configuration asks for. True if it goes on with a trace of the client.
fn identify(
    down: &Downstream,
    worker: &Worker,
    view: &View,
    (head, bytes, host): (&Head, &[u8], &[u8]),
    record: &mut Record,
) -> bool {
    if let Some(name) = &view.shared.config.http.request_id {
        let dice = &mut worker.dice.borrow_mut();
        record.request_id = Some(request_id::of(name, (head, bytes), down.client.trusted, dice));
    }
    let Some(tracer) = &view.shared.tracer else { return false };
    let traced = trace::begin(tracer, worker, &down.client, (head, bytes), host);
    record.trace = Some(traced.context);
    record.recorded = traced.recorded;
    traced.continued
}

fn judge(head: &Head, bytes: &[u8], underscores: Underscores) -> Result<framing::Request, Reason> {
    let judged = framing::request(head, bytes)?;
    match underscores {
        Underscores::Refuse if head.has_underscore() => Err(Reason::Underscore),
        _ => Ok(judged),
    }
}

/// The most specific route, or the listener's own.
fn find_route(
    view: &View,
    listener: usize,
    head: &Head,
    bytes: &[u8],
    (host, target): (&[u8], &[u8]),
) -> Option<usize> {
    let path = target.split(|&b| b == b'?').next().unwrap_or_default();
    let path = if path.is_empty() { b"/" } else { path };
    let header = |name: &str| head.value(bytes, name);
    let found = view.shared.router.find(host_without_port(host), head.method(bytes), path, &header);
    found.or(view.fallback(listener))
}

/// The part of the buffer behind the head, if it belongs to this request; a pipelined next request stays where it is.
fn take_body(buffer: &mut Buffer, head: usize, framing: Framing) -> Buffer {
    if framing == Framing::None {
        return Buffer::default();
    }
    let mut body = std::mem::take(buffer);
    body.consume(head);
    body
}

/// The protocol to switch to, if client and route want the same one.
fn upgrade(judged: &framing::Request, bytes: &[u8], route: &Route) -> Option<Box<str>> {
    let wanted = judged.upgrade?.of(bytes);
    route
        .upgrade
        .iter()
        .find(|allowed| wanted.eq_ignore_ascii_case(allowed.as_bytes()))
        .map(|p| p.as_str().into())
}

/// Hashes what a request is placed by; the client's address where the request has no such thing.
pub(crate) fn place(key: &HashKey, head: &Head, bytes: &[u8], target: &[u8], client: IpAddr) -> u64 {
    match (key_of(key, head, bytes, target), client) {
        (Some(value), _) => hash_key(value),
        (None, IpAddr::V4(v4)) => hash_key(&v4.octets()),
        (None, IpAddr::V6(v6)) => hash_key(&v6.octets()),
    }
}

/// What a request is placed or counted by; `None` for one that has no such thing, and for clients' addresses.
pub(crate) fn key_of<'b>(key: &HashKey, head: &Head, bytes: &'b [u8], target: &'b [u8]) -> Option<&'b [u8]> {
    let (path, query) = match target.iter().position(|&b| b == b'?') {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, &b""[..]),
    };
    match key {
        HashKey::ClientIp => None,
        HashKey::Header(name) => head.value(bytes, name),
        HashKey::Cookie(name) => head
            .fields()
            .iter()
            .filter(|f| f.name.of(bytes).eq_ignore_ascii_case(b"cookie"))
            .find_map(|f| pair(f.value.of(bytes), b';', name.as_bytes())),
        HashKey::Path => Some(path),
        HashKey::Query(name) => pair(query, b'&', name.as_bytes()),
    }
}

/// The value of `name` in a list of `name=value`.
fn pair<'b>(list: &'b [u8], separator: u8, name: &[u8]) -> Option<&'b [u8]> {
    list.split(|&b| b == separator)
        .map(<[u8]>::trim_ascii_start)
        .find_map(|p| p.strip_prefix(name)?.strip_prefix(b"="))
}

/// The `Location` of a redirect, filled in; `None` for any other action.
fn location(action: &Action, host: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let Action::Redirect { location, .. } = action else {
        return None;
    };
    let at = target.iter().position(|&b| b == b'?').unwrap_or(target.len());
    let (path, query) = (if at == 0 { b"/" } else { &target[..at] }, &target[at..]);
    let mut out = Vec::new();
    let mut rest = location.as_str();
    while let Some(open) = rest.find('{') {
        out.extend_from_slice(&rest.as_bytes()[..open]);
        rest = &rest[open..];
        let holes = [("{host}", host), ("{path}", path), ("{query}", query)];
        match holes.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, value)) => {
                out.extend_from_slice(value);
                rest = &rest[name.len()..];
            }
            None => {
                out.push(b'{');
                rest = &rest[1..];
            }
        }
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_found_by_their_whole_name() {
        assert_eq!(pair(b"xa=1; a=2; a=3", b';', b"a"), Some(&b"2"[..]));
        assert_eq!(pair(b"a=1&b=&c", b'&', b"b"), Some(&b""[..]));
        assert_eq!(pair(b"a=1&b=&c", b'&', b"c"), None);
    }

    #[test]
    fn redirects_are_filled_in() {
        let redirect = |to: &str, target: &str| {
            let action = Action::Redirect { status: 308, location: to.into() };
            String::from_utf8(location(&action, b"h:1", target.as_bytes()).expect("a redirect"))
                .expect("text")
        };
        assert_eq!(redirect("https://{host}{path}{query}", "/a?b={path}"), "https://h:1/a?b={path}");
        assert_eq!(redirect("/new{path}", "?x"), "/new/");
        assert_eq!(redirect("/{other}", "/"), "/{other}");
    }
}
