//! A check by a program: it is run without a shell, and its exit code says whether the server is well.
//!
//! Bounded in time and number by its callers, the first of whom drops it, and in what it may write, of which the first line is the reason of a failure. It runs in a
//! process group of its own, which is killed with it, and never outlives its check.

use std::process::Stdio;

use plimsoll_config::model::Address;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::question::{Question, Trouble, is_ours, said};

/// What a program may write, in bytes.
const OUTPUT: usize = 64 << 10;
/// Of that, what is kept.
const KEPT: usize = 512;
/// Where programs are looked for by those that programs start.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Kills everything that a program has started.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL); // mostly nobody is left
        }
    }
}

/// Runs a program to its end. Dropped before, it kills it; the runtime then reaps it.
pub(super) async fn run(arguments: &[String], question: &Question) -> Result<(), Trouble> {
    let [program, arguments @ ..] = arguments else { return Err(Trouble::Ours) };
    let names = names(question);
    let fill = |text: &String| {
        names.iter().fold(text.clone(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    };
    let mut command = Command::new(program);
    command
        .args(arguments.iter().map(fill))
        .env_clear()
        .env("PATH", PATH)
        .envs(names.iter().map(|(name, value)| (format!("PLIMSOLL_{}", name.to_ascii_uppercase()), value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| match is_ours(&e) {
        true => Trouble::Ours,
        false => Trouble::Server(format!("cannot run {program}: {}", said(&e))),
    })?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let _group = Group(id.and_then(Pid::from_raw));
    let (mut out, mut err) = (Output::new(child.stdout.take()), Output::new(child.stderr.take()));
    let status = loop {
        // What is read is noted at once, so the losers lose nothing. What the program leaves behind may keep its pipes open: its end is what counts.
        tokio::select! {
            biased;
            () = out.read(), if out.is_open() => {}
            () = err.read(), if err.is_open() => {}
            status = child.wait() => break status,
        }
        if out.count + err.count > OUTPUT {
            return Err(Trouble::Server(format!("the program writes more than {} KiB", OUTPUT >> 10)));
        }
    };
    let status = status.map_err(|_| Trouble::Ours)?;
    if status.success() {
        return Ok(());
    }
    let how = status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}"));
    let line = out.first_line().or_else(|| err.first_line());
    Err(Trouble::Server(line.map_or_else(|| how.clone(), |line| format!("{how}: {line}"))))
}

/// What arguments and the environment can name.
fn names(question: &Question) -> [(&'static str, String); 5] {
    let (address, host, port) = match &question.address {
        Address::Socket(address) => {
            (address.to_string(), address.ip().to_string(), address.port().to_string())
        }
        Address::Name(host, port) => (format!("{host}:{port}"), host.clone(), port.to_string()),
        Address::Unix(path) => (path.display().to_string(), path.display().to_string(), String::new()),
    };
    [
        ("address", address),
        ("host", host),
        ("port", port),
        ("server", question.server.to_string()),
        ("backend", question.backend.to_string()),
    ]
}

/// One of a program's outputs.
struct Output<R> {
    from: Option<R>,
    count: usize,
    kept: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Output<R> {
    fn new(from: Option<R>) -> Output<R> {
        Output { from, count: 0, kept: Vec::new() }
    }

    fn is_open(&self) -> bool {
        self.from.is_some()
    }

    async fn read(&mut self) {
        let Some(from) = &mut self.from else { return };
        let mut bytes = [0; 4 << 10];
        match from.read(&mut bytes).await {
            Ok(0) | Err(_) => self.from = None,
            Ok(n) => {
                self.count += n;
                let room = KEPT - self.kept.len();
                self.kept.extend_from_slice(&bytes[..n.min(room)]);
            }
        }
    }

    fn first_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.kept);
        text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use plimsoll_config::model::{Check, How};

    use super::*;

    /// What comes of a shell script, within so many milliseconds.
    fn judge(script: &str, millis: u64) -> Result<(), Trouble> {
        let arguments = ["/bin/sh", "-c", script, "{server}"].map(str::to_owned).to_vec();
        let check = Check { timeout: Duration::from_millis(millis), ..Check::new(How::Program(arguments)) };
        let question = Question {
            check,
            address: Address::Socket(([127, 0, 0, 1], 81).into()),
            backend: "api".into(),
            server: "one".into(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(question.ask())
    }

    fn failure(script: &str) -> String {
        match judge(script, 10_000) {
            Err(Trouble::Server(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_exit_code_of_0_passes_and_anything_else_says_why() {
        assert_eq!(judge("exit 0", 10_000), Ok(()));
        assert_eq!(failure("exit 3"), "exit code 3");
        assert_eq!(failure("echo; echo no replica; echo more; exit 1"), "exit code 1: no replica");
        assert_eq!(failure("echo badly >&2; exit 1"), "exit code 1: badly");
        assert!(failure("kill -9 $$").contains("signal: 9"));
        assert_eq!(failure("head -c 100000 /dev/zero"), "the program writes more than 64 KiB");
    }

    #[test]
    fn it_knows_whom_it_is_to_check_and_nothing_of_our_environment() {
        let script = r#"[ "$0" = one ] && [ "$PLIMSOLL_ADDRESS" = 127.0.0.1:81 ] && [ "$PLIMSOLL_HOST:$PLIMSOLL_PORT" = 127.0.0.1:81 ] &&
            [ "$PLIMSOLL_BACKEND" = api ] && [ -z "$CARGO_MANIFEST_DIR" ] && [ "$PWD" = / ]"#;
        assert_eq!(judge(script, 10_000), Ok(()));
    }

    #[test]
    fn a_program_that_is_not_there_fails() {
        let check = Check::new(How::Program(vec!["/nowhere/check".to_owned()]));
        let address = Address::Unix("/run/a.sock".into());
        let question = Question { check, address, backend: "b".into(), server: "s".into() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let expected = Trouble::Server("cannot run /nowhere/check: no such file or directory".to_owned());
        assert_eq!(runtime.block_on(question.ask()), Err(expected));
    }

    #[test]
    fn what_does_not_end_is_killed_with_all_that_it_started() {
        let place = std::env::temp_dir().join(format!("plimsoll-check-{}", std::process::id()));
        let script = format!("sleep 1000 & echo $! >{0}.new; mv {0}.new {0}; wait", place.display());
        let late = Err(Trouble::Server("the program did not end within 300 ms".to_owned()));
        assert_eq!(judge(&script, 300), late);
        let id = std::fs::read_to_string(&place).unwrap();
        std::fs::remove_file(&place).unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(10);
        // Gone, or dead and not yet reaped by whoever adopted it.
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
        };
        while lives() {
            assert!(std::time::Instant::now() < until, "{id} lives");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
