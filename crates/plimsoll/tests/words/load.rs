//! Servers that drain, come back and want less while requests go on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::load_clients::{Kind, run};
use crate::load_server;
use crate::rig::until;
use crate::stage::{Speaker, Speech};
use crate::support::Plimsoll;

/// How long it goes on.
const TIME: Duration = Duration::from_secs(4);

#[test]
fn words_of_all_kinds_under_load_lose_nothing() {
    // Agents beside servers that can do more than theirs.
    let agents: Vec<Speaker> = ["a", "b", "c"].map(|name| Speaker::start(name, Speech::line("up"))).into();
    let servers: Vec<SocketAddr> = agents.iter().map(|agent| load_server::start(agent.name)).collect();
    let entry = |(server, agent): (&SocketAddr, &Speaker)| {
        let port = agent.agent.port();
        format!(
            "{{ address = \"{server}\", name = \"{}\", agent = {{ port = {port}, every = \"50ms\" }} }}",
            agent.name
        )
    };
    let entries: Vec<String> = servers.iter().zip(&agents).map(entry).collect();
    let program = Plimsoll::start(&format!(
        "workers = 2\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"all\"\n[log]\nformat = \"off\"\n[limits]\nrequests_per_connection = 1000000\n\
         [backend.all]\nservers = [{}]\n",
        entries.join(", ")
    ));
    let (to, stop) = (program.address(), AtomicBool::new(false));
    let kinds =
        [Kind::KeepAlive, Kind::NewConnection, Kind::Upload, Kind::SlowDownload, Kind::Tunnel("/tunnel")];
    let words = [
        "drain",
        "ready",
        "down # a moment",
        "up",
        "maint",
        "ready 30%",
        "0%",
        "100% maxconn:50",
        "maxconn:0 stopped",
        "up",
    ];
    let mut said = 0;
    let results = std::thread::scope(|scope| {
        let (stop, said) = (&stop, &mut said);
        let clients: Vec<_> = kinds.map(|kind| scope.spawn(move || (kind, run(kind, to, stop)))).into();
        let began = Instant::now();
        // The first server stays, so that there always is one.
        for word in words.iter().cycle() {
            if began.elapsed() > TIME {
                break;
            }
            for agent in &agents[1..] {
                agent.says(word);
                let asked = agent.asked();
                until("it is asked", || agent.asked() > asked + 1);
                *said += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("it does not panic")).collect::<Vec<_>>()
    });
    // Of each of the two, four lines are told at once.
    let heard = program.stderr_lines().iter().filter(|line| line.contains("says by its agent")).count();
    assert!(said > 10 && heard >= 8, "{heard} of {said} words were heard");
    for (kind, (done, failures)) in &results {
        println!("{kind:?}: {done}");
        assert!(*done > 0, "{kind:?} was never served");
        assert!(failures.is_empty(), "{} failures: {failures:#?}", failures.len());
    }
}
