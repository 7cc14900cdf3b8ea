//! A client that writes raw bytes and reads answers with the oracle.
//!
//! Reading an answer has a definite outcome in every case, the bad ones included, so that a table can say which one it
//! expects. Sending never fails: a server that has closed early is seen when reading.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::oracle::{self, Asked, Response, Rules, Verdict};

/// What came back for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A whole response.
    Whole(Response),
    /// The start of a response, then the end of the connection.
    Cut(Vec<u8>),
    /// The end of the connection, without a byte.
    Closed,
    /// Bytes that the oracle refuses as a response.
    Malformed(&'static str, Vec<u8>),
    /// Maybe some bytes, then nothing until patience ended.
    Silent(Vec<u8>),
}

impl Answer {
    /// The response; panics with what came instead.
    #[track_caller]
    pub fn whole(self) -> Response {
        match self {
            Self::Whole(response) => response,
            other => panic!("no whole answer came: {}", other.describe()),
        }
    }

    /// The final status, if a whole response came.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Whole(response) => Some(response.status),
            _ => None,
        }
    }

    /// One line for a failure message.
    pub fn describe(&self) -> String {
        match self {
            Self::Whole(response) => format!("{} with {}", response.status, show(&response.body)),
            Self::Cut(bytes) => format!("cut after {}", show(bytes)),
            Self::Closed => "closed without an answer".to_owned(),
            Self::Malformed(class, bytes) => format!("malformed ({class}): {}", show(bytes)),
            Self::Silent(bytes) => format!("silent after {}", show(bytes)),
        }
    }
}

/// Bytes as readable text, shortened.
pub fn show(bytes: &[u8]) -> String {
    let shown = bytes[..bytes.len().min(400)].escape_ascii().to_string();
    if bytes.len() > 400 { format!("\"{shown}\"… ({} bytes)", bytes.len()) } else { format!("\"{shown}\"") }
}

/// A plain request for a path.
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

/// What reading brought.
enum More {
    Bytes,
    End,
    Nothing,
}

/// A connection to the program.
pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
    ended: bool,
    /// It ended with an RST, so that a body until close is not whole.
    reset: bool,
}

impl Client {
    /// Connects.
    pub fn connect(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect(to).expect("it listens"))
    }

    /// On a connection that is there.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP has it");
        stream.set_write_timeout(Some(PATIENCE)).expect("it is not zero");
        Self { stream, unread: Vec::new(), ended: false, reset: false }
    }

    /// Sends bytes. A peer that no longer takes them is seen when reading.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends each byte by itself.
    pub fn trickle(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.stream.write_all(&[*byte]).is_err() {
                return;
            }
        }
    }

    /// Sends FIN; answers can still come.
    pub fn finish_sending(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads the next answer to a GET, POST or the like.
    pub fn answer(&mut self) -> Answer {
        self.answer_to(Asked { method: b"GET", upgrade: false })
    }

    /// Reads the next answer to such a request.
    pub fn answer_to(&mut self, asked: Asked<'_>) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let closed = self.ended && !self.reset;
            match oracle::response(&self.unread, asked, closed, &Rules::default()) {
                Verdict::Message(response) => {
                    self.unread.drain(..response.consumed);
                    return Answer::Whole(response);
                }
                Verdict::Incomplete | Verdict::Reject("truncated") if self.ended => {
                    let bytes = std::mem::take(&mut self.unread);
                    return if bytes.is_empty() { Answer::Closed } else { Answer::Cut(bytes) };
                }
                Verdict::Reject(class) => return Answer::Malformed(class, self.unread.clone()),
                Verdict::Incomplete => {}
            }
            if matches!(self.read_more(deadline), More::Nothing) {
                return Answer::Silent(self.unread.clone());
            }
        }
    }

    /// Reads so many bytes as they come, for tunnels; fewer at the end of the connection.
    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        while self.unread.len() < count && matches!(self.read_more(deadline), More::Bytes) {}
        self.unread.drain(..count.min(self.unread.len())).collect()
    }

    /// Reads until the bytes that came satisfy `enough`, or no more come; leaves them to be read again.
    pub fn read_until(&mut self, enough: impl Fn(&[u8]) -> bool) -> &[u8] {
        let deadline = Instant::now() + PATIENCE;
        while !enough(&self.unread) && matches!(self.read_more(deadline), More::Bytes) {}
        &self.unread
    }

    /// Waits for the end of the connection; `false` if bytes come instead, or nothing does.
    pub fn is_closed(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        self.unread.is_empty() && matches!(self.read_more(deadline), More::End)
    }

    /// What came and was not read as an answer.
    pub fn unread(&self) -> &[u8] {
        &self.unread
    }

    fn read_more(&mut self, deadline: Instant) -> More {
        let mut buffer = [0; 16 * 1024];
        if self.ended {
            return More::End;
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left)).expect("it is not zero");
        let read = loop {
            match self.stream.read(&mut buffer) {
                // A read with a timeout is not restarted when this thread is the one that is told of a child's end.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read {
            Ok(count) if count > 0 => {
                self.unread.extend_from_slice(&buffer[..count]);
                More::Bytes
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                More::Nothing
            }
            end => {
                self.ended = true;
                self.reset = end.is_err();
                More::End
            }
        }
    }
}

/// Sends bytes on a fresh connection and returns all that comes until it closes or stays quiet for two seconds.
pub fn exchange(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut client = Client::connect(to);
    client.send(bytes);
    while matches!(client.read_more(Instant::now() + Duration::from_secs(2)), More::Bytes) {}
    client.unread
}
