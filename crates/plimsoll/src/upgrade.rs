//! Upgrading the binary: a new process takes over the listening sockets, and only then the old one ends.
//!
//! `plimsoll upgrade` asks the running process to do so; [`Upgrade`] is that process's side of it. Until the new process says that it
//! serves, nothing has changed; if it ends or keeps silent instead, it is ended and the old one goes on.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use plimsoll_control::admin_server::Admin;
use plimsoll_control::handover::{self, READY, Told};
use plimsoll_control::reload::Outcome;
use plimsoll_control::systemd;
use plimsoll_control::wanted::Wanted;
use plimsoll_proxy::{Learned, Limit, Memory, Proxy, Remembered, now};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub(crate) mod limits;

use crate::ask;
use crate::cli;
use crate::exit::Exit;
use crate::terminal;

/// A new process has this long to say that it serves: it may resolve many names.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that serves has this long to take what is said last.
const LAST: Duration = Duration::from_secs(2);

/// A new process that does not serve yet.
pub(crate) struct Upgrade {
    child: Child,
    stream: UnixStream,
    until: Instant,
    answer: Option<oneshot::Sender<Outcome>>,
}

impl Upgrade {
    /// Starts `program` with this process's own arguments and hands it the sockets.
    pub(crate) fn start(
        program: &Path,
        proxy: &Proxy,
        admins: &[Admin],
        discovered: Value,
        wanted: &Wanted,
    ) -> Result<Upgrade, String> {
        judge(program)?;
        let failed = |e: io::Error| format!("cannot start {}: {e}", program.display());
        let arguments: Vec<_> = std::env::args_os().skip(1).collect();
        let bound = proxy.sockets();
        let sockets: Vec<_> = bound.iter().flat_map(|(_, sockets)| *sockets).map(AsFd::as_fd).collect();
        let (learned, limits) = (learned(proxy), limits::told(proxy));
        let told = Told { learned, limits, discovered, wanted: wanted.handover() };
        let (child, stream) = handover::start(program, &arguments, &sockets, admins, told).map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        let stream = UnixStream::from_std(stream).map_err(failed)?;
        Ok(Upgrade { child, stream, until: Instant::now() + PATIENCE, answer: None })
    }

    /// Whom to tell.
    pub(crate) fn tell(&mut self, answer: oneshot::Sender<Outcome>) {
        self.answer = Some(answer);
    }

    /// Waits until the new process serves; otherwise says why not, and ends it. Never ready for none. May be dropped and asked again.
    pub(crate) async fn outcome(upgrade: Option<&mut Upgrade>) -> Outcome {
        let Some(upgrade) = upgrade else { return std::future::pending().await };
        let said = tokio::time::timeout_at(upgrade.until, upgrade.stream.read_u8()).await;
        let id = upgrade.child.id();
        if let Ok(Ok(READY)) = said {
            systemd::handed_over(id);
            return Ok(format!("upgraded: process {id} serves now, this one finishes what it has"));
        }
        let _ = upgrade.child.kill(); // it may have ended already
        let status = upgrade.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
        let reason = if said.is_err() { "did not serve within a minute" } else { "ended before it served" };
        Err(format!("not upgraded: process {id} {reason} ({status}); this one goes on\n"))
    }

    /// Tells the new process, which serves, the last that there is to say, and waits until it has taken that; no longer than [`LAST`].
    pub(crate) async fn tell_last(&mut self, last: &Value) {
        say_last(&mut self.stream, last).await; // it may have ended, or be too busy
    }

    /// Ends the new process, because this one is to end and nobody is to come after it.
    pub(crate) fn call_off(mut self) {
        if matches!(self.stream.try_read(&mut [0]), Ok(1)) {
            // It serves already, and finishes what it has by now.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        } else {
            let _ = self.child.kill(); // it may have ended already
            let _ = self.child.wait();
        }
        self.answer(&Err("not upgraded: this process is told to stop\n".to_owned()));
    }

    /// Tells whoever asked.
    pub(crate) fn answer(self, outcome: &Outcome) {
        if let Some(answer) = self.answer {
            let _ = answer.send(outcome.clone()); // who asked may have gone away
        }
    }
}

/// True if who is at the other end has taken it: then it has shut the stream down.
pub(crate) async fn say_last(stream: &mut UnixStream, last: &Value) -> bool {
    let told = async {
        stream.write_all(last.to_string().as_bytes()).await?;
        stream.shutdown().await?;
        stream.read(&mut [0]).await
    };
    matches!(tokio::time::timeout(LAST, told).await, Ok(Ok(0)))
}

/// A binary that others can write, or that belongs to somebody else, is not for this process to run: an admin address without a token is
/// open to every user of the machine.
fn judge(program: &Path) -> Result<(), String> {
    let about = fs::metadata(program).map_err(|e| format!("cannot run {}: {e}", program.display()))?;
    let mine = rustix::process::geteuid().as_raw();
    if !about.is_file() || about.mode() & 0o111 == 0 {
        return Err(format!("{} is not a program", program.display()));
    }
    if (about.uid() != mine && about.uid() != 0) || about.mode() & 0o022 != 0 {
        return Err(format!(
            "{} must belong to root or to this process's user, and nobody else may write it",
            program.display()
        ));
    }
    Ok(())
}

/// What the new process should know from the start, with ages and durations in milliseconds.
fn learned(proxy: &Proxy) -> Value {
    proxy.snapshot().learned(now()).iter().map(as_json).collect()
}

fn as_json(Learned { backend, server, memory }: &Learned) -> Value {
    json!({
        "backend": backend,
        "server": server,
        "refused_for": memory.refused_for,
        "latency": memory.latency,
        "ramp": memory.ramp,
        "limit": memory.limit.map(|known| [u64::from(known.limit), known.least_latency]),
        "told": memory.told.map(|(state, age)| json!([state.as_str(), age])),
        "health": memory.health.as_ref().map(health_as_json),
    })
}

/// Reads [`learned`] back; what is not understood is left out.
pub(crate) fn recall(learned: &Value) -> Vec<Learned> {
    let text = |value: &Value| Some(value.as_str()?.to_owned());
    let latency = |value: &Value| Some((value[0].as_f64()? as f32, u32::try_from(value[1].as_u64()?).ok()?));
    let limit = |value: &Value| {
        let limit = u32::try_from(value[0].as_u64()?).ok()?;
        Some(Limit { limit, least_latency: value[1].as_u64()? })
    };
    let told = |value: &Value| Some((value[0].as_str()?.parse().ok()?, value[1].as_u64()?));
    let server = |one: &Value| {
        let (refused_for, ramp) = (one["refused_for"].as_u64(), one["ramp"].as_u64());
        let memory = Memory {
            refused_for,
            latency: latency(&one["latency"]),
            ramp,
            limit: limit(&one["limit"]),
            told: told(&one["told"]),
            health: health(&one["health"]),
        };
        Some(Learned { backend: text(&one["backend"])?, server: text(&one["server"])?, memory })
    };
    learned.as_array().map_or_else(Vec::new, |all| all.iter().filter_map(server).collect())
}

fn health_as_json(health: &Remembered) -> Value {
    json!({
        "check": health.check,
        "has_passed": health.has_passed,
        "ejected_for": health.ejected_for,
        "ejections": health.ejections,
        "age": health.age,
        "reason": health.reason,
    })
}

fn health(health: &Value) -> Option<Remembered> {
    let check = health["check"].as_bool();
    Some(Remembered {
        check,
        // An older process does not say it.
        has_passed: health["has_passed"].as_bool().unwrap_or(check.is_some()),
        ejected_for: health["ejected_for"].as_u64(),
        ejections: u32::try_from(health["ejections"].as_u64()?).ok()?,
        age: health["age"].as_u64()?,
        reason: health["reason"].as_str()?.to_owned(),
    })
}

/// The verb `plimsoll upgrade`: asks the running process, and waits for what comes of it.
pub(crate) fn run(args: &cli::Upgrade) -> Exit {
    let path = match args.path.as_deref().map(fs::canonicalize).transpose() {
        Ok(path) => path,
        Err(e) => {
            terminal::err(&format!("plimsoll upgrade: {}: {e}\n", shown(args.path.as_deref())));
            return Exit::Start;
        }
    };
    let target = match &path {
        None => "/upgrade".to_owned(),
        Some(path) => format!("/upgrade?path={}", escaped(path)),
    };
    ask::tell("upgrade", &args.admin, &target)
}

fn shown(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |p| p.display().to_string())
}

fn escaped(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/._-".contains(b);
    path.as_os_str()
        .as_bytes()
        .iter()
        .map(|b| if plain(b) { char::from(*b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// The program to run when none is named: where this one was started from.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

#[cfg(test)]
mod tests {
    use plimsoll_config::model::ServerState;

    use super::*;

    #[test]
    fn paths_survive_the_query() {
        assert_eq!(escaped(Path::new("/a b/c%d")), "/a%20b/c%25d");
    }

    #[test]
    fn a_program_that_others_can_write_is_refused() {
        assert!(judge(Path::new("/nowhere")).is_err());
        assert!(judge(Path::new("/")).is_err());
        assert!(judge(&own_program().unwrap()).is_ok());
    }

    #[test]
    fn what_was_learned_can_be_read_back() {
        let reason = "status 503".to_owned();
        let health = Remembered {
            check: Some(false),
            has_passed: false,
            ejected_for: Some(7),
            ejections: 2,
            age: 9,
            reason,
        };
        let health = Some(health);
        let memory = Memory {
            refused_for: Some(300),
            latency: Some((1_500.5, 20)),
            ramp: None,
            limit: Some(Limit { limit: 33, least_latency: 9 }),
            told: Some((ServerState::Maint, 8)),
            health,
        };
        let known = Learned { backend: "b".to_owned(), server: "s".to_owned(), memory };
        let told = json!([as_json(&known), { "server": "x" }, 7, null]);
        assert_eq!(recall(&told), [known]);
        assert_eq!(recall(&Value::Null), []);
    }
}
