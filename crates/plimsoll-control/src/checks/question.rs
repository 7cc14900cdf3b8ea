//! One question to one server: whom to ask, what, and what came of it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use plimsoll_config::model::{Address, Check, How};
use rustix::net::sockopt::set_tcp_quickack;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use super::{http, program};

/// What is asked of whom.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    pub(super) check: Check,
    /// Where to ask.
    pub(super) address: Address,
    pub(super) backend: Box<str>,
    pub(super) server: Box<str>,
}

/// Why a check did not pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server's fault, in words.
    Server(String),
    /// This process lacks something, so that nothing is known of the server.
    Ours,
}

/// A connection of whatever kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Question {
    /// Asks, and takes no longer than the check may.
    pub(super) async fn ask(&self) -> Result<(), Trouble> {
        let until = Instant::now() + self.check.timeout;
        match &self.check.how {
            How::Tcp => self.connect(until).await.map(drop),
            How::Http(check) => {
                let mut stream = self.connect(until).await?;
                let answered = timeout_at(until, http::ask(&mut *stream, check, &self.address)).await;
                answered.unwrap_or_else(|_| Err(self.late("no whole answer")))
            }
            How::Program(arguments) => {
                let ended = timeout_at(until, program::run(arguments, self)).await;
                ended.unwrap_or_else(|_| Err(self.late("the program did not end")))
            }
        }
    }

    fn late(&self, what: &str) -> Trouble {
        Trouble::Server(format!("{what} within {}", seconds(self.check.timeout)))
    }

    async fn connect(&self, until: Instant) -> Result<Box<dyn Stream>, Trouble> {
        let speaks = matches!(self.check.how, How::Http(_));
        let connected = timeout_at(until, dial(&self.address, speaks)).await;
        connected.unwrap_or_else(|_| Err(self.late("no connection")))
    }
}

/// Connects, for as long as that takes. Whether we are the first to say something decides how; see [`connect_tcp`].
pub(super) async fn dial(address: &Address, speaks: bool) -> Result<Box<dyn Stream>, Trouble> {
    connect(address, speaks).await.map_err(|e| match is_ours(&e) {
        // A Unix socket says EAGAIN when its server's queue is full.
        true if !matches!(address, Address::Unix(_)) => Trouble::Ours,
        _ => Trouble::Server(format!("no connection: {}", said(&e))),
    })
}

async fn connect(address: &Address, speaks: bool) -> io::Result<Box<dyn Stream>> {
    Ok(match address {
        Address::Socket(address) => Box::new(connect_tcp(*address, speaks).await?),
        Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        // Names are resolved before a snapshot is made.
        Address::Name(name, _) => return Err(io::Error::other(format!("{name} was not resolved"))),
    })
}

/// Connects. Where we speak first the handshake's last packet waits for what we say and goes with it, as HAProxy has it: one packet less, and the server is
/// woken once. If we kept silent, the kernel would send it after 40 to 200 ms.
async fn connect_tcp(address: SocketAddr, speaks: bool) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if speaks {
        let _ = set_tcp_quickack(&socket, false); // it is as good without
    }
    socket.connect(address).await
}

/// Whether an error says that this process or machine lacks something.
pub(super) fn is_ours(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let shortages =
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL, Errno::AGAIN];
    error.raw_os_error().is_some_and(|code| shortages.iter().any(|e| e.raw_os_error() == code))
}

/// An error without its number.
pub(super) fn said(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_ascii_lowercase()
}

fn seconds(time: Duration) -> String {
    match time.as_millis() {
        millis if millis % 1_000 == 0 => format!("{} s", millis / 1_000),
        millis => format!("{millis} ms"),
    }
}
