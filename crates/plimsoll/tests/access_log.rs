//! The access log: what a line says, in which format, and that nothing about it ever delays a request.
//!
//! Lines are compared with what the client sent and received, byte for byte where the line counts bytes. The last tests
//! hold `docs/ACCESS_LOG.md` against the lines and against the program's own lists of reasons and letters.

#[path = "support/rig.rs"]
mod rig;
mod support;

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use rig::{PROGRAM, ask, before, fresh_path, memory, ok, until};
use serde_json::{Value, json};
use support::{Client, Origin, Plimsoll, Step, get};

/// The keys of a line, in their order.
const KEYS: [&str; 17] = [
    "time",
    "client",
    "method",
    "host",
    "path",
    "status",
    "received_bytes",
    "sent_bytes",
    "route",
    "backend",
    "server",
    "attempts",
    "connect_ms",
    "first_byte_ms",
    "total_ms",
    "end",
    "reason",
];

/// Two named routes before one server: `/api/*` goes there, `/here` is answered by itself.
fn program(server: SocketAddr) -> Plimsoll {
    Plimsoll::start(&format!(
        "workers = 1\ntrusted = [\"127.0.0.0/8\"]\n[[listen]]\nbind = \"127.0.0.1:0\"\n\
         [backend.b]\nservers = [{{ address = \"{server}\", name = \"one\" }}]\n\
         [[route]]\nname = \"api\"\npath = \"/api/*\"\nto = \"b\"\n\
         [[route]]\nname = \"here\"\npath = \"/here\"\nrespond = {{ body = \"hi\\n\" }}\n"
    ))
}

/// Asks, closes, and gives the bytes that came and the one line that was written.
fn logged(program: &Plimsoll, request: &[u8]) -> (usize, Value) {
    let before = program.log_lines().len();
    let mut client = Client::connect(program.address());
    client.send(request);
    client.finish_sending();
    let came = client.read(usize::MAX).len();
    until("a line", || program.log_lines().len() == before + 1);
    (came, program.log_lines().pop().expect("it is there"))
}

/// The fields whose values can be foretold.
fn told(line: &Value) -> Value {
    let mut told = line.clone();
    let fields = told.as_object_mut().expect("an object");
    for measured in ["time", "connect_ms", "first_byte_ms", "total_ms"] {
        fields.shift_remove(measured);
    }
    told
}

/// Digits as 0 and letters as a.
fn shape(text: &str) -> String {
    let class = |c: char| match c {
        '0'..='9' => '0',
        'a'..='z' | 'A'..='Z' => 'a',
        other => other,
    };
    text.chars().map(class).collect()
}

fn ms(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("{key} is no number in {line}"))
}

// ---- JSON ----

#[test]
fn every_line_has_every_key_in_order_whatever_happened() {
    let origin = Origin::scripted(vec![vec![Step::Read, Step::Send(b"nonsense\r\n\r\n".to_vec())]]);
    let program = program(origin.address());
    for request in [
        "GET /api/bad HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /none HTTP/1.0\r\n\r\n",
        "GET /here HTTP/1.0\r\n\r\n",
        "junk\r\n\r\n",
    ] {
        let (_, line) = logged(&program, request.as_bytes());
        let keys: Vec<&String> = line.as_object().expect("an object").keys().collect();
        assert_eq!(keys, KEYS, "{line}");
    }
}

#[test]
fn a_get_is_told_in_full() {
    let origin = Origin::serve();
    let program = program(origin.address());
    let request =
        b"GET /api/x?q=\"1\" HTTP/1.1\r\nHost: Shop.example:81\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";
    let request = String::from_utf8_lossy(request).replace('"', "%22").into_bytes();
    let (came, line) = logged(&program, &request);
    assert_eq!(
        told(&line),
        json!({
            "client": "203.0.113.9", "method": "GET", "host": "Shop.example:81", "path": "/api/x?q=%221%22", "status": 200,
            "received_bytes": request.len(), "sent_bytes": came, "route": "api", "backend": "b", "server": "one",
            "attempts": 1, "end": "--", "reason": null
        })
    );
    assert_eq!(shape(line["time"].as_str().expect("text")), "0000-00-00a00:00:00.000a");
    assert!(line["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
    assert!(0.0 < ms(&line, "connect_ms") && ms(&line, "connect_ms") <= ms(&line, "first_byte_ms"), "{line}");
    assert!(ms(&line, "first_byte_ms") <= ms(&line, "total_ms"), "{line}");
    let (_, next) = logged(&program, &request);
    assert_eq!(ms(&next, "connect_ms"), 0.0, "over the pooled connection: {next}");
    assert!(next["time"].as_str() >= line["time"].as_str(), "{line} {next}");
}

#[test]
fn received_bytes_are_the_whole_request_however_it_arrives() {
    let origin = Origin::serve();
    let program = program(origin.address());
    let head = "POST /api/up HTTP/1.1\r\nHost: a\r\n";
    let chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n0\r\n\r\n");
    let length = format!("{head}Content-Length: 5\r\n\r\nhello");
    for request in [&chunks, &length] {
        let (came, line) = logged(&program, request.as_bytes());
        assert_eq!(line["received_bytes"], request.len(), "in one piece: {line}");
        assert_eq!(line["sent_bytes"], came, "{line}");
        assert_eq!(line["method"], "POST");
    }
    // The body in a segment of its own.
    let mut client = Client::connect(program.address());
    client.send(&length.as_bytes()[..length.len() - 5]);
    origin.wait_until("the head", |all| all.iter().any(|c| c.received.len() > c.taken));
    client.send(b"hello");
    assert_eq!(client.answer().whole().status, 200);
    until("the third line", || program.log_lines().len() == 3);
    assert_eq!(program.log_lines()[2]["received_bytes"], length.len());
}

#[test]
fn received_bytes_are_a_requests_own_also_when_the_next_came_with_it() {
    let origin = Origin::serve();
    let program = program(origin.address());
    let request = "POST /api/up HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let mut client = Client::connect(program.address());
    client.send(request.repeat(3).as_bytes());
    for _ in 0..3 {
        assert_eq!(client.answer().whole().status, 200);
    }
    until("all lines", || program.log_lines().len() == 3);
    for line in program.log_lines() {
        assert_eq!(line["received_bytes"], request.len(), "{line}");
    }
}

#[test]
fn an_answer_of_its_own_has_a_route_and_no_server() {
    let origin = Origin::serve();
    let program = program(origin.address());
    let request = b"GET /here HTTP/1.1\r\nHost: a\r\n\r\n";
    let (came, line) = logged(&program, request);
    assert_eq!(
        told(&line),
        json!({
            "client": "127.0.0.1", "method": "GET", "host": "a", "path": "/here", "status": 200,
            "received_bytes": request.len(), "sent_bytes": came, "route": "here", "backend": null, "server": null,
            "attempts": 0, "end": "L-", "reason": null
        })
    );
    assert_eq!((&line["connect_ms"], &line["first_byte_ms"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_404_has_no_route() {
    let origin = Origin::serve();
    let program = program(origin.address());
    let request = b"DELETE /nowhere HTTP/1.1\r\nHost: a\r\n\r\n";
    let (came, line) = logged(&program, request);
    assert_eq!(
        told(&line),
        json!({
            "client": "127.0.0.1", "method": "DELETE", "host": "a", "path": "/nowhere", "status": 404,
            "received_bytes": request.len(), "sent_bytes": came, "route": null, "backend": null, "server": null,
            "attempts": 0, "end": "LC", "reason": "no_route"
        })
    );
}

#[test]
fn a_bad_request_says_what_was_wrong() {
    let origin = Origin::serve();
    let program = program(origin.address());
    // Refused while it was read: nothing of it is believed.
    let request = b"GET /api/ HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n";
    let (came, line) = logged(&program, request);
    assert_eq!(
        told(&line),
        json!({
            "client": "127.0.0.1", "method": null, "host": null, "path": null, "status": 400,
            "received_bytes": request.len(), "sent_bytes": came, "route": null, "backend": null, "server": null,
            "attempts": 0, "end": "PR", "reason": "bad_field_name"
        })
    );
    // Refused for what it means.
    let (_, line) = logged(&program, b"GET http://b/api/ HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        (&line["status"], &line["end"], &line["reason"]),
        (&421.into(), &"PR".into(), &"host_mismatch".into())
    );
    assert_eq!(line["method"], "GET");
}

#[test]
fn attempts_count_every_try_and_the_last_server_is_named() {
    let dead = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = dead.local_addr().expect("it is bound");
    drop(dead);
    let origin = Origin::serve();
    let text = format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"b\"\n[backend.b]\nbalance = \"first\"\n\
         servers = [{{ address = \"{address}\", name = \"dead\" }}, {{ address = \"{}\", name = \"alive\" }}]\n",
        origin.address()
    );
    let program = Plimsoll::start(&text);
    let (_, line) = logged(&program, &get("/"));
    assert_eq!((&line["attempts"], &line["server"]), (&2.into(), &"alive".into()), "{line}");
    drop(origin);
    let program = before(&[address], "");
    let (_, line) = logged(&program, &get("/"));
    assert_eq!(
        (&line["status"], &line["end"], &line["reason"]),
        (&502.into(), &"SC".into(), &"connect_failed".into())
    );
    assert_eq!((&line["attempts"], &line["first_byte_ms"]), (&1.into(), &Value::Null), "{line}");
}

#[test]
fn what_a_client_writes_cannot_break_a_line() {
    let origin = Origin::serve();
    let program = program(origin.address());
    let (_, line) = logged(&program, b"GET /api/a\"b\\c HTTP/1.1\r\nHost: a\r\n\r\n");
    match line["status"].as_u64() {
        Some(200) => assert_eq!(line["path"], "/api/a\"b\\c"),
        other => assert_eq!(other, Some(400), "{line}"),
    }
}

// ---- common and combined ----

/// The lines of a log in this format, each with its time replaced by `T`.
fn classic(format: &str, requests: &[&str]) -> Vec<String> {
    let path = fresh_path("classic.log");
    let origin = Origin::scripted(vec![vec![Step::Read, Step::Send(ok("hello")), Step::Close]]);
    let program = before(
        &[origin.address()],
        &format!("[log]\nformat = \"{format}\"\noutput = \"{}\"\n", path.display()),
    );
    let mut lines = Vec::new();
    for request in requests {
        exchange_once(&program, request.as_bytes());
        until("a line", || {
            lines = std::fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned).collect();
            lines.len() == requests.iter().position(|r| r == request).expect("it is one") + 1
        });
    }
    std::fs::remove_file(&path).expect("it is there");
    lines.iter().map(|line| without_time(line)).collect()
}

fn exchange_once(program: &Plimsoll, request: &[u8]) {
    let mut client = Client::connect(program.address());
    client.send(request);
    client.finish_sending();
    client.read(usize::MAX);
}

fn without_time(line: &str) -> String {
    let (start, rest) = line.split_once('[').expect("a time");
    let (time, end) = rest.split_once(']').expect("a time");
    assert_eq!(shape(time), "00/aaa/0000:00:00:00 +0000", "{line}");
    format!("{start}T{end}")
}

const BROWSED: &str =
    "GET /a?b HTTP/1.1\r\nHost: a\r\nReferer: http://x/\r\nUser-Agent: \"quoted\" 1.0\r\n\r\n";
const OLD: &str = "GET /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
const JUNK: &str = "junk\r\n\r\n";

#[test]
fn common_lines_are_what_tools_expect() {
    // HTTP/1.1 200 OK, Content-Length: 5, two CRLF, hello.
    let sent = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".len();
    let lines = classic("common", &[BROWSED, OLD, JUNK]);
    assert_eq!(lines[0], format!("127.0.0.1 - - T \"GET /a?b HTTP/1.1\" 200 {sent}"));
    let (start, length) = lines[1].rsplit_once(' ').expect("a length");
    assert_eq!(start, "127.0.0.1 - - T \"GET /a HTTP/1.0\" 400");
    assert!(length.parse::<u64>().is_ok(), "{}", lines[1]);
    assert!(lines[2].starts_with("127.0.0.1 - - T \"-\" 400 "), "{}", lines[2]);
}

#[test]
fn combined_lines_add_referer_and_user_agent() {
    let sent = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".len();
    let lines = classic("combined", &[BROWSED, JUNK]);
    assert_eq!(
        lines[0],
        format!("127.0.0.1 - - T \"GET /a?b HTTP/1.1\" 200 {sent} \"http://x/\" \"\\\"quoted\\\" 1.0\"")
    );
    assert!(
        lines[1].starts_with("127.0.0.1 - - T \"-\" 400 ") && lines[1].ends_with(" \"-\" \"-\""),
        "{}",
        lines[1]
    );
}

#[test]
fn off_writes_nothing() {
    let origin = Origin::serve();
    let program = before(&[origin.address()], "[log]\nformat = \"off\"\n");
    assert_eq!(ask(program.address(), get("/")).status(), Some(200));
    assert!(program.log_lines().is_empty());
    assert_eq!(program.stop().code(), Some(0));
}

// ---- outputs ----

#[test]
fn a_file_is_appended_to() {
    let path = fresh_path("kept.log");
    std::fs::write(&path, "from before\n").expect("the test's own directory can be written");
    let origin = Origin::serve();
    let program = before(&[origin.address()], &format!("[log]\noutput = \"{}\"\n", path.display()));
    assert_eq!(ask(program.address(), get("/x")).status(), Some(200));
    // Everything is written by the time it has ended.
    assert_eq!(program.stop().code(), Some(0));
    let lines: Vec<String> =
        std::fs::read_to_string(&path).expect("it is there").lines().map(str::to_owned).collect();
    assert_eq!((lines.len(), lines[0].as_str()), (2, "from before"));
    let line: Value = serde_json::from_str(&lines[1]).expect("JSON");
    assert_eq!(line["path"], "/x");
    std::fs::remove_file(path).expect("it is there");
}

#[test]
fn a_log_that_cannot_be_opened_is_exit_code_3_and_names_the_file() {
    let text = "[[listen]]\nbind = \"127.0.0.1:0\"\nto = [\"127.0.0.1:9\"]\n[log]\noutput = \"/nonexistent/a.log\"\n";
    let (code, said) = rig::refuses(Command::new(PROGRAM), text);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("/nonexistent/a.log"), "{said}");
}

/// Answered by itself, so that the log is the only thing that could hold a request up.
fn quick(log: &str) -> String {
    format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\n[[route]]\npath = \"/*\"\nrespond = {{ status = 204 }}\n{log}"
    )
}

/// Sends so many requests, a hundred in a piece, and sees each answered.
fn hurry(program: &Plimsoll, hundreds: usize) {
    let piece = get("/a/path/of/some/length/to/make/the/line/longer").repeat(100);
    for _ in 0..hundreds.div_ceil(50) {
        let mut client = Client::connect(program.address());
        for _ in 0..hundreds.min(50) {
            client.send(&piece);
            for _ in 0..100 {
                assert_eq!(client.answer().whole().status, 204);
            }
        }
    }
}

/// Whether it said that lines were dropped; the reason for it.
fn dropped(program: &Plimsoll) -> Option<String> {
    program.stderr_lines().into_iter().find(|line| line.contains("lines dropped"))
}

#[test]
fn a_full_disk_slows_no_request_and_is_reported() {
    let program = Plimsoll::start(&quick("[log]\noutput = \"/dev/full\"\n"));
    hurry(&program, 250);
    until("the drop is reported", || dropped(&program).is_some());
    let said = dropped(&program).expect("it is there");
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(program.stop().code(), Some(0));
}

#[test]
fn a_reader_that_is_stuck_slows_no_request_and_is_reported() {
    let (mut reader, writer) = std::io::pipe().expect("descriptors suffice");
    let program = Plimsoll::start_by(Command::new(PROGRAM), &quick(""), Stdio::from(writer));
    hurry(&program, 50);
    let (early, _) = memory(&program);
    hurry(&program, 400);
    until("the drop is reported", || dropped(&program).is_some());
    let (late, _) = memory(&program);
    assert!(late.saturating_sub(early) < 16 << 20, "waiting lines grew by {} KiB", (late - early) >> 10);
    // Once somebody reads again, lines come again, whole ones only.
    let lines = std::thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).expect("a pipe can be read");
        all
    });
    hurry(&program, 1);
    assert_eq!(program.stop().code(), Some(0));
    let lines = lines.join().expect("it reads");
    let lines = String::from_utf8(lines).expect("UTF-8");
    assert!(lines.lines().count() > 100);
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(line["status"], 204);
    }
}

#[test]
fn a_reader_that_is_gone_stops_nothing() {
    let (reader, writer) = std::io::pipe().expect("descriptors suffice");
    let program = Plimsoll::start_by(Command::new(PROGRAM), &quick(""), Stdio::from(writer));
    drop(reader);
    hurry(&program, 10);
    until("the drop is reported", || dropped(&program).is_some());
    hurry(&program, 10);
    assert_eq!(program.stop().code(), Some(0));
}

// ---- the document ----

const DOCUMENT: &str = include_str!("../../../docs/ACCESS_LOG.md");
const ERRORS: &str = include_str!("../../plimsoll-proxy/src/error.rs");
const REASONS: &str = include_str!("../../plimsoll-http/src/reason.rs");

/// The part of a source text from one function to the next.
fn function<'s>(source: &'s str, from: &str, to: &str) -> &'s str {
    let start = source.find(from).unwrap_or_else(|| panic!("no {from}"));
    let length = source[start..].find(to).unwrap_or_else(|| panic!("no {to} after {from}"));
    &source[start..start + length]
}

/// The texts between `open` and `close`.
fn between<'s>(source: &'s str, open: &str, close: &str) -> BTreeSet<&'s str> {
    source.split(open).skip(1).filter_map(|rest| rest.split(close).next()).collect()
}

/// What stands in the first column of the document's table under this heading.
fn documented(heading: &str) -> Vec<&'static str> {
    let (_, section) =
        DOCUMENT.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let section = section.split("\n## ").next().expect("it has a start");
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `"));
    cells.filter_map(|line| line.split('`').next()).collect()
}

#[test]
fn the_document_has_every_key_in_order() {
    assert_eq!(documented("Fields"), KEYS);
}

#[test]
fn the_document_has_every_reason_and_no_other() {
    let mut reasons = between(function(ERRORS, "fn reason(", "fn status("), "=> \"", "\"");
    reasons.extend(between(function(REASONS, "fn name(", "fn status("), "=> \"", "\""));
    assert!(reasons.len() > 40, "{reasons:?}");
    let in_the_document = documented("Reasons");
    let unique: BTreeSet<&str> = in_the_document.iter().copied().collect();
    assert_eq!(unique.len(), in_the_document.len(), "each once");
    assert_eq!(unique, reasons);
}

#[test]
fn the_document_has_every_letter_and_no_other() {
    let letters = between(function(ERRORS, "fn letters(", "fn sentence("), "=> b'", "'");
    let mut in_the_document: BTreeSet<&str> = documented("Who ended it").into_iter().collect();
    in_the_document.extend(documented("In which phase"));
    // `-` is for what ended well, `L-` for an answer of its own, which are not errors.
    assert!(in_the_document.remove("-"));
    assert_eq!(in_the_document, letters);
}
