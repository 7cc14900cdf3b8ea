//! Requests that wait for a server: in which order, how long, who is refused, and what becomes of those who leave.
//!
//! The server is the real `plimsoll origin` behind `max_requests = 1`, held busy by one slow request until the test lets it go on, or a
//! scripted one. Who waits is known from `/metrics`, never from the time that has passed.

#[path = "queue/overload.rs"]
mod overload;
#[path = "support/rig.rs"]
mod rig;
#[path = "queue/stage.rs"]
mod stage;
#[path = "support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::SockRef;
use stage::{Stage, from};
use support::{Client, get};

/// A log line, as far as queues are concerned.
fn logged(stage: &Stage, path: &str) -> Value {
    let line = stage.program.wait_for_log(|line| line["path"] == path);
    json!([line["status"], line["end"], line["reason"], line["server"], line["queue_ms"].is_null()])
}

#[test]
fn a_request_waits_until_a_server_has_room() {
    let stage = Stage::new("");
    let mut waits = stage.wait(&get("/waits"));
    assert_eq!(stage.metric("plimsoll_backend_queue_length"), 1);
    stage.open();
    assert_eq!(waits.answer().status(), Some(200));
    assert_eq!(logged(&stage, "/waits"), json!([200, "--", null, "only", false]));
    assert_eq!(logged(&stage, "/held"), json!([200, "--", null, "only", true]), "it found room");
    assert_eq!(stage.metric("plimsoll_backend_queue_length"), 0);
    assert_eq!(stage.metric("plimsoll_backend_queue_wait_seconds_count"), 1);
}

#[test]
fn who_came_first_goes_first() {
    let stage = Stage::new("queue = { target = \"1s\", timeout = \"8s\" }");
    let mut clients: Vec<Client> = (0..5).map(|n| stage.wait(&get(&format!("/{n}")))).collect();
    stage.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().status(), Some(200)));
    assert_eq!(stage.origin.paths(), ["/held", "/0", "/1", "/2", "/3", "/4"]);
}

#[test]
fn in_overload_who_came_last_goes_first() {
    let stage = Stage::new("queue = { target = \"1ms\", timeout = \"8s\" }");
    let began = Instant::now();
    let mut clients: Vec<Client> = (0..3).map(|n| stage.wait(&get(&format!("/{n}")))).collect();
    rig::until("the oldest has waited too long for long enough", || {
        began.elapsed() > Duration::from_millis(150)
    });
    clients.push(stage.wait(&get("/3")));
    stage.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().status(), Some(200)));
    assert_eq!(stage.origin.paths(), ["/held", "/3", "/2", "/1", "/0"]);
}

#[test]
fn nobody_waits_longer_than_the_timeout() {
    let stage = Stage::new("queue = { timeout = \"300ms\" }");
    let began = Instant::now();
    let late = stage.wait(&get("/late")).answer().whole();
    assert!((Duration::from_millis(300)..Duration::from_secs(5)).contains(&began.elapsed()));
    assert_eq!((late.status, rig::field(&late, "retry-after").as_str()), (503, "1"));
    assert!(rig::text(&late).contains("queue_timeout"));
    assert_eq!(logged(&stage, "/late"), json!([503, "sQ", "queue_timeout", null, false]));
    assert_eq!(stage.metric("plimsoll_backend_errors_total"), 1);
    assert_eq!(stage.metric("plimsoll_limits_reached_total{limit=\"queue\"}"), 1);
    stage.open();
    assert_eq!(rig::ask(stage.address(), get("/after")).status(), Some(200));
    assert_eq!(stage.origin.paths(), ["/held", "/after"], "a server never hears of who was refused");
}

#[test]
fn a_routes_total_time_ends_the_wait() {
    let stage =
        Stage::with("", "[[route]]\npath = \"/short\"\nto = \"shop\"\ntimeout = { total = \"100ms\" }");
    assert_eq!(stage.wait(&get("/short")).answer().status(), Some(504));
    assert_eq!(logged(&stage, "/short"), json!([504, "sQ", "total_timeout", null, false]));
    stage.open();
}

#[test]
fn one_too_many_is_refused_at_once() {
    let stage = Stage::new("queue = { max = 2, timeout = \"8s\", target = \"8s\" }");
    let mut waiting = [stage.wait(&get("/1")), stage.wait(&get("/2"))];
    let full = rig::ask(stage.address(), get("/3")).whole();
    assert_eq!((full.status, rig::field(&full, "retry-after").as_str()), (503, "1"));
    assert_eq!(logged(&stage, "/3"), json!([503, "SQ", "queue_full", null, true]));
    stage.open();
    waiting.iter_mut().for_each(|client| assert_eq!(client.answer().status(), Some(200)));
}

#[test]
fn without_a_queue_nobody_waits() {
    let stage = Stage::new("queue = false");
    let full = rig::ask(stage.address(), get("/full")).whole();
    assert!(rig::text(&full).contains("servers_full"));
    assert_eq!(logged(&stage, "/full"), json!([503, "SC", "servers_full", null, true]));
    stage.open();
}

#[test]
fn a_client_that_resets_gives_its_place_up() {
    let stage = Stage::new("queue = { max = 1, timeout = \"8s\", target = \"8s\" }");
    let leaver = stage.leaver("/leaves");
    SockRef::from(&leaver).set_linger(Some(Duration::ZERO)).expect("TCP has it");
    drop(leaver);
    rig::until("its place is free", || stage.metric("plimsoll_backend_queue_length") == 0);
    assert_eq!(logged(&stage, "/leaves"), json!([0, "CQ", "client_closed", null, false]));
    let mut next = stage.wait(&get("/next"));
    stage.open();
    assert_eq!(next.answer().status(), Some(200));
    assert_eq!(stage.origin.paths(), ["/held", "/next"]);
}

#[test]
fn a_client_that_has_sent_its_fin_still_gets_its_answer() {
    let stage = Stage::new("");
    let mut half = stage.wait(&get("/half"));
    half.finish_sending();
    stage.open();
    assert_eq!(half.answer().status(), Some(200));
}

#[test]
fn a_body_follows_whoever_has_waited() {
    let stage = Stage::new("");
    let mut waits = stage.wait(&rig::post("/body", "hello"));
    stage.open();
    assert_eq!(waits.answer().status(), Some(200));
    let arrived = stage.origin.arrived(1);
    assert_eq!(arrived[0].1.body, b"hello");
}

const CLASSES: &str = "[[route]]\npath = \"/high/*\"\nto = \"shop\"\npriority = \"high\"\n\
    [[route]]\npath = \"/low/*\"\nto = \"shop\"\npriority = \"low\"\n\
    [[route]]\npath = \"/asks/*\"\nto = \"shop\"\npriority = { header = \"X-Priority\" }";

#[test]
fn a_higher_class_goes_first_and_pushes_the_lowest_out() {
    let stage = Stage::with("queue = { max = 3, timeout = \"8s\", target = \"8s\" }", CLASSES);
    let mut waiting: Vec<Client> =
        ["/low/1", "/low/2", "/1"].iter().map(|path| stage.wait(&get(path))).collect();
    let mut high = Client::connect(stage.address());
    high.send(&get("/high/1"));
    assert_eq!(waiting.remove(1).answer().status(), Some(503), "the newest of the lowest");
    assert_eq!(logged(&stage, "/low/2"), json!([503, "SQ", "queue_full", null, false]));
    waiting.push(high);
    stage.open();
    waiting.iter_mut().for_each(|client| assert_eq!(client.answer().status(), Some(200)));
    assert_eq!(stage.origin.paths(), ["/held", "/high/1", "/1", "/low/1"]);
}

fn asks(path: &str, priority: &str) -> Vec<u8> {
    format!("GET /asks/{path} HTTP/1.1\r\nHost: a\r\nX-Priority: {priority}\r\n\r\n").into_bytes()
}

#[test]
fn a_stranger_can_lower_itself_and_never_raise_itself() {
    for (top, order) in [
        ("", ["/held", "/asks/usual", "/asks/high", "/asks/LOW"]),
        ("trusted = [\"127.0.0.0/8\"]", ["/held", "/asks/high", "/asks/usual", "/asks/LOW"]),
    ] {
        let stage = Stage::with_top(top, "queue = { timeout = \"8s\", target = \"8s\" }", CLASSES);
        let said = [("LOW", "LOW"), ("usual", "what?"), ("high", "High")];
        let mut clients: Vec<Client> =
            said.iter().map(|(path, said)| stage.wait(&asks(path, said))).collect();
        stage.open();
        clients.iter_mut().for_each(|client| assert_eq!(client.answer().status(), Some(200)));
        assert_eq!(stage.origin.paths(), order, "{top}");
    }
}

#[test]
fn clients_take_turns_where_shares_are_fair() {
    let stage = Stage::new("queue = { timeout = \"8s\", target = \"8s\", fair = \"header:X-Tenant\" }");
    let tenant = |tenant: &str, n: u32| {
        format!("GET /{tenant}{n} HTTP/1.1\r\nHost: a\r\nX-Tenant: {tenant}\r\n\r\n").into_bytes()
    };
    let mut clients: Vec<Client> = (0..4).map(|n| stage.wait(&tenant("greedy", n))).collect();
    clients.extend((0..2).map(|n| stage.wait(&tenant("modest", n))));
    stage.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().status(), Some(200)));
    assert_eq!(
        stage.origin.paths(),
        ["/held", "/greedy0", "/modest0", "/greedy1", "/modest1", "/greedy2", "/greedy3"]
    );
}

#[test]
fn fairness_by_address_knows_loopback_clients_apart() {
    let stage = Stage::new("queue = { timeout = \"8s\", target = \"8s\", fair = \"client_ip\" }");
    let from = |last: u8, path: &str| stage.wait_as(from(last, stage.address()), &get(path));
    let mut clients = [from(2, "/a0"), from(2, "/a1"), from(2, "/a2"), from(3, "/b0"), from(4, "/c0")];
    stage.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().status(), Some(200)));
    assert_eq!(stage.origin.paths(), ["/held", "/a0", "/b0", "/c0", "/a1", "/a2"]);
}

#[test]
fn room_that_a_reload_brings_is_for_those_who_came_after_it() {
    let stage = Stage::new("queue = { timeout = \"8s\", target = \"8s\" }");
    let mut waits = stage.wait(&get("/old"));
    stage.reload("queue = { timeout = \"8s\", target = \"8s\" }", 2);
    // Who came before the reload is bound by what held then; who comes after it is not.
    let mut new = Client::connect(stage.address());
    new.send(&get("/new"));
    assert_eq!(new.answer().status(), Some(200));
    assert_eq!(stage.metric("plimsoll_backend_queue_length"), 1);
    stage.open();
    assert_eq!(waits.answer().status(), Some(200));
}

#[test]
fn a_reload_without_the_queue_strands_nobody() {
    let stage = Stage::new("queue = { timeout = \"8s\", target = \"8s\" }");
    let mut waits = stage.wait(&get("/old"));
    stage.reload("queue = false", 1);
    assert_eq!(rig::ask(stage.address(), get("/new")).status(), Some(503), "new ones wait no more");
    stage.open();
    assert_eq!(waits.answer().status(), Some(200));
}

#[test]
fn a_request_whose_server_refuses_waits_for_the_other() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = dead.local_addr().expect("it is bound");
    drop(dead);
    let stage = Stage::with_server("queue = { timeout = \"8s\", target = \"8s\" }", address);
    let mut waits = stage.wait(&get("/waits"));
    stage.open();
    assert_eq!(waits.answer().status(), Some(200));
    assert_eq!(logged(&stage, "/waits"), json!([200, "--", null, "only", false]));
}

#[test]
fn a_stop_serves_who_waits() {
    let stage = Stage::new("queue = { timeout = \"8s\", target = \"8s\" }");
    let mut waits = stage.wait(&get("/waits"));
    let mut idle = Client::connect(stage.address());
    idle.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\n");
    stage.program.signal(rustix::process::Signal::TERM);
    rig::until("it accepts nobody", || std::net::TcpStream::connect(stage.address()).is_err());
    stage.open();
    assert_eq!(waits.answer().status(), Some(200));
}
