//! Which server a request reaches, and what it looks like when it does.
//!
//! Servers that say their names stand behind the real program; each test sends requests and looks at who answered. Routes,
//! weights, answers without a server, what is said about the client, and every balancing policy.

#[path = "support/rig.rs"]
mod rig;
mod support;

use std::collections::BTreeMap;

use rig::{Named, ask, before, field, text};
use support::oracle::{Request, Response};
use support::{Client, Gate, Origin, Plimsoll, Step, get, show};

/// One listener and one worker, and the rest.
fn start(rest: &str) -> Plimsoll {
    Plimsoll::start(&format!("workers = 1\n{rest}"))
}

const LISTEN: &str = "[[listen]]\nbind = \"127.0.0.1:0\"\n";

/// A backend of one server for each name, called like it.
fn backends(servers: &[Named]) -> String {
    let backend = |(number, server): (usize, &Named)| {
        format!("[backend.{}]\nservers = [{}]\n", NAMES[number], server.entry(""))
    };
    servers.iter().enumerate().map(backend).collect()
}

const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

fn named(count: usize) -> Vec<Named> {
    NAMES[..count].iter().map(|name| Named::start(name)).collect()
}

/// Sends a request and says who answered, or the status of an answer that is not theirs.
fn who(program: &Plimsoll, request: &str) -> String {
    let response = ask(program.address(), request).whole();
    if response.status == 200 { text(&response) } else { response.status.to_string() }
}

/// How often each answers, of so many requests over one connection.
fn tally(program: &Plimsoll, count: usize, request: impl Fn(usize) -> Vec<u8>) -> BTreeMap<String, usize> {
    let (mut client, mut tally) = (Client::connect(program.address()), BTreeMap::new());
    for number in 0..count {
        client.send(&request(number));
        let response = client.answer().whole();
        assert_eq!(response.status, 200, "{}", show(&response.body));
        *tally.entry(text(&response)).or_default() += 1;
    }
    tally
}

// ---- routes ----

#[test]
fn the_most_specific_route_wins_whatever_their_order() {
    let servers = named(10);
    let routes = [
        ("", "", "", "a"),
        ("*.example.com", "", "", "b"),
        ("*.api.example.com", "", "", "c"),
        ("api.example.com", "", "", "d"),
        ("api.example.com", "/v1/*", "", "e"),
        ("api.example.com", "/v1/users/*", "", "f"),
        ("api.example.com", "/v1/users", "", "g"),
        ("api.example.com", "/v1/users", "method = [\"POST\", \"PUT\"]", "h"),
        ("api.example.com", "/v1/users", "header = { x-canary = \"*\" }", "i"),
        ("api.example.com", "/v1/users", "header = { x-canary = \"yes\", x-b = \"*\" }", "j"),
    ];
    let route = |(host, path, more, to): &(&str, &str, &str, &str)| {
        let line = |key: &str, value: &str| {
            if value.is_empty() { String::new() } else { format!("{key} = \"{value}\"\n") }
        };
        format!("[[route]]\n{}{}{more}\nto = \"{to}\"\n", line("host", host), line("path", path))
    };
    for reversed in [false, true] {
        let mut texts: Vec<String> = routes.iter().map(route).collect();
        if reversed {
            texts.reverse();
        }
        let program = start(&[LISTEN, &backends(&servers), &texts.concat()].concat());
        for (host, request, expected) in [
            ("other", "GET /", "a"),
            ("example.com", "GET /", "a"),
            ("www.example.com", "GET /v1/users", "b"),
            ("a.b.example.com", "GET /", "b"),
            ("x.api.example.com", "GET /", "c"),
            ("api.example.com", "GET /", "d"),
            ("API.Example.COM:8080", "GET /", "d"),
            ("api.example.com.", "GET /", "d"),
            ("api.example.com", "GET /v1", "e"),
            ("api.example.com", "GET /v1/", "e"),
            ("api.example.com", "GET /v1x", "d"),
            ("api.example.com", "GET /v1/other?x=/v1/users", "e"),
            ("api.example.com", "GET /v1/users/7", "f"),
            ("api.example.com", "GET /v1/users", "g"),
            ("api.example.com", "GET /v1/users?x", "g"),
            ("api.example.com", "POST /v1/users", "h"),
            ("api.example.com", "PUT /v1/users", "h"),
            ("api.example.com", "GET http://api.example.com/v1/users", "g"),
        ] {
            let (method, target) = request.split_once(' ').expect("two parts");
            let got = who(
                &program,
                &format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"),
            );
            assert_eq!(got, expected, "{host} {request}");
        }
        let users = |fields: &str| {
            who(&program, &format!("GET /v1/users HTTP/1.1\r\nHost: api.example.com\r\n{fields}\r\n"))
        };
        assert_eq!(users("X-Canary: no\r\n"), "i");
        assert_eq!(users("X-Canary: yes\r\n"), "i", "the other one asks for x-b too");
        assert_eq!(users("X-Canary: yes\r\nX-B: 1\r\n"), "j");
    }
}

#[test]
fn what_no_route_takes_goes_to_the_listeners_own_to_or_is_a_404() {
    let servers = named(2);
    let program = start(&format!(
        "[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"a\"\n{LISTEN}{}[[route]]\npath = \"/b/*\"\nto = \"b\"\n",
        backends(&servers)
    ));
    let [with, without] = program.addresses() else { panic!("two listeners") };
    let at = |address: &std::net::SocketAddr, path: &str| ask(*address, get(path)).whole();
    assert_eq!((text(&at(with, "/x")), text(&at(with, "/b/x"))), ("a".into(), "b".into()));
    assert_eq!((at(without, "/x").status, text(&at(without, "/b/x"))), (404, "b".into()));
}

#[test]
fn a_404_comes_in_the_form_that_the_client_asks_for() {
    let program = start(&format!("{LISTEN}[[route]]\npath = \"/only\"\nrespond = {{}}\n"));
    let asked =
        |accept: &str| ask(program.address(), format!("GET / HTTP/1.1\r\nHost: a\r\n{accept}\r\n")).whole();
    for (accept, content_type, part) in [
        ("", "text/plain; charset=utf-8", "404 Not Found: no_route\n"),
        ("Accept: */*\r\n", "text/plain; charset=utf-8", "404 Not Found: no_route\n"),
        ("Accept: application/json\r\n", "application/json", "\"reason\":\"no_route\""),
        (
            "Accept: text/html,application/xhtml+xml;q=0.9\r\n",
            "text/html; charset=utf-8",
            "<code>no_route</code>",
        ),
    ] {
        let response = asked(accept);
        assert_eq!(
            (response.status, field(&response, "content-type").as_str()),
            (404, content_type),
            "{accept}"
        );
        assert!(text(&response).contains(part), "{accept}: {}", text(&response));
        assert!(field(&response, "proxy-status").contains("no_route"), "{accept}");
        assert!(response.keep_alive, "{accept}: nothing was wrong with the connection");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&asked("Accept: application/json\r\n").body).expect("JSON");
    assert_eq!(json["status"], 404);
}

#[test]
fn respond_answers_by_itself() {
    let program = start(&format!(
        "{LISTEN}[[route]]\npath = \"/ok\"\nrespond = {{ body = \"fine\\n\" }}\n\
         [[route]]\npath = \"/teapot\"\nrespond = {{ status = 418, body = \"{{}}\", content_type = \"application/json\" }}\n\
         [[route]]\npath = \"/nothing\"\nrespond = {{ status = 204 }}\n"
    ));
    let mut client = Client::connect(program.address());
    let mut at = |path: &str| -> Response {
        client.send(&get(path));
        client.answer().whole()
    };
    let ok = at("/ok");
    assert_eq!((ok.status, text(&ok).as_str()), (200, "fine\n"));
    assert_eq!(field(&ok, "content-type"), "text/plain; charset=utf-8");
    assert_eq!(ok.fields.all("date").len(), 1);
    let teapot = at("/teapot");
    assert_eq!(
        (teapot.status, text(&teapot).as_str(), field(&teapot, "content-type").as_str()),
        (418, "{}", "application/json")
    );
    let nothing = at("/nothing");
    assert_eq!((nothing.status, nothing.body.len(), nothing.fields.has("content-length")), (204, 0, false));
}

#[test]
fn a_redirect_fills_in_host_path_and_query() {
    let program = start(&format!(
        "{LISTEN}[[route]]\nhost = \"www.example.com\"\nredirect = \"https://example.com{{path}}{{query}}\"\n\
         [[route]]\nhost = \"plain.example.com\"\nredirect = \"https://{{host}}{{path}}\"\n\
         [[route]]\npath = \"/old/*\"\nredirect = {{ to = \"/new\", status = 302 }}\n"
    ));
    for (host, target, status, location) in [
        ("www.example.com", "/a/b?c=d", 308, "https://example.com/a/b?c=d"),
        ("www.example.com", "/", 308, "https://example.com/"),
        ("plain.example.com", "/x?y", 308, "https://plain.example.com/x"),
        ("any", "/old/thing", 302, "/new"),
    ] {
        let response =
            ask(program.address(), format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).whole();
        assert_eq!(
            (response.status, field(&response, "location").as_str()),
            (status, location),
            "{host}{target}"
        );
        assert_eq!(response.body.len(), 0);
    }
}

#[test]
fn a_split_follows_its_weights() {
    let servers = named(3);
    let program = start(&format!(
        "{LISTEN}{}[[route]]\npath = \"/*\"\nto = {{ a = 80, b = 20, c = 0 }}\n",
        backends(&servers)
    ));
    let tally = tally(&program, 1_000, |_| get("/"));
    // Six standard deviations.
    assert!((124..=276).contains(&tally["b"]), "{tally:?}");
    assert_eq!(tally["a"] + tally["b"], 1_000, "{tally:?}");
}

// ---- what reaches a server ----

#[test]
fn a_body_over_max_body_is_a_413_however_it_is_framed() {
    let servers = named(1);
    let program = start(&format!(
        "{LISTEN}{}[[route]]\npath = \"/*\"\nto = \"a\"\nmax_body = \"8B\"\n",
        backends(&servers)
    ));
    let length =
        |body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let chunked = |chunks: &str| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
    };
    for fits in [length("12345678"), chunked("4\r\n1234\r\n4\r\n5678\r\n"), length("")] {
        assert_eq!(who(&program, &fits), "a", "{fits}");
    }
    for over in
        [length("123456789"), chunked("9\r\n123456789\r\n"), chunked("4\r\n1234\r\n4\r\n5678\r\n1\r\n9\r\n")]
    {
        let response = ask(program.address(), &over).whole();
        assert_eq!((response.status, response.keep_alive), (413, false), "{over}");
        assert!(text(&response).contains("body_too_large"));
    }
    assert_eq!(servers[0].count(), 3, "what is over never arrives whole");
}

#[test]
fn field_names_with_underscores_are_refused_dropped_or_kept() {
    let servers = named(1);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX_User: root\r\nX-Other: 1\r\n\r\n";
    for (choice, status, kept) in
        [("refuse", 400, None), ("drop", 200, Some(false)), ("keep", 200, Some(true))]
    {
        let program = before(&[servers[0].address()], &format!("[http]\nunderscores = \"{choice}\"\n"));
        let response = ask(program.address(), request).whole();
        assert_eq!(response.status, status, "{choice}");
        match kept {
            None => assert!(text(&response).contains("underscore_in_field_name") && servers[0].count() == 0),
            Some(kept) => {
                let arrived = servers[0].last();
                assert_eq!(
                    (arrived.fields.has("x_user"), arrived.fields.has("x-other")),
                    (kept, true),
                    "{choice}"
                );
            }
        }
    }
}

#[test]
fn via_names_the_proxy_both_ways_where_asked() {
    let servers = named(1);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 earlier\r\n\r\n";
    let program = before(&[servers[0].address()], "[http]\nvia = \"edge-1\"\n");
    let response = ask(program.address(), request).whole();
    assert_eq!(field(&response, "via"), "1.1 edge-1");
    assert_eq!(servers[0].last().fields.all("via"), [&b"1.1 earlier"[..], b"1.1 edge-1"]);
    let program = before(&[servers[0].address()], "");
    let response = ask(program.address(), request).whole();
    assert!(!response.fields.has("via"), "none unless asked");
    assert_eq!(servers[0].last().fields.all("via"), [&b"1.1 earlier"[..]]);
}

#[test]
fn a_strangers_word_about_the_client_is_not_passed_on_and_a_trusted_proxys_is() {
    let servers = named(1);
    let request = "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 6.6.6.6, 198.51.100.7\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: outer.example\r\nForwarded: for=198.51.100.7;proto=https\r\n\r\n";
    let arrived = |trusted: &str| -> (Request, Plimsoll) {
        let program = Plimsoll::start(&[trusted, &rig::file(&[servers[0].address()], "", "")].concat());
        assert_eq!(who(&program, request), "a");
        (servers[0].last(), program)
    };
    let value = |request: &Request, name: &str| -> String {
        let all = request.fields.all(name);
        assert_eq!(all.len(), 1, "{name}");
        String::from_utf8_lossy(all[0]).into_owned()
    };
    let (stranger, program) = arrived("");
    assert_eq!(value(&stranger, "x-forwarded-for"), "127.0.0.1");
    assert_eq!(value(&stranger, "x-forwarded-proto"), "http");
    assert_eq!(value(&stranger, "x-forwarded-host"), "shop.example");
    assert_eq!(value(&stranger, "forwarded"), "for=127.0.0.1;host=\"shop.example\";proto=http");
    assert_eq!(program.wait_for_log(|_| true)["client"], "127.0.0.1");
    let (trusted, program) = arrived("trusted = [\"127.0.0.1\"]\n");
    assert_eq!(value(&trusted, "x-forwarded-for"), "6.6.6.6, 198.51.100.7, 127.0.0.1");
    assert_eq!(value(&trusted, "x-forwarded-proto"), "https");
    assert_eq!(value(&trusted, "x-forwarded-host"), "outer.example");
    assert!(value(&trusted, "forwarded").starts_with("for=198.51.100.7;proto=https, for=127.0.0.1;"));
    assert_eq!(program.wait_for_log(|_| true)["client"], "198.51.100.7", "the last that is no proxy");
}

// ---- balancing ----

/// A program before one backend with these servers and this policy.
fn balanced(balance: &str, servers: &[String]) -> Plimsoll {
    start(&format!(
        "[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"all\"\n[backend.all]\nbalance = {balance}\nservers = [{}]\n",
        servers.join(", ")
    ))
}

#[test]
fn every_policy_honours_weights() {
    let servers = named(3);
    let entries = [
        servers[0].entry(", weight = 6"),
        servers[1].entry(", weight = 3"),
        servers[2].entry(", weight = 0"),
    ];
    for (balance, tolerance) in
        [("\"p2c\"", 90), ("\"round_robin\"", 1), ("\"least_conn\"", 90), ("\"random\"", 90)]
    {
        let program = balanced(balance, &entries);
        let tally = tally(&program, 900, |_| get("/"));
        let a = tally["a"] as i64;
        assert!((a - 600).abs() <= tolerance && tally["b"] as i64 == 900 - a, "{balance}: {tally:?}");
    }
    // A hash places keys, not requests: of many keys, each server gets its share.
    let program = balanced("{ policy = \"hash\", key = \"path\" }", &entries);
    let tally = tally(&program, 900, |n| get(&format!("/{n}")));
    assert!((510..=690).contains(&tally["a"]), "{tally:?}");
    assert_eq!(tally["a"] + tally["b"], 900, "{tally:?}");
}

#[test]
fn round_robin_takes_turns() {
    let servers = named(3);
    let program =
        balanced("\"round_robin\"", &[servers[0].entry(""), servers[1].entry(""), servers[2].entry("")]);
    let mut client = Client::connect(program.address());
    let mut turns = Vec::new();
    for _ in 0..9 {
        client.send(&get("/"));
        turns.push(text(&client.answer().whole()));
    }
    for round in turns.windows(3) {
        let mut round = round.to_vec();
        round.sort();
        assert_eq!(round, ["a", "b", "c"], "{turns:?}");
    }
}

/// Two servers, the first of which holds its first request; gives who answers the next ones.
fn while_one_is_busy(balance: &str, more: &str) -> (BTreeMap<String, usize>, Gate) {
    let gate = Gate::default();
    let busy =
        Origin::scripted(vec![vec![Step::Read, Step::Wait(gate.clone()), Step::Send(rig::ok("busy"))]]);
    let other = Named::start("other");
    let program = balanced(
        balance,
        &[
            format!("{{ address = \"{}\", name = \"busy\"{more} }}", busy.address()),
            other.entry(", weight = 1"),
        ],
    );
    let mut held = Vec::new();
    // Until the busy one has got its request, whoever is asked first.
    while busy.connections().is_empty() {
        let mut client = Client::connect(program.address());
        client.send(&get("/held"));
        rig::until("the request arrives", || !busy.connections().is_empty() || other.count() > held.len());
        held.push(client);
    }
    busy.wait_until("the request that is held", |all| all[0].steps == 1);
    (tally(&program, 20, |_| get("/")), gate)
}

#[test]
fn the_policies_that_count_avoid_a_server_that_holds_requests() {
    for balance in ["\"p2c\"", "\"least_conn\"", "\"ewma\""] {
        let (tally, gate) = while_one_is_busy(balance, "");
        assert_eq!(tally, BTreeMap::from([("other".to_owned(), 20)]), "{balance}");
        gate.open();
    }
}

#[test]
fn first_goes_on_to_the_next_when_the_first_is_full() {
    let (tally, gate) = while_one_is_busy("\"first\"", ", max_requests = 1");
    assert_eq!(tally, BTreeMap::from([("other".to_owned(), 20)]));
    gate.open();
}

#[test]
fn a_full_backend_without_a_queue_is_a_503_at_once() {
    let gate = Gate::default();
    let origin = Origin::scripted(vec![vec![
        Step::Read,
        Step::Wait(gate.clone()),
        Step::Send(rig::ok("first")),
        Step::Serve,
    ]]);
    let program = balanced(
        "\"p2c\"\nqueue = false",
        &[format!("{{ address = \"{}\", max_requests = 1 }}", origin.address())],
    );
    let mut held = Client::connect(program.address());
    held.send(&get("/held"));
    origin.wait_until("the request that is held", |all| all.first().is_some_and(|c| c.steps == 1));
    let full = ask(program.address(), get("/")).whole();
    assert_eq!((full.status, field(&full, "retry-after").as_str()), (503, "1"));
    assert!(text(&full).contains("servers_full"));
    gate.open();
    assert_eq!(text(&held.answer().whole()), "first");
    assert_eq!(ask(program.address(), get("/")).status(), Some(200), "its place is free again");
}

#[test]
fn backups_serve_only_when_no_other_can() {
    let servers = named(1);
    let dead = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = dead.local_addr().expect("it is bound");
    let entries = [format!("\"{address}\""), servers[0].entry(", backup = true")];
    let alive = Named::start("primary");
    let program = balanced("\"p2c\"", &[alive.entry(""), servers[0].entry(", backup = true")]);
    assert_eq!(tally(&program, 20, |_| get("/")), BTreeMap::from([("primary".to_owned(), 20)]));
    drop(dead);
    let program = balanced("\"p2c\"", &entries);
    assert_eq!(tally(&program, 20, |_| get("/")), BTreeMap::from([("a".to_owned(), 20)]));
}

/// Who answers each of two hundred keys.
fn placed(program: &Plimsoll, request: impl Fn(usize) -> Vec<u8>) -> Vec<String> {
    let mut client = Client::connect(program.address());
    let mut ask = |number| {
        client.send(&request(number));
        text(&client.answer().whole())
    };
    (0..200).map(&mut ask).collect()
}

#[test]
fn a_hash_sticks_to_one_server_and_moves_only_what_it_must() {
    let servers = named(4);
    let entries: Vec<String> = servers.iter().map(|server| server.entry("")).collect();
    let without_d: Vec<String> = [&entries[1], &entries[0], &entries[2]].map(Clone::clone).to_vec();
    type Ask = fn(usize) -> Vec<u8>;
    let keys: [(&str, Ask); 4] = [
        ("header:x-user", |n| format!("GET / HTTP/1.1\r\nHost: a\r\nX-User: {n}\r\n\r\n").into_bytes()),
        ("cookie:session", |n| {
            format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: x=y; session={n}\r\n\r\n").into_bytes()
        }),
        ("path", |n| get(&format!("/{n}?changing={}", std::process::id()))),
        ("query:user", |n| get(&format!("/?a=b&user={n}"))),
    ];
    for (key, request) in keys {
        let balance = format!("{{ policy = \"hash\", key = \"{key}\" }}");
        let program = balanced(&balance, &entries);
        let all = placed(&program, request);
        assert_eq!(placed(&program, request), all, "{key}: the same again");
        assert!(
            entries.len() == 4 && NAMES[..4].iter().all(|name| all.iter().any(|w| w == name)),
            "{key}: all are used"
        );
        drop(program);
        // Another process, one server fewer, the others in another order.
        let program = balanced(&balance, &without_d);
        let fewer = placed(&program, request);
        let moved = all.iter().zip(&fewer).filter(|(was, is)| *was != "d" && was != is).count();
        println!("{key}: {moved} of {} moved needlessly", all.iter().filter(|w| *w != "d").count());
        assert!(moved <= 8, "{key}: {moved} moved that had no need to");
    }
}

#[test]
fn a_request_without_its_key_goes_by_the_clients_address() {
    let servers = named(4);
    let entries: Vec<String> = servers.iter().map(|server| server.entry("")).collect();
    let program = balanced("{ policy = \"hash\", key = \"cookie:session\" }", &entries);
    assert_eq!(tally(&program, 20, |n| get(&format!("/{n}"))).len(), 1);
    let program = balanced("\"hash\"", &entries);
    assert_eq!(tally(&program, 20, |n| get(&format!("/{n}"))).len(), 1, "by client_ip unless told");
}

#[test]
fn a_server_whose_answers_are_errors_gets_next_to_nothing_by_latency() {
    let servers = named(3);
    let fails = Origin::scripted(vec![
        vec![
            Step::ReadHead,
            Step::Send(b"HTTP/1.1 500 Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()),
            Step::Close,
        ];
        200
    ]);
    let mut entries: Vec<String> = servers.iter().map(|server| server.entry("")).collect();
    entries.push(format!("\"{}\"", fails.address()));
    let failures = |balance: &str| {
        let program = balanced(balance, &entries);
        let mut client = Client::connect(program.address());
        let failed = |_: &usize| {
            client.send(&get("/"));
            client.answer().whole().status == 500
        };
        (0..100).filter(failed).count()
    };
    let (ewma, random) = (failures("\"ewma\""), failures("\"random\""));
    assert!(ewma <= 5 && random > 10, "ewma {ewma}, random {random}");
}

#[test]
fn a_second_level_takes_over_when_the_first_refuses() {
    let servers = named(2);
    let entries = |first: &str| {
        vec![format!("\"{first}\""), servers[0].entry(", priority = 1"), servers[1].entry(", backup = true")]
    };
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let program = balanced("\"p2c\"", &entries(&dead.to_string()));
    assert_eq!(tally(&program, 20, |_| get("/")), BTreeMap::from([("a".to_owned(), 20)]));
}
