//! No policy ever picks a server that is not eligible, and a refusal to pick gives the right reason.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use plimsoll_config::model::Balance;
use plimsoll_traffic::{Ask, Backend, Balancer, Dice, Lease, Micros, Millis, NoServer, hash_key};
use proptest::prelude::*;

use crate::fleet::{POLICIES, ask, backend, balancer, occupy_all, server};

const NOW: Millis = Millis(5_000);

/// One server's state.
#[derive(Debug, Clone)]
struct State {
    weight: u16,
    backup: bool,
    in_flight: u32,
    max_requests: u32,
    refused: bool,
    tried: bool,
}

fn state() -> impl Strategy<Value = State> {
    let weight = prop_oneof![Just(0), Just(1), Just(1), Just(3), Just(65_535)];
    let chance = |percent| prop::bool::weighted(f64::from(percent) / 100.0);
    (weight, chance(30), 0..4u32, 1..5u32, chance(30), chance(20)).prop_map(
        |(weight, backup, in_flight, max_requests, refused, tried)| State {
            weight,
            backup,
            in_flight,
            max_requests,
            refused,
            tried,
        },
    )
}

fn build(balance: &Balance, states: &[State]) -> (Arc<Backend>, Vec<Lease>) {
    let servers = states.iter().enumerate().map(|(i, state)| {
        let mut server = server(i, state.weight);
        (server.backup, server.max_requests) = (state.backup, state.max_requests);
        server
    });
    let backend = backend(balance, servers.collect());
    let load = occupy_all(&backend, &states.iter().map(|s| s.in_flight).collect::<Vec<_>>());
    states
        .iter()
        .zip(&backend.servers)
        .filter(|(s, _)| s.refused)
        .for_each(|(_, server)| server.live.refused(NOW));
    (backend, load)
}

/// Who may be picked, said as naively as possible.
fn eligible(states: &[State]) -> Result<BTreeSet<u32>, NoServer> {
    if states.iter().all(|s| s.weight == 0) {
        return Err(NoServer::None);
    }
    for (backup, refused) in [(false, false), (true, false), (false, true), (true, true)] {
        let up = |s: &State| s.weight > 0 && !s.tried && s.backup == backup && s.refused == refused;
        if states.iter().any(up) {
            let free = |s: &State| up(s) && s.in_flight < s.max_requests;
            let free: BTreeSet<u32> = (0..).zip(states).filter(|(_, s)| free(s)).map(|(i, _)| i).collect();
            return if free.is_empty() { Err(NoServer::Full) } else { Ok(free) };
        }
    }
    Err(NoServer::Tried)
}

fn pick(balancer: &Rc<Balancer>, tried: &[u32], dice: &mut Dice) -> Result<u32, NoServer> {
    let ask = Ask { now: NOW.into(), key: dice.next(), tried };
    balancer.pick(&ask, dice).map(|lease| lease.index())
}

fn agrees(picked: Result<u32, NoServer>, eligible: &Result<BTreeSet<u32>, NoServer>) -> bool {
    match (picked, eligible) {
        (Ok(index), Ok(eligible)) => eligible.contains(&index),
        (Err(picked), Err(expected)) => picked == *expected,
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn no_policy_picks_an_ineligible_server(states in prop::collection::vec(state(), 1..24), policy in 0..POLICIES.len(), seed: u64) {
        let (backend, _load) = build(&POLICIES[policy], &states);
        let (balancer, mut dice) = (balancer(&backend, seed), Dice::new(seed));
        let tried: Vec<u32> = (0..).zip(&states).filter(|(_, s)| s.tried).map(|(i, _)| i).collect();
        let eligible = eligible(&states);
        let mut picked = BTreeSet::new();
        for _ in 0..20 {
            let index = pick(&balancer, &tried, &mut dice);
            prop_assert!(agrees(index, &eligible), "{:?} picked {index:?} of {eligible:?}", POLICIES[policy]);
            picked.extend(index);
        }
        // And none is forgotten by a policy whose turns reach everyone.
        if let (Balance::RoundRobin, Ok(eligible)) = (&POLICIES[policy], &eligible) {
            let same = states.iter().all(|s| s.weight == states[0].weight);
            prop_assert!(!same || eligible.len() > 20 || picked == *eligible);
        }
    }
}

#[test]
fn the_check_notices_a_balancer_that_forgets_what_was_tried() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut caught = 0;
    for _ in 0..200 {
        let tree = prop::collection::vec(state(), 1..8).new_tree(&mut runner).unwrap();
        let states = proptest::strategy::ValueTree::current(&tree);
        let (backend, _load) = build(&Balance::Random, &states);
        let picked = pick(&balancer(&backend, 1), &[], &mut Dice::new(1));
        caught += u32::from(!agrees(picked, &eligible(&states)));
    }
    assert!(caught > 10, "{caught}");
}

/// Three servers, the last a backup.
fn two_and_a_backup(balance: &Balance) -> (Arc<Backend>, Rc<Balancer>) {
    let mut servers: Vec<_> = (0..3).map(|i| server(i, 1)).collect();
    servers.iter_mut().for_each(|s| s.max_requests = 1);
    servers[2].backup = true;
    let backend = backend(balance, servers);
    let balancer = balancer(&backend, 1);
    (backend, balancer)
}

#[test]
fn full_primaries_do_not_bring_in_the_backup() {
    for balance in &POLICIES {
        let (_, balancer) = two_and_a_backup(balance);
        let mut dice = Dice::new(1);
        let held: Vec<Lease> = (0..2).map(|_| balancer.pick(&ask(0), &mut dice).unwrap()).collect();
        assert_eq!(balancer.pick(&ask(0), &mut dice).unwrap_err(), NoServer::Full);
        assert!(held.iter().all(|lease| lease.index() < 2), "{balance:?}");
    }
}

#[test]
fn the_backup_serves_when_every_primary_was_tried_or_refuses() {
    for balance in &POLICIES {
        let (backend, balancer) = two_and_a_backup(balance);
        let mut dice = Dice::new(1);
        backend.servers[0].live.refused(NOW);
        assert_eq!(pick(&balancer, &[1], &mut dice), Ok(2));
        assert_eq!(pick(&balancer, &[], &mut dice), Ok(1));
        assert_eq!(
            pick(&balancer, &[1, 2], &mut dice),
            Ok(0),
            "{balance:?}: better one that refused than none"
        );
        assert_eq!(pick(&balancer, &[0, 1, 2], &mut dice), Err(NoServer::Tried));
        backend.servers[0].live.connected();
        assert_eq!(pick(&balancer, &[1], &mut dice), Ok(0));
    }
}

#[test]
fn a_server_that_refused_is_chosen_again_after_a_second() {
    for balance in POLICIES.iter().filter(|b| **b != Balance::First) {
        let backend = backend(balance, (0..6).map(|i| server(i, 1)).collect());
        let (balancer, mut dice) = (balancer(&backend, 1), Dice::new(1));
        backend.servers[3].live.refused(NOW);
        let mut picks_at = |now| {
            let mut at = |number: u64| {
                let key = hash_key(&number.to_le_bytes());
                balancer.pick(&Ask { now: Micros(now * 1_000), key, tried: &[] }, &mut dice).unwrap().index()
            };
            (0..200).filter(|&number| at(number) == 3).count()
        };
        assert_eq!(picks_at(NOW.0 + 999), 0, "{balance:?}");
        assert!(picks_at(NOW.0 + 1_000) > 0, "{balance:?}");
    }
}
