//! The strings of a route: host, path, method, header, location.
//!
//! Each function turns what was written into its model type or says what is wrong with it. What passes here can be
//! matched or sent as it stands: no control characters, no white space where HTTP has none. Knows no other key.

use crate::address::{Fault, host_name};
use crate::model::{HashKey, HeaderMatch, HostMatch, PathMatch};
use crate::problem::Code;
use crate::suggest::closest;

fn bad(message: impl Into<String>) -> Fault {
    Fault::new(Code::BadValue, message)
}

/// `example.com` or `*.example.com`.
pub(crate) fn parse_host(text: &str) -> Result<HostMatch, Fault> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        return Err(bad(format!("a host has no `{scheme}://`")).help(format!("write \"{host}\"")));
    }
    if let Some((host, path)) = text.split_once('/') {
        return Err(bad("a host has no path").help(format!("write host = \"{host}\" and path = \"/{path}\"")));
    }
    if text == "*" {
        return Err(bad("`*` is not a host").help("leave `host` out to match any"));
    }
    let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = inside.and_then(|inside| inside.parse::<std::net::Ipv6Addr>().ok()) {
        return Ok(HostMatch::Exact(format!("[{address}]")));
    }
    if let Some((host, _)) = text.rsplit_once(':') {
        return Err(bad("a host has no port").help(format!("write \"{host}\": it matches on every port")));
    }
    if text.parse::<std::net::Ipv4Addr>().is_ok() {
        return Ok(HostMatch::Exact(text.to_owned()));
    }
    if let Some(host) = text.strip_suffix('.') {
        return Err(bad("a host is written without the final dot").help(format!("write \"{host}\"")));
    }
    match text.strip_prefix("*.") {
        Some(rest) => host_condition(rest).map(HostMatch::Wildcard),
        None if text.contains('*') => {
            Err(bad(format!("`{text}`: a `*` stands only for the first labels"))
                .help("write \"*.example.com\""))
        }
        None => host_condition(text).map(HostMatch::Exact),
    }
}

fn host_condition(text: &str) -> Result<String, Fault> {
    host_name(text).map_err(|fault| Fault { code: Code::BadValue, ..fault })
}

/// `/exact`, `/prefix/*` or `/*`.
pub(crate) fn parse_path(text: &str) -> Result<PathMatch, Fault> {
    if !text.starts_with('/') {
        return Err(
            bad(format!("the path `{text}` does not begin with `/`")).help(format!("write \"/{text}\""))
        );
    }
    if let Some(at) = text.find(['?', '#']) {
        return Err(
            bad("a path condition has no query and no fragment").help(format!("write \"{}\"", &text[..at]))
        );
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            bad("a path has only visible ASCII characters").help("write others percent-encoded: \"%20\"")
        );
    }
    let (path, prefix) = match text.strip_suffix("/*") {
        Some(path) => (path, true),
        None => (text, false),
    };
    if path.contains('*') {
        let cut = path.find('*').unwrap_or_default();
        let folder = path[..cut].trim_end_matches('/');
        return Err(bad(format!("`{text}`: a `*` stands only alone, as the last segment"))
            .help(format!("write \"{folder}/*\" for everything below")));
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(bad("a path condition has no `.` and `..` segments"));
    }
    Ok(if prefix { PathMatch::Prefix(path.to_owned()) } else { PathMatch::Exact(path.to_owned()) })
}

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT"];

/// A method as clients send it.
pub(crate) fn parse_method(text: &str) -> Result<String, Fault> {
    if !is_token(text) {
        return Err(bad(format!("`{text}` is not a method")));
    }
    if text == "CONNECT" || text == "TRACE" {
        return Err(bad(format!("`{text}` is always refused, so no route can match it")));
    }
    let upper = text.to_ascii_uppercase();
    if METHODS.contains(&upper.as_str()) && upper != text {
        return Err(bad(format!("methods are case-sensitive, and `{text}` is never sent"))
            .help(format!("did you mean `{upper}`?")));
    }
    Ok(text.to_owned())
}

/// A header's name and the value it must have.
pub(crate) fn parse_header(name: &str, value: &str) -> Result<HeaderMatch, Fault> {
    if !is_token(name) {
        return Err(bad(format!("`{name}` is not a header's name")));
    }
    if !is_field_value(value) {
        return Err(bad(format!("no header has the value `{value}`")).help(
            "visible ASCII characters, with single spaces or tabs inside; \"*\" asks only that it is there",
        ));
    }
    let value = (value != "*").then(|| value.to_owned());
    Ok(HeaderMatch { name: name.to_ascii_lowercase(), value })
}

/// A value that can be sent in a field: visible, not empty, no white space at its ends.
pub(crate) fn is_field_value(value: &str) -> bool {
    !value.is_empty()
        && value.trim() == value
        && value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t')
}

/// RFC 9110, 5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

const PLACEHOLDERS: [&str; 3] = ["host", "path", "query"];

/// The `Location` of a redirect.
pub(crate) fn parse_location(text: &str) -> Result<String, Fault> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            bad("a location has only visible ASCII characters").help("write others percent-encoded: \"%20\"")
        );
    }
    check_placeholders(text)?;
    let rest = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let sound = match rest {
        Some(rest) => is_authority(authority(rest)),
        // "//…" and "/{path}" would let the client's own path name another host.
        None => text.starts_with('/') && !text[1..].starts_with(['/', '{', '\\']),
    };
    if !sound {
        return Err(bad(format!("`{text}` is not a location"))
            .help("begin with \"https://HOST\", \"http://HOST\" or \"/\" and a name: \"https://{host}{path}{query}\""));
    }
    Ok(text.to_owned())
}

/// What stands before the path; a `{path}` begins with a slash and a `{query}` with a question mark.
fn authority(rest: &str) -> &str {
    let ends = ["/", "?", "#", "\\", "{path}", "{query}"].iter().filter_map(|end| rest.find(end));
    &rest[..ends.min().unwrap_or(rest.len())]
}

/// `{host}` must be the whole host, or a client's `Host` could become part of another name.
fn is_authority(text: &str) -> bool {
    if let Some(tail) = text.strip_prefix("{host}") {
        return tail.is_empty() || tail.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    }
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[') && !text.contains(['{', '@'])
}

fn check_placeholders(text: &str) -> Result<(), Fault> {
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let body = &rest[at + 1..];
        let end = body.find('}').filter(|_| rest[at..].starts_with('{'));
        let end =
            end.ok_or_else(|| bad("a brace without its other half").help("write { as %7B and } as %7D"))?;
        let name = &body[..end];
        if !PLACEHOLDERS.contains(&name) {
            let help = match closest(name, PLACEHOLDERS) {
                Some(meant) => format!("did you mean `{{{meant}}}`?"),
                None => "known are `{host}`, `{path}` and `{query}`".to_owned(),
            };
            return Err(bad(format!("`{{{name}}}` is not filled in")).help(help));
        }
        rest = &body[end + 1..];
    }
    Ok(())
}

/// What `hash` goes by.
pub(crate) fn parse_hash_key(text: &str) -> Result<HashKey, Fault> {
    let (kind, name) = match text.split_once(':') {
        Some((kind, name)) => (kind, Some(name)),
        None => (text, None),
    };
    match (kind, name) {
        ("client_ip", None) => Ok(HashKey::ClientIp),
        ("path", None) => Ok(HashKey::Path),
        ("header", Some(name)) if is_token(name) => Ok(HashKey::Header(name.to_ascii_lowercase())),
        ("cookie", Some(name)) if is_token(name) => Ok(HashKey::Cookie(name.to_owned())),
        ("query", Some(name)) if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(HashKey::Query(name.to_owned()))
        }
        ("header" | "cookie" | "query", _) => {
            let example = if kind == "header" { "x-user" } else { "session" };
            Err(bad(format!("`{text}` does not name the {kind}")).help(format!("write \"{kind}:{example}\"")))
        }
        _ => Err(bad(format!("`{text}` is not a hash key")).help(hash_key_help(kind))),
    }
}

fn hash_key_help(kind: &str) -> String {
    match closest(kind, ["client_ip", "path", "header", "cookie", "query"]) {
        Some(meant @ ("client_ip" | "path")) => format!("did you mean `{meant}`?"),
        Some(meant) => format!("did you mean `{meant}:NAME`?"),
        None => "it is `client_ip`, `path`, `header:NAME`, `cookie:NAME` or `query:NAME`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_lower_case() {
        assert_eq!(parse_host("API.Example.com").unwrap(), HostMatch::Exact("api.example.com".to_owned()));
        assert_eq!(parse_host("*.Example.com").unwrap(), HostMatch::Wildcard("example.com".to_owned()));
        assert_eq!(parse_host("10.0.0.1").unwrap(), HostMatch::Exact("10.0.0.1".to_owned()));
        assert_eq!(parse_host("[::1]").unwrap(), HostMatch::Exact("[::1]".to_owned()));
    }

    #[test]
    fn refuses_what_is_no_host() {
        for text in ["", "*", "a.*.b", "*a.b", "a:80", "http://a", "a/b", "a.", "ü.de", "a b", "*."] {
            assert!(parse_host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_star_alone_at_the_end_makes_a_prefix() {
        assert_eq!(parse_path("/v1/*").unwrap(), PathMatch::Prefix("/v1".to_owned()));
        assert_eq!(parse_path("/*").unwrap(), PathMatch::Prefix(String::new()));
        assert_eq!(parse_path("/v1/users").unwrap(), PathMatch::Exact("/v1/users".to_owned()));
        assert_eq!(parse_path("/").unwrap(), PathMatch::Exact("/".to_owned()));
    }

    #[test]
    fn refuses_what_is_no_path() {
        for text in ["", "v1", "/v1*", "/*/x", "/a*/*", "/a?b", "/a#b", "/a b", "/ä", "/a/../b", "/./*"] {
            assert!(parse_path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn methods_are_taken_as_they_are_sent() {
        assert_eq!(parse_method("PURGE").unwrap(), "PURGE");
        assert_eq!(parse_method("get").unwrap_err().help.unwrap(), "did you mean `GET`?");
        for text in ["", "GET POST", "TRACE", "CONNECT"] {
            assert!(parse_method(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_star_asks_only_that_a_header_is_there() {
        assert_eq!(parse_header("X-A", "*").unwrap(), HeaderMatch { name: "x-a".to_owned(), value: None });
        for (name, value) in [("", "x"), ("a b", "x"), ("a", ""), ("a", " x"), ("a", "x\r\ny: z")] {
            assert!(parse_header(name, value).is_err(), "{name}: {value}");
        }
    }

    #[test]
    fn a_location_never_lets_the_client_name_another_host() {
        for text in ["https://{host}{path}{query}", "/new", "https://example.com/{path}", "http://[::1]/"] {
            assert!(parse_location(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "x",
            "//a",
            "/{path}",
            "{path}",
            "https://",
            "https://{path}",
            "https://{host}.a",
            "https://a{host}",
            "https://{host}@a",
            "/{hots}",
            "/{",
            "/}",
            "/a b",
        ] {
            assert!(parse_location(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_every_hash_key() {
        assert_eq!(parse_hash_key("client_ip").unwrap(), HashKey::ClientIp);
        assert_eq!(parse_hash_key("header:X-User").unwrap(), HashKey::Header("x-user".to_owned()));
        assert_eq!(parse_hash_key("cookie:session").unwrap(), HashKey::Cookie("session".to_owned()));
        assert_eq!(parse_hash_key("query:user").unwrap(), HashKey::Query("user".to_owned()));
        for text in ["", "header", "header:", "cookie:a b", "ip", "path:x", "query:"] {
            assert!(parse_hash_key(text).is_err(), "{text}");
        }
    }
}
