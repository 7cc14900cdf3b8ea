//! Under systemd: what the program says to the service manager, and the sockets it takes from it.
//!
//! The real program runs with a datagram socket in place of systemd, which sees who says what in which order. Sockets are passed by a
//! parent that execs, and by systemd's own `systemd-socket-activate`. The unit that is shipped is judged by `systemd-analyze`.

#[path = "peers/need.rs"]
mod need;
#[path = "peers/process.rs"]
mod process;
mod support;

use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use need::need;
use process::{Port, Process, scratch, until};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use rustix::time::{ClockId, clock_gettime};
use support::{Client, Origin, PATIENCE, Plimsoll, get};

/// Stands in for systemd.
struct Supervisor {
    socket: UnixDatagram,
    path: PathBuf,
}

/// Who said it, and its lines.
type News = (Pid, Vec<String>);

impl Supervisor {
    fn new() -> Supervisor {
        let path = scratch("notify");
        let socket = UnixDatagram::bind(&path).expect("the tests' own directory takes sockets");
        socket.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
        set_socket_passcred(&socket, true).expect("Unix sockets have it");
        Supervisor { socket, path }
    }

    fn next(&self) -> News {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffer = [0; 4096];
        let into = &mut [IoSliceMut::new(&mut buffer)];
        let received = recvmsg(&self.socket, into, &mut control, RecvFlags::empty()).expect("news come");
        let sender = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid),
            _ => None,
        });
        let text = std::str::from_utf8(&buffer[..received.bytes]).expect("it is text");
        (sender.expect("the kernel says who sent it"), text.lines().map(str::to_owned).collect())
    }

    /// The next news other than signs of life.
    fn next_event(&self) -> News {
        loop {
            match self.next() {
                (_, lines) if lines == ["WATCHDOG=1"] => {}
                news => return news,
            }
        }
    }

    /// The program under this manager, with its own id in `WATCHDOG_PID` as systemd does it.
    fn command(&self, watchdog: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "WATCHDOG_PID=$$ exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_plimsoll")])
            .env("NOTIFY_SOCKET", &self.path)
            .env("WATCHDOG_USEC", watchdog);
        command
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

const MINUTE: &str = "60000000";

fn configuration(more: &str) -> String {
    format!("workers = 1\n{more}[[listen]]\nbind = \"127.0.0.1:0\"\nto = [\"127.0.0.1:1\"]\n")
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1_000).expect("it counts up from zero")
}

/// Asserts that a reload is announced at a time in between, and ends; gives its status.
#[track_caller]
fn expect_reload(manager: &Supervisor, since: u64) -> String {
    let (_, lines) = manager.next();
    let [first, second, third] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((first.as_str(), third.as_str()), ("RELOADING=1", "WATCHDOG=1"));
    let at: u64 = second.strip_prefix("MONOTONIC_USEC=").expect("the time").parse().expect("a number");
    assert!((since..=now()).contains(&at), "{since} {at} {}", now());
    let (_, lines) = manager.next();
    let [first, second] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(first, "READY=1");
    second.strip_prefix("STATUS=").expect("a status").to_owned()
}

#[test]
fn start_reload_and_stop_are_announced_in_this_order() {
    let manager = Supervisor::new();
    let text = configuration("[timeout]\ndrain = \"7s\"\n");
    let program = Plimsoll::start_by(manager.command(MINUTE), &text, Stdio::piped());
    assert_eq!(manager.next(), (program.pid(), vec!["READY=1".to_owned(), "STATUS=serving".to_owned()]));
    let since = now();
    program.signal(Signal::HUP);
    let status = expect_reload(&manager, since);
    assert!(status.starts_with("reloaded "), "{status}");
    program.configure("nonsense = 1\n");
    program.signal(Signal::HUP);
    let status = expect_reload(&manager, since);
    assert!(status.contains("the last reload failed"), "{status}");
    program.signal(Signal::TERM);
    let (_, lines) = manager.next();
    assert_eq!(lines, ["STOPPING=1", "STATUS=finishing what is in flight", "EXTEND_TIMEOUT_USEC=17000000"]);
    assert!(program.wait().success());
    manager.socket.set_nonblocking(true).expect("sockets have it");
    assert!(manager.socket.recv(&mut [0; 64]).is_err(), "more was said");
}

#[test]
fn the_watchdog_is_told_until_the_end() {
    let manager = Supervisor::new();
    let origin = Origin::scripted(vec![vec![support::Step::ReadHead, support::Step::Hang]]);
    let text = format!("workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = [\"{}\"]\n", origin.address());
    let program = Plimsoll::start_by(manager.command("20000"), &text, Stdio::piped());
    let expect_signs = || (0..3).for_each(|_| assert_eq!(manager.next().1, ["WATCHDOG=1"]));
    assert_eq!(manager.next().1[0], "READY=1");
    expect_signs();
    let mut client = Client::connect(program.address());
    client.send(&get("/"));
    origin.wait_until("the request", |connections| connections.iter().any(|c| c.steps == 1));
    program.signal(Signal::TERM);
    assert_eq!(manager.next_event().1[0], "STOPPING=1");
    expect_signs(); // a request is in flight
    program.signal(Signal::TERM);
    program.wait();
}

#[test]
fn a_watchdog_for_another_process_is_not_told() {
    let manager = Supervisor::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "2").env("WATCHDOG_PID", "1");
    let program = Plimsoll::start_by(command, &configuration(""), Stdio::piped());
    assert_eq!(manager.next().1[0], "READY=1");
    program.signal(Signal::TERM);
    assert_eq!(manager.next().1[0], "STOPPING=1");
}

#[test]
fn an_upgrade_makes_the_new_process_the_service() {
    let manager = Supervisor::new();
    let program = Plimsoll::start_by(manager.command("400000"), &configuration(""), Stdio::piped());
    assert_eq!(manager.next_event().1[0], "READY=1");
    let old = program.pid();
    program.signal(Signal::USR2);
    let (sender, lines) = manager.next_event();
    assert_eq!(sender, old);
    let new = lines[0].strip_prefix("MAINPID=").and_then(|id| id.parse().ok()).and_then(Pid::from_raw);
    let new = new.unwrap_or_else(|| panic!("{lines:?}"));
    assert_eq!(lines[1..], ["WATCHDOG=1"]);
    for _ in 0..2 {
        assert_eq!(manager.next(), (new, vec!["WATCHDOG=1".to_owned()]));
    }
    kill_process(new, Signal::TERM).expect("it runs");
    let (sender, lines) = manager.next_event();
    assert_eq!((sender, lines[0].as_str()), (new, "STOPPING=1"));
    assert!(program.wait().success(), "both have ended");
    until("the end of the new process", || !is_running(new));
}

/// A process whose parent has ended may stay as a zombie where nobody adopts it.
fn is_running(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
    test_kill_process(pid).is_ok() && !state.starts_with('Z') && !state.is_empty()
}

// Socket activation.

/// Binds, writes the ports into the configuration, and becomes the program with the sockets as descriptors 3 and 4.
const PASS: &str = r#"
import os, socket, sys
kinds = os.environ["KINDS"].split(",")
sockets = [socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) for kind in kinds]
text = open(sys.argv[-1]).read()
for number, (kind, passed) in enumerate(zip(kinds, sockets)):
    passed.bind(("127.0.0.1", 0))
    if kind == "tcp":
        passed.listen(64)
    text = text.replace("PORT%d" % number, str(passed.getsockname()[1]))
open(sys.argv[-1], "w").write(text)
copies = [os.dup(passed.fileno()) for passed in sockets]
high = [__import__("fcntl").fcntl(copy, 0, 100) for copy in copies]
for number, copy in enumerate(high):
    os.dup2(copy, 3 + number)
os.environ["LISTEN_FDS"] = str(len(high))
os.environ["LISTEN_PID"] = str(os.getpid() + int(os.environ.get("OFF", "0")))
os.closerange(3 + len(high), 256)
os.execv(sys.argv[1], sys.argv[1:])
"#;

fn passing(kinds: &str) -> Option<Command> {
    let mut command = Command::new(need("python3")?);
    command
        .args(["-c", PASS, env!("CARGO_BIN_EXE_plimsoll")])
        .env("KINDS", kinds)
        .env("LISTEN_FDNAMES", "web:other");
    Some(command)
}

const TWO: &str = "workers = 2\n[backend.b]\nservers = [\"ORIGIN\"]\n\
    [[listen]]\nbind = \"127.0.0.1:PORT1\"\nto = \"b\"\n[[listen]]\nbind = \"127.0.0.1:PORT0\"\nto = \"b\"\n";
const ONE: &str = "[[listen]]\nbind = \"127.0.0.1:PORT0\"\nto = [\"127.0.0.1:1\"]\n";

#[test]
fn passed_sockets_are_served() {
    let Some(command) = passing("tcp,tcp") else { return };
    let origin = Origin::serve();
    let text = TWO.replace("ORIGIN", &origin.address().to_string());
    let program = Plimsoll::start_by(command, &text, Stdio::piped());
    // They were bound without SO_REUSEPORT, so addresses that are served cannot have been bound anew.
    assert_eq!(program.addresses().len(), 2);
    for round in 0..8 {
        let address = program.addresses()[round % 2];
        let mut client = Client::connect(address);
        client.send(&get("/"));
        assert_eq!(client.answer().whole().status, 200, "{address}");
    }
    assert!(program.stop().success());
}

/// Runs the program where it cannot start.
fn refusal(mut command: Command, text: &str) -> (Option<i32>, String) {
    let file = scratch("refused.toml");
    fs::write(&file, text).expect("the tests' own directory can be written");
    let output = command.args(["run", "-c"]).arg(&file).output().expect("it starts");
    fs::remove_file(file).expect("it was written");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_passed_socket_that_no_listener_wants_is_an_error_in_words() {
    let Some(command) = passing("tcp,tcp") else { return };
    let (code, said) = refusal(command, ONE);
    assert_eq!(code, Some(3), "{said}");
    let wanted = "no [[listen]] has the bind of the socket \"other\" passed for 127.0.0.1:";
    assert!(said.contains(wanted) && !said.contains("\"web\""), "{said}");
}

#[test]
fn only_tcp_sockets_that_listen_can_be_passed() {
    for (kinds, wanted) in [("tcp,udp", "not a valid tcp socket"), ("tcp,idle", "does not listen")] {
        let Some(command) = passing(kinds) else { return };
        let (code, said) = refusal(command, ONE);
        assert_eq!(code, Some(3), "{said}");
        assert!(
            said.contains("the socket \"other\" passed as descriptor 4") && said.contains(wanted),
            "{said}"
        );
    }
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let Some(mut command) = passing("tcp,tcp") else { return };
    command.env("OFF", "1");
    // Held open by whom they were not meant for, they keep the address taken.
    let (code, said) = refusal(command, ONE);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("cannot listen on 127.0.0.1:"), "{said}");
}

#[test]
fn systemds_own_activator_starts_it_for_a_client_who_waits() {
    let Some(activate) = need("systemd-socket-activate") else { return };
    let origin = Origin::serve();
    let port = Port::reserve();
    let (file, address) = (scratch("activated.toml"), port.address());
    let text = format!("[[listen]]\nbind = \"{address}\"\nto = [\"{}\"]\n", origin.address());
    fs::write(&file, text).expect("the tests' own directory can be written");
    let mut command = Command::new(activate);
    command.args(["--fdname=web", "-l", &address.to_string(), env!("CARGO_BIN_EXE_plimsoll"), "run", "-c"]);
    let program = Process::start("plimsoll, activated", command.arg(&file));
    until("systemd listens", || std::net::TcpStream::connect(address).is_ok());
    let mut client = Client::connect(address);
    client.send(&get("/"));
    assert_eq!(client.answer().whole().status, 200);
    program.kill();
    fs::remove_file(file).expect("it was written");
}

// The unit.

fn packaging(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd").join(file)
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

/// What the installed systemd says against the units, with the program where it was built.
#[test]
fn systemd_understands_the_units() {
    let Some(analyze) = need("systemd-analyze") else { return };
    let folder = scratch("units");
    fs::create_dir_all(folder.join("plimsoll.service.d")).expect("the tests' own directory can be written");
    let unit = fs::read_to_string(packaging("plimsoll.service")).expect("it is shipped");
    let unit = unit.replace("/usr/bin/plimsoll", env!("CARGO_BIN_EXE_plimsoll"));
    fs::write(folder.join("plimsoll.service"), unit).expect("the folder was made");
    fs::copy(packaging("plimsoll.socket"), folder.join("plimsoll.socket")).expect("it is shipped");
    let conf = folder.join("plimsoll.service.d/before-253.conf");
    fs::copy(packaging("plimsoll-before-253.conf"), conf).expect("it is shipped");
    let units = ["plimsoll.service", "plimsoll.socket"].map(|name| folder.join(name));
    let output = run(Command::new(analyze).args(["verify", "--man=no"]).args(units));
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = "Failed to parse service type, ignoring: notify-reload"; // before 253, as the unit says
    let complaints: Vec<&str> = said.lines().filter(|line| !line.ends_with(expected)).collect();
    assert!(output.status.success() && complaints.is_empty(), "{said}");
    fs::remove_dir_all(folder).expect("it was made");
}

#[test]
fn the_unit_is_hardened() {
    let Some(analyze) = need("systemd-analyze") else { return };
    let unit = packaging("plimsoll.service");
    let judged = |threshold: &str| {
        let options = ["security", "--offline=true", "--no-pager", threshold];
        run(Command::new(&analyze).args(options).arg(&unit))
    };
    let output = judged("--threshold=20");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(!judged("--threshold=1").status.success(), "a threshold that nothing can pass is passed");
}
