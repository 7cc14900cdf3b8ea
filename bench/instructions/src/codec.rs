//! The codec's pieces: heads in, bodies decoded, heads out.
//!
//! The messages are those that the whole exchange is counted with (`request.http`, `response.http`). The heads that go out
//! have what the proxy adds to them. Nothing may be measured that a message did not pass: every piece asserts its outcome.

use std::hint::black_box;

use plimsoll_http::{Body, Head, Kind, Limits, emit, framing};

use crate::Piece;

const LIMITS: Limits = Limits { target: 8192, section: 32768, fields: 100 };

pub(crate) const PIECES: &[Piece] = &[
    ("codec/request-head-in", || head_in(Kind::Request, request())),
    ("codec/response-head-in", || head_in(Kind::Response, response())),
    ("codec/chunked-body-in", chunked_body_in),
    ("codec/request-head-out", request_head_out),
    ("codec/response-head-out", response_head_out),
];

/// A browser's request: fifteen fields.
fn request() -> Vec<u8> {
    include_str!("../request.http").replace('\n', "\r\n").into_bytes()
}

/// The head of a file server's answer.
fn response() -> Vec<u8> {
    include_str!("../response.http").replace('\n', "\r\n").into_bytes()
}

/// Parses a head that arrives whole, and judges it.
fn head_in(kind: Kind, text: Vec<u8>) -> Box<dyn FnMut()> {
    let mut head = Head::new(kind);
    Box::new(move || {
        let buffer = black_box(&text[..]);
        head.reset(kind);
        assert_eq!(head.parse(buffer, &LIMITS), Ok(true));
        let framing = match kind {
            Kind::Request => framing::request(&head, buffer).map(|asked| asked.framing),
            Kind::Response => framing::response(&head, buffer, false).map(|answer| answer.framing),
        };
        assert!(black_box(framing).is_ok());
    })
}

/// Decodes 16 KiB in four chunks, one of them with an extension, that arrive at once.
fn chunked_body_in() -> Box<dyn FnMut()> {
    let data = "x".repeat(4096);
    let text =
        format!("1000\r\n{data}\r\n1000;a=b\r\n{data}\r\n1000\r\n{data}\r\n1000\r\n{data}\r\n0\r\n\r\n");
    let mut buffer = text.clone().into_bytes();
    Box::new(move || {
        buffer.copy_from_slice(text.as_bytes()); // decoding moves the data to the front
        let decoded = Body::new(framing::Framing::Chunked).decode(black_box(&mut buffer));
        assert!(decoded.is_ok_and(|d| d.end && d.data == 4 * 4096));
    })
}

fn request_head_out() -> Box<dyn FnMut()> {
    let text = request();
    let mut head = Head::new(Kind::Request);
    assert_eq!(head.parse(&text, &LIMITS), Ok(true));
    let asked = framing::request(&head, &text).expect("the request is valid");
    let mut out = Vec::with_capacity(4096);
    Box::new(move || {
        out.clear();
        let buffer = black_box(&text[..]);
        emit::request_line(&mut out, &head, buffer, &asked.target);
        emit::end_to_end(&mut out, &head, buffer, |field| !emit::is_forwarding(field.known));
        emit::field(&mut out, b"X-Forwarded-For", b"192.0.2.1");
        emit::field(&mut out, b"X-Forwarded-Proto", b"http");
        emit::field(&mut out, b"X-Forwarded-Host", b"www.example.com");
        emit::field(&mut out, b"Forwarded", b"for=192.0.2.1;host=\"www.example.com\";proto=http");
        emit::framing(&mut out, asked.framing);
        out.extend_from_slice(b"\r\n");
        assert!(black_box(&out).len() > text.len());
    })
}

fn response_head_out() -> Box<dyn FnMut()> {
    let text = response();
    let mut head = Head::new(Kind::Response);
    assert_eq!(head.parse(&text, &LIMITS), Ok(true));
    let answer = framing::response(&head, &text, false).expect("the response is valid");
    let mut out = Vec::with_capacity(4096);
    Box::new(move || {
        out.clear();
        let buffer = black_box(&text[..]);
        emit::status_line(&mut out, head.status(), head.phrase(buffer));
        emit::end_to_end(&mut out, &head, buffer, |_| true);
        emit::framing(&mut out, answer.framing);
        out.extend_from_slice(b"\r\n");
        assert!(black_box(&out).ends_with(b"\r\n\r\n"));
    })
}
