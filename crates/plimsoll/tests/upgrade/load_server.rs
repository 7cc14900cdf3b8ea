//! The server behind the load: plain answers, long bodies in both directions, tunnels that echo.
//!
//! Every byte of a body depends on its place, so that nothing that is lost, doubled or swapped goes unseen.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::load_clients::{LARGE, piece_at, read_head};

/// Serves until the test's process ends.
pub(crate) fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let small = std::thread::Builder::new().stack_size(256 * 1024);
            small.spawn(move || drop(serve(stream))).expect("threads suffice");
        }
    });
    address
}

/// Answers until the peer closes.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut unread = Vec::new();
    loop {
        let head = read_head(&mut stream, &mut unread)?;
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        match path.as_str() {
            "/upload" => {
                let intact = take(&mut stream, &mut unread)?;
                let body = if intact { "intact" } else { "broken" };
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n{body}")?;
            }
            "/download" => {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n")?;
                let mut at = 0;
                while at < LARGE {
                    let piece = piece_at(at);
                    stream.write_all(&piece)?;
                    at += piece.len();
                }
            }
            "/tunnel" => {
                stream.write_all(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                )?;
                return echo(stream, &unread);
            }
            _ => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len())?,
        }
    }
}

/// Reads an upload; whether every byte is what it must be.
fn take(stream: &mut TcpStream, unread: &mut Vec<u8>) -> std::io::Result<bool> {
    let (mut at, mut intact) = (0, true);
    let mut buffer = vec![0; 64 * 1024];
    while at < LARGE {
        if unread.is_empty() {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            unread.extend_from_slice(&buffer[..count]);
        }
        let count = unread.len().min(LARGE - at);
        intact &= crate::load_clients::is_intact(at, &unread[..count]);
        unread.drain(..count);
        at += count;
    }
    Ok(intact)
}

fn echo(mut stream: TcpStream, early: &[u8]) -> std::io::Result<()> {
    stream.write_all(early)?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}
