//! What follows a head, and what the head says about its connection: the judgement between parsing and acting.
//!
//! Takes a whole [`Head`]; gives how the body is framed, whether the connection may live on, and what is asked for. Every
//! combination that two programs could read differently is an error (RFC 9112, 6).

use crate::field::Span;
use crate::head::{Expectation, Head, Version};
use crate::host::valid_authority;
use crate::reason::Reason;
use crate::target::Target;

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// Exactly so many bytes, at least one.
    Length(u64),
    /// The chunked coding.
    Chunked,
    /// Until the connection closes (responses only).
    UntilClose,
}

/// What a request's head means.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// How its body is framed.
    pub framing: Framing,
    /// The target, taken apart.
    pub target: Target,
    /// `Host`; absent only in HTTP/1.0.
    pub host: Option<Span>,
    /// The client lets the connection live on.
    pub keep_alive: bool,
    /// `Expect: 100-continue` from an HTTP/1.1 client.
    pub expects_continue: bool,
    /// `Upgrade`, if `Connection` names it too and it is asked for exactly once, in HTTP/1.1 and without a body.
    pub upgrade: Option<Span>,
}

/// Judges a request's head.
///
/// # Errors
/// What must not be passed on; answer with [`Reason::status`] and close.
pub fn request(head: &Head, buffer: &[u8]) -> Result<Request, Reason> {
    let http11 = head.version() == Version::Http11;
    let target = Target::of(buffer, head.method(buffer), head.target())?;
    let host = judge_host(head, buffer, http11)?;
    if let (Some(authority), Some(host)) = (target.authority, host)
        && !authority.of(buffer).eq_ignore_ascii_case(host.of(buffer))
    {
        return Err(Reason::HostMismatch);
    }
    let framing = request_framing(head, buffer, http11)?;
    if head.expectation == Expectation::Unknown {
        return Err(Reason::Expect);
    }
    let asked_once = http11 && head.upgrade_option && head.upgrades == 1 && framing == Framing::None;
    Ok(Request {
        framing,
        target,
        host,
        keep_alive: !head.close && (http11 || head.keep_alive),
        expects_continue: http11 && head.expectation == Expectation::Continue,
        upgrade: head.upgrade.filter(|_| asked_once),
    })
}

fn judge_host(head: &Head, buffer: &[u8], http11: bool) -> Result<Option<Span>, Reason> {
    match (head.hosts, head.host) {
        (0, _) if !http11 => Ok(None),
        (1, Some(host)) if valid_authority(host.of(buffer)) => Ok(Some(host)),
        _ => Err(Reason::Host),
    }
}

fn request_framing(head: &Head, buffer: &[u8], http11: bool) -> Result<Framing, Reason> {
    if head.codings > 0 && head.lengths > 0 {
        return Err(Reason::LengthAndChunked);
    }
    match (head.codings, head.lengths) {
        (0, 0) => Ok(Framing::None),
        (0, 1) => length(head, buffer),
        (0, _) => Err(Reason::ContentLength),
        (1, _) if !http11 => Err(Reason::TransferEncoding),
        (1, _) if !head.chunked => Err(Reason::TransferCoding),
        (1, _) => Ok(Framing::Chunked),
        _ => Err(Reason::TransferEncoding),
    }
}

/// A plain decimal below 2^63: no sign, list or space.
fn length(head: &Head, buffer: &[u8]) -> Result<Framing, Reason> {
    let digits = head.length.map_or(&b""[..], |span| span.of(buffer));
    let value = (!digits.is_empty()).then_some(digits).and_then(|digits| {
        digits.iter().try_fold(0u64, |n, &d| {
            d.is_ascii_digit().then(|| n.checked_mul(10)?.checked_add(u64::from(d - b'0'))).flatten()
        })
    });
    match value {
        Some(0) => Ok(Framing::None),
        Some(n) if n < 1 << 63 => Ok(Framing::Length(n)),
        _ => Err(Reason::ContentLength),
    }
}

/// What a response's head means.
#[derive(Debug, Clone, Copy)]
pub struct Response {
    /// How its body is framed.
    pub framing: Framing,
    /// The length that its head states, body or not (HEAD, 304).
    pub stated_length: Option<u64>,
    /// The server lets the connection live on.
    pub keep_alive: bool,
    /// The protocol that a 101 switches to.
    pub upgrade: Option<Span>,
}

/// Judges a response's head. `to_head` says that the request was HEAD.
///
/// # Errors
/// What must not be passed on: answer 502 and close the server's connection.
pub fn response(head: &Head, buffer: &[u8], to_head: bool) -> Result<Response, Reason> {
    let http11 = head.version() == Version::Http11;
    if head.codings > 0 && head.lengths > 0 {
        return Err(Reason::LengthAndChunked);
    }
    if head.lengths_differ {
        return Err(Reason::ContentLength);
    }
    if head.codings > 1 || (head.codings == 1 && !http11) {
        return Err(Reason::TransferEncoding);
    }
    if head.codings == 1 && !head.chunked {
        return Err(Reason::TransferCoding);
    }
    let declared = if head.lengths > 0 { Some(length(head, buffer)?) } else { None };
    let bodiless = to_head || head.status() < 200 || matches!(head.status(), 204 | 304);
    let framing = match declared {
        _ if bodiless => Framing::None,
        Some(length) => length,
        None if head.codings == 1 => Framing::Chunked,
        None => Framing::UntilClose,
    };
    Ok(Response {
        framing,
        stated_length: declared.map(|d| if let Framing::Length(n) = d { n } else { 0 }),
        keep_alive: !head.close && (http11 || head.keep_alive) && framing != Framing::UntilClose,
        upgrade: head.upgrade.filter(|_| head.upgrade_option && head.upgrades == 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{Kind, Limits};

    const LIMITS: Limits = Limits { target: 8192, section: 32768, fields: 100 };

    fn judge(text: &str) -> Result<Request, Reason> {
        let mut head = Head::new(Kind::Request);
        assert!(head.parse(text.as_bytes(), &LIMITS)?, "incomplete: {text:?}");
        request(&head, text.as_bytes())
    }

    fn fields(lines: &str) -> Result<Framing, Reason> {
        judge(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).map(|r| r.framing)
    }

    #[test]
    fn framing_is_one_or_the_other_or_refused() {
        assert_eq!(fields(""), Ok(Framing::None));
        assert_eq!(fields("Content-Length: 5\r\n"), Ok(Framing::Length(5)));
        assert_eq!(fields("Content-Length: 0\r\n"), Ok(Framing::None));
        assert_eq!(fields("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
        assert_eq!(
            fields("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
            Err(Reason::LengthAndChunked)
        );
        assert_eq!(fields("Content-Length: 5\r\nContent-Length: 5\r\n"), Err(Reason::ContentLength));
        assert_eq!(
            fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            Err(Reason::TransferEncoding)
        );
    }

    #[test]
    fn lengths_are_plain_decimals() {
        for bad in [
            "",
            "+5",
            "-5",
            "5, 5",
            "5 5",
            "0x5",
            "5_0",
            "9223372036854775808",
            "99999999999999999999",
            "\u{661}",
        ] {
            assert_eq!(fields(&format!("Content-Length: {bad}\r\n")), Err(Reason::ContentLength), "{bad}");
        }
        assert_eq!(fields("Content-Length: 9223372036854775807\r\n"), Ok(Framing::Length(i64::MAX as u64)));
    }

    #[test]
    fn only_chunked_is_a_known_coding() {
        for bad in [
            "gzip",
            "chunked, chunked",
            "gzip, chunked",
            ",chunked",
            "chunked,",
            "identity",
            "\"chunked\"",
            "chunked;q=1",
            "",
        ] {
            assert_eq!(
                fields(&format!("Transfer-Encoding: {bad}\r\n")),
                Err(Reason::TransferCoding),
                "{bad}"
            );
        }
        assert_eq!(
            judge("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").err(),
            Some(Reason::TransferEncoding)
        );
    }

    #[test]
    fn host_is_exactly_one() {
        assert_eq!(judge("GET / HTTP/1.1\r\n\r\n").err(), Some(Reason::Host));
        assert_eq!(judge("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n").err(), Some(Reason::Host));
        assert_eq!(judge("GET / HTTP/1.1\r\nHost:\r\n\r\n").err(), Some(Reason::Host));
        assert_eq!(judge("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n").err(), Some(Reason::HostMismatch));
        assert!(judge("GET http://A:80/ HTTP/1.1\r\nHost: a:80\r\n\r\n").is_ok());
        assert!(judge("GET / HTTP/1.0\r\n\r\n").is_ok_and(|r| r.host.is_none()));
    }

    #[test]
    fn keep_alive_follows_version_and_connection() {
        let alive =
            |v: &str, c: &str| judge(&format!("GET / {v}\r\nHost: a\r\n{c}\r\n")).map(|r| r.keep_alive);
        assert_eq!(alive("HTTP/1.1", ""), Ok(true));
        assert_eq!(alive("HTTP/1.1", "Connection: keep-alive\r\nConnection: close\r\n"), Ok(false));
        assert_eq!(alive("HTTP/1.1", "Connection: close\r\nConnection: keep-alive\r\n"), Ok(false));
        assert_eq!(alive("HTTP/1.0", ""), Ok(false));
        assert_eq!(alive("HTTP/1.0", "Connection: keep-alive\r\n"), Ok(true));
    }

    fn answer(text: &str, to_head: bool) -> Result<Response, Reason> {
        let mut head = Head::new(Kind::Response);
        assert!(head.parse(text.as_bytes(), &LIMITS)?, "incomplete: {text:?}");
        response(&head, text.as_bytes(), to_head)
    }

    #[test]
    fn responses_without_body_have_none_whatever_they_say() {
        for status in ["100 x", "103 x", "204 x", "304 x"] {
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n");
            assert_eq!(answer(&text, false).map(|r| r.framing), Ok(Framing::None), "{status}");
        }
        let r = answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true).expect("valid");
        assert_eq!((r.framing, r.stated_length), (Framing::None, Some(5)));
    }

    #[test]
    fn a_response_is_until_close_only_without_length_and_coding() {
        assert_eq!(
            answer("HTTP/1.1 200 OK\r\n\r\n", false).map(|r| (r.framing, r.keep_alive)),
            Ok((Framing::UntilClose, false))
        );
        assert_eq!(
            answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", false).err(),
            Some(Reason::ContentLength)
        );
        assert_eq!(
            answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", true).err(),
            Some(Reason::LengthAndChunked)
        );
        assert_eq!(
            answer("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false).err(),
            Some(Reason::TransferEncoding)
        );
    }
}
