//! `uri-host [":" port]`: the only shape that `Host` and an authority may have (RFC 9112, 3.2; RFC 3986, 3.2.2).

use memchr::memrchr2;

use crate::chars::is_host_byte;

/// True for a host with an optional port; no user info, path, comma, space or control, and not empty.
#[must_use]
pub fn valid_authority(bytes: &[u8]) -> bool {
    let plain = bytes.iter().position(|&b| !is_plain(b)).unwrap_or(bytes.len());
    match &bytes[plain..] {
        [] => plain > 0,
        [b':', port @ ..] if plain > 0 => valid_port(port),
        _ => valid_in_full(bytes),
    }
}

/// What nearly all hosts consist of alone.
fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')
}

fn valid_in_full(bytes: &[u8]) -> bool {
    let (host, port) = split_port(bytes);
    let host_ok = match host {
        [b'[', inside @ .., b']'] => valid_ipv6(inside),
        _ => !host.is_empty() && host.iter().all(|&b| is_host_byte(b)) && percent_encodings_are_whole(host),
    };
    host_ok && port.is_none_or(valid_port)
}

/// The host part: no port, brackets kept.
#[must_use]
pub fn host_without_port(authority: &[u8]) -> &[u8] {
    split_port(authority).0
}

fn split_port(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memrchr2(b':', b']', bytes) {
        Some(at) if bytes[at] == b':' => (&bytes[..at], Some(&bytes[at + 1..])),
        _ => (bytes, None),
    }
}

/// `*DIGIT` by the RFC; an empty port is allowed there, a number above 65,535 is not a port.
fn valid_port(port: &[u8]) -> bool {
    port.len() <= 5
        && port.iter().all(u8::is_ascii_digit)
        && port.iter().fold(0u32, |n, &d| n * 10 + u32::from(d - b'0')) <= 65_535
}

fn valid_ipv6(inside: &[u8]) -> bool {
    std::str::from_utf8(inside).is_ok_and(|s| s.parse::<std::net::Ipv6Addr>().is_ok())
}

fn percent_encodings_are_whole(host: &[u8]) -> bool {
    host.iter().enumerate().filter(|&(_, &b)| b == b'%').all(|(at, _)| {
        host.get(at + 1).is_some_and(u8::is_ascii_hexdigit)
            && host.get(at + 2).is_some_and(u8::is_ascii_hexdigit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_names_addresses_and_ports() {
        for good in ["a", "example.com:80", "10.0.0.1", "[::1]", "[2001:db8::1]:8443", "a_b", "a%20b", "x:"] {
            assert!(valid_authority(good.as_bytes()), "{good}");
        }
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        for bad in [
            "",
            ":80",
            "a,b",
            "a b",
            "u@h",
            "a/b",
            "a:b",
            "a:99999",
            "[::1",
            "::1",
            "[::1]x",
            "a%2",
            "a#",
            "a?b",
            "[::g]",
            "a\0",
            "a:1:2",
            "[::1]:1:2",
            "[::1]x:1",
            "a]:1",
            ":",
            "a.b:x",
        ] {
            assert!(!valid_authority(bad.as_bytes()), "{bad}");
        }
    }
}
