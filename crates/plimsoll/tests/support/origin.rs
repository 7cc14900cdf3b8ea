//! A server that keeps every byte it receives and answers by script.
//!
//! Connections are numbered as they are accepted. Each follows its script; one without a script serves: it reads one
//! request by the oracle, answers 200 with a body that names the request and its number, and goes on. What the oracle
//! refuses is kept as the connection's `fault` and ends it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::SockRef;

use super::Watched;
use super::oracle::{self, Request, Rules, Verdict};

/// What the server does next on a connection.
#[derive(Debug, Clone)]
pub enum Step {
    /// Reads one whole request.
    Read,
    /// Reads until a head is complete, and leaves what follows unread if it can.
    ReadHead,
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Waits until the test opens the gate.
    Wait(Gate),
    /// Sends FIN, then reads until the peer closes.
    Close,
    /// Sends RST.
    Reset,
    /// Reads until the peer closes, and answers nothing.
    Hang,
    /// Serves until the peer closes.
    Serve,
}

/// Holds a script until the test opens it.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Watched<bool>>);

impl Gate {
    /// Lets the scripts that wait go on.
    pub fn open(&self) {
        self.0.change(|open| *open = true);
    }

    fn wait(&self) {
        self.0.until(|open| open.then_some(()));
    }
}

/// What happened on one connection.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// All bytes received.
    pub received: Vec<u8>,
    /// How many of them were read as whole requests.
    pub taken: usize,
    /// Those requests.
    pub requests: Vec<Request>,
    /// What the oracle refused.
    pub fault: Option<&'static str>,
    /// Steps of the script that are done.
    pub steps: usize,
    /// The peer has closed or reset it, or we have reset it.
    pub closed: bool,
}

#[derive(Debug, Default)]
struct Record {
    connections: Vec<Connection>,
    streams: Vec<TcpStream>,
    /// All whole requests in the order of their arrival, with the number of their connection.
    arrived: Vec<(usize, Request)>,
    answered: usize,
}

/// A recording server on loopback.
pub struct Origin {
    address: SocketAddr,
    record: Arc<Watched<Record>>,
    ending: Arc<AtomicBool>,
}

impl Origin {
    /// Serves on all connections.
    pub fn serve() -> Self {
        Self::scripted(Vec::new())
    }

    /// The nth connection follows the nth script, later ones serve.
    pub fn scripted(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let address = listener.local_addr().expect("it is bound");
        let record = Arc::new(Watched::new(Record::default()));
        let ending = Arc::new(AtomicBool::new(false));
        let origin = Self { address, record: Arc::clone(&record), ending: Arc::clone(&ending) };
        std::thread::spawn(move || accept(&listener, scripts, &record, &ending));
        origin
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happened so far.
    pub fn connections(&self) -> Vec<Connection> {
        self.record.look(|record| record.connections.clone())
    }

    /// All whole requests in the order of their arrival but the first `skipped`, with the number of their connection.
    pub fn arrived(&self, skipped: usize) -> Vec<(usize, Request)> {
        self.record.look(|record| record.arrived[skipped..].to_vec())
    }

    /// The paths of all whole requests in the order of their arrival.
    pub fn paths(&self) -> Vec<String> {
        let path = |(_, request): (usize, Request)| String::from_utf8_lossy(&request.target).into_owned();
        self.arrived(0).into_iter().map(path).collect()
    }

    /// How many bytes came that are not part of a whole request.
    pub fn leftover(&self) -> usize {
        self.record.look(|record| record.connections.iter().map(|c| c.received.len() - c.taken).sum())
    }

    /// Waits until the connections are as wanted.
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&[Connection]) -> bool) {
        let reached = self.record.until(|record| wanted(&record.connections).then_some(()));
        assert!(reached.is_some(), "the origin never saw {what}: {:#?}", self.connections());
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        // Wakes `accept`, which then ends and closes the listener.
        let _ = TcpStream::connect(self.address);
        self.record.look(|record| {
            for stream in &record.streams {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
    }
}

fn accept(
    listener: &TcpListener,
    scripts: Vec<Vec<Step>>,
    record: &Arc<Watched<Record>>,
    ending: &AtomicBool,
) {
    let mut scripts = scripts.into_iter();
    while let Ok((stream, _)) = listener.accept() {
        if ending.load(Ordering::Acquire) {
            return;
        }
        stream.set_nodelay(true).expect("TCP has it");
        let number = record.change(|record| {
            record.streams.push(stream.try_clone().expect("descriptors suffice"));
            record.connections.push(Connection::default());
            record.connections.len() - 1
        });
        let script = scripts.next().unwrap_or_else(|| vec![Step::Serve]);
        let wire = Wire { stream, unread: Vec::new(), number, record: Arc::clone(record) };
        std::thread::spawn(move || wire.follow(script));
    }
}

/// One connection from the server's side.
struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
    number: usize,
    record: Arc<Watched<Record>>,
}

impl Wire {
    fn note(&self, change: impl FnOnce(&mut Connection)) {
        self.record.change(|record| change(&mut record.connections[self.number]));
    }

    fn follow(mut self, script: Vec<Step>) {
        for step in script {
            match step {
                Step::Read => drop(self.read_request()),
                Step::ReadHead => self.read_head(),
                Step::Send(bytes) => drop(self.stream.write_all(&bytes)),
                Step::Wait(gate) => gate.wait(),
                Step::Close => self.close(),
                Step::Reset => return self.reset(),
                Step::Hang => while self.read_more() {},
                Step::Serve => self.serve(),
            }
            self.note(|connection| connection.steps += 1);
        }
        self.close();
    }

    /// Whether bytes came; on the end of the stream notes it.
    fn read_more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer).unwrap_or(0);
        self.unread.extend_from_slice(&buffer[..count]);
        self.note(|connection| {
            connection.received.extend_from_slice(&buffer[..count]);
            connection.closed |= count == 0;
        });
        count > 0
    }

    fn read_head(&mut self) {
        while !contains(&self.unread, b"\r\n\r\n") && self.read_more() {}
    }

    /// The next whole request; `None` at the end of the stream or after a fault.
    fn read_request(&mut self) -> Option<Request> {
        let mut invited = false;
        loop {
            match oracle::request(&self.unread, &Rules::behind()) {
                Verdict::Message(request) => {
                    self.unread.drain(..request.consumed);
                    self.record.change(|record| {
                        record.arrived.push((self.number, request.clone()));
                        let connection = &mut record.connections[self.number];
                        connection.taken += request.consumed;
                        connection.requests.push(request.clone());
                    });
                    return Some(request);
                }
                Verdict::Reject(class) => {
                    self.note(|connection| connection.fault = Some(class));
                    return None;
                }
                Verdict::Incomplete => {
                    if !invited && self.awaits_continue() {
                        invited = true;
                        let _ = self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    if !self.read_more() {
                        return None;
                    }
                }
            }
        }
    }

    fn awaits_continue(&self) -> bool {
        let head = self.unread.to_ascii_lowercase();
        contains(&head, b"\r\nexpect: 100-continue\r\n") && head.ends_with(b"\r\n\r\n")
    }

    fn serve(&mut self) {
        while let Some(request) = self.read_request() {
            let number = self.record.change(|record| {
                record.answered += 1;
                record.answered
            });
            let sent = self.stream.write_all(&answer(number, &request));
            if sent.is_err() || !request.keep_alive {
                break;
            }
        }
        self.close();
    }

    fn close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        while self.read_more() {}
    }

    fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("TCP has it");
        // The copy in the record shares the socket: only without it does dropping ours send the RST.
        self.record.change(|record| {
            let address = self.stream.peer_addr().ok();
            record.streams.retain(|stream| stream.peer_addr().ok() != address);
        });
        let Self { stream, number, record, .. } = self;
        drop(stream);
        record.change(|record| record.connections[number].closed = true);
    }
}

/// What a serving origin answers to its nth request: its number, the method and the target in the body.
pub fn answer(number: usize, request: &Request) -> Vec<u8> {
    let (method, target) =
        (String::from_utf8_lossy(&request.method), String::from_utf8_lossy(&request.target));
    let body = format!("{number} {method} {target}\n");
    let close = if request.keep_alive { "" } else { "Connection: close\r\n" };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{close}\r\n", body.len());
    if method == "HEAD" { head.into_bytes() } else { (head + &body).into_bytes() }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
