//! A list that changes all the time under every kind of load: nobody loses anything.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::load_clients::{Kind, run};
use crate::load_server;
use crate::rig::fresh_path;
use crate::stage::{replace, soon, status};
use crate::support::Plimsoll;

/// How often each list is to differ from what was known.
const CHANGES: u64 = 6;

const CLIENTS: [(Kind, usize); 5] = [
    (Kind::KeepAlive, 6),
    (Kind::NewConnection, 3),
    (Kind::Upload, 2),
    (Kind::SlowDownload, 4),
    (Kind::Tunnel("/tunnel"), 4),
];

#[test]
fn a_list_that_changes_under_load_loses_nothing() {
    let servers = ["a", "b", "c", "d"].map(load_server::start);
    let list = |round: usize| {
        // One stays, the others come, go and change their weights.
        let entries =
            servers.iter().enumerate().filter(|(n, _)| *n == 0 || !(round >> (n - 1)).is_multiple_of(2));
        let entry = |(n, server): (usize, &_)| {
            format!("{{\"address\": \"{server}\", \"weight\": {}}}", 1 + (round + n) % 3)
        };
        format!("[{}]", entries.map(entry).collect::<Vec<_>>().join(","))
    };
    let paths: Vec<_> = (0..4).map(|_| fresh_path("load.json")).collect();
    paths.iter().for_each(|path| replace(path, &list(0)));
    // Four sources that are looked at once a second each, at different times.
    let backends: String = paths
        .iter()
        .zip(["p2c", "round_robin", "least_conn", "ewma"])
        .enumerate()
        .map(|(n, (path, balance))| {
            format!(
                "[backend.b{n}]\nbalance = \"{balance}\"\ndiscover = {{ file = \"{}\" }}\n",
                path.display()
            )
        })
        .collect();
    let program = Plimsoll::start(&format!(
        "workers = 2\n[[listen]]\nbind = \"127.0.0.1:0\"\n[[route]]\nto = {{ b0 = 1, b1 = 1, b2 = 1, b3 = 1 }}\n{backends}\
         [admin]\nbind = \"127.0.0.1:0\"\n[log]\nformat = \"off\"\n[limits]\nrequests_per_connection = 1000000\n"
    ));
    let (to, stop) = (program.address(), AtomicBool::new(false));
    let results: Vec<(Kind, u64, Vec<String>)> = std::thread::scope(|scope| {
        let kinds = CLIENTS.iter().flat_map(|&(kind, count)| std::iter::repeat_n(kind, count));
        let stop = &stop;
        let clients: Vec<_> = kinds.map(|kind| (kind, scope.spawn(move || run(kind, to, stop)))).collect();
        let mut round = 0;
        soon("the lists have changed often", || {
            for _ in 0..10 {
                round += 1;
                paths.iter().for_each(|path| replace(path, &list(round)));
                std::thread::sleep(Duration::from_millis(100)); // the rate is the load
            }
            let known = status(&program)["backends"].as_array().expect("an array").clone();
            let changes: Vec<_> = known.iter().map(|one| one["discovery"]["changes"].as_u64()).collect();
            if changes.iter().all(|&count| count >= Some(CHANGES)) { Ok(()) } else { Err(changes) }
        });
        stop.store(true, Ordering::Relaxed);
        let finish = |(kind, client): (Kind, std::thread::ScopedJoinHandle<'_, (u64, Vec<String>)>)| {
            let (done, failures) = client.join().expect("it does not panic");
            (kind, done, failures)
        };
        clients.into_iter().map(finish).collect()
    });
    for (kind, _) in CLIENTS {
        let done: u64 = results.iter().filter(|(k, ..)| *k == kind).map(|(_, done, _)| done).sum();
        println!("{kind:?}: {done}");
        assert!(done > 0, "{kind:?} was never served");
    }
    let failures: Vec<&String> = results.iter().flat_map(|(_, _, failures)| failures).collect();
    assert!(failures.is_empty(), "{} failures: {failures:#?}", failures.len());
    crate::rig::until("nothing is in flight", || {
        let backends = status(&program)["backends"].as_array().expect("an array").clone();
        backends.iter().all(|backend| backend["in_flight"] == 0)
    });
}
