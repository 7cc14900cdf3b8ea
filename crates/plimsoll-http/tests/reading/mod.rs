//! Reads a connection's bytes with the codec, as the proxy does: a head, what follows it, the next head.
//!
//! In go bytes and the places where they are cut into pieces; out come whole messages in the oracle's form, so that the two
//! can be compared, and how reading ended. Used by tests and by fuzz targets; panics where the codec breaks a promise
//! that needs no oracle, such as touching bytes behind the message.

// Several programs include this module and each uses a part of it.
#![allow(dead_code, unreachable_pub)]

pub mod agreement;
pub mod emission;
pub mod grammar;
pub mod targets;

use plimsoll_http::framing::{self, Framing};
use plimsoll_http::{Body, Head, Kind, Limits, Reason, Version};

use crate::oracle::{Asked, Fields, Request, Response};

/// The product's defaults, as `Rules::default()` has them.
pub const LIMITS: Limits = Limits { target: 8 * 1024, section: 32 * 1024, fields: 100 };

/// What a server's head may have: a response has no target.
pub const RESPONSE_LIMITS: Limits = Limits { target: 0, ..LIMITS };

/// Interim responses that the proxy passes on.
const INTERIMS_MAX: usize = 16;

/// What became of a connection's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading<M> {
    /// Whole messages, in order.
    pub messages: Vec<M>,
    /// What came after them.
    pub end: End,
}

/// How reading ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The last message was the last one: what follows is never looked at.
    Closed,
    /// More is needed; so much of a body has already been passed on.
    Waiting(Vec<u8>),
    /// The sender closed within a message; so much of a body has already been passed on.
    Cut(Vec<u8>),
    /// Refused by the codec, or (`None`) by a rule that lives in the proxy.
    Refused(Option<Reason>),
}

impl<M> Reading<M> {
    /// Whether what follows the messages was refused.
    pub fn is_refused(&self) -> bool {
        matches!(self.end, End::Refused(_))
    }
}

impl From<Reason> for End {
    fn from(reason: Reason) -> End {
        End::Refused(Some(reason))
    }
}

/// Reads requests until the connection must close, more is needed, or one is refused.
pub fn requests(bytes: &[u8], cuts: &[usize]) -> Reading<Request> {
    let (mut wire, mut messages) = (Wire::new(bytes, cuts, false), Vec::new());
    loop {
        match read_request(&mut wire) {
            Ok(request) => messages.push(request),
            Err(end) => return Reading { messages, end },
        }
        if messages.last().is_some_and(|m| !m.keep_alive) {
            let end = End::Closed;
            return Reading { messages, end };
        }
    }
}

/// Reads the response to one request, and the interim ones before it; what follows is surplus. `eof`: the server has closed.
pub fn response(bytes: &[u8], cuts: &[usize], asked: Asked<'_>, eof: bool) -> Reading<Response> {
    match read_response(&mut Wire::new(bytes, cuts, eof), asked) {
        Ok(response) => Reading { messages: vec![response], end: End::Closed },
        Err(end) => Reading { messages: Vec::new(), end },
    }
}

fn read_request(wire: &mut Wire<'_>) -> Result<Request, End> {
    let begin = wire.consumed();
    let head = wire.read_head(Kind::Request, &LIMITS)?;
    let bytes = wire.buffer[..head.len()].to_vec();
    let judged = framing::request(&head, &bytes)?;
    if head.has_underscore() {
        return Err(Reason::Underscore.into());
    }
    wire.buffer.drain(..head.len());
    let body = wire.read_body(judged.framing)?;
    Ok(Request {
        method: head.method(&bytes).to_vec(),
        target: head.target().of(&bytes).to_vec(),
        version: minor(&head),
        fields: fields(&head, &bytes),
        body,
        trailers: Fields::default(),
        consumed: wire.consumed() - begin,
        keep_alive: judged.keep_alive,
    })
}

fn read_response(wire: &mut Wire<'_>, asked: Asked<'_>) -> Result<Response, End> {
    let mut interims = Vec::new();
    loop {
        let head = wire.read_head(Kind::Response, &RESPONSE_LIMITS)?;
        let bytes = wire.buffer[..head.len()].to_vec();
        let meaning = framing::response(&head, &bytes, asked.method == b"HEAD")?;
        wire.buffer.drain(..head.len());
        match head.status() {
            101 if !asked.upgrade || meaning.upgrade.is_none() => return Err(End::Refused(None)),
            100 | 102..=199 => {
                interims.push((head.status(), fields(&head, &bytes)));
                if interims.len() > INTERIMS_MAX {
                    return Err(End::Refused(None));
                }
                continue;
            }
            _ => {}
        }
        return Ok(Response {
            status: head.status(),
            reason: head.phrase(&bytes).to_vec(),
            version: minor(&head),
            fields: fields(&head, &bytes),
            body: wire.read_body(meaning.framing)?,
            trailers: Fields::default(),
            consumed: wire.consumed(),
            keep_alive: meaning.keep_alive && head.status() != 101,
            interims,
        });
    }
}

fn minor(head: &Head) -> u8 {
    match head.version() {
        Version::Http10 => 0,
        Version::Http11 => 1,
    }
}

fn fields(head: &Head, bytes: &[u8]) -> Fields {
    let pair = |f: &plimsoll_http::Field| (f.name.of(bytes).to_vec(), f.value.of(bytes).to_vec());
    Fields(head.fields().iter().map(pair).collect())
}

/// Bytes that arrive in pieces.
struct Wire<'a> {
    pieces: std::vec::IntoIter<&'a [u8]>,
    buffer: Vec<u8>,
    arrived: usize,
    eof: bool,
}

impl<'a> Wire<'a> {
    fn new(bytes: &'a [u8], cuts: &[usize], eof: bool) -> Self {
        Wire { pieces: pieces(bytes, cuts).into_iter(), buffer: Vec::new(), arrived: 0, eof }
    }

    /// How many bytes have been used up.
    fn consumed(&self) -> usize {
        self.arrived - self.buffer.len()
    }

    fn more(&mut self) -> bool {
        let Some(piece) = self.pieces.next() else {
            return false;
        };
        self.buffer.extend_from_slice(piece);
        self.arrived += piece.len();
        true
    }

    fn unfinished(&self, data: Vec<u8>) -> End {
        if self.eof { End::Cut(data) } else { End::Waiting(data) }
    }

    fn read_head(&mut self, kind: Kind, limits: &Limits) -> Result<Head, End> {
        let mut head = Head::new(kind);
        while self.buffer.is_empty() || !head.parse(&self.buffer, limits)? {
            if !self.more() {
                return Err(self.unfinished(Vec::new()));
            }
        }
        assert!(head.len() <= limits.head(), "a head of {} bytes is over its limit", head.len());
        Ok(head)
    }

    fn read_body(&mut self, framing: Framing) -> Result<Vec<u8>, End> {
        let (mut body, mut data) = (Body::new(framing), Vec::new());
        while !body.is_end() {
            if self.buffer.is_empty() && !self.more() {
                let ended = self.eof && body.ends_at_close();
                return if ended { Ok(data) } else { Err(self.unfinished(data)) };
            }
            let before = self.buffer.clone();
            let decoded = body.decode(&mut self.buffer)?;
            assert!(decoded.data <= decoded.consumed && decoded.consumed <= before.len());
            assert!(decoded.end || decoded.consumed == before.len(), "bytes were left unread");
            assert_eq!(decoded.end, body.is_end());
            assert_eq!(
                self.buffer[decoded.consumed..],
                before[decoded.consumed..],
                "bytes behind the message were touched"
            );
            data.extend_from_slice(&self.buffer[..decoded.data]);
            self.buffer.drain(..decoded.consumed);
        }
        if let Framing::Length(length) = framing {
            assert_eq!(data.len() as u64, length);
        }
        Ok(data)
    }
}

/// Cuts `bytes` at these places; places out of order or out of range are left out.
pub fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let (mut pieces, mut from) = (Vec::new(), 0);
    for &cut in cuts {
        if cut > from && cut < bytes.len() {
            pieces.push(&bytes[from..cut]);
            from = cut;
        }
    }
    pieces.push(&bytes[from..]);
    pieces
}
