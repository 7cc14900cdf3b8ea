//! A connected byte stream, TCP or Unix, read and written without ever owning a buffer while it waits.
//!
//! Reads go through tokio's `poll_read`, which clears readiness after a short read: the `recv` that is known
//! to end in `EAGAIN` is never made.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::buffer::{Buffer, Buffers};

/// A connection to a client or a server.
pub(crate) enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Stream {
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

    /// Ready when a read would give bytes, the end, or an error.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(s) => s.poll_read_ready(cx),
            Stream::Unix(s) => s.poll_read_ready(cx),
        }
    }

    /// True if nothing has come from the peer since the last short read: no bytes, no end, no error. Costs no system call,
    /// unless the task has used up its turn.
    pub(crate) fn is_quiet(&self) -> bool {
        if !tokio::task::coop::has_budget_remaining() {
            return self.is_open(); // tokio answers "pending" to everything now, so only the kernel knows
        }
        self.poll_readable(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Asks the kernel whether the peer has closed, or sent anything. For requests that may not be repeated, to which [`Stream::is_quiet`] may come too late.
    pub(crate) fn is_open(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = match self {
            Stream::Tcp(s) => SockRef::from(s).peek(&mut byte),
            Stream::Unix(s) => SockRef::from(s).peek(&mut byte),
        };
        peeked.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Where a TCP client connected to.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        match self {
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
        let result = match (self, slices) {
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
            Stream::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Unix(s) => Pin::new(s).poll_shutdown(cx),
        }
    }

    /// Looks whether the peer has reset the connection. Bytes waiting and a half-close are no reset.
    pub(crate) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
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
        if let Stream::Tcp(s) = self {
            // Fails only on a socket that is already gone.
            let _ = s.set_zero_linger();
        }
    }
}
