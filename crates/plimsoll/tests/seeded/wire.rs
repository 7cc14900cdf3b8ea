//! Writing messages to sockets in pieces, and ending connections by a reset.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use socket2::SockRef;

use super::plan::{Dice, Frame};

/// A body as it goes on the wire.
pub(crate) fn framed(frame: Frame, body: &[u8], dice: &mut Dice) -> Vec<u8> {
    if frame != Frame::Chunked {
        return body.to_vec();
    }
    let (mut out, mut rest) = (Vec::new(), body);
    while !rest.is_empty() {
        let (chunk, later) = rest.split_at((1 + dice.below(rest.len().min(9_000))).min(rest.len()));
        let extension = if dice.percent(10) { ";a=\"b\"" } else { "" };
        out.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        rest = later;
    }
    let trailer = if dice.percent(10) { "X-Trailer: 1\r\n" } else { "" };
    out.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
    out
}

/// Writes in up to five pieces, each a segment of its own as far as the kernel goes along. False if the peer is gone.
pub(crate) fn write_pieces(stream: &mut TcpStream, bytes: &[u8], dice: &mut Dice) -> bool {
    let mut rest = bytes;
    for _ in 0..dice.below(5) {
        let (piece, later) = rest.split_at(dice.below(rest.len() + 1));
        if stream.write_all(piece).is_err() {
            return false;
        }
        std::thread::yield_now();
        rest = later;
    }
    stream.write_all(rest).is_ok()
}

/// Ends a connection by RST.
pub(crate) fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}
