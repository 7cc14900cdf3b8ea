//! The admin addresses from outside: Unix sockets, tokens, and what a reload, an upgrade and a crash make of them.
//!
//! The real program with curl and its own verbs as clients. Every socket lives at a path of the test's own.

#[path = "support/rig.rs"]
mod rig;
mod support;

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rig::{Named, PROGRAM, before, file, fresh_path, refuses, until};
use rustix::process::{Pid, Signal, kill_process};
use support::Plimsoll;

const TOKEN: &str = "correct-horse-battery-staple";

fn socket() -> PathBuf {
    // Short: a Unix socket's path has 107 bytes at most.
    let name = fresh_path("a.sock").file_name().expect("a name").to_owned();
    std::env::temp_dir().join(name)
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

fn admin(bind: &str, rest: &str) -> String {
    format!("[admin]\nbind = {bind}\n{rest}\n")
}

/// Status and body by curl.
fn curl(arguments: &[&str]) -> (String, String) {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "-w", "\n%{http_code}"])
        .args(arguments)
        .output()
        .expect("curl is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').expect("curl writes the code");
    (code.to_owned(), body.to_owned())
}

fn at(path: &Path, target: &str) -> String {
    curl(&["--unix-socket", path.to_str().expect("UTF-8"), &format!("http://localhost{target}")]).0
}

fn verb(arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_remove("PLIMSOLL_ADMIN_TOKEN").output().expect("the program is built")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Has the program take this configuration by HUP.
fn hang_up(program: &Plimsoll, text: &str) -> Vec<String> {
    let skipped = program.stderr_lines().len();
    program.configure(text);
    program.signal(Signal::HUP);
    program.wait_for_line(skipped, |line| {
        line.starts_with("plimsoll: reloaded ") || line.contains("not reloaded")
    })
}

#[test]
fn a_unix_socket_is_its_owners_answers_and_goes_with_the_process() {
    let (server, path) = (Named::start("a"), socket());
    let program = before(&[server.address()], &admin(&format!("\"{}\"", unix(&path)), ""));
    let about = path.symlink_metadata().expect("it is there");
    assert!(about.file_type().is_socket());
    assert_eq!(about.mode() & 0o777, 0o600);
    assert_eq!(at(&path, "/ready"), "200");
    let status = verb(&["status", "--json", "--admin", &unix(&path)]);
    assert!(
        said(&status).contains("\"phase\":\"serving\"") || said(&status).contains("serving"),
        "{}",
        said(&status)
    );
    // By the configuration, without a word about the address.
    let configuration = program.configuration().to_str().expect("UTF-8");
    let reload = verb(&["reload", "-c", configuration]);
    assert_eq!(reload.status.code(), Some(0), "{}", said(&reload));
    assert!(program.stop().success());
    assert!(!path.exists());
}

#[test]
fn a_dead_socket_is_replaced_a_live_one_and_a_file_are_not() {
    let (server, path) = (Named::start("a"), socket());
    let text = file(&[server.address()], "", &admin(&format!("\"{}\"", unix(&path)), ""));
    let live = UnixListener::bind(&path).expect("nothing is there");
    let (code, why) = refuses(Command::new(PROGRAM), &text);
    assert_eq!(code, Some(3), "{why}");
    assert!(why.contains("another process listens there") && why.contains(&unix(&path)), "{why}");
    assert!(path.exists());
    drop(live);
    let program = Plimsoll::start(&text);
    assert_eq!(at(&path, "/healthz"), "200");
    program.signal(Signal::KILL);
    program.wait();
    assert!(path.exists(), "killed, it could not clean up");
    let next = Plimsoll::start(&text);
    assert_eq!(at(&path, "/healthz"), "200");
    assert!(next.stop().success());
    std::fs::write(&path, "precious").expect("the folder can be written");
    let (code, why) = refuses(Command::new(PROGRAM), &text);
    assert!(code == Some(3) && why.contains("no socket"), "{why}");
    assert_eq!(std::fs::read(&path).expect("it is still there"), b"precious");
    std::fs::remove_file(&path).expect("it is ours");
}

#[test]
fn a_reload_moves_from_tcp_to_a_unix_socket_and_back_and_changes_the_mode() {
    let (server, path) = (Named::start("a"), socket());
    let with = |bind: &str, rest: &str| file(&[server.address()], "", &admin(bind, rest));
    let unix = format!("\"{}\"", unix(&path));
    let program = Plimsoll::start(&with("\"127.0.0.1:0\"", ""));
    for (bind, rest, mode) in [
        (&unix, "", 0o600),
        (&unix, "mode = \"0660\"", 0o660),
        (&format!("[\"127.0.0.1:0\", {unix}]"), "", 0o600),
    ] {
        hang_up(&program, &with(bind, rest));
        assert_eq!(at(&path, "/ready"), "200", "{bind}");
        assert_eq!(path.symlink_metadata().expect("it is there").mode() & 0o777, mode);
    }
    hang_up(&program, &with("\"127.0.0.1:0\"", ""));
    until("the socket's file goes", || !path.exists());
    hang_up(&program, &with(&unix, ""));
    hang_up(&program, &with("\"127.0.0.1:0\"", ""));
    hang_up(&program, &with(&unix, "")); // sooner than what was given up is closed
    assert_eq!(at(&path, "/ready"), "200");
    let lines = hang_up(&program, &with("\"unix:/nowhere/at/all.sock\"", ""));
    assert!(lines.last().is_some_and(|line| line.contains("not reloaded")), "{lines:?}");
    assert_eq!(at(&path, "/ready"), "200", "what was there stays");
}

#[test]
fn a_token_is_asked_for_everywhere_and_shown_nowhere() {
    let (server, path, secret) = (Named::start("a"), socket(), fresh_path("token"));
    std::fs::write(&secret, format!("{TOKEN}\n")).expect("the test's own directory can be written");
    let secret_path = secret.to_str().expect("UTF-8");
    let rest = format!("token = {{ file = \"{secret_path}\" }}");
    let text = file(&[server.address()], "", &admin(&format!("[\"0.0.0.0:0\", \"{}\"]", unix(&path)), &rest));
    let program = Plimsoll::start(&text);
    let lines = program.stderr_lines();
    let port =
        lines.iter().find_map(|line| line.strip_prefix("plimsoll: admin on 0.0.0.0:")).expect("it says so");
    let url = |target: &str| format!("http://localhost:{port}{target}");
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    assert_eq!(curl(&[&url("/healthz")]).0, "200");
    assert_eq!(curl(&[&url("/ready")]).0, "200");
    for target in ["/status", "/metrics", "/nothing"] {
        assert_eq!(curl(&[&url(target)]).0, "401");
        assert_eq!(curl(&["-H", &bearer("wrong-horse-battery-staple"), &url(target)]).0, "401");
    }
    assert_eq!(at(&path, "/status"), "401");
    assert_eq!(curl(&["-X", "POST", &url("/reload")]).0, "401");
    let (code, head) = curl(&["-i", &url("/status")]);
    assert!(code == "401" && head.to_lowercase().contains("www-authenticate: bearer"), "{head}");
    let (code, status) = curl(&["-H", &bearer(TOKEN), &url("/status")]);
    assert_eq!(code, "200");
    let configuration = program.configuration().to_str().expect("UTF-8");
    let shown = said(&verb(&["config", configuration]));
    assert!(shown.contains(secret_path), "{shown}");
    let without = verb(&["status", "--admin", &unix(&path)]);
    assert_eq!(without.status.code(), Some(3));
    for arguments in [
        vec!["status", "-c", configuration],
        vec!["reload", "--admin", &unix(&path), "--token-file", secret_path],
    ] {
        let output = verb(&arguments);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    // Another token by a reload, on the same sockets.
    std::fs::write(&secret, "another-horse-battery-staple").expect("it is ours");
    hang_up(&program, &text);
    assert_eq!(curl(&["-H", &bearer(TOKEN), &url("/status")]).0, "401");
    assert_eq!(curl(&["-H", &bearer("another-horse-battery-staple"), &url("/status")]).0, "200");
    std::fs::write(&secret, "short").expect("it is ours");
    let lines = hang_up(&program, &text);
    assert!(lines.iter().any(|line| line.contains("is shorter than 16 characters")), "{lines:?}");
    let everything = program.stderr_lines().join("\n") + &status + &shown + &said(&without);
    assert!(!everything.contains("horse-battery"), "{everything}");
}

#[test]
fn a_token_from_the_environment_is_shown_by_its_name() {
    let (server, secret) = (Named::start("a"), fresh_path("environment.toml"));
    let text = file(&[server.address()], "", &admin("\":9900\"", "token = \"${SOME_TOKEN}\""));
    std::fs::write(&secret, text).expect("the test's own directory can be written");
    let output = Command::new(PROGRAM).arg("config").arg(&secret).env("SOME_TOKEN", TOKEN).output();
    let shown = said(&output.expect("the program is built"));
    assert!(shown.contains("token = \"${SOME_TOKEN}\"") && !shown.contains(TOKEN), "{shown}");
}

#[test]
fn an_upgrade_keeps_the_unix_socket() {
    let (server, path) = (Named::start("a"), socket());
    let program = before(&[server.address()], &admin(&format!("\"{}\"", unix(&path)), ""));
    let inode = path.symlink_metadata().expect("it is there").ino();
    let output = verb(&["upgrade", "--admin", &unix(&path)]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let number = said(&output).split_whitespace().nth(2).and_then(|number| number.parse().ok());
    let new = number.and_then(Pid::from_raw).expect("it names the new process");
    assert_eq!(path.symlink_metadata().expect("it is still there").ino(), inode);
    until("the new process answers", || {
        let status = verb(&["status", "--json", "--admin", &unix(&path)]);
        said(&status).contains(&format!("{}", new.as_raw_nonzero()))
    });
    kill_process(new, Signal::TERM).expect("it runs");
    program.wait();
    until("the file goes with the last process", || !path.exists());
}
