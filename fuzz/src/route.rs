//! Routing: for any routes and any request, `Router` finds what a look at every route finds.
//!
//! The input decides routes and request, by the grammar's `Choices`, from an alphabet small enough that they often meet. The
//! matcher here is written from the rules (most specific first; RFC 3986, 5.2.4 and 6.2.2 for paths) and shares
//! nothing with the router.

use std::cmp::Reverse;

use plimsoll_config::model::{HeaderMatch, HostMatch, Matcher, PathMatch};
use plimsoll_traffic::Router;

use crate::reading::grammar::Choices;

const LABELS: [&str; 5] = ["a", "b", "com", "xn--a", "A"];
const PIECES: [&str; 20] = [
    "a", "/", "/", "/", ".", "..", "%2e", "%2E%2e", "%2f", "%41", "%61", "b", "/v1", "%", "%4", "%zz",
    "%c3%A9", "%25", "~", "+",
];
const METHODS: [&str; 3] = ["GET", "PUT", "get"];
const NAMES: [&str; 3] = ["x", "y", "z"];
const VALUES: [&str; 3] = ["1", "2", ""];

struct Request {
    host: String,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
}

/// Makes routes and requests of the input, and compares.
pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    let matchers: Vec<Matcher> = (0..=choices.below(6)).map(|_| matcher(&mut choices)).collect();
    let router = Router::new(&matchers);
    for _ in 0..4 {
        let request = request(&mut choices);
        let header = |name: &str| {
            let found = request.headers.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.as_bytes())
        };
        let (host, path) = (request.host.as_bytes(), request.path.as_bytes());
        let found = router.find(host, request.method.as_bytes(), path, &header);
        let expected = naive(&matchers, &request);
        assert_eq!(
            found, expected,
            "{matchers:#?}\n{} {} on {} with {:?}",
            request.method, request.path, request.host, request.headers
        );
    }
}

fn host(choices: &mut Choices<'_>) -> String {
    let labels: Vec<&str> = (0..=choices.below(3)).map(|_| LABELS[choices.below(5)]).collect();
    labels.join(".")
}

fn path(choices: &mut Choices<'_>) -> String {
    let pieces: String = (0..choices.below(7)).map(|_| PIECES[choices.below(20)]).collect();
    format!("/{pieces}")
}

fn matcher(choices: &mut Choices<'_>) -> Matcher {
    Matcher {
        host: match choices.below(3) {
            0 => None,
            1 => Some(HostMatch::Exact(host(choices))),
            _ => Some(HostMatch::Wildcard(host(choices))),
        },
        path: match choices.below(3) {
            0 => None,
            1 => Some(PathMatch::Exact(path(choices))),
            _ => Some(PathMatch::Prefix(path(choices))),
        },
        methods: (0..choices.below(2)).map(|_| METHODS[choices.below(3)].to_owned()).collect(),
        headers: (0..choices.below(3))
            .map(|number| HeaderMatch {
                name: NAMES[(number + choices.below(2)) % 3].to_owned(),
                value: (choices.below(2) == 1).then(|| VALUES[choices.below(3)].to_owned()),
            })
            .collect(),
    }
}

fn request(choices: &mut Choices<'_>) -> Request {
    let mut host = host(choices);
    match choices.below(8) {
        6 => host.push('.'),
        7 => host = format!("{}{host}", "a.".repeat(130)),
        _ => {}
    }
    Request {
        host,
        method: METHODS[choices.below(3)],
        path: if choices.below(16) == 15 { "*".to_owned() } else { path(choices) },
        headers: (0..choices.below(4)).map(|number| (NAMES[number % 3], VALUES[choices.below(3)])).collect(),
    }
}

fn naive(matchers: &[Matcher], request: &Request) -> Option<usize> {
    let host = request.host.to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let path = normal(&request.path);
    let ranked = matchers.iter().enumerate().filter_map(|(number, matcher)| {
        let host = host_rank(matcher.host.as_ref(), host)?;
        let path = path_rank(matcher.path.as_ref(), &path)?;
        let method = matcher.methods.is_empty() || matcher.methods.iter().any(|m| m == request.method);
        let headers = matcher.headers.iter().all(|wanted| {
            let found = request.headers.iter().find(|(name, _)| *name == wanted.name);
            found.is_some_and(|(_, value)| wanted.value.as_deref().is_none_or(|wanted| wanted == *value))
        });
        let rank = (host, path, !matcher.methods.is_empty(), matcher.headers.len(), Reverse(number));
        (method && headers).then_some((rank, number))
    });
    ranked.max_by_key(|(rank, _)| *rank).map(|(_, number)| number)
}

fn host_rank(matcher: Option<&HostMatch>, host: &str) -> Option<(u8, usize)> {
    let lower = |text: &String| text.to_ascii_lowercase();
    match matcher {
        None => Some((0, 0)),
        Some(_) if host.len() > 255 => None,
        Some(HostMatch::Exact(exact)) => (lower(exact) == host).then_some((2, 0)),
        Some(HostMatch::Wildcard(suffix)) => {
            let under = host.len() > suffix.len() + 1 && host.ends_with(&format!(".{}", lower(suffix)));
            under.then_some((1, suffix.len()))
        }
    }
}

fn path_rank(matcher: Option<&PathMatch>, path: &str) -> Option<(u8, usize)> {
    match matcher {
        None => Some((0, 0)),
        Some(PathMatch::Exact(exact)) => (normal(exact) == path).then_some((2, 0)),
        Some(PathMatch::Prefix(prefix)) => {
            let prefix = normal(prefix.trim_end_matches('/'));
            let under = path == prefix || path.starts_with(&format!("{prefix}/"));
            under.then_some((1, prefix.len()))
        }
    }
}

/// RFC 3986, 6.2.2: unreserved characters without escapes, hex digits in upper case, then no dot segments.
fn normal(path: &str) -> String {
    let mut decoded = String::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let escape = rest.get(..3).filter(|_| first == '%');
        let value = escape
            .and_then(|text| u8::from_str_radix(text.get(1..)?, 16).ok().filter(|_| !text.contains('+')));
        match (value, escape) {
            (Some(value), _) if value.is_ascii_alphanumeric() || "-._~".contains(char::from(value)) => {
                decoded.push(char::from(value));
                rest = &rest[3..];
            }
            (Some(_), Some(text)) => {
                decoded.push_str(&text.to_ascii_uppercase());
                rest = &rest[3..];
            }
            _ => {
                decoded.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    if decoded.starts_with('/') { remove_dot_segments(&decoded) } else { decoded }
}

/// RFC 3986, 5.2.4, by the letter, for a path that begins with a slash.
fn remove_dot_segments(path: &str) -> String {
    let (mut input, mut output) = (path.to_owned(), String::new());
    while !input.is_empty() {
        if input.starts_with("/./") {
            input.replace_range(..2, "");
        } else if input == "/." {
            input = "/".to_owned();
        } else if input.starts_with("/../") || input == "/.." {
            let end = if input == "/.." { 3 } else { 4 };
            input.replace_range(..end, "/");
            output.truncate(output.rfind('/').unwrap_or(0));
        } else {
            let end = input[1..].find('/').map_or(input.len(), |at| at + 1);
            output.push_str(&input[..end]);
            input.replace_range(..end, "");
        }
    }
    output
}
