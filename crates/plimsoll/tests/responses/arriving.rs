//! Answers that arrive: framing, versions, fields, bodies whole, and nothing behind them.

use crate::stage::{CHUNKED, CHUNKS, HEAD, LENGTH, OLD, OLD_KEPT, Stage, asked, each, ok, send};
use crate::support::oracle::Response;
use crate::support::{Answer, Step, get, show};

/// An answer as a client is to see it.
#[derive(Default)]
struct Seen {
    request: Vec<u8>,
    answer: Vec<u8>,
    /// The server closes after the answer.
    until_close: bool,
    status: u16,
    body: &'static str,
    with: Vec<(&'static str, &'static str)>,
    without: Vec<&'static str>,
    /// The client's connection ends.
    closes: bool,
    /// Whether the server's connection is used again, where that is not free.
    reused: Option<bool>,
}

impl Seen {
    fn new(request: impl Into<Vec<u8>>, answer: impl Into<Vec<u8>>) -> Self {
        let (request, answer) = (request.into(), answer.into());
        Self { request, answer, status: 200, body: "hello", reused: Some(true), ..Self::default() }
    }

    fn run(self) -> Result<(), String> {
        let end = if self.until_close { Step::Close } else { Step::Serve };
        let stage = Stage::new(vec![vec![Step::Read, send(self.answer.clone()), end]]);
        let mut client = stage.client();
        client.send(&self.request);
        match client.answer_to(asked(&self.request)) {
            Answer::Whole(response) => self.check(&response)?,
            answer => return Err(format!("the client got {}", answer.describe())),
        }
        if self.closes && !client.is_closed() {
            return Err("the client's connection was left open".to_owned());
        }
        if !self.closes {
            client.send(&get("/again"));
            match client.answer() {
                Answer::Whole(response) if response.body.ends_with(b" GET /again\n") => {}
                answer => return Err(format!("on the same connection then came {}", answer.describe())),
            }
        }
        let connection = stage.ask_after();
        match self.reused {
            Some(reused) if reused != (connection == 0) => {
                Err(format!("the next request travelled on connection {connection}"))
            }
            _ => Ok(()),
        }
    }

    fn check(&self, response: &Response) -> Result<(), String> {
        let fault = |what: String| Err(format!("the client got {what}: {response:?}"));
        if response.status != self.status || response.body != self.body.as_bytes() {
            return fault(format!("{} with {}", response.status, show(&response.body)));
        }
        if response.version != 1 || response.keep_alive == self.closes {
            return fault(format!("version 1.{}, keep-alive {}", response.version, response.keep_alive));
        }
        for (name, value) in &self.with {
            if response.fields.all(name) != [value.as_bytes()] {
                return fault(format!("not exactly one {name}: {value}"));
            }
        }
        for name in self.without.iter().chain(&["keep-alive", "proxy-connection", "upgrade", "te", "trailer"])
        {
            if response.fields.has(name) {
                return fault((*name).to_owned());
            }
        }
        match response.trailers.0.is_empty() {
            true => Ok(()),
            false => fault("trailers".to_owned()),
        }
    }
}

#[test]
fn framing_is_generated_anew() {
    let plain = || Seen::new(get("/one"), ok(LENGTH, "hello"));
    let chunks = || Seen::new(get("/one"), ok(CHUNKED, CHUNKS));
    let old = |fields: &str, rest: &str| format!("HTTP/1.0 200 OK\r\n{fields}\r\n{rest}");
    let unframed =
        || Seen { until_close: true, reused: Some(false), ..Seen::new(get("/one"), ok("", "hello")) };
    let cases = vec![
        (
            "by length",
            Seen { with: vec![("content-length", "5")], without: vec!["transfer-encoding"], ..plain() },
        ),
        (
            "chunked",
            Seen {
                with: vec![("transfer-encoding", "chunked")],
                without: vec!["content-length"],
                ..chunks()
            },
        ),
        ("chunked in other case", Seen::new(get("/one"), ok("transfer-encoding:\tChunked \r\n", CHUNKS))),
        ("chunk extensions", Seen::new(get("/one"), ok(CHUNKED, "5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n"))),
        (
            "trailers",
            Seen::new(get("/one"), ok(CHUNKED, "5\r\nhello\r\n0\r\nX: y\r\nContent-Length: 9\r\n\r\n")),
        ),
        ("until close", Seen { with: vec![("transfer-encoding", "chunked")], ..unframed() }),
        ("until close and empty", Seen { body: "", answer: ok("", "").into(), ..unframed() }),
        ("until close, said so", Seen { answer: ok("Connection: close\r\n", "hello").into(), ..unframed() }),
        ("until close from 1.0", Seen { answer: old("", "hello").into(), ..unframed() }),
        (
            "by length from 1.0",
            Seen { until_close: true, reused: Some(false), ..Seen::new(get("/one"), old(LENGTH, "hello")) },
        ),
        (
            "kept alive from 1.0",
            Seen {
                reused: None,
                ..Seen::new(get("/one"), old("Connection: keep-alive\r\nContent-Length: 5\r\n", "hello"))
            },
        ),
        (
            "by length, then close",
            Seen {
                until_close: true,
                reused: Some(false),
                ..Seen::new(get("/one"), ok("Connection: close\r\nContent-Length: 5\r\n", "hello"))
            },
        ),
        (
            "the server keeps open what it said it would close",
            Seen {
                reused: Some(false),
                ..Seen::new(get("/one"), ok("Connection: x, CLOSE\r\nContent-Length: 5\r\n", "hello"))
            },
        ),
        (
            "no content",
            Seen { status: 204, body: "", ..Seen::new(get("/one"), "HTTP/1.1 204 No Content\r\n\r\n") },
        ),
        (
            "not modified, with a length",
            Seen {
                status: 304,
                body: "",
                ..Seen::new(get("/one"), "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n")
            },
        ),
        (
            "HEAD by length",
            Seen { body: "", with: vec![("content-length", "5")], ..Seen::new(HEAD, ok(LENGTH, "")) },
        ),
        ("HEAD chunked", Seen { body: "", ..Seen::new(HEAD, ok(CHUNKED, "")) }),
        ("HEAD without framing", Seen { body: "", ..Seen::new(HEAD, ok("", "")) }),
        ("an empty body", Seen { body: "", ..Seen::new(get("/one"), ok("Content-Length: 0\r\n", "")) }),
        (
            "an error",
            Seen {
                status: 599,
                ..Seen::new(get("/one"), "HTTP/1.1 599 x\r\nContent-Length: 5\r\n\r\nhello")
            },
        ),
        (
            "an empty reason",
            Seen { status: 299, ..Seen::new(get("/one"), "HTTP/1.1 299 \r\nContent-Length: 5\r\n\r\nhello") },
        ),
        ("a reason in UTF-8", Seen::new(get("/one"), "HTTP/1.1 200 schön\r\nContent-Length: 5\r\n\r\nhello")),
    ];
    each(cases, Seen::run);
}

#[test]
fn clients_of_1_0_get_what_they_understand() {
    let to_old =
        |answer: String| Seen { closes: true, without: vec!["transfer-encoding"], ..Seen::new(OLD, answer) };
    let to_kept = |answer: String| Seen { without: vec!["transfer-encoding"], ..Seen::new(OLD_KEPT, answer) };
    let interims = format!("HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n{}", ok(LENGTH, "hello"));
    let cases = vec![
        ("by length", to_old(ok(LENGTH, "hello"))),
        ("chunked", to_old(ok(CHUNKED, CHUNKS))),
        ("until close", Seen { until_close: true, reused: Some(false), ..to_old(ok("", "hello")) }),
        ("interims", to_old(interims.clone())),
        ("kept alive by length", to_kept(ok(LENGTH, "hello"))),
        ("kept alive, chunked", Seen { closes: true, ..to_kept(ok(CHUNKED, CHUNKS)) }),
        (
            "kept alive, until close",
            Seen { closes: true, until_close: true, reused: Some(false), ..to_kept(ok("", "hello")) },
        ),
    ];
    each(cases, Seen::run);

    let stage = Stage::new(vec![vec![Step::Read, send(interims), Step::Serve]]);
    assert!(stage.ask(OLD).whole().interims.is_empty(), "an interim went to a 1.0 client");
}

#[test]
fn hop_by_hop_fields_of_answers_are_removed() {
    let answer = |fields: &str| ok(&format!("{fields}{LENGTH}"), "hello");
    let seen = |fields: &str| Seen::new(get("/one"), answer(fields));
    let cases = vec![
        (
            "named by Connection",
            Seen { without: vec!["x-secret"], ..seen("Connection: X-Secret\r\nX-Secret: 1\r\n") },
        ),
        (
            "named behind it",
            Seen { without: vec!["x-secret"], ..seen("X-Secret: 1\r\nConnection: x-SECRET\r\n") },
        ),
        (
            "a list",
            Seen {
                without: vec!["x-one", "x-two"],
                with: vec![("x-three", "3")],
                ..seen("Connection: X-One,, X-Two\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\n")
            },
        ),
        (
            "length named",
            Seen { with: vec![("content-length", "5")], ..seen("Connection: Content-Length\r\n") },
        ),
        ("Keep-Alive", seen("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n")),
        ("Keep-Alive unnamed", seen("Keep-Alive: timeout=5\r\n")),
        ("Proxy-Connection", seen("Proxy-Connection: keep-alive\r\n")),
        ("Upgrade", seen("Connection: upgrade\r\nUpgrade: h2c\r\n")),
        ("Upgrade unnamed", seen("Upgrade: h2,h2c\r\n")),
        (
            "end-to-end fields stay",
            Seen {
                with: vec![("server", "x"), ("date", "now"), ("set-cookie", "a=b; c"), ("etag", "\"e\"")],
                ..seen("Server: x\r\nDate: now\r\nSet-Cookie: a=b; c\r\nETag: \"e\"\r\n")
            },
        ),
    ];
    each(cases, Seen::run);
}

#[test]
fn order_and_spelling_of_fields_are_kept() {
    let fields = "X-b: 1\r\nSet-Cookie: a=1\r\nx-A: 2\r\nSET-COOKIE: b=2\r\n";
    let stage =
        Stage::new(vec![vec![Step::Read, send(ok(&format!("{fields}{LENGTH}"), "hello")), Step::Serve]]);
    let got = stage.ask(&get("/one")).whole().fields;
    let kept: Vec<String> =
        got.0.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    let kept: Vec<&str> = kept.iter().map(String::as_str).filter(|name| fields.contains(name)).collect();
    assert_eq!(kept, ["X-b", "Set-Cookie", "x-A", "SET-COOKIE"]);
    assert_eq!(got.all("set-cookie"), [b"a=1", b"b=2"]);
}

#[test]
fn chunk_extensions_and_trailers_are_not_passed_on() {
    let body = "5;secret=1\r\nhello\r\n0;secret=2\r\nSecret: 3\r\n\r\n";
    let stage = Stage::new(vec![vec![Step::Read, send(ok(CHUNKED, body)), Step::Serve]]);
    let mut client = stage.client();
    client.send(&get("/one"));
    let raw = client
        .read_until(|bytes| bytes.ends_with(b"\r\n\r\n") && bytes.windows(5).any(|part| part == b"hello"));
    let text = String::from_utf8_lossy(raw).to_ascii_lowercase();
    assert!(text.contains("hello") && !text.contains("secret"), "{text}");
}

#[test]
fn large_bodies_arrive_intact() {
    let data: String = (0..60_000).map(|n| format!("{n:06x}")).collect();
    let chunks: String = data
        .as_bytes()
        .chunks(7_001)
        .map(|part| format!("{:x}\r\n{}\r\n", part.len(), String::from_utf8_lossy(part)))
        .collect();
    let answers = vec![
        ("by length", ok(&format!("Content-Length: {}\r\n", data.len()), &data)),
        ("chunked", ok(CHUNKED, &format!("{chunks}0\r\n\r\n"))),
        ("until close", ok("", &data)),
    ];
    each(answers, |answer| {
        let stage = Stage::new(vec![vec![Step::Read, send(answer), Step::Close]]);
        match stage.ask(&get("/one")) {
            Answer::Whole(response) if response.body == data.as_bytes() => Ok(()),
            answer => Err(answer.describe()),
        }
    });
}

#[test]
fn surplus_bytes_never_reach_the_next_client() {
    const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let plain = ok(LENGTH, "hello");
    let surplus = |request: &[u8], answer: String| Seen { reused: Some(false), ..Seen::new(request, answer) };
    let bodiless =
        |request: &[u8], status: u16, answer: String| Seen { status, body: "", ..surplus(request, answer) };
    let one = get("/one");
    let cases = vec![
        ("an answer too many", surplus(&one, format!("{plain}{POISON}"))),
        ("an answer too many behind chunks", surplus(&one, format!("{}{POISON}", ok(CHUNKED, CHUNKS)))),
        ("a byte too many", surplus(&one, format!("{plain}!"))),
        ("an empty line too many", surplus(&one, format!("{plain}\r\n"))),
        ("an interim too late", surplus(&one, format!("{plain}HTTP/1.1 103 Hints\r\n\r\n"))),
        ("HEAD with a body", bodiless(HEAD, 200, ok(LENGTH, "hello"))),
        ("HEAD with chunks", bodiless(HEAD, 200, ok(CHUNKED, CHUNKS))),
        ("HEAD with an answer for a body", bodiless(HEAD, 200, ok("Content-Length: 44\r\n", POISON))),
        ("204 with a body", bodiless(&one, 204, format!("HTTP/1.1 204 x\r\n{LENGTH}\r\nhello"))),
        ("204 with chunks", bodiless(&one, 204, format!("HTTP/1.1 204 x\r\n{CHUNKED}\r\n{CHUNKS}"))),
        ("304 with a body", bodiless(&one, 304, format!("HTTP/1.1 304 x\r\n{LENGTH}\r\nhello"))),
        ("204 with an answer for a body", bodiless(&one, 204, format!("HTTP/1.1 204 x\r\n\r\n{POISON}"))),
    ];
    each(cases, Seen::run);
}
