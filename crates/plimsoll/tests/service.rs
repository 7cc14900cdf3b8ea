//! The package under a live systemd: installed, started, reloaded, upgraded, crashed, stopped and purged.
//!
//! systemd is process 1 of a container whose files are this machine's, with everything that is written kept in memory and thrown away, and
//! whose network is a loopback of its own. What happens inside is `service/trial.sh`. Needs root for the container; elsewhere it is
//! skipped, and says so.

#[path = "peers/need.rs"]
mod need;
#[path = "peers/process.rs"]
mod process;
mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use need::need;
use process::scratch;
use rustix::process::geteuid;

/// Seconds that the whole trial may take.
const PATIENCE: &str = "240";
/// All files of this machine, and memory for what is written; both are gone with the mount namespace. Takes the trial's folder.
const MACHINE: &str = r#"
set -e
top=$1/machine
mkdir "$top"
mount -t tmpfs tmpfs "$top"
mkdir "$top/upper" "$top/work" "$top/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" "$top/root"
echo mounted
exec systemd-nspawn --directory="$top/root" --private-network --register=no --keep-unit --bind="$1:/trial" \
  --bind-ro="$1/trial.service:/run/systemd/system/trial.service" --boot systemd.unit=trial.service
"#;

fn skip(why: &str) {
    // Not `eprintln`, which the test runner swallows when a test passes.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: the service under a live systemd: {why}");
}

/// The package of the program under test, and the trial, in a folder.
fn prepare(folder: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(folder).expect("the tests' own directory can be written");
    let mut tool = Command::new(root.join("../../tools/deb"));
    let output = tool.args(["--binary", env!("CARGO_BIN_EXE_plimsoll"), "--output"]).arg(folder).output();
    let output = output.expect("tools/deb is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let package = String::from_utf8(output.stdout).expect("a path");
    fs::rename(package.trim(), folder.join("plimsoll.deb")).expect("the package was built");
    for name in ["trial.sh", "trial.service"] {
        fs::copy(root.join("tests/service").join(name), folder.join(name)).expect("it is there");
    }
}

#[test]
fn the_package_lives_under_a_live_systemd() {
    if !geteuid().is_root() {
        return skip("a container needs root");
    }
    if need("dpkg-deb").and(need("systemd-nspawn")).is_none() {
        return;
    }
    let folder = scratch("service");
    prepare(&folder);
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", PATIENCE, "unshare", "--mount", "sh", "-c", MACHINE, "sh"]).arg(&folder);
    let output = command.stdin(Stdio::null()).output().expect("coreutils and util-linux are there");
    let console =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let said = fs::read_to_string(folder.join("said")).unwrap_or_default();
    fs::remove_dir_all(&folder).expect("it is ours, and nothing is mounted there any more");
    if !console.starts_with("mounted") {
        return skip(&format!("this machine cannot stack file systems: {console}"));
    }
    if said.is_empty() && console.contains("Operation not permitted") {
        return skip(&format!("no container can be started here: {console}"));
    }
    assert!(said.trim_end().ends_with("\nend"), "{said}\nthe console:\n{console}");
}
