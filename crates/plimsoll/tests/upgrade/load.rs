//! Upgrades under load, one after the other: no request fails, no connection is reset, no tunnel closes.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::load_clients::{Load, Outcome};
use crate::load_server;
use crate::rig::until;
use crate::stage::Family;
use crate::support::PATIENCE;

const UPGRADES: usize = 5;

/// Everybody at once, while `change` runs; then whatever failed.
#[track_caller]
fn under_load(family: &Family, change: impl FnOnce(&Load)) {
    let (load, to) = (&Load::default(), family.address());
    type Kind = fn(&Load, SocketAddr) -> Outcome;
    let kinds: [(Kind, usize); 5] =
        [(Load::keep_alive, 6), (Load::fresh, 3), (Load::upload, 2), (Load::download, 2), (Load::tunnel, 3)];
    std::thread::scope(|scope| {
        let start = |(kind, count): (Kind, usize)| {
            (0..count).map(|_| scope.spawn(move || load.note(kind(load, to)))).collect::<Vec<_>>()
        };
        // So that the clients end also when the change panics.
        let ending = Ending(load);
        let clients: Vec<_> = kinds.into_iter().flat_map(start).collect();
        change(load);
        drop(ending);
        clients.into_iter().for_each(|client| client.join().expect("clients do not panic"));
    });
    assert!(!load.has_failed(), "{load:#?}");
    for count in [&load.kept, &load.fresh, &load.uploads, &load.downloads, &load.echoes, &load.told_to_close]
    {
        assert!(count.load(Ordering::Relaxed) > 0, "nothing was tested: {load:?}");
    }
    until("all but the last process end", || family.living() == [family.pid()]);
}

struct Ending<'a>(&'a Load);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Waits until so many more were counted.
#[track_caller]
fn more(load: &Load, count: &AtomicU64, by: u64) {
    let (before, deadline) = (count.load(Ordering::Relaxed), Instant::now() + 3 * PATIENCE);
    while count.load(Ordering::Relaxed) < before + by {
        assert!(!load.has_failed() && Instant::now() < deadline, "nothing goes on: {load:#?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Long enough for bodies and tunnels to begin in every process and to end in another's time.
#[track_caller]
fn a_while(load: &Load) {
    more(load, &load.kept, 200);
    more(load, &load.fresh, 50);
    more(load, &load.echoes, 30);
}

#[test]
fn upgrades_under_load_lose_nothing() {
    let server = load_server::start();
    let family = Family::start(2, &[server]);
    under_load(&family, |load| {
        for _ in 0..UPGRADES {
            a_while(load);
            family.upgrade();
        }
        a_while(load);
        more(load, &load.uploads, 1);
        more(load, &load.downloads, 1);
    });
}

#[test]
fn upgrades_between_reloads_and_other_workers_lose_nothing() {
    let servers = [load_server::start(), load_server::start(), load_server::start()];
    let family = Family::start(2, &servers[..1]);
    under_load(&family, |load| {
        for (round, workers) in [1, 3, 2, 3, 1].into_iter().enumerate() {
            let said = family.program().stderr_lines().len();
            family.configure(workers, &[family.address()], &servers[round % 3..]);
            family.signal(Signal::HUP);
            family.program().wait_for_line(said, |line| line.contains("reloaded "));
            a_while(load);
            family.configure(workers, &[family.address(), family.second()], &servers[..1 + round % 3]);
            family.upgrade();
            family.signal(Signal::HUP);
            a_while(load);
        }
        more(load, &load.uploads, 1);
        more(load, &load.downloads, 1);
    });
}

#[test]
fn upgrades_that_fail_under_load_lose_nothing() {
    let server = load_server::start();
    let family = Family::start(2, &[server]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let taken_address = taken.local_addr().expect("it is bound");
    under_load(&family, |load| {
        // More workers than sockets: the new process has some of its own, and then cannot bind the rest.
        family.configure(16, &[family.address(), taken_address], &[server]);
        for _ in 0..3 {
            family.fail_to_upgrade();
            more(load, &load.fresh, 20);
        }
        family.configure(2, &[family.address()], &[server]);
        family.upgrade();
        a_while(load);
        more(load, &load.uploads, 1);
        more(load, &load.downloads, 1);
    });
    drop(taken);
}
