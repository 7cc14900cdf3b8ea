//! `traceparent` from any bytes: what is valid by the grammar of the specification is read, and nothing else.
//!
//! The grammar (W3C trace context, 3.2) is written out here with pieces of text, and shares nothing with the parser. What was read is
//! written in version 00 and reads the same again.

use plimsoll_http::TraceParent;

/// Reads the input as a field's value, both ways.
pub fn check(input: &[u8]) {
    let read = TraceParent::parse(input);
    // What follows the fields that are known may be any bytes; within them a replacement is no digit.
    assert_eq!(read, naive(&String::from_utf8_lossy(input)), "{}", input.escape_ascii());
    if let Some(context) = read {
        let written = context.write();
        assert_eq!(TraceParent::parse(&written), Some(context));
        assert_eq!(written[3..52], input[3..52], "ids pass unchanged");
    }
}

/// By the words of the specification.
fn naive(value: &str) -> Option<TraceParent> {
    let mut pieces = value.splitn(5, '-');
    let (version, trace, span, flags) = (pieces.next()?, pieces.next()?, pieces.next()?, pieces.next()?);
    let more = pieces.next();
    for (piece, length) in [(version, 2), (trace, 32), (span, 16), (flags, 2)] {
        let lower = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if piece.len() != length || !piece.chars().all(lower) {
            return None;
        }
    }
    if version == "ff" || (version == "00" && more.is_some()) {
        return None;
    }
    if trace.chars().all(|c| c == '0') || span.chars().all(|c| c == '0') {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some(TraceParent {
        trace: u128::from_str_radix(trace, 16).ok()?,
        span: u64::from_str_radix(span, 16).ok()?,
        sampled: flags % 2 == 1,
        random: flags / 2 % 2 == 1,
    })
}
