//! The oracle: a slow, naive reader of HTTP/1 messages, for tests and fuzzing only.
//!
//! Written from the ABNF of RFC 9110 and 9112 and our stricter rules, by another hand than the codec, and sharing no
//! code with it. In go all bytes received so far; out comes a `Verdict` on the first message in them. It copies freely
//! and starts anew on every call: clarity over speed.
//!
//! `Message` and `Reject` are final: no further bytes change them. When a fault shows is a matter of taste: of an
//! unfinished line the oracle sees a bare CR or a control at once and little else, so a streaming parser may refuse
//! earlier or later. In all else the two must agree: what one takes as a message, the other takes as the same message.

// Several test programs include this module and each uses a part of it.
#![allow(dead_code, unreachable_pub)]

mod body;
mod head;

use std::fmt;

use head::{Length, Reader, StartLine};

/// Sizes and choices, equal to the product's defaults.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Bytes of a request target.
    pub target: usize,
    /// Bytes of all field lines with their CRLFs, without the empty line that ends them.
    pub header: usize,
    /// Field lines in a head.
    pub fields: usize,
    /// Bytes of one chunk's extensions, from the first byte after the size to the CRLF.
    pub chunk_extension: usize,
    /// The same, summed over a message.
    pub chunk_extensions: usize,
    /// Bytes of all trailer lines with their CRLFs.
    pub trailer: usize,
    /// Trailer lines.
    pub trailer_fields: usize,
    /// Interim responses before a final one.
    pub interims: usize,
    /// Request fields with `_` in their name are kept instead of refused.
    pub keep_underscores: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            target: 8 * 1024,
            header: 32 * 1024,
            fields: 100,
            chunk_extension: 256,
            chunk_extensions: 16 * 1024,
            trailer: 8 * 1024,
            trailer_fields: 16,
            interims: 16,
            keep_underscores: false,
        }
    }
}

impl Rules {
    /// For a server behind the product, which adds fields of its own to a head.
    pub fn behind() -> Self {
        let rules = Self::default();
        Self { header: 2 * rules.header, fields: 2 * rules.fields, ..rules }
    }
}

/// What the bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<T> {
    /// A message may still come of it.
    Incomplete,
    /// Never a message; the class of the first fault found.
    Reject(&'static str),
    /// A whole message; its `consumed` says where the next one begins.
    Message(T),
}

impl<T> Verdict<T> {
    /// The message, if it is one.
    pub fn message(self) -> Option<T> {
        match self {
            Self::Message(message) => Some(message),
            Self::Incomplete | Self::Reject(_) => None,
        }
    }
}

impl<T> From<Result<T, Stop>> for Verdict<T> {
    fn from(read: Result<T, Stop>) -> Self {
        match read {
            Ok(message) => Self::Message(message),
            Err(Stop::Incomplete) => Self::Incomplete,
            Err(Stop::Reject(class)) => Self::Reject(class),
        }
    }
}

/// Why reading ended before the message did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Incomplete,
    Reject(&'static str),
}

/// Field lines in order, names as spelled, values without the white space around them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Fields(pub Vec<(Vec<u8>, Vec<u8>)>);

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &Vec<u8>| bytes.escape_ascii().to_string();
        f.debug_list().entries(self.0.iter().map(|(name, value)| text(name) + ": " + &text(value))).finish()
    }
}

impl Fields {
    /// The values of all lines with that name.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        let named = self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
        named.map(|(_, value)| value.as_slice()).collect()
    }

    /// Whether a line has that name.
    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// Whether the lines with that name, read as lists, contain the token.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        let members = self.all(name).into_iter().flat_map(|value| value.split(|&b| b == b','));
        members.map(head::trim).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// A whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// As spelled.
    pub method: Vec<u8>,
    /// As received, in any of its forms.
    pub target: Vec<u8>,
    /// The minor version: 0 or 1.
    pub version: u8,
    /// The head's fields.
    pub fields: Fields,
    /// Decoded.
    pub body: Vec<u8>,
    /// Fields after a chunked body.
    pub trailers: Fields,
    /// Bytes from the start of the input to the end of this message.
    pub consumed: usize,
    /// Whether the connection may carry another request.
    pub keep_alive: bool,
}

/// Reads the first request in `bytes`.
pub fn request(bytes: &[u8], rules: &Rules) -> Verdict<Request> {
    read_request(&mut Reader::new(bytes), rules).into()
}

fn read_request(reader: &mut Reader<'_>, rules: &Rules) -> Result<Request, Stop> {
    reader.skip_one_empty_line()?;
    let StartLine { method, target, version } = head::request_line(reader, rules)?;
    let fields = head::fields(reader, rules.header, rules.fields)?;
    head::check_underscores(&fields, rules.keep_underscores)?;
    head::check_method(&method)?;
    head::check_host(&method, &target, version, &fields)?;
    head::check_expect(&fields)?;
    let length = head::length(&fields, version)?.unwrap_or(Length::Exactly(0));
    let (body, trailers) = body::read(reader, &length, rules, false)?;
    Ok(Request {
        keep_alive: head::keep_alive(&fields, version),
        method,
        target,
        version,
        fields,
        body,
        trailers,
        consumed: reader.at(),
    })
}

/// What is known of the request when its response is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The request's method.
    pub method: &'a [u8],
    /// It asked for an upgrade, so that a 101 may come.
    pub upgrade: bool,
}

/// A whole response, with the interim ones before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status and fields of the 1xx responses that came first.
    pub interims: Vec<(u16, Fields)>,
    /// The final status, or 101.
    pub status: u16,
    /// As received, maybe empty.
    pub reason: Vec<u8>,
    /// The minor version: 0 or 1.
    pub version: u8,
    /// The head's fields.
    pub fields: Fields,
    /// Decoded.
    pub body: Vec<u8>,
    /// Fields after a chunked body.
    pub trailers: Fields,
    /// Bytes from the start of the input to the end of this message.
    pub consumed: usize,
    /// Whether the connection may carry another exchange.
    pub keep_alive: bool,
}

/// Reads the first response in `bytes`; `eof` says that the sender has closed, so that nothing follows.
pub fn response(bytes: &[u8], asked: Asked<'_>, eof: bool, rules: &Rules) -> Verdict<Response> {
    match read_response(&mut Reader::new(bytes), asked, eof, rules) {
        Err(Stop::Incomplete) if eof => Verdict::Reject("truncated"),
        read => read.into(),
    }
}

fn read_response(
    reader: &mut Reader<'_>,
    asked: Asked<'_>,
    eof: bool,
    rules: &Rules,
) -> Result<Response, Stop> {
    let mut interims = Vec::new();
    loop {
        let (version, status, reason) = head::status_line(reader)?;
        let fields = head::fields(reader, rules.header, rules.fields)?;
        if status == 101 && !asked.upgrade {
            return Err(Stop::Reject("unasked-switch"));
        }
        if (100..200).contains(&status) && status != 101 {
            interims.push((status, fields));
            if interims.len() > rules.interims {
                return Err(Stop::Reject("too-many-interims"));
            }
            continue;
        }
        // Judged even where no body follows: a server that contradicts itself is not to be believed further.
        let stated = head::length(&fields, version)?;
        let bodiless = asked.method == b"HEAD" || matches!(status, 101 | 204 | 304);
        let length = if bodiless { Length::Exactly(0) } else { stated.unwrap_or(Length::UntilClose) };
        let (body, trailers) = body::read(reader, &length, rules, eof)?;
        let delimited = length != Length::UntilClose && status != 101;
        return Ok(Response {
            keep_alive: delimited && head::keep_alive(&fields, version),
            interims,
            status,
            reason,
            version,
            fields,
            body,
            trailers,
            consumed: reader.at(),
        });
    }
}
