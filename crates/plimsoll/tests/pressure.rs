//! Overload of the process itself, in the real program: what is refused when memory runs short, what goes on, and how it ends.

#[path = "peers/process.rs"]
mod process;
#[path = "support/rig.rs"]
mod rig;
mod support;

use std::time::Duration;

use process::Port;
use rig::{ask, field, memory, ok, until};
use rustix::process::Signal;
use support::{Client, Gate, Origin, Plimsoll, Step};

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
        let page = ask(self.admin.address(), "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let page = String::from_utf8_lossy(&page.whole().body).into_owned();
        let line = page.lines().find_map(|line| line.strip_prefix("plimsoll_pressure_level "));
        line.expect("the level is there").parse().expect("a number")
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
    let statuses =
        || ["/high", "/", "/low"].map(|path| ask(stage.program.address(), request(path)).whole().status);
    assert_eq!(statuses(), [200, 200, 200]);
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
        assert_eq!(statuses(), expected, "level {level}");
    }
}
