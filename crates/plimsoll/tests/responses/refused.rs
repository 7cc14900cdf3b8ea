//! Answers that are refused: malformed ones, those of a server that leaves before the head is whole, bodies that break off.

use crate::stage::{OLD, POST, SWITCH, Stage, closed, each, ok, send};
use crate::support::{Answer, Step, get};

#[test]
fn a_malformed_answer_is_a_502_and_its_connection_is_closed() {
    each(malformed_answers(), |answer| {
        let stage = Stage::new(vec![vec![Step::Read, send(answer), Step::Hang]]);
        let answer = stage.ask(&get("/one"));
        if answer.status() != Some(502) {
            return Err(format!("the client got {}", answer.describe()));
        }
        stage.origin.wait_until("the end of the bad connection", closed(0));
        match stage.ask_after() {
            0 => Err("the connection was used again".to_owned()),
            _ => Ok(()),
        }
    });
}

fn malformed_answers() -> Vec<(&'static str, Vec<u8>)> {
    let line = |line: &str| format!("{line}\r\nContent-Length: 2\r\n\r\nok").into_bytes();
    let fields = |fields: &[u8]| [b"HTTP/1.1 200 OK\r\n", fields, b"\r\nok"].concat();
    let length = |value: &str| ok(&format!("Content-Length: {value}\r\n"), "ok").into_bytes();
    let coding =
        |value: &str| ok(&format!("Transfer-Encoding: {value}\r\n"), "2\r\nok\r\n0\r\n\r\n").into_bytes();
    vec![
        (
            "length and coding",
            ok("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n").into(),
        ),
        (
            "coding and length",
            ok("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", "2\r\nok\r\n0\r\n\r\n").into(),
        ),
        ("differing lengths", fields(b"Content-Length: 2\r\nContent-Length: 3\r\n")),
        ("differing lengths in a list", length("2, 3")),
        ("a length and an empty one", fields(b"Content-Length: 2\r\nContent-Length:\r\n")),
        ("length plus", length("+2")),
        ("length minus", length("-2")),
        ("length hexadecimal", length("0x2")),
        ("length empty", length("")),
        ("length words", length("two")),
        ("length 2^63", length("9223372036854775808")),
        ("length 2^64 and 2", length("18446744073709551618")),
        ("length two words", length("2 2")),
        ("coding unknown", coding("x")),
        ("coding identity", coding("identity")),
        ("coding empty", coding("")),
        ("coding gzip then chunked", coding("gzip, chunked")),
        ("coding chunked then gzip", coding("chunked, gzip")),
        ("coding chunked twice in a list", coding("chunked, chunked")),
        ("coding with a comma", coding(",chunked")),
        ("coding with VT", coding("\x0bchunked")),
        ("coding twice", coding("chunked\r\nTransfer-Encoding: chunked")),
        (
            "coding in 1.0",
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_vec(),
        ),
        ("status of two digits", line("HTTP/1.1 20 OK")),
        ("status of four digits", line("HTTP/1.1 2000 OK")),
        ("status of letters", line("HTTP/1.1 abc OK")),
        ("status signed", line("HTTP/1.1 +20 OK")),
        ("status 000", line("HTTP/1.1 000 OK")),
        ("status 099", line("HTTP/1.1 099 OK")),
        ("no status", line("HTTP/1.1")),
        ("no space before the status", line("HTTP/1.1200 OK")),
        ("no space behind the status", line("HTTP/1.1 200OK")),
        ("two spaces before the status", line("HTTP/1.1  200 OK")),
        ("a tab before the status", line("HTTP/1.1\t200 OK")),
        ("version 2", line("HTTP/2 200 OK")),
        ("version 1.2", line("HTTP/1.2 200 OK")),
        ("version 0.9", line("HTTP/0.9 200 OK")),
        ("version in small letters", line("http/1.1 200 OK")),
        ("another protocol", line("ICY 200 OK")),
        ("no status line", b"hello\r\n\r\n".to_vec()),
        ("an empty line before", line("\r\nHTTP/1.1 200 OK")),
        ("a space before", line(" HTTP/1.1 200 OK")),
        ("NUL in the reason", line("HTTP/1.1 200 O\0K")),
        ("a bare CR in the reason", line("HTTP/1.1 200 O\rK")),
        ("a bare LF in the reason", line("HTTP/1.1 200 O\nK")),
        ("LF behind the status line", b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok".to_vec()),
        ("LF behind a field", fields(b"Content-Length: 2\nX: y\r\n")),
        ("LF as the head's end", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok".to_vec()),
        ("LF for all line ends", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok".to_vec()),
        ("a field with a bare CR", fields(b"X: y\rz\r\nContent-Length: 2\r\n")),
        ("a field with NUL", fields(b"X: y\0\r\nContent-Length: 2\r\n")),
        ("a field with a control", fields(b"X: \x1b[2J\r\nContent-Length: 2\r\n")),
        ("a folded field", fields(b"X: y\r\n z\r\nContent-Length: 2\r\n")),
        ("a length hidden by a fold", fields(b"X: y\r\n Content-Length: 2\r\n")),
        ("a space before the colon", fields(b"X : y\r\nContent-Length: 2\r\n")),
        ("a length with a space before the colon", fields(b"Content-Length : 2\r\n")),
        ("no colon", fields(b"X\r\nContent-Length: 2\r\n")),
        ("an empty name", fields(b": y\r\nContent-Length: 2\r\n")),
        ("a name with a space", fields(b"X Y: z\r\nContent-Length: 2\r\n")),
        ("a name with obs-text", fields(b"X\xe9: z\r\nContent-Length: 2\r\n")),
        ("a field of 40,000 bytes", fields(format!("X: {}\r\n", "x".repeat(40_000)).as_bytes())),
        ("200 fields", fields("X: y\r\n".repeat(200).as_bytes())),
        ("a switch that nobody asked for", SWITCH.as_bytes().to_vec()),
        ("a switch and an answer", format!("{SWITCH}{}", ok("Content-Length: 2\r\n", "ok")).into_bytes()),
        (
            "a bad interim",
            format!("HTTP/1.1 103 Hints\r\nX : y\r\n\r\n{}", ok("Content-Length: 2\r\n", "ok")).into_bytes(),
        ),
    ]
}

#[test]
fn a_server_that_leaves_before_a_whole_head_is_a_502() {
    let partial = |bytes: &str| vec![Step::Read, send(bytes), Step::Close];
    let cases = vec![
        ("nothing", vec![Step::Read, Step::Close]),
        ("reset", vec![Step::Read, Step::Reset]),
        ("half a status line", partial("HTTP/1.1 2")),
        ("half a head", partial("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n")),
        ("only an interim", partial("HTTP/1.1 103 Hints\r\n\r\n")),
        ("half a head, then reset", vec![Step::Read, send("HTTP/1.1 200 OK\r\nX"), Step::Reset]),
    ];
    each(cases, |script| {
        let stage = Stage::new(vec![script]);
        let answer = stage.ask(POST);
        if answer.status() != Some(502) {
            return Err(format!("the client got {}", answer.describe()));
        }
        match stage.arrivals("/one") {
            1 => {
                stage.ask_after();
                Ok(())
            }
            count => Err(format!("the POST was delivered {count} times")),
        }
    });
}

#[test]
fn a_server_that_dies_in_a_body_is_seen_by_the_client() {
    let chunked = |body: &str| ok("Transfer-Encoding: chunked\r\n", body);
    let cases = vec![
        ("short by one byte", vec![send(ok("Content-Length: 6\r\n", "hello")), Step::Close]),
        ("no body at all", vec![send(ok("Content-Length: 6\r\n", "")), Step::Close]),
        ("short, then reset", vec![send(ok("Content-Length: 6\r\n", "hello")), Step::Reset]),
        ("chunked without the last chunk", vec![send(chunked("5\r\nhello\r\n")), Step::Close]),
        ("chunked, then reset", vec![send(chunked("5\r\nhello\r\n")), Step::Reset]),
        ("half a chunk", vec![send(chunked("a\r\nhello")), Step::Close]),
        ("half a chunk size", vec![send(chunked("5\r\nhello\r\n1")), Step::Close]),
        ("no end of trailers", vec![send(chunked("5\r\nhello\r\n0\r\n")), Step::Close]),
        ("half a trailer", vec![send(chunked("5\r\nhello\r\n0\r\nX: y")), Step::Close]),
        ("no chunks", vec![send(chunked("")), Step::Close]),
        ("a bad chunk size", vec![send(chunked("5\r\nhello\r\nx\r\n\r\n")), Step::Hang]),
        ("a chunk size with 0x", vec![send(chunked("5\r\nhello\r\n0x0\r\n\r\n")), Step::Hang]),
        ("a chunk size with LF", vec![send(chunked("5\r\nhello\r\n0\n\r\n")), Step::Hang]),
        ("a chunk end with LF", vec![send(chunked("5\r\nhello\n0\r\n\r\n")), Step::Hang]),
        ("a chunk that is too long", vec![send(chunked("5\r\nhello!\r\n0\r\n\r\n")), Step::Hang]),
        ("a bad chunk extension", vec![send(chunked("5\r\nhello\r\n0;\r\n\r\n")), Step::Hang]),
        ("an endless chunk extension", vec![send(chunked(&format!("5;{}", "e".repeat(1000)))), Step::Hang]),
        ("a bad trailer", vec![send(chunked("5\r\nhello\r\n0\r\nX : y\r\n\r\n")), Step::Hang]),
        ("until close, then reset", vec![send(ok("", "hello")), Step::Reset]),
    ];
    each(cases, |mut script| {
        script.insert(0, Step::Read);
        let stage = Stage::new(vec![script]);
        match stage.ask(&get("/one")) {
            // If the fault was seen before anything was passed on, there is still time to say so.
            Answer::Cut(_) | Answer::Closed => {}
            Answer::Whole(response) if response.status == 502 => {}
            answer => return Err(format!("the client got {}", answer.describe())),
        }
        stage.origin.wait_until("the end of the bad connection", closed(0));
        match (stage.ask_after(), stage.arrivals("/one")) {
            (0, _) => Err("the connection was used again".to_owned()),
            (_, 1) => Ok(()),
            (_, count) => Err(format!("the request was delivered {count} times")),
        }
    });
}

#[test]
fn a_broken_off_body_is_a_reset_where_the_end_of_the_connection_is_its_end() {
    let chunked = ok("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n");
    for end in [Step::Close, Step::Reset] {
        let stage = Stage::new(vec![vec![Step::Read, send(chunked.clone()), end]]);
        match stage.ask(OLD) {
            Answer::Cut(_) | Answer::Closed => {}
            answer => assert_eq!(answer.status(), Some(502), "{}", answer.describe()),
        }
    }
}

#[test]
fn the_log_tells_who_broke_off() {
    let cut = vec![Step::Read, send(ok("Content-Length: 6\r\n", "hello")), Step::Close];
    let stage = Stage::new(vec![cut]);
    stage.ask(&get("/cut"));
    stage.ask(&get("/fine")).whole();
    let mut client = stage.client();
    client.send(b"POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nhello");
    drop(client);
    for (path, who) in [("/cut", 'S'), ("/fine", '-'), ("/half", 'C')] {
        let line = stage.program.wait_for_log(|line| line["path"] == path);
        assert!(
            line["end"].as_str().is_some_and(|code| code.starts_with(who)),
            "{path} is not {who}: {line}"
        );
    }
}
