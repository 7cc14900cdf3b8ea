//! The router against an oracle that looks at every route: for any routes and any request both find the same.

use std::cmp::Reverse;

use plimsoll_config::model::{HeaderMatch, HostMatch, Matcher, PathMatch};
use plimsoll_traffic::Router;
use proptest::prelude::*;

/// A request, from a small world so that routes and requests often meet.
#[derive(Debug, Clone)]
struct Request {
    host: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
}

fn host() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("com")], 1..4)
        .prop_map(|labels| labels.join("."))
}

fn path(segments: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let segment = prop_oneof![Just("v1"), Just("v1x"), Just("u"), Just("a%20b")];
    prop::collection::vec(segment, segments).prop_map(|s| s.iter().map(|s| format!("/{s}")).collect())
}

fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    let names = prop::sample::subsequence(vec!["x", "y", "z"], 0..3);
    (names, "[12]")
        .prop_map(|(names, value)| names.into_iter().map(|n| (n.to_string(), value.clone())).collect())
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let host = prop_oneof![
        Just(None),
        host().prop_map(|h| Some(HostMatch::Exact(h))),
        host().prop_map(|h| Some(HostMatch::Wildcard(h))),
    ];
    let path = prop_oneof![
        Just(None),
        path(1..3).prop_map(|p| Some(PathMatch::Exact(p))),
        path(0..3).prop_map(|p| Some(PathMatch::Prefix(p))),
    ];
    let methods = prop::sample::subsequence(vec!["GET".to_string(), "PUT".into()], 0..2);
    let header =
        |(name, value): (String, String)| HeaderMatch { name, value: (value == "1").then_some(value) };
    let headers = headers().prop_map(move |h| h.into_iter().map(header).collect());
    (host, path, methods, headers).prop_map(|(host, path, methods, headers)| Matcher {
        host,
        path,
        methods,
        headers,
    })
}

/// Another spelling of the same path.
fn respell(path: &str, how: u8) -> String {
    match how {
        0 => path.replace('v', "%76"),
        1 => format!("/x/..{path}"),
        2 => path.replace("/u", "/./u"),
        3 => format!("/%2e{path}"),
        _ => path.to_string(),
    }
}

fn request() -> impl Strategy<Value = Request> {
    let method = prop_oneof![Just("GET".to_string()), Just("PUT".into()), Just("POST".into())];
    (host(), method, path(0..4), headers()).prop_map(|(host, method, path, headers)| Request {
        host,
        method,
        path,
        headers,
    })
}

/// Whether the matcher holds, and how specific it is; written from the rules, sharing nothing with the router.
fn judge(matcher: &Matcher, request: &Request, path: &str) -> Option<impl Ord + use<>> {
    let host = match &matcher.host {
        None => (0, 0),
        Some(HostMatch::Wildcard(suffix)) if request.host.ends_with(&format!(".{suffix}")) => {
            (1, suffix.len())
        }
        Some(HostMatch::Exact(host)) if request.host == *host => (2, 0),
        Some(_) => return None,
    };
    let rank = match &matcher.path {
        None => (0, 0),
        Some(PathMatch::Prefix(prefix)) if path == prefix || path.starts_with(&format!("{prefix}/")) => {
            (1, prefix.len())
        }
        Some(PathMatch::Exact(exact)) if path == exact => (2, 0),
        Some(_) => return None,
    };
    let has = |h: &HeaderMatch| {
        request
            .headers
            .iter()
            .any(|(name, value)| *name == h.name && h.value.as_ref().is_none_or(|wanted| wanted == value))
    };
    let holds = (matcher.methods.is_empty() || matcher.methods.contains(&request.method))
        && matcher.headers.iter().all(has);
    holds.then_some((host, rank, !matcher.methods.is_empty(), matcher.headers.len()))
}

fn oracle(matchers: &[Matcher], request: &Request) -> Option<usize> {
    let judged = matchers
        .iter()
        .enumerate()
        .filter_map(|(i, m)| Some((judge(m, request, &request.path)?, Reverse(i))));
    judged.max().map(|(_, Reverse(index))| index)
}

fn find(router: &Router, request: &Request, path: &str) -> Option<usize> {
    let header = |name: &str| request.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_bytes());
    router.find(request.host.as_bytes(), request.method.as_bytes(), path.as_bytes(), &header)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn finds_what_the_oracle_finds(matchers in prop::collection::vec(matcher(), 0..30), request in request(), how in 0..6u8) {
        let router = Router::new(&matchers);
        let expected = oracle(&matchers, &request);
        prop_assert_eq!(find(&router, &request, &request.path), expected);
        // An empty path has no other spelling: a target always begins with a slash.
        if !request.path.is_empty() {
            prop_assert_eq!(find(&router, &request, &respell(&request.path, how)), expected);
        }
    }
}

#[test]
fn the_worlds_are_small_enough_to_reach_every_rank() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut found, mut nothing) = (std::collections::BTreeSet::new(), 0);
    for _ in 0..3_000 {
        let tree = (prop::collection::vec(matcher(), 0..30), request()).new_tree(&mut runner).unwrap();
        let (matchers, request) = proptest::strategy::ValueTree::current(&tree);
        let Some(index) = oracle(&matchers, &request) else {
            nothing += 1;
            continue;
        };
        let m = &matchers[index];
        let host = m.host.as_ref().map(|h| matches!(h, HostMatch::Exact(_)));
        let path = m.path.as_ref().map(|p| matches!(p, PathMatch::Exact(_)));
        found.insert((host, path, m.methods.is_empty(), m.headers.len()));
    }
    assert!(nothing > 50 && found.len() > 40, "{nothing} {}", found.len());
}
