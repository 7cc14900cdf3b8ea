//! A program with two servers and an admin address, and questions to its API.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::rig::{Named, ask, text};
use crate::support::{PATIENCE, Plimsoll, get};

/// The servers of the backend `web`.
pub(crate) const SERVERS: &str = "/v1/backends/web/servers";

/// What the API answers.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) tag: Option<String>,
    pub(crate) kind: String,
    pub(crate) location: Option<String>,
    pub(crate) body: Value,
}

/// One backend, `web`, of these servers; `more` is the rest of the file.
pub(crate) fn file(servers: &[String], more: &str) -> String {
    format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"web\"\n[admin]\nbind = \"127.0.0.1:0\"\n{more}\n\
         [backend.web]\nbalance = \"round_robin\"\nslow_start = \"0s\"\nservers = [{}]\n",
        servers.join(", ")
    )
}

/// The program before `a` and `b`, and they.
pub(crate) fn two() -> (Plimsoll, Named, Named) {
    let (a, b) = (Named::start("a"), Named::start("b"));
    (Plimsoll::start(&file(&[a.entry(""), b.entry("")], "")), a, b)
}

/// Where its admin address is.
pub(crate) fn admin(program: &Plimsoll) -> SocketAddr {
    let lines = program.stderr_lines();
    let address = lines.iter().rev().find_map(|line| line.strip_prefix("plimsoll: admin on "));
    address.expect("it has an admin address").parse().expect("an address")
}

/// Asks with these further fields, each with its line's end.
pub(crate) fn raw(admin: SocketAddr, method: &str, path: &str, fields: &str, body: &str) -> Said {
    let mut stream = TcpStream::connect(admin).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    )
    .expect("it is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let field = |name: &str| {
        let line =
            head.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)));
        line.map(|(_, value)| value.to_owned())
    };
    Said {
        status: head[9..12].parse().expect("a status"),
        tag: field("etag"),
        kind: field("content-type").unwrap_or_default(),
        location: field("location"),
        body: serde_json::from_str(body).unwrap_or_default(),
    }
}

/// Asks with a JSON body, or with none.
pub(crate) fn api(admin: SocketAddr, method: &str, path: &str, body: &Value) -> Said {
    match body {
        Value::Null => raw(admin, method, path, "", ""),
        body => raw(admin, method, path, "Content-Type: application/json\r\n", &body.to_string()),
    }
}

/// Who answers so many requests, in order of their names and each once.
pub(crate) fn who(program: &Plimsoll, requests: usize) -> Vec<String> {
    let mut all: Vec<String> = (0..requests)
        .map(|_| {
            let answer = ask(program.address(), get("/")).whole();
            if answer.status == 200 { text(&answer) } else { answer.status.to_string() }
        })
        .collect();
    all.sort();
    all.dedup();
    all
}
