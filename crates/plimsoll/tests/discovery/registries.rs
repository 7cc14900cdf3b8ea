//! Registries: asked over HTTP, with the tag of what was taken; failing, huge, slow, and back.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use crate::stage::{before, json, sites, soon, source, until_asked, until_failing, until_served_by};
use crate::support::Watched;

const A: &str = "127.0.0.41";
const B: &str = "127.0.0.42";

/// What it answers next, and what it was asked.
#[derive(Default)]
struct Mind {
    /// The list and its tag; with a tag, whoever has it already gets a 304.
    list: String,
    tag: Option<String>,
    /// In place of all that.
    instead: Option<Vec<u8>>,
    heads: Vec<String>,
    unchanged: u64,
}

/// A registry. Serves until the test's process ends.
struct Registry {
    port: u16,
    mind: Arc<Watched<Mind>>,
}

impl Registry {
    fn start(list: &str, tag: Option<&str>) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let port = listener.local_addr().expect("it is bound").port();
        let mind = Mind { list: list.to_owned(), tag: tag.map(str::to_owned), ..Mind::default() };
        let mind = Arc::new(Watched::new(mind));
        let registry = Registry { port, mind: Arc::clone(&mind) };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mind = Arc::clone(&mind);
                std::thread::spawn(move || answer(stream, &mind));
            }
        });
        registry
    }

    fn set(&self, list: &str, tag: Option<&str>) {
        self.mind.change(|mind| {
            (mind.list, mind.tag, mind.instead) = (list.to_owned(), tag.map(str::to_owned), None);
        });
    }

    fn fail(&self, bytes: &[u8]) {
        self.mind.change(|mind| mind.instead = Some(bytes.to_vec()));
    }

    fn backend(&self, more: &str) -> String {
        format!(
            "discover = {{ http = \"http://localhost:{}/servers?of=web\", every = \"1s\"{more} }}",
            self.port
        )
    }
}

fn answer(mut stream: TcpStream, mind: &Watched<Mind>) -> Option<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let bytes = mind.change(|mind| {
        mind.heads.push(head.clone());
        if let Some(instead) = &mind.instead {
            return instead.clone();
        }
        let field = mind.tag.as_ref().map(|tag| format!("ETag: {tag}\r\n")).unwrap_or_default();
        let has_it = mind.tag.as_ref().is_some_and(|tag| head.contains(&format!("if-none-match: {tag}\r\n")));
        if has_it {
            mind.unchanged += 1;
            return format!("HTTP/1.1 304 Not Modified\r\n{field}\r\n").into_bytes();
        }
        let list = &mind.list;
        format!("HTTP/1.1 200 OK\r\n{field}Content-Length: {}\r\n\r\n{list}", list.len()).into_bytes()
    });
    stream.write_all(&bytes).ok()
}

#[test]
fn a_registry_is_asked_with_the_tag_of_what_was_taken() {
    let port = sites(&[A, B]);
    let registry = Registry::start(&json(&[A], port), Some("\"1\""));
    let program = before(&registry.backend(""));
    until_served_by(&program, &[A], port);
    soon("nothing has changed", || {
        let unchanged = registry.mind.look(|mind| mind.unchanged);
        if unchanged >= 2 { Ok(()) } else { Err(unchanged) }
    });
    let found = source(&program);
    assert_eq!(
        (&found["changes"], &found["failures"], &found["failing"]),
        (&1.into(), &0.into(), &false.into())
    );
    registry.set(&json(&[A, B], port), Some("\"2\""));
    until_served_by(&program, &[A, B], port);
    let head = registry.mind.look(|mind| mind.heads[0].clone());
    assert!(head.starts_with("GET /servers?of=web HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: localhost:{}\r\n", registry.port)), "{head}");
    assert!(head.contains("user-agent: plimsoll/") && !head.contains("if-none-match"), "{head}");
    // Without a tag it works, too.
    registry.set(&json(&[B], port), None);
    until_served_by(&program, &[B], port);
}

#[test]
fn whatever_goes_wrong_the_last_list_stays() {
    let port = sites(&[A, B]);
    let registry = Registry::start(&json(&[A], port), Some("\"1\""));
    let program = before(&registry.backend(""));
    until_served_by(&program, &[A], port);
    let huge = {
        let mut bytes = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        bytes.resize(5 << 20, b' ');
        bytes
    };
    let short = format!("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{}", json(&[B], port));
    for (bytes, reason) in [
        (&b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"[..], "500"),
        (b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n", "302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "it names no server"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "not JSON"),
        (b"SSH-2.0-x\r\n", "invalid"),
        (b"", "closed"),
        (&huge, "length limit exceeded"),
        (short.as_bytes(), "its answer"),
    ] {
        registry.fail(bytes);
        soon(reason, || {
            let why = until_failing(&program);
            if why.contains(reason) { Ok(()) } else { Err(why) }
        });
        until_served_by(&program, &[A], port);
    }
    registry.set(&json(&[B], port), Some("\"3\""));
    until_served_by(&program, &[B], port);
}

#[test]
fn an_unchanged_answer_to_nobodys_question_is_a_failure() {
    let registry = Registry::start("[]", None);
    registry.fail(b"HTTP/1.1 304 Not Modified\r\n\r\n");
    let program = before(&registry.backend(""));
    assert!(until_failing(&program).contains("304"));
    assert_eq!(crate::stage::who(&program), "503");
}

#[test]
fn a_tag_of_a_list_that_was_not_taken_is_not_sent() {
    let port = sites(&[A]);
    let registry = Registry::start(&json(&[A], port), Some("\"1\""));
    let program = before(&registry.backend(""));
    until_served_by(&program, &[A], port);
    registry.set("[]", Some("\"2\""));
    until_failing(&program);
    until_asked(&program, 2);
    assert_eq!(source(&program)["failing"], true, "a 304 would have said that all is well");
    let last = registry.mind.look(|mind| mind.heads.last().expect("it was asked").clone());
    assert!(last.contains("if-none-match: \"1\""), "{last}");
}
