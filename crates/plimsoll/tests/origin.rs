//! `plimsoll origin`, the real program, spoken to with raw sockets.
//!
//! Ports come from the kernel; every read has a timeout, so that a hang is a failure and not a wait without end.

// A test fails by panicking, its helpers as well.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

/// A running origin; killed when dropped.
struct Running {
    child: Child,
    first_line: String,
    address: String,
    control: Option<String>,
}

fn start(args: &[&str]) -> Running {
    let mut child = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .arg("origin")
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first_line = lines.next().expect("a first line");
    let address = first_line.split(" listening on ").nth(1).unwrap().trim_start_matches("http://").to_owned();
    let control = args.contains(&"--control").then(|| {
        let line = lines.next().expect("a second line");
        line.trim_start_matches("control at http://").trim_end_matches("/_origin").to_owned()
    });
    Running { child, first_line, address, control }
}

impl Running {
    /// Sends a signal by name and waits for the end.
    fn end(mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.child.wait().unwrap()
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
    }

    fn put(&self, change: &Value) -> Value {
        let (status, answer) = put(self.control.as_ref().unwrap_or(&self.address), &change.to_string());
        assert_eq!(status, 200, "{answer}");
        answer
    }

    fn shown(&self) -> Value {
        get(self.control.as_ref().unwrap_or(&self.address), "/_origin").json()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer: status, head in lower case, body as far as it came.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Waits for something that must come; that it never does is the failure.
fn until(mut came: impl FnMut() -> bool) {
    let start = Instant::now();
    while !came() {
        assert!(start.elapsed() < PATIENCE, "it never came");
        std::thread::yield_now();
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends raw bytes on a connection and reads to its end.
fn exchange(mut stream: impl Read + Write, request: &str) -> Vec<u8> {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => answer,
    }
}

fn parse(raw: &[u8]) -> Answer {
    let end = raw.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8_lossy(&raw[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: raw[end + 4..].to_vec() }
}

fn get_with(address: &str, target: &str, fields: &str) -> Answer {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n{fields}Connection: close\r\n\r\n");
    parse(&exchange(connect(address), &request))
}

fn get(address: &str, target: &str) -> Answer {
    get_with(address, target, "")
}

fn put(address: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    let request = format!(
        "PUT /_origin HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let answer = parse(&exchange(connect(address), &request));
    (answer.status, answer.json())
}

#[test]
fn says_who_it_is_and_what_it_received() {
    let origin = start(&["--listen", "127.0.0.1:0", "--name", "a"]);
    assert_eq!(origin.first_line, format!("origin a listening on http://{}", origin.address));
    let request = "POST /x?y=1 HTTP/1.1\r\nHost: h\r\nX-Two: 1\r\nX-Two: 2\r\nContent-Length: 5\r\n\
                   Connection: close\r\n\r\nhello";
    let answer = parse(&exchange(connect(&origin.address), request));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-origin"), Some("a"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let expected = json!({
        "server": "a",
        "address": origin.address,
        "request": {
            "method": "POST",
            "target": "/x?y=1",
            "version": "HTTP/1.1",
            "headers": [["host", "h"], ["x-two", "1"], ["x-two", "2"], ["content-length", "5"], ["connection", "close"]],
            "body_bytes": 5,
            "body": "hello",
        },
        "served": 1,
    });
    assert_eq!(answer.json(), expected);
}

#[test]
fn counts_a_large_body_and_returns_its_first_kibibyte() {
    let origin = start(&["--listen", "127.0.0.1:0"]);
    let body = "z".repeat(100_000);
    let request =
        format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n{body}");
    let received = parse(&exchange(connect(&origin.address), &request)).json()["request"].clone();
    assert_eq!(received["body_bytes"], 100_000);
    assert_eq!(received["body"].as_str().unwrap().len(), 1024);
}

#[test]
fn answers_have_exactly_the_size_asked_for() {
    let origin = start(&["--listen", "127.0.0.1:0", "--body-size", "64KiB"]);
    let padded = get(&origin.address, "/");
    assert_eq!(padded.body.len(), 65536);
    assert_eq!(padded.header("content-length"), Some("65536"));
    assert_eq!(
        padded.json()["server"],
        json!(format!("origin-{}", origin.address.rsplit(':').next().unwrap()))
    );
    let plain = get_with(&origin.address, "/", "Accept: text/plain\r\n");
    assert_eq!(plain.body, vec![b'x'; 65536]);
}

#[test]
fn statuses_and_errors_are_as_told() {
    let origin = start(&["--listen", "127.0.0.1:0", "--status", "404"]);
    assert_eq!(get(&origin.address, "/").status, 404);
    origin.put(&json!({ "error_rate": "100%" }));
    assert_eq!(get(&origin.address, "/").status, 500);
    origin.put(&json!({ "error_rate": "0%", "status": 204 }));
    let empty = get(&origin.address, "/");
    assert_eq!((empty.status, empty.body.len()), (204, 0));
}

#[test]
fn shows_its_behaviour_and_counters() {
    let origin = start(&["--listen", "127.0.0.1:0", "--name", "a", "--delay", "1ms", "--spread", "1ms"]);
    get(&origin.address, "/");
    let shown = origin.shown();
    assert_eq!((&shown["server"], &shown["is_control"]), (&json!("a"), &json!(false)));
    assert_eq!(shown["behaviour"]["delay"], "1ms");
    assert_eq!(shown["behaviour"]["hang"], false);
    assert_eq!(shown["requests"], 1);
    assert_eq!(shown["methods"], json!({ "GET": 1 }));
}

#[test]
fn a_wrong_change_is_refused_and_changes_nothing() {
    let origin = start(&["--listen", "127.0.0.1:0"]);
    for (body, reason) in [
        (r#"{"status": 201, "dely": "1s"}"#, "unknown field `dely`"),
        (r#"{"status": 201, "delay": "1"}"#, "is not a time"),
        (r#"{"status": 99}"#, "200 to 599"),
    ] {
        let (status, answer) = put(&origin.address, body);
        assert_eq!(status, 400, "{body}");
        assert!(answer["error"].as_str().unwrap().contains(reason), "{answer}");
    }
    let (status, answer) = put(&origin.address, r#"{"refuse": true}"#);
    assert_eq!(status, 409);
    assert!(answer["error"].as_str().unwrap().contains("--control"), "{answer}");
    assert_eq!(origin.shown()["behaviour"]["status"], 200);
}

#[test]
fn abort_closes_without_a_byte() {
    let origin = start(&["--listen", "127.0.0.1:0"]);
    origin.put(&json!({ "abort": true }));
    let request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(exchange(connect(&origin.address), request), b"");
    origin.put(&json!({ "abort": false }));
    assert_eq!(get(&origin.address, "/").status, 200);
}

#[test]
fn truncate_promises_all_and_sends_half() {
    let origin = start(&["--listen", "127.0.0.1:0", "--body-size", "1MiB"]);
    origin.put(&json!({ "truncate": true }));
    let answer = get(&origin.address, "/");
    assert_eq!(answer.header("content-length"), Some("1048576"));
    assert_eq!(answer.body.len(), 524_288);
}

#[test]
fn hang_takes_the_request_and_says_nothing() {
    let origin = start(&["--listen", "127.0.0.1:0"]);
    origin.put(&json!({ "hang": true }));
    let mut stream = connect(&origin.address);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    until(|| origin.shown()["in_flight"] == 1);
    stream.set_nonblocking(true).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(stream);
    until(|| origin.shown()["in_flight"] == 0);
}

#[test]
fn refuse_closes_the_port_until_taken_back() {
    let origin = start(&["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
    let mut idle = connect(&origin.address);
    origin.put(&json!({ "refuse": true }));
    let refused = TcpStream::connect(&origin.address).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "an open connection is closed as well");
    origin.put(&json!({ "refuse": false }));
    assert_eq!(get(&origin.address, "/").status, 200);
}

#[test]
fn delete_on_the_control_address_dies_with_code_1() {
    let mut origin = start(&["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
    let request = "DELETE /_origin HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    assert_eq!(parse(&exchange(connect(&origin.address), request)).status, 405);
    assert_eq!(exchange(connect(origin.control.as_ref().unwrap()), request), b"");
    assert_eq!(origin.child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_signal_ends_it_cleanly_after_the_request_in_flight() {
    for signal in ["TERM", "INT"] {
        let origin = start(&["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--delay", "300ms"]);
        let _never_used = connect(&origin.address);
        let mut stream = connect(&origin.address);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        until(|| origin.shown()["requests"] == 1);
        assert_eq!(origin.end(signal).code(), Some(0), "{signal}");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(parse(&answer).status, 200);
    }
}

#[test]
fn a_second_signal_ends_it_at_once_with_code_4() {
    let origin = start(&["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
    origin.put(&json!({ "hang": true }));
    let mut stream = connect(&origin.address);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    until(|| origin.shown()["in_flight"] == 1);
    origin.signal("TERM");
    // The first signal has been taken in when the port is closed; two at once could count as one.
    until(|| TcpStream::connect(&origin.address).is_err());
    assert_eq!(origin.end("TERM").code(), Some(4));
}

#[test]
fn listens_on_ipv6_and_unix_sockets() {
    let six = start(&["--listen", "[::1]:0"]);
    assert_eq!(get(&six.address, "/").status, 200);

    let path = std::env::temp_dir().join(format!("plimsoll-origin-{}.sock", std::process::id()));
    let listen = format!("unix:{}", path.display());
    // What a killed process leaves behind does not stand in the way.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let unix = start(&["--listen", &listen, "--name", "u"]);
    assert_eq!(unix.first_line, format!("origin u listening on {listen}"));
    let stream = UnixStream::connect(&path).unwrap();
    let answer = parse(&exchange(stream, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
    assert_eq!(answer.json()["address"], listen);
    assert_eq!(unix.end("TERM").code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn a_taken_port_is_code_3_and_says_so() {
    let first = start(&["--listen", "127.0.0.1:0"]);
    let second = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .args(["origin", "--listen", &first.address])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(3));
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(message.contains(&format!("cannot listen on {}", first.address)), "{message}");
}
