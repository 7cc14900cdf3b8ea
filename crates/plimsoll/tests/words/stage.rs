//! The program before servers that say of themselves what they are told to say.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use socket2::SockRef;

use crate::process::Port;
use crate::rig::until;
use crate::support::{Answer, Client, Plimsoll, get};

/// What an agent does when it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Speech {
    /// Says this, as it stands, and closes.
    Says(String),
    /// Nothing, for as long as somebody listens.
    Silent,
    /// A byte now and then.
    Trickles,
    /// As fast as it can, without an end of line.
    Endless,
    Resets,
}

impl Speech {
    pub(crate) fn line(line: &str) -> Speech {
        Speech::Says(format!("{line}\n"))
    }
}

/// A server with an agent beside it; both live as long as the test's process.
#[derive(Clone)]
pub(crate) struct Speaker {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) agent: SocketAddr,
    state: Arc<State>,
}

struct State {
    speech: Mutex<Speech>,
    /// Lines of the answers' heads.
    fields: Mutex<String>,
    asked: AtomicUsize,
    /// What the agent was sent last.
    sent: Mutex<Vec<u8>>,
    requests: AtomicUsize,
}

impl Speaker {
    pub(crate) fn start(name: &'static str, speech: Speech) -> Speaker {
        let bind = || TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let (listener, agent) = (bind(), bind());
        let state = Arc::new(State {
            speech: Mutex::new(speech),
            fields: Mutex::default(),
            asked: AtomicUsize::new(0),
            sent: Mutex::default(),
            requests: AtomicUsize::new(0),
        });
        let of = |listener: &TcpListener| listener.local_addr().expect("it is bound");
        let speaker = Speaker { name, address: of(&listener), agent: of(&agent), state: Arc::clone(&state) };
        serve(listener, Arc::clone(&state), State::answer);
        serve(agent, state, State::speak);
        speaker
    }

    /// From now on its agent does this.
    pub(crate) fn becomes(&self, speech: Speech) {
        *self.state.speech.lock().expect("nobody panics") = speech;
    }

    pub(crate) fn says(&self, line: &str) {
        self.becomes(Speech::line(line));
    }

    /// From now on its answers have these lines.
    pub(crate) fn answers_with(&self, fields: &str) {
        fields.clone_into(&mut self.state.fields.lock().expect("nobody panics"));
    }

    pub(crate) fn asked(&self) -> usize {
        self.state.asked.load(SeqCst)
    }

    /// What its agent was sent last.
    pub(crate) fn sent(&self) -> Vec<u8> {
        self.state.sent.lock().expect("nobody panics").clone()
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(SeqCst)
    }

    /// As an entry of `servers`; its agent is asked every 50 ms.
    pub(crate) fn entry(&self, more: &str) -> String {
        let agent = format!("agent = {{ port = {}, every = \"50ms\" }}", self.agent.port());
        format!("{{ address = \"{}\", name = \"{}\", {agent}{more} }}", self.address, self.name)
    }
}

fn serve(listener: TcpListener, state: Arc<State>, with: fn(&State, TcpStream)) {
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let state = Arc::clone(&state);
            std::thread::spawn(move || with(&state, stream));
        }
    });
}

impl State {
    fn speak(&self, mut stream: TcpStream) {
        self.asked.fetch_add(1, SeqCst);
        // What is to be sent has come with the connection or soon after; who sends nothing waits for the line.
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("it is not zero");
        let mut sent = [0; 64];
        if let Ok(n) = stream.read(&mut sent) {
            *self.sent.lock().expect("nobody panics") = sent[..n].to_vec();
        }
        stream.set_read_timeout(None).expect("it is a socket");
        let speech = self.speech.lock().expect("nobody panics").clone();
        match speech {
            Speech::Says(line) => drop(stream.write_all(line.as_bytes())),
            Speech::Silent => while !matches!(stream.read(&mut [0]), Ok(0) | Err(_)) {},
            Speech::Trickles => {
                while stream.write_all(b" ").is_ok() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            Speech::Endless => while stream.write_all(&[b'x'; 64 << 10]).is_ok() {},
            Speech::Resets => {
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("it is a socket");
            }
        }
    }

    fn answer(&self, mut stream: TcpStream) {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while let Ok(1) = stream.read(&mut byte) {
            head.push(byte[0]);
            if head.ends_with(b"\r\n\r\n") {
                self.requests.fetch_add(1, SeqCst);
                let fields = self.fields.lock().expect("nobody panics").clone();
                let interim = if head.starts_with(b"GET /early ") {
                    format!("HTTP/1.1 103 Early Hints\r\n{fields}\r\n")
                } else {
                    String::new()
                };
                let answer = format!("{interim}HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
                head.clear();
            }
        }
    }
}

/// The program, its servers, and where its admin address is.
pub(crate) struct Stage {
    pub(crate) program: Plimsoll,
    pub(crate) speakers: Vec<Speaker>,
    admin: Port,
    port: Port,
}

impl Stage {
    /// So many servers whose agents say nothing but that they are up, and further keys of their backend.
    pub(crate) fn new(count: usize, keys: &str) -> Stage {
        let names = ["a", "b", "c", "d", "e"];
        let speakers = names[..count].iter().map(|&name| Speaker::start(name, Speech::line("up"))).collect();
        Stage::of(speakers, "", keys)
    }

    /// Of these; `more` is what each of their entries has too.
    pub(crate) fn of(speakers: Vec<Speaker>, more: &str, keys: &str) -> Stage {
        let (admin, port) = (Port::reserve(), Port::reserve());
        let text = text(&speakers, (&admin, &port), more, keys);
        Stage { program: Plimsoll::start(&text), speakers, admin, port }
    }

    pub(crate) fn reload(&self, keys: &str) {
        self.program.configure(&text(&self.speakers, (&self.admin, &self.port), "", keys));
        let said = self.program.stderr_lines().len();
        self.program.signal(Signal::HUP);
        let lines = self.program.wait_for_line(said, |line| line.contains("reloaded"));
        assert!(!lines.iter().any(|line| line.contains("not reloaded")), "{}", lines.join("\n"));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin.address()
    }

    /// What `/status` says of a server, or nothing while nobody answers.
    pub(crate) fn seen(&self, name: &str) -> Value {
        let status = status(self.admin.address());
        if status.is_null() {
            return status;
        }
        let servers = status["backends"][0]["servers"].as_array().expect("a list").clone();
        let mut server = servers.into_iter().find(|server| server["name"] == name).expect("it is there");
        server["pid"] = status["pid"].clone();
        server
    }

    /// Waits until a server is in this state.
    #[track_caller]
    pub(crate) fn until_state(&self, name: &str, state: &str) -> Value {
        until(&format!("{name} is {state}"), || self.seen(name)["state"] == state);
        self.seen(name)
    }

    #[track_caller]
    pub(crate) fn until_share(&self, name: &str, share: f64) {
        until(&format!("{name} has {share} of its share"), || self.seen(name)["share"] == json!(share));
    }

    pub(crate) fn metrics(&self) -> String {
        let mut client = Client::connect(self.admin.address());
        client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        String::from_utf8(client.answer().whole().body.clone()).expect("text")
    }

    /// Sends so many requests, and gives how many each server got.
    pub(crate) fn spread(&self, requests: usize) -> Vec<usize> {
        let before: Vec<usize> = self.speakers.iter().map(Speaker::requests).collect();
        let mut client = Client::connect(self.port.address());
        for _ in 0..requests {
            client.send(&get("/"));
            assert_eq!(client.answer().whole().status, 200);
        }
        self.speakers.iter().zip(before).map(|(speaker, before)| speaker.requests() - before).collect()
    }

    /// One request's status.
    pub(crate) fn ask(&self) -> u16 {
        let mut client = Client::connect(self.port.address());
        client.send(&get("/"));
        client.answer().whole().status
    }
}

/// What `/status` says, or nothing while nobody answers.
pub(crate) fn status(admin: SocketAddr) -> Value {
    let mut client = Client::connect(admin);
    client.send(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let Answer::Whole(answer) = client.answer() else { return Value::Null };
    serde_json::from_slice(&answer.body).expect("JSON")
}

fn text(speakers: &[Speaker], (admin, port): (&Port, &Port), more: &str, keys: &str) -> String {
    let entries: Vec<String> = speakers.iter().map(|speaker| speaker.entry(more)).collect();
    format!(
        "workers = 2\n[admin]\nbind = \"{}\"\n[[listen]]\nbind = \"{}\"\nto = \"all\"\n[backend.all]\n\
         balance = \"round_robin\"\nslow_start = \"0s\"\nservers = [{}]\n{keys}\n",
        admin.address(),
        port.address(),
        entries.join(", ")
    )
}
