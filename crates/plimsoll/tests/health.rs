//! Passive health in the real program: who fails is passed over, for how long, what is said of it, and what survives.
//!
//! The servers are threads that answer with the status they are told to; the program is the real one, with one worker.

#[path = "peers/process.rs"]
mod process;
#[path = "support/rig.rs"]
mod rig;
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst};

use process::Port;
use rig::until;
use rustix::process::Signal;
use serde_json::Value;
use support::{Answer, Client, Plimsoll};

/// A server that answers with the status it is told; 0 closes instead. Lives as long as the test's process.
struct Moody {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    requests: Arc<AtomicUsize>,
}

impl Moody {
    fn start(status: u16) -> Moody {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let status = Arc::new(AtomicU16::new(status));
        let moody = Moody { address, status, requests: Arc::default() };
        let (status, requests) = (Arc::clone(&moody.status), Arc::clone(&moody.requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (status, requests) = (Arc::clone(&status), Arc::clone(&requests));
                std::thread::spawn(move || serve(stream, &status, &requests));
            }
        });
        moody
    }

    fn count(&self) -> usize {
        self.requests.load(SeqCst)
    }

    fn becomes(&self, status: u16) {
        self.status.store(status, SeqCst);
    }
}

fn serve(mut stream: TcpStream, status: &AtomicU16, requests: &AtomicUsize) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while let Ok(1) = stream.read(&mut byte) {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            requests.fetch_add(1, SeqCst);
            let status = status.load(SeqCst);
            let answer = format!("HTTP/1.1 {status} Said\r\nContent-Length: 2\r\n\r\nok");
            if status == 0 || stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
            head.clear();
        }
    }
}

/// The program before these servers, and its admin address.
struct Stage {
    program: Plimsoll,
    admin: Port,
    port: Port,
    servers: Vec<Moody>,
}

impl Stage {
    fn new(statuses: &[u16], keys: &str) -> Stage {
        let servers: Vec<Moody> = statuses.iter().map(|&status| Moody::start(status)).collect();
        let (admin, port) = (Port::reserve(), Port::reserve());
        let text = file(&servers, &admin, &port, keys);
        Stage { program: Plimsoll::start(&text), admin, port, servers }
    }

    fn ask(&self, request: &[u8]) -> u16 {
        let mut client = Client::connect(self.port.address());
        client.send(request);
        client.answer().whole().status
    }

    fn ask_often(&self, times: u32, request: &[u8]) {
        for _ in 0..times {
            self.ask(request);
        }
    }

    /// The state of every server, in the order of the file.
    fn states(&self) -> Vec<String> {
        let servers = self.backend()["servers"].as_array().expect("a list").clone();
        servers.iter().map(|s| s["state"].as_str().expect("a state").to_owned()).collect()
    }

    fn backend(&self) -> Value {
        self.status()["backends"][0].clone()
    }

    fn status(&self) -> Value {
        let mut client = Client::connect(self.admin.address());
        client.send(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n");
        serde_json::from_slice(&client.answer().whole().body).expect("JSON")
    }
}

fn file(servers: &[Moody], admin: &Port, port: &Port, keys: &str) -> String {
    let list: Vec<String> = servers
        .iter()
        .enumerate()
        .map(|(i, s)| format!("{{ address = \"{}\", name = \"s{i}\" }}", s.address))
        .collect();
    format!(
        "workers = 1\n[admin]\nbind = \"{}\"\n[[listen]]\nbind = \"{}\"\nto = \"all\"\n[backend.all]\nslow_start = \"0s\"\nservers = [{}]\n{keys}\n",
        admin.address(),
        port.address(),
        list.join(", ")
    )
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";

#[test]
fn five_failures_eject_a_server_and_a_trial_brings_it_back() {
    let stage = Stage::new(&[200, 503, 200], "balance = \"round_robin\"\neject = { time = \"1s\" }");
    let said = |word: &'static str| stage.program.wait_for_line(0, move |line| line.contains(word));
    for _ in 0..30 {
        stage.ask(GET);
    }
    assert_eq!(stage.servers[1].count(), 5);
    assert_eq!(stage.states(), ["up", "ejected", "up"]);
    let told = said("server all/s1 is ejected: 5 failures in a row, the last: status 503");
    assert_eq!(told.iter().filter(|line| line.contains("ejected")).count(), 1);
    until("a trial fails, and it is ejected again", || {
        stage.ask(GET);
        stage.backend()["servers"][1]["ejections"] == 2
    });
    assert_eq!(stage.servers[1].count(), 6, "one request is a trial");
    assert_eq!(stage.backend()["servers"][1]["state_reason"], "its trial failed: status 503");
    stage.servers[1].becomes(200);
    until("the next trial is answered", || {
        stage.ask(GET);
        stage.states()[1] == "up"
    });
    said("server all/s1 is back: its trial was answered");
    let before = stage.servers[1].count();
    (0..9).for_each(|_| assert_eq!(stage.ask(GET), 200));
    assert_eq!(stage.servers[1].count() - before, 3, "its whole share");
}

#[test]
fn a_server_that_closes_instead_of_answering_is_ejected_and_clients_see_nothing() {
    let stage = Stage::new(&[200, 0, 200], "balance = \"round_robin\"");
    (0..40).for_each(|_| assert_eq!(stage.ask(GET), 200));
    assert_eq!((stage.states()[1].as_str(), stage.servers[1].count()), ("ejected", 5));
}

#[test]
fn an_applications_own_failures_eject_nobody() {
    let stage = Stage::new(&[500, 200], "balance = \"round_robin\"");
    stage.ask_often(40, GET);
    assert_eq!((stage.states(), stage.servers[0].count()), (vec!["up".to_owned(); 2], 20));
}

#[test]
fn the_last_server_and_the_one_that_would_be_too_many_stay() {
    for (statuses, ejected) in
        [(&[503][..], 0), (&[503; 2], 1), (&[503; 3], 1), (&[503; 4], 2), (&[503; 5], 2)]
    {
        let stage = Stage::new(statuses, "balance = \"round_robin\"");
        (0..100).for_each(|_| assert_eq!(stage.ask(POST), 503));
        let out = stage.states().iter().filter(|state| *state == "ejected").count();
        assert_eq!(out, ejected, "{statuses:?}");
        assert_eq!(stage.backend()["panic"], false, "{statuses:?}");
    }
}

#[test]
fn nobody_is_ejected_where_the_file_says_so() {
    let stage = Stage::new(&[503, 200], "balance = \"round_robin\"\neject = false");
    stage.ask_often(40, POST);
    assert_eq!((stage.states(), stage.servers[0].count()), (vec!["up".to_owned(); 2], 20));
}

#[test]
fn what_is_known_of_a_server_survives_reloads_and_an_upgrade() {
    let stage = Stage::new(&[200, 503, 200], "balance = \"round_robin\"\neject = { time = \"5m\" }");
    stage.ask_often(20, GET);
    assert_eq!(stage.states()[1], "ejected");
    let since = || stage.backend()["servers"][1]["state_for_seconds"].as_f64().expect("a number");
    let reason = || stage.backend()["servers"][1]["state_reason"].clone();
    let before = (reason(), since());
    // A reload that changes the backend, so that it is built anew.
    let more = file(
        &stage.servers,
        &stage.admin,
        &stage.port,
        "balance = \"least_conn\"\neject = { time = \"5m\" }",
    );
    stage.program.configure(&more);
    let said = stage.program.stderr_lines().len();
    stage.program.signal(Signal::HUP);
    stage.program.wait_for_line(said, |line| line.contains("reloaded "));
    assert_eq!((stage.states()[1].as_str(), reason()), ("ejected", before.0.clone()));
    let said = stage.program.stderr_lines().len();
    stage.program.signal(Signal::USR2);
    stage.program.wait_for_line(said, |line| line.contains("upgraded: process "));
    let old = stage.program.pid();
    until("the admin address is the new process's", || {
        // The old process may close what it has not answered yet.
        let mut client = Client::connect(stage.admin.address());
        client.send(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let Answer::Whole(answer) = client.answer() else { return false };
        let status: Value = serde_json::from_slice(&answer.body).expect("JSON");
        status["pid"].as_i64() != Some(i64::from(old.as_raw_nonzero().get()))
    });
    assert_eq!((stage.states()[1].as_str(), reason()), ("ejected", before.0));
    assert!(since() >= before.1, "since it was ejected, not since the upgrade");
    let count = stage.servers[1].count();
    (0..20).for_each(|_| assert_eq!(stage.ask(GET), 200));
    assert_eq!(stage.servers[1].count(), count);
    end_successor(&stage);
}

/// Ends the process that has taken over: it was started by the one that this test started.
fn end_successor(stage: &Stage) {
    let pid = i32::try_from(stage.status()["pid"].as_i64().expect("a number")).expect("a pid");
    let pid = rustix::process::Pid::from_raw(pid).expect("not zero");
    rustix::process::kill_process(pid, Signal::KILL).expect("it runs");
}
