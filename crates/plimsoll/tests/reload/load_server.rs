//! The server behind the load: small answers, uploads counted, downloads of a known size, and tunnels.
//!
//! A thread a connection. It never closes a connection that its peer keeps, so whatever a client loses the proxy has lost.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// What `/download` sends, all `d`.
pub(crate) const DOWNLOAD: usize = 1 << 20;

/// Serves until the test's process ends.
pub(crate) fn start(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(stream, name));
        }
    });
    address
}

fn serve(stream: TcpStream, name: &str) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut out = stream.try_clone().ok()?;
    let mut input = BufReader::with_capacity(64 << 10, stream);
    loop {
        let (path, length) = head(&mut input)?;
        let answer = match path.as_str() {
            "/tunnel" | "/changing-tunnel" => return tunnel(input, out),
            "/upload" => format!("{}", discard(&mut input, length)?),
            "/download" => "d".repeat(DOWNLOAD),
            _ => name.to_owned(),
        };
        write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len()).ok()?;
    }
}

/// The next request's path and the length of its body.
fn head(input: &mut impl BufRead) -> Option<(String, u64)> {
    let mut line = String::new();
    input.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        input.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().ok()?;
            }
            Some(_) => {}
            None => return Some((path, length)),
        }
    }
}

fn discard(input: &mut impl Read, length: u64) -> Option<u64> {
    std::io::copy(&mut input.take(length), &mut std::io::sink()).ok()
}

fn tunnel(mut input: impl Read, mut out: TcpStream) -> Option<()> {
    out.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .ok()?;
    std::io::copy(&mut input, &mut out).ok().map(drop)
}
