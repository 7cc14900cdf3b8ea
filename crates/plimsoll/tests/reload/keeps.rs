//! What keeps its identity keeps everything: connections, pools, counts, listeners, tunnels.
//!
//! Who loses something that a reload did not take away from it fails here. What is in flight is held by gates in the servers'
//! scripts; how soon a worker looks is never assumed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::process::Signal;

use crate::rig::{Fountain, Named, ask, before, field, file, memory, ok, text, until};
use crate::stage::{
    Way, admin, free_address, frozen, hang_up, in_flight, listening_inodes, status, take, who, who_on,
};
use crate::support::oracle::Asked;
use crate::support::{Client, Gate, Origin, PATIENCE, Plimsoll, Step, get};

const ADMIN: &str = "[admin]\nbind = \"127.0.0.1:0\"\n";

/// A file with the one listener before named servers, each an entry of its own.
fn listen(entries: &[String], rest: &str) -> String {
    format!("workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = [{}]\n{ADMIN}{rest}", entries.join(", "))
}

fn entry(address: SocketAddr, name: &str, more: &str) -> String {
    format!("{{ address = \"{address}\", name = \"{name}\"{more} }}")
}

#[test]
fn the_same_connections_serve_before_and_after() {
    let (origin, other) = (Origin::serve(), Named::start("other"));
    let stays = entry(origin.address(), "stays", "");
    // Its backend untouched; other keys of the server; another server beside it; another policy; and back.
    let files = [
        listen(std::slice::from_ref(&stays), "[timeout]\nfirst_byte = \"9s\"\n"),
        listen(&[entry(origin.address(), "stays", ", weight = 7, max_requests = 5")], ""),
        listen(&[other.entry(", weight = 0"), stays.clone()], ""),
        listen(&[stays.clone(), other.entry(", backup = true")], "[limits]\nfields = 50\n"),
        listen(std::slice::from_ref(&stays), "[http]\nvia = \"edge\"\n"),
        listen(&[stays], ""),
    ];
    let program = Plimsoll::start(&files[5]);
    let mut client = Client::connect(program.address());
    let mut asked = 0;
    for _ in 0..5 {
        for text in &files {
            hang_up(&program, text);
            client.send(&get("/"));
            assert_eq!(client.answer().whole().status, 200);
            asked += 1;
        }
    }
    let connections = origin.connections();
    assert_eq!(connections.len(), 1, "a pooled connection outlives every change");
    assert_eq!(connections[0].requests.len(), asked);
    assert_eq!(other.count(), 0);
}

#[test]
fn in_flight_counts_are_right_during_and_after() {
    let gate = Gate::default();
    let held = vec![Step::Read, Step::Wait(gate.clone()), Step::Send(ok("held")), Step::Serve];
    let origin = Origin::scripted(vec![held]);
    let other = Named::start("other");
    let with = |more: &str, others: &[&Named]| {
        let mut entries = vec![entry(origin.address(), "held", more)];
        entries.extend(others.iter().map(|other| other.entry("")));
        listen(&entries, "")
    };
    let program = Plimsoll::start(&with("", &[]));
    let mut client = Client::connect(program.address());
    client.send(&get("/held"));
    origin.wait_until("the request in flight", |all| all.first().is_some_and(|c| c.steps == 1));
    assert_eq!(in_flight(&program, "held"), Some(1));
    for others in [&[][..], &[&other], &[]] {
        hang_up(&program, &with(", max_requests = 1", others));
        assert_eq!(in_flight(&program, "held"), Some(1));
        // What is held counts against the new limit.
        match others {
            [] => assert_eq!(ask(program.address(), get("/")).status(), Some(503)),
            _ => assert_eq!(who(program.address()), "other"),
        }
        assert_eq!(in_flight(&program, "held"), Some(1), "a refusal takes nothing away");
    }
    hang_up(&program, &with(", max_requests = 2", &[]));
    assert_eq!(ask(program.address(), get("/")).status(), Some(200));
    // The answer is there a moment before its slot is given back.
    until("only the held one is in flight", || in_flight(&program, "held") == Some(1));
    gate.open();
    assert_eq!(text(&client.answer().whole()), "held");
    until("nothing is in flight", || in_flight(&program, "held") == Some(0));
}

/// A server that tunnels: 101, then every byte comes back.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut buffer[..1]) {
                        Ok(1) => head.push(buffer[0]),
                        _ => return,
                    }
                }
                let switch =
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                let _ = stream.write_all(switch);
                while let Ok(count) = stream.read(&mut buffer) {
                    if count == 0 || stream.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn tunnel(to: SocketAddr, path: &str) -> Client {
    let mut client = Client::connect(to);
    let fields = "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    client.send(format!("GET {path} HTTP/1.1\r\n{fields}\r\n").as_bytes());
    assert_eq!(client.answer_to(Asked { method: b"GET", upgrade: true }).status(), Some(101));
    client
}

#[test]
fn tunnels_live_on_whatever_changes() {
    let (echo, other) = (echo(), Named::start("other"));
    let second = free_address();
    let backend = format!("[backend.echo]\nservers = [\"{echo}\"]\n");
    let unchanged = "[[route]]\npath = \"/same\"\nto = \"echo\"\n";
    let changing = |rest: &str| format!("[[route]]\npath = \"/other\"\n{rest}\n");
    let at = |listener: &str| format!("[[listen]]\nbind = \"{second}\"\nto = \"echo\"\n{listener}");
    let with = |parts: &[&str]| file(&[other.address()], "", &parts.concat());
    let all = with(&[&backend, unchanged, &changing("to = \"echo\""), &at("")]);
    let program = Plimsoll::start(&all);
    let mut tunnels = vec![
        ("on an unchanged route", tunnel(program.address(), "/same")),
        ("on a route that changes", tunnel(program.address(), "/other")),
        ("at a listener that changes", tunnel(second, "/")),
    ];
    let files = [
        with(&[
            &backend,
            unchanged,
            &changing("to = \"echo\"\nupgrade = []\ntimeout = { tunnel = \"1ms\", total = \"1ms\" }"),
            &at("max_connections = 1\n"),
        ]),
        with(&[&backend, unchanged, &changing("respond = { body = \"gone\" }")]),
        with(&[&backend, unchanged]),
        file(&[other.address()], "max_connections = 1\n", ""), // neither route nor server nor listener
        all,
    ];
    for (round, text) in files.iter().enumerate() {
        hang_up(&program, text);
        for (which, client) in &mut tunnels {
            let sent = format!("{which}, {round}");
            client.send(sent.as_bytes());
            assert_eq!(client.read(sent.len()), sent.as_bytes(), "{which}, {round}");
        }
    }
}

#[test]
fn a_request_in_flight_to_a_removed_server_finishes() {
    let gate = Gate::default();
    let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfirst".to_vec();
    let held = |sends: Vec<u8>, rest: Vec<u8>| {
        vec![Step::Read, Step::Send(sends), Step::Wait(gate.clone()), Step::Send(rest), Step::Serve]
    };
    let origin = Origin::scripted(vec![held(Vec::new(), ok("late")), held(begun, b"end".to_vec())]);
    let other = Named::start("other");
    let program = Plimsoll::start(&listen(&[entry(origin.address(), "leaves", "")], ""));
    let mut unanswered = Client::connect(program.address());
    unanswered.send(&get("/1"));
    origin.wait_until("the first request", |all| all.first().is_some_and(|c| c.steps == 2));
    let mut half = Client::connect(program.address());
    half.send(&get("/2"));
    half.read_until(|bytes| bytes.ends_with(b"first"));
    hang_up(&program, &listen(&[other.entry("")], ""));
    assert_eq!(who(program.address()), "other");
    gate.open();
    assert_eq!(text(&unanswered.answer().whole()), "late");
    assert_eq!(text(&half.answer().whole()), "firstend");
    // Their connections go on, to the server that there is now.
    assert_eq!((who_on(&mut unanswered), who_on(&mut half)), ("other".into(), "other".into()));
    origin.wait_until("no third request and no idle connection", |all| {
        all.len() == 2 && all.iter().all(|c| c.closed)
    });
}

#[test]
fn idle_connections_to_a_removed_server_are_closed() {
    let (origin, other, echo) = (Origin::serve(), Named::start("other"), echo());
    let tunnels =
        format!("[[route]]\npath = \"/tunnel\"\nto = \"echo\"\n[backend.echo]\nservers = [\"{echo}\"]\n");
    let program = Plimsoll::start(&listen(&[entry(origin.address(), "leaves", "")], &tunnels));
    let mut idle = Client::connect(program.address());
    idle.send(&get("/"));
    assert_eq!(idle.answer().whole().status, 200);
    // Who stays for long stays with the configuration that it began with: that must not keep the pool.
    let mut tunnel = tunnel(program.address(), "/tunnel");
    hang_up(&program, &listen(&[other.entry("")], &tunnels));
    origin.wait_until("the end of its idle connection", |all| all[0].closed);
    tunnel.send(b"alive");
    assert_eq!(tunnel.read(5), b"alive");
    assert_eq!(who_on(&mut idle), "other");
}

/// Two listeners before the same server, or only the first.
struct Doors {
    server: SocketAddr,
    second: SocketAddr,
}

impl Doors {
    fn both(&self) -> String {
        let second = format!("[[listen]]\nbind = \"{}\"\nto = [\"{}\"]\n", self.second, self.server);
        file(&[self.server], "", &second)
    }

    fn first(&self) -> String {
        file(&[self.server], "", "")
    }
}

#[test]
fn a_removed_listener_finishes_and_frees_its_port() {
    let gate = Gate::default();
    let first = vec![
        Step::Read,
        Step::Send(ok("first")),
        Step::Read,
        Step::Wait(gate.clone()),
        Step::Send(ok("late")),
        Step::Serve,
    ];
    let origin = Origin::scripted(vec![first]);
    let doors = Doors { server: origin.address(), second: free_address() };
    let program = Plimsoll::start(&doors.both());
    let mut idle = Client::connect(doors.second);
    assert_eq!(who_on(&mut idle), "first");
    let mut busy = Client::connect(doors.second);
    busy.send(&get("/busy"));
    origin.wait_until("the request in flight", |all| all.first().is_some_and(|c| c.steps == 3));
    hang_up(&program, &doors.first());
    assert!(idle.is_closed(), "an idle connection is closed");
    until("another program can listen there", || TcpListener::bind(doors.second).is_ok());
    let another = TcpListener::bind(doors.second).expect("another program can listen there");
    gate.open();
    let response = busy.answer().whole();
    assert_eq!((text(&response), field(&response, "connection")), ("late".into(), "close".into()));
    assert!(busy.is_closed());
    let theirs = TcpStream::connect(doors.second).expect("the other program listens");
    let (accepted, _) = another.accept().expect("and gets its clients");
    assert_eq!(accepted.peer_addr().expect("connected"), theirs.local_addr().expect("connected"));
}

#[test]
fn a_request_that_has_begun_at_a_removed_listener_is_served() {
    let server = Named::start("server");
    let doors = Doors { server: server.address(), second: free_address() };
    let program = Plimsoll::start(&doors.both());
    // On a first and on a later request of its connection.
    let (mut fresh, mut used) = (Client::connect(doors.second), Client::connect(doors.second));
    assert_eq!(who_on(&mut used), "server");
    let request = get("/");
    let clients = [&mut fresh, &mut used];
    for client in clients {
        client.send(&request[..20]);
    }
    let mut after = Client::connect(doors.second);
    assert_eq!(who_on(&mut after), "server"); // so what was sent before has been read
    hang_up(&program, &doors.first());
    for client in [&mut fresh, &mut used] {
        client.send(&request[20..]);
        let response = client.answer().whole();
        assert_eq!((response.status, text(&response)), (200, "server".into()));
        assert_eq!(field(&response, "connection"), "close");
        assert!(client.is_closed());
    }
}

#[test]
fn who_waited_at_a_removed_listener_is_served() {
    let server = Named::start("server");
    let doors = Doors { server: server.address(), second: free_address() };
    let program = Plimsoll::start(&doors.both());
    let mut used = Client::connect(doors.second);
    assert_eq!(who_on(&mut used), "server");
    let mut waiting = Vec::new();
    let said = program.stderr_lines().len();
    frozen(&program, || {
        program.configure(&doors.first());
        program.signal(Signal::HUP);
        used.send(&get("/"));
        waiting.extend((0..20).map(|_| Client::connect(doors.second)));
        waiting.iter_mut().for_each(|client| client.send(&get("/")));
    });
    program.wait_for_line(said, |line| line.starts_with("plimsoll: reloaded"));
    for client in waiting.iter_mut().chain([&mut used]) {
        let response = client.answer().whole();
        assert_eq!((response.status, text(&response)), (200, "server".into()));
    }
}

#[test]
fn an_added_listener_accepts_as_soon_as_it_is_told() {
    let server = Named::start("server");
    let doors = Doors { server: server.address(), second: free_address() };
    let program = Plimsoll::start(&doors.first());
    assert!(TcpStream::connect(doors.second).is_err());
    hang_up(&program, &doors.both());
    assert_eq!((who(doors.second), who(program.address())), ("server".into(), "server".into()));
}

#[test]
fn a_listener_can_leave_and_come_back_at_once() {
    let server = Named::start("server");
    let doors = Doors { server: server.address(), second: free_address() };
    let program = Plimsoll::start(&doors.both().replace("workers = 1", "workers = 4"));
    for round in 0..30 {
        let mut idle = Client::connect(doors.second);
        assert_eq!(who_on(&mut idle), "server", "round {round}");
        take(&program, Way::HangUp, &doors.first()).expect("it is good");
        take(&program, Way::HangUp, &doors.both()).unwrap_or_else(|said| panic!("round {round}: {said}"));
    }
}

#[test]
fn a_kept_listener_is_never_bound_anew_and_its_queue_is_served() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let with = |server: &Named, listen: &str| {
        file(&[server.address()], listen, "").replace("workers = 1", "workers = 2")
    };
    let program = Plimsoll::start(&with(&a, ""));
    let inodes = listening_inodes(program.address());
    assert_eq!(inodes.len(), 2, "one for each worker");
    for round in 0..10 {
        let (server, name, limits) = if round % 2 == 0 {
            (&b, "b", "max_connections = 100\n")
        } else {
            (&a, "a", "max_connections_per_client = 90\n")
        };
        let mut waiting = Vec::new();
        let said = program.stderr_lines().len();
        frozen(&program, || {
            program.configure(&with(server, limits));
            program.signal(Signal::HUP);
            waiting.extend((0..30).map(|_| Client::connect(program.address())));
            waiting.iter_mut().for_each(|client| client.send(&get("/")));
        });
        program.wait_for_line(said, |line| line.starts_with("plimsoll: reloaded"));
        for client in &mut waiting {
            let response = client.answer().whole();
            assert_eq!(response.status, 200, "{}", text(&response));
            assert_eq!(who_on(client), name, "round {round}");
        }
        assert_eq!(listening_inodes(program.address()), inodes, "round {round}");
    }
}

#[test]
fn max_connections_counts_what_is_held() {
    let server = Named::start("server");
    let with = |max: u32| file(&[server.address()], &format!("max_connections = {max}\n"), "");
    let program = Plimsoll::start(&with(10));
    let mut held: Vec<Client> = (0..3).map(|_| Client::connect(program.address())).collect();
    held.iter_mut().for_each(|client| assert_eq!(who_on(client), "server"));
    hang_up(&program, &with(3));
    let mut fourth = Client::connect(program.address());
    fourth.send(&get("/"));
    program.wait_for_line(0, |line| line.contains("accepting pauses"));
    assert_eq!(who_on(&mut held[0]), "server", "below the number that it held before, nobody is sent away");
    // One more place is made by the file, another by a client that leaves.
    hang_up(&program, &with(4));
    assert_eq!(text(&fourth.answer().whole()), "server");
    let mut fifth = Client::connect(program.address());
    fifth.send(&get("/"));
    held.pop();
    assert_eq!(text(&fifth.answer().whole()), "server");
}

#[test]
fn max_connections_per_client_counts_what_is_held() {
    let server = Named::start("server");
    let with = |listen: &str| file(&[server.address()], listen, "");
    let program = Plimsoll::start(&with("max_connections_per_client = 100\n"));
    let mut held: Vec<Client> = (0..2).map(|_| Client::connect(program.address())).collect();
    held.iter_mut().for_each(|client| assert_eq!(who_on(client), "server"));
    hang_up(&program, &with("max_connections_per_client = 2\n"));
    assert_eq!(ask(program.address(), get("/")).status(), Some(503));
    hang_up(&program, &with("max_connections_per_client = 3\n"));
    assert_eq!(who(program.address()), "server");
    held.iter_mut().for_each(|client| assert_eq!(who_on(client), "server"));
}

#[test]
fn max_connections_per_client_counts_what_came_before_there_was_a_limit() {
    let server = Named::start("server");
    let with = |listen: &str| file(&[server.address()], listen, "");
    let program = Plimsoll::start(&with(""));
    let mut held: Vec<Client> = (0..2).map(|_| Client::connect(program.address())).collect();
    held.iter_mut().for_each(|client| assert_eq!(who_on(client), "server"));
    hang_up(&program, &with("max_connections_per_client = 2\n"));
    assert_eq!(ask(program.address(), get("/")).status(), Some(503));
    drop(held);
    until("their places are free", || ask(program.address(), get("/")).status() == Some(200));
}

#[test]
fn counters_go_on() {
    let server = Named::start("server");
    let with = |rest: &str| listen(&[server.entry("")], rest);
    let program = Plimsoll::start(&with(""));
    let assigned = || status(&program)["backends"][0]["servers"][0]["assigned"].as_u64().expect("a number");
    for round in 1..=5 {
        assert_eq!(who(program.address()), "server");
        assert_eq!(assigned(), round);
        hang_up(&program, &with(&format!("[timeout]\nfirst_byte = \"{round}s\"\n")));
        assert_eq!(assigned(), round);
    }
    assert_eq!(admin(&program), admin(&program));
}

#[test]
fn a_slow_download_from_a_removed_server_is_whole() {
    const SIZE: usize = 8 << 20;
    let (fountain, other) = (Fountain::start(SIZE), Named::start("other"));
    let program = before(&[fountain.address()], "");
    let mut stream = crate::rig::slow_reader(program.address(), &get("/"));
    stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    let mut buffer = vec![0; 64 << 10];
    let mut read = stream.read(&mut buffer).expect("it begins");
    for round in 0..20 {
        let text = if round % 2 == 0 {
            file(&[other.address()], "", "")
        } else {
            file(&[fountain.address()], "", "")
        };
        hang_up(&program, &text);
        read += stream.read(&mut buffer).expect("it goes on");
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n").len();
    while read < head + SIZE {
        match stream.read(&mut buffer).expect("it goes on") {
            0 => panic!("cut after {read} bytes"),
            count => read += count,
        }
    }
}

#[test]
fn idle_clients_do_not_hold_configurations_of_the_past() {
    let server = Named::start("server");
    // Each has four hash tables of 65,537 slots, so a configuration is one megabyte.
    let with = |round: usize| -> String {
        let backend = |n| {
            let entries =
                [server.entry(&format!(", weight = {}", round + 1)), entry(free_address(), "other", "")];
            format!(
                "[backend.b{n}]\nbalance = \"hash\"\nservers = [{}]\n[[route]]\npath = \"/{n}\"\nto = \"b{n}\"\n",
                entries.join(", ")
            )
        };
        file(&[server.address()], "", &(0..4).map(backend).collect::<String>())
    };
    let program = Plimsoll::start(&with(0));
    let mut idle = Vec::new();
    let mut round = |number: usize| {
        let mut client = Client::connect(program.address());
        assert_eq!(who_on(&mut client), "server");
        idle.push(client);
        hang_up(&program, &with(number));
    };
    (1..10).for_each(&mut round);
    let (before, _) = memory(&program);
    (10..60).for_each(&mut round);
    let (after, _) = memory(&program);
    assert!(after < before + (20 << 20), "{before} bytes, then {after}");
    idle.iter_mut().for_each(|client| assert_eq!(who_on(client), "server"));
}
