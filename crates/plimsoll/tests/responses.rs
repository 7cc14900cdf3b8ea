//! Bad, odd and unlucky answers, through the real program.
//!
//! A scripted server answers the first request of a connection in some way; a client looks at what comes of it; then
//! another client asks for `/two` and must get its own answer. Two things are asserted throughout: what the client
//! sees, and whether the connection to the server is used again, because what is left on it would be somebody else's
//! answer.

mod support;

use support::oracle::{Asked, Response};
use support::{Answer, Client, Connection, Gate, Origin, Plimsoll, Step, get, show};

const HEAD: &[u8] = b"HEAD /one HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &[u8] = b"POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
const OLD: &[u8] = b"GET /one HTTP/1.0\r\nHost: a\r\n\r\n";
const OLD_KEPT: &[u8] = b"GET /one HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
const WEBSOCKET: &[u8] = b"GET /one HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// The program before one server with these scripts.
struct Stage {
    origin: Origin,
    program: Plimsoll,
}

impl Stage {
    fn new(scripts: Vec<Vec<Step>>) -> Self {
        let origin = Origin::scripted(scripts);
        let program = Plimsoll::before(&[origin.address()]);
        Self { origin, program }
    }

    fn client(&self) -> Client {
        Client::connect(self.program.address())
    }

    /// Sends a request on a connection of its own.
    fn ask(&self, request: &[u8]) -> Answer {
        let mut client = self.client();
        client.send(request);
        client.answer_to(asked(request))
    }

    /// Another client asks, must get its own answer, and says on which connection to the server it travelled.
    #[track_caller]
    fn ask_after(&self) -> usize {
        let response = self.ask(&get("/two")).whole();
        assert!(response.body.ends_with(b" GET /two\n"), "the next client got {}", show(&response.body));
        let (connection, request) = self.origin.arrived(0).pop().expect("it was answered");
        assert_eq!(request.target, b"/two");
        connection
    }

    /// How often a request for the path arrived whole.
    fn arrivals(&self, path: &str) -> usize {
        self.origin.paths().iter().filter(|arrived| *arrived == path).count()
    }
}

/// What a request's answer depends on.
fn asked(request: &[u8]) -> Asked<'_> {
    let method = request.split(|&b| b == b' ').next().unwrap_or_default();
    Asked { method, upgrade: request.windows(8).any(|part| part == b"Upgrade:") }
}

fn send(bytes: impl Into<Vec<u8>>) -> Step {
    Step::Send(bytes.into())
}

/// A 200 with these field lines, each with its line end, and what follows the head.
fn ok(fields: &str, rest: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{rest}")
}

fn closed(connection: usize) -> impl Fn(&[Connection]) -> bool {
    move |connections| connections.get(connection).is_some_and(|c| c.closed)
}

/// Runs each case of a table and reports all failures together.
fn each<C>(cases: Vec<(&'static str, C)>, run: impl Fn(C) -> Result<(), String>) {
    let run = |(name, case): (&str, C)| run(case).err().map(|reason| format!("{name}: {reason}"));
    let failures: Vec<String> = cases.into_iter().filter_map(run).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

// ---- answers that are refused ----

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

// ---- answers that break off ----

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

// ---- answers that arrive ----

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

const LENGTH: &str = "Content-Length: 5\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
const CHUNKS: &str = "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";

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

// ---- bytes that nobody asked for ----

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

#[test]
fn an_idle_connection_that_receives_bytes_is_closed() {
    for poison in
        ["HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", "x", "\r\n", "HTTP/1.1 408 Timeout\r\n\r\n"]
    {
        let gate = Gate::default();
        let script =
            vec![Step::Read, send(ok(LENGTH, "hello")), Step::Wait(gate.clone()), send(poison), Step::Hang];
        let stage = Stage::new(vec![script]);
        assert_eq!(stage.ask(&get("/one")).whole().body, b"hello");
        gate.open();
        stage.origin.wait_until("the poison leave", |connections| connections[0].steps >= 4);
        assert_ne!(stage.ask_after(), 0, "the poisoned connection was used");
        stage.origin.wait_until("the end of the poisoned connection", closed(0));
    }
}

#[test]
fn an_idle_connection_that_the_server_closed_is_not_used() {
    for end in [Step::Close, Step::Reset] {
        let gate = Gate::default();
        let script = vec![Step::Read, send(ok(LENGTH, "hello")), Step::Wait(gate.clone()), end];
        let stage = Stage::new(vec![script]);
        assert_eq!(stage.ask(&get("/one")).whole().body, b"hello");
        gate.open();
        stage.origin.wait_until("the end of the idle connection", closed(0));
        let response = stage.ask(POST).whole();
        assert!(response.body.ends_with(b" POST /one\n"), "the POST got {}", show(&response.body));
        assert_eq!(stage.arrivals("/one"), 2);
    }
}

// ---- connections that die under a request ----

#[test]
fn a_get_on_a_dead_pooled_connection_is_tried_once_more() {
    for end in [Step::Close, Step::Reset] {
        let stage = Stage::new(vec![vec![Step::Read, send(ok(LENGTH, "hello")), Step::Read, end]]);
        assert_eq!(stage.ask(&get("/one")).whole().body, b"hello");
        assert_eq!(stage.ask_after(), 1);
        assert_eq!(stage.arrivals("/two"), 2, "it arrives on the dying connection and on the fresh one");
    }
}

#[test]
fn a_get_is_not_tried_for_ever() {
    let first = vec![Step::Read, send(ok(LENGTH, "hello")), Step::Read, Step::Close];
    let dying = vec![Step::Read, Step::Close];
    let stage = Stage::new(vec![first, dying.clone(), dying.clone(), dying.clone(), dying.clone(), dying]);
    assert_eq!(stage.ask(&get("/one")).whole().body, b"hello");
    assert_eq!(stage.ask(&get("/two")).status(), Some(502));
    assert!(stage.arrivals("/two") <= 4, "{} arrivals", stage.arrivals("/two"));
}

#[test]
fn a_post_on_a_dead_pooled_connection_is_a_502_and_never_delivered_twice() {
    for end in [Step::Close, Step::Reset] {
        let stage = Stage::new(vec![vec![Step::Read, send(ok(LENGTH, "hello")), Step::Read, end]]);
        assert_eq!(stage.ask(&get("/before")).whole().body, b"hello");
        assert_eq!(stage.ask(POST).status(), Some(502));
        stage.ask_after();
        assert_eq!(stage.arrivals("/one"), 1);
    }
}

#[test]
fn nothing_is_tried_again_once_the_answer_has_begun() {
    let script =
        vec![Step::Read, send(ok(LENGTH, "hello")), Step::Read, send("HTTP/1.1 200 OK\r\nX"), Step::Close];
    let stage = Stage::new(vec![script]);
    assert_eq!(stage.ask(&get("/before")).whole().body, b"hello");
    assert_eq!(stage.ask(&get("/one")).status(), Some(502));
    assert_ne!(stage.ask_after(), 0);
    assert_eq!(stage.arrivals("/one"), 1);
}

// ---- interim answers and switches ----

#[test]
fn interim_answers_are_passed_on_up_to_sixteen() {
    let interim =
        "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\nConnection: x-secret\r\nX-Secret: 1\r\n\r\n";
    for count in [1, 16] {
        let stage = Stage::new(vec![vec![
            Step::Read,
            send(interim.repeat(count) + &ok(LENGTH, "hello")),
            Step::Serve,
        ]]);
        let response = stage.ask(&get("/one")).whole();
        assert_eq!((response.interims.len(), response.body.as_slice()), (count, &b"hello"[..]));
        let (status, fields) = &response.interims[0];
        assert_eq!((*status, fields.all("link").as_slice()), (103, &[&b"</style.css>"[..]][..]));
        assert!(!fields.has("x-secret"), "{fields:?}");
        assert_eq!(stage.ask_after(), 0, "interims are no reason to close");
    }
    let stage =
        Stage::new(vec![vec![Step::Read, send(interim.repeat(17) + &ok(LENGTH, "hello")), Step::Hang]]);
    assert_eq!(stage.ask(&get("/one")).status(), Some(502));
    stage.origin.wait_until("the end of the talkative connection", closed(0));
    assert_ne!(stage.ask_after(), 0);
}

#[test]
fn unasked_and_odd_interims_do_not_hide_the_answer() {
    let cases = vec![
        ("100 unasked", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("102", "HTTP/1.1 102 Processing\r\n\r\n"),
        ("199", "HTTP/1.1 199 x\r\n\r\n"),
        ("103 with a length", "HTTP/1.1 103 Hints\r\nContent-Length: 5\r\n\r\n"),
    ];
    each(cases, |interim| {
        let stage =
            Stage::new(vec![vec![Step::Read, send(interim.to_owned() + &ok(LENGTH, "hello")), Step::Serve]]);
        match stage.ask(&get("/one")) {
            Answer::Whole(response) if response.status == 200 && response.body == b"hello" => {}
            answer => return Err(format!("the client got {}", answer.describe())),
        }
        match stage.ask_after() {
            0 => Ok(()),
            _ => Err("the connection was not used again".to_owned()),
        }
    });
}

#[test]
fn a_client_that_expects_is_told_to_continue() {
    let stage = Stage::new(Vec::new());
    let mut client = stage.client();
    client.send(b"POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let invited = client.read_until(|bytes| bytes.ends_with(b"\r\n\r\n")).to_vec();
    assert!(invited.starts_with(b"HTTP/1.1 100 "), "{}", show(&invited));
    client.send(b"hello");
    let response = client.answer().whole();
    assert!(response.body.ends_with(b" POST /one\n"), "{}", show(&response.body));
    assert_eq!(stage.origin.arrived(0)[0].1.body, b"hello");
}

#[test]
fn an_asked_switch_makes_a_tunnel_that_is_never_pooled() {
    let stage = Stage::new(vec![vec![Step::Read, send(SWITCH.to_owned() + "\x01early"), Step::Hang]]);
    let mut client = stage.client();
    client.send(WEBSOCKET);
    let response = client.answer_to(asked(WEBSOCKET)).whole();
    assert_eq!(response.status, 101, "{}", show(&response.body));
    assert_eq!(response.fields.all("upgrade"), [b"websocket"]);
    assert!(response.fields.lists("connection", "upgrade"), "{:?}", response.fields);
    assert_eq!(client.read(6), b"\x01early");

    // In a tunnel a request is just bytes.
    let inside = b"GET /inside HTTP/1.1\r\n\r\n\0\xff";
    client.send(inside);
    stage
        .origin
        .wait_until("the bytes of the tunnel", |connections| connections[0].received.ends_with(inside));
    client.finish_sending();
    drop(client);
    stage.origin.wait_until("the end of the tunnel", closed(0));
    assert_ne!(stage.ask_after(), 0);
}

#[test]
fn a_tunnel_ends_for_the_client_when_the_server_ends_it() {
    let stage = Stage::new(vec![vec![Step::Read, send(SWITCH.to_owned() + "bye"), Step::Close]]);
    let mut client = stage.client();
    client.send(WEBSOCKET);
    assert_eq!(client.answer_to(asked(WEBSOCKET)).status(), Some(101));
    assert_eq!(client.read(3), b"bye");
    assert!(client.is_closed());
}

#[test]
fn bytes_behind_an_upgrade_wait_for_the_switch() {
    let gate = Gate::default();
    let stage = Stage::new(vec![vec![Step::ReadHead, Step::Wait(gate.clone()), send(SWITCH), Step::Hang]]);
    let mut client = stage.client();
    client.send(&[WEBSOCKET, b"EARLY"].concat());
    stage.origin.wait_until("the upgrade", |connections| connections.first().is_some_and(|c| c.steps >= 1));
    let received = stage.origin.connections()[0].received.clone();
    assert!(received.ends_with(b"\r\n\r\n"), "bytes went through before the switch: {}", show(&received));
    gate.open();
    assert_eq!(client.answer_to(asked(WEBSOCKET)).status(), Some(101));
    stage
        .origin
        .wait_until("the bytes after the switch", |connections| connections[0].received.ends_with(b"EARLY"));
}

// ---- answers that come early, and requests that wait ----

/// 35 bytes that are the rest of a body, or a request if somebody has lost count.
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// What an early answer must leave behind: the client's connection closed, the server's not used again.
#[track_caller]
fn check_early(stage: &Stage, mut client: Client, status: u16) {
    let response = client.answer().whole();
    assert_eq!((response.status, response.keep_alive), (status, false));
    client.send(SMUGGLED);
    client.send(SMUGGLED);
    assert!(client.is_closed(), "left open, with {}", show(client.unread()));
    stage.origin.wait_until("the end of the early connection", closed(0));
    assert_ne!(stage.ask_after(), 0);
    assert_eq!(stage.arrivals("/smuggled"), 0);
}

#[test]
fn an_early_answer_ends_both_connections() {
    for (answer, status) in
        [(ok(LENGTH, "hello"), 200), ("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n".into(), 403)]
    {
        let stage = Stage::new(vec![vec![Step::ReadHead, send(answer), Step::Hang]]);
        let mut client = stage.client();
        client.send(b"POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\nhello");
        check_early(&stage, client, status);
    }
}

#[test]
fn an_early_answer_to_chunks_ends_both_connections() {
    let stage = Stage::new(vec![vec![Step::ReadHead, send(ok(LENGTH, "hello")), Step::Hang]]);
    let mut client = stage.client();
    client.send(b"POST /one HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    check_early(&stage, client, 200);
}

#[test]
fn an_answer_instead_of_continue_ends_both_connections() {
    let stage = Stage::new(vec![vec![Step::ReadHead, send(ok(LENGTH, "hello")), Step::Hang]]);
    let mut client = stage.client();
    client.send(b"POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\nExpect: 100-continue\r\n\r\n");
    check_early(&stage, client, 200);
}

#[test]
fn pipelined_requests_travel_one_at_a_time_and_return_in_order() {
    let gate = Gate::default();
    let script = vec![Step::Read, Step::Wait(gate.clone()), send(ok(LENGTH, "hello")), Step::Serve];
    let stage = Stage::new(vec![script]);
    let mut client = stage.client();
    client.send(&[get("/one"), get("/second"), get("/third")].concat());
    stage.origin.wait_until("the first request", |connections| {
        connections.first().is_some_and(|connection| connection.requests.len() == 1)
    });
    assert_eq!(
        (stage.origin.connections().len(), stage.origin.leftover()),
        (1, 0),
        "the second did not wait"
    );
    gate.open();
    assert_eq!(client.answer().whole().body, b"hello");
    assert!(client.answer().whole().body.ends_with(b" GET /second\n"));
    assert!(client.answer().whole().body.ends_with(b" GET /third\n"));
    assert_eq!(stage.origin.paths(), ["/one", "/second", "/third"]);
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answers() {
    let stage = Stage::new(Vec::new());
    let mut client = stage.client();
    client.send(&[POST.to_vec(), get("/second")].concat());
    client.finish_sending();
    assert!(client.answer().whole().body.ends_with(b" POST /one\n"));
    assert!(client.answer().whole().body.ends_with(b" GET /second\n"));
    assert!(client.is_closed());
}

#[test]
fn a_clean_exchange_leaves_its_connection_for_others() {
    let stage = Stage::new(Vec::new());
    stage.ask(POST).whole();
    assert_eq!(stage.ask_after(), 0);
    assert_eq!(stage.ask_after(), 0);
    assert_eq!(stage.origin.connections().len(), 1);
}
