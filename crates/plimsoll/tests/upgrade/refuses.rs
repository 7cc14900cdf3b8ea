//! Whatever is wrong with the new process, the old one goes on, and whoever asked is told.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use rustix::process::Signal;

use crate::rig::{PROGRAM, ask, fresh_path, until};
use crate::stage::{Family, listening_inodes, question, send, successor, utf8};
use crate::support::{Client, Gate, Origin, Step, get};

/// A connection from before, which must go on as if nothing had been.
struct Witness(Client);

impl Witness {
    fn of(family: &Family) -> Self {
        let mut witness = Self(Client::connect(family.address()));
        witness.is_served();
        witness
    }

    #[track_caller]
    fn is_served(&mut self) {
        self.0.send(&get("/"));
        let response = self.0.answer().whole();
        assert!(response.status == 200 && response.keep_alive, "{}", response.status);
    }
}

/// The first process serves as before, and there is no other.
#[track_caller]
fn goes_on(family: &Family, witness: &mut Witness) {
    witness.is_served();
    for _ in 0..20 {
        let response = ask(family.address(), get("/")).whole();
        assert!(response.status == 200 && response.keep_alive);
    }
    assert_eq!(family.pid(), family.program().pid());
    until("no other process is left", || family.living() == [family.pid()]);
    assert_eq!(family.status()["phase"], "serving");
}

/// A program that does nothing but `script`.
fn script(script: &str, mode: u32) -> PathBuf {
    let path = fresh_path("script");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("the test's own directory can be written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    path
}

/// The verb with this binary must exit with 1 and say why.
#[track_caller]
fn refused(output: &Output) -> String {
    let (out, err) = (utf8(&output.stdout), utf8(&output.stderr));
    assert_eq!((output.status.code(), out.as_str()), (Some(1), ""), "{err}");
    assert!(err.starts_with("not upgraded: "), "{err}");
    err
}

fn path(path: &Path) -> &str {
    path.to_str().expect("plain text")
}

#[test]
fn a_program_that_ends_at_once() {
    let origin = Origin::serve();
    let family = Family::start(2, &[origin.address()]);
    let mut witness = Witness::of(&family);
    for program in ["/bin/false", "/bin/true"] {
        refused(&family.verb(&[program]));
        goes_on(&family, &mut witness);
    }
}

#[test]
fn a_program_that_takes_the_sockets_and_ends() {
    let origin = Origin::serve();
    let family = Family::start(2, &[origin.address()]);
    let mut witness = Witness::of(&family);
    let program = script("head -c 8 >/dev/null; exit 7", 0o755);
    refused(&family.verb(&[path(&program)]));
    goes_on(&family, &mut witness);
    let _ = std::fs::remove_file(program);
}

#[test]
fn a_program_that_never_serves() {
    let origin = Origin::serve();
    let family = Family::start(2, &[origin.address()]);
    let mut witness = Witness::of(&family);
    let program = script("kill -STOP $$", 0o755);
    std::thread::scope(|scope| {
        let known = [family.pid()];
        let verb = scope.spawn(|| family.verb(&[path(&program)]));
        let silent = family.newcomer(&known);
        witness.is_served();
        assert_eq!(question(family.admin(), "GET /ready"), Some((200, "serving\n".to_owned())));
        // Neither a second upgrade nor a signal for one disturbs the first.
        assert!(refused(&family.verb(&[])).contains("under way"));
        assert!(family.fail_to_upgrade().contains("under way"));
        assert_eq!(family.living().len(), 2);
        // Everything else works meanwhile.
        family.signal(Signal::HUP);
        family.program().wait_for_line(0, |line| line.contains("reloaded "));
        witness.is_served();
        send(silent, Signal::KILL);
        let said = refused(&verb.join().expect("it ran"));
        assert!(said.contains(&silent.as_raw_nonzero().to_string()) && said.contains("signal: 9"), "{said}");
    });
    goes_on(&family, &mut witness);
    family.upgrade();
    let _ = std::fs::remove_file(program);
}

#[test]
fn a_stop_while_the_new_process_does_not_serve_yet_ends_both() {
    let origin = Origin::serve();
    for (end, code) in [(Signal::TERM, Some(0)), (Signal::QUIT, Some(0))] {
        let family = Family::start(1, &[origin.address()]);
        let program = script("kill -STOP $$", 0o755);
        std::thread::scope(|scope| {
            let known = [family.pid()];
            let verb = scope.spawn(|| family.verb(&[path(&program)]));
            family.newcomer(&known);
            family.signal(end);
            assert_eq!(family.first_exit(), code);
            assert!(refused(&verb.join().expect("it ran")).contains("told to stop"));
        });
        until("nothing is left", || family.living().is_empty());
        let _ = std::fs::remove_file(program);
    }
}

#[test]
fn a_process_that_stops_takes_no_more_wishes() {
    let gate = Gate::default();
    let origin = Origin::scripted(vec![vec![Step::Read, Step::Wait(gate.clone()), Step::Close]]);
    let family = Family::start(1, &[origin.address()]);
    let mut busy = Client::connect(family.address());
    busy.send(&get("/"));
    origin.wait_until("the request", |all| all.iter().any(|c| c.requests.len() == 1));
    family.signal(Signal::QUIT);
    until("it drains", || question(family.admin(), "GET /ready").is_some_and(|(code, _)| code == 503));
    for wish in ["POST /upgrade", "POST /reload"] {
        let answer = question(family.admin(), wish);
        assert_eq!(answer, Some((503, "the process is stopping\n".to_owned())), "{wish}");
    }
    assert_eq!(family.verb(&[]).status.code(), Some(1));
    gate.open();
    busy.answer().whole();
    assert_eq!(family.first_exit(), Some(0));
}

#[test]
fn a_broken_configuration() {
    let origin = Origin::serve();
    let family = Family::start(2, &[origin.address()]);
    let good = std::fs::read_to_string(family.program().configuration()).expect("it is ours");
    let mut witness = Witness::of(&family);
    family.program().configure("workers = \"many\"\n");
    refused(&family.verb(&[]));
    goes_on(&family, &mut witness);
    let said = family.fail_to_upgrade();
    assert!(said.contains("workers"), "the new process says what is wrong: {said}");
    goes_on(&family, &mut witness);
    let _ = std::fs::remove_file(family.program().configuration());
    family.fail_to_upgrade();
    goes_on(&family, &mut witness);
    family.program().configure(&good);
    family.upgrade();
    assert_eq!(ask(family.address(), get("/")).whole().status, 200);
}

#[test]
fn an_address_that_is_taken() {
    let origin = Origin::serve();
    let family = Family::start(2, &[origin.address()]);
    let mut witness = Witness::of(&family);
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let taken_address = taken.local_addr().expect("it is bound");
    let inodes = listening_inodes(family.address());
    family.configure(2, &[family.address(), taken_address], &[origin.address()]);
    let said = family.fail_to_upgrade();
    assert!(said.contains(&taken_address.to_string()), "{said}");
    goes_on(&family, &mut witness);
    // Listeners that bind before the one that fails are not to take anybody's clients with them.
    family.configure(6, &[family.address(), taken_address], &[origin.address()]);
    family.fail_to_upgrade();
    assert_eq!(listening_inodes(family.address()), inodes);
    goes_on(&family, &mut witness);
    drop(taken);
}

#[test]
fn binaries_that_others_can_write_or_that_are_none() {
    let origin = Origin::serve();
    let family = Family::start(1, &[origin.address()]);
    let mut witness = Witness::of(&family);
    for mode in [0o777, 0o757, 0o775] {
        let program = script("exit 0", mode);
        assert!(refused(&family.verb(&[path(&program)])).contains("nobody else may write it"), "{mode:o}");
        let _ = std::fs::remove_file(program);
    }
    let plain = script("exit 0", 0o644);
    assert!(refused(&family.verb(&[path(&plain)])).contains("is not a program"));
    assert!(refused(&family.verb(&["/tmp"])).contains("is not a program"));
    let _ = std::fs::remove_file(plain);
    assert_eq!(family.verb(&["/nowhere/plimsoll"]).status.code(), Some(3));
    let asked = question(family.admin(), "POST /upgrade?path=relative").expect("it answers");
    assert_eq!(asked.0, 400);
    assert_eq!(question(family.admin(), "GET /upgrade").expect("it answers").0, 405);
    goes_on(&family, &mut witness);
}

#[test]
fn nobody_to_ask() {
    let origin = Origin::serve();
    let family = Family::start(1, &[origin.address()]);
    let nobody = family.second().to_string();
    let mut verb = std::process::Command::new(PROGRAM);
    let output = verb.args(["upgrade", "--admin", &nobody]).stdin(Stdio::null()).output();
    let output = output.expect("the program is built");
    assert_eq!(output.status.code(), Some(3), "{}", utf8(&output.stderr));
    assert!(utf8(&output.stderr).contains(&nobody));
    assert!(family.program().stderr_lines().iter().all(|line| successor(line).is_none()));
}
