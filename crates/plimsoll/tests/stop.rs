//! How it stops, and what the other signals do.
//!
//! A stop loses no request that it can still finish, ends in time, and tells by its exit code whether it cut anything.
//! What is in flight is held by a gate in the server's script, so no test depends on how long something takes.

#[path = "support/rig.rs"]
mod rig;
mod support;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use rig::{PROGRAM, ask, before, field, fresh_path, ok, refuses, text, until};
use rustix::process::Signal;
use support::oracle::Asked;
use support::{Client, Gate, Origin, Plimsoll, Step, get};

/// The program before one server, with a request in flight that the gate lets finish, and a connection that idles.
struct Stage {
    origin: Origin,
    gate: Gate,
    program: Plimsoll,
    busy: Client,
    idle: Client,
}

impl Stage {
    fn new(rest: &str) -> Self {
        let gate = Gate::default();
        let script = vec![Step::Read, Step::Wait(gate.clone()), Step::Send(ok("at last")), Step::Serve];
        // The first connection serves the one that will idle; it is busy when the second is needed.
        let first = vec![
            Step::Read,
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()),
        ];
        let origin = Origin::scripted(vec![first, script]);
        let program = before(&[origin.address()], rest);
        let mut idle = Client::connect(program.address());
        idle.send(&get("/idle"));
        assert_eq!(idle.answer().whole().status, 200);
        let mut busy = Client::connect(program.address());
        busy.send(&get("/busy"));
        origin.wait_until("the request in flight", |all| all.get(1).is_some_and(|c| c.steps == 1));
        Self { origin, gate, program, busy, idle }
    }

    /// Sends a signal that drains, and waits until it does.
    fn drain(&mut self, signal: Signal) {
        self.program.signal(signal);
        assert!(self.idle.is_closed(), "an idle connection is closed");
    }

    /// The request in flight gets its answer, and it ends well.
    fn finish(mut self) {
        self.gate.open();
        let response = self.busy.answer().whole();
        assert_eq!(text(&response), "at last");
        assert_eq!(field(&response, "connection"), "close");
        assert!(self.busy.is_closed());
        let line = self.program.wait_for_log(|line| line["path"] == "/busy");
        assert_eq!(line["end"], "--", "{line}");
        assert_eq!(self.program.wait().code(), Some(0));
    }

    /// The request in flight is cut, and the exit code says so.
    fn expect_cut(mut self) {
        assert!(self.busy.is_closed(), "cut without an answer");
        let line = self.program.wait_for_log(|line| line["path"] == "/busy");
        assert_eq!((&line["end"], &line["reason"]), (&"KH".into(), &"stopped".into()), "{line}");
        assert_eq!(self.program.wait().code(), Some(4));
        self.gate.open(); // only then the server looks at its connection again
        self.origin.wait_until("the end of the attempt", |all| all[1].closed);
    }
}

#[test]
fn term_and_int_finish_what_is_in_flight_and_accept_nothing_new() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut stage = Stage::new("");
        stage.drain(signal);
        let address = stage.program.address();
        until("new connections are refused", || TcpStream::connect(address).is_err());
        stage.finish();
    }
}

#[test]
fn without_connections_a_stop_is_immediate() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let origin = Origin::serve();
        let program = Plimsoll::before(&[origin.address()]);
        program.signal(signal);
        assert_eq!(program.wait().code(), Some(0));
    }
}

#[test]
fn a_stop_just_as_the_last_client_leaves_is_immediate() {
    // Many times: it is a matter of what a worker sees first.
    let origin = Origin::serve();
    for _ in 0..40 {
        let program = Plimsoll::before(&[origin.address()]);
        assert_eq!(ask(program.address(), get("/")).status(), Some(200));
        // Well within the 30 s of the drain, and QUIT would wait for ever.
        assert_eq!(program.stop().code(), Some(0));
    }
}

#[test]
fn the_drain_deadline_cuts_what_is_left() {
    let mut stage = Stage::new("[timeout]\ndrain = \"700ms\"\n");
    stage.drain(Signal::TERM);
    stage.expect_cut();
}

#[test]
fn a_drain_of_0_cuts_at_once() {
    let mut stage = Stage::new("[timeout]\ndrain = \"0s\"\n");
    stage.drain(Signal::TERM);
    stage.expect_cut();
}

#[test]
fn quit_waits_beyond_the_drain_deadline() {
    let mut patient = Stage::new("[timeout]\ndrain = \"300ms\"\n");
    patient.drain(Signal::QUIT);
    // The same deadline, begun later, is the clock.
    let mut clock = Stage::new("[timeout]\ndrain = \"300ms\"\n");
    clock.drain(Signal::TERM);
    clock.expect_cut();
    patient.finish();
}

#[test]
fn a_second_term_ends_at_once() {
    // Far within the 30 s that the first would wait.
    let mut stage = Stage::new("");
    stage.drain(Signal::TERM);
    stage.program.signal(Signal::TERM);
    stage.expect_cut();
}

#[test]
fn a_term_after_quit_ends_at_once() {
    let mut stage = Stage::new("");
    stage.drain(Signal::QUIT);
    stage.program.signal(Signal::TERM);
    stage.expect_cut();
}

#[test]
fn a_tunnel_is_cut_at_the_drain_deadline() {
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let origin = Origin::scripted(vec![vec![Step::ReadHead, Step::Send(switch.to_vec()), Step::Hang]]);
    let program = before(&[origin.address()], "[timeout]\ndrain = \"300ms\"\n");
    let mut client = Client::connect(program.address());
    client.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.answer_to(Asked { method: b"GET", upgrade: true }).whole().status, 101);
    program.signal(Signal::TERM);
    // The tunnel goes on while it drains: what the client sends still arrives, or it was cut, which the log then says.
    client.send(b"ping");
    assert!(client.is_closed());
    let line = program.wait_for_log(|line| line["path"] == "/ws");
    assert_eq!(
        (&line["status"], &line["end"], &line["reason"]),
        (&101.into(), &"KT".into(), &"stopped".into()),
        "{line}"
    );
    assert_eq!(program.wait().code(), Some(4));
}

#[test]
fn usr1_reopens_the_log_and_loses_no_line() {
    let (path, rotated) = (fresh_path("access.log"), fresh_path("access.log.1"));
    let origin = Origin::serve();
    let program = before(&[origin.address()], &format!("[log]\noutput = \"{}\"\n", path.display()));
    let lines = |path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    let mut asked = 0;
    let mut ask_once = || {
        assert_eq!(ask(program.address(), get(&format!("/{asked}"))).status(), Some(200));
        asked += 1;
        asked
    };
    ask_once();
    until("the first line", || lines(&path) == 1);
    std::fs::rename(&path, &rotated).expect("it is there");
    ask_once();
    until("a line in the file that it has open", || lines(&rotated) == 2);
    assert!(!path.exists());
    program.signal(Signal::USR1);
    until("the new file", || path.exists());
    let count = ask_once();
    until("all lines", || lines(&rotated) + lines(&path) == count);
    assert_eq!(lines(&path), 1, "what comes after the signal goes to the new file");
    for path in [path, rotated] {
        std::fs::remove_file(path).expect("it is there");
    }
}

// ---- not starting at all ----

#[test]
fn a_taken_port_is_exit_code_3_with_the_address_and_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = taken.local_addr().expect("it is bound");
    let (code, said) = refuses(
        Command::new(PROGRAM),
        &format!("[[listen]]\nbind = \"{address}\"\nto = [\"127.0.0.1:9\"]\n"),
    );
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
    assert!(said.contains("stop it, or choose another port"), "{said}");
}

#[test]
fn another_plimsoll_on_the_same_port_is_an_error_too() {
    let origin = Origin::serve();
    let program = Plimsoll::before(&[origin.address()]);
    let address: SocketAddr = program.address();
    let (code, said) = refuses(
        Command::new(PROGRAM),
        &format!("[[listen]]\nbind = \"{address}\"\nto = [\"127.0.0.1:9\"]\n"),
    );
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(&address.to_string()), "{said}");
    assert_eq!(ask(address, get("/")).status(), Some(200), "the first one goes on");
}

#[test]
fn a_wrong_configuration_is_exit_code_1_with_every_problem() {
    let wrong =
        "[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"nobody\"\n[timeout]\nhaeder = \"5s\"\nidle = 60\n";
    let (code, said) = refuses(Command::new(PROGRAM), wrong);
    assert_eq!(code, Some(1), "{said}");
    for part in ["nobody", "haeder", "did you mean `header`?", "`idle` must be a time", "3 problems"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
}
