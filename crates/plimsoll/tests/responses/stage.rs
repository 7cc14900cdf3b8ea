//! The program before one scripted server, and what tests of answers ask it.

use crate::support::oracle::Asked;
use crate::support::{Answer, Client, Connection, Origin, Plimsoll, Step, get, show};

pub(crate) const HEAD: &[u8] = b"HEAD /one HTTP/1.1\r\nHost: a\r\n\r\n";
pub(crate) const POST: &[u8] = b"POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
pub(crate) const OLD: &[u8] = b"GET /one HTTP/1.0\r\nHost: a\r\n\r\n";
pub(crate) const OLD_KEPT: &[u8] = b"GET /one HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
pub(crate) const WEBSOCKET: &[u8] =
    b"GET /one HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
pub(crate) const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
pub(crate) const LENGTH: &str = "Content-Length: 5\r\n";
pub(crate) const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
pub(crate) const CHUNKS: &str = "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";

/// The program before one server with these scripts.
pub(crate) struct Stage {
    pub(crate) origin: Origin,
    pub(crate) program: Plimsoll,
}

impl Stage {
    pub(crate) fn new(scripts: Vec<Vec<Step>>) -> Self {
        let origin = Origin::scripted(scripts);
        let program = Plimsoll::before(&[origin.address()]);
        Self { origin, program }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.program.address())
    }

    /// Sends a request on a connection of its own.
    pub(crate) fn ask(&self, request: &[u8]) -> Answer {
        let mut client = self.client();
        client.send(request);
        client.answer_to(asked(request))
    }

    /// Another client asks, must get its own answer, and says on which connection to the server it travelled.
    #[track_caller]
    pub(crate) fn ask_after(&self) -> usize {
        let response = self.ask(&get("/two")).whole();
        assert!(response.body.ends_with(b" GET /two\n"), "the next client got {}", show(&response.body));
        let (connection, request) = self.origin.arrived(0).pop().expect("it was answered");
        assert_eq!(request.target, b"/two");
        connection
    }

    /// How often a request for the path arrived whole.
    pub(crate) fn arrivals(&self, path: &str) -> usize {
        self.origin.paths().iter().filter(|arrived| *arrived == path).count()
    }
}

/// What a request's answer depends on.
pub(crate) fn asked(request: &[u8]) -> Asked<'_> {
    let method = request.split(|&b| b == b' ').next().unwrap_or_default();
    Asked { method, upgrade: request.windows(8).any(|part| part == b"Upgrade:") }
}

pub(crate) fn send(bytes: impl Into<Vec<u8>>) -> Step {
    Step::Send(bytes.into())
}

/// A 200 with these field lines, each with its line end, and what follows the head.
pub(crate) fn ok(fields: &str, rest: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{rest}")
}

pub(crate) fn closed(connection: usize) -> impl Fn(&[Connection]) -> bool {
    move |connections| connections.get(connection).is_some_and(|c| c.closed)
}

/// Runs each case of a table and reports all failures together.
pub(crate) fn each<C>(cases: Vec<(&'static str, C)>, run: impl Fn(C) -> Result<(), String>) {
    let run = |(name, case): (&str, C)| run(case).err().map(|reason| format!("{name}: {reason}"));
    let failures: Vec<String> = cases.into_iter().filter_map(run).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
