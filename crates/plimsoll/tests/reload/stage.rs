//! The ways to ask for a reload, what is in force, and what the kernel says about listening sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::rig::{PROGRAM, ask, text, until};
use crate::support::{Client, PATIENCE, Plimsoll, get};

/// How a reload is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    HangUp,
    Verb,
    /// Needs `watch = true` in the configuration in force.
    Watch,
}

pub(crate) const WAYS: [Way; 3] = [Way::HangUp, Way::Verb, Way::Watch];

/// The ends of what it says about a reload.
fn is_outcome(line: &str) -> bool {
    line.starts_with("plimsoll: reloaded ") || line.starts_with("plimsoll: not reloaded")
}

/// Has the program take this configuration; everything that it said, as an error if it did not take it.
pub(crate) fn take(program: &Plimsoll, way: Way, configuration: &str) -> Result<String, String> {
    take_by(program, way, || program.configure(configuration))
}

/// The same after any change of the file.
pub(crate) fn take_by(program: &Plimsoll, way: Way, change: impl FnOnce()) -> Result<String, String> {
    let said = program.stderr_lines().len();
    change();
    match way {
        Way::HangUp => program.signal(Signal::HUP),
        Way::Verb => {
            let output = reload(&["--admin", &admin(program).to_string()]);
            let (out, err) = (utf8(&output.stdout), utf8(&output.stderr));
            match output.status.code() {
                Some(0) => assert!(out.starts_with("reloaded ") && err.is_empty(), "{out}{err}"),
                code => assert!(code == Some(1) && out.is_empty() && !err.is_empty(), "{code:?} {out}{err}"),
            }
            let lines = program.wait_for_line(said, is_outcome).join("\n");
            assert_eq!(lines.contains("plimsoll: reloaded "), output.status.success(), "{lines}\n{err}");
            assert!(
                lines.contains(out.trim()) && lines.contains(err.trim()),
                "both say the same: {lines}\n{err}"
            );
            return if output.status.success() { Ok(lines) } else { Err(lines) };
        }
        Way::Watch => {}
    }
    let lines = program.wait_for_line(said, is_outcome);
    let taken = lines.last().is_some_and(|line| line.starts_with("plimsoll: reloaded "));
    if taken { Ok(lines.join("\n")) } else { Err(lines.join("\n")) }
}

/// HUP with this configuration, which is good.
#[track_caller]
pub(crate) fn hang_up(program: &Plimsoll, configuration: &str) {
    take(program, Way::HangUp, configuration).unwrap_or_else(|said| panic!("not taken:\n{said}"));
}

/// Runs `plimsoll reload` to its end.
pub(crate) fn reload(arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg("reload").args(arguments).stdin(Stdio::null()).output().expect("the program is built")
}

pub(crate) fn utf8(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The admin address that was opened last.
pub(crate) fn admin(program: &Plimsoll) -> SocketAddr {
    let lines = program.stderr_lines();
    let last = lines.iter().rev().find_map(|line| line.strip_prefix("plimsoll: admin on "));
    last.expect("it has an admin address").parse().expect("an address")
}

/// One question to the admin address, with further fields: status and body.
pub(crate) fn ask_admin(address: SocketAddr, line: &str, fields: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    write!(stream, "{line} HTTP/1.1\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n")
        .expect("it fits");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

/// `/status`, parsed.
pub(crate) fn status(program: &Plimsoll) -> Value {
    let (code, body) = ask_admin(admin(program), "GET /status", "Host: localhost\r\n");
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

/// Requests in flight at the server of that name; `None` if there is no such server.
pub(crate) fn in_flight(program: &Plimsoll, server: &str) -> Option<u64> {
    let status = status(program);
    let backends = status["backends"].as_array().expect("an array").clone();
    let mut servers = backends.iter().flat_map(|backend| backend["servers"].as_array().expect("an array"));
    servers.find(|s| s["name"] == server).map(|s| s["in_flight"].as_u64().expect("a number"))
}

/// Who answers a request on a connection of its own.
#[track_caller]
pub(crate) fn who(to: SocketAddr) -> String {
    text(&ask(to, get("/")).whole())
}

/// Who answers the next request on this connection.
#[track_caller]
pub(crate) fn who_on(client: &mut Client) -> String {
    client.send(&get("/"));
    text(&client.answer().whole())
}

/// An address on which nothing listens.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("loopback has ports").local_addr().expect("it is bound")
}

/// The inodes of the sockets that listen on this port, in order: who rebinds gets others.
pub(crate) fn listening_inodes(address: SocketAddr) -> Vec<u64> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    let port = format!(":{:04X}", address.port());
    let mut inodes: Vec<u64> = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields[1].ends_with(&port) && fields[3] == "0A")
        .map(|fields| fields[9].parse().expect("a number"))
        .collect();
    inodes.sort_unstable();
    inodes
}

/// Stops the process, as if it were never scheduled, while `meanwhile` runs.
pub(crate) fn frozen(program: &Plimsoll, meanwhile: impl FnOnce()) {
    program.signal(Signal::STOP);
    let path = format!("/proc/{}/stat", program.pid().as_raw_nonzero());
    let is_stopped = || std::fs::read_to_string(&path).is_ok_and(|stat| stat.contains(") T "));
    until("the process stops", is_stopped);
    meanwhile();
    program.signal(Signal::CONT);
}
