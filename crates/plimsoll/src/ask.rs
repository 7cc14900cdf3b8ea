//! Asking a running Plimsoll through its admin address: one small HTTP/1.0 request a question.
//!
//! Plain blocking sockets with limits on time and size; loopback only needs no more. Every failure names the address and
//! the next step.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::configuration;
use crate::exit::Exit;
use crate::terminal;

/// A reload may have to ask a name server, and an upgrade waits a minute.
const PATIENCE: Duration = Duration::from_secs(90);
const LARGEST: u64 = 64 << 20;

/// What the admin address answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Asks `method path` at `address`.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str) -> Result<Answer, String> {
    let unreachable = |e| {
        format!(
            "nothing answers at the admin address {address}: {e}; is plimsoll running, with [admin] in its configuration?"
        )
    };
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).map_err(unreachable)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(unreachable)?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n")
        .map_err(unreachable)?;
    let mut text = String::new();
    stream.take(LARGEST).read_to_string(&mut text).map_err(unreachable)?;
    parse(&text).ok_or_else(|| format!("{address} does not speak like plimsoll's admin address"))
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

/// The admin address: the one given, or that of the configuration.
pub(crate) fn address(given: Option<SocketAddr>, file: Option<&Path>) -> Result<SocketAddr, String> {
    if let Some(address) = given {
        return Ok(address);
    }
    let (path, loaded) = configuration::load(file).map_err(|error| error.render(false))?;
    let admin = loaded.config.admin.as_ref();
    admin.map(|admin| admin.bind).ok_or_else(|| {
        format!(
            "{} has no [admin]: add one, for example bind = \"127.0.0.1:9900\", or name it with --admin",
            path.display()
        )
    })
}

/// Asks for something to be done, and tells what came of it; how the verb ends.
pub(crate) fn tell(verb: &str, admin: Option<SocketAddr>, file: Option<&Path>, target: &str) -> Exit {
    match address(admin, file).and_then(|address| ask(address, "POST", target)) {
        Ok(answer) if answer.status == 200 => terminal::print(&answer.body),
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
