//! Seeded exchanges: clients, the real program and servers, each doing what a seed says, and nothing may go wrong.
//!
//! Bodies in random pieces, pipelining, half-closes, resets, slow readers, `Expect`; answers early, cut, surplus, until close,
//! servers that hang up. Every request has a name in its target, head and body, and every answer carries the name back,
//! so that whatever is lost, doubled, mixed up or passed off as whole shows. A failure prints the command that replays it.
//!
//! `PLIMSOLL_SEED=7` plays only that seed; otherwise there is a fixed list, and one that the clock chooses.

#[path = "seeded/client.rs"]
mod client;
#[path = "seeded/judge.rs"]
mod judge;
#[path = "seeded/plan.rs"]
mod plan;
#[path = "seeded/server.rs"]
mod server;
mod support;
#[path = "seeded/wire.rs"]
mod wire;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use client::Outcome;
use judge::Tally;
use plan::{Script, scripts};
use server::World;
use socket2::{Domain, Socket, Type};
use support::oracle::{self, Asked, Rules};
use support::{Answer, Client, Gate, Origin, PATIENCE, Plimsoll, Step, Watched, get};

/// Seeds that are always played.
const FIXED: std::ops::RangeInclusive<u64> = 1..=24;
/// Client connections of a seed, and how many of them at once.
const CONNECTIONS: usize = 36;
const AT_ONCE: usize = 6;
/// Seeds played at once: most of a seed is waiting.
const PLAYERS: usize = 3;

#[test]
fn no_seed_loses_doubles_mixes_up_or_passes_off_an_exchange() {
    let chosen = std::env::var("PLIMSOLL_SEED").ok();
    let seeds: Vec<u64> = match &chosen {
        Some(text) => vec![text.parse().expect("PLIMSOLL_SEED is a number")],
        None => FIXED.chain([by_the_clock()]).collect(),
    };
    println!("seeds: {seeds:?}");
    let (next, results) = (AtomicUsize::new(0), Watched::new((Tally::default(), Vec::new())));
    thread::scope(|scope| {
        for _ in 0..PLAYERS {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (tally, violations) = play(seed);
                    results.change(|(total, all)| {
                        total.add(&tally);
                        all.extend(violations.into_iter().map(|text| (seed, text)));
                    });
                }
            });
        }
    });
    results.look(|(tally, violations)| {
        println!("{tally:#?}");
        if let Some((seed, _)) = violations.first() {
            let texts: Vec<String> =
                violations.iter().map(|(seed, text)| format!("seed {seed}: {text}")).collect();
            panic!(
                "{}\n\nreplay with: PLIMSOLL_SEED={seed} cargo test -p plimsoll --test seeded\n",
                texts.join("\n")
            );
        }
        if chosen.is_none() {
            tally.is_worth_something();
        }
    });
}

// ---- closing in order (RFC 9112, 9.6) ----
//
// A client that reads slowly has pipelined one request more than will be answered. Who closes a socket in which that is still
// unread makes the kernel send a reset, and the reset takes back what the client has not read of the last whole answer.

const LARGE: usize = 200_000;

#[test]
fn a_cut_answer_does_not_take_back_the_one_before() {
    let gate = Gate::default();
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf".to_vec();
    let steps = [
        Step::Read,
        Step::Send(large()),
        Step::Read,
        Step::Wait(gate.clone()),
        Step::Send(half),
        Step::Close,
    ];
    assert_eq!(large_body(&["/1", "/2"], "", steps.to_vec(), &gate), Some(LARGE));
}

#[test]
fn a_last_answer_is_not_taken_back() {
    let gate = Gate::default();
    let steps = vec![Step::Read, Step::Wait(gate.clone()), Step::Send(large()), Step::Close];
    let limits = "[limits]\nrequests_per_connection = 1\n";
    assert_eq!(large_body(&["/1"], limits, steps, &gate), Some(LARGE));
}

fn large() -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n").into_bytes(), vec![b'x'; LARGE]].concat()
}

/// Asks for these, then for one more, then lets the server go on; gives how much of the first answer's body can be read when
/// all is over.
fn large_body(paths: &[&str], rest: &str, steps: Vec<Step>, gate: &Gate) -> Option<usize> {
    let origin = Origin::scripted(vec![steps]);
    let to = origin.address();
    let program =
        Plimsoll::start(&format!("workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = [\"{to}\"]\n{rest}"));
    let mut client = slow_client(program.address());
    let requests: Vec<u8> = paths.iter().flat_map(|path| get(path)).collect();
    client.write_all(&requests).expect("requests fit");
    origin.wait_until("all but one", |all| all.iter().any(|c| c.requests.len() == paths.len()));
    client.write_all(&get("/more")).expect("requests fit");
    gate.open();
    let last = paths.last().expect("there is one");
    program.wait_for_log(|line| line.to_string().contains(&format!("\"{last}\"")));

    client.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    let (mut received, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        received.extend_from_slice(&buffer[..count]);
    }
    let asked = Asked { method: b"GET", upgrade: false };
    let first = oracle::response(&received, asked, false, &Rules::default());
    first.message().map(|response| response.body.len())
}

/// A client whose socket takes little before it is read.
fn slow_client(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors suffice");
    socket.set_recv_buffer_size(4096).expect("TCP has it");
    socket.connect(&to.into()).expect("it listens");
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).expect("TCP has it");
    stream
}

fn by_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    now.as_millis() as u64
}

/// Plays one seed; gives what happened, and what must not have.
fn play(seed: u64) -> (Tally, Vec<String>) {
    let scripts = scripts(seed, CONNECTIONS);
    let world = Arc::new(World::new(&scripts));
    let servers = [server::start(&world, seed), server::start(&world, seed + 1)];
    let program = Plimsoll::start(&configuration(seed, &servers));
    let outcomes = play_clients(&scripts, program.address());

    if let Err(text) = wait_until(|| in_flight(&program)) {
        world.violation(format!("requests in flight never ended: {text}"));
    }
    let mut tally = Tally::default();
    tally.pooled = connections(&program);
    world.hang_up();
    let left = || match connections(&program) {
        0 => Ok(()),
        count => Err(count.to_string()),
    };
    if let Err(count) = wait_until(left) {
        world.violation(format!("{count} connections stayed open"));
    }
    let said = program.stderr_lines().join("\n");
    if said.contains("panicked") {
        world.violation(format!("it panicked:\n{said}"));
    }
    if !program.stop().success() {
        world.violation(format!("it did not end well; it said\n{said}"));
    }
    for (script, outcomes) in scripts.iter().zip(&outcomes) {
        judge::script(script, outcomes, &world, &mut tally);
    }
    (tally, world.violations())
}

fn configuration(seed: u64, servers: &[SocketAddr; 2]) -> String {
    let workers = 1 + seed % 2;
    let [one, two] = servers;
    // Servers fail on purpose here, and both are always to be tried: none is ejected.
    format!(
        "workers = {workers}\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"b\"\n[admin]\nbind = \"127.0.0.1:0\"\n\
         [backend.b]\nservers = [\"{one}\", \"{two}\"]\neject = false\n"
    )
}

fn play_clients(scripts: &[Script], to: SocketAddr) -> Vec<Vec<Outcome>> {
    let next = AtomicUsize::new(0);
    let outcomes: Watched<Vec<(usize, Vec<Outcome>)>> = Watched::default();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(script) = scripts.get(number) else { return };
                    let played = client::play(script, to);
                    outcomes.change(|all| all.push((number, played)));
                }
            });
        }
    });
    let mut all = outcomes.change(std::mem::take);
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, played)| played).collect()
}

/// Polls until it is so, or patience ends; then why it was not.
fn wait_until(is_so: impl Fn() -> Result<(), String>) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match is_so() {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            result => return result,
        }
    }
}

fn in_flight(program: &Plimsoll) -> Result<(), String> {
    let lines = program.stderr_lines();
    let address = lines.iter().find_map(|line| line.strip_prefix("plimsoll: admin on "));
    let address: SocketAddr = address.expect("it says where").parse().expect("an address");
    let mut client = Client::connect(address);
    client.send(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let Answer::Whole(response) = client.answer() else {
        return Err("no /status".to_owned());
    };
    let text = String::from_utf8_lossy(&response.body).into_owned();
    let status: serde_json::Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
    let servers = status["backends"][0]["servers"].as_array().ok_or_else(|| text.clone())?;
    match servers.len() == 2 && servers.iter().all(|server| server["in_flight"] == 0) {
        true => Ok(()),
        false => Err(text),
    }
}

/// How many connections the program has open: its sockets but the listening ones and those to itself.
fn connections(program: &Plimsoll) -> usize {
    let process = format!("/proc/{}", program.pid().as_raw_nonzero());
    let read = |name: &str| std::fs::read_to_string(format!("{process}/net/{name}")).unwrap_or_default();
    let column = |line: &str, at: usize| line.split_whitespace().nth(at).unwrap_or_default().to_owned();
    let (tcp, unix) = (read("tcp") + &read("tcp6"), read("unix"));
    let listening = tcp.lines().filter(|line| column(line, 3) == "0A").map(|line| column(line, 9));
    let apart: Vec<String> = listening.chain(unix.lines().map(|line| column(line, 6))).collect();
    let links = std::fs::read_dir(format!("{process}/fd")).expect("it runs");
    let links = links.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let inode =
        |link: &PathBuf| Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned());
    links.filter(|link| inode(link).is_some_and(|inode| !apart.contains(&inode))).count()
}
