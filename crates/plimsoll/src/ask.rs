//! Asking a running Plimsoll through its admin address: one small HTTP/1.0 request a question.
//!
//! Plain blocking sockets with limits on time and size; one machine needs no more. Every failure names the address and
//! the next step.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use plimsoll_config::model::{AdminBind, Secret};
use plimsoll_control::secrets::{read_token, read_token_file};

use serde_json::Value;

use crate::cli;
use crate::configuration;
use crate::exit::Exit;
use crate::terminal;

/// A reload may have to ask a name server, and an upgrade waits a minute.
const PATIENCE: Duration = Duration::from_secs(90);
const LARGEST: u64 = 64 << 20;
/// Holds the token where no configuration names one.
const TOKEN_VARIABLE: &str = "PLIMSOLL_ADMIN_TOKEN";

/// What the admin address answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Whom to ask: addresses of one process, and the token that it may want.
pub(crate) struct Whom {
    addresses: Vec<AdminBind>,
    token: Option<Secret>,
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        f.write_str(&addresses.join(" or "))
    }
}

/// Asks `method path` at the first address that takes a connection.
pub(crate) fn ask(whom: &Whom, method: &str, path: &str) -> Result<Answer, String> {
    ask_with(whom, method, path, None)
}

/// Asks with a body, which is JSON.
pub(crate) fn ask_with(
    whom: &Whom,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Answer, String> {
    let unreachable = |e| {
        format!(
            "nothing answers at the admin address {whom}: {e}; is plimsoll running, with [admin] in its configuration?"
        )
    };
    let mut stream = connect(&whom.addresses).map_err(unreachable)?;
    let token = whom.token.as_ref();
    let token =
        token.map_or_else(String::new, |token| format!("Authorization: Bearer {}\r\n", token.reveal()));
    let body = body.map(ToString::to_string).unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\n{token}{kind}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).map_err(unreachable)?;
    let mut text = String::new();
    stream.take(LARGEST).read_to_string(&mut text).map_err(unreachable)?;
    parse(&text).ok_or_else(|| format!("{whom} does not speak like plimsoll's admin address"))
}

trait Stream: Read + Write {}
impl Stream for TcpStream {}
impl Stream for UnixStream {}

fn connect(addresses: &[AdminBind]) -> io::Result<Box<dyn Stream>> {
    let mut last = io::Error::other("there is no address");
    for address in addresses {
        match connect_one(address) {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn connect_one(address: &AdminBind) -> io::Result<Box<dyn Stream>> {
    match address {
        AdminBind::Socket(address) => {
            let stream = TcpStream::connect_timeout(&reachable(*address), Duration::from_secs(2))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(Box::new(stream))
        }
        AdminBind::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(Box::new(stream))
        }
    }
}

/// Who listens on every address listens on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

/// The address given, or those of the configuration; the token of the file given, of the configuration, or of the environment.
pub(crate) fn whom(asked: &cli::Asked) -> Result<Whom, String> {
    let given = asked.token_file.as_deref().map(read_token_file).transpose()?;
    if let Some(address) = &asked.admin {
        let token = given.map_or_else(token_from_environment, |token| Ok(Some(token)))?;
        return Ok(Whom { addresses: vec![address.clone()], token });
    }
    let (path, loaded) = configuration::load(asked.config.as_deref()).map_err(|error| error.render(false))?;
    let Some(admin) = loaded.config.admin else {
        return Err(format!(
            "{} has no [admin]: add one, for example bind = \"127.0.0.1:9900\", or name it with --admin",
            path.display()
        ));
    };
    let token = given.map_or_else(|| read_token(admin.token.as_ref()), |token| Ok(Some(token)))?;
    Ok(Whom { addresses: admin.binds, token })
}

fn token_from_environment() -> Result<Option<Secret>, String> {
    match std::env::var(TOKEN_VARIABLE) {
        Ok(text) => Secret::new(&text).map(Some).map_err(|reason| format!("${TOKEN_VARIABLE} {reason}")),
        Err(_) => Ok(None),
    }
}

/// Asks for something to be done, and tells what came of it; how the verb ends.
pub(crate) fn tell(verb: &str, asked: &cli::Asked, target: &str) -> Exit {
    match whom(asked).and_then(|whom| ask(&whom, "POST", target)) {
        Ok(answer) if answer.status == 200 => terminal::print(&answer.body),
        Ok(answer) if answer.status == 401 => {
            terminal::err(&format!("plimsoll {verb}: {}", answer.body));
            Exit::Start
        }
        Ok(answer) => {
            terminal::err(&answer.body);
            Exit::Configuration
        }
        Err(reason) => {
            terminal::err(&format!("plimsoll {verb}: {reason}\n"));
            Exit::Start
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_status_and_body() {
        let answer = parse("HTTP/1.0 422 Unprocessable Entity\r\na: b\r\n\r\nbad\r\n\r\nworse").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (422, "bad\r\n\r\nworse"));
        assert!(parse("SSH-2.0-x\r\n\r\n").is_none());
        assert!(parse("HTTP/1.").is_none());
    }
}
