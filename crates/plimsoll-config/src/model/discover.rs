//! Where a backend's servers come from when they are not all in the file.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A source of servers, beside those of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discover {
    /// What is asked.
    pub source: Source,
    /// How often a file is looked at and a URL is asked; DNS goes by its TTL.
    pub every: Duration,
    /// An answer without servers is believed.
    pub allow_empty: bool,
    /// `max_requests` of servers that don't say otherwise.
    pub max_requests: u32,
    /// The order of a list has a meaning: servers are taken from its top.
    pub is_ordered: bool,
}

/// What is asked for servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A list in a file.
    File(PathBuf),
    /// Every address of a name is a server.
    Dns {
        /// As written, lower case; one that ends with a dot is not searched for.
        name: String,
        /// Every server's port; at least 1.
        port: u16,
        /// Who is asked; `None` is whom the system asks.
        resolver: Option<SocketAddr>,
    },
    /// Every SRV record of a name is a server.
    DnsSrv {
        /// As written, lower case.
        name: String,
        /// Who is asked; `None` is whom the system asks.
        resolver: Option<SocketAddr>,
    },
    /// A list behind an `http://` or `https://` URL.
    Http {
        /// For `https://`: whom to believe who the registry is.
        tls: Option<Roots>,
        /// A name or an IP address; of IPv6 without brackets.
        host: String,
        /// The port; at least 1.
        port: u16,
        /// Path and query; begins with `/`.
        target: String,
    },
}

/// Whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// Those of the system.
    System,
    /// Those in this file, in PEM, and no others.
    File(PathBuf),
}

/// Identifies the source: for people, in metrics and from one process to the next.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = |f: &mut fmt::Formatter<'_>, resolver: &Option<SocketAddr>| match resolver {
            Some(resolver) => write!(f, " at {resolver}"),
            None => Ok(()),
        };
        match self {
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Dns { name, port, resolver } => {
                write!(f, "dns {name}:{port}")?;
                asked(f, resolver)
            }
            Source::DnsSrv { name, resolver } => {
                write!(f, "dns_srv {name}")?;
                asked(f, resolver)
            }
            Source::Http { tls, host, port, target } => {
                let scheme = if tls.is_some() { "https" } else { "http" };
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                write!(f, "{scheme}://{host}:{port}{target}")
            }
        }
    }
}
