//! Header fields as places in a buffer, and the names that this crate must know.
//!
//! A field owns nothing: its spans point into the bytes that its head was parsed from. Hop-by-hop and framing
//! names are recognised once, while parsing, so that no later step compares strings again.

use crate::chars::{is_token_byte, letters_len};

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
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => Known::Te,
            3 if is("via") => Known::Via,
            4 if is("host") => Known::Host,
            6 if is("expect") => Known::Expect,
            7 if is("upgrade") => Known::Upgrade,
            7 if is("trailer") => Known::Trailer,
            9 if is("forwarded") => Known::Forwarded,
            10 if is("connection") => Known::Connection,
            10 if is("keep-alive") => Known::KeepAlive,
            14 if is("content-length") => Known::ContentLength,
            14 if is("http2-settings") => Known::Http2Settings,
            15 if is("x-forwarded-for") => Known::XForwardedFor,
            16 if is("x-forwarded-host") => Known::XForwardedHost,
            16 if is("proxy-connection") => Known::ProxyConnection,
            17 if is("x-forwarded-proto") => Known::XForwardedProto,
            17 if is("transfer-encoding") => Known::TransferEncoding,
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
pub(crate) struct Name {
    /// In bytes; 0 where there is none.
    pub(crate) len: usize,
    pub(crate) underscore: bool,
}

/// The name that the bytes begin with: as many as may stand in one.
pub(crate) fn name_at(bytes: &[u8]) -> Name {
    let letters = letters_len(bytes);
    let (rest, mut underscore) = (&bytes[letters..], false);
    let ends = |&b: &u8| {
        underscore |= b == b'_';
        !is_token_byte(b)
    };
    let more = rest.iter().position(ends).unwrap_or(rest.len());
    Name { len: letters + more, underscore }
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
    fn known_names_are_found_in_any_case() {
        assert_eq!(Known::of(b"TRANSFER-encoding"), Known::TransferEncoding);
        assert_eq!(Known::of(b"hOsT"), Known::Host);
        assert_eq!(Known::of(b"hosts"), Known::Other);
    }
}
