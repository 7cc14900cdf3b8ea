//! Looks for the programs and Python modules that a test talks to.
//!
//! Where one is missing the test says so past the test runner's capture and ends; where `CI` is `true` it fails, because
//! there everything is to be had (`tools/peers` installs it).

// Two test programs include this module and each uses a part of it.
#![allow(dead_code)]

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::Process;

/// What to install for a program that is not called like its package.
const PACKAGES: [(&str, &str); 11] = [
    ("nginx", "nginx-light"),
    ("knotd", "knot"),
    ("dnsmasq", "dnsmasq-base"),
    ("node", "nodejs"),
    ("promtool", "prometheus"),
    ("dpkg-deb", "dpkg"),
    ("man", "man-db"),
    ("setpriv", "util-linux"),
    ("systemd-analyze", "systemd"),
    ("systemd-nspawn", "systemd-container"),
    ("systemd-socket-activate", "systemd"),
];

/// The program, or `None` after saying loudly that it is missing.
pub(crate) fn need(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    if found.is_none() {
        let package =
            PACKAGES.iter().find(|(name, _)| *name == program).map_or(program, |(_, package)| package);
        missing(program, &format!("apt-get install {package}"));
    }
    found
}

/// A Python that has these modules; the one that `tools/peers` makes goes before the system's.
pub(crate) fn need_python(modules: &[&str]) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("peers-venv").join("bin/python");
    let candidates = [own, PathBuf::from("python3")];
    let import = format!("import {}", modules.join(", "));
    let has_modules = |python: &&PathBuf| {
        let mut command = Command::new(python);
        let status = command.args(["-c", &import]).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let found = candidates.iter().find(has_modules).cloned();
    if found.is_none() {
        missing(&format!("Python with {}", modules.join(", ")), "tools/peers");
    }
    found
}

/// The OpenTelemetry collector that `tools/peers` builds.
pub(crate) fn need_collector() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("otelcol");
    if !built.is_file() {
        missing("the OpenTelemetry collector", "tools/peers, which needs Go");
    }
    built.is_file().then_some(built)
}

/// Whether this machine has `[::1]`; says so if not.
pub(crate) fn need_ipv6() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        missing("IPv6 on loopback", "sysctl net.ipv6.conf.lo.disable_ipv6=0");
    }
    has
}

fn missing(what: &str, remedy: &str) {
    let line = format!("SKIPPED: {what} is missing ({remedy})");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{line}");
    // Not `eprintln`, which the test runner swallows when a test passes.
    let _ = writeln!(std::io::stderr(), "\n{line}");
}

/// Starts one of the scripts beside this file.
pub(crate) fn script(interpreter: &Path, name: &str, arguments: &[&str]) -> Process {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name);
    Process::start(name, Command::new(interpreter).arg(file).args(arguments))
}
