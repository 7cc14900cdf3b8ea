//! The clients of the load: each asks until told to stop, and every loss is an error with what happened.
//!
//! Nothing is tried again: a request that fails is a failure, also on a connection that was kept, because the proxy says
//! `Connection: close` before it closes one.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::load_server::DOWNLOAD;
use crate::support::PATIENCE;

pub(crate) const UPLOAD: usize = 5 << 20;
/// A download is taken in so many pieces, a pause after each.
const PIECES: usize = 16;
const PAUSE: Duration = Duration::from_millis(20);

/// How a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    KeepAlive,
    NewConnection,
    Upload,
    SlowDownload,
    Tunnel(&'static str),
}

/// One client until `stop`: how many requests (or echoes) it had answered, and every failure.
pub(crate) fn run(kind: Kind, to: SocketAddr, stop: &AtomicBool) -> (u64, Vec<String>) {
    let (mut done, mut failures) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = session(kind, to, stop, &mut done) {
            failures.push(format!("{kind:?} after {done}: {error}"));
        }
    }
    (done, failures)
}

/// One connection, until it ends as announced or it is time to stop.
fn session(kind: Kind, to: SocketAddr, stop: &AtomicBool, done: &mut u64) -> io::Result<()> {
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut wire = Wire { stream, unread: Vec::new() };
    if let Kind::Tunnel(path) = kind {
        return tunnel(&mut wire, path, stop, done);
    }
    while !stop.load(Ordering::Relaxed) {
        let closes = match kind {
            Kind::Upload => upload(&mut wire)?,
            Kind::SlowDownload => download(&mut wire)?,
            _ => small(&mut wire, kind == Kind::NewConnection)?,
        };
        *done += 1;
        if closes {
            return Ok(());
        }
    }
    Ok(())
}

fn small(wire: &mut Wire, close: bool) -> io::Result<bool> {
    let close = if close { "Connection: close\r\n" } else { "" };
    wire.stream.write_all(format!("GET / HTTP/1.1\r\nHost: a\r\n{close}\r\n").as_bytes())?;
    let (length, closes) = wire.head("200")?;
    let body = wire.take(length)?;
    if body.is_empty() { Err(wrong("an empty answer")) } else { Ok(closes) }
}

fn upload(wire: &mut Wire) -> io::Result<bool> {
    wire.stream.write_all(
        format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {UPLOAD}\r\n\r\n").as_bytes(),
    )?;
    let piece = vec![b'u'; 256 << 10];
    for _ in 0..UPLOAD / piece.len() {
        wire.stream.write_all(&piece)?;
    }
    let (length, closes) = wire.head("200")?;
    match String::from_utf8_lossy(&wire.take(length)?).parse() {
        Ok(UPLOAD) => Ok(closes),
        other => Err(wrong(&format!("{other:?} bytes arrived"))),
    }
}

fn download(wire: &mut Wire) -> io::Result<bool> {
    wire.stream.write_all(b"GET /download HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let (length, closes) = wire.head("200")?;
    if length != DOWNLOAD {
        return Err(wrong(&format!("{length} bytes are promised")));
    }
    for _ in 0..PIECES {
        if wire.take(DOWNLOAD / PIECES)?.iter().any(|&byte| byte != b'd') {
            return Err(wrong("other bytes than were sent"));
        }
        std::thread::sleep(PAUSE); // slowness is the load here; nothing waits for it
    }
    Ok(closes)
}

fn tunnel(wire: &mut Wire, path: &str, stop: &AtomicBool, done: &mut u64) -> io::Result<()> {
    let fields = "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    wire.stream.write_all(format!("GET {path} HTTP/1.1\r\n{fields}\r\n").as_bytes())?;
    wire.head("101")?;
    while !stop.load(Ordering::Relaxed) {
        let sent = format!("echo {done}");
        wire.stream.write_all(sent.as_bytes())?;
        if wire.take(sent.len())? != sent.as_bytes() {
            return Err(wrong("not what was sent"));
        }
        *done += 1;
        std::thread::sleep(Duration::from_millis(5)); // there are many tunnels, and each mostly idles
    }
    Ok(())
}

/// A client's side of a connection.
struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    /// The length of the body that follows, and whether the connection closes behind it.
    fn head(&mut self, status: &str) -> io::Result<(usize, bool)> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more()?;
        };
        let head = String::from_utf8_lossy(&self.unread[..end]).to_ascii_lowercase();
        self.unread.drain(..end);
        if head.get(9..12) != Some(status) {
            return Err(wrong(&head));
        }
        let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length = value("content-length:").and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok((length, value("connection:") == Some("close")))
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < count {
            self.read_more()?;
        }
        Ok(self.unread.drain(..count).collect())
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.unread.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}
