//! Clients that never stop and for whom anything but the right answer is a failure.
//!
//! A connection that closes is none only where the answer before said that it would.

use std::fmt::Display;
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::PATIENCE;

/// Bytes of a large body.
pub(crate) const LARGE: usize = 5 << 20;
/// Bytes sent or taken at once, and how long a slow client rests after them.
const PIECE: usize = 64 * 1024;
const PACE: Duration = Duration::from_millis(10);

/// What one kind of client does until the end, and how often it did.
#[derive(Debug, Default)]
pub(crate) struct Load {
    ending: AtomicBool,
    pub(crate) kept: AtomicU64,
    pub(crate) told_to_close: AtomicU64,
    pub(crate) fresh: AtomicU64,
    pub(crate) uploads: AtomicU64,
    pub(crate) downloads: AtomicU64,
    pub(crate) echoes: AtomicU64,
    failures: Mutex<Vec<Error>>,
}

pub(crate) type Outcome = Result<(), Error>;

impl Load {
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Keeps why a client ended before the end.
    pub(crate) fn note(&self, outcome: Outcome) {
        if let Err(error) = outcome {
            self.failures.lock().expect("no client panics").push(error);
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        !self.failures.lock().expect("no client panics").is_empty()
    }

    fn goes_on(&self) -> bool {
        !self.ending.load(Ordering::Relaxed)
    }

    /// Many requests on a connection, until told to close.
    pub(crate) fn keep_alive(&self, to: SocketAddr) -> Outcome {
        let mut stream = connect(to)?;
        let mut number = 0;
        while self.goes_on() {
            number += 1;
            let close =
                ask(&mut stream, &format!("/kept/{number}")).map_err(|e| about("keep-alive", number, e))?;
            self.kept.fetch_add(1, Ordering::Relaxed);
            if close {
                self.told_to_close.fetch_add(1, Ordering::Relaxed);
                ends(&mut stream)?;
                (stream, number) = (connect(to)?, 0);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// A connection for every request.
    pub(crate) fn fresh(&self, to: SocketAddr) -> Outcome {
        let mut number = 0;
        while self.goes_on() {
            number += 1;
            let mut stream = connect(to)?;
            ask(&mut stream, "/fresh").map_err(|e| about("fresh", number, e))?;
            self.fresh.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Large bodies to the server, at a pace.
    pub(crate) fn upload(&self, to: SocketAddr) -> Outcome {
        while self.goes_on() {
            let mut stream = connect(to)?;
            write!(stream, "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n")?;
            let mut at = 0;
            while at < LARGE {
                let piece = piece_at(at);
                stream.write_all(&piece).map_err(|e| about("upload", at, e))?;
                at += piece.len();
                std::thread::sleep(PACE);
            }
            let (_, body) = answer(&mut stream).map_err(|e| about("upload's answer", at, e))?;
            if body != b"intact" {
                return Err(about("upload", at, "its bytes are not those that were sent"));
            }
            self.uploads.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Large bodies from the server, taken slowly.
    pub(crate) fn download(&self, to: SocketAddr) -> Outcome {
        while self.goes_on() {
            let mut stream = connect(to)?;
            stream.write_all(b"GET /download HTTP/1.1\r\nHost: a\r\n\r\n")?;
            let mut unread = Vec::new();
            read_head(&mut stream, &mut unread)?;
            let (mut at, mut buffer) = (0, vec![0; PIECE]);
            loop {
                if !is_intact(at, &unread) {
                    return Err(about("download", at, "its bytes are not those that were sent"));
                }
                at += unread.len();
                if at == LARGE {
                    break;
                }
                let count = stream.read(&mut buffer).map_err(|e| about("download", at, e))?;
                if count == 0 {
                    return Err(about("download", at, "cut"));
                }
                unread.clear();
                unread.extend_from_slice(&buffer[..count]);
                std::thread::sleep(PACE / 4);
            }
            self.downloads.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A tunnel that is never to close.
    pub(crate) fn tunnel(&self, to: SocketAddr) -> Outcome {
        let mut stream = connect(to)?;
        stream.write_all(
            b"GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )?;
        let mut unread = Vec::new();
        let head = read_head(&mut stream, &mut unread)?;
        if !head.starts_with("HTTP/1.1 101 ") {
            return Err(about("tunnel", 0, head));
        }
        let mut number = 0_u64;
        while self.goes_on() {
            number += 1;
            stream.write_all(&number.to_be_bytes())?;
            let mut back = [0; 8];
            stream.read_exact(&mut back).map_err(|e| about("tunnel", number, e))?;
            if back != number.to_be_bytes() {
                return Err(about("tunnel", number, "other bytes came back"));
            }
            self.echoes.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(PACE);
        }
        Ok(())
    }
}

fn about(what: &str, at: impl Display, why: impl Display) -> Error {
    Error::other(format!("{what} at {at}: {why}"))
}

fn connect(to: SocketAddr) -> Result<TcpStream, Error> {
    let stream = TcpStream::connect(to).map_err(|e| about("connect", to, e))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(2 * PATIENCE))?;
    stream.set_write_timeout(Some(2 * PATIENCE))?;
    Ok(stream)
}

/// A request and its answer; whether the connection is to be closed.
fn ask(stream: &mut TcpStream, path: &str) -> Result<bool, Error> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())?;
    let (head, body) = answer(stream)?;
    if body != path.as_bytes() {
        return Err(Error::other(format!("not what was asked for: {head}")));
    }
    Ok(head.to_ascii_lowercase().contains("\r\nconnection: close\r\n"))
}

/// A whole answer with 200 and a Content-Length.
fn answer(stream: &mut TcpStream) -> Result<(String, Vec<u8>), Error> {
    let mut body = Vec::new();
    let head = read_head(stream, &mut body)?;
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let (Some(length), true) = (length, head.starts_with("HTTP/1.1 200 ")) else {
        return Err(Error::other(head));
    };
    let already = body.len();
    body.resize(length, 0);
    stream.read_exact(&mut body[already.min(length)..])?;
    Ok((head, body))
}

/// The connection is closed as was said, and not reset.
fn ends(stream: &mut TcpStream) -> Outcome {
    match stream.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Error::other("bytes after the last answer")),
        Err(e) => Err(about("close", "the end", e)),
    }
}

/// Reads until a head is whole, the empty line included; what follows stays in `unread`.
pub(crate) fn read_head(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Result<String, Error> {
    let mut buffer = [0; 16 * 1024];
    loop {
        if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = unread.drain(..end + 4).collect();
            return String::from_utf8(head).map_err(Error::other);
        }
        match stream.read(&mut buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => unread.extend_from_slice(&buffer[..count]),
        }
    }
}

fn byte_at(at: usize) -> u8 {
    (at % 251) as u8
}

/// The bytes of a large body from there on, as many as are sent at once.
pub(crate) fn piece_at(at: usize) -> Vec<u8> {
    (at..LARGE.min(at + PIECE)).map(byte_at).collect()
}

/// Whether these are the bytes from there on.
pub(crate) fn is_intact(at: usize, bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(offset, &byte)| byte == byte_at(at + offset))
}
