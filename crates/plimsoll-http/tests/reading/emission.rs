//! Passes a message on as the proxy does, and asks the oracle what the next hop would read.
//!
//! The theorem: whatever we write is exactly one message, the one that was meant, framed as we said, with no field that was
//! for our hop only. What is expected is computed from the oracle's reading of the original, not from the codec's.

use plimsoll_http::framing::{self, Framing};
use plimsoll_http::{Head, Kind, Known, emit};

use super::{LIMITS, RESPONSE_LIMITS};
use crate::oracle::{self, Asked, Fields, Request, Response, Rules, Verdict};

/// Fields for one hop only, whatever `Connection` says.
const HOPS: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "transfer-encoding",
    "content-length",
];

/// What `Connection` cannot take away.
const OURS: [&str; 5] = ["host", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];

/// The Host for a request that came without.
const HOST: &[u8] = b"192.0.2.1:80";

/// Passes on the request that `bytes` begin with, which the codec has read as `message`; bodies go in pieces of `step`.
pub fn request_survives(bytes: &[u8], message: &Request, step: usize) {
    let mut head = Head::new(Kind::Request);
    assert_eq!(head.parse(bytes, &LIMITS), Ok(true), "it was taken before");
    let judged = framing::request(&head, bytes).expect("it was taken before");
    let mut out = Vec::new();
    emit::request_line(&mut out, &head, bytes, &judged.target);
    if judged.host.is_none() {
        emit::field(&mut out, b"Host", HOST);
    }
    emit::end_to_end(&mut out, &head, bytes, |f| f.known != Known::Expect || judged.expects_continue);
    emit::framing(&mut out, judged.framing);
    out.extend_from_slice(b"\r\n");
    write_body(&mut out, judged.framing, &message.body, step);

    let read = match oracle::request(&out, &Rules::behind()) {
        Verdict::Message(read) => read,
        other => panic!("the next hop reads {other:?} in {}", out.escape_ascii()),
    };
    assert_eq!(read.consumed, out.len(), "one message, and no byte more");
    assert_eq!((&read.method, &read.body, read.version), (&message.method, &message.body, 1));
    assert_eq!(read.target, origin_form(message));
    assert!(read.keep_alive && read.trailers.0.is_empty());
    let mut expected = end_to_end(&message.fields);
    if message.fields.all("host").is_empty() {
        expected.insert(0, (b"Host".to_vec(), HOST.to_vec()));
    }
    if message.version == 0 {
        expected.retain(|(name, _)| !name.eq_ignore_ascii_case(b"expect"));
    }
    frame(&mut expected, judged.framing, message.body.len());
    assert_eq!(read.fields, Fields(expected), "the next hop is left, what we meant right");
}

/// The same for a response to an HTTP/1.1 client's request; only the final one.
pub fn response_survives(bytes: &[u8], message: &Response, asked: Asked<'_>, step: usize) {
    let (mut head, mut bytes) = (Head::new(Kind::Response), bytes);
    for _ in &message.interims {
        assert_eq!(head.parse(bytes, &RESPONSE_LIMITS), Ok(true), "it was taken before");
        bytes = &bytes[head.len()..];
        head.reset(Kind::Response);
    }
    assert_eq!(head.parse(bytes, &RESPONSE_LIMITS), Ok(true), "it was taken before");
    let meaning = framing::response(&head, bytes, asked.method == b"HEAD").expect("it was taken before");
    if head.status() == 101 {
        return; // what follows is no HTTP
    }
    let out_framing = match meaning.framing {
        Framing::UntilClose => Framing::Chunked,
        same => same,
    };
    let mut out = Vec::new();
    emit::status_line(&mut out, head.status(), head.phrase(bytes));
    emit::end_to_end(&mut out, &head, bytes, |_| true);
    emit::framing(&mut out, out_framing);
    let zero = meaning.framing == Framing::None && meaning.stated_length == Some(0) && head.status() != 204;
    if zero {
        emit::number_field(&mut out, b"Content-Length", 0);
    }
    let needs_end = meaning.framing == Framing::None
        && !zero
        && asked.method != b"HEAD"
        && !matches!(head.status(), 204 | 304);
    assert!(!needs_end, "a response without a body must say so");
    out.extend_from_slice(b"\r\n");
    write_body(&mut out, out_framing, &message.body, step);

    let read = match oracle::response(&out, asked, false, &Rules::behind()) {
        Verdict::Message(read) => read,
        other => panic!("the client reads {other:?} in {}", out.escape_ascii()),
    };
    assert_eq!(read.consumed, out.len(), "one message, and no byte more");
    assert_eq!(
        (read.status, &read.reason, &read.body, read.version),
        (message.status, &message.reason, &message.body, 1)
    );
    assert!(read.keep_alive && read.trailers.0.is_empty() && read.interims.is_empty());
    let mut expected = end_to_end(&message.fields);
    frame(&mut expected, out_framing, message.body.len());
    if zero {
        expected.push((b"Content-Length".to_vec(), b"0".to_vec()));
    }
    assert_eq!(read.fields, Fields(expected), "the client is left, what we meant right");
}

fn write_body(out: &mut Vec<u8>, framing: Framing, body: &[u8], step: usize) {
    match framing {
        Framing::None | Framing::UntilClose => assert!(body.is_empty()),
        Framing::Length(_) => out.extend_from_slice(body),
        Framing::Chunked => {
            for piece in body.chunks(step.max(1)) {
                emit::chunk_line(out, piece.len());
                out.extend_from_slice(piece);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(emit::LAST_CHUNK);
        }
    }
}

fn is_one_of(name: &[u8], names: &[&str]) -> bool {
    names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// What of a message's fields is for the next hop too (RFC 9110, 7.6.1).
fn end_to_end(fields: &Fields) -> Vec<(Vec<u8>, Vec<u8>)> {
    let for_us = |name: &[u8]| {
        let named = std::str::from_utf8(name).is_ok_and(|name| fields.lists("connection", name));
        is_one_of(name, &HOPS) || named && !is_one_of(name, &OURS)
    };
    fields.0.iter().filter(|(name, _)| !for_us(name)).cloned().collect()
}

fn frame(fields: &mut Vec<(Vec<u8>, Vec<u8>)>, framing: Framing, length: usize) {
    match framing {
        Framing::Length(n) => {
            assert_eq!(n, length as u64);
            fields.push((b"Content-Length".to_vec(), length.to_string().into_bytes()));
        }
        Framing::Chunked => fields.push((b"Transfer-Encoding".to_vec(), b"chunked".to_vec())),
        Framing::None | Framing::UntilClose => {}
    }
}

/// RFC 9112, 3.2: path and query only; `*` for OPTIONS of a whole server.
fn origin_form(message: &Request) -> Vec<u8> {
    let target = &message.target;
    if target.starts_with(b"/") || target == b"*" {
        return target.clone();
    }
    let behind = target.windows(3).position(|w| w == b"://").expect("an absolute target") + 3;
    let path = target[behind..].iter().position(|b| b"/?".contains(b));
    match path.map(|at| &target[behind + at..]) {
        None if message.method == b"OPTIONS" => b"*".to_vec(),
        None => b"/".to_vec(),
        Some(query) if query.starts_with(b"?") => [b"/", query].concat(),
        Some(path) => path.to_vec(),
    }
}
