//! Wrong policies. Each is right but for one thing, which its name tells; where the field has it, the comment says who.

use plimsoll_sim::contracts::{Stand, Subject};
use plimsoll_traffic::hash_key;

use super::fleet::{Fleet, Ruled};

type Made = Box<dyn Subject>;

fn of_eligible(
    servers: &[Stand],
    seed: u64,
    mut choose: impl FnMut(&mut Fleet, u64, &[usize]) -> Option<usize> + 'static,
) -> Made {
    let rule = move |fleet: &mut Fleet, key: u64, tried: &[u32]| {
        let eligible = fleet.eligible(tried);
        choose(fleet, key, &eligible)
    };
    Ruled::boxed(servers, seed, Box::new(rule))
}

/// Any eligible one, by chance: right for equal weights and `Chance`, wrong for all that promise more.
pub(crate) fn fair_coin(servers: &[Stand], seed: u64) -> Made {
    of_eligible(servers, seed, |fleet, _, eligible| fleet.any(eligible))
}

pub(crate) fn blind_to_weights(servers: &[Stand], seed: u64) -> Made {
    fair_coin(servers, seed)
}

/// Four bits modulo the number of servers.
pub(crate) fn biased(servers: &[Stand], seed: u64) -> Made {
    of_eligible(servers, seed, |fleet, _, eligible| {
        eligible.get(fleet.dice.below(16) as usize % eligible.len().max(1)).copied()
    })
}

pub(crate) fn fond_of_the_first(servers: &[Stand], seed: u64) -> Made {
    of_eligible(servers, seed, |fleet, _, eligible| {
        if fleet.dice.below(20) == 0 { eligible.first().copied() } else { fleet.any(eligible) }
    })
}

pub(crate) fn without_the_last(servers: &[Stand], seed: u64) -> Made {
    of_eligible(servers, seed, |fleet, _, eligible| {
        let but_last = &eligible[..eligible.len().saturating_sub(1).max(1).min(eligible.len())];
        fleet.any(but_last)
    })
}

/// Turns over all servers, and whoever follows a dead one takes its turns too, as in Caddy.
pub(crate) fn skipping_turns(servers: &[Stand], seed: u64) -> Made {
    let mut turn = 0;
    of_eligible(servers, seed, move |fleet, _, eligible| {
        let n = fleet.servers.len();
        let chosen = (0..n).map(|i| (turn + i) % n).find(|i| eligible.contains(i));
        turn = (turn + 1) % n;
        chosen
    })
}

/// The earliest deadline, whether its window is open or not, as Envoy's and Traefik's weighted round robin: the heavy
/// server is served in a burst.
pub(crate) fn bursts(servers: &[Stand], seed: u64) -> Made {
    of_eligible(servers, seed, |fleet, _, eligible| {
        let deadline = |i: usize| (fleet.picks[i] + 1) as f64 / f64::from(fleet.servers[i].weight);
        eligible.iter().copied().min_by(|&a, &b| deadline(a).total_cmp(&deadline(b)))
    })
}

pub(crate) fn least_busy(servers: &[Stand], seed: u64) -> Made {
    of_eligible(servers, seed, |fleet, _, eligible| {
        let least = eligible.iter().map(|&i| fleet.in_flight[i]).min()?;
        let idle: Vec<usize> = eligible.iter().copied().filter(|&i| fleet.in_flight[i] == least).collect();
        fleet.any(&idle)
    })
}

/// Best of two, equals decided by who was drawn first.
pub(crate) fn best_of_two_without_ties(servers: &[Stand], seed: u64) -> Made {
    of_eligible(servers, seed, |fleet, _, eligible| {
        let a = fleet.any(eligible)?;
        let others: Vec<usize> = eligible.iter().copied().filter(|&i| i != a).collect();
        let b = fleet.any(&others).unwrap_or(a);
        Some(if fleet.in_flight[b] < fleet.in_flight[a] { b } else { a })
    })
}

/// Best of two draws that may hit the same server, as in Envoy: of two, the busier is chosen every fourth time.
pub(crate) fn draws_with_replacement(servers: &[Stand], seed: u64) -> Made {
    of_eligible(servers, seed, |fleet, _, eligible| {
        let (a, b) = (fleet.any(eligible)?, fleet.any(eligible)?);
        Some(if fleet.in_flight[b] < fleet.in_flight[a] { b } else { a })
    })
}

pub(crate) fn blind_to_room(servers: &[Stand], seed: u64) -> Made {
    let rule = |fleet: &mut Fleet, _: u64, tried: &[u32]| {
        let all = fleet.candidates(tried);
        let up: Vec<usize> =
            all.iter().copied().filter(|&i| fleet.is_up(i) && !fleet.servers[i].backup).collect();
        fleet.any(if up.is_empty() { &all } else { &up })
    };
    Ruled::boxed(servers, seed, Box::new(rule))
}

pub(crate) fn blind_to_outages(servers: &[Stand], seed: u64) -> Made {
    let rule = |fleet: &mut Fleet, _: u64, tried: &[u32]| {
        let open: Vec<usize> = fleet.candidates(tried).into_iter().filter(|&i| fleet.has_room(i)).collect();
        fleet.any(&open)
    };
    Ruled::boxed(servers, seed, Box::new(rule))
}

/// The key modulo the servers that are left, as plain `hash` in nginx and map-based hashes in HAProxy.
pub(crate) fn modulo(servers: &[Stand], seed: u64) -> Made {
    of_eligible(servers, seed, |_, key, eligible| {
        eligible.get((key % eligible.len().max(1) as u64) as usize).copied()
    })
}

/// A ring with 16 points a server, as HAProxy's with its default weight.
pub(crate) fn uneven_ring(servers: &[Stand], seed: u64) -> Made {
    of_eligible(servers, seed, |fleet, key, eligible| {
        let point = |i: usize, n: u32| hash_key(format!("{}-{n}", fleet.servers[i].name).as_bytes());
        let points = eligible.iter().flat_map(|&i| (0..16).map(move |n| (i, n)));
        points.min_by_key(|&(i, n)| point(i, n).wrapping_sub(key)).map(|(i, _)| i)
    })
}

pub(crate) fn from_the_end(servers: &[Stand], seed: u64) -> Made {
    of_eligible(servers, seed, |_, _, eligible| eligible.last().copied())
}
