//! Requests that wait are sent to a second server, through the real program: who wins, and that the loser is let go.
//!
//! Servers are scripted and hold their answers behind gates, so who is first is certain. That something does not happen is shown by something
//! later that does: a request that came after the one in question, on the same terms but for one.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::SockRef;

use support::oracle::Asked;
use support::{Client, Gate, Origin, PATIENCE, Plimsoll, Step, get};

/// Plimsoll before these servers, the first one first, one worker; `route` adds keys to the route.
fn before(servers: &[SocketAddr], route: &str) -> Plimsoll {
    let servers: Vec<String> = servers.iter().map(|address| format!("\"{address}\"")).collect();
    Plimsoll::start(&format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\n\
         [backend.b]\nservers = [{}]\nbalance = \"first\"\n[[route]]\nto = \"b\"\n{route}\n",
        servers.join(", ")
    ))
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A server that takes requests and answers none.
fn silent() -> Origin {
    Origin::scripted(vec![vec![Step::Read, Step::Hang]; 40])
}

/// One that answers each connection's request when the gate opens.
fn gated(gate: &Gate, answer: Vec<u8>) -> Origin {
    Origin::scripted(vec![vec![Step::Read, Step::Wait(gate.clone()), Step::Send(answer), Step::Hang]; 8])
}

fn asked_once(origin: &Origin) {
    origin.wait_until("a request", |connections| connections.iter().any(|c| !c.requests.is_empty()));
}

/// Status, tries and what became of the hedge, of the first line of a path.
fn logged(plimsoll: &Plimsoll, path: &str) -> Value {
    let line = plimsoll.wait_for_log(|line| line["path"] == path);
    json!([line["status"], line["attempts"], line["hedge"]])
}

#[test]
fn a_server_that_is_slow_is_left_for_one_that_is_not() {
    let (slow, quick) = (silent(), Origin::serve());
    let plimsoll = before(&[slow.address(), quick.address()], "hedge = \"20ms\"");
    let mut client = Client::connect(plimsoll.address());
    client.send(&[get("/1"), get("/2")].concat());
    for path in ["/1", "/2"] {
        let answer = client.answer().whole();
        assert_eq!((answer.status, String::from_utf8_lossy(&answer.body).contains(path)), (200, true));
        assert_eq!(logged(&plimsoll, path), json!([200, 2, "won"]));
    }
    let line = plimsoll.wait_for_log(|line| line["path"] == "/1");
    assert_eq!(line["server"], json!(quick.address().to_string()));
    slow.wait_until("both connections closed", |c| c.len() == 2 && c.iter().all(|c| c.closed));
    assert_eq!(
        (slow.paths(), quick.paths()),
        (vec!["/1".into(), "/2".into()], vec!["/1".into(), "/2".into()])
    );
    assert_eq!(quick.connections().len(), 1, "the winner's connection is used again");
}

#[test]
fn a_first_server_that_is_faster_after_all_wins_and_the_second_is_let_go() {
    let gate = Gate::default();
    let twice = vec![
        Step::Read,
        Step::Wait(gate.clone()),
        Step::Send(ok("first")),
        Step::Read,
        Step::Send(ok("first")),
        Step::Hang,
    ];
    let (first, second) = (Origin::scripted(vec![twice]), silent());
    let plimsoll = before(&[first.address(), second.address()], "hedge = \"5ms\"");
    let mut client = Client::connect(plimsoll.address());
    client.send(&get("/1"));
    asked_once(&second);
    gate.open();
    assert_eq!(client.answer().whole().body, b"first");
    assert_eq!(logged(&plimsoll, "/1"), json!([200, 2, "lost"]));
    second.wait_until("its connection closed", |c| c[0].closed);
    // Both slots were given back, and the connection to the client goes on.
    client.send(&get("/2"));
    assert_eq!(client.answer().whole().body, b"first");
}

#[test]
fn only_requests_that_ask_for_something_and_bring_nothing_are_hedged() {
    let with_body = |method: &str| format!("{method} /own HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    let upgrade =
        "GET /own HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned();
    let delete = "DELETE /own HTTP/1.1\r\nHost: a\r\n\r\n".to_owned();
    for request in [with_body("POST"), with_body("GET"), with_body("PUT"), delete, upgrade] {
        let gate = Gate::default();
        let (first, second) = (gated(&gate, ok("own")), Origin::serve());
        let plimsoll = before(&[first.address(), second.address()], "hedge = \"5ms\"");
        let mut client = Client::connect(plimsoll.address());
        client.send(request.as_bytes());
        asked_once(&first);
        // One that came later and may be hedged is: so the time has come, and gone.
        let mut other = Client::connect(plimsoll.address());
        other.send(&get("/other"));
        assert_eq!(other.answer().whole().status, 200);
        assert_eq!(second.paths(), ["/other"], "{request}");
        gate.open();
        assert_eq!(client.answer().whole().body, b"own");
    }
    let (slow, quick) = (silent(), Origin::serve());
    let plimsoll = before(&[slow.address(), quick.address()], "hedge = \"5ms\"");
    let mut client = Client::connect(plimsoll.address());
    client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer_to(Asked { method: b"HEAD", upgrade: false }).whole().status, 200);
}

#[test]
fn a_first_server_that_fails_meanwhile_leaves_it_to_the_second() {
    let busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy".to_vec();
    for end in [Step::Reset, Step::Send(busy)] {
        let (fail, answer) = (Gate::default(), Gate::default());
        let script = vec![Step::Read, Step::Wait(fail.clone()), end, Step::Hang];
        let first = Origin::scripted(vec![script]);
        let (second, third) = (gated(&answer, ok("second")), Origin::serve());
        let plimsoll = before(&[first.address(), second.address(), third.address()], "hedge = \"5ms\"");
        let mut client = Client::connect(plimsoll.address());
        client.send(&get("/"));
        asked_once(&second);
        fail.open();
        first.wait_until("the end of its part", |c| c[0].steps >= 3 || c[0].closed);
        answer.open();
        assert_eq!(client.answer().whole().body, b"second");
        assert_eq!(logged(&plimsoll, "/"), json!([200, 2, "won"]));
        assert_eq!(third.paths().len(), 0);
    }
}

#[test]
fn a_second_server_that_fails_changes_nothing() {
    let busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec();
    for end in [Step::Reset, Step::Send(busy)] {
        let (gate, script) = (Gate::default(), vec![Step::Read, end]);
        let (first, second) = (gated(&gate, ok("first")), Origin::scripted(vec![script]));
        let plimsoll = before(&[first.address(), second.address()], "hedge = \"5ms\"");
        let mut client = Client::connect(plimsoll.address());
        client.send(&get("/"));
        second.wait_until("the end of its connection", |c| c.iter().any(|c| c.steps == 2 || c.closed));
        gate.open();
        assert_eq!(client.answer().whole().body, b"first");
        assert_eq!(logged(&plimsoll, "/"), json!([200, 2, "lost"]));
    }
}

#[test]
fn when_both_fail_a_third_is_tried() {
    let fail = Gate::default();
    let script = || vec![Step::Read, Step::Wait(fail.clone()), Step::Reset];
    let (first, second) = (Origin::scripted(vec![script()]), Origin::scripted(vec![script()]));
    let third = Origin::serve();
    let plimsoll = before(&[first.address(), second.address(), third.address()], "hedge = \"5ms\"");
    let mut client = Client::connect(plimsoll.address());
    client.send(&get("/"));
    asked_once(&second);
    fail.open();
    assert_eq!(client.answer().whole().status, 200);
    assert_eq!(logged(&plimsoll, "/"), json!([200, 3, "lost"]));
    assert_eq!((first.paths().len(), second.paths().len(), third.paths().len()), (1, 1, 1));
}

#[test]
fn an_interim_answer_settles_it() {
    let gate = Gate::default();
    let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec();
    let first = Origin::scripted(vec![
        vec![Step::Read, Step::Send(hints), Step::Wait(gate.clone()), Step::Send(ok("first")), Step::Hang],
        vec![Step::Read, Step::Hang],
    ]);
    let second = Origin::serve();
    let plimsoll = before(&[first.address(), second.address()], "hedge = \"300ms\"");
    let mut client = Client::connect(plimsoll.address());
    client.send(&get("/hinted"));
    assert!(!client.read_until(|bytes| bytes.windows(4).any(|w| w == b"\r\n\r\n")).is_empty());
    let mut other = Client::connect(plimsoll.address());
    other.send(&get("/other"));
    assert_eq!(other.answer().whole().status, 200);
    assert_eq!(second.paths(), ["/other"]);
    gate.open();
    let answer = client.answer().whole();
    assert_eq!((&answer.body[..], answer.interims.len()), (&b"first"[..], 1));
}

#[test]
fn a_client_that_leaves_ends_both() {
    let (first, second) = (silent(), silent());
    let plimsoll = before(&[first.address(), second.address()], "hedge = \"5ms\"");
    let mut stream = TcpStream::connect(plimsoll.address()).expect("it listens");
    stream.write_all(&get("/left")).expect("it takes a request");
    asked_once(&second);
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("TCP has it");
    drop(stream);
    for origin in [&first, &second] {
        origin.wait_until("its connection closed", |c| c[0].closed);
    }
    let line = plimsoll.wait_for_log(|line| line["path"] == "/left");
    assert_eq!(json!([line["status"], line["end"], line["hedge"]]), json!([0, "CH", "lost"]));
}

#[test]
fn hedges_draw_on_the_budget_of_retries() {
    let (slow, quick) = (Origin::scripted(vec![vec![Step::Read, Step::Hang]; 400]), Origin::serve());
    let route = "hedge = \"1ms\"\nretry = { budget = \"0%\" }\ntimeout = { first_byte = \"200ms\" }";
    let plimsoll = before(&[slow.address(), quick.address()], route);
    let mut client = Client::connect(plimsoll.address());
    let began = Instant::now();
    let mut hedged = 0;
    loop {
        client.send(&get("/"));
        match client.answer().whole().status {
            200 => hedged += 1,
            status => {
                assert_eq!(status, 504, "nobody but the slow one was asked");
                break;
            }
        }
        assert!(hedged < 1_000, "there is no end to it");
    }
    // Ten a second and nothing else; a slow machine may have had more than one window.
    let windows = began.elapsed().as_secs() as usize / 10;
    assert!((100..=100 + 100 * windows).contains(&hedged), "{hedged}");
}

#[test]
fn one_server_alone_is_waited_for() {
    let gate = Gate::default();
    let only = gated(&gate, ok("only"));
    let plimsoll = before(&[only.address()], "hedge = \"1ms\"");
    let mut client = Client::connect(plimsoll.address());
    client.send(&get("/"));
    asked_once(&only);
    gate.open();
    assert_eq!(client.answer().whole().body, b"only");
    assert_eq!(logged(&plimsoll, "/"), json!([200, 1, null]));
}

/// A server that answers at once until it is told not to answer any more.
fn turning() -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = listener.local_addr().expect("it is bound");
    let is_silent = Arc::new(AtomicBool::new(false));
    let silent = Arc::clone(&is_silent);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let silent = Arc::clone(&silent);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                // A client that waits for each answer sends one request at a time, and small ones come in one piece.
                while let Ok(1..) = stream.read(&mut buffer) {
                    if !silent.load(Ordering::Acquire) && stream.write_all(&ok("quick")).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, is_silent)
}

#[test]
fn what_is_slow_is_learned_from_the_routes_own_answers() {
    let (address, is_silent) = turning();
    let other = Origin::serve();
    let route = "hedge = \"p95\"\ntimeout = { first_byte = \"300ms\" }";
    let plimsoll = before(&[address, other.address()], route);
    let mut client = Client::connect(plimsoll.address());
    is_silent.store(true, Ordering::Release);
    client.send(&get("/unknown"));
    assert_eq!(client.answer().whole().status, 504, "nothing is known yet, so nothing is slow");
    assert_eq!(other.paths().len(), 0);
    is_silent.store(false, Ordering::Release);
    // A hundred answers at least, and a second until they count.
    let began = Instant::now();
    let mut answers = 0;
    while answers < 200 || began.elapsed() < Duration::from_millis(2_100) {
        client.send(&get("/learn"));
        assert_eq!(client.answer().whole().status, 200);
        answers += 1;
        if answers % 1_000 == 0 {
            client = Client::connect(plimsoll.address()); // a connection is closed after 10,000
        }
        assert!(began.elapsed() < PATIENCE);
    }
    is_silent.store(true, Ordering::Release);
    client.send(&get("/known"));
    assert_eq!(client.answer().whole().status, 200);
    assert_eq!(logged(&plimsoll, "/known"), json!([200, 2, "won"]));
}
