//! A program and its successors: who serves now, how to upgrade, and what has ended.
//!
//! All processes of a family write to one standard error, which says who serves. Each has the path of the family's own
//! configuration among its arguments; by that they are found, and killed when the family is dropped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;

use crate::process::Port;
use crate::rig::{PROGRAM, until};
use crate::support::{PATIENCE, Plimsoll};

/// The program and all that come after it.
pub(crate) struct Family {
    program: Plimsoll,
    ports: Vec<Port>,
    admin: Port,
}

impl Family {
    /// Two ports beside the admin address; on the first it listens.
    pub(crate) fn start(workers: usize, servers: &[SocketAddr]) -> Self {
        Self::start_by(Command::new(PROGRAM), workers, servers)
    }

    /// The same by a command that is given the arguments.
    pub(crate) fn start_by(command: Command, workers: usize, servers: &[SocketAddr]) -> Self {
        let (ports, admin) = ([Port::reserve(), Port::reserve()], Port::reserve());
        let text = configuration(workers, &[ports[0].address()], admin.address(), servers);
        let program = Plimsoll::start_by(command, &text, Stdio::piped());
        Self { program, ports: ports.into(), admin }
    }

    pub(crate) fn program(&self) -> &Plimsoll {
        &self.program
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.ports[0].address()
    }

    /// Where it may listen too.
    pub(crate) fn second(&self) -> SocketAddr {
        self.ports[1].address()
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Writes a configuration for the next process.
    pub(crate) fn configure(&self, workers: usize, listeners: &[SocketAddr], servers: &[SocketAddr]) {
        self.program.configure(&configuration(workers, listeners, self.admin(), servers));
    }

    /// The process that serves.
    pub(crate) fn pid(&self) -> Pid {
        let lines = self.program.stderr_lines();
        lines.iter().rev().find_map(|line| successor(line)).unwrap_or_else(|| self.program.pid())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// USR2, which must succeed; gives the old process.
    #[track_caller]
    pub(crate) fn upgrade(&self) -> Pid {
        let old = self.pid();
        let said = self.program.stderr_lines().len();
        self.signal(Signal::USR2);
        let lines = self.program.wait_for_line(said, is_outcome);
        assert!(lines.last().is_some_and(|line| successor(line).is_some()), "{}", lines.join("\n"));
        assert_ne!(self.pid(), old);
        old
    }

    /// USR2, which must fail; gives what was said.
    #[track_caller]
    pub(crate) fn fail_to_upgrade(&self) -> String {
        let said = self.program.stderr_lines().len();
        self.signal(Signal::USR2);
        let lines = self.program.wait_for_line(said, is_outcome).join("\n");
        assert!(lines.contains("not upgraded: "), "{lines}");
        lines
    }

    /// The verb, which must succeed; gives the old process.
    #[track_caller]
    pub(crate) fn upgrade_by_verb(&self, arguments: &[&str]) -> Pid {
        let (old, said) = (self.pid(), self.program.stderr_lines().len());
        let output = self.verb(arguments);
        let (out, err) = (utf8(&output.stdout), utf8(&output.stderr));
        assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{out}");
        self.program.wait_for_line(said, |line| successor(line).is_some());
        assert_eq!(successor(out.trim_end()), Some(self.pid()), "{out}");
        assert!(out.starts_with("upgraded: process "), "{out}");
        old
    }

    /// `plimsoll upgrade --admin ADDR …` to its end.
    pub(crate) fn verb(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.arg("upgrade").args(arguments).args(["--admin", &self.admin().to_string()]);
        command.stdin(Stdio::null()).output().expect("the program is built")
    }

    /// Waits until the admin address is that of the process that serves, and gives its status.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let (mut status, pid) = (None, self.pid().as_raw_nonzero().get());
        until("the admin address is the new process's", || {
            let text = question(self.admin(), "GET /status").map(|(_, body)| body);
            status = text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
            status.as_ref().is_some_and(|status| status["pid"] == pid)
        });
        status.expect("it came")
    }

    /// Waits until the first process, which is our child, has ended, and gives its exit code. It stays to be waited for.
    #[track_caller]
    pub(crate) fn first_exit(&self) -> Option<i32> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let mut code = None;
        until("the first process ends", || {
            let ended = waitid(WaitId::Pid(self.program.pid()), options).expect("it is our child");
            code = ended.as_ref().and_then(rustix::process::WaitIdStatus::exit_status);
            ended.is_some()
        });
        code
    }

    /// All processes of the family that have not ended.
    pub(crate) fn living(&self) -> Vec<Pid> {
        let mine = self.program.configuration().as_os_str().as_encoded_bytes();
        let entries = std::fs::read_dir("/proc").expect("Linux has it");
        let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_mine = |pid: &Pid| {
            // Empty for what has ended and was not waited for.
            let path = format!("/proc/{pid}/cmdline", pid = pid.as_raw_nonzero());
            std::fs::read(path).is_ok_and(|line| line.split(|&b| b == 0).any(|argument| argument == mine))
        };
        numbers.filter_map(Pid::from_raw).filter(is_mine).collect()
    }

    /// Waits until a process of the family is gone.
    #[track_caller]
    pub(crate) fn until_ended(&self, pid: Pid) {
        until("a process ends", || !self.living().contains(&pid));
    }

    /// Waits until there is one process more than the given, and gives it.
    #[track_caller]
    pub(crate) fn newcomer(&self, known: &[Pid]) -> Pid {
        let mut found = None;
        until("a new process", || {
            // Between fork and exec it looks like its parent.
            found = self.living().into_iter().find(|pid| !known.contains(pid));
            found.is_some()
        });
        found.expect("it came")
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        // A process that was just about to start another is killed before the second look.
        for pid in self.living().into_iter().chain(self.living()) {
            let _ = kill_process(pid, Signal::KILL);
        }
        for pid in self.living() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// One group of servers behind these listeners.
fn configuration(
    workers: usize,
    listeners: &[SocketAddr],
    admin: SocketAddr,
    servers: &[SocketAddr],
) -> String {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    let servers = servers.join(", ");
    let listen = listeners
        .iter()
        .map(|bind| format!("[[listen]]\nbind = \"{bind}\"\nto = [{servers}]\n"))
        .collect::<String>();
    format!("workers = {workers}\n{listen}[admin]\nbind = \"{admin}\"\n")
}

fn is_outcome(line: &str) -> bool {
    successor(line).is_some() || line.contains("not upgraded: ")
}

/// The process that serves according to this line.
pub(crate) fn successor(line: &str) -> Option<Pid> {
    let (_, rest) = line.split_once("upgraded: process ")?;
    let (number, _) = rest.split_once(" serves now, this one finishes what it has")?;
    Pid::from_raw(number.parse().ok()?)
}

/// One question to the admin address: status and body; `None` if nothing answers.
pub(crate) fn question(address: SocketAddr, line: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.get(9..12)?.parse().ok()?, body.to_owned()))
}

pub(crate) fn utf8(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The inodes of the sockets that listen on this port, in order: who rebinds gets others.
pub(crate) fn listening_inodes(address: SocketAddr) -> Vec<u64> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    let port = format!(":{:04X}", address.port());
    let mut inodes: Vec<u64> = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields[1].ends_with(&port) && fields[3] == "0A")
        .map(|fields| fields[9].parse().expect("a number"))
        .collect();
    inodes.sort_unstable();
    inodes
}

/// Sends a signal to a process of the family.
pub(crate) fn send(pid: Pid, signal: Signal) {
    kill_process(pid, signal).expect("it runs");
}

/// Stops a process, as if it were never scheduled, while `meanwhile` runs.
pub(crate) fn frozen(pid: Pid, meanwhile: impl FnOnce()) {
    send(pid, Signal::STOP);
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    until("the process stops", || std::fs::read_to_string(&path).is_ok_and(|stat| stat.contains(") T ")));
    meanwhile();
    send(pid, Signal::CONT);
}
