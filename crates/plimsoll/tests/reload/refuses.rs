//! Whatever is wrong with a new configuration, the one in force stays whole, and everybody is told.
//!
//! Each case asks in every way that there is and then has a good configuration taken, because a refusal must not be the end.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::rig::{Named, PROGRAM, file, fresh_path, post, text};
use crate::stage::{
    WAYS, Way, admin, ask_admin, free_address, listening_inodes, reload, take, take_by, utf8, who, who_on,
};
use crate::support::{Client, Plimsoll, get};

/// A program before server `a` that is asked in one way, with a client that stays.
struct Stage {
    way: Way,
    program: Plimsoll,
    client: Client,
}

impl Stage {
    fn new(way: Way, a: &Named) -> Self {
        let program = Plimsoll::start(&good(way, a, ""));
        let mut client = Client::connect(program.address());
        assert_eq!(who_on(&mut client), "a");
        Self { way, program, client }
    }

    /// What is wrong is refused with all of these words, and changes nothing; afterwards what is good is taken.
    fn refuses(mut self, change: impl Fn(&Plimsoll), b: &Named, words: &[&str]) {
        let sockets = listening_inodes(self.program.address());
        let (way, program) = (self.way, &self.program);
        for _ in 0..if way == Way::Watch { 1 } else { 3 } {
            let said = take_by(program, way, || change(program)).expect_err("it is not good");
            for word in words {
                assert!(said.contains(word), "{way:?}: no {word:?} in\n{said}");
            }
            assert!(said.ends_with("plimsoll: not reloaded: the configuration in force stays"), "{said}");
            assert_eq!((who_on(&mut self.client), who(program.address())), ("a".into(), "a".into()));
            assert_eq!(ask_admin(admin(program), "GET /ready", "Host: localhost\r\n").0, 200);
            assert_eq!(listening_inodes(program.address()), sockets);
        }
        let _ = std::fs::remove_dir(program.configuration());
        take(program, way, &good(way, b, "")).expect("it is good");
        assert_eq!((who_on(&mut self.client), who(program.address())), ("b".into(), "b".into()));
    }
}

/// The same in every way, each with a program of its own. `change` is given what makes a configuration that sends to `b`.
fn all_refuse(change: impl Fn(&Plimsoll, &dyn Fn(&str) -> String), words: &[&str]) {
    let (a, b) = (Named::start("a"), Named::start("b"));
    for way in WAYS {
        let with = |rest: &str| good(way, &b, rest);
        Stage::new(way, &a).refuses(|program| change(program, &with), &b, words);
    }
}

fn good(way: Way, server: &Named, rest: &str) -> String {
    let admin = format!("[admin]\nbind = \"127.0.0.1:0\"\n{rest}");
    format!("watch = {}\n{}", way == Way::Watch, file(&[server.address()], "", &admin))
}

#[test]
fn a_broken_file_is_shown_with_its_place() {
    let broken = "[timeout]\nhaeder = \"5s\"\nidle = 60\n";
    let words = [
        "error[unknown-key]",
        "haeder = \"5s\"",
        "did you mean `header`?",
        "error[wrong-type]",
        ".toml:10:1",
    ];
    all_refuse(|program, with| program.configure(&with(broken)), &words);
}

#[test]
fn a_file_that_is_no_toml_is_refused() {
    all_refuse(|program, with| program.configure(&with("[[[")), &["error[", "[[["]);
}

#[test]
fn a_missing_file_is_refused() {
    all_refuse(|program, _| drop(std::fs::remove_file(program.configuration())), &["there is no such file"]);
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    // Permissions would not stop root; a folder stops everybody.
    let folder = |program: &Plimsoll, _: &dyn Fn(&str) -> String| {
        let _ = std::fs::remove_file(program.configuration()); // the second time it is the folder
        let _ = std::fs::create_dir(program.configuration());
    };
    all_refuse(folder, &["directory"]);
}

#[test]
fn a_name_that_does_not_resolve_is_refused() {
    let named = "[[route]]\nto = \"n\"\n[backend.n]\nservers = [\"no-such-host.invalid:80\"]\n";
    let words = ["backend n", "no-such-host.invalid does not resolve", "getent hosts"];
    all_refuse(|program, with| program.configure(&with(named)), &words);
}

#[test]
fn a_listener_that_cannot_be_bound_is_refused_with_all_the_others() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let (taken_address, free, log) =
        (taken.local_addr().expect("it is bound"), free_address(), fresh_path("never.log"));
    let more = format!(
        "[[listen]]\nbind = \"{free}\"\nto = [\":1\"]\n[[listen]]\nbind = \"{taken_address}\"\nto = [\":1\"]\n[log]\noutput = \"{}\"\n",
        log.display()
    );
    let words = [&format!("cannot listen on {taken_address}") as &str, "another program listens there"];
    all_refuse(|program, with| program.configure(&with(&more)), &words);
    assert!(!log.exists());
    TcpListener::bind(free).expect("what could be bound was given back");
}

#[test]
fn an_admin_address_that_is_taken_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = taken.local_addr().expect("it is bound");
    let moved = format!("[admin]\nbind = \"{address}\"");
    let change = |program: &Plimsoll, with: &dyn Fn(&str) -> String| {
        program.configure(&with("").replace("[admin]\nbind = \"127.0.0.1:0\"", &moved));
    };
    all_refuse(change, &[&format!("cannot listen on {address}"), "[admin]"]);
}

#[test]
fn a_log_that_cannot_be_opened_is_refused() {
    let free = free_address();
    let more =
        format!("[[listen]]\nbind = \"{free}\"\nto = [\":1\"]\n[log]\noutput = \"/proc/nothing/here.log\"\n");
    let words = ["cannot open the access log /proc/nothing/here.log"];
    all_refuse(|program, with| program.configure(&with(&more)), &words);
    TcpListener::bind(free).expect("what could be bound was given back");
}

#[test]
fn more_connections_than_descriptors_are_refused() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let with = |server: &Named, listen: &str| file(&[server.address()], listen, "");
    let program = Plimsoll::start_by(
        crate::rig::behind_shell("ulimit -n 200"),
        &with(&a, "max_connections = 20\n"),
        Stdio::piped(),
    );
    let said = take(&program, Way::HangUp, &with(&b, "max_connections = 1000\n"))
        .expect_err("there are not so many");
    assert!(said.contains("file descriptors, but the limit is 200"), "{said}");
    assert_eq!(who(program.address()), "a");
    take(&program, Way::HangUp, &with(&b, "max_connections = 30\n")).expect("it is good");
    assert_eq!(who(program.address()), "b");
}

#[test]
fn started_by_options_there_is_nothing_to_reload() {
    let a = Named::start("a");
    let mut child = Command::new(PROGRAM)
        .args(["run", "--listen", "127.0.0.1:0", "--to", &a.address().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program is built");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().expect("piped")));
    let mut until =
        |wanted: &str| lines.by_ref().map(|line| line.expect("text")).find(|line| line.contains(wanted));
    let listens = until("listening on ").expect("it starts");
    until("ready").expect("it starts");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::HUP).expect("it is our child");
    until("started without a file: there is nothing to reload").expect("it says so");
    until("not reloaded").expect("it says so");
    let address = listens.rsplit(' ').next().expect("an address").parse().expect("an address");
    assert_eq!(who(address), "a");
    child.kill().expect("it runs");
    child.wait().expect("it is our child");
}

#[test]
fn the_verb_says_what_to_do_when_nothing_answers() {
    let nobody = free_address().to_string();
    let output = reload(&["--admin", &nobody]);
    let said = utf8(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains(&nobody) && said.contains("is plimsoll running, with [admin]"), "{said}");

    let stranger = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = stranger.local_addr().expect("it is bound").to_string();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = stranger.accept().expect("it listens");
        std::io::Write::write_all(&mut stream, b"SSH-2.0-Stranger\r\n").expect("it fits");
    });
    let output = reload(&["--admin", &address]);
    answering.join().expect("it answers");
    assert_eq!(output.status.code(), Some(3));

    let without = fresh_path("without.toml");
    std::fs::write(&without, "[[listen]]\nbind = \"127.0.0.1:0\"\nto = [\":1\"]\n").expect("writable");
    let output = reload(&["-c", without.to_str().expect("ASCII")]);
    let said = utf8(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("has no [admin]: add one"), "{said}");
    std::fs::remove_file(&without).expect("it is there");
}

#[test]
fn no_web_page_can_make_a_browser_reload() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let program = Plimsoll::start(&good(Way::Verb, &a, ""));
    program.configure(&good(Way::Verb, &b, ""));
    let ask = |line, fields| ask_admin(admin(&program), line, fields).0;
    assert_eq!(ask("POST /reload", "Host: localhost\r\nOrigin: http://evil.example\r\n"), 403);
    assert_eq!(ask("POST /reload", "Host: localhost\r\nOrigin: null\r\n"), 403);
    assert_eq!(ask("POST /reload", "Host: evil.example\r\n"), 421);
    assert_eq!(ask("GET /reload", "Host: localhost\r\n"), 405);
    assert_eq!(who(program.address()), "a", "none of them was heard");
    assert_eq!(ask("POST /reload", "Host: localhost\r\n"), 200);
    assert_eq!(who(program.address()), "b");
}

#[test]
fn a_request_is_judged_by_the_limits_in_force_when_it_was_planned() {
    // A body that is on its way when the route's limit falls below it still arrives.
    let a = Named::start("a");
    let route = |max: &str| {
        let more = format!(
            "[[route]]\npath = \"/*\"\nto = \"w\"\nmax_body = \"{max}\"\n[backend.w]\nservers = [{}]\n",
            a.entry("")
        );
        file(&[a.address()], "", &more)
    };
    let program = Plimsoll::start(&route("1KiB"));
    let mut client = Client::connect(program.address());
    let request = post("/", &"x".repeat(1000));
    client.send(&request[..request.len() - 500]);
    // An answered request on the same worker shows that the first head has been read.
    let mut other = Client::connect(program.address());
    assert_eq!(who_on(&mut other), "a");
    take(&program, Way::HangUp, &route("10B")).expect("it is good");
    client.send(&request[request.len() - 500..]);
    assert_eq!(text(&client.answer().whole()), "a");
    client.send(&request);
    assert_eq!(client.answer().whole().status, 413);
    assert_eq!(a.count(), 2);
    let mut last = Client::connect(program.address());
    last.send(&get("/"));
    assert_eq!(last.answer().whole().status, 200);
}
