//! Servers that fail, through the real program: killed under load, stopped, refusing, hanging, cut short, full.
//!
//! The servers are real processes that misbehave when told to, or are stopped and killed by signals. Each way of failing
//! is asserted twice: in what the client gets, and in what is logged, with the two letters that say whose fault it was.

#[path = "peers/curl.rs"]
mod curl;
#[path = "peers/load.rs"]
mod load;
#[path = "peers/need.rs"]
mod need;
#[path = "peers/process.rs"]
mod process;
#[path = "peers/recorder.rs"]
mod recorder;
mod support;

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use need::need;
use process::{Port, Server, until};
use support::oracle::Response;
use support::{Client, Gate, Origin, PATIENCE, Plimsoll, Step, get};

/// Plimsoll before one backend; `servers` are tables in TOML. One worker, so that turns are strict.
fn before(servers: &[String], backend: &str, rest: &str) -> Plimsoll {
    let servers = servers.join(", ");
    Plimsoll::start(&format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"b\"\n\
         [backend.b]\nservers = [{servers}]\n{backend}\n{rest}\n"
    ))
}

fn named(name: &str, address: impl std::fmt::Display) -> String {
    format!("{{ name = \"{name}\", address = \"{address}\" }}")
}

fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// Sends one request on a connection of its own.
#[track_caller]
fn ask(plimsoll: &Plimsoll, request: &[u8]) -> Response {
    let mut client = Client::connect(plimsoll.address());
    client.send(request);
    client.answer().whole()
}

/// Which origin answered.
fn origin(answer: &Response) -> &str {
    let name = answer.fields.all("x-origin").first().copied().unwrap_or_default();
    std::str::from_utf8(name).expect("names are ASCII")
}

/// Makes it refuse connections, and waits until it has closed those it had: a POST on one that is just being closed is lost.
fn stop_listening(server: &Server) {
    server.set(&json!({ "refuse": true }));
    until("idle connections are closed", || server.shown()["connections"]["open"] == 0);
}

/// What is logged of the request for `path`: status, letters, reason, server, attempts.
#[track_caller]
fn logged(plimsoll: &Plimsoll, path: &str) -> Value {
    let line = plimsoll.wait_for_log(|line| line["path"] == path);
    json!([line["status"], line["end"], line["reason"], line["server"], line["attempts"]])
}

#[test]
fn a_stopped_server_times_out_and_the_others_serve() {
    let servers = ["a", "b", "c"].map(Server::start);
    let tables = servers
        .each_ref()
        .map(|server| named(server.shown()["server"].as_str().expect("a name"), server.address()));
    let plimsoll = before(&tables, "balance = \"round_robin\"", "[timeout]\nfirst_byte = \"500ms\"");
    servers[1].process().pause();
    // Three at once take one turn each: connecting to the stopped server works, the kernel does it.
    for round in 0..2 {
        let mut clients = [0, 1, 2].map(|_| Client::connect(plimsoll.address()));
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(&get(&format!("/{round}/{number}")));
        }
        let mut statuses = clients.each_mut().map(|client| client.answer().whole().status);
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 504], "round {round}");
    }
    let late = plimsoll.wait_for_log(|line| line["status"] == 504);
    let path = late["path"].as_str().expect("it has one");
    assert_eq!(logged(&plimsoll, path), json!([504, "sH", "first_byte_timeout", "b", 1]));
    let mut statuses = ["/p/1", "/p/2", "/p/3"].map(|path| ask(&plimsoll, &post(path, "x")).status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 504], "a POST may have been acted upon, and is not repeated");
    servers[1].process().signal(Signal::CONT);
    let names: Vec<String> =
        (0..6).map(|n| origin(&ask(&plimsoll, &get(&format!("/after/{n}")))).to_owned()).collect();
    for name in ["a", "b", "c"] {
        assert_eq!(names.iter().filter(|n| *n == name).count(), 2, "{names:?}");
    }
}

#[test]
fn a_server_that_refused_is_passed_over_for_a_second() {
    let alive = Server::start("a");
    let port = Port::reserve();
    let plimsoll = before(
        &[named("a", alive.address()), named("dead", port.address())],
        "balance = \"round_robin\"",
        "",
    );
    let mut client = Client::connect(plimsoll.address());
    let (mut sent, mut answered) = (Vec::new(), Vec::new());
    let second_tries = || -> Vec<Value> {
        let log = plimsoll.log_lines();
        log.into_iter().filter(|line| line["attempts"] == 2).collect()
    };
    while second_tries().len() < 2 {
        assert!(
            sent.first().is_none_or(|first: &Instant| first.elapsed() < PATIENCE),
            "it is never tried again"
        );
        for _ in 0..50 {
            sent.push(Instant::now());
            client.send(&get(&format!("/{}", sent.len() - 1)));
            assert_eq!(client.answer().whole().status, 200);
            answered.push(Instant::now());
        }
    }
    let number = |line: &Value| -> usize {
        let path = line["path"].as_str().expect("it has one");
        path[1..].parse().expect("a number")
    };
    let tries = second_tries();
    let [first, second] = [number(&tries[0]), number(&tries[1])];
    assert!(first < 2, "half of the first requests are the dead server's, not only number {first}");
    // However slow the machine is, this can only grow; the clock behind it is coarse.
    let apart = answered[second] - sent[first];
    assert!(apart >= Duration::from_millis(900), "it was tried again after {apart:?}");
    assert!(second > 10, "nothing went past it");
    for line in plimsoll.log_lines() {
        assert_eq!((&line["server"], &line["end"]), (&json!("a"), &json!("--")), "{line}");
    }
}

#[test]
fn with_all_servers_down_three_are_tried_and_the_answer_is_502() {
    for (count, attempts, first_ends, second_ends) in
        [(1, 1, "s0", "s0"), (2, 2, "s1", "s1"), (3, 3, "s2", "s2"), (5, 3, "s2", "s0")]
    {
        let ports: Vec<Port> = (0..count).map(|_| Port::reserve()).collect();
        let tables: Vec<String> =
            ports.iter().enumerate().map(|(n, port)| named(&format!("s{n}"), port.address())).collect();
        let plimsoll = before(&tables, "balance = \"first\"", "");
        // The second time some or all have just refused: these go last, which is no reason not to try them.
        for (path, request, last) in
            [("/get", get("/get"), first_ends), ("/post", post("/post", "body"), second_ends)]
        {
            let answer = ask(&plimsoll, &request);
            assert_eq!(answer.status, 502);
            assert!(answer.body.starts_with(b"502 Bad Gateway: connect_failed\n"));
            assert_eq!(
                logged(&plimsoll, path),
                json!([502, "SC", "connect_failed", last, attempts]),
                "of {count}"
            );
        }
    }
}

/// A server whose queue of connections is full, so that connects to it never complete.
struct Unreachable {
    address: SocketAddr,
    _listener: Socket,
    _queued: Vec<TcpStream>,
}

impl Unreachable {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors suffice");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        listener.bind(&any.into()).expect("loopback has ports");
        listener.listen(0).expect("it is bound");
        let address =
            listener.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
        let dial = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
        let queued: Vec<TcpStream> = std::iter::from_fn(dial).take(64).collect();
        assert!(queued.len() < 64, "its queue does not fill");
        Self { address, _listener: listener, _queued: queued }
    }
}

#[test]
fn a_connect_that_takes_too_long_is_given_up_for_another_server() {
    let unreachable = Unreachable::new();
    let good = Server::start("good");
    let tables = [named("mute", unreachable.address), named("good", good.address())];
    let both = before(&tables, "balance = \"first\"", "[timeout]\nconnect = \"200ms\"");
    for (path, request) in [("/get", get("/get")), ("/post", post("/post", "body"))] {
        assert_eq!(origin(&ask(&both, &request)), "good");
        let attempts = if path == "/get" { 2 } else { 1 };
        assert_eq!(logged(&both, path), json!([200, "--", null, "good", attempts]));
    }
    let alone = before(&tables[..1], "", "[timeout]\nconnect = \"200ms\"");
    assert_eq!(ask(&alone, &get("/alone")).status, 504);
    assert_eq!(logged(&alone, "/alone"), json!([504, "sC", "connect_timeout", "mute", 1]));
}

#[test]
fn an_answer_that_the_server_cuts_is_cut_for_the_client() {
    let Some(curl) = need("curl") else { return };
    let server = Server::with("a", "127.0.0.1:0", &["--body-size", "1MiB"]);
    server.set(&json!({ "truncate": true }));
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec();
    let chunks = Origin::scripted(vec![vec![Step::Read, Step::Send(chunked), Step::Close]]);
    for (name, address) in [("a", server.address().to_owned()), ("chunks", chunks.address().to_string())] {
        let plimsoll = before(&[named(name, address)], "", "");
        let answer = curl::run(&curl, &[&format!("http://{}/cut", plimsoll.address())]);
        assert_eq!((answer.exit, answer.last().status), (18, 200), "curl knows that something is missing");
        assert!(!answer.body.is_empty() && answer.body.len() < 1024 * 1024);
        assert_eq!(logged(&plimsoll, "/cut"), json!([200, "SD", "server_closed", name, 1]));
    }
}

#[test]
fn a_server_that_hangs_times_out_and_nothing_is_sent_again() {
    let (hanging, good) = (Server::start("hanging"), Server::start("good"));
    let tables = [named("hanging", hanging.address()), named("good", good.address())];
    let plimsoll = before(&tables, "balance = \"first\"", "[timeout]\nfirst_byte = \"300ms\"");
    hanging.set(&json!({ "hang": true }));
    for (path, request) in [("/get", get("/get")), ("/post", post("/post", "body"))] {
        let answer = ask(&plimsoll, &request);
        assert_eq!(answer.status, 504);
        assert_eq!(logged(&plimsoll, path), json!([504, "sH", "first_byte_timeout", "hanging", 1]));
    }
    hanging.set(&json!({ "hang": false }));
    assert_eq!(origin(&ask(&plimsoll, &get("/again"))), "hanging");
    assert_eq!(hanging.shown()["methods"], json!({ "GET": 2, "POST": 1 }));
    assert_eq!(good.shown()["requests"], 0);
}

#[test]
fn a_server_that_aborts_loses_a_get_to_another_and_a_post_altogether() {
    let servers = ["a", "b", "c", "d"].map(Server::start);
    let tables: Vec<String> =
        ["a", "b", "c", "d"].iter().zip(&servers).map(|(name, s)| named(name, s.address())).collect();
    let plimsoll = before(&tables, "balance = \"first\"", "");
    // Leaves connections in the pool: on these the abort looks like a server that had closed while idle.
    assert_eq!(origin(&ask(&plimsoll, &get("/warm"))), "a");
    servers[0].set(&json!({ "abort": true }));
    assert_eq!(origin(&ask(&plimsoll, &get("/get"))), "b");
    let pooled = logged(&plimsoll, "/get");
    assert_eq!(pooled, json!([200, "--", null, "b", 3]), "a's pooled connection, a fresh one, then b");
    assert_eq!(ask(&plimsoll, &post("/post", "body")).status, 502);
    assert_eq!(logged(&plimsoll, "/post"), json!([502, "SH", "server_closed", "a", 1]));
    assert_eq!(origin(&ask(&plimsoll, &get("/fresh"))), "b");
    assert_eq!(logged(&plimsoll, "/fresh"), json!([200, "--", null, "b", 2]));
    assert_eq!(servers[0].shown()["methods"], json!({ "GET": 4, "POST": 1 }));
    assert_eq!(servers[1].shown()["methods"], json!({ "GET": 2 }), "no POST was repeated");
    for server in &servers {
        server.set(&json!({ "abort": true }));
    }
    assert_eq!(ask(&plimsoll, &get("/all")).status, 502);
    let all = plimsoll.wait_for_log(|line| line["path"] == "/all");
    assert_eq!(
        (&all["end"], &all["reason"], &all["server"]),
        (&json!("SH"), &json!("server_closed"), &json!("c"))
    );
    assert_eq!(servers[3].shown()["requests"], 0, "two retries and no more");
}

#[test]
fn a_server_that_stops_listening_is_left_and_found_again() {
    let (first, second) = (Server::start("first"), Server::start("second"));
    let tables = [named("first", first.address()), named("second", second.address())];
    let plimsoll = before(&tables, "balance = \"first\"", "");
    assert_eq!(origin(&ask(&plimsoll, &get("/before"))), "first");
    stop_listening(&first);
    for n in 0..20 {
        let request = if n % 2 == 0 { post(&format!("/{n}"), "body") } else { get(&format!("/{n}")) };
        assert_eq!(origin(&ask(&plimsoll, &request)), "second", "request {n}");
    }
    first.set(&json!({ "refuse": false }));
    until("the first server serves again", || origin(&ask(&plimsoll, &get("/after"))) == "first");
    for n in 20..30 {
        assert_eq!(origin(&ask(&plimsoll, &get(&format!("/{n}")))), "first", "request {n}");
    }
}

#[test]
fn full_servers_answer_503_at_once_and_serve_again_when_there_is_room() {
    let gate = Gate::default();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate".to_vec();
    let script = vec![Step::Read, Step::Wait(gate.clone()), Step::Send(answer), Step::Serve];
    let servers = [(); 2].map(|()| Origin::scripted(vec![script.clone()]));
    let backup = Server::start("backup");
    let mut tables: Vec<String> =
        servers.iter().zip(["a", "b"]).map(|(s, name)| named(name, s.address())).collect();
    tables.push(named("backup", backup.address()).replace(" }", ", backup = true }"));
    let plimsoll = before(&tables, "max_requests = 1\nqueue = false", "");
    let mut waiting = [(); 2].map(|()| Client::connect(plimsoll.address()));
    for client in &mut waiting {
        client.send(&get("/waiting"));
    }
    for server in &servers {
        server.wait_until("a request", |connections| connections.iter().any(|c| c.requests.len() == 1));
    }
    let refused = ask(&plimsoll, &get("/refused"));
    assert_eq!(refused.status, 503);
    assert!(refused.body.starts_with(b"503 Service Unavailable: servers_full\n"));
    assert_eq!(refused.fields.all("retry-after"), [b"1"]);
    assert_eq!(logged(&plimsoll, "/refused"), json!([503, "SC", "servers_full", null, 0]));
    gate.open();
    for client in &mut waiting {
        assert_eq!(client.answer().whole().body, b"late");
    }
    assert_eq!(ask(&plimsoll, &get("/room")).status, 200);
    assert_eq!(backup.shown()["requests"], 0, "full is not down");
}

#[test]
fn a_backup_serves_only_while_the_primary_refuses() {
    let (primary, backup) = (Server::start("primary"), Server::start("backup"));
    let tables = [
        named("backup", backup.address()).replace(" }", ", backup = true }"),
        named("primary", primary.address()),
    ];
    let plimsoll = before(&tables, "", "");
    let all_from = |name: &str, from: usize| {
        for n in from..from + 10 {
            let answer = ask(&plimsoll, &get(&format!("/{n}")));
            assert_eq!((answer.status, origin(&answer)), (200, name), "request {n}");
        }
    };
    all_from("primary", 0);
    assert_eq!(backup.shown()["requests"], 0);
    stop_listening(&primary);
    all_from("backup", 10);
    assert_eq!(logged(&plimsoll, "/10"), json!([200, "--", null, "backup", 2]));
    primary.set(&json!({ "refuse": false }));
    until("the primary serves again", || origin(&ask(&plimsoll, &get("/back"))) == "primary");
    all_from("primary", 20);
}

#[test]
fn a_server_of_weight_0_takes_nothing_and_where_all_have_it_the_answer_is_503() {
    for policy in ["p2c", "round_robin", "least_conn", "random", "hash", "first"] {
        let (none, all) = (Server::start("none"), Server::start("all"));
        let weightless = named("none", none.address()).replace(" }", ", weight = 0 }");
        let balance = format!("balance = \"{policy}\"");
        let plimsoll = before(&[weightless.clone(), named("all", all.address())], &balance, "");
        for n in 0..20 {
            assert_eq!(origin(&ask(&plimsoll, &get(&format!("/{n}")))), "all", "{policy}");
        }
        // Not even when there is nobody else.
        stop_listening(&all);
        assert_eq!(ask(&plimsoll, &get("/nobody")).status, 502, "{policy}");
        let alone = before(&[weightless], &balance, "");
        assert_eq!(ask(&alone, &get("/alone")).status, 503, "{policy}");
        assert_eq!(logged(&alone, "/alone"), json!([503, "SC", "no_server", null, 0]), "{policy}");
        assert_eq!(none.shown()["requests"], 0, "{policy}");
    }
}
