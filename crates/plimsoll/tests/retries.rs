//! What is tried again and what is not, through the real program: statuses, resets, pauses, budgets.
//!
//! Servers are scripted to the byte and count what reaches them; `first` makes the order of tries certain. Times are only ever bounded from
//! below, since a machine may be slow and never too fast.

mod support;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use std::io::{Read, Write};

use serde_json::{Value, json};
use socket2::SockRef;

use support::oracle::Response;
use support::{Client, Gate, Origin, Plimsoll, Step, get};

const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nsorry";

/// Plimsoll before these servers, the first one first, one worker; `route` adds keys to the route.
fn before(servers: &[SocketAddr], route: &str) -> Plimsoll {
    let servers: Vec<String> = servers.iter().map(|address| format!("\"{address}\"")).collect();
    Plimsoll::start(&format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\n\
         [backend.b]\nservers = [{}]\nbalance = \"first\"\n[[route]]\nto = \"b\"\n{route}\n",
        servers.join(", ")
    ))
}

/// A server that answers so, on each of its first connections, as often as it is asked.
fn answering(bytes: &[u8]) -> Origin {
    let pair = [Step::Read, Step::Send(bytes.to_vec())];
    let script: Vec<Step> = std::iter::repeat_n(pair, 8).flatten().collect();
    Origin::scripted(vec![script; 8])
}

fn status(status: u16, fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Some\r\n{fields}Content-Length: 3\r\n\r\n{status}").into_bytes()
}

fn with_body(method: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

#[track_caller]
fn ask(plimsoll: &Plimsoll, request: &[u8]) -> Response {
    let mut client = Client::connect(plimsoll.address());
    client.send(request);
    client.answer().whole()
}

/// How often each was asked.
fn asked(origins: &[&Origin]) -> Vec<usize> {
    origins.iter().map(|origin| origin.arrived(0).len()).collect()
}

/// Status, tries and why there were no more, of the only request so far.
fn logged(plimsoll: &Plimsoll) -> Value {
    let line = plimsoll.wait_for_log(|_| true);
    json!([line["status"], line["attempts"], line["not_retried"]])
}

#[test]
fn statuses_of_a_server_in_trouble_go_to_another_and_other_failures_to_the_client() {
    for bad in [502, 503, 504] {
        let (first, second) = (answering(&status(bad, "")), Origin::serve());
        let plimsoll = before(&[first.address(), second.address()], "");
        assert_eq!(ask(&plimsoll, &get("/")).status, 200, "{bad}");
        assert_eq!(asked(&[&first, &second]), [1, 1]);
        assert_eq!(logged(&plimsoll), json!([200, 2, null]));
    }
    for own in [500, 501, 404, 429, 200] {
        let (first, second) = (answering(&status(own, "")), Origin::serve());
        let plimsoll = before(&[first.address(), second.address()], "");
        assert_eq!(ask(&plimsoll, &get("/")).status, own);
        assert_eq!(asked(&[&first, &second]), [1, 0]);
    }
}

#[test]
fn what_is_not_answered_in_time_is_asked_elsewhere_where_the_route_wants_it() {
    let (silent, good) = (Origin::scripted(vec![vec![Step::Read, Step::Hang]; 8]), Origin::serve());
    let route = "retry = { on = [\"timeout\"] }\ntimeout = { first_byte = \"200ms\" }";
    let plimsoll = before(&[silent.address(), good.address()], route);
    assert_eq!(ask(&plimsoll, &get("/")).status, 200);
    let line = plimsoll.wait_for_log(|line| line["method"] == "GET");
    assert_eq!(json!([line["status"], line["attempts"]]), json!([200, 2]));
    assert_eq!(ask(&plimsoll, &with_body("POST", "x")).status, 504);
    let line = plimsoll.wait_for_log(|line| line["method"] == "POST");
    assert_eq!(json!([line["attempts"], line["reason"]]), json!([1, "first_byte_timeout"]));
    assert_eq!((asked(&[&silent]), good.paths()), (vec![2], vec!["/".to_owned()]));
    // Time that the route has not left is not the server's.
    let route = "retry = { on = [\"timeout\"] }\ntimeout = { first_byte = \"300ms\", total = \"300ms\" }";
    let plimsoll = before(&[silent.address(), good.address()], route);
    assert_eq!(ask(&plimsoll, &get("/late")).status, 504);
    assert_eq!(good.paths().len(), 1);
}

#[test]
fn a_post_that_was_answered_is_never_sent_twice() {
    let (first, second) = (answering(UNAVAILABLE), Origin::serve());
    let plimsoll = before(&[first.address(), second.address()], "");
    for request in
        [with_body("POST", "pay"), with_body("PATCH", "x"), b"POST / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()]
    {
        let answer = ask(&plimsoll, &request);
        assert_eq!((answer.status, &answer.body[..]), (503, &b"sorry"[..]));
    }
    assert_eq!(asked(&[&first, &second]), [3, 0]);
}

#[test]
fn a_body_is_replayed_whole_if_it_was_kept_and_not_at_all_if_not() {
    for (length, second_sees) in [(1_000, 1), (64 << 10, 1), ((64 << 10) + 1, 0)] {
        let (first, second) = (answering(UNAVAILABLE), Origin::serve());
        let plimsoll = before(&[first.address(), second.address()], "");
        let body: String = (0..length).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
        let answer = ask(&plimsoll, &with_body("PUT", &body));
        assert_eq!(answer.status, if second_sees == 1 { 200 } else { 503 }, "{length}");
        assert_eq!(asked(&[&first, &second]), [1, second_sees]);
        if second_sees == 1 {
            assert!(second.arrived(0)[0].1.body == body.as_bytes(), "{length}: another body");
        }
    }
}

#[test]
fn an_answer_before_the_body_was_sent_is_tried_again_with_all_of_it() {
    let first = Origin::scripted(vec![vec![Step::ReadHead, Step::Send(UNAVAILABLE.to_vec()), Step::Hang]]);
    let second = Origin::serve();
    let plimsoll = before(&[first.address(), second.address()], "");
    let mut client = Client::connect(plimsoll.address());
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
    second.wait_until("the first half", |connections| {
        connections.iter().any(|connection| connection.received.ends_with(b"01234"))
    });
    client.send(b"56789");
    assert_eq!(client.answer().whole().status, 200);
    assert_eq!(second.arrived(0)[0].1.body, b"0123456789");
    first.wait_until("its connection closed", |connections| connections[0].closed);
}

#[test]
fn the_last_chance_is_passed_on_as_it_is() {
    let only =
        answering(b"HTTP/1.1 503 Too Busy\r\nX-Own: yes\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nonly");
    let plimsoll = before(&[only.address()], "");
    let answer = ask(&plimsoll, &get("/"));
    assert_eq!((answer.status, &answer.body[..]), (503, &b"only"[..]));
    assert_eq!([answer.fields.all("x-own")[0], answer.fields.all("retry-after")[0]], [&b"yes"[..], b"7"]);
    assert_eq!(logged(&plimsoll), json!([503, 1, null]), "there is no other server");

    let all: Vec<Origin> = [502, 503, 504, 503].iter().map(|&s| answering(&status(s, ""))).collect();
    let plimsoll = before(&all.iter().map(Origin::address).collect::<Vec<_>>(), "");
    let answer = ask(&plimsoll, &get("/"));
    assert_eq!((answer.status, &answer.body[..]), (504, &b"504"[..]), "two retries and no more");
    assert_eq!(asked(&all.iter().collect::<Vec<_>>()), [1, 1, 1, 0]);
    let line = plimsoll.wait_for_log(|_| true);
    assert!(line["total_ms"].as_f64() >= Some(25.0), "the second retry waits for 25 ms at least: {line}");
}

#[test]
fn a_server_that_cannot_be_reached_afterwards_is_what_the_client_hears_of() {
    let dead = TcpListener::bind("127.0.0.1:0").expect("loopback has ports").local_addr().expect("bound");
    let first = answering(UNAVAILABLE);
    let plimsoll = before(&[first.address(), dead], "");
    assert_eq!(ask(&plimsoll, &get("/")).status, 502);
    let line = plimsoll.wait_for_log(|_| true);
    assert_eq!(json!([line["reason"], line["first_byte_ms"]]), json!(["connect_failed", null]));
}

#[test]
fn a_connection_is_used_again_only_if_nothing_of_the_dropped_answer_is_left_in_it() {
    let chunked = b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nsorry\r\n0\r\n\r\n".to_vec();
    let short = b"HTTP/1.1 503 No\r\nContent-Length: 50\r\n\r\nsorry".to_vec();
    let closing = b"HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 5\r\n\r\nsorry".to_vec();
    let more = b"HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nsorryHTTP/1.1 200 OK\r\n".to_vec();
    let cases =
        [(UNAVAILABLE.to_vec(), true), (chunked, true), (short, false), (closing, false), (more, false)];
    for (bytes, is_kept) in cases {
        let script = vec![Step::Read, Step::Send(bytes.clone()), Step::Serve];
        let (first, second) = (Origin::scripted(vec![script]), Origin::serve());
        let plimsoll = before(&[first.address(), second.address()], "");
        let mut client = Client::connect(plimsoll.address());
        // Two at once: the one behind is not lost with what is tried again.
        client.send(&[get("/1"), get("/2")].concat());
        assert_eq!([client.answer().whole().status, client.answer().whole().status], [200, 200]);
        assert_eq!(second.paths(), ["/1"]);
        let connections = first.connections();
        assert_eq!(connections.len(), if is_kept { 1 } else { 2 }, "{}", bytes.escape_ascii());
        if !is_kept {
            first.wait_until("its connection closed", |connections| connections[0].closed);
        }
    }
}

#[test]
fn a_server_that_asks_for_time_gets_it_up_to_a_second() {
    let asks = |seconds: &str| answering(&status(503, &format!("Retry-After: {seconds}\r\n")));
    for (seconds, at_least) in
        [("0", 0), ("1", 1_000), ("3600", 1_000), ("Fri, 31 Dec 1999 23:59:59 GMT", 1_000)]
    {
        let (first, second) = (asks(seconds), Origin::serve());
        let plimsoll = before(&[first.address(), second.address()], "");
        let began = Instant::now();
        assert_eq!(ask(&plimsoll, &get("/")).status, 200);
        assert!(began.elapsed() >= Duration::from_millis(at_least), "{seconds}: {:?}", began.elapsed());
        assert_eq!(asked(&[&first, &second]), [1, 1]);
    }
}

#[test]
fn nothing_is_tried_again_that_would_come_too_late() {
    let (first, second) = (answering(&status(503, "Retry-After: 1\r\n")), Origin::serve());
    let plimsoll = before(&[first.address(), second.address()], "timeout = { total = \"900ms\" }");
    let answer = ask(&plimsoll, &get("/"));
    assert_eq!((answer.status, &answer.body[..]), (503, &b"503"[..]), "the server's own words");
    assert_eq!(asked(&[&first, &second]), [1, 0]);
    assert_eq!(logged(&plimsoll), json!([503, 1, "time"]));
}

#[test]
fn a_client_that_leaves_is_not_waited_for() {
    let (first, second) = (answering(&status(503, "Retry-After: 1\r\n")), Origin::serve());
    let plimsoll = before(&[first.address(), second.address()], "");
    let mut stream = TcpStream::connect(plimsoll.address()).expect("it listens");
    stream.write_all(&get("/left")).expect("it takes a request");
    first.wait_until("the request", |connections| connections.iter().any(|c| !c.requests.is_empty()));
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("TCP has it");
    drop(stream);
    let line = plimsoll.wait_for_log(|line| line["path"] == "/left");
    assert_eq!(json!([line["status"], line["end"], line["attempts"]]), json!([0, "CH", 1]));
    assert_eq!(asked(&[&second]), [0]);
}

#[test]
fn a_route_says_after_what_and_how_often() {
    for (retry, bad, expected) in [
        ("retry = { on = [\"connect\", \"reset\"] }", 503, 503),
        ("retry = { on = [\"502\"] }", 503, 503),
        ("retry = { on = [\"502\"] }", 502, 200),
        ("retry = { on = [] }", 502, 502),
        ("retry = { attempts = 0 }", 503, 503),
    ] {
        let (first, second) = (answering(&status(bad, "")), Origin::serve());
        let plimsoll = before(&[first.address(), second.address()], retry);
        assert_eq!(ask(&plimsoll, &get("/")).status, expected, "{retry}");
    }
    let reset = Origin::scripted(vec![vec![Step::Read, Step::Reset]; 4]);
    let second = Origin::serve();
    for (retry, expected) in [("retry = { on = [\"503\"] }", 502), ("retry = { on = [\"reset\"] }", 200)] {
        let plimsoll = before(&[reset.address(), second.address()], retry);
        assert_eq!(ask(&plimsoll, &get("/")).status, expected, "{retry}");
    }
}

/// A server that has nothing but 503s, and counts them. Ends with the test's process.
fn outage() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = listener.local_addr().expect("it is bound");
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || {
                let (mut unread, mut buffer) = (Vec::new(), [0; 4096]);
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    unread.extend_from_slice(&buffer[..n]);
                    while let Some(end) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
                        unread.drain(..end + 4);
                        counted.fetch_add(1, Ordering::Relaxed);
                        if stream.write_all(UNAVAILABLE).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    (address, count)
}

#[test]
fn when_all_servers_are_in_trouble_a_fifth_more_reaches_them_and_no_more() {
    const REQUESTS: usize = 2_000;
    let servers = [outage(), outage(), outage()];
    let addresses: Vec<SocketAddr> = servers.iter().map(|(address, _)| *address).collect();
    let plimsoll = before(&addresses, "retry = { attempts = 1 }");
    let began = Instant::now();
    let to = plimsoll.address();
    let client = || {
        let mut client = Client::connect(to);
        for _ in 0..REQUESTS / 8 {
            client.send(&get("/"));
            let answer = client.answer().whole();
            assert_eq!(
                (answer.status, &answer.body[..]),
                (503, &b"sorry"[..]),
                "always a server's own words"
            );
        }
    };
    std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(client))));
    let windows = began.elapsed().as_secs_f64().max(10.0) / 10.0;
    let seen: usize = servers.iter().map(|(_, count)| count.load(Ordering::Relaxed)).sum();
    let most = REQUESTS as f64 * 1.2 + 100.0 * windows;
    assert!(seen as f64 <= most, "{seen} requests reached the servers, for {REQUESTS}");
    assert!(seen >= REQUESTS + 100, "{seen}: ten seconds allow a hundred in any case");
    let denied = || plimsoll.log_lines().iter().filter(|line| line["not_retried"] == "budget").count();
    plimsoll.wait_for_log(|line| line["not_retried"] == "budget");
    let deadline = Instant::now() + support::PATIENCE;
    while denied() + seen != 2 * REQUESTS && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(denied() + seen, 2 * REQUESTS, "each was tried again or says why not");
}

#[test]
fn connects_that_fail_are_tried_again_within_the_budget_too() {
    let dead = || TcpListener::bind("127.0.0.1:0").expect("ports").local_addr().expect("bound");
    let plimsoll = before(&[dead(), dead(), dead()], "retry = { attempts = 1, budget = \"0%\" }");
    let mut client = Client::connect(plimsoll.address());
    for _ in 0..150 {
        client.send(&get("/"));
        assert_eq!(client.answer().whole().status, 502);
    }
    let denied = plimsoll.wait_for_log(|line| line["not_retried"] == "budget");
    assert_eq!(json!([denied["reason"], denied["attempts"]]), json!(["connect_failed", 1]));
}

#[test]
fn a_gate_keeps_nothing_from_being_tried_again() {
    // The client goes on to send while its answer is awaited from the second server.
    let gate = Gate::default();
    let first = answering(UNAVAILABLE);
    let second =
        Origin::scripted(vec![vec![Step::Read, Step::Wait(gate.clone()), Step::Send(status(200, ""))]]);
    let plimsoll = before(&[first.address(), second.address()], "");
    let mut client = Client::connect(plimsoll.address());
    client.send(&get("/1"));
    second.wait_until("the request", |connections| connections.iter().any(|c| !c.requests.is_empty()));
    client.send(&get("/2"));
    gate.open();
    assert_eq!(client.answer().whole().status, 200);
    client.answer();
    assert_eq!(first.paths(), ["/1", "/2"]);
}
