//! The decisions: which server, by each policy, and which route.
//!
//! A pick is counted with its lease taken and given back, while a few other leases are held, so that servers differ. Backends
//! come from a configuration's text, as in production.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;

use plimsoll_config::model::{HostMatch, Matcher, PathMatch};
use plimsoll_config::{Source, load};
use plimsoll_traffic::{Ask, Backend, Balancer, Dice, Micros, Router, hash_key};

use crate::Piece;

/// Leases that are held all the time.
const HELD: usize = 8;
const ROUTES: usize = 10_000;
const HOSTS: usize = 100;

pub(crate) const PIECES: &[Piece] = &[
    // Looks at all, which is another way than drawing two.
    ("pick/p2c-2", || pick(r#""p2c""#, 2)),
    ("pick/p2c-10", || pick(r#""p2c""#, 10)),
    ("pick/p2c-1000", || pick(r#""p2c""#, 1000)),
    ("pick/round_robin-10", || pick(r#""round_robin""#, 10)),
    ("pick/least_conn-10", || pick(r#""least_conn""#, 10)),
    ("pick/hash-10", || pick(r#""hash""#, 10)),
    ("pick/rendezvous-1000", || pick(r#"{ policy = "hash", method = "rendezvous" }"#, 1000)),
    ("pick/route-of-10000", find_route),
];

/// One backend of `servers` servers of equal weight.
fn backend(balance: &str, servers: usize) -> Backend {
    let addresses: Vec<String> =
        (0..servers).map(|n| format!("\"127.0.{}.{}:8000\"", n / 250, n % 250 + 1)).collect();
    let text = format!(
        "[[listen]]\nbind = \"127.0.0.1:8080\"\nto = \"b\"\n[backend.b]\nbalance = {balance}\nservers = [{}]\n",
        addresses.join(", ")
    );
    let loaded = load(&[Source { path: "pick.toml".to_owned(), text }], &|_| None);
    let loaded = loaded.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    Backend::new(&loaded.config.backends[0], None)
}

fn pick(balance: &str, servers: usize) -> Box<dyn FnMut()> {
    let mut dice = Dice::new(1);
    let balancer = Balancer::new(Arc::new(backend(balance, servers)), &mut dice);
    let mut held = VecDeque::with_capacity(HELD + 1);
    let mut key = 0u64;
    Box::new(move || {
        key += 1;
        let ask = Ask { now: Micros(1_000), key: hash_key(&key.to_le_bytes()), tried: &[] };
        held.push_back(balancer.pick(black_box(&ask), &mut dice).expect("all have room"));
        if held.len() > HELD {
            held.pop_front();
        }
    })
}

/// Each lookup asks for another route.
fn find_route() -> Box<dyn FnMut()> {
    let host = |number: usize| format!("h{:02}.example.com", number % HOSTS);
    let matcher = |number: usize| Matcher {
        host: Some(HostMatch::Exact(host(number))),
        path: Some(PathMatch::Prefix(format!("/section/{number:04}"))),
        ..Matcher::default()
    };
    let router = Router::new(&(0..ROUTES).map(matcher).collect::<Vec<_>>());
    let asked: Vec<(String, String)> =
        (0..ROUTES).map(|number| (host(number), format!("/section/{number:04}/page.html"))).collect();
    let mut number = 0;
    Box::new(move || {
        number = (number + 7919) % ROUTES; // a prime: all of them, in no order
        let (host, path) = &asked[number];
        let found = router.find(black_box(host.as_bytes()), b"GET", path.as_bytes(), &|_| None);
        assert_eq!(found, Some(number));
    })
}
