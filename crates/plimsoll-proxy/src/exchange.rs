//! One request, from its head to its log line: the file to read first.
//!
//! All branching of the path lives here: is the request acceptable, which route takes it, which server, once more or not, what
//! becomes of both connections. `attempt` tries one server and decides nothing; `pump` moves bytes; `forward` and
//! `reply` write heads. Whatever ends an exchange (also a cancel or a panic), its record is logged and its server's slot
//! given back, because both are guards.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use plimsoll_config::model::{Action, Balance, HashKey, Underscores};
use plimsoll_http::framing::{self, Framing};
use plimsoll_http::{Head, Reason, Version, host_without_port};
use plimsoll_traffic::{Again, Ask, Attempt, Lease, NoServer, again, hash_key, idempotent, split};

use crate::access_log::Record;
use crate::attempt::{self, Answer, Failed};
use crate::buffer::Buffer;
use crate::downstream::{After, Downstream};
use crate::error::{Error, Phase, What, Who};
use crate::forward;
use crate::pump::Pump;
use crate::reply::{self, Form, Reply, Sending};
use crate::response;
use crate::snapshot::{Route, View};
use crate::worker::Worker;

/// What is remembered of a request once its head's bytes are gone.
pub(crate) struct Asked {
    pub(crate) keep_alive: bool,
    pub(crate) http10: bool,
    pub(crate) to_head: bool,
    pub(crate) idempotent: bool,
    /// The protocol that the client wants to switch to, where the route allows it.
    pub(crate) upgrade: Option<Box<str>>,
    /// Hash of the key that places the request, for a backend that goes by one.
    key: u64,
}

/// One exchange on its way.
pub(crate) struct Exchange<'a> {
    pub(crate) down: &'a mut Downstream,
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) view: Rc<View>,
    pub(crate) record: Record,
    pub(crate) asked: Asked,
    /// When the route's total time is up, in milliseconds.
    pub(crate) total_due: u64,
}

/// Runs one exchange; `head` is whole and its bytes stand at the front of the client's buffer.
pub(crate) async fn run(down: &mut Downstream, worker: &Rc<Worker>, head: Box<Head>) -> After {
    let view = worker.view();
    let mut record = Record::begin(worker, &view, down.client.address);
    record.received = head.len() as u64;
    let (asked, planned) = plan(down, worker, &view, &head, &mut record);
    down.buffer.consume(head.len());
    worker.buffers.park(&mut down.buffer);
    worker.give_head(head);
    let mut exchange = Exchange {
        down,
        worker,
        view: Rc::clone(&view),
        record,
        asked,
        total_due: u64::MAX,
    };
    // What is rare is boxed: every idle connection has room for the longest way an exchange can take.
    match planned {
        Plan::Refuse { error, whole, form } => Box::pin(exchange.tell(&error, whole, form)).await,
        Plan::Answer {
            route,
            location,
            body_follows,
        } => Box::pin(exchange.answer(&view.shared.routes[route], location, body_follows)).await,
        Plan::Proxy { route, backend, up } => exchange.proxy(&view.shared.routes[route], backend, up).await,
    }
}

/// What is going to happen to a request.
enum Plan {
    /// `whole`: there is nothing more to read of the request.
    Refuse { error: Error, whole: bool, form: Form },
    Answer {
        route: usize,
        location: Option<Vec<u8>>,
        body_follows: bool,
    },
    Proxy {
        route: usize,
        backend: usize,
        up: Box<Pump>,
    },
}

/// Judges the head, finds the route, and prepares what is sent on. Everything that needs the head's bytes happens here.
fn plan(
    down: &mut Downstream,
    worker: &Rc<Worker>,
    view: &View,
    head: &Head,
    record: &mut Record,
) -> (Asked, Plan) {
    let bytes = &down.buffer.filled()[..head.len()];
    let config = &view.shared.config;
    let mut asked = Asked::new(head, bytes);
    let judged = framing::request(head, bytes).and_then(|judged| match config.http.underscores {
        Underscores::Refuse if head.has_underscore() => Err(Reason::Underscore),
        _ => Ok(judged),
    });
    let host = judged
        .as_ref()
        .ok()
        .and_then(|j| j.host)
        .map_or(&b""[..], |span| span.of(bytes));
    record.note(head, bytes, host);
    let judged = match judged {
        Ok(judged) => judged,
        Err(reason) => {
            let error = Error::new(Who::Client, Phase::Request, What::Malformed(reason));
            return (
                asked,
                Plan::Refuse {
                    error,
                    whole: false,
                    form: Form::of(head.value(bytes, "accept")),
                },
            );
        }
    };
    asked.keep_alive = judged.keep_alive;
    let target = judged.target.origin_form(bytes).rest;
    let path = target.split(|&b| b == b'?').next().unwrap_or_default();
    let path = if path.is_empty() { b"/" } else { path };
    let found = view
        .shared
        .router
        .find(host_without_port(host), head.method(bytes), path, &|name| {
            head.value(bytes, name)
        });
    let Some(number) = found.or(view.shared.fallbacks[down.listener]) else {
        let error = Error::new(Who::Us, Phase::Connect, What::NoRoute);
        let (whole, form) = (
            judged.framing == Framing::None,
            Form::of(head.value(bytes, "accept")),
        );
        return (asked, Plan::Refuse { error, whole, form });
    };
    record.route = Some(number);
    let client = down.client.named_by(head, bytes, &config.trusted);
    record.client = client.address;
    let route = &view.shared.routes[number];
    let Action::Proxy(weights) = &route.action else {
        let body_follows = judged.framing != Framing::None;
        return (
            asked,
            Plan::Answer {
                route: number,
                location: location(&route.action, host, target),
                body_follows,
            },
        );
    };
    if matches!(judged.framing, Framing::Length(n) if n > route.body_max) {
        let error = Error::new(Who::Client, Phase::Head, What::BodyTooLarge);
        return (
            asked,
            Plan::Refuse {
                error,
                whole: false,
                form: Form::of(head.value(bytes, "accept")),
            },
        );
    }
    let backend = if let [(only, _)] = weights[..] {
        only
    } else {
        split(weights, &mut worker.dice.borrow_mut())
    };
    if let Balance::Hash(key) = &view.backends[backend].balancer.backend().balance {
        asked.key = place(key, head, bytes, target, client.address);
    }
    asked.upgrade = upgrade(&judged, bytes, route);
    let mut out = worker.take_text();
    forward::request(
        &mut out,
        (head, bytes),
        &judged,
        &client,
        &config.http,
        asked.upgrade.as_deref().map(str::as_bytes),
    );
    let replay = if asked.idempotent && route.retries > 0 {
        config.limits.replay
    } else {
        0
    };
    let body = take_body(&mut down.buffer, head.len(), judged.framing);
    record.received += body.len() as u64;
    let mut up = Pump::new(out, judged.framing, judged.framing, body, replay);
    up.body_max = route.body_max;
    (
        asked,
        Plan::Proxy {
            route: number,
            backend,
            up: Box::new(up),
        },
    )
}

impl Asked {
    fn new(head: &Head, bytes: &[u8]) -> Asked {
        let method = head.method(bytes);
        Asked {
            keep_alive: false,
            http10: head.version() == Version::Http10,
            to_head: method == b"HEAD",
            idempotent: idempotent(method),
            upgrade: None,
            key: 0,
        }
    }
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
fn place(key: &HashKey, head: &Head, bytes: &[u8], target: &[u8], client: IpAddr) -> u64 {
    let (path, query) = match target.iter().position(|&b| b == b'?') {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, &b""[..]),
    };
    let found = match key {
        HashKey::ClientIp => None,
        HashKey::Header(name) => head.value(bytes, name),
        HashKey::Cookie(name) => head
            .fields()
            .iter()
            .filter(|f| f.name.of(bytes).eq_ignore_ascii_case(b"cookie"))
            .find_map(|f| pair(f.value.of(bytes), b';', name.as_bytes())),
        HashKey::Path => Some(path),
        HashKey::Query(name) => pair(query, b'&', name.as_bytes()),
    };
    match (found, client) {
        (Some(value), _) => hash_key(value),
        (None, IpAddr::V4(v4)) => hash_key(&v4.octets()),
        (None, IpAddr::V6(v6)) => hash_key(&v6.octets()),
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

impl Exchange<'_> {
    /// Tries servers until one answers or there is no use in going on; then passes the answer on.
    async fn proxy(&mut self, route: &Route, backend: usize, mut up: Box<Pump>) -> After {
        self.record.phase = Phase::Connect;
        self.record.backend = Some(backend);
        self.total_due = self.due_after(route.total);
        if let Err(cut) = up.begin() {
            let error = attempt::upload_error(cut);
            return Box::pin(self.give_up(&error, up)).await;
        }
        let mut tried: Vec<u32> = Vec::new(); // allocates only when the first server failed
        let mut refused: Option<Error> = None;
        loop {
            let lease = match self.pick(backend, &tried) {
                Ok(lease) => lease,
                Err(none) => {
                    let error = match (none, refused) {
                        (NoServer::Tried, Some(error)) => error,
                        (NoServer::Full, _) => Error::new(Who::Us, Phase::Connect, What::ServersFull),
                        _ => Error::new(Who::Us, Phase::Connect, What::NoServer),
                    };
                    return Box::pin(self.give_up(&error, up)).await;
                }
            };
            self.record.server = Some(lease.index());
            match self
                .try_server(route, backend, &lease, &mut up, tried.len())
                .await
            {
                Ok(answer) => return response::pass_on(self, route, backend, lease, answer, up).await,
                Err(error) if self.may_go_on(&error, route, &tried, &up) => {
                    tried.push(lease.index());
                    up.restart();
                    refused = Some(error.error);
                }
                Err(failed) => return Box::pin(self.give_up(&failed.error, up)).await,
            }
        }
    }

    /// One server; a pooled connection that turns out to be dead is replaced by a fresh one, once.
    async fn try_server(
        &mut self,
        route: &Route,
        backend: usize,
        lease: &Lease,
        up: &mut Pump,
        tried: usize,
    ) -> Result<Answer, Failed> {
        let mut fresh = false;
        loop {
            self.record.attempts += 1;
            let failed = match attempt::run(self, route, backend, lease, up, fresh).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let left = route.retries.saturating_sub(tried as u32);
            match again(failed.failure, &self.chance(up, left, fresh)) {
                Again::SameServerFresh => {
                    fresh = true;
                    up.restart();
                }
                Again::OtherServer | Again::No => return Err(failed),
            }
        }
    }

    fn may_go_on(&self, failed: &Failed, route: &Route, tried: &[u32], up: &Pump) -> bool {
        let left = route.retries.saturating_sub(tried.len() as u32);
        again(failed.failure, &self.chance(up, left, true)) == Again::OtherServer
    }

    fn chance(&self, up: &Pump, left: u32, fresh_used: bool) -> Attempt {
        Attempt {
            idempotent: self.asked.idempotent,
            anything_sent: up.written > 0,
            replayable: up.can_restart(),
            left,
            fresh_used,
        }
    }

    fn pick(&self, backend: usize, tried: &[u32]) -> Result<Lease, NoServer> {
        let ask = Ask {
            now: self.worker.deadlines.now(),
            key: self.asked.key,
            tried,
        };
        self.view.backends[backend]
            .balancer
            .pick(&ask, &mut self.worker.dice.borrow_mut())
    }

    /// `after` from now, in milliseconds; never for none.
    fn due_after(&self, after: Option<Duration>) -> u64 {
        after.map_or(u64::MAX, |after| {
            self.worker
                .deadlines
                .now()
                .0
                .saturating_add(after.as_millis() as u64)
        })
    }

    /// Arms the connection's deadline, the route's total included.
    pub(crate) fn arm(&self, after: Duration) {
        self.down
            .timer
            .arm_at(self.due_after(Some(after)).min(self.total_due));
    }

    /// The deadline that passed, as an error: the route's total, or the one that was waited for.
    pub(crate) fn timed_out(&self, who: Who, phase: Phase) -> Error {
        let total = self.total_due <= self.worker.deadlines.now().0;
        Error::new(if total { Who::Us } else { who }, phase, What::TimedOut)
    }

    /// True if this must be the last answer on its connection, whatever the client wishes.
    pub(crate) fn is_last(&self) -> bool {
        let limits = &self.view.shared.config.limits;
        let age = self.worker.deadlines.now().0.saturating_sub(self.down.born.0);
        self.worker.draining.get()
            || self.down.requests >= limits.requests_per_connection
            || u128::from(age) >= limits.connection_age.as_millis()
    }

    /// No server will answer: tells the client, as far as it is still there.
    async fn give_up(&mut self, error: &Error, mut up: Box<Pump>) -> After {
        self.record.received += up.read;
        up.release(&self.worker.buffers);
        let form = Form::in_head(&up.head);
        self.worker.give_text(std::mem::take(&mut up.head));
        if error.who == Who::Client && matches!(error.what, What::Io(_) | What::Closed) {
            self.record.failed(error);
            return After::Close;
        }
        let whole = up.is_whole() && error.who != Who::Client;
        if whole && !up.surplus.is_empty() {
            self.down.buffer = Buffer::holding(&up.surplus);
        }
        self.tell(error, whole, form).await
    }

    /// Sends an answer about `error`; the connection may go on if the request has been read to its end.
    pub(crate) async fn tell(&mut self, error: &Error, whole: bool, form: Form) -> After {
        self.record.failed(error);
        let mut out = self.worker.take_text();
        let date = self.date();
        let close = !(whole && self.asked.keep_alive) || self.is_last();
        reply::write_error(&mut out, error, form, self.sending(&date, close));
        self.record.status = error.status();
        self.send(out, close).await
    }

    /// Answers as the route says, without any server.
    async fn answer(&mut self, route: &Route, location: Option<Vec<u8>>, body_follows: bool) -> After {
        self.record.answered_here();
        let mut out = self.worker.take_text();
        let date = self.date();
        let close = body_follows || !self.asked.keep_alive || self.is_last();
        let (status, content_type, body) = match &route.action {
            Action::Respond {
                status,
                body,
                content_type,
            } => (*status, content_type.as_str(), body.as_bytes()),
            Action::Redirect { status, .. } => (*status, "text/plain; charset=utf-8", &b""[..]),
            Action::Proxy(_) => (500, "text/plain; charset=utf-8", &b""[..]), // `plan` sends those to `proxy`
        };
        let reply = Reply {
            status,
            content_type,
            location: location.as_deref(),
            proxy_status: None,
            body,
        };
        reply.write(&mut out, self.sending(&date, close));
        self.record.status = status;
        self.send(out, close).await
    }

    fn date(&self) -> String {
        self.worker.wall.texts(SystemTime::now()).http.clone()
    }

    fn sending<'d>(&self, date: &'d str, close: bool) -> Sending<'d> {
        Sending {
            date,
            close,
            keep_alive_named: self.asked.http10,
            to_head: self.asked.to_head,
        }
    }

    async fn send(&mut self, out: Vec<u8>, close: bool) -> After {
        self.record.sent += out.len() as u64;
        let written = self
            .down
            .write_all(&out, self.view.shared.config.timeouts.idle)
            .await;
        self.worker.give_text(out);
        match written {
            Ok(()) if close => After::Linger,
            Ok(()) => After::KeepAlive,
            Err(error) => {
                self.record.failed(&error);
                After::Close
            }
        }
    }
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
            let action = Action::Redirect {
                status: 308,
                location: to.into(),
            };
            String::from_utf8(location(&action, b"h:1", target.as_bytes()).expect("a redirect"))
                .expect("text")
        };
        assert_eq!(
            redirect("https://{host}{path}{query}", "/a?b={path}"),
            "https://h:1/a?b={path}"
        );
        assert_eq!(redirect("/new{path}", "?x"), "/new/");
        assert_eq!(redirect("/{other}", "/"), "/{other}");
    }
}
