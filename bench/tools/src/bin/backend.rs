//! `backend ADDRESS...`: the server behind the proxies under test, on as many addresses as given, on one thread.
//!
//! Answers every request with as many bytes as the last piece of its path says (`/1k`, `/64k`, `/1m`; 1 KiB otherwise), after reading and
//! dropping its body, and keeps the connection. Says `ready` once it listens. It must cost as little as can be, because it shares its
//! core with the load; it knows no chunked bodies and answers them with 501.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use plimsoll_bench_tools::{Interest, Poller, Ready, Slots, content_length, fail, head_end, header, listen};

const SIZES: [(&str, usize); 3] = [("1k", 1 << 10), ("64k", 64 << 10), ("1m", 1 << 20)];
const MAX_HEAD: usize = 64 << 10;
const REFUSED: &[u8] = b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

struct Connection {
    stream: TcpStream,
    /// What came of a head that is not whole, or came while an answer was being written.
    kept: Vec<u8>,
    /// Bytes of the body still to be dropped.
    body: usize,
    /// The answer to the request that is being read.
    answer: usize,
    /// Bytes of the answer that the socket has not taken.
    unsent: usize,
    close: bool,
}

/// The connection is over.
struct Over;

fn main() {
    let addresses: Vec<SocketAddr> = std::env::args()
        .skip(1)
        .map(|text| text.parse().unwrap_or_else(|_| fail(&format!("backend: {text} is no address"))))
        .collect();
    let listeners: Vec<TcpListener> = addresses
        .iter()
        .map(|&address| {
            listen(address).unwrap_or_else(|e| fail(&format!("backend: cannot listen on {address}: {e}")))
        })
        .collect();
    if listeners.is_empty() {
        fail("usage: backend ADDRESS...");
    }
    println!("ready");
    if let Err(error) = serve(&listeners) {
        fail(&format!("backend: {error}"));
    }
}

fn serve(listeners: &[TcpListener]) -> std::io::Result<()> {
    let kinds = ["", "Connection: close\r\n"];
    let answers: Vec<Vec<u8>> =
        kinds.iter().flat_map(|kind| SIZES.map(|(_, size)| answer(size, kind))).collect();
    let mut poller = Poller::new()?;
    for (listener, token) in listeners.iter().zip(0..) {
        poller.add(listener, token, Interest::Read)?;
    }
    let (mut connections, mut ready, mut buffer) = (Slots::default(), Vec::new(), vec![0; 256 << 10]);
    loop {
        poller.wait(&mut ready)?;
        for event in &ready {
            let token = event.token as usize;
            let Some(slot) = token.checked_sub(listeners.len()) else {
                accept(&listeners[token], listeners.len(), &poller, &mut connections)?;
                continue;
            };
            let Some(connection) = connections.at(slot) else { continue };
            if connection.step(event, &poller, &answers, &mut buffer).is_err() {
                connections.remove(slot);
            }
        }
    }
}

fn answer(size: usize, connection: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: backend\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\n\
         Content-Type: text/plain\r\nContent-Length: {size}\r\n{connection}\r\n"
    );
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + size, b'x');
    bytes
}

fn accept(
    listener: &TcpListener,
    first: usize,
    poller: &Poller,
    connections: &mut Slots<Connection>,
) -> std::io::Result<()> {
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let connection = Connection { stream, kept: Vec::new(), body: 0, answer: 0, unsent: 0, close: false };
        let slot = connections.insert(connection);
        let stream = &connections.at(slot).expect("just inserted").stream;
        poller.add(stream, (first + slot) as u64, Interest::Read)?;
    }
    Ok(())
}

impl Connection {
    fn step(
        &mut self,
        event: &Ready,
        poller: &Poller,
        answers: &[Vec<u8>],
        buffer: &mut [u8],
    ) -> Result<(), Over> {
        let waiting = self.unsent > 0;
        if waiting && event.writable {
            self.send(answers)?;
            if self.unsent == 0 {
                let kept = std::mem::take(&mut self.kept);
                self.take(&kept, answers)?;
            }
        } else if event.failed && waiting {
            return Err(Over);
        } else if !waiting {
            match self.stream.read(buffer) {
                Ok(0) => return Err(Over),
                Ok(count) => self.take(&buffer[..count], answers)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Err(Over),
            }
        }
        match (waiting, self.unsent > 0) {
            (false, true) => poller.change(&self.stream, event.token, Interest::Write).map_err(|_| Over),
            (true, false) => poller.change(&self.stream, event.token, Interest::Read).map_err(|_| Over),
            _ => Ok(()),
        }
    }

    /// Takes bytes from the client, and answers what is whole.
    fn take(&mut self, arrived: &[u8], answers: &[Vec<u8>]) -> Result<(), Over> {
        let mut joined = std::mem::take(&mut self.kept);
        let mut bytes = arrived;
        if !joined.is_empty() {
            joined.extend_from_slice(arrived);
            bytes = &joined;
        }
        while !bytes.is_empty() {
            if self.unsent > 0 {
                self.kept = bytes.to_vec();
                return Ok(());
            }
            if self.body == 0 {
                let Some(end) = head_end(bytes) else {
                    self.kept = bytes.to_vec();
                    return if bytes.len() > MAX_HEAD { Err(Over) } else { Ok(()) };
                };
                self.begin(&bytes[..end])?;
                bytes = &bytes[end..];
            }
            let dropped = self.body.min(bytes.len());
            bytes = &bytes[dropped..];
            self.body -= dropped;
            if self.body == 0 {
                self.unsent = answers[self.answer].len();
                self.send(answers)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, head: &[u8]) -> Result<(), Over> {
        if header(head, b"transfer-encoding").is_some() {
            let _ = self.stream.write(REFUSED); // it is over anyway
            return Err(Over);
        }
        let target = head.split(|&b| b == b' ').nth(1).unwrap_or_default();
        let piece = target.rsplit(|&b| b == b'/').next().unwrap_or_default();
        self.answer = SIZES.iter().position(|(name, _)| name.as_bytes() == piece).unwrap_or(0);
        self.body = content_length(head).unwrap_or(0);
        self.close = header(head, b"connection")
            .is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"close"));
        if self.close {
            self.answer += SIZES.len();
        }
        Ok(())
    }

    fn send(&mut self, answers: &[Vec<u8>]) -> Result<(), Over> {
        let answer = &answers[self.answer];
        while self.unsent > 0 {
            match self.stream.write(&answer[answer.len() - self.unsent..]) {
                Ok(count) => self.unsent -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Over),
            }
        }
        if self.close { Err(Over) } else { Ok(()) }
    }
}
