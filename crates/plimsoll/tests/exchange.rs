//! One exchange in all its forms: what a client sends arrives, and what the server answers comes back.
//!
//! Raw bytes on both sides of the real program. Connections that are kept, shared, half-closed, upgraded or reset; bodies in
//! every framing, at every pace and cut at every byte; what is tried again and what never is.

#[path = "support/rig.rs"]
mod rig;
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rig::{ask, asked, before, field, ok, settled, slow_reader, text, until};
use socket2::SockRef;
use support::oracle::{self, Asked, Rules, Verdict};
use support::{Answer, Client, Gate, Origin, PATIENCE, Plimsoll, Step, get, show};

const WEBSOCKET: &[u8] = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const UPGRADING: Asked<'_> = Asked { method: b"GET", upgrade: true };

fn send(bytes: impl Into<Vec<u8>>) -> Step {
    Step::Send(bytes.into())
}

/// The program before a server whose connections follow these scripts.
fn stage(scripts: Vec<Vec<Step>>) -> (Origin, Plimsoll) {
    let origin = Origin::scripted(scripts);
    let program = Plimsoll::before(&[origin.address()]);
    (origin, program)
}

/// A server that answers once with these bytes and then ends, and what a client that sent `request` makes of them.
fn answered(bytes: &[u8], request: &[u8]) -> (Answer, Origin) {
    let (origin, program) = stage(vec![vec![Step::Read, send(bytes)]]);
    (ask(program.address(), request), origin)
}

// ---- connections ----

#[test]
fn many_requests_share_one_connection_on_both_sides() {
    let (origin, program) = stage(vec![]);
    let mut client = Client::connect(program.address());
    for number in 1..=50 {
        client.send(&get(&format!("/{number}")));
        let response = client.answer().whole();
        assert_eq!(text(&response), format!("{number} GET /{number}\n"));
        assert!(response.keep_alive && !response.fields.has("connection"));
    }
    assert_eq!(origin.connections().len(), 1);
}

#[test]
fn connections_to_servers_outlive_those_of_clients() {
    let (origin, program) = stage(vec![]);
    for _ in 0..10 {
        ask(program.address(), get("/")).whole();
    }
    assert_eq!(origin.connections().len(), 1);
}

#[test]
fn connection_close_is_obeyed_and_not_passed_on() {
    let (origin, program) = stage(vec![]);
    let mut client = Client::connect(program.address());
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let response = client.answer().whole();
    assert_eq!((response.status, field(&response, "connection").as_str()), (200, "close"));
    assert!(client.is_closed());
    ask(program.address(), get("/")).whole();
    assert_eq!(origin.connections().len(), 1, "the server's connection goes on");
}

#[test]
fn the_last_request_that_a_connection_may_carry_says_so() {
    let origin = Origin::serve();
    let program = before(&[origin.address()], "[limits]\nrequests_per_connection = 3\n");
    let mut client = Client::connect(program.address());
    client.send(&get("/").repeat(5));
    let closes: Vec<String> = (0..3).map(|_| field(&client.answer().whole(), "connection")).collect();
    assert_eq!(closes, ["", "", "close"]);
    assert!(client.is_closed());
    assert_eq!(origin.paths().len(), 3, "what was pipelined behind it is not served");
}

#[test]
fn requests_in_one_segment_are_answered_in_order() {
    let (origin, program) = stage(vec![]);
    let mut client = Client::connect(program.address());
    let bodies = "PUT /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /";
    let chunks = "PUT /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    client.send([&get("/1")[..], bodies.as_bytes(), chunks.as_bytes(), &get("/4")].concat().as_slice());
    let answers: Vec<String> = (0..4).map(|_| text(&client.answer().whole())).collect();
    assert_eq!(answers, ["1 GET /1\n", "2 PUT /2\n", "3 PUT /3\n", "4 GET /4\n"]);
    let arrived: Vec<Vec<u8>> = origin.arrived(0).into_iter().map(|(_, request)| request.body).collect();
    assert_eq!(arrived, [&b""[..], b"GET /", b"abc", b""]);
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answer() {
    let gate = Gate::default();
    let (origin, program) = stage(vec![vec![Step::Read, Step::Wait(gate.clone()), send(ok("late"))]]);
    let mut client = Client::connect(program.address());
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    client.finish_sending();
    origin.wait_until("the request", |all| all.first().is_some_and(|c| c.steps == 1));
    gate.open();
    assert_eq!(text(&client.answer().whole()), "late");
    assert!(client.is_closed());
}

#[test]
fn a_client_that_resets_while_waiting_ends_the_attempt() {
    let (origin, program) = stage(vec![vec![Step::Read, Step::Hang]]);
    let stream = TcpStream::connect(program.address()).expect("it listens");
    (&stream).write_all(&get("/gone")).expect("a request fits");
    origin.wait_until("the request", |all| all.first().is_some_and(|c| c.steps == 1));
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("TCP has it");
    drop(stream);
    let line = program.wait_for_log(|line| line["path"] == "/gone");
    assert_eq!(
        (&line["end"], &line["reason"], &line["status"]),
        (&"CH".into(), &"client_closed".into(), &0.into()),
        "{line}"
    );
    origin.wait_until("the end of the attempt", |all| all[0].closed);
}

#[test]
fn a_client_that_leaves_within_its_body_ends_the_attempt() {
    let (origin, program) = stage(vec![vec![Step::Hang]]);
    let mut client = Client::connect(program.address());
    client.send(b"POST /part HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello");
    origin.wait_until("the part", |all| all.first().is_some_and(|c| c.received.ends_with(b"hello")));
    drop(client);
    let line = program.wait_for_log(|line| line["path"] == "/part");
    assert_eq!((&line["end"], &line["reason"]), (&"CH".into(), &"client_closed".into()), "{line}");
    origin.wait_until("the end of the attempt", |all| all[0].closed);
}

// ---- upgrades ----

#[test]
fn a_tunnel_carries_early_bytes_and_both_directions() {
    let (origin, program) =
        stage(vec![vec![Step::ReadHead, send([SWITCH, b"early from the server"].concat()), Step::Hang]]);
    let mut client = Client::connect(program.address());
    client.send(&[WEBSOCKET, b"early from the client"].concat());
    let switched = client.answer_to(UPGRADING).whole();
    assert_eq!((switched.status, field(&switched, "upgrade").as_str()), (101, "websocket"));
    assert_eq!(client.read(21), b"early from the server");
    let ended = |with: &'static [u8]| move |all: &[support::Connection]| all[0].received.ends_with(with);
    origin.wait_until("the early bytes", ended(b"early from the client"));
    client.send(b", more");
    origin.wait_until("the later bytes", ended(b"early from the client, more"));
}

#[test]
fn a_tunnels_half_close_is_passed_on_and_the_other_half_goes_on() {
    // From the client: its end arrives, and the server still answers.
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let program = Plimsoll::before(&[listener.local_addr().expect("it is bound")]);
    let (mut client, mut server) = switched(&listener, &program);
    client.send(b"question");
    client.finish_sending();
    let mut all = Vec::new();
    server.read_to_end(&mut all).expect("the end arrives");
    assert_eq!(all, b"question");
    server.write_all(b"answer").expect("it is still open");
    drop(server);
    assert_eq!(client.read(usize::MAX), b"answer");
    // From the server: its end arrives, and the client can still send.
    let (mut client, mut server) = switched(&listener, &program);
    server.write_all(b"done").expect("it is open");
    server.shutdown(std::net::Shutdown::Write).expect("it is open");
    assert_eq!(client.read(usize::MAX), b"done");
    client.send(b"thanks");
    client.finish_sending();
    let mut all = Vec::new();
    server.read_to_end(&mut all).expect("the end arrives");
    assert_eq!(all, b"thanks");
    let line = program.wait_for_log(|line| line["path"] == "/ws");
    assert_eq!((&line["status"], &line["end"]), (&101.into(), &"--".into()), "{line}");
}

/// Both ends of a fresh tunnel.
fn switched(listener: &TcpListener, program: &Plimsoll) -> (Client, TcpStream) {
    let mut client = Client::connect(program.address());
    client.send(WEBSOCKET);
    let (mut server, _) = listener.accept().expect("it connects");
    server.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        server.read_exact(&mut byte).expect("a head comes");
        head.push(byte[0]);
    }
    server.write_all(SWITCH).expect("it is open");
    assert_eq!(client.answer_to(UPGRADING).whole().status, 101);
    (client, server)
}

#[test]
fn an_upgrade_that_a_route_does_not_allow_is_a_plain_request() {
    let origin = Origin::serve();
    let program = Plimsoll::start(&format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\n[backend.b]\nservers = [\"{}\"]\n\
         [[route]]\npath = \"/*\"\nto = \"b\"\nupgrade = []\n",
        origin.address()
    ));
    let mut client = Client::connect(program.address());
    client.send(WEBSOCKET);
    let response = client.answer_to(UPGRADING).whole();
    assert_eq!((response.status, response.keep_alive), (200, true));
    let (_, arrived) = origin.arrived(0).pop().expect("it arrived");
    assert!(!arrived.fields.has("upgrade") && !arrived.fields.has("connection"), "{arrived:?}");
    client.send(&get("/next"));
    assert_eq!(client.answer().whole().status, 200, "the connection goes on as HTTP");
}

#[test]
fn h2c_is_never_upgraded_to() {
    let (origin, program) = stage(vec![]);
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    assert_eq!(ask(program.address(), request).whole().status, 200);
    let (_, arrived) = origin.arrived(0).pop().expect("it arrived");
    for name in ["upgrade", "connection", "http2-settings"] {
        assert!(!arrived.fields.has(name), "{name}");
    }
}

// ---- answers without and with bodies ----

#[test]
fn answers_that_have_no_body_end_with_their_head() {
    let head = |request: &str| format!("HEAD {request}").into_bytes();
    for (name, bytes, request) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", head("/ HTTP/1.1\r\nHost: a\r\n\r\n")),
        (
            "HEAD of chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            head("/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ),
        ("204", "HTTP/1.1 204 No Content\r\n\r\n", get("/")),
        ("304", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 1000\r\n\r\n", get("/")),
    ] {
        let (origin, program) = stage(vec![vec![Step::Read, send(bytes), Step::Serve]]);
        let mut client = Client::connect(program.address());
        client.send(&request);
        let response = client.answer_to(asked(&request)).whole();
        assert!(bytes.starts_with(&format!("HTTP/1.1 {}", response.status)), "{name}");
        assert!(response.body.is_empty() && response.keep_alive, "{name}");
        let length = if bytes.contains("1000") { "1000" } else { "" };
        assert_eq!(field(&response, "content-length"), length, "{name}: what a GET would have");
        client.send(&get("/next"));
        assert_eq!(text(&client.answer().whole()), "1 GET /next\n", "{name}");
        assert_eq!(origin.connections().len(), 1, "{name}: the connection goes on");
    }
}

#[test]
fn a_body_until_close_is_chunked_for_1_1_and_until_close_for_1_0() {
    let bytes = b"HTTP/1.1 200 OK\r\n\r\nas much as there is";
    let (answer, _origin) = answered(bytes, &get("/"));
    let response = answer.whole();
    assert_eq!(
        (text(&response).as_str(), field(&response, "transfer-encoding").as_str()),
        ("as much as there is", "chunked")
    );
    assert!(response.keep_alive);
    let (answer, _origin) = answered(bytes, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = answer.whole();
    assert_eq!(
        (text(&response).as_str(), response.fields.has("transfer-encoding")),
        ("as much as there is", false)
    );
    assert!(!response.keep_alive, "its end is the body's end");
}

#[test]
fn clients_of_1_0_are_kept_only_where_they_ask_and_the_length_is_known() {
    let (_origin, program) = stage(vec![]);
    let mut client = Client::connect(program.address());
    for _ in 0..2 {
        client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let response = client.answer().whole();
        assert_eq!(field(&response, "connection"), "keep-alive");
    }
    client.send(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().whole().status, 200);
    assert!(client.is_closed());
}

// ---- interim answers ----

#[test]
fn a_client_that_expects_is_told_to_continue_by_the_server() {
    let (origin, program) = stage(vec![]);
    let mut client = Client::connect(program.address());
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let came = client.read_until(|bytes| bytes.ends_with(b"\r\n\r\n")).to_vec();
    assert!(came.starts_with(b"HTTP/1.1 100 "), "{}", show(&came));
    assert!(origin.arrived(0).is_empty(), "nothing was sent before");
    client.send(b"hello");
    let response = client.answer().whole();
    assert_eq!((response.interims.len(), response.status), (1, 200));
    assert_eq!(origin.arrived(0)[0].1.body, b"hello");
}

#[test]
fn early_hints_are_passed_on_to_1_1_and_not_to_1_0() {
    let bytes =
        [b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n", &ok("page")[..]].concat();
    let (answer, _origin) = answered(&bytes, &get("/"));
    let response = answer.whole();
    assert_eq!(text(&response), "page");
    let (status, fields) = &response.interims[0];
    assert_eq!((*status, fields.all("link")), (103, vec![&b"</a.css>; rel=preload"[..]]));
    let (answer, _origin) = answered(&bytes, b"GET / HTTP/1.0\r\n\r\n");
    let response = answer.whole();
    assert_eq!((response.interims.len(), text(&response).as_str()), (0, "page"));
}

#[test]
fn an_early_hint_is_passed_on_before_the_answer_is_there() {
    let gate = Gate::default();
    let hint = send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
    let (_origin, program) = stage(vec![vec![Step::Read, hint, Step::Wait(gate.clone()), send(ok("page"))]]);
    let mut client = Client::connect(program.address());
    client.send(&get("/"));
    let came = client.read_until(|bytes| bytes.ends_with(b"\r\n\r\n")).to_vec();
    assert!(came.starts_with(b"HTTP/1.1 103 "), "{}", show(&came));
    gate.open();
    assert_eq!(text(&client.answer().whole()), "page");
}

#[test]
fn an_early_answer_is_passed_on_and_both_connections_are_closed() {
    let (origin, program) = stage(vec![vec![
        Step::ReadHead,
        send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno"),
        Step::Hang,
    ]]);
    let mut client = Client::connect(program.address());
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nonly the start");
    let response = client.answer().whole();
    assert_eq!(
        (response.status, text(&response).as_str(), field(&response, "connection").as_str()),
        (413, "no", "close")
    );
    assert!(client.is_closed());
    origin.wait_until("the end of its connection", |all| all[0].closed);
}

// ---- bodies ----

#[test]
fn a_body_in_single_bytes_arrives_whole_in_both_directions() {
    let chunks = "1\r\na\r\n2;x=y\r\nbc\r\n0003\r\ndef\r\n0\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let program = Plimsoll::before(&[listener.local_addr().expect("it is bound")]);
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it connects");
        stream.set_nodelay(true).expect("TCP has it");
        let (mut unread, mut buffer) = (Vec::new(), [0; 1024]);
        let request = loop {
            if let Verdict::Message(request) = oracle::request(&unread, &Rules::default()) {
                break request;
            }
            let count = stream.read(&mut buffer).expect("it comes");
            assert!(count > 0, "cut after {}", show(&unread));
            unread.extend_from_slice(&buffer[..count]);
        };
        for byte in format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}").bytes() {
            stream.write_all(&[byte]).expect("it is taken");
        }
        request
    });
    let mut client = Client::connect(program.address());
    client.trickle(
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}").as_bytes(),
    );
    assert_eq!(text(&client.answer().whole()), "abcdef");
    assert_eq!(server.join().expect("it is sound").body, b"abcdef");
}

#[test]
fn a_request_cut_at_any_byte_is_the_same_request() {
    let (origin, program) = stage(vec![]);
    let request =
        b"PUT /x?y HTTP/1.1\r\nHost: a\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let meaning = || {
        let mut arrived = origin.arrived(0).into_iter().map(|(_, request)| request);
        let request = arrived.rfind(|request| request.target == b"/x?y").expect("it arrived");
        (request.method, request.target, request.fields, request.body)
    };
    ask(program.address(), request).whole();
    let whole = meaning();
    let (mut client, mut other) = (Client::connect(program.address()), Client::connect(program.address()));
    // When another connection of the only worker has been served, what was sent before has been looked at.
    let mut pause = || {
        other.send(&get("/pause"));
        assert_eq!(other.answer().whole().status, 200);
    };
    for cut in 1..request.len() {
        client.send(&request[..cut]);
        pause();
        client.send(&request[cut..]);
        assert_eq!(client.answer().whole().status, 200, "cut at {cut}");
        assert_eq!(meaning(), whole, "cut at {cut}");
    }
    for byte in request {
        client.send(&[*byte]);
        pause();
    }
    assert_eq!(client.answer().whole().status, 200);
    assert_eq!(meaning(), whole, "a byte at a time");
}

#[test]
fn a_large_upload_goes_at_the_servers_pace() {
    const SIZE: usize = 64 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    SockRef::from(&listener).set_recv_buffer_size(16 * 1024).expect("TCP has it");
    let program = Plimsoll::before(&[listener.local_addr().expect("it is bound")]);
    let stream = TcpStream::connect(program.address()).expect("it listens");
    let taken = Arc::new(AtomicUsize::new(0));
    let mut sending = stream.try_clone().expect("descriptors suffice");
    let counting = Arc::clone(&taken);
    let sender = std::thread::spawn(move || {
        sending
            .write_all(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes())
            .expect("it is taken");
        for _ in 0..SIZE / 65_536 {
            sending.write_all(&[b'u'; 65_536]).expect("it is taken");
            counting.fetch_add(65_536, Ordering::Relaxed);
        }
    });
    let (mut server, _) = listener.accept().expect("it connects");
    // The server reads nothing: neither does the program, once the kernel's buffers are full.
    let stuck = settled("what a client can send", || taken.load(Ordering::Relaxed) as u64);
    assert!(stuck < SIZE as u64 / 2, "{stuck} bytes were taken while the server read none");
    assert!(rig::memory(&program).0 < 64 << 20);
    // Then it reads all, and answers.
    let (mut read, mut buffer) = (0, vec![0; 256 * 1024]);
    while read < SIZE {
        let count = server.read(&mut buffer).expect("it comes");
        assert!(count > 0, "cut after {read}");
        // The head comes first and by itself is not counted.
        read += buffer[..count].iter().filter(|&&b| b == b'u').count();
    }
    server.write_all(&ok("thanks")).expect("it is taken");
    sender.join().expect("all of it was taken");
    let mut client = stream;
    client.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    let mut start = [0; 15];
    client.read_exact(&mut start).expect("an answer comes");
    assert_eq!(&start, b"HTTP/1.1 200 OK");
}

#[test]
fn a_megabyte_arrives_intact_through_a_slow_server_and_back_to_a_slow_client() {
    let body: Vec<u8> = (0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    SockRef::from(&listener).set_recv_buffer_size(8 * 1024).expect("TCP has it");
    let program = Plimsoll::before(&[listener.local_addr().expect("it is bound")]);
    let size = body.len();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it connects");
        let (mut all, mut piece) = (Vec::new(), [0; 1_000]);
        let start = loop {
            if let Some(at) = all.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
            let count = stream.read(&mut piece).expect("it comes");
            all.extend_from_slice(&piece[..count]);
        };
        while all.len() < start + size {
            let count = stream.read(&mut piece).expect("it comes");
            assert!(count > 0, "cut after {}", all.len());
            all.extend_from_slice(&piece[..count]);
            std::thread::yield_now();
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), &all[start..]].concat()).expect("it is taken");
    });
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
    let mut client = slow_reader(program.address(), head.as_bytes());
    client.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    client.write_all(&body).expect("it is taken");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
    let (mut came, mut piece) = (Vec::new(), [0; 700]);
    while came.len() < head.len() + size {
        let count = client.read(&mut piece).expect("it comes");
        assert!(count > 0, "cut after {}", came.len());
        came.extend_from_slice(&piece[..count]);
    }
    assert!(came.starts_with(head.as_bytes()) && came[head.len()..] == body[..], "it is the same");
    server.join().expect("it is sound");
}

// ---- trying again ----

/// Two servers, asked in their order, the first of which resets once it has read a whole request.
fn resetting() -> (Origin, Origin, Plimsoll) {
    let first = Origin::scripted(vec![vec![Step::Read, Step::Reset]; 8]);
    let second = Origin::serve();
    let program = Plimsoll::start(&format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"b\"\n[backend.b]\nbalance = \"first\"\nservers = [\"{}\", \"{}\"]\n",
        first.address(),
        second.address()
    ));
    (first, second, program)
}

fn upload(method: &str, size: usize) -> Vec<u8> {
    let head = format!("{method} /up HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
    let body: Vec<u8> = (0..size).map(|n| b'a' + (n % 26) as u8).collect();
    [head.as_bytes(), &body].concat()
}

#[test]
fn a_put_is_replayed_to_another_server_with_all_of_its_body() {
    for size in [0, 5, 64 * 1024] {
        let (first, second, program) = resetting();
        let request = upload("PUT", size);
        assert_eq!(ask(program.address(), &request).whole().status, 200, "{size} bytes");
        assert_eq!(first.paths(), ["/up"]);
        let (_, arrived) = second.arrived(0).pop().expect("it arrived");
        assert!(request.ends_with(&arrived.body) && arrived.body.len() == size, "{size} bytes");
        let line = program.wait_for_log(|line| line["path"] == "/up");
        assert_eq!((&line["attempts"], &line["end"]), (&2.into(), &"--".into()), "{line}");
    }
}

#[test]
fn a_chunked_put_is_replayed_too() {
    let (_first, second, program) = resetting();
    let mut client = Client::connect(program.address());
    client.send(b"PUT /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    client.send(b"6\r\n world\r\n0\r\n\r\n");
    assert_eq!(client.answer().whole().status, 200);
    assert_eq!(second.arrived(0)[0].1.body, b"hello world");
}

#[test]
fn a_body_beyond_the_replay_buffer_is_a_502() {
    let (_first, second, program) = resetting();
    let response = ask(program.address(), upload("PUT", 64 * 1024 + 1)).whole();
    assert_eq!((response.status, text(&response).contains("server_closed")), (502, true));
    assert!(second.arrived(0).is_empty());
}

#[test]
fn a_post_that_was_sent_is_never_sent_again() {
    let (first, second, program) = resetting();
    assert_eq!(ask(program.address(), upload("POST", 5)).whole().status, 502);
    assert_eq!(first.paths(), ["/up"]);
    assert!(second.arrived(0).is_empty());
}

#[test]
fn a_post_whose_server_refuses_the_connection_goes_to_another() {
    let dead = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = dead.local_addr().expect("it is bound");
    drop(dead);
    let origin = Origin::serve();
    let program = Plimsoll::start(&format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"b\"\n[backend.b]\nbalance = \"first\"\nservers = [\"{address}\", \"{}\"]\n",
        origin.address()
    ));
    assert_eq!(ask(program.address(), upload("POST", 5)).whole().status, 200);
    let line = program.wait_for_log(|line| line["path"] == "/up");
    assert_eq!(line["attempts"], 2);
    // For a second nobody asks it again.
    for _ in 0..10 {
        assert_eq!(ask(program.address(), upload("POST", 5)).whole().status, 200);
    }
    until("all lines", || program.log_lines().len() == 11);
    let attempts: Vec<u64> =
        program.log_lines().iter().filter_map(|line| line["attempts"].as_u64()).collect();
    assert!(attempts.iter().sum::<u64>() <= 13, "{attempts:?}");
}
