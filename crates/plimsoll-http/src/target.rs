//! The four forms of a request target (RFC 9112, 3.2), and what of them is sent on.

use crate::field::Span;
use crate::host::valid_authority;
use crate::reason::Reason;

/// A request target, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Path and query as sent on; empty where an absolute target has no path (then `/` is sent, or `*` for OPTIONS).
    pub path_and_query: Span,
    /// The authority of an absolute target.
    pub authority: Option<Span>,
    /// `OPTIONS *`.
    pub asterisk: bool,
}

impl Target {
    /// Takes the target at `span` apart. CONNECT and TRACE are refused here, because only they have other forms.
    pub(crate) fn of(buffer: &[u8], method: &[u8], span: Span) -> Result<Target, Reason> {
        if method == b"CONNECT" || method == b"TRACE" {
            return Err(Reason::MethodRefused);
        }
        let bytes = span.of(buffer);
        match bytes {
            [b'/', ..] => Ok(Target { path_and_query: span, authority: None, asterisk: false }),
            b"*" if method == b"OPTIONS" => {
                Ok(Target { path_and_query: span, authority: None, asterisk: true })
            }
            _ => absolute(bytes, span, method == b"OPTIONS"),
        }
    }

    /// What to write into the request line that goes on.
    #[must_use]
    pub fn origin_form<'b>(&self, buffer: &'b [u8]) -> OriginForm<'b> {
        let bytes = self.path_and_query.of(buffer);
        match bytes.first() {
            None if self.asterisk => OriginForm { slash: false, rest: b"*" },
            None | Some(b'?') => OriginForm { slash: true, rest: bytes },
            _ => OriginForm { slash: false, rest: bytes },
        }
    }
}

/// An origin-form target in two parts, so that a missing slash needs no copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginForm<'b> {
    /// Write `/` first.
    pub slash: bool,
    /// Then this.
    pub rest: &'b [u8],
}

fn absolute(bytes: &[u8], span: Span, options: bool) -> Result<Target, Reason> {
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|s| bytes.len() > s.len() && bytes[..s.len()].eq_ignore_ascii_case(s))
        .ok_or(Reason::Target)?;
    let rest = &bytes[scheme.len()..];
    let end = rest.iter().position(|&b| b == b'/' || b == b'?').unwrap_or(rest.len());
    if !valid_authority(&rest[..end]) {
        return Err(Reason::Target);
    }
    let from = span.from as usize + scheme.len();
    Ok(Target {
        path_and_query: Span::new(from + end, span.to as usize),
        authority: Some(Span::new(from, from + end)),
        asterisk: options && end == rest.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(method: &str, target: &str) -> Result<String, Reason> {
        let t = Target::of(target.as_bytes(), method.as_bytes(), Span::new(0, target.len()))?;
        let form = t.origin_form(target.as_bytes());
        Ok(format!("{}{}", if form.slash { "/" } else { "" }, String::from_utf8_lossy(form.rest)))
    }

    #[test]
    fn absolute_targets_lose_their_authority() {
        assert_eq!(sent("GET", "http://a.b/c?d"), Ok("/c?d".into()));
        assert_eq!(sent("GET", "HTTP://a.b"), Ok("/".into()));
        assert_eq!(sent("GET", "http://a.b?q"), Ok("/?q".into()));
        assert_eq!(sent("OPTIONS", "http://a.b"), Ok("*".into()));
        assert_eq!(sent("OPTIONS", "*"), Ok("*".into()));
        assert_eq!(sent("GET", "//a"), Ok("//a".into()));
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in ["*", "a.b:80", "path", "ftp://a/", "http://", "http:///x", "http://u@h/", "?q"] {
            assert_eq!(sent("GET", bad), Err(Reason::Target), "{bad}");
        }
        assert_eq!(sent("CONNECT", "a:80"), Err(Reason::MethodRefused));
        assert_eq!(sent("TRACE", "/"), Err(Reason::MethodRefused));
    }
}
