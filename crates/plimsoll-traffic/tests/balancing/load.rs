//! The lighter server: policies that look at load, checked over every small backend there is.

use plimsoll_config::model::Balance;
use plimsoll_traffic::{Dice, NoServer};

use crate::fleet::{POLICIES, ask, backend, balancer, occupy_all, server, weighted};

/// Whether no other open server has less in flight for its weight.
fn is_lightest(picked: usize, open: &[usize], in_flight: &[u32], weights: &[u16]) -> bool {
    let lighter =
        |&i: &usize| in_flight[i] * u32::from(weights[picked]) < in_flight[picked] * u32::from(weights[i]);
    !open.iter().any(lighter)
}

#[test]
fn least_conn_never_picks_a_non_minimum() {
    let mut dice = Dice::new(1);
    let mut p2c_did = 0;
    for _ in 0..300 {
        let n = 5 + dice.below(20) as usize;
        let weights: Vec<u16> = (0..n).map(|_| 1 + dice.below(5) as u16).collect();
        let in_flight: Vec<u32> = (0..n).map(|_| dice.below(10)).collect();
        let all: Vec<usize> = (0..n).collect();
        let mut picks_lightest = |balance: &Balance| {
            let backend = weighted(balance, &weights);
            let _load = occupy_all(&backend, &in_flight);
            let picked = balancer(&backend, 7).pick(&ask(0), &mut dice).unwrap().index() as usize;
            is_lightest(picked, &all, &in_flight, &weights)
        };
        assert!(picks_lightest(&Balance::LeastConn), "{weights:?} {in_flight:?}");
        p2c_did += u32::from(!picks_lightest(&Balance::P2c));
    }
    assert!(p2c_did > 30, "the check must notice a non-minimum, and p2c takes some: {p2c_did}");
}

/// Every way in which `n` servers can have 0, 1 or 2 (that is, all they may have) in flight.
fn every_load(n: u32) -> impl Iterator<Item = Vec<u32>> {
    (0..3u32.pow(n)).map(move |code| (0..n).map(|i| code / 3u32.pow(i) % 3).collect())
}

fn check(balance: &Balance, in_flight: &[u32], picked: Result<usize, NoServer>) {
    let open: Vec<usize> = (0..in_flight.len()).filter(|&i| in_flight[i] < 2).collect();
    let Ok(picked) = picked else {
        assert_eq!((picked, open.len()), (Err(NoServer::Full), 0), "{balance:?} {in_flight:?}");
        return;
    };
    assert!(open.contains(&picked), "{balance:?} {in_flight:?}");
    let lightest = is_lightest(picked, &open, in_flight, &[1; 6]);
    let worst_of_many =
        open.len() > 1 && open.iter().all(|&i| i == picked || in_flight[i] < in_flight[picked]);
    match balance {
        Balance::LeastConn => assert!(lightest, "{in_flight:?}"),
        Balance::P2c => {
            assert!(lightest || in_flight.len() > 4, "at most four are all looked at: {in_flight:?}");
            assert!(!worst_of_many, "the one worst of many loses every pair: {in_flight:?}");
        }
        Balance::First => assert_eq!(picked, open[0]),
        _ => {}
    }
}

#[test]
fn over_every_small_backend_load_decides_as_promised() {
    for (balance, n) in POLICIES.iter().flat_map(|balance| (1..=6).map(move |n| (balance, n))) {
        let servers = (0..n as usize).map(|i| {
            let mut server = server(i, 1);
            server.max_requests = 2;
            server
        });
        let backend = backend(balance, servers.collect());
        let (balancer, mut dice) = (balancer(&backend, 3), Dice::new(5));
        for in_flight in every_load(n) {
            let _load = occupy_all(&backend, &in_flight);
            for key in 0..4 {
                let picked = balancer.pick(&ask(key), &mut dice).map(|lease| lease.index() as usize);
                check(balance, &in_flight, picked);
            }
        }
    }
}

#[test]
fn p2c_looks_at_all_when_a_retry_leaves_four() {
    let backend = weighted(&Balance::P2c, &[1; 5]);
    let _load = occupy_all(&backend, &[0, 3, 3, 3, 2]);
    let (balancer, mut dice) = (balancer(&backend, 1), Dice::new(1));
    let retry = plimsoll_traffic::Ask { tried: &[0], ..ask(0) };
    assert!((0..200).all(|_| balancer.pick(&retry, &mut dice).unwrap().index() == 4));
    let all = (0..200).filter(|_| balancer.pick(&ask(0), &mut dice).unwrap().index() == 0).count();
    assert!(all < 120, "of five, two are drawn: {all}");
}
