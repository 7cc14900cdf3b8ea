//! Writing heads and chunk lines anew, from what was understood.
//!
//! Everything appends to a `Vec<u8>` of the caller. Received framing has no way through here: [`end_to_end`] leaves it out,
//! and [`framing`] writes what the sender is going to do.

use crate::field::{Field, Known};
use crate::framing::Framing;
use crate::head::Head;
use crate::target::Target;

/// `METHOD SP target SP HTTP/1.1 CRLF`.
pub fn request_line(out: &mut Vec<u8>, head: &Head, buffer: &[u8], target: &Target) {
    out.extend_from_slice(head.method_span().of(buffer));
    out.push(b' ');
    let form = target.origin_form(buffer);
    if form.slash {
        out.push(b'/');
    }
    out.extend_from_slice(form.rest);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// `HTTP/1.1 SP status SP phrase CRLF`.
pub fn status_line(out: &mut Vec<u8>, status: u16, phrase: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(phrase);
    out.extend_from_slice(b"\r\n");
}

/// `name: value CRLF`. The caller vouches that both are clean.
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A field whose value is a number.
pub fn number_field(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    number(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Every field that is not for this hop only and that `keep` keeps, in order and as spelled.
///
/// Neighbouring lines that were received exactly as [`field`] would write them, which `Head` has established byte by byte,
/// are copied in one piece; the result is the same (`runs_equal_single_fields`).
pub fn end_to_end(out: &mut Vec<u8>, head: &Head, buffer: &[u8], keep: impl Fn(&Field) -> bool) {
    let mut run = 0..0;
    for f in head.fields() {
        let kept = !f.hop && !f.known.is_hop_by_hop() && keep(f);
        if kept && f.canonical {
            let from = f.name.from as usize;
            if run.end != from {
                out.extend_from_slice(&buffer[run]);
                run = from..from;
            }
            run.end = f.value.to as usize + 2;
            continue;
        }
        out.extend_from_slice(&buffer[std::mem::take(&mut run)]);
        if kept {
            field(out, f.name.of(buffer), f.value.of(buffer));
        }
    }
    out.extend_from_slice(&buffer[run]);
}

/// The field that announces a body framed so; nothing for none, or until close.
pub fn framing(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::Length(n) => number_field(out, b"Content-Length", n),
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::None | Framing::UntilClose => {}
    }
}

/// The line before a chunk of `size` bytes, at least one.
pub fn chunk_line(out: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[size >> (place * 4) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// What ends a chunked message.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A decimal number.
pub fn number(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0u8; 20];
    let (mut at, mut rest) = (digits.len(), value);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// True for the fields that tell a server who asked; a proxy writes them anew.
#[must_use]
pub fn is_forwarding(known: Known) -> bool {
    matches!(known, Known::Forwarded | Known::XForwardedFor | Known::XForwardedProto | Known::XForwardedHost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{Kind, Limits};

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn numbers_are_written_in_full() {
        assert_eq!(text(|o| number(o, 0)), "0");
        assert_eq!(text(|o| number(o, u64::MAX)), u64::MAX.to_string());
        for size in [1, 9, 10, 15, 16, 255, 256, 65535, 65536, usize::MAX] {
            assert_eq!(text(|o| chunk_line(o, size)), format!("{size:x}\r\n"));
        }
    }

    #[test]
    fn runs_equal_single_fields() {
        let lines = [
            "A: 1\r\n",
            "B:2\r\n",
            "C: 3 \r\n",
            "T:\t3\r\n",
            "Connection: d\r\n",
            "D: 4\r\n",
            "E: 5\r\n",
            "Content-Length: 0\r\n",
            "F: \r\n",
        ];
        for mask in 0..1u32 << lines.len() {
            let chosen: String =
                lines.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1).map(|(_, l)| *l).collect();
            let input = format!("GET / HTTP/1.1\r\n{chosen}\r\n");
            let mut head = Head::new(Kind::Request);
            let limits = Limits { target: 99, section: 999, fields: 99 };
            assert_eq!(head.parse(input.as_bytes(), &limits), Ok(true));
            let expected = text(|o| {
                for f in head
                    .fields()
                    .iter()
                    .filter(|f| !f.hop && !f.known.is_hop_by_hop() && f.name.of(input.as_bytes()) != b"E")
                {
                    field(o, f.name.of(input.as_bytes()), f.value.of(input.as_bytes()));
                }
            });
            let got =
                text(|o| end_to_end(o, &head, input.as_bytes(), |f| f.name.of(input.as_bytes()) != b"E"));
            assert_eq!(got, expected, "{input:?}");
        }
    }
}
