//! Every way to ask for an upgrade, and what the new process may do differently.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::rig::{PROGRAM, ask, fresh_path, text, until};
use crate::stage::{Family, frozen, listening_inodes, question, successor};
use crate::support::{Client, Origin, get};

/// Clients on connections of their own, all open at once, so that every socket gets some; each must be answered.
#[track_caller]
fn everybody_is_served(address: SocketAddr) {
    let mut clients: Vec<Client> = (0..48).map(|_| Client::connect(address)).collect();
    clients.iter_mut().for_each(|client| client.send(&get("/")));
    for client in &mut clients {
        assert_eq!(client.answer().whole().status, 200);
    }
}

#[test]
fn usr2_hands_over_the_sockets_themselves_and_the_old_process_ends() {
    let origin = Origin::serve();
    let family = Family::start(2, &[origin.address()]);
    let before = listening_inodes(family.address());
    assert_eq!(before.len(), 2);
    let old = family.upgrade();
    assert_eq!(old, family.program().pid());
    assert_eq!(family.first_exit(), Some(0));
    assert_eq!(listening_inodes(family.address()), before);
    everybody_is_served(family.address());
    let status = family.status();
    assert_eq!(status["phase"], "serving");
    assert_eq!(question(family.admin(), "GET /healthz"), Some((200, "ok\n".to_owned())));
    assert_eq!(question(family.admin(), "GET /ready"), Some((200, "serving\n".to_owned())));
    family.signal(Signal::TERM);
    family.until_ended(family.pid());
    assert!(TcpStream::connect(family.address()).is_err(), "nobody holds the sockets");
}

#[test]
fn the_verb_says_who_serves_and_exits_with_0() {
    let origin = Origin::serve();
    let family = Family::start(1, &[origin.address()]);
    let old = family.upgrade_by_verb(&[]);
    assert_eq!(old, family.program().pid());
    assert_eq!(family.first_exit(), Some(0));
    everybody_is_served(family.address());
    family.status();
}

#[test]
fn the_verb_finds_the_admin_address_in_the_configuration() {
    let origin = Origin::serve();
    let family = Family::start(1, &[origin.address()]);
    let verb = Command::new(PROGRAM).args(["upgrade", "-c"]).arg(family.program().configuration()).output();
    assert_eq!(verb.expect("the program is built").status.code(), Some(0));
    assert_eq!(family.first_exit(), Some(0));
    everybody_is_served(family.address());
}

#[test]
fn upgrades_follow_each_other() {
    let origin = Origin::serve();
    let family = Family::start(2, &[origin.address()]);
    let inodes = listening_inodes(family.address());
    for _ in 0..3 {
        family.upgrade_by_verb(&[]);
        family.status();
        everybody_is_served(family.address());
    }
    until("one process is left", || family.living() == [family.pid()]);
    assert_eq!(listening_inodes(family.address()), inodes);
    assert_eq!(family.program().stderr_lines().iter().filter(|line| successor(line).is_some()).count(), 3);
}

#[test]
fn signals_that_follow_at_once_are_not_lost() {
    let origin = Origin::serve();
    let family = Family::start(1, &[origin.address()]);
    for _ in 0..3 {
        family.upgrade();
        everybody_is_served(family.address());
    }
    family.status();
    until("one process is left", || family.living() == [family.pid()]);
}

#[test]
fn another_binary_is_used_from_then_on() {
    let origin = Origin::serve();
    let family = Family::start(1, &[origin.address()]);
    let copy = fresh_path("plimsoll copy%");
    std::fs::copy(PROGRAM, &copy).expect("the test's own directory can be written");
    family.upgrade_by_verb(&[copy.to_str().expect("plain text")]);
    let program = |family: &Family| {
        std::fs::read_link(format!("/proc/{}/exe", family.pid().as_raw_nonzero())).expect("it runs")
    };
    assert_eq!(program(&family), copy.canonicalize().expect("it is there"));
    family.upgrade();
    assert_eq!(program(&family), copy.canonicalize().expect("it is there"));
    everybody_is_served(family.address());
    drop(family);
    let _ = std::fs::remove_file(copy);
}

#[test]
fn a_binary_that_was_replaced_is_the_new_one() {
    let origin = Origin::serve();
    let path = fresh_path("plimsoll");
    std::fs::copy(PROGRAM, &path).expect("the test's own directory can be written");
    let family = Family::start_by(Command::new(&path), 1, &[origin.address()]);
    let replace = || {
        let new = fresh_path("plimsoll-new");
        std::fs::copy(PROGRAM, &new).expect("the test's own directory can be written");
        std::fs::rename(&new, &path).expect("it is the same directory");
    };
    for _ in 0..2 {
        replace();
        family.upgrade();
        let runs =
            std::fs::metadata(format!("/proc/{}/exe", family.pid().as_raw_nonzero())).expect("it runs");
        let there = std::fs::metadata(&path).expect("it is there");
        use std::os::unix::fs::MetadataExt;
        assert_eq!(runs.ino(), there.ino());
        everybody_is_served(family.address());
    }
    drop(family);
    let _ = std::fs::remove_file(path);
}

#[test]
fn the_new_process_takes_the_configuration_anew() {
    let (first, second) = (Origin::serve(), Origin::serve());
    let family = Family::start(1, &[first.address()]);
    let inodes = listening_inodes(family.address());
    family.configure(1, &[family.address(), family.second()], &[second.address()]);
    family.upgrade();
    assert_eq!(family.first_exit(), Some(0));
    for address in [family.address(), family.second()] {
        assert_eq!(ask(address, get("/new")).whole().status, 200);
    }
    assert_eq!(second.paths(), ["/new", "/new"]);
    assert_eq!(listening_inodes(family.address()), inodes);

    let later = listening_inodes(family.second());
    family.configure(1, &[family.second()], &[first.address()]);
    let middle = family.upgrade();
    family.until_ended(middle);
    assert!(TcpStream::connect(family.address()).is_err(), "it is no longer configured");
    assert_eq!(listening_inodes(family.second()), later);
    assert_eq!(text(&ask(family.second(), get("/last")).whole()), "1 GET /last\n");
}

/// The old process takes a configuration that the new one, which waits for its first checks, has not read.
#[test]
fn a_configuration_that_the_old_process_takes_meanwhile_is_in_force_afterwards() {
    let (first, second) = (Origin::serve(), Origin::serve());
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let family = Family::start(1, &[first.address()]);
    family.program().configure(&format!(
        "[[listen]]\nbind = \"{}\"\n[[route]]\nto = \"web\"\n[backend.web]\nservers = [\"{}\"]\n\
         health = {{ path = \"/\", every = \"30s\", timeout = \"30s\" }}\n[admin]\nbind = \"{}\"\n",
        family.address(),
        silent.local_addr().expect("it is bound"),
        family.admin()
    ));
    let said = family.program().stderr_lines().len();
    family.signal(Signal::USR2);
    silent.set_nonblocking(true).expect("it is a socket");
    let mut check = None;
    until("the new process checks", || {
        check = silent.accept().ok();
        check.is_some()
    });
    family.configure(1, &[family.address()], &[second.address()]);
    let (status, body) = question(family.admin(), "POST /reload").expect("the old process serves");
    assert_eq!(status, 200, "{body}");
    // The old process has taken it, and then the new one; whether that is told before or after the upgrade is open.
    let said = said + family.program().wait_for_line(said, |line| line.contains("reloaded ")).len();
    family.program().wait_for_line(said, |line| successor(line).is_some());
    family.program().wait_for_line(said, |line| line.contains("reloaded "));
    assert_eq!(ask(family.address(), get("/")).whole().status, 200);
    assert_eq!((first.paths().len(), second.paths().len()), (0, 1));
    assert_eq!(family.first_exit(), Some(0));
}

#[test]
fn the_number_of_workers_may_change_and_no_socket_is_left_alone() {
    let origin = Origin::serve();
    let family = Family::start(1, &[origin.address()]);
    for workers in [3, 1, 2, 3, 1] {
        let mut kept = Client::connect(family.address());
        kept.send(&get("/"));
        kept.answer().whole();
        family.configure(workers, &[family.address()], &[origin.address()]);
        let old = family.upgrade();
        everybody_is_served(family.address());
        drop(kept);
        family.until_ended(old);
        everybody_is_served(family.address());
    }
}

#[test]
fn who_waits_to_be_accepted_is_served() {
    let origin = Origin::serve();
    let family = Family::start(2, &[origin.address()]);
    let mut clients = Vec::new();
    let (first, said) = (family.pid(), family.program().stderr_lines().len());
    frozen(first, || {
        for number in 0..32 {
            let mut client = Client::connect(family.address());
            client.send(&get(&format!("/{number}")));
            clients.push(client);
        }
        family.signal(Signal::USR2);
    });
    family.program().wait_for_line(said, |line| successor(line).is_some());
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().whole().status, 200));
    drop(clients);
    assert_eq!(family.first_exit(), Some(0));
}

/// A server that takes its time, and the number of requests that it got.
fn server_that_takes(time: Duration) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let (address, requests) = (listener.local_addr().expect("it is bound"), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&requests);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let count = Arc::clone(&count);
            thread::spawn(move || {
                let mut answers = stream.try_clone().expect("descriptors are left");
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if line.is_empty() {
                        count.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(time);
                        let _ = answers.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                    }
                }
            });
        }
    });
    (address, requests)
}

fn ask_again(client: &mut Client) {
    client.send(&get("/"));
    assert_eq!(client.answer().whole().status, 200);
}

#[test]
fn the_new_process_knows_who_was_slow() {
    let (fast, _) = server_that_takes(Duration::ZERO);
    let (slow, to_slow) = server_that_takes(Duration::from_millis(150));
    let family = Family::start(1, &[fast]);
    let (listen, admin) = (family.address(), family.admin());
    family.program().configure(&format!(
        "workers = 1\n[[listen]]\nbind = \"{listen}\"\nto = \"b\"\n[admin]\nbind = \"{admin}\"\n\
         [backend.b]\nbalance = {{ policy = \"ewma\", decay = \"10m\" }}\nservers = [\"{fast}\", \"{slow}\"]\n"
    ));
    let first = family.upgrade();
    family.until_ended(first);
    let mut client = Client::connect(listen);
    (0..40).for_each(|_| ask_again(&mut client));
    let learned = to_slow.load(Ordering::Relaxed);
    assert!((1..20).contains(&learned), "it was tried, and then avoided: {learned}");
    drop(client);
    let second = family.upgrade();
    family.until_ended(second);
    let mut client = Client::connect(listen);
    (0..40).for_each(|_| ask_again(&mut client));
    assert_eq!(to_slow.load(Ordering::Relaxed), learned, "nobody had to find out again");
}
