//! The head of a message, parsed line by line as its bytes arrive.
//!
//! [`Head::parse`] is given the same growing buffer again and again; it remembers how far it came, so a head that trickles
//! in costs linear time, and a bad line is refused as soon as it ends. Each line is judged once; what frames the message
//! or concerns this hop is noted on the way. Nothing is repaired, and nothing is allocated once the vectors have grown.

use memchr::memchr;

use crate::chars::{is_token, is_token_byte, is_value};
use crate::field::{Field, Known, Name, Span, is_framing_lookalike};
use crate::field_line::FieldLine;
use crate::lanes::target_len;
use crate::reason::Reason;

/// Bytes that a request line may have besides its target: the longest method, two spaces, the version, CRLF.
const AROUND_TARGET: usize = 32 + 2 + 8 + 2;
const METHOD_MAX: usize = 32;
const STATUS_LINE_MAX: usize = 1024;
const CONNECTION_OPTIONS_MAX: usize = 32;

/// Sizes that a head may not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request target.
    pub target: usize,
    /// Bytes of all field lines together.
    pub section: usize,
    /// Number of fields.
    pub fields: usize,
}

impl Limits {
    /// The largest head that these limits let through, in bytes.
    #[must_use]
    pub fn head(&self) -> usize {
        2 + (self.target + AROUND_TARGET).max(STATUS_LINE_MAX) + self.section + 2
    }
}

/// What kind of message a head begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From a client.
    Request,
    /// From a server.
    Response,
}

/// The two versions that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    Fields,
    Done,
}

/// What `Expect` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expectation {
    None,
    Continue,
    Unknown,
}

/// A message head: the start line, and fields as places in the buffer it was parsed from.
#[derive(Debug)]
pub struct Head {
    kind: Kind,
    stage: Stage,
    /// Where the line being waited for begins.
    line: usize,
    /// Up to where no LF was found.
    scan: usize,
    /// Where the field section begins.
    section: usize,
    version: Version,
    method: Span,
    target: Span,
    status: u16,
    phrase: Span,
    fields: Vec<Field>,
    /// Names in `Connection` other than the three that are flags here.
    options: Vec<Span>,
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade_option: bool,
    pub(crate) upgrade: Option<Span>,
    pub(crate) upgrades: u32,
    pub(crate) host: Option<Span>,
    pub(crate) hosts: u32,
    pub(crate) length: Option<Span>,
    /// More than one `Content-Length`, and they differ.
    pub(crate) lengths_differ: bool,
    pub(crate) lengths: u32,
    pub(crate) codings: u32,
    pub(crate) chunked: bool,
    pub(crate) expectation: Expectation,
    underscore: bool,
}

impl Head {
    /// An empty head; allocates room for a browser's usual number of fields.
    #[must_use]
    pub fn new(kind: Kind) -> Head {
        Head { fields: Vec::with_capacity(24), ..Head::bare(kind) }
    }

    /// Makes it empty again, for another message, keeping its memory.
    pub fn reset(&mut self, kind: Kind) {
        let (mut fields, mut options) = (std::mem::take(&mut self.fields), std::mem::take(&mut self.options));
        fields.clear();
        options.clear();
        *self = Head { fields, options, ..Head::bare(kind) };
    }

    fn bare(kind: Kind) -> Head {
        Head {
            kind,
            stage: Stage::Start,
            line: 0,
            scan: 0,
            section: 0,
            version: Version::Http11,
            method: Span::default(),
            target: Span::default(),
            status: 0,
            phrase: Span::default(),
            fields: Vec::new(),
            options: Vec::new(),
            close: false,
            keep_alive: false,
            upgrade_option: false,
            upgrade: None,
            upgrades: 0,
            host: None,
            hosts: 0,
            length: None,
            lengths_differ: false,
            lengths: 0,
            codings: 0,
            chunked: false,
            expectation: Expectation::None,
            underscore: false,
        }
    }

    /// Goes on parsing. `buffer` holds everything received of this message so far, from its first byte, and must only have
    /// grown since the last call. True when the head is whole; then `buffer[..self.len()]` is the head.
    ///
    /// # Errors
    /// The first thing wrong with it. The message cannot be understood from there on: answer and close.
    pub fn parse(&mut self, buffer: &[u8], limits: &Limits) -> Result<bool, Reason> {
        while self.stage != Stage::Done {
            // Nearly every line: a field that is here whole and has nothing wrong with it takes one look at each byte.
            if self.stage == Stage::Fields
                && self.scan == self.line
                && let Some(line) = FieldLine::at(buffer, self.line)
            {
                self.line += line.len() + 2;
                self.scan = self.line;
                self.field_line(buffer, &line, limits)?;
                continue;
            }
            let Some(at) = memchr(b'\n', &buffer[self.scan..]) else {
                self.scan = buffer.len();
                self.judge_partial(buffer, limits)?;
                return Ok(false);
            };
            if self.stage == Stage::Fields && self.scan > self.line {
                self.scan = self.line; // what came in pieces is whole now
                continue;
            }
            let (from, lf) = (self.line, self.scan + at);
            self.line = lf + 1;
            self.scan = lf + 1;
            if lf == from || buffer[lf - 1] != b'\r' {
                return Err(Reason::LineEnd);
            }
            self.judge_line(buffer, from, lf - 1, limits)?;
        }
        Ok(true)
    }

    /// Length of the head in bytes, its empty line included, once it is whole.
    #[must_use]
    pub fn len(&self) -> usize {
        self.line
    }

    /// True before the first byte of the message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scan == 0
    }

    /// The message's version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// A request's method.
    #[must_use]
    pub fn method<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        self.method.of(buffer)
    }

    /// A request's target as received.
    #[must_use]
    pub fn target(&self) -> Span {
        self.target
    }

    pub(crate) fn method_span(&self) -> Span {
        self.method
    }

    /// A response's status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// A response's reason phrase.
    #[must_use]
    pub fn phrase<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        self.phrase.of(buffer)
    }

    /// The fields in the order received.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// True if a field's name contains `_`.
    #[must_use]
    pub fn has_underscore(&self) -> bool {
        self.underscore
    }

    /// The value of the first field named `name` (any case).
    #[must_use]
    pub fn value<'b>(&self, buffer: &'b [u8], name: &str) -> Option<&'b [u8]> {
        self.fields
            .iter()
            .find(|f| f.name.len() == name.len() && f.name.of(buffer).eq_ignore_ascii_case(name.as_bytes()))
            .map(|f| f.value.of(buffer))
    }

    /// An unfinished line can already be too long, or no HTTP at all (a TLS hello has no LF to wait for).
    fn judge_partial(&self, buffer: &[u8], limits: &Limits) -> Result<(), Reason> {
        let line = &buffer[self.line..];
        let line = line.strip_suffix(b"\r").unwrap_or(line); // half a line end counts when it is whole
        match (self.stage, self.kind) {
            (Stage::Start, Kind::Request) if line.len() > limits.target + AROUND_TARGET => {
                Err(Reason::TargetTooLong)
            }
            (Stage::Start, Kind::Request) => match line.first() {
                Some(&b) if !is_token_byte(b) => Err(Reason::RequestLine),
                _ => Ok(()),
            },
            (Stage::Start, Kind::Response)
                if line.len() > STATUS_LINE_MAX || !b"HTTP/1.".starts_with(&line[..line.len().min(7)]) =>
            {
                Err(Reason::StatusLine)
            }
            (Stage::Fields, _) if self.line - self.section + line.len() > limits.section => {
                Err(Reason::HeaderTooLarge)
            }
            _ => Ok(()),
        }
    }

    fn judge_line(&mut self, buffer: &[u8], from: usize, to: usize, limits: &Limits) -> Result<(), Reason> {
        match (self.stage, self.kind) {
            // One empty line before a request is tolerated (RFC 9112, 2.2); it is always the first thing in the buffer.
            (Stage::Start, Kind::Request) if from == to && from == 0 => Ok(()),
            (Stage::Start, Kind::Request) => self.request_line(buffer, from, to, limits),
            (Stage::Start, Kind::Response) => self.status_line(buffer, from, to),
            (Stage::Fields, _) if from == to => {
                self.mark_hops(buffer);
                self.stage = Stage::Done;
                Ok(())
            }
            (Stage::Fields, _) => self.within(limits).and_then(|()| Err(FieldLine::fault(&buffer[from..to]))),
            (Stage::Done, _) => Ok(()),
        }
    }

    fn request_line(&mut self, buffer: &[u8], from: usize, to: usize, limits: &Limits) -> Result<(), Reason> {
        let line = &buffer[from..to];
        let method_end = memchr(b' ', line).ok_or(Reason::RequestLine)?;
        if method_end > METHOD_MAX || !is_token(&line[..method_end]) {
            return Err(Reason::Method);
        }
        let rest = &line[method_end + 1..];
        let target_len = target_len(rest);
        if rest.get(target_len) != Some(&b' ') || target_len == 0 || target_len > limits.target {
            return Err(target_fault(rest, limits));
        }
        self.version = match &rest[target_len + 1..] {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            [b'H', b'T', b'T', b'P', b'/', a, b'.', b] if a.is_ascii_digit() && b.is_ascii_digit() => {
                return Err(Reason::Version);
            }
            _ => return Err(Reason::RequestLine),
        };
        self.method = Span::new(from, from + method_end);
        self.target = Span::new(from + method_end + 1, from + method_end + 1 + target_len);
        self.begin_fields();
        Ok(())
    }

    fn status_line(&mut self, buffer: &[u8], from: usize, to: usize) -> Result<(), Reason> {
        let line = &buffer[from..to];
        let [
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            minor @ (b'0' | b'1'),
            b' ',
            a @ b'1'..=b'5',
            b,
            c,
            b' ',
            phrase @ ..,
        ] = line
        else {
            return Err(Reason::StatusLine);
        };
        if line.len() > STATUS_LINE_MAX || !b.is_ascii_digit() || !c.is_ascii_digit() || !is_value(phrase) {
            return Err(Reason::StatusLine);
        }
        self.version = if *minor == b'1' { Version::Http11 } else { Version::Http10 };
        self.status = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
        self.phrase = Span::new(to - phrase.len(), to);
        self.begin_fields();
        Ok(())
    }

    fn begin_fields(&mut self) {
        self.section = self.line;
        self.stage = Stage::Fields;
    }

    /// Whether there may be one more field, whose line has just ended.
    fn within(&self, limits: &Limits) -> Result<(), Reason> {
        if self.line - self.section > limits.section {
            return Err(Reason::HeaderTooLarge);
        }
        if self.fields.len() == limits.fields { Err(Reason::TooManyFields) } else { Ok(()) }
    }

    #[inline(always)]
    fn field_line(&mut self, buffer: &[u8], line: &FieldLine<'_>, limits: &Limits) -> Result<(), Reason> {
        self.within(limits)?;
        let Name { bytes, underscore } = line.name;
        if underscore && is_framing_lookalike(bytes) {
            return Err(Reason::FramingLookalike);
        }
        let (value, canonical) = line.trimmed();
        self.underscore |= underscore;
        let known = Known::of(bytes);
        let name = Span::new(line.from, line.from + bytes.len());
        self.fields.push(Field { name, value, known, hop: false, underscore, canonical });
        if known == Known::Other { Ok(()) } else { self.note(buffer, known, value) }
    }

    /// Remembers what frames the message or concerns this hop.
    fn note(&mut self, buffer: &[u8], known: Known, value: Span) -> Result<(), Reason> {
        match known {
            Known::Host => {
                self.hosts += 1;
                self.host = Some(value);
            }
            Known::ContentLength => {
                self.lengths_differ |= self.length.is_some_and(|first| first.of(buffer) != value.of(buffer));
                self.lengths += 1;
                self.length = Some(value);
            }
            Known::TransferEncoding => {
                self.codings += 1;
                self.chunked = value.of(buffer).eq_ignore_ascii_case(b"chunked");
            }
            Known::Connection => self.connection(buffer, value)?,
            Known::Upgrade => {
                self.upgrades += 1;
                self.upgrade = Some(value);
            }
            Known::Expect => {
                let first = self.expectation == Expectation::None;
                let sane = first && value.of(buffer).eq_ignore_ascii_case(b"100-continue");
                self.expectation = if sane { Expectation::Continue } else { Expectation::Unknown };
            }
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, buffer: &[u8], value: Span) -> Result<(), Reason> {
        let mut from = value.from as usize;
        for piece in value.of(buffer).split(|&b| b == b',') {
            let span = Span::new(from, from + piece.len()).trim(buffer);
            from += piece.len() + 1;
            let option = span.of(buffer);
            match option.len() {
                0 => {}
                5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade_option = true,
                _ if self.options.len() == CONNECTION_OPTIONS_MAX => return Err(Reason::ConnectionOptions),
                _ => self.options.push(span),
            }
        }
        Ok(())
    }

    /// Fields named by `Connection` concern this hop only (RFC 9110, 7.6.1). At most 32 options times the field limit.
    fn mark_hops(&mut self, buffer: &[u8]) {
        for option in &self.options {
            let option = option.of(buffer);
            for field in &mut self.fields {
                if !field.known.survives_connection() && field.name.of(buffer).eq_ignore_ascii_case(option) {
                    field.hop = true;
                }
            }
        }
    }
}

/// What is wrong with a request line's target, given what follows the method.
fn target_fault(rest: &[u8], limits: &Limits) -> Reason {
    match memchr(b' ', rest) {
        None => Reason::RequestLine,
        Some(len) if len > limits.target => Reason::TargetTooLong,
        Some(_) => Reason::Target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { target: 100, section: 300, fields: 5 };

    fn request(text: &str) -> Result<Option<Head>, Reason> {
        let mut head = Head::new(Kind::Request);
        let whole = head.parse(text.as_bytes(), &LIMITS)?;
        Ok(whole.then_some(head))
    }

    fn reason(text: &str) -> Option<Reason> {
        request(text).err()
    }

    #[test]
    fn a_plain_request_is_understood() {
        let text = "\r\nPOST /a?b HTTP/1.1\r\nHost: x\r\nA:b  \r\nEmpty:\r\n\r\nbody";
        let head = request(text).expect("valid").expect("whole");
        let b = text.as_bytes();
        assert_eq!(head.method(b), b"POST");
        assert_eq!(head.target().of(b), b"/a?b");
        assert_eq!(head.value(b, "a"), Some(&b"b"[..]));
        assert_eq!(head.value(b, "EMPTY"), Some(&b""[..]));
        assert_eq!(head.len(), text.len() - 4);
    }

    #[test]
    fn bad_lines_are_refused_when_they_end() {
        for (text, expected) in [
            ("GET / HTTP/1.1\n", Reason::LineEnd),
            ("\n", Reason::LineEnd),
            ("\r\n\r\n", Reason::RequestLine),
            ("GET  / HTTP/1.1\r\n", Reason::Target),
            ("GET /\r\n", Reason::RequestLine),
            ("GET / HTTP/1.1 \r\n", Reason::RequestLine),
            ("GET / http/1.1\r\n", Reason::RequestLine),
            ("GET / HTTP/2.0\r\n", Reason::Version),
            ("G(T / HTTP/1.1\r\n", Reason::Method),
            ("GET /#a HTTP/1.1\r\n", Reason::Target),
            ("GET /\u{e9} HTTP/1.1\r\n", Reason::Target),
            (" GET / HTTP/1.1\r\n", Reason::Method),
            ("GET / HTTP/1.1\r\n A: b\r\n", Reason::ObsFold),
            ("GET / HTTP/1.1\r\nA: b\r\n c\r\n", Reason::ObsFold),
            ("GET / HTTP/1.1\r\nA : b\r\n", Reason::SpaceBeforeColon),
            ("GET / HTTP/1.1\r\nA b: b\r\n", Reason::FieldName),
            ("GET / HTTP/1.1\r\n: b\r\n", Reason::FieldName),
            ("GET / HTTP/1.1\r\nA\r\n", Reason::FieldName),
            ("GET / HTTP/1.1\r\nA: b\0\r\n", Reason::Control),
            ("GET / HTTP/1.1\r\nA: b\rc\r\n", Reason::LineEnd),
            ("GET / HTTP/1.1\r\nContent_Length: 1\r\n", Reason::FramingLookalike),
        ] {
            assert_eq!(reason(text), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_http_is_refused_before_a_line_ends() {
        assert_eq!(reason("\u{16}\u{3}\u{1}"), Some(Reason::RequestLine));
        assert_eq!(reason(""), None);
        assert_eq!(reason("\r"), None);
    }

    #[test]
    fn limits_hold_before_a_line_ends() {
        assert_eq!(reason(&format!("GET /{}", "a".repeat(200))), Some(Reason::TargetTooLong));
        assert_eq!(reason(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(100))), Some(Reason::TargetTooLong));
        assert!(request(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(99))).is_ok());
        assert_eq!(
            reason(&format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(300))),
            Some(Reason::HeaderTooLarge)
        );
        assert_eq!(
            reason(&format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(6))),
            Some(Reason::TooManyFields)
        );
    }

    #[test]
    fn connection_names_hops_but_not_what_frames_or_forwards() {
        let text = "GET / HTTP/1.1\r\nConnection: close, X-A ,host,x-forwarded-for\r\nX-A: 1\r\nHost: h\r\nX-Forwarded-For: 1\r\nX-B: 1\r\n\r\n";
        let head = request(text).expect("valid").expect("whole");
        let hops: Vec<_> =
            head.fields().iter().filter(|f| f.hop).map(|f| f.name.of(text.as_bytes())).collect();
        assert_eq!(hops, [b"X-A"]);
        assert!(head.close);
    }

    #[test]
    fn status_lines_are_strict() {
        let parse = |text: &str| Head::new(Kind::Response).parse(text.as_bytes(), &LIMITS);
        assert_eq!(parse("HTTP/1.1 200 OK\r\n\r\n"), Ok(true));
        assert_eq!(parse("HTTP/1.0 404 \r\n\r\n"), Ok(true));
        for bad in [
            "HTTP/1.1 200\r\n",
            "HTTP/2.0 200 OK\r\n",
            "HTTP/1.1 099 x\r\n",
            "HTTP/1.1 600 x\r\n",
            "HTTP/1.1  200 x\r\n",
            "ICY 200",
        ] {
            assert_eq!(parse(bad), Err(Reason::StatusLine), "{bad:?}");
        }
    }

    #[test]
    fn a_reset_head_forgets_everything() {
        let mut head = Head::new(Kind::Request);
        let text =
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x\r\nContent-Length: 3\r\nA_b: 1\r\n\r\n";
        assert_eq!(head.parse(text, &LIMITS), Ok(true));
        head.reset(Kind::Response);
        assert!(
            head.is_empty()
                && head.fields().is_empty()
                && !head.close
                && head.length.is_none()
                && !head.has_underscore()
        );
    }
}
