//! A model check: every state that up to six servers can get into, by every event, with what must hold after each.
//!
//! Servers of one backend are alike, so states that differ in their order only are one.

use std::collections::HashSet;

use plimsoll_config::model::{self, Address, Balance};

use super::record::{Check, Ejection};
use crate::backend::Backend;
use crate::server::Server;
use crate::time::Millis;

/// When ejections end: times are no part of a state.
const UNTIL: u64 = 100;
const EVENTS: usize = 8;

/// What is known of one server: its check, its ejection, and whether a check has ever passed.
type Known = (Check, Ejection, bool);

#[test]
fn whatever_happens_somebody_serves_and_nobody_who_never_passed_while_anybody_is_well() {
    for servers in 1..=6 {
        let backend = backend(servers);
        let first = state(&backend);
        let (mut seen, mut todo) = (HashSet::from([name(&first)]), vec![first]);
        while let Some(before) = todo.pop() {
            let alike = |server: usize| before[..server].contains(&before[server]);
            let each = (0..servers).filter(|&server| !alike(server));
            for (server, event) in each.flat_map(|server| (0..EVENTS).map(move |event| (server, event))) {
                put(&backend, &before);
                let out_before = out(&backend);
                let ejected = act(&backend, server, event);
                let after = state(&backend);
                assert_eq!(broken(&backend, &after), None, "{before:?}, server {server}, event {event}");
                if ejected {
                    let passed = after.iter().filter(|known| known.2).count();
                    let out = out(&backend);
                    assert!(out > out_before && out * 2 <= passed, "{before:?} {server} {event}");
                }
                if seen.insert(name(&after)) {
                    todo.push(after);
                }
            }
        }
        // A server alone: not checked yet, failed and never passed, up, down.
        assert!(seen.len() >= 4 * servers, "{} states", seen.len());
    }
}

/// What must not be, and is.
fn broken(backend: &Backend, state: &[Known]) -> Option<&'static str> {
    let is_well = |(check, ejection, _): &Known| *check == Check::Up && *ejection == Ejection::None;
    let barred = |server: usize| backend.servers[server].live.is_barred();
    let serves = state.iter().any(is_well);
    if (0..state.len()).all(barred) {
        return Some("nobody serves");
    }
    if (0..state.len()).any(|server| is_well(&state[server]) && barred(server)) {
        return Some("one that is well does not serve");
    }
    if serves && (0..state.len()).any(|server| !state[server].2 && !barred(server)) {
        return Some("one that never passed serves while another is well");
    }
    let waits = state.iter().any(|(check, ejection, _)| *check == Check::Up && *ejection == Ejection::Waits);
    (backend.has_trials() != waits).then_some("a trial waits and is not told of, or is and does not")
}

fn backend(servers: usize) -> Backend {
    let server = |i: usize| model::Server::new(&format!("s{i}"), Address::Name(format!("s{i}"), 80));
    let spec = model::Backend {
        eject: Some(model::Eject::default()),
        panic: 50,
        check: Some(model::Check::new(model::How::Tcp)),
        ..model::Backend::new("b", (0..servers).map(server).collect(), Balance::P2c)
    };
    Backend::new(&spec, None)
}

fn state(backend: &Backend) -> Vec<Known> {
    let known = |server: &Server| {
        let record = server.health.record();
        (record.check, record.ejection, record.has_passed)
    };
    backend.servers.iter().map(known).collect()
}

/// The same for states that differ in their order only: a byte for each server.
fn name(state: &[Known]) -> Vec<u8> {
    let number = |&(check, ejection, has_passed): &Known| {
        let ejection = match ejection {
            Ejection::None => 0,
            Ejection::Until(_) => 1,
            Ejection::Waits => 2,
            Ejection::Tried => 3,
        };
        (check as u8) << 3 | ejection << 1 | u8::from(has_passed)
    };
    let mut name: Vec<u8> = state.iter().map(number).collect();
    name.sort_unstable();
    name
}

fn put(backend: &Backend, state: &[Known]) {
    for (server, &(check, ejection, has_passed)) in backend.servers.iter().zip(state) {
        let mut record = server.health.record();
        (record.check, record.ejection, record.has_passed, record.streak) = (check, ejection, has_passed, 0);
        drop(record);
        server.live.end_failures();
    }
    backend.roster().settle(backend.panic, &backend.ramp.trials);
}

/// Servers that have passed a check and are not well.
fn out(backend: &Backend) -> usize {
    let is_out = |server: &&Server| {
        let record = server.health.record();
        record.has_passed() && !record.is_well()
    };
    backend.servers.iter().filter(is_out).count()
}

/// True if the event ejected a server that served.
fn act(backend: &Backend, server: usize, event: usize) -> bool {
    let was_up = backend.servers[server].health.record().ejection == Ejection::None;
    match event {
        0 => (0..5).for_each(|_| backend.failed(server, "503", false, Millis(1))),
        1 => (0..3).for_each(|_| backend.checked(server, Err("x"), Millis(1))),
        2 => (0..2).for_each(|_| backend.checked(server, Ok(()), Millis(UNTIL))),
        3 => drop(backend.take_trial(&[])),
        4 => backend.recovered(server, true, Millis(1)),
        5 => backend.failed(server, "x", true, Millis(1)),
        6 => backend.undecided(server),
        _ => {
            backend.servers[server].health.record().comes_back(Millis(1));
            backend.roster().settle(backend.panic, &backend.ramp.trials);
        }
    }
    let mut record = backend.servers[server].health.record();
    if let Ejection::Until(_) = record.ejection {
        record.ejection = Ejection::Until(Millis(UNTIL));
    }
    was_up && record.ejection != Ejection::None
}
