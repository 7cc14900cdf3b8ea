//! The Debian package: it installs, works, and goes away again.
//!
//! `tools/deb` packs the program under test, and dpkg installs it below a folder of its own (`--root`), with a database of its own: the
//! machine is not touched. Maintainer scripts run as dpkg runs them, with `DPKG_ROOT`.

#[path = "peers/need.rs"]
mod need;
#[path = "peers/process.rs"]
mod process;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use need::need;
use process::scratch;
use rustix::process::geteuid;
use support::Plimsoll;

/// Runs a command that must succeed, and gives its standard output.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}:\n{said}{errors}", output.status);
    said.into_owned()
}

/// A folder that stands in for a machine with nothing on it.
struct Machine(PathBuf);

impl Machine {
    fn new() -> Machine {
        let root = scratch("machine");
        for folder in ["info", "updates"] {
            fs::create_dir_all(root.join("var/lib/dpkg").join(folder)).expect("it can be written");
        }
        fs::write(root.join("var/lib/dpkg/status"), "").expect("it can be written");
        Machine(root)
    }

    #[track_caller]
    fn dpkg(&self, arguments: &[&str]) {
        // Who is not root can be so in a namespace of his own.
        let mut command = Command::new(if geteuid().is_root() { "env" } else { "unshare" });
        if !geteuid().is_root() {
            command.arg("--map-root-user");
        }
        // There is no libc on this machine.
        let force = "--force-depends,script-chrootless";
        run(command.arg("dpkg").arg(format!("--root={}", self.0.display())).arg(force).args(arguments));
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.0.join(absolute.trim_start_matches('/'))
    }

    /// All files but dpkg's own.
    fn files(&self) -> Vec<String> {
        fn below(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).expect("it is readable") {
                let path = entry.expect("it is readable").path();
                if path.is_dir() { below(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        below(&self.0, &mut found);
        let names = found.iter().map(|path| path.strip_prefix(&self.0).expect("below").display().to_string());
        let mut names: Vec<String> =
            names.filter(|name| !name.starts_with("var/lib/dpkg/") && name != "var/log/dpkg.log").collect();
        names.sort();
        names
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What `ExecStart=` runs, as words.
fn started_by(unit: &str) -> Vec<String> {
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("it starts something");
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn the_package_installs_works_and_goes_away() {
    let (Some(_), Some(man)) = (need("dpkg-deb"), need("man")) else { return };
    let machine = Machine::new();
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/deb");
    let folder = scratch("package");
    let options = ["--binary", env!("CARGO_BIN_EXE_plimsoll"), "--output"];
    let package = run(Command::new(tool).args(options).arg(&folder));
    let package = package.trim();
    if let Some(lintian) = need("lintian") {
        run(Command::new(lintian).args(["--allow-root", "--fail-on", "error,warning", package]));
    }

    machine.dpkg(&["--install", package]);
    let unit = fs::read_to_string(machine.path("/usr/lib/systemd/system/plimsoll.service"));
    let words = started_by(&unit.expect("the unit is there"));
    let [program, verb, option, file] = &words[..] else { panic!("{words:?}") };
    assert_eq!((verb.as_str(), option.as_str()), ("run", "-c"));
    let (program, file) = (machine.path(program), machine.path(file));
    run(Command::new(&program).arg("check").arg(&file));

    let text = fs::read_to_string(&file).expect("it is installed");
    let anywhere = text.replace("\":8080\"", "\"127.0.0.1:0\"").replace("127.0.0.1:9900", "127.0.0.1:0");
    assert_eq!(anywhere.matches("127.0.0.1:0").count(), 2, "the example has changed: {text}");
    let running = Plimsoll::start_by(Command::new(&program), &anywhere, Stdio::piped());
    assert!(running.stop().success());

    let pages = machine.path("/usr/share/man");
    for (page, wanted) in [("plimsoll", "SUBCOMMANDS"), ("plimsoll-run", "--listen")] {
        let shown = run(Command::new(&man).env("MANWIDTH", "80").arg("-M").arg(&pages).arg(page));
        assert!(shown.contains(wanted), "{page}:\n{shown}");
    }

    machine.dpkg(&["--remove", "plimsoll"]);
    assert_eq!(machine.files(), ["etc/plimsoll/plimsoll.toml"]);
    machine.dpkg(&["--purge", "plimsoll"]);
    assert_eq!(machine.files(), [""; 0]);
    fs::remove_dir_all(folder).expect("the tool made it");
}
