//! The servers of a seed: each request gets the reply that was planned for it, and everything odd is written down.
//!
//! What no request may do at a server is judged here, as it happens: be malformed, differ from what its client sent, or come
//! over a connection that must not be used again. What depends on the clients' view is judged at the end from `Seen`.

use std::collections::HashMap;
use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use super::plan::{Abort, Answer, Dice, Frame, Planned, Reply, Script, Then, answer_body};
use super::support::PATIENCE;
use super::support::oracle::{self, Rules, Verdict};
use super::wire::{framed, reset, write_pieces};

/// What the servers saw of one request.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// How often its head came to a server that replied as planned.
    pub(crate) turns: usize,
    /// How often its head came over a connection that its server had given up.
    pub(crate) stale: usize,
    /// How often it came whole.
    pub(crate) whole: usize,
}

/// All that the threads of a seed share.
#[derive(Debug)]
pub(crate) struct World {
    requests: HashMap<String, Planned>,
    /// Requests of which the client never sends the end.
    unfinished: Vec<String>,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    seen: HashMap<String, Seen>,
    violations: Vec<String>,
    streams: Vec<TcpStream>,
}

impl World {
    pub(crate) fn new(scripts: &[Script]) -> Self {
        let requests = scripts.iter().flat_map(|s| &s.requests);
        let cut = scripts.iter().filter(|s| matches!(s.abort, Some(Abort::Sending(_))));
        let held = requests.clone().filter(|r| r.holds).map(|r| r.name.clone());
        World {
            unfinished: cut.filter_map(|s| s.requests.last()).map(|r| r.name.clone()).chain(held).collect(),
            requests: requests.map(|r| (r.name.clone(), r.clone())).collect(),
            record: Mutex::default(),
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Writes down what must not happen.
    pub(crate) fn violation(&self, text: String) {
        self.record().violations.push(text);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.record().violations.clone()
    }

    pub(crate) fn seen(&self, name: &str) -> Seen {
        self.record().seen.get(name).cloned().unwrap_or_default()
    }

    fn note<R>(&self, name: &str, change: impl FnOnce(&mut Seen) -> R) -> R {
        change(self.record().seen.entry(name.to_owned()).or_default())
    }

    /// Closes every connection, so that nothing stays in a pool.
    pub(crate) fn hang_up(&self) {
        for stream in self.record().streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Serves until the test's process ends; `seed` decides how answers are cut into pieces.
pub(crate) fn start(world: &Arc<World>, seed: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = listener.local_addr().expect("it is bound");
    let world = Arc::clone(world);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let world = Arc::clone(&world);
            thread::spawn(move || Wire::new(stream, world, seed).serve());
        }
    });
    address
}

/// What a server does next with a connection.
enum Next {
    Serve,
    /// Nothing may come any more, because of this.
    Spent(&'static str),
    /// Closes as soon as something comes; `true` for a reset.
    Refuse(bool),
    /// Has sent FIN behind a whole answer, and only looks at what still comes.
    Closed,
    /// Has ended it within an exchange; `true` for a reset.
    Ended(bool),
}

struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
    world: Arc<World>,
    dice: Dice,
    seed: u64,
}

impl Wire {
    fn new(stream: TcpStream, world: Arc<World>, seed: u64) -> Self {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(PATIENCE));
        Wire { stream, unread: Vec::new(), world, dice: Dice::new(seed), seed }
    }

    fn serve(mut self) {
        if let Ok(copy) = self.stream.try_clone() {
            self.world.record().streams.push(copy);
        }
        let mut next = Next::Serve;
        while let Some(planned) = self.next_head() {
            next = match next {
                Next::Serve => self.reply(&planned),
                Next::Spent(why) => {
                    self.world.violation(format!("{} came over a connection after {why}", planned.name));
                    return self.refuse();
                }
                Next::Refuse(by_reset) => {
                    self.world.note(&planned.name, |seen| seen.stale += 1);
                    if by_reset {
                        return self.reset();
                    }
                    return self.refuse();
                }
                Next::Closed => {
                    self.world.note(&planned.name, |seen| seen.stale += 1);
                    return self.refuse();
                }
                Next::Ended(_) => unreachable!("the loop has ended"),
            };
            match next {
                Next::Ended(true) => return self.reset(),
                Next::Ended(false) => return self.refuse(),
                _ => {}
            }
        }
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Closes in order: FIN, then everything that still comes is taken.
    fn refuse(mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        while self.read_more() {}
    }

    fn reset(self) {
        // The kept copy shares the socket, which is reset only when nobody holds it any more.
        let address = self.stream.peer_addr().ok();
        self.world.record().streams.retain(|kept| kept.peer_addr().ok() != address);
        reset(self.stream);
    }

    fn read_more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer).unwrap_or(0);
        self.unread.extend_from_slice(&buffer[..count]);
        count > 0
    }

    /// The request whose head is there; `None` at the end of the connection.
    fn next_head(&mut self) -> Option<Planned> {
        while !self.unread.windows(4).any(|part| part == b"\r\n\r\n") {
            if !self.read_more() {
                return None;
            }
        }
        let line = self.unread.split(|&b| b == b'\r').next().unwrap_or_default();
        let target = String::from_utf8_lossy(line);
        let name = target.split(' ').nth(1).and_then(|target| target.strip_prefix("/x/"));
        let planned = name.and_then(|name| self.world.requests.get(name)).cloned();
        if planned.is_none() {
            let unread = self.unread[..self.unread.len().min(300)].escape_ascii().to_string();
            self.world.violation(format!("a server was sent what nobody had asked: {unread}"));
        }
        planned
    }

    fn reply(&mut self, planned: &Planned) -> Next {
        let turn = self.world.note(&planned.name, |seen| {
            seen.turns += 1;
            seen.turns - 1
        });
        self.dice = Dice::new(
            self.seed ^ planned.name.bytes().fold(turn as u64, |sum, b| sum * 31 % 1_000_003 + u64::from(b)),
        );
        match planned.reply(turn).clone() {
            Reply::Drop { at_head, reset } => {
                let is_there = at_head || self.read_request(planned);
                Next::Ended(reset && is_there)
            }
            Reply::Early(answer) => {
                let sent = self.send(planned, turn, &answer);
                match self.read_request(planned) {
                    true if planned.holds => Next::Spent("an answer to half a request"),
                    true => sent,
                    false => Next::Ended(false),
                }
            }
            Reply::Whole(answer) if self.read_request(planned) => self.send(planned, turn, &answer),
            Reply::Whole(_) => Next::Ended(false),
        }
    }

    /// Reads the whole request and compares it with what its client sent. False if it never becomes whole.
    fn read_request(&mut self, planned: &Planned) -> bool {
        let mut invited = false;
        loop {
            match oracle::request(&self.unread, &Rules::behind()) {
                Verdict::Message(request) => {
                    self.unread.drain(..request.consumed);
                    self.world.note(&planned.name, |seen| seen.whole += 1);
                    let is_right = request.method == planned.method.as_bytes()
                        && request.body == planned.body()
                        && request.fields.all("x-id") == [planned.name.as_bytes()];
                    if !is_right {
                        self.world.violation(format!("{} came changed: {request:?}", planned.name));
                    }
                    if self.world.unfinished.contains(&planned.name) {
                        self.world.violation(format!(
                            "{} came whole, but its client had not finished it",
                            planned.name
                        ));
                    }
                    return true;
                }
                Verdict::Reject(class) => {
                    let unread = self.unread[..self.unread.len().min(300)].escape_ascii().to_string();
                    self.world.violation(format!(
                        "{} is malformed at the server ({class}): {unread}",
                        planned.name
                    ));
                    return false;
                }
                Verdict::Incomplete => {
                    let head = self.unread.to_ascii_lowercase();
                    if !invited && head.windows(9).any(|part| part == b"\r\nexpect:") {
                        invited = true;
                        write_pieces(&mut self.stream, b"HTTP/1.1 100 Continue\r\n\r\n", &mut self.dice);
                    }
                    if !self.read_more() {
                        return false;
                    }
                }
            }
        }
    }

    fn send(&mut self, planned: &Planned, turn: usize, answer: &Answer) -> Next {
        for interim in &answer.interims {
            let head = format!("HTTP/1.1 {interim} Interim\r\nX-Id: {}\r\n\r\n", planned.name);
            write_pieces(&mut self.stream, head.as_bytes(), &mut self.dice);
        }
        let mut bytes = self.bytes(planned, turn, answer);
        if let Some((thousandths, by_reset)) = answer.cut {
            bytes.truncate((bytes.len() * thousandths / 1000).max(1)); // without a byte it would be no answer
            write_pieces(&mut self.stream, &bytes, &mut self.dice);
            return Next::Ended(by_reset);
        }
        if answer.then == Then::Surplus {
            bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\nX-Id: surplus\r\nContent-Length: 7\r\n\r\nsurplus");
            let _ = std::io::Write::write_all(&mut self.stream, &bytes);
            return Next::Spent("surplus bytes");
        }
        write_pieces(&mut self.stream, &bytes, &mut self.dice);
        match answer.then {
            _ if answer.frame == Frame::UntilClose && planned.method != "HEAD" => {
                let _ = self.stream.shutdown(Shutdown::Write);
                Next::Ended(false)
            }
            Then::SaysClose => Next::Spent("Connection: close"),
            Then::Closes => {
                let _ = self.stream.shutdown(Shutdown::Write);
                Next::Closed
            }
            Then::ClosesOnNext(by_reset) => Next::Refuse(by_reset),
            Then::Keep | Then::Surplus => Next::Serve,
        }
    }

    fn bytes(&mut self, planned: &Planned, turn: usize, answer: &Answer) -> Vec<u8> {
        let body = answer_body(&planned.name, turn, answer);
        let framing = match answer.frame {
            Frame::Length => format!("Content-Length: {}\r\n", body.len()),
            Frame::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
            Frame::Empty | Frame::UntilClose => String::new(),
        };
        let close = if answer.then == Then::SaysClose { "Connection: close\r\n" } else { "" };
        let (status, name) = (answer.status, &planned.name);
        let head =
            format!("HTTP/1.1 {status} Planned\r\nX-Id: {name}\r\nX-Turn: {turn}\r\n{framing}{close}\r\n");
        let mut bytes = head.into_bytes();
        if planned.method != "HEAD" {
            bytes.extend(framed(answer.frame, &body, &mut self.dice));
        }
        bytes
    }
}
