//! What the old process has, it finishes: requests, bodies in both directions, tunnels, and one last question each.

use std::io::Read;
use std::time::Instant;

use rustix::process::Signal;

use crate::rig::{Fountain, ask, field, slow_reader, text, until};
use crate::stage::{Family, send};
use crate::support::oracle::{Asked, Response};
use crate::support::{Client, Gate, Origin, PATIENCE, Step, get};

const WEBSOCKET: &[u8] = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate";

/// Asks on a connection of the old process until it is told to close; gives that answer. Every answer must be whole.
#[track_caller]
fn last_answer(client: &mut Client) -> Response {
    let deadline = Instant::now() + PATIENCE;
    loop {
        client.send(&get("/after"));
        let response = client.answer().whole();
        assert_eq!(response.status, 200);
        if field(&response, "connection") == "close" {
            assert!(client.is_closed(), "and not reset");
            return response;
        }
        // The old process says that another serves just before its workers know.
        assert!(Instant::now() < deadline, "it never closes");
    }
}

#[test]
fn an_idle_client_is_answered_once_more_and_told_to_close() {
    let origin = Origin::serve();
    let family = Family::start(2, &[origin.address()]);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(family.address())).collect();
    for client in &mut clients {
        client.send(&get("/before"));
        assert!(client.answer().whole().keep_alive);
    }
    // One that has not asked anything yet.
    clients.push(Client::connect(family.address()));
    let old = family.upgrade();
    for client in &mut clients {
        assert!(family.living().contains(&old), "it has connections");
        last_answer(client);
    }
    assert_eq!(family.first_exit(), Some(0));
    assert!(ask(family.address(), get("/")).whole().keep_alive, "the new process keeps connections");
}

#[test]
fn requests_in_flight_are_answered() {
    let gate = Gate::default();
    let wait = || vec![Step::Read, Step::Wait(gate.clone()), Step::Send(ANSWER.to_vec()), Step::Serve];
    let origin = Origin::scripted((0..4).map(|_| wait()).collect());
    let family = Family::start(2, &[origin.address()]);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(family.address())).collect();
    clients.iter_mut().for_each(|client| client.send(&get("/slow")));
    origin.wait_until("all requests", |all| all.len() == 4 && all.iter().all(|c| c.requests.len() == 1));
    let old = family.upgrade();
    family.status(); // the old process stops accepting before it lets go of the admin address
    assert_eq!(ask(family.address(), get("/")).whole().status, 200, "the new process serves beside it");
    assert!(family.living().contains(&old));
    gate.open();
    for client in &mut clients {
        let response = client.answer().whole();
        assert_eq!((text(&response).as_str(), field(&response, "connection").as_str()), ("late", "close"));
        assert!(client.is_closed());
    }
    assert_eq!(family.first_exit(), Some(0));
}

#[test]
fn an_upload_goes_on_through_two_upgrades() {
    let origin = Origin::serve();
    let family = Family::start(1, &[origin.address()]);
    let part = vec![b'u'; 300_000];
    let mut client = Client::connect(family.address());
    client.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n");
    client.send(&part);
    origin.wait_until("the first part", |all| all.iter().any(|c| c.received.len() > part.len()));
    family.upgrade();
    client.send(&part);
    origin.wait_until("the second part", |all| all.iter().any(|c| c.received.len() > 2 * part.len()));
    family.upgrade();
    client.send(&part);
    assert_eq!(text(&client.answer().whole()), "1 POST /up\n");
    assert_eq!(origin.arrived(0)[0].1.body.len(), 900_000);
    assert!(client.is_closed());
    assert_eq!(family.first_exit(), Some(0));
    until("one process is left", || family.living() == [family.pid()]);
}

#[test]
fn a_slow_download_is_whole() {
    const SIZE: usize = 12 << 20;
    let fountain = Fountain::start(SIZE);
    let family = Family::start(1, &[fountain.address()]);
    let mut reader = slow_reader(family.address(), &get("/"));
    reader.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    until("the answer begins", || fountain.begun() == 1 && fountain.sent() > 0);
    let old = family.upgrade();
    assert!(family.living().contains(&old) && fountain.sent() < SIZE as u64);
    let (mut left, mut buffer) = (SIZE, [0; 64 * 1024]);
    while left > 0 {
        let count = reader.read(&mut buffer).expect("no reset");
        assert!(count > 0, "cut with {left} bytes missing");
        left -= buffer[..count].iter().filter(|&&byte| byte == b'x').count();
    }
    // Its head may have said that the connection is kept.
    drop(reader);
    assert_eq!(family.first_exit(), Some(0));
}

#[test]
fn a_tunnel_lives_on_until_it_ends() {
    let gate = Gate::default();
    let script = vec![
        Step::Read,
        Step::Send(SWITCH.to_vec()),
        Step::Wait(gate.clone()),
        Step::Send(b"pong".to_vec()),
        Step::Hang,
    ];
    let origin = Origin::scripted(vec![script]);
    let family = Family::start(1, &[origin.address()]);
    let mut client = Client::connect(family.address());
    client.send(WEBSOCKET);
    assert_eq!(client.answer_to(Asked { method: b"GET", upgrade: true }).whole().status, 101);
    let old = family.upgrade();
    family.upgrade();
    gate.open();
    assert_eq!(client.read(4), b"pong");
    client.send(b"still here");
    origin.wait_until("bytes through the tunnel", |all| all[0].received.ends_with(b"still here"));
    assert!(family.living().contains(&old));
    drop(client);
    assert_eq!(family.first_exit(), Some(0));
}

/// A request that waits at the server for `gate`, a client that idles, and the process that has both, after an upgrade.
fn retired(gate: &Gate) -> (Family, Client, Client, Origin) {
    let origin = Origin::scripted(vec![vec![
        Step::Read,
        Step::Wait(gate.clone()),
        Step::Send(ANSWER.to_vec()),
        Step::Serve,
    ]]);
    let family = Family::start(1, &[origin.address()]);
    let (mut busy, mut idle) = (Client::connect(family.address()), Client::connect(family.address()));
    busy.send(&get("/slow"));
    origin.wait_until("the request", |all| all.iter().any(|c| c.requests.len() == 1));
    idle.send(&get("/"));
    assert!(idle.answer().whole().keep_alive);
    family.upgrade();
    family.status();
    (family, busy, idle, origin)
}

#[test]
fn term_or_quit_to_the_old_process_drains_it_alone() {
    for signal in [Signal::TERM, Signal::QUIT] {
        let gate = Gate::default();
        let (family, mut busy, mut idle, _origin) = retired(&gate);
        let old = family.program().pid();
        send(old, signal);
        assert!(idle.is_closed(), "idle connections are closed without waiting");
        assert!(family.living().contains(&old), "a request is in flight");
        gate.open();
        let response = busy.answer().whole();
        assert_eq!((text(&response).as_str(), field(&response, "connection").as_str()), ("late", "close"));
        assert_eq!(family.first_exit(), Some(0));
        assert_eq!(ask(family.address(), get("/")).whole().status, 200);
        assert_eq!(family.living(), [family.pid()]);
    }
}

#[test]
fn a_second_term_cuts_what_the_old_process_still_has() {
    let gate = Gate::default();
    let (family, mut busy, mut idle, _origin) = retired(&gate);
    send(family.program().pid(), Signal::TERM);
    assert!(idle.is_closed());
    send(family.program().pid(), Signal::TERM);
    assert_eq!(family.first_exit(), Some(4));
    assert_eq!(busy.answer().status(), None);
    assert_eq!(ask(family.address(), get("/")).whole().status, 200);
    gate.open();
}

#[test]
fn other_signals_to_the_old_process_change_nothing() {
    let gate = Gate::default();
    let (family, mut busy, mut idle, _origin) = retired(&gate);
    let (old, new) = (family.program().pid(), family.pid());
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2] {
        send(old, signal);
    }
    last_answer(&mut idle);
    gate.open();
    assert_eq!(busy.answer().whole().status, 200);
    assert!(busy.is_closed());
    assert_eq!(family.first_exit(), Some(0));
    assert_eq!((family.pid(), family.living()), (new, vec![new]));
}

#[test]
fn the_new_process_outlives_the_old_one_and_the_clients_of_its_own_drain() {
    let gate = Gate::default();
    let (family, mut busy, _idle, _origin) = retired(&gate);
    let new = family.pid();
    send(new, Signal::TERM);
    family.until_ended(new);
    gate.open();
    assert_eq!(text(&busy.answer().whole()), "late", "the end of the new process is nothing to the old one");
}
