//! The clients of a seed: each sends what its script says and writes down what came of every request.
//!
//! A client judges nothing. It reads with the oracle, so that a whole answer is whole by the RFC, and tells an orderly end from
//! a reset.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use super::plan::{Abort, Dice, Expect, Frame, Planned, Script};
use super::support::PATIENCE;
use super::support::oracle::{self, Asked, Response, Rules, Verdict};
use super::wire::{framed, reset, write_pieces};

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A whole answer.
    Whole(Box<Response>),
    /// The start of an answer, then the end.
    Cut,
    /// The end, without a byte.
    Closed,
    /// No HTTP.
    Malformed(&'static str, String),
    /// Nothing, for longer than anything may take.
    Silent(String),
    /// Was not sent, or not read, because an earlier answer had ended the connection.
    Unanswered,
    /// The client went away.
    Aborted,
}

/// Plays a script to its end.
pub(crate) fn play(script: &Script, to: SocketAddr) -> Vec<Outcome> {
    let mut client = Client::connect(script, to);
    let mut outcomes = if script.pipelined { client.pipeline(script) } else { client.one_by_one(script) };
    if script.abort.is_some() {
        reset(client.stream);
    }
    outcomes.resize_with(script.requests.len(), || Outcome::Unanswered);
    outcomes
}

struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
    dice: Dice,
    /// How much is read at once.
    gulp: usize,
    http10: bool,
    ended: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Fin,
    Reset,
    Patience,
}

impl Client {
    fn connect(script: &Script, to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors suffice");
        if script.slow {
            socket.set_recv_buffer_size(4096).expect("TCP has it");
        }
        socket.connect(&to.into()).expect("it listens");
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).expect("TCP has it");
        stream.set_write_timeout(Some(PATIENCE)).expect("it is not zero");
        stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
        Client {
            stream,
            unread: Vec::new(),
            dice: Dice::new(script.cuts),
            gulp: if script.slow { 900 } else { 64 * 1024 },
            http10: script.http10,
            ended: None,
        }
    }

    fn one_by_one(&mut self, script: &Script) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for (number, planned) in script.requests.iter().enumerate() {
            let is_last = number + 1 == script.requests.len();
            let [head, body] = self.message(planned);
            if is_last && script.abort.is_some() {
                self.abort(script, &[head, body].concat());
                outcomes.push(Outcome::Aborted);
                break;
            }
            let outcome = self.exchange(planned, &head, &body, is_last && script.half_closes);
            if planned.holds {
                // Whoever takes this for a part of the request, or the next for one of its own, is wrong.
                let _ = self.stream.write_all(&body[body.len() / 2..]);
                if let Some(next) = script.requests.get(number + 1) {
                    let [head, body] = self.message(next);
                    let _ = self.stream.write_all(&[head, body].concat());
                }
            }
            let goes_on = matches!(&outcome, Outcome::Whole(response) if response.keep_alive);
            outcomes.push(outcome);
            if !goes_on || planned.holds {
                break;
            }
        }
        outcomes
    }

    fn exchange(&mut self, planned: &Planned, head: &[u8], body: &[u8], half_closes: bool) -> Outcome {
        write_pieces(&mut self.stream, head, &mut self.dice);
        if planned.expect == Expect::Patient {
            if self.is_invited() {
                write_pieces(&mut self.stream, body, &mut self.dice);
            }
        } else if planned.holds {
            write_pieces(&mut self.stream, &body[..body.len() / 2], &mut self.dice);
        } else {
            write_pieces(&mut self.stream, body, &mut self.dice);
        }
        if half_closes {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        self.answer(planned)
    }

    fn pipeline(&mut self, script: &Script) -> Vec<Outcome> {
        let mut bytes = Vec::new();
        let (last, earlier) = script.requests.split_last().expect("a script has requests");
        for planned in earlier {
            bytes.extend(self.message(planned).concat());
        }
        let end = self.message(last).concat();
        if script.abort.is_some() {
            write_pieces(&mut self.stream, &bytes, &mut self.dice);
            self.abort(script, &end);
            return script.requests.iter().map(|_| Outcome::Aborted).collect();
        }
        bytes.extend(end);
        write_pieces(&mut self.stream, &bytes, &mut self.dice);
        if script.half_closes {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        let mut outcomes = Vec::new();
        for planned in &script.requests {
            let outcome = self.answer(planned);
            let goes_on = matches!(&outcome, Outcome::Whole(response) if response.keep_alive);
            outcomes.push(outcome);
            if !goes_on {
                break;
            }
        }
        outcomes
    }

    /// Sends so much of a request as is planned; the reset itself comes when the client is dropped.
    fn abort(&mut self, script: &Script, bytes: &[u8]) {
        match script.abort {
            Some(Abort::Sending(thousandths)) => {
                let part = (bytes.len() * thousandths / 1000).min(bytes.len() - 1);
                write_pieces(&mut self.stream, &bytes[..part], &mut self.dice);
            }
            Some(Abort::Reading) => {
                write_pieces(&mut self.stream, bytes, &mut self.dice);
                self.read_more();
            }
            _ => {
                write_pieces(&mut self.stream, bytes, &mut self.dice);
            }
        }
    }

    /// Head and body as they go on the wire.
    fn message(&mut self, planned: &Planned) -> [Vec<u8>; 2] {
        let body = planned.body();
        let Planned { name, method, .. } = planned;
        let (version, connection) =
            if self.http10 { ("1.0", "Connection: keep-alive\r\n") } else { ("1.1", "") };
        let framing = match planned.upload {
            Frame::Length => format!("Content-Length: {}\r\n", body.len()),
            Frame::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
            Frame::Empty | Frame::UntilClose => String::new(),
        };
        let expect = if planned.expect == Expect::No { "" } else { "Expect: 100-continue\r\n" };
        let head = format!(
            "{method} /x/{name} HTTP/{version}\r\nHost: a\r\nX-Id: {name}\r\n{connection}{framing}{expect}\r\n"
        );
        [head.into_bytes(), framed(planned.upload, &body, &mut self.dice)]
    }

    /// Waits for 100 or a final answer.
    fn is_invited(&mut self) -> bool {
        loop {
            let begins = |text: &[u8]| self.unread.starts_with(text);
            let is_there = self.unread.windows(4).any(|part| part == b"\r\n\r\n");
            if is_there && begins(b"HTTP/1.1 100") {
                return true;
            }
            // Other interim answers may come first.
            if is_there
                && begins(b"HTTP/1.1 1")
                && self.unread.windows(12).any(|part| part == b"HTTP/1.1 100")
            {
                return true;
            }
            if is_there && !begins(b"HTTP/1.1 1") || !self.read_more() {
                return false;
            }
        }
    }

    fn answer(&mut self, planned: &Planned) -> Outcome {
        let asked = Asked { method: planned.method.as_bytes(), upgrade: false };
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            let closed = self.ended == Some(End::Fin);
            let shown = || self.unread[..self.unread.len().min(300)].escape_ascii().to_string();
            match oracle::response(&self.unread, asked, closed, &Rules::behind()) {
                Verdict::Message(response) => {
                    self.unread.drain(..response.consumed);
                    return Outcome::Whole(Box::new(response));
                }
                Verdict::Incomplete | Verdict::Reject("truncated") => match self.ended {
                    Some(End::Patience) => return Outcome::Silent(shown()),
                    Some(_) if self.unread.is_empty() => return Outcome::Closed,
                    Some(_) => return Outcome::Cut,
                    None if Instant::now() > deadline => return Outcome::Silent(shown()),
                    None => {}
                },
                Verdict::Reject(class) => return Outcome::Malformed(class, shown()),
            }
            self.read_more();
        }
    }

    fn read_more(&mut self) -> bool {
        let mut buffer = vec![0; self.gulp];
        if self.ended.is_some() {
            return false;
        }
        match self.stream.read(&mut buffer) {
            Ok(0) => self.ended = Some(End::Fin),
            Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                self.ended = Some(End::Patience);
            }
            Err(_) => self.ended = Some(End::Reset),
        }
        self.ended.is_none()
    }
}
