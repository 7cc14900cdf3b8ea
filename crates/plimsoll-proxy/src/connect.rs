//! A new connection to a server, within a time.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use plimsoll_config::model::Address;
use tokio::net::{TcpStream, UnixStream};

use crate::deadline::Timer;
use crate::error::{Error, Phase, What, Who, is_our_shortage};
use crate::stream::Stream;

/// Connects to `address`, or says why not.
pub(crate) async fn connect(address: &Address, timer: &Timer, limit: Duration) -> Result<Stream, Error> {
    timer.arm(limit);
    let mut dialing = pin!(dial(address));
    poll_fn(|cx| match dialing.as_mut().poll(cx) {
        Poll::Ready(Ok(stream)) => Poll::Ready(Ok(stream)),
        // A Unix socket says EAGAIN when its server's queue is full.
        Poll::Ready(Err(e))
            if is_our_shortage(&e)
                && !matches!(address, Address::Unix(_) if e.kind() == io::ErrorKind::WouldBlock) =>
        {
            Poll::Ready(Err(failed(Who::Us, What::NoDescriptors)))
        }
        Poll::Ready(Err(e)) => Poll::Ready(Err(failed(Who::Server, What::Io(e)))),
        Poll::Pending if timer.poll_due(cx) => Poll::Ready(Err(failed(Who::Server, What::TimedOut))),
        Poll::Pending => Poll::Pending,
    })
    .await
}

fn failed(who: Who, what: What) -> Error {
    Error::new(who, Phase::Connect, what)
}

async fn dial(address: &Address) -> io::Result<Stream> {
    match address {
        Address::Socket(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?; // a head must not wait for the acknowledgement of the one before
            Ok(Stream::Tcp(stream))
        }
        Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        // Names are resolved before a snapshot is made.
        Address::Name(name, _) => {
            Err(io::Error::new(io::ErrorKind::NotFound, format!("{name} was not resolved")))
        }
    }
}
