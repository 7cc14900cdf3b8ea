//! Where an operator or an orchestrator asks.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::secret::Secret;

/// Where to ask the running process, and who may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// At least one. One that other machines reach only comes with a token.
    pub binds: Vec<AdminBind>,
    /// Permissions of Unix sockets.
    pub mode: u32,
    /// Without one, whoever reaches an address may ask.
    pub token: Option<Token>,
    /// Where changes by operators are written down; `None`: on standard error.
    pub audit: Option<PathBuf>,
}

/// One admin address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminBind {
    /// An IP address with a port.
    Socket(SocketAddr),
    /// An absolute path.
    Unix(PathBuf),
}

impl std::fmt::Display for AdminBind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AdminBind::Socket(address) => address.fmt(f),
            AdminBind::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl std::str::FromStr for AdminBind {
    type Err = String;

    /// As it is written in a configuration.
    fn from_str(text: &str) -> Result<AdminBind, String> {
        crate::address::parse_admin(text).map_err(|fault| match fault.help {
            Some(help) => format!("{}; {help}", fault.message),
            None => fault.message,
        })
    }
}

/// Where a secret is: the admin token, or what cookies are sealed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// It came from the environment.
    Text(Secret),
    /// It is the text of this file, without the line's end. Whoever starts to serve reads it.
    File(PathBuf),
}
