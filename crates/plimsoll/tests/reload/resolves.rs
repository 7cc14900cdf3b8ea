//! A name server that is silent holds up nothing but the reload that asks it.
//!
//! The program runs in a mount namespace of its own whose `resolv.conf` names a socket of the test, which takes questions and never
//! answers. That takes root, `unshare` and port 53 on loopback; where they are missing the test says so.

use std::io::Write;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::rig::{Named, PROGRAM, file, fresh_path};
use crate::stage::{hang_up, status, who};
use crate::support::{PATIENCE, Plimsoll};

/// A name server that never answers.
struct Silent {
    socket: UdpSocket,
    configuration: std::path::PathBuf,
}

impl Silent {
    /// `None`, after saying so, where this cannot be had.
    fn start(address: &str) -> Option<Silent> {
        let may = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
        let socket = UdpSocket::bind((address, 53));
        let (true, Ok(socket)) = (may.is_ok_and(|status| status.success()), socket) else {
            let line = "SKIPPED: a silent name server takes root, unshare and port 53 on loopback";
            // Not `eprintln`, which the test runner swallows when a test passes.
            let _ = writeln!(std::io::stderr(), "\n{line}");
            return None;
        };
        socket.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
        let configuration = fresh_path("resolv.conf");
        let text = format!("nameserver {address}\noptions timeout:30 attempts:5\n");
        std::fs::write(&configuration, text).expect("the test's own directory can be written");
        Some(Silent { socket, configuration })
    }

    fn program(&self, text: &str) -> Plimsoll {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\""]);
        Plimsoll::start_by(command_with(command, self, PROGRAM), text, Stdio::piped())
    }

    /// Has the program ask for a name; returns once it hangs there.
    fn hang(&self, program: &Plimsoll, name: &str) {
        program.configure(&with(&[&format!("\"{name}:80\"")]));
        program.signal(Signal::HUP);
        let mut question = [0; 512];
        let label = name.split('.').next().expect("a name");
        loop {
            let length = self.socket.recv(&mut question).expect("the name server is asked");
            if question[..length].windows(label.len()).any(|part| part == label.as_bytes()) {
                return;
            }
        }
    }
}

fn command_with(mut command: Command, silent: &Silent, program: &str) -> Command {
    command.arg(&silent.configuration).arg(program);
    command
}

fn with(servers: &[&str]) -> String {
    let servers = servers.join(", ");
    format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = [{servers}]\n[admin]\nbind = \"127.0.0.1:0\"\n"
    )
}

#[test]
fn a_reload_with_another_file_is_taken_while_a_name_server_is_silent() {
    let Some(silent) = Silent::start("127.53.0.1") else { return };
    let (a, b) = (Named::start("a"), Named::start("b"));
    let program = silent.program(&with(&[&format!("\"{}\"", a.address())]));
    silent.hang(&program, "hangs.example");
    assert_eq!(who(program.address()), "a");
    assert_eq!(status(&program)["phase"], "serving");
    let began = Instant::now();
    hang_up(&program, &with(&[&format!("\"{}\"", b.address())]));
    assert_eq!(who(program.address()), "b");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(status(&program)["reloads"]["failed"], 0);
}

#[test]
fn term_ends_the_program_while_a_name_server_is_silent() {
    let Some(silent) = Silent::start("127.53.0.2") else { return };
    let a = Named::start("a");
    let program = silent.program(&file(&[a.address()], "", ""));
    silent.hang(&program, "hangs.example");
    let began = Instant::now();
    assert!(program.stop().success());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}
