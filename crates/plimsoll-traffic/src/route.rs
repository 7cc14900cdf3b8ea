//! Which route takes a request: the most specific whose conditions hold, whatever the order in the file.
//!
//! In go the matchers once, then host, method, path and headers of each request; out comes a matcher's index. Host
//! before path before method before headers: an exact host beats a longer wildcard beats a shorter beats none; an exact path
//! beats a longer prefix beats a shorter; a method condition beats none; more header conditions beat fewer. When
//! those of a more specific route don't hold, the next is asked. Lookups are by hash, so ten thousand routes cost what
//! one does; no work may grow faster than the request's own length.

use std::collections::HashMap;

use plimsoll_config::model::{HeaderMatch, HostMatch, Matcher, PathMatch};

use crate::dice::Dice;
use crate::path::normalise;

/// No host name is longer (RFC 1035); a longer one can only match a route without a host.
const LONGEST_HOST: usize = 255;

/// All routes, ready for lookup.
#[derive(Debug, Default)]
pub struct Router {
    hosts: HashMap<Box<[u8]>, Paths>,
    /// By what follows the `*.`.
    wildcards: HashMap<Box<[u8]>, Paths>,
    any: Paths,
}

/// The routes of one host condition.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<[u8]>, Vec<Rule>>,
    prefixes: HashMap<Box<[u8]>, Vec<Rule>>,
    /// The lengths that occur in `prefixes`, longest first: only there a path can be cut.
    lengths: Vec<usize>,
    any: Vec<Rule>,
}

/// What is left to check once host and path match; in each list the most specific comes first.
#[derive(Debug)]
struct Rule {
    index: usize,
    methods: Vec<String>,
    headers: Vec<HeaderMatch>,
}

/// The parts of a request that rules look at.
struct Request<'a, 'h> {
    method: &'a [u8],
    header: &'a dyn Fn(&str) -> Option<&'h [u8]>,
}

impl Router {
    /// Prepares the lookup; `find` returns indices into `matchers`.
    pub fn new(matchers: &[Matcher]) -> Router {
        let mut router = Router::default();
        for (index, matcher) in matchers.iter().enumerate() {
            let paths = match &matcher.host {
                Some(HostMatch::Exact(host)) => router.hosts.entry(lower(host)).or_default(),
                Some(HostMatch::Wildcard(suffix)) => router.wildcards.entry(lower(suffix)).or_default(),
                None => &mut router.any,
            };
            paths.rules(matcher.path.as_ref()).push(Rule {
                index,
                methods: matcher.methods.clone(),
                headers: matcher.headers.clone(),
            });
        }
        router.hosts.values_mut().chain(router.wildcards.values_mut()).for_each(Paths::finish);
        router.any.finish();
        router
    }

    /// The most specific matcher that holds.
    ///
    /// `host` is without the port, in any case, with or without a final dot; `path` is the raw target's without the query
    /// and is matched in its normal form; `header` gives a field's value by its lower-case name.
    pub fn find<'h>(
        &self,
        host: &[u8],
        method: &[u8],
        path: &[u8],
        header: &dyn Fn(&str) -> Option<&'h [u8]>,
    ) -> Option<usize> {
        let (path, request) = (normalise(path), Request { method, header });
        let host = host.strip_suffix(b".").unwrap_or(host);
        if host.iter().any(u8::is_ascii_uppercase) {
            self.find_host(&host.to_ascii_lowercase(), &path, &request)
        } else {
            self.find_host(host, &path, &request)
        }
    }

    fn find_host(&self, host: &[u8], path: &[u8], request: &Request<'_, '_>) -> Option<usize> {
        let named = || {
            let exact = self.hosts.get(host).and_then(|paths| paths.find(path, request));
            exact.or_else(|| self.find_wildcard(host, path, request))
        };
        let found = if host.len() <= LONGEST_HOST { named() } else { None };
        found.or_else(|| self.any.find(path, request))
    }

    fn find_wildcard(&self, host: &[u8], path: &[u8], request: &Request<'_, '_>) -> Option<usize> {
        if self.wildcards.is_empty() {
            return None;
        }
        // Dots from the left, so the longest suffix comes first; a leading dot has no label before it.
        let dots = host.iter().enumerate().skip(1).filter(|&(_, &b)| b == b'.').map(|(at, _)| at);
        dots.filter_map(|dot| self.wildcards.get(&host[dot + 1..]))
            .find_map(|paths| paths.find(path, request))
    }
}

impl Paths {
    fn rules(&mut self, path: Option<&PathMatch>) -> &mut Vec<Rule> {
        match path {
            Some(PathMatch::Exact(path)) => self.exact.entry(key(path)).or_default(),
            Some(PathMatch::Prefix(prefix)) => {
                self.prefixes.entry(key(prefix.trim_end_matches('/'))).or_default()
            }
            None => &mut self.any,
        }
    }

    fn finish(&mut self) {
        self.lengths = self.prefixes.keys().map(|prefix| prefix.len()).collect();
        self.lengths.sort_unstable_by(|a, b| b.cmp(a));
        self.lengths.dedup();
        let lists = self.exact.values_mut().chain(self.prefixes.values_mut()).chain([&mut self.any]);
        lists.for_each(|rules| rules.sort_by_key(|r| (r.methods.is_empty(), usize::MAX - r.headers.len())));
    }

    fn find(&self, path: &[u8], request: &Request<'_, '_>) -> Option<usize> {
        let exact = self.exact.get(path).and_then(|rules| first(rules, request));
        exact.or_else(|| self.find_prefix(path, request)).or_else(|| first(&self.any, request))
    }

    fn find_prefix(&self, path: &[u8], request: &Request<'_, '_>) -> Option<usize> {
        // A prefix ends where a segment ends: `/v1` has nothing to do with `/v1x`.
        let ends = |&&length: &&usize| length == path.len() || path.get(length) == Some(&b'/');
        let lists = self.lengths.iter().filter(ends).filter_map(|&length| self.prefixes.get(&path[..length]));
        lists.into_iter().find_map(|rules| first(rules, request))
    }
}

impl Rule {
    fn holds(&self, request: &Request<'_, '_>) -> bool {
        let has = |wanted: &HeaderMatch| {
            let value = (request.header)(&wanted.name);
            value.is_some_and(|value| wanted.value.as_ref().is_none_or(|wanted| wanted.as_bytes() == value))
        };
        (self.methods.is_empty() || self.methods.iter().any(|m| m.as_bytes() == request.method))
            && self.headers.iter().all(has)
    }
}

fn first(rules: &[Rule], request: &Request<'_, '_>) -> Option<usize> {
    rules.iter().find(|rule| rule.holds(request)).map(|rule| rule.index)
}

fn lower(host: &str) -> Box<[u8]> {
    host.to_ascii_lowercase().into_bytes().into()
}

fn key(path: &str) -> Box<[u8]> {
    normalise(path.as_bytes()).into()
}

/// One of a route's backends, by weight. The configuration guarantees a weight above 0.
pub fn split(weights: &[(usize, u32)], dice: &mut Dice) -> usize {
    let total = weights.iter().map(|&(_, weight)| u64::from(weight)).sum();
    let mut place = dice.below_u64(total);
    for &(backend, weight) in weights {
        if place < u64::from(weight) {
            return backend;
        }
        place -= u64::from(weight);
    }
    weights.first().expect("a proxying route has a backend").0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(host: &str, path: &str, methods: &[&str], headers: &[(&str, &str)]) -> Matcher {
        Matcher {
            host: match host.strip_prefix("*.") {
                _ if host.is_empty() => None,
                Some(suffix) => Some(HostMatch::Wildcard(suffix.into())),
                None => Some(HostMatch::Exact(host.into())),
            },
            path: match path.strip_suffix("/*") {
                _ if path.is_empty() => None,
                Some(prefix) => Some(PathMatch::Prefix(prefix.into())),
                None => Some(PathMatch::Exact(path.into())),
            },
            methods: methods.iter().map(ToString::to_string).collect(),
            headers: headers
                .iter()
                .map(|(name, value)| HeaderMatch {
                    name: (*name).into(),
                    value: (*value != "*").then(|| (*value).into()),
                })
                .collect(),
        }
    }

    /// Finds by host and path, GET, without headers.
    fn get(router: &Router, host: &str, path: &str) -> Option<usize> {
        router.find(host.as_bytes(), b"GET", path.as_bytes(), &|_| None)
    }

    fn router(matchers: &[(&str, &str)]) -> Router {
        Router::new(&matchers.iter().map(|(h, p)| matcher(h, p, &[], &[])).collect::<Vec<_>>())
    }

    #[test]
    fn exact_host_beats_longer_wildcard_beats_shorter_beats_none() {
        let router = router(&[("", ""), ("*.com", ""), ("*.example.com", ""), ("api.example.com", "")]);
        for (host, expected) in [
            ("api.example.com", 3),
            ("API.Example.COM", 3),
            ("api.example.com.", 3),
            ("v2.api.example.com", 2),
            ("www.example.com", 2),
            ("example.com", 1),
            (".example.com", 1),
            ("com", 0),
            ("", 0),
            ("[::1]", 0),
        ] {
            assert_eq!(get(&router, host, "/"), Some(expected), "{host}");
        }
    }

    #[test]
    fn exact_path_beats_longer_prefix_beats_shorter_beats_none() {
        let router = router(&[("", ""), ("", "/*"), ("", "/v1/*"), ("", "/v1/users/*"), ("", "/v1/users")]);
        for (path, expected) in [
            ("/v1/users", 4),
            ("/v1/users/", 3),
            ("/v1/users/7", 3),
            ("/v1", 2),
            ("/v1/", 2),
            ("/v1/usersx", 2),
            ("/v1x", 1),
            ("/", 1),
            ("*", 0),
            ("/v2/../v1/./%75sers", 4),
            ("/v1/%2e%2e/x", 1),
            ("/v1%2Fusers", 1),
        ] {
            assert_eq!(get(&router, "h", path), Some(expected), "{path}");
        }
    }

    #[test]
    fn the_host_is_more_specific_than_any_path() {
        let router = router(&[("", "/exact"), ("example.com", "/*")]);
        assert_eq!(get(&router, "example.com", "/exact"), Some(1));
    }

    #[test]
    fn falls_through_to_the_next_when_conditions_do_not_hold() {
        let router = Router::new(&[
            matcher("a.example.com", "/v1", &["POST"], &[]),
            matcher("a.example.com", "/v1", &[], &[("x-beta", "1")]),
            matcher("*.example.com", "/v1/*", &[], &[("x-beta", "*")]),
            matcher("", "", &[], &[]),
        ]);
        let find = |method: &str, beta: Option<&'static [u8]>| {
            router.find(b"a.example.com", method.as_bytes(), b"/v1", &|name| {
                (name == "x-beta").then_some(beta).flatten()
            })
        };
        assert_eq!(find("POST", None), Some(0));
        assert_eq!(find("post", None), Some(3), "methods are case-sensitive");
        assert_eq!(find("GET", Some(b"1")), Some(1));
        assert_eq!(find("GET", Some(b"2")), Some(2));
        assert_eq!(find("GET", None), Some(3));
    }

    #[test]
    fn a_method_condition_beats_headers_and_more_headers_beat_fewer() {
        let router = Router::new(&[
            matcher("", "/", &[], &[]),
            matcher("", "/", &[], &[("a", "*")]),
            matcher("", "/", &[], &[("a", "*"), ("b", "*")]),
            matcher("", "/", &["GET"], &[]),
            matcher("", "/", &["GET"], &[("a", "*")]),
        ]);
        let find = |method: &str, names: &[&str]| {
            router.find(b"h", method.as_bytes(), b"/", &|name| names.contains(&name).then_some(&b"x"[..]))
        };
        assert_eq!(find("GET", &["a", "b"]), Some(4));
        assert_eq!(find("GET", &[]), Some(3));
        assert_eq!(find("PUT", &["a", "b"]), Some(2));
        assert_eq!(find("PUT", &["a"]), Some(1));
        assert_eq!(find("PUT", &["b"]), Some(0));
    }

    #[test]
    fn finds_nothing_where_nothing_matches() {
        assert_eq!(get(&router(&[("example.com", "/v1/*")]), "example.com", "/v2"), None);
        assert_eq!(get(&router(&[]), "example.com", "/"), None);
    }

    #[test]
    fn a_host_of_many_labels_costs_no_more_than_a_name_can_have() {
        let router = router(&[("*.example.com", ""), ("", "")]);
        let host = format!("{}example.com", "a.".repeat(8_000));
        assert_eq!(get(&router, &host, "/"), Some(1));
    }

    #[test]
    fn ten_thousand_routes_are_looked_up_by_hash() {
        let names: Vec<(String, String)> =
            (0..10_000).map(|i| (format!("h{}.example.com", i % 100), format!("/a/{i}/*"))).collect();
        let router = router(&names.iter().map(|(h, p)| (h.as_str(), p.as_str())).collect::<Vec<_>>());
        assert_eq!(get(&router, "h7.example.com", "/a/4207/x/y"), Some(4_207));
        assert_eq!(get(&router, "h7.example.com", "/a/4208/x/y"), None);
        // What bounds the work of a lookup: few lengths to cut at, and one rule in each list.
        let paths = &router.hosts[&b"h7.example.com"[..]];
        assert!(paths.lengths.len() <= 4 && paths.prefixes.values().all(|rules| rules.len() == 1));
    }

    #[test]
    fn a_split_follows_its_weights_and_never_takes_weight_zero() {
        let mut dice = Dice::new(1);
        let mut counts = [0u32; 4];
        (0..100_000).for_each(|_| counts[split(&[(3, 95), (0, 0), (1, 5)], &mut dice)] += 1);
        assert_eq!((counts[0], counts[2]), (0, 0));
        assert!((f64::from(counts[1]) / 1e5 - 0.05).abs() < 0.003, "{counts:?}");
    }
}
