//! Servers that share a port on many loopback addresses, a program that discovers them, and who answers.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::process::Port;
use crate::rig::{ask, fresh_path, text};
use crate::support::{PATIENCE, Plimsoll, get};

/// Above all waits of the program: a name server that is silent is asked twice, three seconds each time, and less and less often.
const LONG: Duration = Duration::from_secs(40);

/// Starts servers at these addresses and one port, which answer with their address. They serve until the test's process ends.
pub(crate) fn sites(addresses: &[&str]) -> u16 {
    for _ in 0..50 {
        let first = TcpListener::bind((addresses[0], 0)).expect("loopback has ports");
        let port = first.local_addr().expect("it is bound").port();
        let others = addresses[1..].iter().map(|address| TcpListener::bind((*address, port)));
        let Ok(others) = others.collect::<Result<Vec<_>, _>>() else { continue };
        for listener in std::iter::once(first).chain(others) {
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    std::thread::spawn(move || serve(stream));
                }
            });
        }
        return port;
    }
    panic!("no port is free at all of {addresses:?}");
}

fn serve(mut stream: TcpStream) -> Option<()> {
    let name = stream.local_addr().ok()?.ip().to_string();
    let (mut head, mut byte) = (Vec::new(), [0]);
    loop {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()).ok()?;
        }
    }
}

/// A configuration with one backend, `web`.
pub(crate) fn configuration(backend: &str) -> String {
    format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"web\"\n[admin]\nbind = \"127.0.0.1:0\"\n\
         [backend.web]\nbalance = \"round_robin\"\nslow_start = \"0s\"\n{backend}\n"
    )
}

/// The program with that backend.
pub(crate) fn before(backend: &str) -> Plimsoll {
    Plimsoll::start(&configuration(backend))
}

/// The same at a port of its own: one that the kernel gives is another one for a new process.
pub(crate) fn upgradable(backend: &str) -> Plimsoll {
    let listener = Port::reserve();
    let bind = format!("[[listen]]\nbind = \"{}\"", listener.address());
    Plimsoll::start(&configuration(backend).replacen("[[listen]]\nbind = \"127.0.0.1:0\"", &bind, 1))
}

/// Kills the process that came after the first.
pub(crate) struct Successor(Pid);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

/// Hands over to a new process, which serves then.
#[track_caller]
pub(crate) fn upgrade(program: &Plimsoll) -> Successor {
    let said = program.stderr_lines().len();
    program.signal(Signal::USR2);
    let lines = program.wait_for_line(said, |line| line.contains("upgraded"));
    let last = lines.last().expect("it was waited for");
    let pid = last.split_once("process ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    Successor(Pid::from_raw(pid.expect("it says who serves")).expect("not 0"))
}

/// A file with this text, that nothing else uses.
pub(crate) fn list(text: &str) -> PathBuf {
    let path = fresh_path("servers.json");
    replace(&path, text);
    path
}

/// Replaces a file in one step.
pub(crate) fn replace(path: &PathBuf, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("the test's own directory can be written");
    std::fs::rename(&new, path).expect("it is the same directory");
}

/// A list of these addresses, at that port.
pub(crate) fn json(addresses: &[&str], port: u16) -> String {
    let all: Vec<String> =
        addresses.iter().map(|address| SocketAddr::new(ip(address), port).to_string()).collect();
    serde_json::to_string(&all).expect("strings are JSON")
}

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().expect("an address")
}

/// `/status` of the program.
pub(crate) fn status(program: &Plimsoll) -> Value {
    let lines = program.stderr_lines();
    let admin = lines.iter().rev().find_map(|line| line.strip_prefix("plimsoll: admin on "));
    let admin: SocketAddr = admin.expect("it has an admin address").parse().expect("an address");
    let mut stream = TcpStream::connect(admin).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    write!(stream, "GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it fits");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(body).expect("JSON")
}

/// The servers of `web`: name, priority and weight are for the caller to pick.
pub(crate) fn servers(program: &Plimsoll) -> Vec<Value> {
    status(program)["backends"][0]["servers"].as_array().expect("an array").clone()
}

/// The names of the servers of `web`.
pub(crate) fn names(program: &Plimsoll) -> BTreeSet<String> {
    servers(program).iter().map(|server| server["name"].as_str().expect("a string").to_owned()).collect()
}

/// What is known of the source of `web`.
pub(crate) fn source(program: &Plimsoll) -> Value {
    status(program)["backends"][0]["discovery"].clone()
}

/// Waits until the servers of `web` are at these addresses and that port, and then asks all of them.
#[track_caller]
pub(crate) fn until_served_by(program: &Plimsoll, addresses: &[&str], port: u16) {
    let expected: BTreeSet<String> =
        addresses.iter().map(|address| SocketAddr::new(ip(address), port).to_string()).collect();
    soon("the servers are these", || {
        (names(program) == expected).then_some(()).ok_or_else(|| names(program))
    });
    let who: BTreeSet<String> = (0..4 * addresses.len()).map(|_| who(program)).collect();
    assert_eq!(who, addresses.iter().map(|&address| address.to_owned()).collect());
}

/// Waits until the source of `web` fails, and gives why.
#[track_caller]
pub(crate) fn until_failing(program: &Plimsoll) -> String {
    let failing = |found: Value| match found["failing"] == true {
        true => Ok(found["last_error"].as_str().expect("it says why").to_owned()),
        false => Err(found),
    };
    soon("the source fails", || failing(source(program)))
}

/// Waits until the source of `web` has answered so many questions more.
#[track_caller]
pub(crate) fn until_asked(program: &Plimsoll, times: u64) {
    let count =
        |found: &Value| found["successes"].as_u64().unwrap_or(0) + found["failures"].as_u64().unwrap_or(0);
    let before = count(&source(program));
    soon("the source is asked again", || {
        let found = source(program);
        if count(&found) >= before + times { Ok(()) } else { Err(found) }
    });
}

/// Who answers a request on a connection of its own, or the status if nobody does.
pub(crate) fn who(program: &Plimsoll) -> String {
    let answer = ask(program.address(), get("/")).whole();
    if answer.status == 200 { text(&answer) } else { answer.status.to_string() }
}

/// Waits for it, and gives it; says what it saw instead.
#[track_caller]
pub(crate) fn soon<T, E: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "never happened: {what}; last seen: {seen:#?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port of 127.0.0.1 that is free for TCP and UDP.
pub(crate) fn free_port() -> u16 {
    for _ in 0..50 {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let port = tcp.local_addr().expect("it is bound").port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free for both");
}
