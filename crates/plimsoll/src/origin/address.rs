//! Where an origin listens: a TCP address or a Unix socket, from the text to the bound listener.
//!
//! `:8000` means 127.0.0.1, not every address: an origin can be told to misbehave by whoever reaches it. A stale socket
//! file that nobody listens on is replaced; one that is in use never is.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bind {
    /// IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

/// A bound address.
#[derive(Debug)]
pub(crate) enum Listener {
    /// IPv4 or IPv6.
    Tcp(TcpListener),
    /// A socket file.
    Unix(UnixListener),
}

/// An accepted connection.
#[derive(Debug)]
pub(crate) enum Stream {
    /// IPv4 or IPv6.
    Tcp(TcpStream),
    /// A socket file.
    Unix(UnixStream),
}

impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Bind, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err(format!(r#""{text}" needs an absolute path, such as "unix:/tmp/origin.sock""#));
            }
            return Ok(Bind::Unix(PathBuf::from(path)));
        }
        if let Some(port) = text.strip_prefix(':') {
            let port = port.parse().map_err(|_| format!(r#""{port}" is not a port (0 to 65535)"#))?;
            return Ok(Bind::Tcp((Ipv4Addr::LOCALHOST, port).into()));
        }
        if text.parse::<u16>().is_ok() {
            return Err(format!(r#"write the port as ":{text}""#));
        }
        let mut addresses =
            text.to_socket_addrs().map_err(|error| format!(r#""{text}" is not HOST:PORT: {error}"#))?;
        addresses.next().map(Bind::Tcp).ok_or_else(|| format!(r#""{text}" has no address"#))
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bind::Tcp(address) => write!(f, "{address}"),
            Bind::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Bind {
    /// The address as a browser or a person takes it.
    pub(crate) fn url(&self) -> String {
        match self {
            Bind::Tcp(address) => format!("http://{address}"),
            Bind::Unix(_) => self.to_string(),
        }
    }

    /// Removes what a closed listener leaves behind: the socket file.
    pub(crate) fn clean_up(&self) {
        if let Bind::Unix(path) = self {
            // Already gone is as good as removed, and there is nobody to tell of anything else.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Listener {
    /// Binds `bind`. The error is the kernel's; the caller names the address.
    pub(crate) async fn bind(bind: &Bind) -> io::Result<Listener> {
        match bind {
            Bind::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
            Bind::Unix(path) => {
                remove_stale(path).await?;
                UnixListener::bind(path).map(Listener::Unix)
            }
        }
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Without it, an answer in two segments waits 40 ms for the peer's delayed ACK.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }

    /// The address with the port that the kernel chose, if it was to choose one.
    pub(crate) fn address(&self) -> io::Result<Bind> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map(Bind::Tcp),
            Listener::Unix(listener) => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().ok_or(io::ErrorKind::InvalidInput)?;
                Ok(Bind::Unix(path.to_owned()))
            }
        }
    }
}

/// Removes a socket file whose process is gone. Anything else stays, and makes `bind` fail.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_port_with_colon_is_loopback() {
        assert_eq!(":8000".parse(), Ok(Bind::Tcp("127.0.0.1:8000".parse().unwrap())));
    }

    #[test]
    fn addresses_of_every_kind_are_read_and_written_the_same() {
        for text in ["127.0.0.1:8000", "[::1]:0", "unix:/tmp/a.sock"] {
            assert_eq!(text.parse::<Bind>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_right_spelling() {
        assert_eq!("8000".parse::<Bind>().unwrap_err(), r#"write the port as ":8000""#);
        for wrong in ["", ":", ":99999", "unix:", "unix:a.sock", "127.0.0.1"] {
            assert!(wrong.parse::<Bind>().is_err(), "{wrong:?}");
        }
    }
}
