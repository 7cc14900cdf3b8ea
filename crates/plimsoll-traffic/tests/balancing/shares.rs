//! Who gets how much: weights, ties, turns, and how seldom a server that misbehaves can be chosen.

use std::collections::VecDeque;

use plimsoll_config::model::Balance;
use plimsoll_traffic::{Ask, Dice, Lease, Micros};

use crate::fleet::{POLICIES, ask, balancer, counts, occupy_all, server, weighted};

const WEIGHTS: [u16; 9] = [1, 2, 3, 4, 10, 0, 30, 50, 100];

/// The largest difference between a server's share and its weight's, as a part of all picks.
fn error(counts: &[f64], weights: &[u16]) -> f64 {
    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    let picks: f64 = counts.iter().sum();
    counts.iter().zip(weights).map(|(c, &w)| (c / picks - f64::from(w) / total).abs()).fold(0.0, f64::max)
}

#[test]
fn weights_are_honoured_within_one_percent() {
    for balance in POLICIES.iter().filter(|b| **b != Balance::First) {
        for seed in 0..3 {
            let counts = counts(&balancer(&weighted(balance, &WEIGHTS), seed), 100_000, seed);
            assert!(error(&counts, &WEIGHTS) < 0.01, "{balance:?}: {counts:?}");
            assert_eq!(counts[5], 0.0, "{balance:?} picked weight 0");
        }
    }
}

#[test]
fn the_weight_check_notices_a_policy_that_ignores_weights() {
    let counts = counts(&balancer(&weighted(&Balance::P2c, &[1; 9]), 1), 100_000, 1);
    assert!(error(&counts, &WEIGHTS) > 0.1);
}

#[test]
fn p2c_honours_weights_beside_one_that_outweighs_all_others() {
    let weights = [65_535, 1_000, 1_000, 2_000, 3_000, 500];
    let counts = counts(&balancer(&weighted(&Balance::P2c, &weights), 1), 100_000, 2);
    assert!(error(&counts, &weights) < 0.002, "{counts:?}");
}

#[test]
fn p2c_honours_weights_while_time_passes_and_counts_fade() {
    let (balancer, mut dice) = (balancer(&weighted(&Balance::P2c, &WEIGHTS), 1), Dice::new(3));
    let mut counts = [0.0; 9];
    for pick in 0..100_000 {
        let ask = Ask { now: Micros(pick * 1_000), ..ask(0) };
        counts[balancer.pick(&ask, &mut dice).unwrap().index() as usize] += 1.0;
    }
    assert!(error(&counts, &WEIGHTS) < 0.01, "{counts:?}");
}

#[test]
fn round_robin_is_exact() {
    for weights in [&WEIGHTS[..], &[1; 7], &[3; 5], &[65_535, 1, 65_535]] {
        let period: usize = weights.iter().map(|&w| usize::from(w)).sum();
        let counts = counts(&balancer(&weighted(&Balance::RoundRobin, weights), 5), period, 1);
        assert!(counts.iter().zip(weights).all(|(&c, &w)| c == f64::from(w)), "{counts:?}");
    }
}

#[test]
fn workers_begin_their_rounds_at_different_servers() {
    let backend = weighted(&Balance::RoundRobin, &[1; 10]);
    let first = |seed| balancer(&backend, seed).pick(&ask(0), &mut Dice::new(0)).unwrap().index();
    let firsts: std::collections::BTreeSet<u32> = (0..100).map(first).collect();
    assert_eq!(firsts.len(), 10);
}

#[test]
fn ties_spread_within_eight_percent_over_1600_idle_servers() {
    let spread = |balance: &Balance| {
        let counts = counts(&balancer(&weighted(balance, &[1; 1_600]), 1), 1_000_000, 4);
        counts.iter().map(|c| (c / 625.0 - 1.0).abs()).fold(0.0, f64::max)
    };
    let p2c = spread(&Balance::P2c);
    assert!(p2c < 0.08, "{p2c}");
    let random = spread(&Balance::Random);
    assert!(random > 0.08, "the check must notice draws without a tie rule: {random}");
}

/// Serves `picks` with the last `busy` leases in flight, except those of server 0: when `hangs` it keeps all of its
/// own, else it ends them at once, as a server does that fails fast. Gives server 0's share.
fn share_of_a_misbehaving_server(balance: &Balance, weights: &[u16], hangs: bool, picks: usize) -> f64 {
    let (balancer, mut dice) = (balancer(&weighted(balance, weights), 1), Dice::new(9));
    let (mut busy, mut hung, mut count) = (VecDeque::<Lease>::new(), Vec::new(), 0);
    for _ in 0..picks {
        let lease = balancer.pick(&ask(0), &mut dice).expect("nobody is ever full");
        if lease.index() == 0 {
            count += 1;
            if hangs {
                hung.push(lease);
            }
        } else {
            busy.push_back(lease);
            if busy.len() > 4 * weights.len() {
                // A random one, since service times vary.
                busy.swap_remove_back(dice.below(busy.len() as u32) as usize);
            }
        }
    }
    f64::from(count) / picks as f64
}

/// The probability that server 0 is one of two drawn by weight without replacement: 2/n when all weights are equal.
fn drawn(weights: &[u16]) -> f64 {
    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    let second: f64 = weights[1..].iter().map(|&w| f64::from(w) / (total - f64::from(w))).sum();
    f64::from(weights[0]) / total * (1.0 + second)
}

#[test]
fn p2c_never_gives_a_misbehaving_server_more_than_it_is_drawn() {
    for weights in [&[1; 50][..], &[1; 10], &[3, 1, 1, 2, 2, 5, 1, 4, 1], &[9, 1, 1, 2, 2, 5, 1, 4, 1]] {
        let bound = drawn(weights);
        let fails_fast = share_of_a_misbehaving_server(&Balance::P2c, weights, false, 40_000);
        // Four standard deviations of a count over 40,000.
        let noise = 4.0 * (bound * (1.0 - bound) / 40_000.0).sqrt();
        assert!(fails_fast < bound + noise, "{fails_fast} of {bound} for {weights:?}");
        let hangs = share_of_a_misbehaving_server(&Balance::P2c, weights, true, 40_000);
        assert!(hangs < 0.005, "{hangs} for {weights:?}");
    }
    assert!((drawn(&[1; 50]) - 2.0 / 50.0).abs() < 1e-12);
}

#[test]
fn the_bound_holds_for_no_other_policy() {
    let bound = drawn(&[1; 50]);
    let least_conn = share_of_a_misbehaving_server(&Balance::LeastConn, &[1; 50], false, 10_000);
    assert!(least_conn > 2.0 * bound, "a server that fails fast draws everything: {least_conn}");
    let round_robin = share_of_a_misbehaving_server(&Balance::RoundRobin, &[1; 50], true, 10_000);
    assert!((round_robin - 0.02).abs() < 1e-9, "a hanging server keeps its turn: {round_robin}");
}

/// The probability that each server wins, when pairs are drawn by weight and the lighter of a pair wins.
fn wins(weights: &[f64], order: &[usize], replaced: bool) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    let pair = |a: usize, b: usize| match (a == b, replaced) {
        (true, false) => 0.0,
        (_, true) => weights[a] * weights[b] / (total * total),
        (false, false) => weights[a] / total * weights[b] / (total - weights[a]),
    };
    let mut wins = vec![0.0; weights.len()];
    for (rank, &a) in order.iter().enumerate() {
        wins[a] += pair(a, a);
        order[rank + 1..].iter().for_each(|&b| wins[a] += pair(a, b) + pair(b, a));
    }
    wins
}

fn chi_square(counts: &[f64], probabilities: &[f64]) -> f64 {
    let picks: f64 = counts.iter().sum();
    let expected = probabilities.iter().map(|p| p * picks).filter(|&e| e > 0.0);
    let counts = counts.iter().zip(probabilities).filter(|&(_, &p)| p > 0.0).map(|(c, _)| c);
    counts.zip(expected).map(|(c, e)| (c - e) * (c - e) / e).sum()
}

#[test]
fn p2c_draws_pairs_by_weight_without_replacement() {
    for weights in [[1u16; 8], [1, 2, 3, 4, 5, 6, 7, 8]] {
        // A load that differs everywhere tells who was in the pair; turned round, it tells so of every pair.
        for turn in 0..8 {
            let order: Vec<usize> = (0..8).map(|i| (i + turn) % 8).collect();
            let mut in_flight = [0; 8];
            order
                .iter()
                .enumerate()
                .for_each(|(rank, &i)| in_flight[i] = rank as u32 * u32::from(weights[i]));
            let backend = weighted(&Balance::P2c, &weights);
            let _load = occupy_all(&backend, &in_flight);
            let counts = counts(&balancer(&backend, 1), 40_000, turn as u64);
            let weights = weights.map(f64::from);
            // 0.01 % point of 6 degrees of freedom: 16 tests with fixed seeds.
            let chi = chi_square(&counts, &wins(&weights, &order, false));
            assert!(chi < 27.9, "{chi}: {counts:?}");
            assert_eq!(counts[order[7]], 0.0, "the strictly worst was chosen");
            let twin = chi_square(&counts, &wins(&weights, &order, true));
            assert!(twin > 100.0, "the check must notice draws with replacement: {twin}");
        }
    }
}

#[test]
fn first_serves_later_servers_only_when_earlier_ones_are_full() {
    let mut servers: Vec<_> = (0..3).map(|i| server(i, 1)).collect();
    servers.iter_mut().for_each(|s| s.max_requests = 2);
    let balancer = balancer(&crate::fleet::backend(&Balance::First, servers), 1);
    let mut dice = Dice::new(1);
    let mut pick = || balancer.pick(&ask(0), &mut dice).unwrap();
    let mut leases: Vec<Lease> = (0..5).map(|_| pick()).collect();
    assert_eq!(leases.iter().map(Lease::index).collect::<Vec<_>>(), [0, 0, 1, 1, 2]);
    drop(leases.remove(0));
    assert_eq!(pick().index(), 0);
}
