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

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use client::Outcome;
use judge::Tally;
use plan::{Script, scripts};
use server::World;
use support::{Answer, Client, PATIENCE, Plimsoll, Watched};

/// Seeds that are always played.
const FIXED: std::ops::RangeInclusive<u64> = 1..=24;
/// Client connections of a seed, and how many of them at once.
const CONNECTIONS: usize = 30;
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
    wait_until(|| in_flight(&program)).expect("nothing has been asked"); // opens what is opened with the first question
    let start = descriptors(&program);
    let outcomes = play_clients(&scripts, program.address());

    if let Err(text) = wait_until(|| in_flight(&program)) {
        world.violation(format!("requests in flight never ended: {text}"));
    }
    world.hang_up();
    let open = || descriptors(&program);
    if wait_until(|| if open() <= start { Ok(()) } else { Err(String::new()) }).is_err() {
        world.violation(format!("{} descriptors at the start, {} at the end", start, open()));
    }
    let said = program.stderr_lines().join("\n");
    if said.contains("panicked") {
        world.violation(format!("it panicked:\n{said}"));
    }
    if !program.stop().success() {
        world.violation(format!("it did not end well; it said\n{said}"));
    }
    let mut tally = Tally::default();
    for (script, outcomes) in scripts.iter().zip(&outcomes) {
        judge::script(script, outcomes, &world, &mut tally);
    }
    (tally, world.violations())
}

fn configuration(seed: u64, servers: &[SocketAddr; 2]) -> String {
    let workers = 1 + seed % 2;
    let [one, two] = servers;
    format!(
        "workers = {workers}\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = [\"{one}\", \"{two}\"]\n[admin]\nbind = \"127.0.0.1:0\"\n"
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

/// How many file descriptors the program has open.
fn descriptors(program: &Plimsoll) -> usize {
    let path = format!("/proc/{}/fd", program.pid().as_raw_nonzero());
    std::fs::read_dir(path).map_or(0, Iterator::count)
}
