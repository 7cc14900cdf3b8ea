//! Other programs that the tests run: any child process, `plimsoll origin`, and ports for servers that come and go.
//!
//! A child's outputs are kept by the line; it is killed, with all it has started, when its value is dropped. Everything
//! waits for events with one bound and panics with what the child said; only processes started here are ever signalled.

// Two test programs include this module and each uses a part of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpid};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::support::{Client, PATIENCE, Watched};

/// How many patiences a script or a browser may take.
const SCRIPT_PATIENCES: usize = 6;

/// Waits until `reached`; that it never is, is the failure.
#[track_caller]
pub(crate) fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < PATIENCE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A new path in the tests' own directory.
pub(crate) fn scratch(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("peers-{}-{number}-{name}", std::process::id()))
}

/// Lines of one output, and whether it has ended.
#[derive(Debug, Default)]
struct Output {
    lines: Vec<String>,
    ended: bool,
}

/// A running child.
pub(crate) struct Process {
    name: String,
    child: Child,
    stdout: Arc<Watched<Output>>,
    stderr: Arc<Watched<Output>>,
}

impl Process {
    /// Starts it, in a process group of its own so that its children can be ended with it.
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let spawned = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        Self { name: name.to_owned(), child, stdout, stderr }
    }

    /// The first line on stdout in which `found` finds something.
    #[track_caller]
    pub(crate) fn said<R>(&self, found: impl Fn(&str) -> Option<R>) -> R {
        let result = self.stdout.until(|output| {
            let result = output.lines.iter().find_map(|line| found(line));
            (result.is_some() || output.ended).then_some(result)
        });
        result
            .flatten()
            .unwrap_or_else(|| panic!("{} did not say what was awaited; {}", self.name, self.all()))
    }

    /// The lines on stdout so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.stdout.look(|output| output.lines.clone())
    }

    /// Waits for its end; gives how it ended and its whole stdout.
    #[track_caller]
    pub(crate) fn finish(mut self) -> (ExitStatus, String) {
        let status = self.ended(SCRIPT_PATIENCES);
        (status, self.lines().join("\n"))
    }

    /// The same for one that may take so many patiences, with both outputs.
    #[track_caller]
    pub(crate) fn finish_within(mut self, patiences: usize) -> (ExitStatus, String) {
        let status = self.ended(patiences);
        (status, self.all())
    }

    #[track_caller]
    fn ended(&mut self, patiences: usize) -> ExitStatus {
        let over = |output: &Output| output.ended.then_some(());
        let ended = (0..patiences).any(|_| self.stdout.until(over).is_some());
        assert!(ended, "{} did not end; {}", self.name, self.all());
        let status = self.child.wait().expect("it is our child");
        self.stderr.until(over);
        status
    }

    /// Runs a script to its end and reads the last line it prints as JSON.
    #[track_caller]
    pub(crate) fn result(self) -> Value {
        let stderr = Arc::clone(&self.stderr);
        let name = self.name.clone();
        let (status, text) = self.finish();
        let said = || format!("{text}\n{}", stderr.look(|output| output.lines.join("\n")));
        assert!(status.success(), "{name} ended with {status}:\n{}", said());
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{name}: {error}:\n{}", said()))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the child has not been waited for");
    }

    /// STOP, and waits until the kernel says that it has stopped.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        let (_, status) = waitpid(Some(self.pid()), WaitOptions::UNTRACED)
            .expect("it is our child")
            .expect("without NOHANG there is a status");
        assert!(status.stopped(), "{} ended in place of stopping; {}", self.name, self.all());
    }

    /// KILL, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn end(&mut self) {
        // Once waited for, its number may belong to somebody else.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
    }

    fn all(&self) -> String {
        let stderr = self.stderr.look(|output| output.lines.join("\n"));
        format!("stdout:\n{}\nstderr:\n{stderr}", self.lines().join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("{} said on {}", self.name, self.all());
        }
    }
}

/// Keeps the lines of an output on a thread of its own until the output ends.
fn collect(from: impl Read + Send + 'static) -> Arc<Watched<Output>> {
    let output = Arc::new(Watched::new(Output::default()));
    let kept = Arc::clone(&output);
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            kept.change(|output| output.lines.push(line));
        }
        kept.change(|output| output.ended = true);
    });
    output
}

/// A port on 127.0.0.1 for servers that come and go.
///
/// A socket stays bound to it without listening: connects are refused while no server listens there, a server that binds
/// with SO_REUSEADDR can, and the kernel gives the port to nobody else in between.
pub(crate) struct Port {
    address: SocketAddr,
    _held: Socket,
}

impl Port {
    pub(crate) fn reserve() -> Self {
        let held = Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors suffice");
        held.set_reuse_address(true).expect("TCP has it");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        held.bind(&any.into()).expect("loopback has ports");
        let address = held.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
        Self { address, _held: held }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A running `plimsoll origin`.
pub(crate) struct Server {
    process: Process,
    address: String,
    control: SocketAddr,
}

impl Server {
    /// On a free port.
    pub(crate) fn start(name: &str) -> Self {
        Self::with(name, "127.0.0.1:0", &[])
    }

    /// On this address, with further options.
    pub(crate) fn with(name: &str, listen: &str, options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
        command
            .args(["origin", "--listen", listen, "--name", name, "--control", "127.0.0.1:0"])
            .args(options);
        let process = Process::start(name, &mut command);
        let address = process.said(|line| {
            let address = line.split(" listening on ").nth(1)?;
            Some(address.trim_start_matches("http://").to_owned())
        });
        let control = process.said(|line| {
            let address = line.strip_prefix("control at http://")?.strip_suffix("/_origin")?;
            address.parse().ok()
        });
        Self { process, address, control }
    }

    /// Where it listens, as a configuration names it.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Changes its behaviour; that has taken effect on return.
    pub(crate) fn set(&self, change: &Value) {
        let change = change.to_string();
        let length = change.len();
        let mut client = Client::connect(self.control);
        client.send(
            format!("PUT /_origin HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{change}")
                .as_bytes(),
        );
        let answer = client.answer().whole();
        assert_eq!(answer.status, 200, "{change}: {}", String::from_utf8_lossy(&answer.body));
    }

    /// How it behaves and what it has counted.
    pub(crate) fn shown(&self) -> Value {
        let mut client = Client::connect(self.control);
        client.send(b"GET /_origin HTTP/1.1\r\nHost: a\r\n\r\n");
        serde_json::from_slice(&client.answer().whole().body).expect("it shows JSON")
    }

    /// The process.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// KILL, and waits until it is gone.
    pub(crate) fn kill(self) {
        self.process.kill();
    }
}
