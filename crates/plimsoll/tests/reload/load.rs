//! Sixty reloads, no more than ten a second, under every kind of load: nobody loses anything.
//!
//! The server list, weights, routes, limits and a second listener change each time; a route to a server that stays never does.
//! Failures are counted by the clients, which try nothing again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::load_clients::{Kind, run};
use crate::load_server;
use crate::stage::{Way, free_address, status, take};
use crate::support::Plimsoll;

const RELOADS: usize = 60;
const EVERY: Duration = Duration::from_millis(100);

/// So many clients of each kind.
const CLIENTS: [(Kind, usize); 6] = [
    (Kind::KeepAlive, 6),
    (Kind::NewConnection, 3),
    (Kind::Upload, 2),
    (Kind::SlowDownload, 4),
    (Kind::Tunnel("/tunnel"), 8),
    (Kind::Tunnel("/changing-tunnel"), 8),
];

/// The configuration of one round; servers come, go and change their weights.
fn configuration(round: usize, servers: &[SocketAddr; 4], second: SocketAddr) -> String {
    let mut entries = vec![format!("\"{}\"", servers[0])];
    for (number, server) in servers.iter().enumerate().skip(1) {
        if (round >> (number - 1)).is_multiple_of(2) {
            entries.push(format!("{{ address = \"{server}\", weight = {} }}", 1 + round % 3));
        }
    }
    let balance = ["p2c", "round_robin", "least_conn", "random"][round / 2 % 4];
    let second = if round.is_multiple_of(2) {
        format!("[[listen]]\nbind = \"{second}\"\nto = \"web\"\n")
    } else {
        String::new()
    };
    let other = ["to = \"stays\"", "respond = { body = \"none\" }", "to = \"web\""][round % 3];
    format!(
        "workers = 2\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"web\"\nmax_connections = {}\n{second}\
         [backend.web]\nbalance = \"{balance}\"\nservers = [{}]\n\
         [backend.stays]\nservers = [\"{}\"]\n\
         [[route]]\npath = \"/tunnel\"\nto = \"stays\"\n\
         [[route]]\npath = \"/changing/*\"\n{other}\n\
         [[route]]\npath = \"/changing-tunnel\"\nto = \"{}\"\ntimeout = {{ tunnel = \"{}s\" }}\n\
         [limits]\nfields = {}\nrequests_per_connection = 1000000\n\
         [admin]\nbind = \"127.0.0.1:0\"\n[log]\nformat = \"off\"\n",
        400 + round % 7,
        entries.join(", "),
        servers[0],
        ["web", "stays"][round % 2],
        60 + round,
        50 + round % 5,
    )
}

#[test]
fn ten_reloads_a_second_under_load_lose_nothing() {
    let servers = ["a", "b", "c", "d"].map(load_server::start);
    let second = free_address();
    let program = Plimsoll::start(&configuration(0, &servers, second));
    let (to, stop) = (program.address(), AtomicBool::new(false));
    let mut reloads = 0;
    let mut refused = None;
    let results: Vec<(Kind, u64, Vec<String>)> = std::thread::scope(|scope| {
        let kinds = CLIENTS.iter().flat_map(|&(kind, count)| std::iter::repeat_n(kind, count));
        let stop = &stop;
        let clients: Vec<_> = kinds.map(|kind| (kind, scope.spawn(move || run(kind, to, stop)))).collect();
        let began = Instant::now();
        while reloads < RELOADS && refused.is_none() {
            reloads += 1;
            refused = take(&program, Way::HangUp, &configuration(reloads, &servers, second)).err();
            std::thread::sleep((EVERY * reloads as u32).saturating_sub(began.elapsed())); // the rate is the load
        }
        stop.store(true, Ordering::Relaxed);
        let finish = |(kind, client): (Kind, std::thread::ScopedJoinHandle<'_, (u64, Vec<String>)>)| {
            let (done, failures) = client.join().expect("it does not panic");
            (kind, done, failures)
        };
        clients.into_iter().map(finish).collect()
    });
    assert_eq!(refused, None, "every configuration is good");
    for (kind, _) in CLIENTS {
        let done: u64 = results.iter().filter(|(k, ..)| *k == kind).map(|(_, done, _)| done).sum();
        println!("{kind:?}: {done}");
        assert!(done > 0, "{kind:?} was never served");
    }
    let failures: Vec<&String> = results.iter().flat_map(|(_, _, failures)| failures).collect();
    assert!(failures.is_empty(), "{} failures: {failures:#?}", failures.len());
    crate::rig::until("nothing is in flight", || {
        let backends = status(&program)["backends"].as_array().expect("an array").clone();
        let servers = backends.iter().flat_map(|b| b["servers"].as_array().expect("an array").clone());
        servers.map(|server| server["in_flight"].as_u64().expect("a number")).sum::<u64>() == 0
    });
}
