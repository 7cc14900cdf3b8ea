//! Moves one message from one stream to another: a head made here, then the body as it comes.
//!
//! One pump serves requests, responses and tunnels. It reads only when everything read before has been
//! written, so a slow reader slows the sender and memory stays at one buffer. Chunks are made anew; head, chunk line, data
//! and chunk end leave in one system call. A pump keeps its state between polls, so dropping it at any point loses nothing
//! but the message. For a retry it can begin again: what it has consumed is kept up to a limit.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use plimsoll_http::{Body, Reason, emit, framing::Framing};

use crate::buffer::{Buffer, Buffers, SIZE};
use crate::stream::Stream;

/// How much is read at once, and how much for a reader that has been slow: bounds what a thousand slow readers hold.
pub(crate) const READ: usize = 32 * 1024;
const SLOW_READ: usize = 16 * 1024;

/// A first piece of a body that is no larger is copied behind the head: cheaper than telling the kernel of two places.
const JOINED: usize = 4 * 1024;

/// Which end of a pump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Where bytes come from.
    Source,
    /// Where they go.
    Sink,
}

/// Why a pump cannot go on.
#[derive(Debug)]
pub(crate) enum Cut {
    /// Reading or writing failed.
    Io(End, io::Error),
    /// The source ended within its message.
    Ended,
    /// The source's framing is broken.
    Framing(Reason),
    /// The body is larger than the route allows.
    TooLarge,
}

/// One message on its way.
pub(crate) struct Pump {
    body: Body,
    out: Framing,
    /// The head to send first. Kept after it was sent, for another attempt and for the log.
    pub(crate) head: Vec<u8>,
    head_done: bool,
    line: Vec<u8>,
    buffer: Buffer,
    tail: &'static [u8],
    /// Of head (unless done), line, buffer and tail together.
    sent: usize,
    read_size: usize,
    /// What came behind the message.
    pub(crate) surplus: Vec<u8>,
    /// The body so far, as long as it can be sent again.
    replay: Option<Vec<u8>>,
    replay_max: usize,
    /// Largest body to let through, in bytes.
    pub(crate) body_max: u64,
    /// Bytes of the body so far, without framing.
    pub(crate) body_bytes: u64,
    /// Bytes read and written, framing included.
    pub(crate) read: u64,
    pub(crate) written: u64,
    /// What the last `Pending` waits for.
    pub(crate) waits_for: End,
}

impl Pump {
    /// Sends `head`, then a body that comes framed as `from` and leaves framed as `to`. `buffer` holds what was read behind
    /// the received head. With `replay`, a message whose body is at most so long can be sent again.
    pub(crate) fn new(
        head: Vec<u8>,
        from: Framing,
        to: Framing,
        buffer: Buffer,
        replay: Option<usize>,
    ) -> Pump {
        Pump {
            body: Body::new(from),
            out: to,
            head,
            head_done: false,
            line: Vec::new(),
            buffer,
            tail: b"",
            sent: 0,
            read_size: READ,
            surplus: Vec::new(),
            replay: replay.map(|_| Vec::new()),
            replay_max: replay.unwrap_or(0),
            body_max: u64::MAX,
            body_bytes: 0,
            read: 0,
            written: 0,
            waits_for: End::Source,
        }
    }

    /// Takes in what came with the head. Call once, before polling.
    pub(crate) fn begin(&mut self) -> Result<(), Cut> {
        if !self.buffer.is_empty() || self.body.is_end() { self.take_in() } else { Ok(()) }
    }

    /// Puts a small first piece of the body behind the head, to be sent as one. Only for a message that is never sent again; call after
    /// [`Pump::begin`].
    pub(crate) fn join(&mut self, buffers: &Buffers) {
        if self.line.len() + self.buffer.len() + self.tail.len() <= JOINED {
            self.head.extend_from_slice(&self.line);
            self.head.extend_from_slice(self.buffer.filled());
            self.head.extend_from_slice(self.tail);
            self.line.clear();
            self.tail = b"";
            buffers.release(&mut self.buffer);
        }
    }

    /// True when the source's message has been read to its end.
    pub(crate) fn is_whole(&self) -> bool {
        self.body.is_end()
    }

    /// Moves what can be moved. Ready when the whole message has been written.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (source, sink): (&mut Stream, &mut Stream),
        buffers: &Buffers,
    ) -> Poll<Result<(), Cut>> {
        loop {
            ready!(self.poll_flush(cx, sink, buffers))?;
            if self.body.is_end() {
                return Poll::Ready(Ok(()));
            }
            self.waits_for = End::Source;
            let room = (self.read_size, SIZE);
            match ready!(source.poll_fill(cx, &mut self.buffer, buffers, room)) {
                Ok(0) if self.body.ends_at_close() => self.end_by_close(),
                Ok(0) => return Poll::Ready(Err(Cut::Ended)),
                Ok(n) => {
                    self.read += n as u64;
                    self.take_in()?;
                }
                Err(e) => return Poll::Ready(Err(Cut::Io(End::Source, e))),
            }
        }
    }

    /// Writes what is waiting. Ready when there is nothing left.
    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut Stream,
        buffers: &Buffers,
    ) -> Poll<Result<(), Cut>> {
        while self.sent < self.pending_len() {
            let (slices, count) = self.pending();
            match sink.poll_write(cx, &slices[..count]) {
                Poll::Ready(Ok(n)) => {
                    self.sent += n;
                    self.written += n as u64;
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(Cut::Io(End::Sink, e))),
                Poll::Pending => {
                    self.waits_for = End::Sink;
                    self.read_size = SLOW_READ;
                    buffers.park(&mut self.buffer);
                    return Poll::Pending;
                }
            }
        }
        self.head_done = true;
        self.line.clear();
        self.tail = b"";
        self.sent = 0;
        buffers.release(&mut self.buffer);
        Poll::Ready(Ok(()))
    }

    fn pieces(&self) -> [&[u8]; 4] {
        [if self.head_done { b"" } else { &self.head }, &self.line, self.buffer.filled(), self.tail]
    }

    fn pending_len(&self) -> usize {
        self.pieces().iter().map(|p| p.len()).sum()
    }

    /// What is left of the pieces, without the empty ones.
    fn pending(&self) -> ([IoSlice<'_>; 4], usize) {
        let mut slices = [IoSlice::new(b""); 4];
        let (mut count, mut skip) = (0, self.sent);
        for piece in self.pieces() {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            if skipped < piece.len() {
                slices[count] = IoSlice::new(&piece[skipped..]);
                count += 1;
            }
        }
        (slices, count)
    }

    /// Decodes what was read and dresses it for sending.
    fn take_in(&mut self) -> Result<(), Cut> {
        let decoded = self.body.decode(self.buffer.filled_mut()).map_err(Cut::Framing)?;
        if decoded.end && decoded.consumed < self.buffer.len() {
            self.surplus = self.buffer.filled()[decoded.consumed..].to_vec();
        }
        self.buffer.truncate(decoded.data);
        self.body_bytes += decoded.data as u64;
        if self.body_bytes > self.body_max {
            return Err(Cut::TooLarge);
        }
        self.remember();
        self.dress(decoded.end);
        Ok(())
    }

    fn end_by_close(&mut self) {
        self.body = Body::new(Framing::None);
        self.dress(true);
    }

    /// Chunk line before, chunk end behind.
    fn dress(&mut self, end: bool) {
        if self.out != Framing::Chunked {
            return;
        }
        let empty = self.buffer.is_empty();
        if !empty {
            emit::chunk_line(&mut self.line, self.buffer.len());
        }
        self.tail = match (empty, end) {
            (false, false) => b"\r\n",
            (false, true) => b"\r\n0\r\n\r\n",
            (true, true) => emit::LAST_CHUNK,
            (true, false) => b"",
        };
    }

    fn remember(&mut self) {
        if let Some(kept) = &mut self.replay {
            if kept.len() + self.buffer.len() > self.replay_max {
                self.replay = None;
            } else {
                kept.extend_from_slice(self.buffer.filled());
            }
        }
    }

    /// True if [`Pump::restart`] can bring back every byte of the message so far.
    pub(crate) fn can_restart(&self) -> bool {
        !self.head_done || self.replay.is_some()
    }

    /// Begins again for another sink. Only after [`Pump::can_restart`].
    pub(crate) fn restart(&mut self) {
        self.sent = 0;
        self.read_size = READ;
        if !self.head_done {
            return; // head and first data are all still waiting
        }
        self.head_done = false;
        self.line.clear();
        self.buffer = Buffer::holding(self.replay.as_deref().unwrap_or_default());
        let end = self.body.is_end();
        self.tail = b"";
        self.dress(end);
    }

    /// Nothing can be written for a while: keep only the memory that is needed.
    pub(crate) fn park(&mut self, buffers: &Buffers) {
        buffers.park(&mut self.buffer);
    }

    /// Gives the read buffer back, whatever is in it.
    pub(crate) fn release(&mut self, buffers: &Buffers) {
        buffers.release(&mut self.buffer);
    }
}
