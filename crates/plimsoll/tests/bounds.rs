//! No peer can make memory grow, hold a place for ever, or use up what others need.
//!
//! Through the real program: crowds of idle and slow clients with an eye on its memory, messages without end from both
//! sides, every timeout, every limit on connections, and running out of file descriptors.

#[path = "support/rig.rs"]
mod rig;
mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rig::{
    Fountain, PROGRAM, ask, before, behind_shell, field, file, memory, ok, refuses, settled, slow_reader,
    text, until,
};
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use socket2::{Domain, Socket, Type};
use support::oracle::{self, Asked, Rules, Verdict};
use support::{Answer, Client, Gate, Origin, PATIENCE, Plimsoll, Step, get, show};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const WEBSOCKET: &[u8] = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

fn send(bytes: impl Into<Vec<u8>>) -> Step {
    Step::Send(bytes.into())
}

// ---- memory ----

#[test]
fn five_thousand_idle_connections_cost_less_than_8_kib_each() {
    const CROWD: u64 = 5_000;
    let origin = Origin::serve();
    let program = Plimsoll::before(&[origin.address()]);
    ask(program.address(), get("/")).whole();
    let (idle_before, _) = memory(&program);
    let mut crowd: Vec<Client> = (0..CROWD)
        .map(|_| {
            let mut client = Client::connect(program.address());
            client.send(&get("/"));
            assert_eq!(client.answer().whole().status, 200);
            client
        })
        .collect();
    let grown = memory(&program).0.saturating_sub(idle_before);
    println!("{} bytes for each idle connection", grown / CROWD);
    assert!(grown < 8 * KIB * CROWD, "{} bytes for each", grown / CROWD);
    for client in crowd.iter_mut().step_by(500) {
        client.send(&get("/"));
        assert_eq!(client.answer().whole().status, 200, "an idle connection still serves");
    }
}

#[test]
fn a_thousand_slow_readers_of_50_mb_slow_the_server_down_and_cost_less_than_64_mib() {
    const CROWD: usize = 1_000;
    const SIZE: usize = 50_000_000;
    let fountain = Fountain::start(SIZE);
    let program = before(&[fountain.address()], "");
    let (before, _) = memory(&program);
    let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| slow_reader(program.address(), &get("/"))).collect();
    until("all answers have begun", || fountain.begun() == CROWD as u64);
    let sent = settled("what the server can send", || fountain.sent());
    let (now, highest) = memory(&program);
    println!(
        "{} KiB for each, {} KiB taken from the server",
        (now - before) / KIB / 1_000,
        sent / KIB / 1_000
    );
    assert!(sent < (CROWD * SIZE / 4) as u64, "the server got rid of {sent} bytes");
    assert!(highest - before < 64 * MIB, "grew by {} MiB", (highest - before) / MIB);
    // Slowed down, not broken: who reads gets everything.
    let mut reader = crowd.swap_remove(CROWD / 2);
    assert_eq!(drain(&mut reader), SIZE);
}

/// Reads a response with a Content-Length to its end, and says how many bytes its body had.
fn drain(stream: &mut TcpStream) -> usize {
    stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    let (mut buffer, mut total, mut head, mut whole) = (vec![0; 256 * 1024], 0, 0, usize::MAX);
    while total < whole {
        let count = stream.read(&mut buffer).expect("bytes come");
        assert!(count > 0, "cut after {total} bytes");
        if whole == usize::MAX {
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            head = text.find("\r\n\r\n").expect("the head comes at once") + 4;
            let length = text.split("Content-Length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            whole = head + length.expect("a length").parse::<usize>().expect("a number");
        }
        total += count;
    }
    total - head
}

/// Sends `start`, then `more` again and again until the connection breaks; gives the answer and how much was taken.
fn flood(to: SocketAddr, start: &[u8], more: &[u8]) -> (Answer, u64) {
    const ENDLESS: u64 = 256 * MIB;
    let mut stream = TcpStream::connect(to).expect("it listens");
    stream.set_write_timeout(Some(PATIENCE)).expect("it is not zero");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    stream.write_all(start).expect("the start fits");
    let more = more.repeat(16_384 / more.len() + 1);
    let mut taken = 0;
    while taken < ENDLESS {
        match stream.write(&more) {
            Ok(count) if count > 0 => taken += count as u64,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                panic!("the connection was neither read nor closed")
            }
            _ => break,
        }
    }
    let (mut came, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count) = stream.read(&mut buffer)
        && count > 0
    {
        came.extend_from_slice(&buffer[..count]);
    }
    let asked = Asked { method: b"GET", upgrade: false };
    match oracle::response(&came, asked, true, &Rules::default()) {
        Verdict::Message(response) => (Answer::Whole(response), taken),
        _ => (Answer::Cut(came), taken),
    }
}

#[test]
fn requests_without_end_are_refused_and_cost_nothing() {
    let origin = Origin::serve();
    let program = Plimsoll::before(&[origin.address()]);
    let (before, _) = memory(&program);
    let long = format!("X: {}\r\n", "a".repeat(1_000));
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let cases = [
        ("a target", "GET /".to_owned(), "a", 414, "target_too_long"),
        ("a method", "G".to_owned(), "G", 414, "target_too_long"),
        (
            "a field without a line end",
            "GET / HTTP/1.1\r\nHost: a\r\nX: ".to_owned(),
            "a",
            431,
            "header_too_large",
        ),
        ("a field name", "GET / HTTP/1.1\r\nHost: a\r\nX".to_owned(), "a", 431, "header_too_large"),
        ("long fields", "GET / HTTP/1.1\r\nHost: a\r\n".to_owned(), &long, 431, "header_too_large"),
        ("short fields", "GET / HTTP/1.1\r\nHost: a\r\n".to_owned(), "X: y\r\n", 431, "too_many_fields"),
        ("a chunk extension", format!("{chunked}5;a="), "a", 400, "chunk_extension_too_long"),
        (
            "chunk extensions",
            chunked.to_owned(),
            "1;aaaaaaaa=bbbbbbbb\r\nx\r\n",
            400,
            "chunk_extension_too_long",
        ),
        ("a trailer", format!("{chunked}0\r\nX: "), "a", 431, "trailers_too_large"),
        ("trailers", format!("{chunked}0\r\n"), "X: y\r\n", 431, "trailers_too_large"),
    ];
    for (what, start, more, status, reason) in cases {
        let (answer, taken) = flood(program.address(), start.as_bytes(), more.as_bytes());
        let described = answer.describe();
        let Answer::Whole(response) = answer else { panic!("{what}: {described}") };
        assert_eq!(response.status, status, "{what}: {described}");
        assert!(text(&response).contains(reason), "{what}: {described}");
        assert!(!response.keep_alive, "{what}");
        // What the kernel holds on both sides, and what is read after the answer so that it arrives.
        assert!(taken < 32 * MIB, "{what}: {taken} bytes were taken");
    }
    let (_, highest) = memory(&program);
    assert!(highest - before < 4 * MIB, "grew by {} KiB", (highest - before) / KIB);
}

#[test]
fn answers_without_end_are_cut_and_cost_nothing() {
    let endless = |start: &str, more: &str| {
        vec![Step::Read, send([start, &more.repeat(4 << 20 >> 3)].concat()), Step::Hang]
    };
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let cases = [
        ("a field", endless("HTTP/1.1 200 OK\r\nX: ", "aaaaaaaa"), Some(502)),
        ("fields", endless("HTTP/1.1 200 OK\r\n", "X: abc\r\n"), Some(502)),
        ("a reason phrase", endless("HTTP/1.1 200 ", "aaaaaaaa"), Some(502)),
        ("interim answers", endless("", "HTTP/1.1 103 Early\r\nA: b\r\n\r\n"), Some(502)),
        ("a chunk extension", endless(&format!("{head}5;a="), "aaaaaaaa"), None),
        ("trailers", endless(&format!("{head}1\r\nx\r\n0\r\n"), "X: abc\r\n"), None),
    ];
    let origin = Origin::scripted(cases.iter().map(|(_, script, _)| script.clone()).collect());
    let program = Plimsoll::before(&[origin.address()]);
    let (before, _) = memory(&program);
    for (number, (what, _, status)) in cases.iter().enumerate() {
        let answer = ask(program.address(), get("/"));
        // A body that breaks off must not look whole; before the first byte of it 502 is possible too.
        let cut = matches!(answer, Answer::Cut(_) | Answer::Closed) || answer.status() == Some(502);
        let as_wanted = status.map_or(cut, |status| answer.status() == Some(status));
        assert!(as_wanted, "{what}: {}", answer.describe());
        origin.wait_until("the end of the bad connection", |all| all.get(number).is_some_and(|c| c.closed));
    }
    let (_, highest) = memory(&program);
    assert!(highest - before < 4 * MIB, "grew by {} KiB", (highest - before) / KIB);
}

// ---- time ----

/// The program before one scripted server, with these waiting times.
fn timed(scripts: Vec<Vec<Step>>, timeouts: &str) -> (Origin, Plimsoll) {
    let origin = Origin::scripted(scripts);
    let program = before(&[origin.address()], &format!("[timeout]\n{timeouts}"));
    (origin, program)
}

#[track_caller]
fn ended(program: &Plimsoll, end: &str, reason: &str) {
    let line = program.wait_for_log(|line| line["reason"] == reason);
    assert_eq!(line["end"], end, "{line}");
}

#[track_caller]
fn refused(answer: Answer, status: u16, reason: &str) {
    let response = answer.whole();
    assert_eq!((response.status, text(&response).contains(reason)), (status, true), "{}", text(&response));
    assert!(field(&response, "proxy-status").contains(reason), "{:?}", response.fields);
}

/// Sends one byte after the other until the connection ends; gives what came.
#[track_caller]
fn trickle(
    stream: &mut TcpStream,
    bytes: impl Iterator<Item = u8>,
    pace: Duration,
    limit: Duration,
) -> Vec<u8> {
    stream.set_read_timeout(Some(pace)).expect("it is not zero");
    let (mut came, mut buffer) = (Vec::new(), [0; 4096]);
    let deadline = Instant::now() + limit;
    for byte in bytes {
        assert!(Instant::now() < deadline, "still there after {limit:?}; {}", show(&came));
        let _ = stream.write_all(&[byte]);
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => came.extend_from_slice(&buffer[..count]),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            _ => break,
        }
    }
    came
}

#[test]
fn a_head_that_trickles_is_cut_by_a_total() {
    let (_origin, program) = timed(vec![], "header = \"600ms\"\n");
    let mut stream = TcpStream::connect(program.address()).expect("it listens");
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".iter().copied().chain(std::iter::repeat(b'a'));
    // One byte every 20 ms: far below any idle time.
    let came = trickle(&mut stream, bytes, Duration::from_millis(20), PATIENCE);
    assert!(came.starts_with(b"HTTP/1.1 408 Request Timeout\r\n"), "{}", show(&came));
    ended(&program, "cR", "header_timeout");
}

#[test]
fn a_client_that_says_nothing_is_closed_silently() {
    let (_origin, program) = timed(vec![], "header = \"300ms\"\n");
    assert!(Client::connect(program.address()).is_closed());
    ask(program.address(), get("/after")).whole();
    let line = program.wait_for_log(|_| true);
    assert_eq!(line["path"], "/after", "the silent connection is not logged as a request");
}

#[test]
fn a_body_that_stalls_is_a_408() {
    let (_origin, program) = timed(vec![], "body = \"300ms\"\n");
    refused(
        ask(program.address(), b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello"),
        408,
        "body_timeout",
    );
    ended(&program, "cH", "body_timeout");
}

#[test]
fn a_body_below_240_bytes_a_second_is_a_408_after_10_seconds() {
    let (_origin, program) = timed(vec![], "");
    let mut stream = TcpStream::connect(program.address()).expect("it listens");
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n").expect("a head fits");
    // 20 bytes a second: never idle for long, and far too slow.
    let came = trickle(&mut stream, std::iter::repeat(b'a'), Duration::from_millis(50), 2 * PATIENCE);
    assert!(came.starts_with(b"HTTP/1.1 408 Request Timeout\r\n"), "{}", show(&came));
    ended(&program, "cH", "body_too_slow");
}

#[test]
fn a_server_that_does_not_answer_is_a_504() {
    let (_origin, program) = timed(vec![vec![Step::Read, Step::Hang]], "first_byte = \"300ms\"\n");
    refused(ask(program.address(), get("/")), 504, "first_byte_timeout");
    ended(&program, "sH", "first_byte_timeout");
}

#[test]
fn a_server_that_does_not_accept_is_a_504() {
    let (address, _held) = deaf();
    let program = before(&[address], "[timeout]\nconnect = \"300ms\"\n");
    refused(ask(program.address(), get("/")), 504, "connect_timeout");
    ended(&program, "sC", "connect_timeout");
}

/// An address that takes no connections: its queue is full, so the kernel drops whatever else knocks.
fn deaf() -> (SocketAddr, Vec<Socket>) {
    let server = Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors suffice");
    server.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("loopback has ports");
    server.listen(0).expect("TCP can");
    let address = server.local_addr().expect("it is bound");
    let queue = (0..4).map(|_| {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors suffice");
        client.set_nonblocking(true).expect("it can");
        let _ = client.connect(&address);
        client
    });
    let held = queue.collect::<Vec<_>>().into_iter().chain([server]).collect();
    (address.as_socket().expect("IPv4"), held)
}

#[test]
fn a_server_that_stops_within_a_body_is_cut() {
    let part = send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello");
    let (origin, program) = timed(vec![vec![Step::Read, part, Step::Hang]], "idle = \"300ms\"\n");
    let answer = ask(program.address(), get("/"));
    assert!(
        matches!(&answer, Answer::Cut(came) if came.ends_with(b"\r\n\r\nhello")),
        "{}",
        answer.describe()
    );
    ended(&program, "sD", "server_timeout");
    origin.wait_until("the end of its connection", |all| all[0].closed);
}

#[test]
fn a_client_that_stops_reading_is_cut() {
    let fountain = Fountain::start(50_000_000);
    let program = before(&[fountain.address()], "[timeout]\nidle = \"300ms\"\n");
    let _reader = slow_reader(program.address(), &get("/"));
    ended(&program, "cD", "client_timeout");
    assert!(fountain.sent() < 50_000_000);
}

#[test]
fn an_idle_connection_is_closed_after_keep_alive() {
    let (_origin, program) = timed(vec![], "keep_alive = \"300ms\"\n");
    let mut client = Client::connect(program.address());
    client.send(&get("/"));
    assert_eq!(client.answer().whole().status, 200);
    assert!(client.is_closed());
}

#[test]
fn a_silent_tunnel_is_closed() {
    let (origin, program) =
        timed(vec![vec![Step::ReadHead, send(SWITCH), Step::Hang]], "tunnel = \"300ms\"\n");
    let mut client = Client::connect(program.address());
    client.send(WEBSOCKET);
    let asked = Asked { method: b"GET", upgrade: true };
    assert_eq!(client.answer_to(asked).whole().status, 101);
    assert!(client.is_closed());
    origin.wait_until("the end of the tunnel", |all| all[0].closed);
    let line = program.wait_for_log(|line| line["path"] == "/ws");
    assert_eq!((&line["status"], &line["end"]), (&101.into(), &"cT".into()), "{line}");
}

#[test]
fn a_routes_total_ends_an_exchange_before_and_within_the_answer() {
    let drip = [send("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nhello"), Step::Hang];
    let origin =
        Origin::scripted(vec![vec![Step::Read, Step::Hang], [vec![Step::Read], drip.to_vec()].concat()]);
    let program = Plimsoll::start(&format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\n[backend.b]\nservers = [\"{}\"]\n\
         [[route]]\npath = \"/*\"\nto = \"b\"\ntimeout = {{ total = \"300ms\" }}\n",
        origin.address()
    ));
    refused(ask(program.address(), get("/silent")), 504, "total_timeout");
    let answer = ask(program.address(), get("/drip"));
    assert!(matches!(&answer, Answer::Cut(came) if came.ends_with(b"hello")), "{}", answer.describe());
    let ends = |path: &str| program.wait_for_log(|line| line["path"] == path);
    assert_eq!(
        (&ends("/silent")["end"], &ends("/silent")["reason"]),
        (&"sH".into(), &"total_timeout".into())
    );
    assert_eq!((&ends("/drip")["end"], &ends("/drip")["reason"]), (&"sD".into(), &"total_timeout".into()));
}

#[test]
fn a_routes_total_covers_connecting_too() {
    let (address, _held) = deaf();
    let program = Plimsoll::start(&format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\n[backend.b]\nservers = [\"{address}\"]\n\
         [[route]]\npath = \"/*\"\nto = \"b\"\ntimeout = {{ total = \"300ms\" }}\n"
    ));
    refused(ask(program.address(), get("/")), 504, "total_timeout");
    ended(&program, "sC", "total_timeout");
}

// ---- connections ----

/// A connection over which one request was answered.
fn served(to: SocketAddr) -> Client {
    let mut client = Client::connect(to);
    client.send(&get("/"));
    assert_eq!(client.answer().whole().status, 200);
    client
}

#[test]
fn one_connection_more_than_the_maximum_waits_until_another_closes() {
    let origin = Origin::serve();
    let program = Plimsoll::start(&file(&[origin.address()], "max_connections = 2", ""));
    let (mut first, second) = (served(program.address()), served(program.address()));
    let mut waiting = TcpStream::connect(program.address()).expect("the kernel takes it");
    waiting.write_all(&get("/waiting")).expect("the kernel takes it");
    waiting.set_nonblocking(true).expect("it can");
    for _ in 0..50 {
        first.send(&get("/"));
        assert_eq!(first.answer().whole().status, 200);
        let early = waiting.read(&mut [0; 1]);
        assert!(early.is_err_and(|e| e.kind() == ErrorKind::WouldBlock), "served as a third");
    }
    assert!(!origin.paths().contains(&"/waiting".to_owned()));
    drop(second);
    waiting.set_nonblocking(false).expect("it can");
    waiting.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    let mut start = [0; 12];
    waiting.read_exact(&mut start).expect("it is served now");
    assert_eq!(&start, b"HTTP/1.1 200");
}

#[test]
fn as_many_connections_as_the_maximum_are_served_whichever_worker_gets_them() {
    let origin = Origin::serve();
    for workers in [2, 4] {
        let text = file(&[origin.address()], "max_connections = 4", "");
        let program = Plimsoll::start(&text.replace("workers = 1", &format!("workers = {workers}")));
        for _ in 0..5 {
            // All four at once, wherever the kernel puts them.
            let together: Vec<Client> = (0..4).map(|_| served(program.address())).collect();
            drop(together);
        }
    }
}

#[test]
fn one_connection_more_than_a_client_may_have_is_a_503() {
    let origin = Origin::serve();
    let program = Plimsoll::start(&file(&[origin.address()], "max_connections_per_client = 2", ""));
    let (first, _second) = (served(program.address()), served(program.address()));
    let mut third = Client::connect(program.address());
    refused(third.answer(), 503, "too_many_connections");
    assert!(third.is_closed());
    ended(&program, "PR", "too_many_connections");
    drop(first);
    until("a place is free again", || ask(program.address(), get("/")).status() == Some(200));
}

/// A program with 96 descriptors and so with room for 16 connections, and 60 clients that have asked.
fn crowded(origin: &Origin) -> (Plimsoll, Vec<Client>) {
    let text = file(&[origin.address()], "", "");
    let program = Plimsoll::start_by(behind_shell("ulimit -n 96"), &text, Stdio::piped());
    let asking = (0..60).map(|_| {
        let mut client = Client::connect(program.address());
        client.send(&get("/"));
        client
    });
    let crowd = asking.collect();
    (program, crowd)
}

#[test]
fn more_clients_than_descriptors_wait_and_everybody_is_served_in_the_end() {
    let origin = Origin::serve();
    let (_program, crowd) = crowded(&origin);
    for mut client in crowd {
        // Each leaves once it is served, which makes room for the next.
        assert_eq!(client.answer().whole().status, 200);
    }
}

#[test]
fn the_operator_is_told_when_clients_wait_for_descriptors() {
    let origin = Origin::serve();
    let (program, _crowd) = crowded(&origin);
    until("it says so", || {
        let says = |line: &String| line.contains("accepting pauses") || line.contains("connections wait");
        program.stderr_lines().iter().any(says)
    });
}

/// Leaves the program so many free descriptors.
fn leave_descriptors(program: &Plimsoll, free: u64) {
    let directory = format!("/proc/{}/fd", program.pid().as_raw_nonzero());
    let mut taken: Vec<u64> = std::fs::read_dir(directory)
        .expect("it runs")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    taken.sort_unstable();
    // The limit is on the numbers: room is where a number below it is not taken.
    let mut numbers = (0..).filter(|number| taken.binary_search(number).is_err());
    let limit = numbers.nth(free as usize).expect("endless");
    let limits = Rlimit { current: Some(limit), maximum: getrlimit(Resource::Nofile).maximum };
    prlimit(Some(program.pid()), Resource::Nofile, limits).expect("it is our child");
}

#[test]
fn accepting_pauses_without_descriptors_says_so_and_goes_on() {
    let origin = Origin::serve();
    let program = Plimsoll::before(&[origin.address()]);
    assert_eq!(ask(program.address(), get("/")).status(), Some(200));
    let said = |what: &str| program.stderr_lines().iter().filter(|line| line.contains(what)).count();
    leave_descriptors(&program, 3);
    let crowd: Vec<Client> = (0..10).map(|_| Client::connect(program.address())).collect();
    until("it pauses", || said("accepting pauses: Too many open files") == 1);
    drop(crowd);
    for _ in 0..20 {
        assert_eq!(ask(program.address(), get("/after")).whole().status, 200);
    }
    until("it says that it goes on", || said("accepting goes on") == said("accepting pauses"));
}

#[test]
fn a_request_for_whose_server_no_descriptor_is_left_is_a_503() {
    let origin = Origin::serve();
    let program = Plimsoll::before(&[origin.address()]);
    leave_descriptors(&program, 1);
    let mut client = Client::connect(program.address());
    client.send(&get("/"));
    refused(client.answer(), 503, "no_descriptors");
    ended(&program, "RC", "no_descriptors");
    leave_descriptors(&program, 8);
    client.send(&get("/"));
    assert_eq!(client.answer().whole().status, 200, "the same connection, once there is room");
}

#[test]
fn idle_connections_to_servers_do_not_keep_clients_out() {
    // 16 clients at once to each of six backends in turn: 96 connections to servers would be kept, with 96 descriptors.
    const CLIENTS: usize = 16;
    let origins: Vec<(Origin, Gate)> = (0..6)
        .map(|_| {
            let gate = Gate::default();
            let script = vec![Step::Read, Step::Wait(gate.clone()), send(ok("")), Step::Serve];
            (Origin::scripted(vec![script; CLIENTS]), gate)
        })
        .collect();
    let mut text = "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\n".to_owned();
    for (number, (origin, _)) in origins.iter().enumerate() {
        text += &format!("[backend.b{number}]\nservers = [\"{}\"]\n", origin.address());
        text += &format!("[[route]]\npath = \"/{number}\"\nto = \"b{number}\"\n");
    }
    let program = Plimsoll::start_by(behind_shell("ulimit -n 96"), &text, Stdio::piped());
    for (number, (origin, gate)) in origins.iter().enumerate() {
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(program.address())).collect();
        for client in &mut clients {
            client.send(&get(&format!("/{number}")));
        }
        until(&format!("all reach backend {number}"), || {
            origin.connections().iter().filter(|c| !c.received.is_empty()).count() == CLIENTS
        });
        gate.open();
        for client in &mut clients {
            assert_eq!(client.answer().whole().status, 200, "backend {number}");
        }
    }
}

#[test]
fn a_maximum_that_does_not_fit_the_descriptors_is_refused_at_the_start() {
    let text = file(&[SocketAddr::from(([127, 0, 0, 1], 9))], "max_connections = 100", "");
    let (code, said) = refuses(behind_shell("ulimit -n 128"), &text);
    assert_eq!(code, Some(3), "{said}");
    for part in ["max_connections", "needs 253", "128", "ulimit -n"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    let (code, said) =
        refuses(Command::new(PROGRAM), &text.replace("max_connections = 100", "max_connections = 0"));
    assert_eq!(code, Some(1), "{said}");
}
