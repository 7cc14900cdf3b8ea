//! One line for every exchange, written once, at its end, whichever way it ends.
//!
//! A [`Record`] collects what the line will say and writes it when it is dropped: a cancelled or panicking request is logged
//! like any other. `docs/ACCESS_LOG.md` is the schema; names and order are stable.

mod hedged;

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use plimsoll_config::model::LogFormat;
use plimsoll_http::trace_context::spell;
use plimsoll_http::{Head, TraceParent, emit};
use plimsoll_traffic::{Denied, Server};

use crate::clock::Texts;
use crate::error::{Error, Phase, What, Who};
use crate::histogram::Took;
use crate::log_writer::LogQueue;
use crate::snapshot::View;
use crate::stats::{Ended, Open, class};
use crate::trace::Recorded;
use crate::worker::Worker;

/// A batch is handed over when it is this large, or at the next tick.
const BATCH: usize = 32 * 1024;

/// A worker's lines that are not handed over yet.
pub(crate) struct AccessLog {
    format: LogFormat,
    queue: LogQueue,
    batch: RefCell<(Vec<u8>, u64)>,
}

impl AccessLog {
    pub(crate) fn new(format: LogFormat, queue: LogQueue) -> AccessLog {
        AccessLog { format, queue, batch: RefCell::default() }
    }

    /// Hands over what there is.
    pub(crate) fn flush(&self) {
        let (bytes, lines) = std::mem::take(&mut *self.batch.borrow_mut());
        if lines > 0 {
            self.queue.leave(bytes, lines);
        }
    }

    fn add(&self, record: &Record, total: Duration) {
        let full = {
            let (bytes, lines) = &mut *self.batch.borrow_mut();
            bytes.reserve(512);
            record.line(bytes, self.format, total);
            *lines += 1;
            bytes.len() >= BATCH
        };
        if full {
            self.flush();
        }
    }
}

/// Texts of the request that the line repeats, copied because the request's buffer is gone by then.
#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    /// Ends of method, host, target, referer and user agent within `bytes`.
    ends: [usize; 5],
}

impl Said {
    fn piece(&self, n: usize) -> &[u8] {
        let from = if n == 0 { 0 } else { self.ends[n - 1] };
        &self.bytes[from..self.ends[n]]
    }
}

/// What is known of one exchange so far.
pub(crate) struct Record {
    worker: Rc<Worker>,
    view: Rc<View>,
    open: Rc<Open>,
    said: Said,
    http10: bool,
    started: Instant,
    pub(crate) client: IpAddr,
    pub(crate) status: u16,
    /// Bytes from and to the client, heads included.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) route: Option<usize>,
    pub(crate) backend: Option<usize>,
    pub(crate) server: Option<u32>,
    pub(crate) attempts: u32,
    /// How long it waited for a server that has room, if it did.
    queued: Option<Duration>,
    pub(crate) connect: Option<Duration>,
    pub(crate) first_byte: Option<Duration>,
    /// How far it came; what is logged if nobody says how it ended.
    pub(crate) phase: Phase,
    end: Option<([u8; 2], &'static str)>,
    /// Why it was not tried again although that would have been safe.
    denied: Option<Denied>,
    /// A rate limit would have refused it, but for a dry run.
    pub(crate) would_refuse: bool,
    /// What became of the second of two servers that were asked at once.
    hedge: Option<&'static str>,
    /// If requests have ids.
    pub(crate) request_id: Option<Box<[u8]>>,
    /// Where it stands in its trace, if requests are traced.
    pub(crate) trace: Option<TraceParent>,
    /// If it is sampled.
    pub(crate) recorded: Option<Box<Recorded>>,
}

impl Record {
    pub(crate) fn begin(worker: &Rc<Worker>, view: &Rc<View>, open: &Rc<Open>, client: IpAddr) -> Record {
        open.traffic().begin();
        Record {
            worker: Rc::clone(worker),
            view: Rc::clone(view),
            open: Rc::clone(open),
            said: Said::default(),
            http10: false,
            started: worker.deadlines.precise(),
            client,
            status: 0,
            received: 0,
            sent: 0,
            route: None,
            backend: None,
            server: None,
            attempts: 0,
            queued: None,
            connect: None,
            first_byte: None,
            phase: Phase::Request,
            end: None,
            denied: None,
            would_refuse: false,
            hedge: None,
            request_id: None,
            trace: None,
            recorded: None,
        }
    }

    /// Notes what the request says, if anybody is going to read it.
    pub(crate) fn note(&mut self, head: &Head, buffer: &[u8], host: &[u8]) {
        let Some(log) = self.worker.log() else { return };
        let combined = log.format == LogFormat::Combined;
        let field = |name| {
            if combined { head.value(buffer, name).unwrap_or_default() } else { b"" }
        };
        let pieces =
            [head.method(buffer), host, head.target().of(buffer), field("referer"), field("user-agent")];
        self.said.bytes = self.worker.take_text();
        for (end, piece) in self.said.ends.iter_mut().zip(pieces) {
            self.said.bytes.extend_from_slice(piece);
            *end = self.said.bytes.len();
        }
        self.http10 = head.version() == plimsoll_http::Version::Http10;
    }

    /// Notes the route; from now on it is one of the route's requests in flight.
    pub(crate) fn routed(&mut self, route: usize) {
        self.route = Some(route);
        self.view.shared.stats.route(route, self.worker.number).begin();
    }

    /// It has waited for a server since `began`, whatever came of it.
    pub(crate) fn waited(&mut self, began: Duration) {
        let waited = self.elapsed().saturating_sub(began);
        self.queued = Some(self.queued.unwrap_or_default() + waited);
        if let Some(backend) = self.backend {
            self.view.shared.stats.waits_of(backend, self.worker.number).observe(waited.into());
        }
    }

    /// A new connection to the server was made.
    pub(crate) fn connected(&mut self, took: Duration) {
        self.connect = Some(took);
        if let (Some(backend), Some(server)) = (self.backend, self.server) {
            self.view.shared.stats.server_of(backend, server, self.worker.number).connected();
        }
    }

    /// An attempt begins; `head` is what the server is going to be sent.
    pub(crate) fn attempt_begins(&mut self, server: &Server, head: &mut [u8]) {
        self.attempts += 1;
        let now = self.recorded.is_some().then(|| self.elapsed());
        if let Some((recorded, now)) = self.recorded.as_mut().zip(now) {
            recorded.attempt_begins(server, now, head, &mut self.worker.dice.borrow_mut());
        }
    }

    /// An attempt ended without an answer.
    pub(crate) fn attempt_ended(&mut self, error: &Error) {
        let now = self.recorded.is_some().then(|| self.elapsed());
        if let Some((recorded, now)) = self.recorded.as_mut().zip(now) {
            recorded.attempt_failed(error, now);
        }
    }

    /// There is no further try although it would be safe.
    pub(crate) fn retry_denied(&mut self, backend: usize, denied: Denied) {
        self.denied = Some(denied);
        self.view.shared.stats.further_of(backend, self.worker.number).deny(denied);
    }

    /// The answer of the server tried last is not passed on: another one is asked.
    pub(crate) fn answer_dropped(&mut self, status: u16) {
        self.first_byte = None;
        let now = self.recorded.is_some().then(|| self.elapsed());
        if let Some((recorded, now)) = self.recorded.as_mut().zip(now) {
            recorded.attempt_answered(status, now);
        }
        if let (Some(backend), Some(server)) = (self.backend, self.server) {
            self.view.shared.stats.server_of(backend, server, self.worker.number).answer_retried();
        }
    }

    /// The field with the request's id, if it has one.
    pub(crate) fn id_field(&self) -> Option<(&str, &[u8])> {
        self.view.shared.config.http.request_id.as_deref().zip(self.request_id.as_deref())
    }

    /// An attempt failed; counted if it is the server's doing.
    pub(crate) fn attempt_failed(&self, error: &Error) {
        if let (Who::Server, Some(backend), Some(server)) = (error.who, self.backend, self.server) {
            self.view.shared.stats.server_of(backend, server, self.worker.number).failed(error.reason());
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.worker.deadlines.precise().duration_since(self.started)
    }

    /// It ended well.
    pub(crate) fn done(&mut self) {
        self.end = Some((*b"--", ""));
    }

    /// It was answered here, as configured.
    pub(crate) fn answered_here(&mut self) {
        self.end = Some((*b"L-", ""));
    }

    /// It ended with an error.
    pub(crate) fn failed(&mut self, error: &Error) {
        self.end = Some((error.letters(), error.reason()));
    }

    /// Telling the client failed as well; an earlier error stays the one that counts.
    pub(crate) fn failed_too(&mut self, error: &Error) {
        if self.end.is_none_or(|(letters, _)| letters == *b"L-") {
            self.failed(error);
        }
    }

    /// Adds the exchange to what is counted of its listener, route, backend and server.
    fn count(&self, total: Duration) {
        let first_byte = self.first_byte.map(Took::from);
        let ended = Ended {
            class: class(self.status),
            received: self.received,
            sent: self.sent,
            retries: self.attempts.saturating_sub(1),
            // How long a tunnel lives says nothing about how fast anything is.
            took: first_byte.filter(|_| self.status == 101).unwrap_or_else(|| total.into()),
            reason: self.ending().1,
        };
        let (stats, worker) = (&self.view.shared.stats, self.worker.number);
        self.open.traffic().count(&ended);
        if let Some(route) = self.route {
            stats.route(route, worker).count(&ended);
        }
        if let Some(backend) = self.backend {
            stats.backend_of(backend, worker).count(&ended);
            if let Some(server) = self.server {
                stats.server_of(backend, server, worker).count(&ended, first_byte);
            }
        }
    }

    fn line(&self, out: &mut Vec<u8>, format: LogFormat, total: Duration) {
        let began = SystemTime::now() - total;
        let texts = self.worker.wall.texts(began);
        match format {
            LogFormat::Json => self.json(out, &texts, began, total),
            LogFormat::Common | LogFormat::Combined => self.common(out, &texts, format),
            LogFormat::Off => return,
        }
        out.push(b'\n');
    }

    fn json(&self, out: &mut Vec<u8>, texts: &Texts, began: SystemTime, total: Duration) {
        let (letters, reason) = self.ending();
        let millis = began.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.subsec_millis());
        out.extend_from_slice(b"{\"time\":\"");
        out.extend_from_slice(texts.iso.as_bytes());
        out.push(b'.');
        out.extend_from_slice(&[
            b'0' + (millis / 100) as u8,
            b'0' + (millis / 10 % 10) as u8,
            b'0' + (millis % 10) as u8,
        ]);
        out.extend_from_slice(b"Z\"");
        let upstream = self.backend.map(|b| &self.view.backends[b].balancer);
        let server = upstream.zip(self.server).map(|(u, s)| u.backend().servers[s as usize].name.as_bytes());
        key(out, "client");
        text(out, Some(self.client.to_string().as_bytes()));
        for (n, name) in ["method", "host", "path"].into_iter().enumerate() {
            key(out, name);
            text(out, Some(self.said.piece(n)).filter(|piece| !piece.is_empty()));
        }
        for (name, value) in
            [("status", u64::from(self.status)), ("received_bytes", self.received), ("sent_bytes", self.sent)]
        {
            key(out, name);
            emit::number(out, value);
        }
        key(out, "route");
        text(out, self.route.map(|r| self.view.shared.routes[r].name.as_bytes()));
        key(out, "backend");
        text(out, upstream.map(|u| u.backend().name.as_bytes()));
        key(out, "server");
        text(out, server);
        key(out, "attempts");
        emit::number(out, u64::from(self.attempts));
        for (name, time) in
            [("connect_ms", self.connect), ("first_byte_ms", self.first_byte), ("total_ms", Some(total))]
        {
            key(out, name);
            milliseconds(out, time);
        }
        key(out, "end");
        text(out, Some(&letters));
        key(out, "reason");
        text(out, Some(reason.as_bytes()).filter(|r| !r.is_empty()));
        self.ids(out);
        if self.queued.is_some() {
            key(out, "queue_ms");
            milliseconds(out, self.queued);
        }
        if let Some(denied) = self.denied {
            key(out, "not_retried");
            text(out, Some(denied.name().as_bytes()));
        }
        if let Some(hedge) = self.hedge {
            key(out, "hedge");
            text(out, Some(hedge.as_bytes()));
        }
        out.push(b'}');
    }

    /// The ids, where they are asked for: who does not pays nothing for them.
    fn ids(&self, out: &mut Vec<u8>) {
        if self.would_refuse {
            key(out, "limited");
            text(out, Some(b"dry_run"));
        }
        if self.view.shared.config.http.request_id.is_some() {
            key(out, "request_id");
            text(out, self.request_id.as_deref());
        }
        if self.view.shared.tracer.is_some() {
            key(out, "trace_id");
            let digits = self.trace.map(|context| {
                let mut digits = [0; 32];
                spell(&mut digits, context.trace);
                digits
            });
            text(out, digits.as_ref().map(<[u8; 32]>::as_slice));
        }
    }

    fn common(&self, out: &mut Vec<u8>, texts: &Texts, format: LogFormat) {
        out.extend_from_slice(self.client.to_string().as_bytes());
        out.extend_from_slice(b" - - [");
        out.extend_from_slice(texts.common.as_bytes());
        out.extend_from_slice(b"] \"");
        if self.said.piece(0).is_empty() {
            out.push(b'-');
        } else {
            escape(out, self.said.piece(0));
            out.push(b' ');
            escape(out, self.said.piece(2));
            out.extend_from_slice(if self.http10 { b" HTTP/1.0" } else { b" HTTP/1.1" });
        }
        out.extend_from_slice(b"\" ");
        emit::number(out, u64::from(self.status));
        out.push(b' ');
        emit::number(out, self.sent);
        if format == LogFormat::Combined {
            for n in [3, 4] {
                out.extend_from_slice(b" \"");
                match self.said.piece(n) {
                    [] => out.push(b'-'),
                    piece => escape(out, piece),
                }
                out.push(b'"');
            }
        }
    }

    fn ending(&self) -> ([u8; 2], &'static str) {
        self.end.unwrap_or_else(|| {
            let stopped = Error::new(Who::Us, self.phase, What::Stopped);
            (stopped.letters(), stopped.reason())
        })
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let total = self.elapsed();
        self.count(total);
        if let Some(log) = self.worker.log() {
            log.add(self, total);
            self.worker.give_text(std::mem::take(&mut self.said.bytes));
        }
        if let Some(recorded) = self.recorded.take() {
            recorded.leave(self, &self.view, self.ending(), total);
        }
    }
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// A JSON string, or null.
fn text(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => out.extend_from_slice(b"null"),
        Some(value) => {
            out.push(b'"');
            escape(out, value);
            out.push(b'"');
        }
    }
}

/// Escapes so that the result is valid in a JSON string and in a quoted field of the common format, and always UTF-8.
fn escape(out: &mut Vec<u8>, value: &[u8]) {
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                '\0'..='\x1f' | '\x7f' => out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes()),
                _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Milliseconds with three decimals, or null.
fn milliseconds(out: &mut Vec<u8>, time: Option<Duration>) {
    let Some(time) = time else {
        return out.extend_from_slice(b"null");
    };
    let micros = time.as_micros() as u64;
    emit::number(out, micros / 1000);
    out.push(b'.');
    let rest = micros % 1000;
    out.extend_from_slice(&[
        b'0' + (rest / 100) as u8,
        b'0' + (rest / 10 % 10) as u8,
        b'0' + (rest % 10) as u8,
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("always UTF-8")
    }

    #[test]
    fn texts_are_escaped_for_json() {
        assert_eq!(
            written(|o| text(o, Some(b"a\"b\\c\x01\xff\xc3\xa9"))),
            "\"a\\\"b\\\\c\\u0001\u{fffd}\u{e9}\""
        );
        assert_eq!(written(|o| text(o, None)), "null");
    }

    #[test]
    fn times_have_three_decimals() {
        assert_eq!(written(|o| milliseconds(o, Some(Duration::from_micros(1_002_003)))), "1002.003");
        assert_eq!(written(|o| milliseconds(o, Some(Duration::from_micros(7)))), "0.007");
        assert_eq!(written(|o| milliseconds(o, None)), "null");
    }
}
