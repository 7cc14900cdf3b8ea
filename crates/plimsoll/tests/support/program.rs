//! Runs the real program with a configuration and watches what it prints.
//!
//! It is ready when it says so on stderr, after one line per listener with the address the kernel gave. Both outputs are
//! kept by the line. Dropping the value kills the process; only a process started here is ever signalled.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use super::Watched;

/// Lines of one output, and whether it has ended.
#[derive(Debug, Default)]
struct Output {
    lines: Vec<String>,
    ended: bool,
}

/// A running `plimsoll run -c FILE`.
pub struct Plimsoll {
    child: Child,
    configuration: PathBuf,
    addresses: Vec<SocketAddr>,
    stdout: Arc<Watched<Output>>,
    stderr: Arc<Watched<Output>>,
}

impl Plimsoll {
    /// Starts it and waits until it is ready. Listeners bind `127.0.0.1:0`.
    pub fn start(configuration: &str) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
        Self::start_by(program, configuration, Stdio::piped())
    }

    /// The same by a command that is given the arguments; what goes to another standard output than a pipe is not kept.
    pub fn start_by(mut command: Command, configuration: &str, stdout: Stdio) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("plimsoll-{}-{number}.toml", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, configuration).expect("the test's own directory can be written");
        let mut child = command
            .args(["run", "-c"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program is built");
        let stdout = child.stdout.take().map(collect).unwrap_or_default();
        let stderr = collect(child.stderr.take().expect("piped"));
        let mut program = Self { child, configuration: path, addresses: Vec::new(), stdout, stderr };
        program.addresses = program.wait_until_ready(configuration);
        program
    }

    /// One listener before the given servers; one worker, so that all exchanges share one pool.
    pub fn before(servers: &[SocketAddr]) -> Self {
        let servers: Vec<String> = servers.iter().map(|address| format!("\"{address}\"")).collect();
        let to = servers.join(", ");
        Self::start(&format!("workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = [{to}]\n"))
    }

    fn wait_until_ready(&self, configuration: &str) -> Vec<SocketAddr> {
        let ready = self.stderr.until(|output| {
            let ready = output.lines.iter().any(|line| line == "plimsoll: ready");
            (ready || output.ended).then_some(ready)
        });
        let lines = self.stderr_lines();
        let trouble = || format!("with\n{configuration}\nit said\n{}", lines.join("\n"));
        assert!(ready == Some(true), "plimsoll did not become ready: {}", trouble());
        let addresses = lines.iter().filter_map(|line| line.strip_prefix("plimsoll: listening on "));
        addresses.map(|text| text.parse().unwrap_or_else(|_| panic!("no address: {}", trouble()))).collect()
    }

    /// The listeners' addresses, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The first listener's address.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The access log so far.
    pub fn log_lines(&self) -> Vec<serde_json::Value> {
        self.stdout
            .look(|output| output.lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Waits for an access log line and returns it.
    pub fn wait_for_log(&self, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let parse = |line: &String| serde_json::from_str::<serde_json::Value>(line).ok();
        let found =
            self.stdout.until(|output| output.lines.iter().filter_map(parse).find(|line| wanted(line)));
        found.unwrap_or_else(|| {
            let log = self.stdout.look(|output| output.lines.join("\n"));
            panic!("no such log line in\n{log}\nstderr:\n{}", self.stderr_lines().join("\n"))
        })
    }

    /// What it said on stderr so far.
    pub fn stderr_lines(&self) -> Vec<String> {
        self.stderr.look(|output| output.lines.clone())
    }

    /// The configuration file.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// Replaces the configuration file, in one step.
    pub fn configure(&self, configuration: &str) {
        let new = self.configuration.with_extension("new");
        std::fs::write(&new, configuration).expect("the test's own directory can be written");
        std::fs::rename(&new, &self.configuration).expect("it is the same directory");
    }

    /// Waits for a line on stderr after the first `skipped` and returns it with those before it.
    pub fn wait_for_line(&self, skipped: usize, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let found = self.stderr.until(|output| {
            let lines = output.lines.get(skipped..)?;
            let at = lines.iter().position(|line| wanted(line))?;
            Some(lines[..=at].to_vec())
        });
        found.unwrap_or_else(|| panic!("it never said that; it said\n{}", self.stderr_lines().join("\n")))
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the child has not been waited for");
    }

    /// TERM, then waits for the end.
    pub fn stop(self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the end.
    pub fn wait(mut self) -> ExitStatus {
        let ended = self.stderr.until(|output| output.ended.then_some(()));
        assert!(ended.is_some(), "plimsoll did not end; it said\n{}", self.stderr_lines().join("\n"));
        self.child.wait().expect("it is our child")
    }
}

impl Drop for Plimsoll {
    fn drop(&mut self) {
        // Both fail where the process has ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.configuration);
        if std::thread::panicking() {
            eprintln!("plimsoll said on stderr:\n{}", self.stderr_lines().join("\n"));
        }
    }
}

/// Keeps the lines of an output on a thread of its own until the output ends.
fn collect(from: impl Read + Send + 'static) -> Arc<Watched<Output>> {
    let output = Arc::new(Watched::new(Output::default()));
    let kept = Arc::clone(&output);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            kept.change(|output| output.lines.push(line));
        }
        kept.change(|output| output.ended = true);
    });
    output
}
