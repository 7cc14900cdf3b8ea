//! `relay LISTEN SERVER`: passes bytes between each client and a connection of its own to the server, and parses nothing.
//!
//! It is the floor under every proxy of two sockets on readiness: one `recv` and one `send` a side, no head read, written or
//! judged, no choice made. What a proxy costs above it is what its work costs.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use plimsoll_bench_tools::{Interest, Poller, Ready, Slots, fail, listen};

struct Side {
    stream: TcpStream,
    /// Bytes for this side that its socket did not take; while there are any, the other side is not read.
    unsent: Vec<u8>,
}

/// A client and its server.
struct Pair([Side; 2]);

/// The pair is over.
struct Over;

fn main() {
    let mut args = std::env::args().skip(1).map(|text| text.parse::<SocketAddr>());
    let (Some(Ok(bind)), Some(Ok(server)), None) = (args.next(), args.next(), args.next()) else {
        fail("usage: relay LISTEN SERVER");
    };
    let listener = listen(bind).unwrap_or_else(|e| fail(&format!("relay: cannot listen on {bind}: {e}")));
    println!("ready");
    if let Err(error) = serve(&listener, server) {
        fail(&format!("relay: {error}"));
    }
}

fn serve(listener: &TcpListener, server: SocketAddr) -> std::io::Result<()> {
    let mut poller = Poller::new()?;
    poller.add(listener, 0, Interest::Read)?;
    let (mut pairs, mut ready, mut buffer) = (Slots::default(), Vec::new(), vec![0; 64 << 10]);
    loop {
        poller.wait(&mut ready)?;
        for event in &ready {
            let Some(number) = event.token.checked_sub(2) else {
                accept(listener, server, &poller, &mut pairs)?;
                continue;
            };
            let (slot, side) = (number as usize / 2, number as usize % 2);
            let Some(pair) = pairs.at(slot) else { continue };
            if pair.step(side, slot, event, &poller, &mut buffer).is_err() {
                pairs.remove(slot);
            }
        }
    }
}

fn token(slot: usize, side: usize) -> u64 {
    (2 + 2 * slot + side) as u64
}

fn accept(
    listener: &TcpListener,
    server: SocketAddr,
    poller: &Poller,
    pairs: &mut Slots<Pair>,
) -> std::io::Result<()> {
    while let Ok((client, _)) = listener.accept() {
        // On loopback this waits for nothing but a full queue.
        let Ok(server) = TcpStream::connect(server) else { continue };
        for stream in [&client, &server] {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
        }
        let slot = pairs.insert(Pair([client, server].map(|stream| Side { stream, unsent: Vec::new() })));
        for (side, Side { stream, .. }) in pairs.at(slot).expect("just inserted").0.iter().enumerate() {
            poller.add(stream, token(slot, side), Interest::Read)?;
        }
    }
    Ok(())
}

impl Pair {
    fn step(
        &mut self,
        side: usize,
        slot: usize,
        event: &Ready,
        poller: &Poller,
        buffer: &mut [u8],
    ) -> Result<(), Over> {
        let blocked = !self.0[side].unsent.is_empty();
        if blocked {
            return if event.writable { self.flush(side, slot, poller) } else { Err(Over) };
        }
        if !self.0[1 - side].unsent.is_empty() {
            return if event.failed { Err(Over) } else { Ok(()) };
        }
        let count = match self.0[side].stream.read(buffer) {
            Ok(0) => return Err(Over),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return Err(Over),
        };
        let other = &mut self.0[1 - side];
        let sent = write(&mut other.stream, &buffer[..count])?;
        if sent < count {
            other.unsent.extend_from_slice(&buffer[sent..count]);
            poller
                .change(&self.0[1 - side].stream, token(slot, 1 - side), Interest::Write)
                .map_err(|_| Over)?;
            poller.change(&self.0[side].stream, token(slot, side), Interest::Nothing).map_err(|_| Over)?;
        }
        Ok(())
    }

    fn flush(&mut self, side: usize, slot: usize, poller: &Poller) -> Result<(), Over> {
        let Side { stream, unsent } = &mut self.0[side];
        let sent = write(stream, unsent)?;
        unsent.drain(..sent);
        if unsent.is_empty() {
            for side in [side, 1 - side] {
                poller.change(&self.0[side].stream, token(slot, side), Interest::Read).map_err(|_| Over)?;
            }
        }
        Ok(())
    }
}

/// Bytes that the socket took.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize, Over> {
    match stream.write(bytes) {
        Ok(count) => Ok(count),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(_) => Err(Over),
    }
}
