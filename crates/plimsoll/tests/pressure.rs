//! Overload of the process itself, in the real program: what is refused when memory runs short, what goes on, and how it ends.

#[path = "peers/process.rs"]
mod process;
#[path = "support/rig.rs"]
mod rig;
mod support;

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use process::Port;
use rig::{ask, behind_shell, field, file, memory, ok, until};
use rustix::process::{Signal, kill_process};
use support::{Client, Gate, Origin, PATIENCE, Plimsoll, Step};

struct Stage {
    program: Plimsoll,
    admin: Port,
    text: String,
}

impl Stage {
    fn new(origin: &Origin) -> Stage {
        let admin = Port::reserve();
        let text = format!(
            "workers = 1\n[admin]\nbind = \"{}\"\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"all\"\n[backend.all]\nservers = [\"{}\"]\n\
             [[route]]\npath = \"/high\"\nto = \"all\"\npriority = \"high\"\n[[route]]\npath = \"/low\"\nto = \"all\"\npriority = \"low\"\n",
            admin.address(),
            origin.address()
        );
        Stage { program: Plimsoll::start(&text), admin, text }
    }

    /// Says that the process may use so many bytes.
    fn may_use(&self, bytes: u64) {
        self.program.configure(&format!("{}[limits]\nmemory = \"{bytes}B\"\n", self.text));
        let said = self.program.stderr_lines().len();
        self.program.signal(Signal::HUP);
        self.program.wait_for_line(said, |line| line.contains("reloaded "));
    }

    fn level(&self) -> u64 {
        self.metric("plimsoll_pressure_level")
    }

    fn metric(&self, name: &str) -> u64 {
        let page = self.admin("/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.expect("it is there").parse().expect("a number")
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.admin("/status")).expect("JSON")
    }

    fn admin(&self, path: &str) -> String {
        let page = ask(self.admin.address(), format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        String::from_utf8_lossy(&page.whole().body).into_owned()
    }

    /// The statuses of a request of each class, the lowest last.
    fn statuses(&self) -> [u16; 3] {
        ["/high", "/", "/low"].map(|path| ask(self.program.address(), request(path)).whole().status)
    }
}

/// Holds the program up: it stands still for a while, over and over, and runs for less than a tick of its workers in between. So all that its workers do
/// comes late, as on a machine that gives it too little time.
struct Standstills {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How long it may run in between. A worker ticks each 50 ms: more, and there would be a punctual tick beside each late one.
const AWAKE: Duration = Duration::from_millis(25);

impl Standstills {
    fn of(program: &Plimsoll, each: Duration) -> Standstills {
        let over = Arc::new(AtomicBool::new(false));
        let (pid, seen) = (program.pid(), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                for (signal, time) in [(Signal::STOP, each), (Signal::CONT, AWAKE)] {
                    kill_process(pid, signal).expect("the child has not been waited for");
                    std::thread::sleep(time);
                }
            }
        });
        Standstills { over, thread: Some(thread) }
    }
}

impl Drop for Standstills {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(
            matches!(ended, Some(Ok(()))) || std::thread::panicking(),
            "the program was held up to the end"
        );
    }
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

#[test]
fn without_memory_new_work_is_refused_and_admitted_work_goes_on() {
    let gate = Gate::default();
    let slow = vec![Step::Read, Step::Wait(gate.clone()), Step::Send(ok("slow")), Step::Serve];
    let origin = Origin::scripted(vec![slow]);
    let stage = Stage::new(&origin);
    let mut admitted = Client::connect(stage.program.address());
    admitted.send(&request("/"));
    origin.wait_until("the request", |all| all.iter().any(|one| one.requests.len() == 1));
    let mut idle = Client::connect(stage.program.address());
    idle.send(&request("/"));
    assert_eq!(idle.answer().whole().status, 200);
    stage.may_use(memory(&stage.program).0 / 2);
    until("all new work is refused", || stage.level() == 4);
    assert_eq!(stage.status()["pressure_by"], "memory");
    stage.program.wait_for_line(0, |line| {
        line.contains("short of memory: new requests are refused, and no clients accepted")
    });
    idle.send(&request("/high"));
    let refused = idle.answer().whole();
    assert_eq!((refused.status, field(&refused, "retry-after").as_str()), (503, "1"));
    assert_eq!(field(&refused, "connection"), "close");
    assert!(field(&refused, "proxy-status").contains("details=\"overloaded\""));
    gate.open();
    let answered = admitted.answer().whole();
    assert_eq!((answered.status, field(&answered, "connection").as_str()), (200, "close"));
    // Who knocks now waits, and is served once there is memory again.
    let mut late = Client::connect(stage.program.address());
    late.send(&request("/high"));
    stage.may_use(1 << 40);
    assert_eq!(late.answer().whole().status, 200);
    until("it is over", || stage.level() == 0);
    stage.program.wait_for_line(0, |line| line.contains("no longer under pressure"));
    let line = stage.program.wait_for_log(|line| line["reason"] == "overloaded");
    assert_eq!(line["end"], "RR");
}

#[test]
fn what_matters_least_is_refused_first() {
    let origin = Origin::serve();
    let stage = Stage::new(&origin);
    assert_eq!(stage.statuses(), [200, 200, 200]);
    // What a reload itself takes is taken by then.
    (0..4).for_each(|_| stage.may_use(1 << 40));
    // Of a thousand: in the middle of what each level begins and ends with.
    for (used, level, expected) in [(940, 2, [200, 200, 503]), (965, 3, [200, 503, 503])] {
        // A reload takes some memory too, of which later ones take less and less.
        let reached = (0..5).any(|_| {
            stage.may_use(1 << 40);
            until("it is calm", || stage.level() == 0);
            stage.may_use(memory(&stage.program).0 * 1_000 / used);
            (0..20).any(|_| {
                std::thread::sleep(Duration::from_millis(100));
                stage.level() == level
            })
        });
        assert!(reached, "level {level}: at {} with {:?}", stage.level(), memory(&stage.program));
        assert_eq!(stage.statuses(), expected, "level {level}");
    }
}

/// Asks for each class until the statuses are so. Whatever they are meanwhile: the high class is served, and nothing is refused while what matters less is not.
#[track_caller]
fn comes_to(stage: &Stage, wanted: [u16; 3], refused: &mut u64) {
    let deadline = Instant::now() + 3 * PATIENCE;
    loop {
        let statuses = stage.statuses();
        assert!([[200, 200, 200], [200, 200, 503], [200, 503, 503]].contains(&statuses), "{statuses:?}");
        *refused += statuses.iter().filter(|&&status| status == 503).count() as u64;
        if statuses == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "still {statuses:?} instead of {wanted:?}");
    }
}

#[test]
fn workers_that_are_late_refuse_what_matters_least_and_finish_what_they_have() {
    let gate = Gate::default();
    let slow = vec![Step::Read, Step::Wait(gate.clone()), Step::Send(ok("slow")), Step::Serve];
    let origin = Origin::scripted(vec![slow]);
    let stage = Stage::new(&origin);
    let mut admitted = Client::connect(stage.program.address());
    admitted.send(&request("/low"));
    origin.wait_until("the request", |all| all.iter().any(|one| one.requests.len() == 1));
    let mut refused = 0;
    assert_eq!(stage.statuses(), [200, 200, 200]);

    let late = Standstills::of(&stage.program, Duration::from_millis(650));
    comes_to(&stage, [200, 200, 503], &mut refused);
    let answer = ask(stage.program.address(), request("/low")).whole();
    refused += 1;
    assert_eq!((answer.status, field(&answer, "retry-after").as_str()), (503, "1"));
    assert!(field(&answer, "proxy-status").contains("details=\"overloaded\""));
    assert!(stage.status()["pressure"].as_u64() >= Some(2), "{}", stage.status()["pressure"]);
    until("it says why", || stage.status()["pressure_by"] == "time");
    gate.open();
    let answered = admitted.answer().whole();
    let of_low = (answered.status, field(&answered, "connection"));
    assert_eq!(of_low, (200, "close".to_owned()), "what was admitted before, of the low class too");
    drop(late);
    let later = Standstills::of(&stage.program, Duration::from_millis(1_300));
    comes_to(&stage, [200, 503, 503], &mut refused);
    drop(later);

    until("it is over", || stage.level() == 0);
    assert_eq!(stage.statuses(), [200, 200, 200]);
    assert_eq!(stage.status()["pressure"], 0);
    assert_eq!(stage.metric("plimsoll_pressure_refused_total"), refused);
    let said = stage.program.wait_for_line(0, |line| line.contains("no longer under pressure"));
    for part in ["of the low class are refused", "refused, but for the high class"] {
        let of_time = |line: &String| line.contains("workers are behind: ") && line.contains(part);
        assert!(said.iter().any(of_time), "{part}: {said:?}");
    }
    let line = stage.program.wait_for_log(|line| line["reason"] == "overloaded");
    assert_eq!(line["end"], "RR");
}

#[test]
fn one_standstill_is_no_overload() {
    let origin = Origin::serve();
    let stage = Stage::new(&origin);
    let mut waiting = Client::connect(stage.program.address());
    stage.program.signal(Signal::STOP);
    waiting.send(&request("/low"));
    std::thread::sleep(Duration::from_millis(1_500));
    stage.program.signal(Signal::CONT);
    assert_eq!(waiting.answer().whole().status, 200);
    let began = Instant::now();
    // Long enough for two looks at it, which would have said so.
    while began.elapsed() < Duration::from_millis(1_500) {
        assert_eq!((stage.level(), stage.statuses()), (0, [200, 200, 200]));
    }
    assert_eq!(stage.metric("plimsoll_pressure_refused_total"), 0);
}

#[test]
fn idle_clients_do_not_keep_others_out() {
    let gate = Gate::default();
    let slow = vec![Step::Read, Step::Wait(gate.clone()), Step::Send(ok("slow")), Step::Serve];
    let origin = Origin::scripted(vec![slow]);
    // Room for 16 connections.
    let text = file(&[origin.address()], "", "");
    let program = Plimsoll::start_by(behind_shell("ulimit -n 96"), &text, Stdio::piped());
    let mut admitted = Client::connect(program.address());
    admitted.send(&request("/"));
    origin.wait_until("the request", |all| all.iter().any(|one| one.requests.len() == 1));
    // Each stays when it is served.
    let mut crowd: Vec<Client> = (0..60)
        .map(|_| {
            let mut client = Client::connect(program.address());
            client.send(&request("/"));
            assert_eq!(client.answer().whole().status, 200);
            client
        })
        .collect();
    assert!(crowd[0].is_closed(), "it has idled longest");
    let said =
        "short of connections: connections are not kept alive, and those that have idled longest are closed";
    program.wait_for_line(0, |line| line.contains(said));
    // Who is at work is not idle, however old.
    gate.open();
    assert_eq!(admitted.answer().whole().status, 200);
}
