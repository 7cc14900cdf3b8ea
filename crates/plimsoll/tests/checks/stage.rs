//! The program before servers that answer checks and requests each as they are told.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use socket2::SockRef;

use crate::process::Port;
use crate::rig::until;
use crate::support::{Answer, Client, Plimsoll};

pub(crate) const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
pub(crate) const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";

/// What becomes of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Status(u16),
    Hang,
    Trickle,
    Close,
    Reset,
    Garbage,
    Endless,
}

/// A server; lives as long as the test's process. What asks for `/` is a request, everything else a check.
#[derive(Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    check: Mutex<Asked>,
    script: Mutex<VecDeque<Asked>>,
    status: AtomicU16,
    checks: AtomicUsize,
    requests: AtomicUsize,
    last: Mutex<String>,
}

impl Server {
    fn start(check: Asked) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            check: Mutex::new(check),
            script: Mutex::default(),
            status: AtomicU16::new(200),
            checks: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            last: Mutex::default(),
        });
        let server = Server { address, state };
        let state = Arc::clone(&server.state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&state);
                std::thread::spawn(move || state.serve(stream));
            }
        });
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Checks so far.
    pub(crate) fn checks(&self) -> usize {
        self.state.checks.load(SeqCst)
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(SeqCst)
    }

    /// The head of the last check.
    pub(crate) fn last_check(&self) -> String {
        self.state.last.lock().expect("nobody panics").clone()
    }

    pub(crate) fn checks_become(&self, check: Asked) {
        *self.state.check.lock().expect("nobody panics") = check;
    }

    pub(crate) fn requests_become(&self, status: u16) {
        self.state.status.store(status, SeqCst);
    }

    /// The next checks go so; gives how many there were before.
    pub(crate) fn script(&self, script: &[Asked]) -> usize {
        let mut next = self.state.script.lock().expect("nobody panics");
        next.extend(script);
        self.checks()
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream) {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while let Ok(1) = stream.read(&mut byte) {
            head.push(byte[0]);
            if !head.ends_with(b"\r\n\r\n") {
                continue;
            }
            let text = String::from_utf8_lossy(&head).into_owned();
            head.clear();
            if text.split(' ').nth(1) != Some("/") {
                *self.last.lock().expect("nobody panics") = text;
                let next = {
                    let mut script = self.script.lock().expect("nobody panics");
                    self.checks.fetch_add(1, SeqCst);
                    script.pop_front()
                };
                let asked = next.unwrap_or_else(|| *self.check.lock().expect("nobody panics"));
                return self.answer(stream, asked);
            }
            self.requests.fetch_add(1, SeqCst);
            if !say(&mut stream, self.status.load(SeqCst)) {
                return;
            }
        }
    }

    fn answer(&self, mut stream: TcpStream, asked: Asked) {
        match asked {
            Asked::Status(status) => {
                say(&mut stream, status);
            }
            Asked::Close => {}
            Asked::Reset => SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("it is a socket"),
            Asked::Garbage => {
                let _ = stream.write_all(b"hello, who is there?\r\n\r\n");
            }
            Asked::Hang => while !matches!(stream.read(&mut [0]), Ok(0) | Err(_)) {},
            Asked::Trickle => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
                // A byte now and then, as long as somebody listens.
                while stream.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            Asked::Endless => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
                while stream.write_all(&[b'x'; 4096]).is_ok() {}
            }
        }
    }
}

fn say(stream: &mut TcpStream, status: u16) -> bool {
    let body = if status == 204 { "" } else { "Content-Length: 2\r\n\r\nok" };
    let end = if body.is_empty() { "\r\n" } else { "" };
    stream.write_all(format!("HTTP/1.1 {status} Said\r\n{body}{end}").as_bytes()).is_ok()
}

/// The program before these servers, and its admin address.
pub(crate) struct Stage {
    pub(crate) program: Plimsoll,
    pub(crate) servers: Vec<Server>,
    admin: Port,
    port: Port,
}

impl Stage {
    /// Servers whose checks go so, and further keys of their backend.
    pub(crate) fn new(checks: &[Asked], keys: &str) -> Stage {
        Stage::of(checks.len(), checks, keys)
    }

    /// The same, where the file lists only the first ones.
    pub(crate) fn of(count: usize, checks: &[Asked], keys: &str) -> Stage {
        let servers: Vec<Server> = checks.iter().map(|&check| Server::start(check)).collect();
        let (admin, port) = (Port::reserve(), Port::reserve());
        let text = text(&servers[..count], &place_of(&admin, &port), keys);
        Stage { program: Plimsoll::start(&text), servers, admin, port }
    }

    /// Another program before servers that are there already, by another's file.
    pub(crate) fn at(file: &str, servers: Vec<Server>) -> Stage {
        let (admin, port) = (Port::reserve(), Port::reserve());
        let from = file.find("[backend").expect("it has one");
        let text = format!("{}{}", place_of(&admin, &port), &file[from..]);
        Stage { program: Plimsoll::start(&text), servers, admin, port }
    }

    /// The file up to its backend.
    pub(crate) fn place(&self) -> String {
        place_of(&self.admin, &self.port)
    }

    /// The file with these keys.
    pub(crate) fn file(&self, keys: &str) -> String {
        text(&self.servers, &self.place(), keys)
    }

    /// The same with the first servers alone.
    pub(crate) fn file_of(&self, count: usize, keys: &str) -> String {
        text(&self.servers[..count], &self.place(), keys)
    }

    pub(crate) fn ask(&self, request: &[u8]) -> u16 {
        let mut client = Client::connect(self.port.address());
        client.send(request);
        client.answer().whole().status
    }

    pub(crate) fn reload(&self, file: &str) {
        self.program.configure(file);
        let said = self.program.stderr_lines().len();
        self.program.signal(Signal::HUP);
        let lines = self.program.wait_for_line(said, |line| line.contains("reloaded"));
        assert!(!lines.iter().any(|line| line.contains("not reloaded")), "{}", lines.join("\n"));
    }

    /// Has the admin API do this; gives the status of its answer.
    pub(crate) fn order(&self, method: &str, path: &str, body: &Value) -> u16 {
        let (mut client, body) = (Client::connect(self.admin.address()), body.to_string());
        let head = format!("{method} /v1/backends/all/servers{path} HTTP/1.1\r\nHost: localhost\r\n");
        let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        client.send(format!("{head}{fields}{body}").as_bytes());
        client.answer().whole().status
    }

    pub(crate) fn upgrade(&self) {
        let said = self.program.stderr_lines().len();
        self.program.signal(Signal::USR2);
        self.program.wait_for_line(said, |line| line.contains("upgraded: process "));
        let old = self.program.pid().as_raw_nonzero().get();
        until("the admin address is the new process's", || {
            // The old process may close what it has not answered yet.
            let pid = self.asked("/status").and_then(|status| status["pid"].as_i64());
            pid.is_some_and(|pid| pid != i64::from(old))
        });
    }

    /// Ends the process that has taken over: it was started by the one that this test started.
    pub(crate) fn end_successor(&self) {
        let pid = i32::try_from(self.status()["pid"].as_i64().expect("a number")).expect("a pid");
        kill_process(Pid::from_raw(pid).expect("not zero"), Signal::KILL).expect("it runs");
    }

    /// What the operator was told with these words in it.
    pub(crate) fn told(&self, words: &str) -> Vec<String> {
        self.program.stderr_lines().into_iter().filter(|line| line.contains(words)).collect()
    }

    /// The state of every server, in the order of the file.
    pub(crate) fn states(&self) -> Vec<String> {
        let servers = self.backend()["servers"].as_array().expect("a list").clone();
        servers.iter().map(|s| s["state"].as_str().expect("a state").to_owned()).collect()
    }

    pub(crate) fn backend(&self) -> Value {
        self.status()["backends"][0].clone()
    }

    pub(crate) fn server(&self, place: usize) -> Value {
        self.backend()["servers"][place].clone()
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.admin("/status")).expect("JSON")
    }

    pub(crate) fn metrics(&self) -> String {
        self.admin("/metrics")
    }

    fn asked(&self, path: &str) -> Option<Value> {
        let mut client = Client::connect(self.admin.address());
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        match client.answer() {
            Answer::Whole(answer) => serde_json::from_slice(&answer.body).ok(),
            _ => None,
        }
    }

    fn admin(&self, path: &str) -> String {
        let mut client = Client::connect(self.admin.address());
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        String::from_utf8(client.answer().whole().body.clone()).expect("text")
    }
}

fn place_of(admin: &Port, port: &Port) -> String {
    format!(
        "workers = 1\n[admin]\nbind = \"{}\"\n[[listen]]\nbind = \"{}\"\nto = \"all\"\n",
        admin.address(),
        port.address()
    )
}

fn text(servers: &[Server], place: &str, keys: &str) -> String {
    let entry = |(i, s): (usize, &Server)| format!("{{ address = \"{}\", name = \"s{i}\" }}", s.address);
    let list: Vec<String> = servers.iter().enumerate().map(entry).collect();
    format!("{place}[backend.all]\nslow_start = \"0s\"\nservers = [{}]\n{keys}\n", list.join(", "))
}
