//! Header fields as places in a buffer, and the names that this crate must know.
//!
//! A field owns nothing: its spans point into the bytes that its head was parsed from. Hop-by-hop and framing
//! names are recognised once, while parsing, so that no later step compares strings again.

use crate::chars::is_token_byte;
use crate::lanes::letters_len;

/// A place in the buffer that a head was parsed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub from: u32,
    /// One past the last byte.
    pub to: u32,
}

impl Span {
    pub(crate) fn new(from: usize, to: usize) -> Span {
        // Heads are limited to far less than 4 GiB, so the casts keep the value.
        Span { from: from as u32, to: to as u32 }
    }

    /// The bytes at this place of `buffer`.
    #[must_use]
    pub fn of<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        &buffer[self.from as usize..self.to as usize]
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.to - self.from) as usize
    }

    /// True if there is nothing here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }
}

/// One header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// The name as received.
    pub name: Span,
    /// The value without the white space around it.
    pub value: Span,
    /// What it is, if this crate knows it.
    pub known: Known,
    /// Named by `Connection`, so meant for this hop only.
    pub hop: bool,
    /// The name contains `_`.
    pub underscore: bool,
    /// The line is byte for byte what [`crate::emit::field`] would write.
    pub(crate) canonical: bool,
}

/// Names that decide framing, hops or forwarding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // each is the field of that name
pub enum Known {
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    Te,
    Trailer,
    Upgrade,
    Expect,
    Via,
    Forwarded,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    Http2Settings,
}

impl Known {
    pub(crate) fn of(name: &[u8]) -> Known {
        let Some(first) = name.first() else { return Known::Other };
        match (name.len(), first.to_ascii_lowercase()) {
            (2, b't') if is(name, b"te") => Known::Te,
            (3, b'v') if is(name, b"via") => Known::Via,
            (4, b'h') if is(name, b"host") => Known::Host,
            (6, b'e') if is(name, b"expect") => Known::Expect,
            (7, b'u') if is(name, b"upgrade") => Known::Upgrade,
            (7, b't') if is(name, b"trailer") => Known::Trailer,
            (9, b'f') if is(name, b"forwarded") => Known::Forwarded,
            (10, b'c') if is(name, b"connection") => Known::Connection,
            (10, b'k') if is(name, b"keep-alive") => Known::KeepAlive,
            (14, b'c') if is(name, b"content-length") => Known::ContentLength,
            (14, b'h') if is(name, b"http2-settings") => Known::Http2Settings,
            (15, b'x') if is(name, b"x-forwarded-for") => Known::XForwardedFor,
            (16, b'x') if is(name, b"x-forwarded-host") => Known::XForwardedHost,
            (16, b'p') if is(name, b"proxy-connection") => Known::ProxyConnection,
            (17, b'x') if is(name, b"x-forwarded-proto") => Known::XForwardedProto,
            (17, b't') if is(name, b"transfer-encoding") => Known::TransferEncoding,
            _ => Known::Other,
        }
    }

    /// Meant for one hop only, whatever `Connection` says (RFC 9110, 7.6.1); framing included, because it is made anew.
    #[must_use]
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Known::Connection
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::Te
                | Known::Trailer
                | Known::Upgrade
                | Known::Http2Settings // says something only beside an upgrade to h2c, which is never passed on
                | Known::TransferEncoding
                | Known::ContentLength
        )
    }

    /// Fields that `Connection` cannot take away: they are ours to set, or frame the message.
    pub(crate) fn survives_connection(self) -> bool {
        matches!(
            self,
            Known::Host
                | Known::ContentLength
                | Known::TransferEncoding
                | Known::Forwarded
                | Known::XForwardedFor
                | Known::XForwardedProto
                | Known::XForwardedHost
        )
    }
}

/// True for the name `known`, which is lower case, in any case. All bytes are compared at once: to look for the first difference costs more.
fn is<const LEN: usize>(name: &[u8], known: &[u8; LEN]) -> bool {
    let Ok(name) = <&[u8; LEN]>::try_from(name) else { return false };
    let mut differ = 0;
    for (a, b) in name.iter().zip(known) {
        let case = if b.is_ascii_lowercase() { 0x20 } else { 0 };
        differ |= (a ^ b) & !case;
    }
    differ == 0
}

/// True for `content_length`, `transfer_encoding` and every mixture with `_` for `-`: servers that fold the two would take
/// such a field for framing.
pub(crate) fn is_framing_lookalike(name: &[u8]) -> bool {
    let same = |known: &[u8]| {
        name.len() == known.len()
            && name.iter().zip(known).all(
                |(&a, &b)| {
                    if a == b'_' { b == b'-' } else { a.eq_ignore_ascii_case(&b) }
                },
            )
    };
    same(b"content-length") || same(b"transfer-encoding")
}

/// A name, and whether it contains `_`.
pub(crate) struct Name<'b> {
    /// Empty where there is none.
    pub(crate) bytes: &'b [u8],
    pub(crate) underscore: bool,
}

/// The name that the bytes begin with, as many as may stand in one, and what is behind it.
#[inline(always)]
pub(crate) fn name_at(bytes: &[u8]) -> (Name<'_>, &[u8]) {
    let (letters, behind) = bytes.split_at(letters_len(bytes));
    if behind.first() == Some(&b':') {
        return (Name { bytes: letters, underscore: false }, behind); // nearly all
    }
    name_to(bytes, letters.len())
}

/// The same, known to go on for `letters` bytes.
fn name_to(bytes: &[u8], letters: usize) -> (Name<'_>, &[u8]) {
    let mut underscore = false;
    let ends = |&b: &u8| {
        underscore |= b == b'_';
        !is_token_byte(b)
    };
    let rest = &bytes[letters..];
    let more = rest.iter().position(ends).unwrap_or(rest.len());
    let (name, behind) = bytes.split_at(letters + more);
    (Name { bytes: name, underscore }, behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookalikes_need_an_underscore_or_not_to_be_seen_as_such() {
        assert!(is_framing_lookalike(b"Content_Length"));
        assert!(is_framing_lookalike(b"TRANSFER_ENCODING"));
        assert!(!is_framing_lookalike(b"content_lengths"));
        assert!(!is_framing_lookalike(b"x_content_length"));
    }

    #[test]
    fn a_known_name_with_one_byte_changed_is_another() {
        let names = [
            "te",
            "keep-alive",
            "content-length",
            "http2-settings",
            "x-forwarded-proto",
            "transfer-encoding",
        ];
        for name in names {
            let known = Known::of(name.as_bytes());
            assert_ne!(known, Known::Other);
            for at in 0..name.len() {
                for b in 0..=255 {
                    let mut changed = name.as_bytes().to_vec();
                    changed[at] = b;
                    let same = changed.eq_ignore_ascii_case(name.as_bytes());
                    assert_eq!(Known::of(&changed) == known, same, "{name}, {b} at {at}");
                }
            }
        }
    }

    #[test]
    fn known_names_are_found_in_any_case() {
        assert_eq!(Known::of(b"TRANSFER-encoding"), Known::TransferEncoding);
        assert_eq!(Known::of(b"hOsT"), Known::Host);
        assert_eq!(Known::of(b"hosts"), Known::Other);
    }
}
