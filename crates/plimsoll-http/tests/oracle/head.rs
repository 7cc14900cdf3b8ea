//! Start lines, field lines and what they say about framing.
//!
//! Reads lines off a `Reader` and judges each against the ABNF. Nothing here looks at more than one message, and
//! nothing repairs: a line is in the grammar or the message is refused.

use std::net::Ipv6Addr;

use super::{Fields, Rules, Stop};

/// A position in the bytes received so far.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The next line without its CRLF. No control but HTAB can stand in any line of HTTP/1.
    pub(super) fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = self.rest();
        for (i, &byte) in rest.iter().enumerate() {
            match (byte, rest.get(i + 1)) {
                (b'\r', Some(b'\n')) => {
                    self.at += i + 2;
                    return Ok(&rest[..i]);
                }
                (b'\r', None) => return Err(Stop::Incomplete),
                (b'\r', Some(_)) => return Err(Stop::Reject("bare-cr")),
                (b'\n', _) => return Err(Stop::Reject("bare-lf")),
                (0, _) => return Err(Stop::Reject("nul")),
                (1..=8 | 11..=31 | 127, _) => return Err(Stop::Reject("control")),
                _ => {}
            }
        }
        Err(Stop::Incomplete)
    }

    /// Like `line`, but an unfinished line longer than `limit` is a reject of that class.
    pub(super) fn line_within(&mut self, limit: usize, class: &'static str) -> Result<&'a [u8], Stop> {
        let line = self.rest().strip_suffix(b"\r").unwrap_or(self.rest()); // half a CRLF is no part of the line
        match self.line() {
            Err(Stop::Incomplete) if line.len() > limit => Err(Stop::Reject(class)),
            read => read,
        }
    }

    /// RFC 9112, 2.2: an empty line before the request line is robustness; we allow one.
    pub(super) fn skip_one_empty_line(&mut self) -> Result<(), Stop> {
        if matches!(self.rest().first(), Some(b'\r' | b'\n')) {
            self.line()?;
        }
        Ok(())
    }

    /// Exactly so many bytes.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], Stop> {
        let rest = self.rest();
        let count = usize::try_from(count).ok().filter(|&n| n <= rest.len()).ok_or(Stop::Incomplete)?;
        self.at += count;
        Ok(&rest[..count])
    }

    /// A CRLF and nothing else.
    pub(super) fn crlf(&mut self) -> Result<(), Stop> {
        match self.rest() {
            [] | [b'\r'] => Err(Stop::Incomplete),
            [b'\r', b'\n', ..] => {
                self.at += 2;
                Ok(())
            }
            _ => Err(Stop::Reject("chunk-end")),
        }
    }
}

/// RFC 9110, 5.6.2: `tchar`.
pub(super) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_tchar(b))
}

/// Without the SP and HTAB around.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The parts of a request line.
pub(super) struct StartLine {
    pub(super) method: Vec<u8>,
    pub(super) target: Vec<u8>,
    pub(super) version: u8,
}

/// `method SP request-target SP HTTP-version` (RFC 9112, 3).
pub(super) fn request_line(reader: &mut Reader<'_>, rules: &Rules) -> Result<StartLine, Stop> {
    let seen = reader.rest();
    let line = reader.line();
    let overlong = |text: &[u8]| text.split(|&b| b == b' ').any(|part| part.len() > rules.target);
    if matches!(line, Err(Stop::Incomplete)) && overlong(seen) || line.is_ok_and(overlong) {
        return Err(Stop::Reject("target-too-long"));
    }
    let parts: Vec<&[u8]> = line?.split(|&b| b == b' ').collect();
    let [method, target, version] = parts[..] else {
        return Err(Stop::Reject("request-line"));
    };
    if !is_token(method) {
        return Err(Stop::Reject("method"));
    }
    if target.is_empty() || !target.iter().all(|&b| matches!(b, 0x21..=0x7e) && b != b'#') {
        return Err(Stop::Reject("target"));
    }
    Ok(StartLine { method: method.to_vec(), target: target.to_vec(), version: http_version(version)? })
}

fn http_version(text: &[u8]) -> Result<u8, Stop> {
    match text {
        b"HTTP/1.0" => Ok(0),
        b"HTTP/1.1" => Ok(1),
        _ => Err(Stop::Reject("version")),
    }
}

/// `HTTP-version SP status-code SP [ reason-phrase ]` (RFC 9112, 4): the second SP is there even without a reason.
pub(super) fn status_line(reader: &mut Reader<'_>) -> Result<(u8, u16, Vec<u8>), Stop> {
    let line = reader.line_within(8192, "status-line")?;
    let mut parts = line.splitn(3, |&b| b == b' ');
    let (Some(version), Some(code), Some(reason)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Stop::Reject("status-line"));
    };
    let version = http_version(version)?;
    if code.len() != 3 || !code.iter().all(u8::is_ascii_digit) {
        return Err(Stop::Reject("status-line"));
    }
    let status = code.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    // RFC 9110, 15: all valid status codes are within 100 to 599.
    if !(100..600).contains(&status) {
        return Err(Stop::Reject("status-line"));
    }
    Ok((version, status, reason.to_vec()))
}

/// Field lines up to and with the empty line; the limits refuse with `too-large`.
pub(super) fn fields(reader: &mut Reader<'_>, bytes: usize, count: usize) -> Result<Fields, Stop> {
    let start = reader.at();
    let mut fields = Fields::default();
    loop {
        let left = bytes.saturating_sub(reader.at() - start);
        let line = reader.line_within(left, "too-large")?;
        if line.is_empty() {
            return Ok(fields);
        }
        if reader.at() - start > bytes || fields.0.len() == count {
            return Err(Stop::Reject("too-large"));
        }
        fields.0.push(field_line(line)?);
    }
}

/// `field-name ":" OWS field-value OWS` (RFC 9112, 5).
fn field_line(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Stop> {
    if matches!(line[0], b' ' | b'\t') {
        return Err(Stop::Reject("obs-fold"));
    }
    let colon = line.iter().position(|&b| b == b':').ok_or(Stop::Reject("no-colon"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    match name {
        [] => Err(Stop::Reject("empty-name")),
        [.., b' ' | b'\t'] => Err(Stop::Reject("space-before-colon")),
        _ if !is_token(name) => Err(Stop::Reject("name")),
        _ => Ok((name.to_vec(), trim(value).to_vec())),
    }
}

/// `_` in a name: CGI-like servers read it as `-`, so that `Content_Length` frames for them and not for us. The
/// lookalikes of framing fields are refused even where other such names are kept.
pub(super) fn check_underscores(fields: &Fields, keep: bool) -> Result<(), Stop> {
    let mut odd = fields.0.iter().map(|(name, _)| name).filter(|name| name.contains(&b'_'));
    if !keep && odd.next().is_some() {
        return Err(Stop::Reject("underscore"));
    }
    let framing = |name: &Vec<u8>| {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase().replace('_', "-");
        name == "content-length" || name == "transfer-encoding"
    };
    match odd.any(framing) {
        true => Err(Stop::Reject("framing-lookalike")),
        false => Ok(()),
    }
}

/// Tunnels and loop-backs are not for balanced servers.
pub(super) fn check_method(method: &[u8]) -> Result<(), Stop> {
    match method {
        b"CONNECT" | b"TRACE" => Err(Stop::Reject("method-refused")),
        _ => Ok(()),
    }
}

/// RFC 9112, 3.2: the target's form, one Host, and that the two agree.
pub(super) fn check_host(method: &[u8], target: &[u8], version: u8, fields: &Fields) -> Result<(), Stop> {
    let host = match fields.all("host")[..] {
        [] if version == 0 => None,
        [host] if is_authority(host) => Some(host),
        _ => return Err(Stop::Reject("host")),
    };
    if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
        return Ok(());
    }
    let authority = absolute_form_authority(target).ok_or(Stop::Reject("target-form"))?;
    match is_authority(authority) && host.is_none_or(|host| host.eq_ignore_ascii_case(authority)) {
        true => Ok(()),
        false => Err(Stop::Reject("authority")),
    }
}

/// The authority of `http://authority[/path][?query]`.
fn absolute_form_authority(target: &[u8]) -> Option<&[u8]> {
    let colon = target.iter().position(|&b| b == b':')?;
    let (scheme, rest) = target.split_at(colon);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    rest.strip_prefix(b"://")?.split(|b| b"/?".contains(b)).next()
}

/// `uri-host [ ":" port ]` (RFC 3986, 3.2), without the empty host, the comma and IPvFuture.
fn is_authority(text: &[u8]) -> bool {
    let host_ends = match text.iter().position(|&b| b == b']') {
        Some(bracket) => bracket + 1,
        None => text.iter().position(|&b| b == b':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(host_ends);
    let port_is_valid = match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let host_is_valid = match host {
        [b'[', inner @ .., b']'] => std::str::from_utf8(inner).is_ok_and(|ip| ip.parse::<Ipv6Addr>().is_ok()),
        _ => is_reg_name(host),
    };
    host_is_valid && port_is_valid
}

/// `1*( unreserved / pct-encoded / sub-delims )` without the comma.
fn is_reg_name(mut text: &[u8]) -> bool {
    if text.is_empty() {
        return false;
    }
    while let [byte, rest @ ..] = text {
        text = match (byte, rest) {
            (b'%', [high, low, rest @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            (byte, rest) if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(byte) => rest,
            _ => return false,
        };
    }
    true
}

/// RFC 9110, 10.1.1: one expectation exists.
pub(super) fn check_expect(fields: &Fields) -> Result<(), Stop> {
    match fields.all("expect").iter().all(|value| value.eq_ignore_ascii_case(b"100-continue")) {
        true => Ok(()),
        false => Err(Stop::Reject("expectation")),
    }
}

/// How the end of a body is found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Length {
    Exactly(u64),
    Chunked,
    UntilClose,
}

/// RFC 9112, 6.3, with every doubtful case refused; `None` where no field speaks.
pub(super) fn length(fields: &Fields, version: u8) -> Result<Option<Length>, Stop> {
    let codings = fields.all("transfer-encoding");
    let lengths = fields.all("content-length");
    match (&codings[..], &lengths[..]) {
        ([], []) => Ok(None),
        ([], [length]) => Ok(Some(Length::Exactly(content_length(length)?))),
        ([], _) => Err(Stop::Reject("repeated-content-length")),
        ([_, ..], [_, ..]) => Err(Stop::Reject("length-and-coding")),
        ([_, ..], []) if version == 0 => Err(Stop::Reject("coding-in-1.0")),
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Some(Length::Chunked)),
        _ => Err(Stop::Reject("coding")),
    }
}

/// `1*DIGIT`, below 2⁶³.
fn content_length(text: &[u8]) -> Result<u64, Stop> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let value = std::str::from_utf8(text).ok().filter(|_| digits).and_then(|text| text.parse::<u64>().ok());
    value.filter(|&n| n < 1 << 63).ok_or(Stop::Reject("content-length"))
}

/// RFC 9112, 9.3.
pub(super) fn keep_alive(fields: &Fields, version: u8) -> bool {
    let asked = version == 1 || fields.lists("connection", "keep-alive");
    asked && !fields.lists("connection", "close")
}
