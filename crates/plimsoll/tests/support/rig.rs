//! What the tests of bounds, stopping, logging, routing and exchanges share beside `support`.
//!
//! Ways to start the program (behind a shell, or where it must refuse to start), a look at its memory, and two servers:
//! `Named`, which says who it is and keeps the requests, and `Fountain`, which sends large bodies as fast as they are
//! taken. Waiting is polling with `PATIENCE` as its bound.

// Several test programs include this module and each uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::support::oracle::{self, Asked, Request, Response, Rules, Verdict};
use super::support::{Answer, Client, PATIENCE, Plimsoll, Watched};

/// The program's file.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_plimsoll");

/// One listener before these servers, one worker, and whatever else the file is to say.
pub fn before(servers: &[SocketAddr], rest: &str) -> Plimsoll {
    Plimsoll::start(&file(servers, "", rest))
}

/// The text of that file; `listen` adds keys to the listener.
pub fn file(servers: &[SocketAddr], listen: &str, rest: &str) -> String {
    let servers: Vec<String> = servers.iter().map(|address| format!("\"{address}\"")).collect();
    let to = servers.join(", ");
    format!("workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = [{to}]\n{listen}\n{rest}\n")
}

/// The program behind a shell that first runs `script`, such as `ulimit -n 96`.
pub fn behind_shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{script}; exec \"$0\" \"$@\""), PROGRAM]);
    command
}

/// A path of the test's own, where nothing is yet.
pub fn fresh_path(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// Runs the program on a file with which it cannot start; gives its exit code and what it said.
pub fn refuses(mut command: Command, configuration: &str) -> (Option<i32>, String) {
    let path = fresh_path("refused.toml");
    std::fs::write(&path, configuration).expect("the test's own directory can be written");
    let output =
        command.args(["run", "-c"]).arg(&path).stdin(Stdio::null()).output().expect("the program is built");
    let _ = std::fs::remove_file(&path);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The program's resident memory in bytes: now, and at its highest.
pub fn memory(program: &Plimsoll) -> (u64, u64) {
    let path = format!("/proc/{}/status", program.pid().as_raw_nonzero());
    let status = std::fs::read_to_string(path).expect("it runs");
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux has it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    (kib("VmRSS:") * 1024, kib("VmHWM:") * 1024)
}

/// Waits until it is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a value has not changed for half a second, and gives it.
#[track_caller]
pub fn settled(what: &str, value: impl Fn() -> u64) -> u64 {
    let deadline = Instant::now() + 4 * PATIENCE;
    let (mut last, mut since) = (value(), Instant::now());
    while since.elapsed() < Duration::from_millis(500) {
        assert!(Instant::now() < deadline, "never settled: {what}");
        std::thread::sleep(Duration::from_millis(10));
        let now = value();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

/// One request on a connection of its own.
pub fn ask(to: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut client = Client::connect(to);
    client.send(request.as_ref());
    client.answer_to(asked(request.as_ref()))
}

/// What a request's answer depends on.
pub fn asked(request: &[u8]) -> Asked<'_> {
    let method = request.split(|&b| b == b' ').next().unwrap_or_default();
    Asked { method, upgrade: request.windows(8).any(|part| part == b"Upgrade:") }
}

/// A POST with this body.
pub fn post(path: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A 200 with this body.
pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A response's body as text.
pub fn text(response: &Response) -> String {
    String::from_utf8_lossy(&response.body).into_owned()
}

/// The one value of a response's field, or what is there instead.
pub fn field(response: &Response, name: &str) -> String {
    let values = response.fields.all(name);
    values.iter().map(|v| String::from_utf8_lossy(v)).collect::<Vec<_>>().join(" | ")
}

/// A client that asks, and whose socket takes little before it is read.
pub fn slow_reader(to: SocketAddr, request: &[u8]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors suffice");
    socket.set_recv_buffer_size(4096).expect("TCP has it");
    socket.connect(&to.into()).expect("it listens");
    let mut stream = TcpStream::from(socket);
    stream.write_all(request).expect("a request fits");
    stream
}

/// A server that says who it is and keeps the requests. Serves until the test's process ends.
pub struct Named {
    name: &'static str,
    address: SocketAddr,
    requests: Arc<Watched<Vec<Request>>>,
}

impl Named {
    /// Serves.
    pub fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let address = listener.local_addr().expect("it is bound");
        let requests = Arc::new(Watched::new(Vec::new()));
        let kept = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || serve(stream, name, &kept));
            }
        });
        Self { name, address, requests }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As an entry of `servers`, named, with further keys such as `, weight = 2`.
    pub fn entry(&self, more: &str) -> String {
        format!("{{ address = \"{}\", name = \"{}\"{more} }}", self.address, self.name)
    }

    /// How many requests it has answered.
    pub fn count(&self) -> usize {
        self.requests.look(Vec::len)
    }

    /// The last request.
    pub fn last(&self) -> Request {
        self.requests.look(|all| all.last().cloned()).expect("a request has arrived")
    }
}

fn serve(mut stream: TcpStream, name: &str, kept: &Watched<Vec<Request>>) {
    let _ = stream.set_nodelay(true);
    let (mut unread, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    let rules = Rules { keep_underscores: true, ..Rules::default() };
    loop {
        match oracle::request(&unread, &rules) {
            Verdict::Message(request) => {
                unread.drain(..request.consumed);
                kept.change(|all| all.push(request));
                if stream.write_all(&ok(name)).is_err() {
                    return;
                }
            }
            Verdict::Reject(class) => panic!("{name} was sent a malformed request: {class}"),
            Verdict::Incomplete => match stream.read(&mut buffer) {
                Ok(count) if count > 0 => unread.extend_from_slice(&buffer[..count]),
                _ => return,
            },
        }
    }
}

/// A server whose answers have large bodies, sent as fast as they are taken.
pub struct Fountain {
    address: SocketAddr,
    begun: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

impl Fountain {
    /// Bodies of `size` bytes, all `x`.
    pub fn start(size: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let address = listener.local_addr().expect("it is bound");
        let (begun, sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let fountain = Self { address, begun: Arc::clone(&begun), sent: Arc::clone(&sent) };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (begun, sent) = (Arc::clone(&begun), Arc::clone(&sent));
                let small = std::thread::Builder::new().stack_size(128 * 1024);
                small.spawn(move || spout(stream, size, &begun, &sent)).expect("threads suffice");
            }
        });
        fountain
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many answers it has begun.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// How many bytes of bodies were taken from it.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

fn spout(mut stream: TcpStream, size: usize, begun: &AtomicU64, sent: &AtomicU64) {
    // Small, so that what the kernel holds does not hide whether the sender is slowed down.
    let _ = SockRef::from(&stream).set_send_buffer_size(64 * 1024);
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    begun.fetch_add(1, Ordering::Relaxed);
    let mut left = size;
    let mut result =
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").as_bytes());
    while result.is_ok() && left > 0 {
        match stream.write(&[b'x'; 16 * 1024][..left.min(16 * 1024)]) {
            Ok(count) => {
                left -= count;
                sent.fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(error) => result = Err(error),
        }
    }
}
