//! A pick never allocates, whatever the policy and whatever state its servers are in.
//!
//! A target of its own, since the counting allocator is the whole program's. A first pick may be no other than the rest: what is built per worker is
//! built before.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::model::{
    self, Balance, Ewma, Hash, HashKey, HashMethod, Prequal, Probe, Reported, Subset,
};
use plimsoll_traffic::{
    Ask, Backend, Balancer, Dice, Lease, Micros, Millis, Outcome, Report, Session, Verdict,
};

const SERVERS: usize = 200;

fn policies() -> Vec<Balance> {
    let methods = [HashMethod::Maglev, HashMethod::Ring, HashMethod::Rendezvous];
    let hashes = methods.into_iter().flat_map(|method| {
        [None, Some(125)].map(|bound| Balance::Hash(Hash { key: HashKey::ClientIp, method, bound }))
    });
    let probe = |rate| Probe { path: "/load".into(), rate };
    let prequal = |probe| Balance::Prequal(Prequal { quantile: 84, age: Duration::from_secs(1), probe });
    let others = [
        Balance::P2c,
        Balance::RoundRobin,
        Balance::LeastConn,
        Balance::Random,
        Balance::First,
        Balance::Ewma(Ewma::default()),
        prequal(None),
        prequal(Some(probe(300))),
    ];
    hashes.chain(others).collect()
}

/// What may be out of the ordinary; each by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Ordinary,
    Weighted,
    OneDown,
    MostDown,
    AllButOneFull,
    Levels,
    BackupsServe,
    Ramp,
    Reported,
    Subset,
    Tried,
}

const STATES: [State; 11] = [
    State::Ordinary,
    State::Weighted,
    State::OneDown,
    State::MostDown,
    State::AllButOneFull,
    State::Levels,
    State::BackupsServe,
    State::Ramp,
    State::Reported,
    State::Subset,
    State::Tried,
];

fn spec(balance: &Balance, state: State) -> model::Backend {
    let server = |i: usize| {
        let name = format!("s{i}");
        model::Server {
            weight: if state == State::Weighted { 1 + (i % 9) as u16 } else { 1 },
            priority: u8::from(state == State::Levels && i % 2 == 1),
            backup: state == State::BackupsServe && i % 2 == 1,
            max_requests: if state == State::AllButOneFull && i != 77 { 2 } else { 10_000 },
            ..model::Server::new(&name, model::Address::Name(name.clone(), 80))
        }
    };
    let mut spec = model::Backend::new("b", (0..SERVERS).map(server).collect(), balance.clone());
    if state == State::Subset {
        spec.subset = Some(Subset { size: 10, instance: "one".into() });
    }
    if state == State::Reported {
        let (blackout, expiration) = (Duration::ZERO, Duration::from_secs(1_000));
        spec.reported = Some(Reported { blackout, expiration, penalty: 100 });
    }
    spec
}

fn balancer(balance: &Balance, state: State) -> Rc<Balancer> {
    let mut spec = spec(balance, state);
    let mut before = None;
    if state == State::Ramp {
        let new = spec.servers.remove(3);
        before = Some(Backend::new(&spec, None));
        spec.servers.push(new);
        spec.slow_start = Duration::from_secs(1_000);
    }
    let backend = Arc::new(Backend::new(&spec, before.as_ref()));
    let refuses = |i: usize| match state {
        State::OneDown => i == 5,
        State::MostDown => !i.is_multiple_of(20),
        State::Levels => i.is_multiple_of(4),
        State::BackupsServe => i.is_multiple_of(2),
        _ => false,
    };
    for (_, server) in backend.servers.iter().enumerate().filter(|(i, _)| refuses(*i)) {
        server.live.refused(Millis(1 << 40));
    }
    Balancer::new(backend, &mut Dice::new(4))
}

fn load(server: u32, requests: f64) -> Report {
    let (in_flight, latency) = (Some(server % 5), Some((server % 7) as f32));
    Report { cpu: 0.5, requests, in_flight, latency, ..Report::default() }
}

/// Requests with reports and ends, in a place that was made before; gives how many were served.
fn serve(balancer: &Rc<Balancer>, state: State, held: &mut Vec<Lease>, dice: &mut Dice) -> usize {
    let mut served = 0;
    for request in 0..3_000u64 {
        let now = Micros(request * 1_000);
        let tried = [request as u32 % 200, 1, 2];
        let ask = Ask { now, key: dice.next(), tried: if state == State::Tried { &tried } else { &[] } };
        let lease = balancer.pick(&ask, dice).unwrap();
        served += 1;
        while let Some(server) = balancer.next_probe(dice) {
            balancer.hear(server, &load(server, 10.0), None, now);
        }
        if held.len() == held.capacity() {
            let old = held.swap_remove(dice.below(held.len() as u32) as usize);
            old.hear(&load(old.index(), f64::from(1 + old.index() % 3)), now);
            let verdict = if request % 50 == 0 { Verdict::Failed } else { Verdict::Answered };
            old.finish(&Outcome::new(now, verdict));
        }
        held.push(lease);
        for session in [Session::Key(ask.key), Session::Server(tried[0])] {
            drop(balancer.keep(session, &ask));
        }
    }
    served
}

#[test]
fn no_pick_allocates_whatever_the_policy_and_the_state_of_the_servers() {
    for balance in policies() {
        for state in STATES {
            let balancer = balancer(&balance, state);
            let mut held = Vec::with_capacity(if state == State::AllButOneFull { 2 * SERVERS } else { 50 });
            let mut dice = Dice::new(7);
            let mut served = 0;
            let info = allocation_counter::measure(|| served = serve(&balancer, state, &mut held, &mut dice));
            assert_eq!(served, 3_000);
            assert_eq!(info.count_total, 0, "{balance:?}, {state:?}");
        }
    }
}

#[test]
fn nor_do_the_first_ones_after_a_reload() {
    for balance in policies() {
        let before = balancer(&balance, State::Ordinary);
        let (mut held, mut dice) = (Vec::with_capacity(50), Dice::new(7));
        serve(&before, State::Ordinary, &mut held, &mut dice);
        let backend = Backend::new(&spec(&balance, State::Weighted), Some(before.backend()));
        let after = Balancer::after(&before, Arc::new(backend), &mut dice);
        held.clear();
        let info = allocation_counter::measure(|| _ = serve(&after, State::Weighted, &mut held, &mut dice));
        assert_eq!(info.count_total, 0, "{balance:?}");
    }
}

#[test]
fn the_count_notices_what_allocates() {
    let info = allocation_counter::measure(|| drop(balancer(&Balance::P2c, State::Ordinary)));
    assert!(info.count_total > 0);
}
