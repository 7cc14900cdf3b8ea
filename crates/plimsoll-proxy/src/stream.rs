//! A connected byte stream, TCP or Unix, read and written without ever owning a buffer while it waits.
//!
//! Reads go through tokio's `poll_read`, which clears readiness after a short read: the `recv` that is known
//! to end in `EAGAIN` is never made.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::buffer::{Buffer, Buffers};

/// A connection to a client or a server.
pub(crate) enum Stream {
    /// A client that has just been accepted, and that the runtime does not watch yet.
    Fresh(Fresh),
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// A socket that is tried before it is watched. A client's first request has mostly come when it is accepted, and one that closes after its
/// answer never had to be watched: that saves two system calls of the ten that it takes.
pub(crate) struct Fresh {
    /// `None` if watching it failed.
    socket: Option<std::net::TcpStream>,
    /// Something was read already: what comes next has to be waited for.
    read: bool,
    /// Whoever waits for a reset has asked once.
    asked: bool,
}

impl Stream {
    /// A client's socket, which must not block.
    pub(crate) fn fresh(socket: std::net::TcpStream) -> Stream {
        Stream::Fresh(Fresh { socket: Some(socket), read: false, asked: false })
    }

    /// True while nobody would be woken by what happens to it.
    pub(crate) fn is_fresh(&self) -> bool {
        matches!(self, Stream::Fresh(_))
    }

    /// From now on the runtime watches it. Fails when there is no room for that.
    fn watch(&mut self) -> io::Result<()> {
        if let Stream::Fresh(fresh) = self {
            let socket = fresh.socket.take().ok_or(io::ErrorKind::NotConnected)?;
            *self = Stream::Tcp(TcpStream::from_std(socket)?);
        }
        Ok(())
    }

    /// Reads what is there into `buffer`, at most `most` bytes. `Ok(0)` is the end of the stream. Takes memory only once there is
    /// something to read; `max` is what `buffer` may grow to.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
        buffers: &Buffers,
        (most, max): (usize, usize),
    ) -> Poll<io::Result<usize>> {
        if buffer.owns_nothing() {
            ready!(self.poll_readable(cx))?;
        }
        buffers.make_room(buffer, max);
        let room = buffer.room();
        let room_len = room.len().min(most);
        let mut read = ReadBuf::new(&mut room[..room_len]);
        let result = match self {
            Stream::Fresh(fresh) => match fresh.read(&mut read) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.watch()?;
                    return self.poll_fill(cx, buffer, buffers, (most, max));
                }
                result => Poll::Ready(result),
            },
            Stream::Tcp(s) => Pin::new(s).poll_read(cx, &mut read),
            Stream::Unix(s) => Pin::new(s).poll_read(cx, &mut read),
        };
        let n = read.filled().len();
        match result {
            Poll::Ready(Ok(())) => {
                buffer.added(n);
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => {
                buffers.park(buffer);
                Poll::Pending
            }
        }
    }

    /// Ready when a read would give bytes, the end, or an error; or when a fresh one is to be tried.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Fresh(fresh) if !fresh.read => Poll::Ready(Ok(())),
            _ => {
                self.watch()?;
                self.poll_watched(cx)
            }
        }
    }

    fn poll_watched(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Fresh(_) => Poll::Pending,
            Stream::Tcp(s) => s.poll_read_ready(cx),
            Stream::Unix(s) => s.poll_read_ready(cx),
        }
    }

    /// True if nothing has come from the peer since the last short read: no bytes, no end, no error. Costs no system call,
    /// unless the task has used up its turn, or nobody watches it.
    pub(crate) fn is_quiet(&self) -> bool {
        if self.is_fresh() || !tokio::task::coop::has_budget_remaining() {
            return self.is_open(); // out of budget, tokio answers "pending" to everything, so only the kernel knows
        }
        self.poll_watched(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// True if bytes have come that nobody has read: closing now would send a reset. Of one that is watched it may say so of an end, too.
    pub(crate) fn has_more(&self) -> bool {
        match self {
            Stream::Fresh(_) => self.peek().is_ok_and(|count| count > 0),
            _ => !self.is_quiet(),
        }
    }

    /// Asks the kernel whether the peer has closed, or sent anything. For requests that may not be repeated, to which [`Stream::is_quiet`] may come too late.
    pub(crate) fn is_open(&self) -> bool {
        self.peek().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    fn peek(&self) -> io::Result<usize> {
        let mut byte = [MaybeUninit::uninit()];
        match self {
            Stream::Fresh(fresh) => fresh.socket().and_then(|s| SockRef::from(s).peek(&mut byte)),
            Stream::Tcp(s) => SockRef::from(s).peek(&mut byte),
            Stream::Unix(s) => SockRef::from(s).peek(&mut byte),
        }
    }

    /// Where a TCP client connected to.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Stream::Fresh(fresh) => fresh.socket().and_then(std::net::TcpStream::local_addr).ok(),
            Stream::Tcp(s) => s.local_addr().ok(),
            Stream::Unix(_) => None,
        }
    }

    /// Writes from several places at once; `Ok(n)` tells how much was taken.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Stream::Fresh(fresh) = self {
            let written = fresh.socket().and_then(|mut s| match slices {
                [one] => s.write(one),
                _ => s.write_vectored(slices),
            });
            match written {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.watch()?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => return self.poll_write(cx, slices),
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                result => return Poll::Ready(result),
            }
        }
        let result = match (self, slices) {
            (Stream::Fresh(_), _) => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            (Stream::Tcp(s), [one]) => Pin::new(s).poll_write(cx, one),
            (Stream::Tcp(s), _) => Pin::new(s).poll_write_vectored(cx, slices),
            (Stream::Unix(s), _) => Pin::new(s).poll_write_vectored(cx, slices),
        };
        match ready!(result) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            result => Poll::Ready(result),
        }
    }

    /// Tells the peer that nothing more will come.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Fresh(fresh) => Poll::Ready(fresh.socket().and_then(|s| s.shutdown(Shutdown::Write))),
            Stream::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Unix(s) => Pin::new(s).poll_shutdown(cx),
        }
    }

    /// Looks whether the peer has reset the connection. Bytes waiting and a half-close are no reset. A fresh one is only watched
    /// once this is asked again: most answers come at once, so whoever asks looks again at the next tick.
    pub(crate) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Stream::Fresh(fresh) = self
            && !std::mem::replace(&mut fresh.asked, true)
        {
            return Poll::Pending;
        }
        if let Err(e) = self.watch() {
            return Poll::Ready(e);
        }
        let mut byte = [0u8; 1];
        let Stream::Tcp(s) = self else {
            return Poll::Pending;
        };
        match s.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Err(e)) => Poll::Ready(e),
            _ => Poll::Pending,
        }
    }

    /// Makes closing send a reset, so that a message cut short can never be taken for one that ended.
    pub(crate) fn reset_on_close(&self) {
        // Fails only on a socket that is already gone.
        let _ = match self {
            Stream::Fresh(fresh) => {
                fresh.socket().and_then(|s| SockRef::from(s).set_linger(Some(Duration::ZERO)))
            }
            Stream::Tcp(s) => s.set_zero_linger(),
            Stream::Unix(_) => Ok(()),
        };
    }
}

impl Fresh {
    fn socket(&self) -> io::Result<&std::net::TcpStream> {
        self.socket.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn read(&mut self, into: &mut ReadBuf<'_>) -> io::Result<()> {
        loop {
            match self.socket()?.read(into.initialize_unfilled()) {
                Ok(n) => {
                    self.read = true;
                    into.advance(n);
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}
