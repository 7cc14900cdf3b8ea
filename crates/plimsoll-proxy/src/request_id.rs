//! A request's id: kept from a peer that may speak for others, made here for everybody else.
//!
//! It names one request in the logs of everything that it passes, and in the answer, so that whoever reports an error can say which request
//! it was. It is no secret and proves nothing: it comes from the worker's dice. What is kept is short and of harmless characters, so that it
//! can stand in a field, a log line and a query as it is.

use plimsoll_http::trace_context::spell;
use plimsoll_http::{Field, Head};
use plimsoll_traffic::Dice;

/// The longest id that is kept.
const LONGEST: usize = 128;

/// The id of a request whose field of that name, if any, is in `head`. Of `trusted` peers a valid one is kept; a field that stands twice is none.
#[inline(never)]
pub(crate) fn of(name: &str, (head, buffer): (&Head, &[u8]), trusted: bool, dice: &mut Dice) -> Box<[u8]> {
    let mut found = head.fields().iter().filter(|field| is_named(field, buffer, name.as_bytes()));
    match (found.next(), found.next()) {
        (Some(field), None) if trusted && is_valid(field.value.of(buffer)) => field.value.of(buffer).into(),
        _ => made(dice),
    }
}

/// A new id: 128 bits as 32 hexadecimal digits.
pub(crate) fn made(dice: &mut Dice) -> Box<[u8]> {
    let mut id = [0; 32];
    spell(&mut id, (u128::from(dice.next()) << 64) | u128::from(dice.next()));
    id.into()
}

/// True for a field of that name, or of one that programs which fold `_` and `-` would take for it.
pub(crate) fn is_named(field: &Field, buffer: &[u8], name: &[u8]) -> bool {
    let same = |(&a, &b): (&u8, &u8)| a.eq_ignore_ascii_case(&b) || (a == b'_' && b == b'-');
    let found = field.name.of(buffer);
    found.len() == name.len() && found.iter().zip(name).all(same)
}

fn is_valid(id: &[u8]) -> bool {
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=:@".contains(byte);
    (1..=LONGEST).contains(&id.len()) && id.iter().all(harmless)
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_http::{Kind, Limits};

    fn id(fields: &str, trusted: bool) -> String {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut head = Head::new(Kind::Request);
        let limits = Limits { target: 8192, section: 32768, fields: 100 };
        assert_eq!(head.parse(text.as_bytes(), &limits), Ok(true));
        let id = of("X-Request-ID", (&head, text.as_bytes()), trusted, &mut Dice::new(1));
        String::from_utf8(id.into_vec()).expect("ASCII")
    }

    #[test]
    fn a_trusted_peers_id_is_kept() {
        for kept in ["a", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "Root=1-67891233-abcdef012345678912345678"]
        {
            assert_eq!(id(&format!("x-request-id: {kept}\r\n"), true), kept);
        }
        let longest = "x".repeat(LONGEST);
        assert_eq!(id(&format!("X-Request-Id: {longest}\r\n"), true), longest);
    }

    #[test]
    fn anything_else_is_replaced() {
        let new = id("", false);
        assert!(
            new.len() == 32 && new.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
            "{new}"
        );
        assert_eq!(id("X-Request-ID: mine\r\n", false), new, "a stranger's");
        for field in ["", "a b", "a,b", "a\"b", "a\\b", "<a>", "a%b", "é", "a;b"] {
            assert_eq!(id(&format!("X-Request-ID: {field}\r\n"), true), new, "{field}");
        }
        assert_eq!(id(&format!("X-Request-ID: {}\r\n", "x".repeat(LONGEST + 1)), true), new);
        assert_eq!(id("X-Request-ID: a\r\nX-Request-ID: a\r\n", true), new, "twice");
        assert_eq!(id("X-Request-ID: a\r\nX_Request_ID: b\r\n", true), new, "twice, as some would read it");
    }
}
