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

/// Whoever has room, backups too.
pub(crate) fn backups_for_the_full(servers: &[Stand], seed: u64) -> Made {
    let rule = |fleet: &mut Fleet, _: u64, tried: &[u32]| {
        let eligible = fleet.eligible(tried);
        let open = |&i: &usize| fleet.has_room(i) && fleet.is_up(i);
        let all: Vec<usize> = fleet.candidates(tried).into_iter().filter(open).collect();
        fleet.any(if eligible.is_empty() { &all } else { &eligible })
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

/// A key's own server by the place in the list, and from there the next that `fits`.
fn next_that_fits(
    fleet: &Fleet,
    key: u64,
    eligible: &[usize],
    fits: impl Fn(&Fleet, usize) -> bool,
) -> Option<usize> {
    let n = fleet.servers.len();
    let order = (0..n).map(|i| (hash_key(&key.to_le_bytes()) as usize % n + i) % n);
    let mut open = order.filter(|i| eligible.contains(i));
    open.clone().find(|&i| fits(fleet, i)).or_else(|| open.next())
}

/// What bounded loads of 1.25 let a server have besides the request that is placed.
fn room_within_bound(fleet: &Fleet, server: usize) -> u64 {
    let all = fleet.in_flight.iter().map(|&f| u64::from(f)).sum::<u64>() + 1;
    let weights: u64 = fleet.servers.iter().map(|s| u64::from(s.weight)).sum();
    (125 * all * u64::from(fleet.servers[server].weight)).div_ceil(100 * weights)
}

/// Right: what the wrong ones below are but for one thing.
pub(crate) fn bounded(servers: &[Stand], seed: u64) -> Made {
    of_eligible(servers, seed, |fleet, key, eligible| {
        next_that_fits(fleet, key, eligible, |f, i| u64::from(f.in_flight[i]) < room_within_bound(f, i))
    })
}

pub(crate) fn without_bound(servers: &[Stand], seed: u64) -> Made {
    of_eligible(servers, seed, |fleet, key, eligible| next_that_fits(fleet, key, eligible, |_, _| true))
}

/// Admits one more than the bound, as Envoy's.
pub(crate) fn one_above_the_bound(servers: &[Stand], seed: u64) -> Made {
    of_eligible(servers, seed, |fleet, key, eligible| {
        next_that_fits(fleet, key, eligible, |f, i| u64::from(f.in_flight[i]) <= room_within_bound(f, i))
    })
}

/// Keeps the bound and forgets the key.
pub(crate) fn within_the_bound_whoever(servers: &[Stand], seed: u64) -> Made {
    of_eligible(servers, seed, |fleet, _, eligible| {
        let fits = |&i: &usize| u64::from(fleet.in_flight[i]) < room_within_bound(fleet, i);
        let fitting: Vec<usize> = eligible.iter().copied().filter(fits).collect();
        fleet.any(if fitting.is_empty() { eligible } else { &fitting })
    })
}

/// Keys that have moved stay where they are when their server is back, as in a table of sessions that is learned.
pub(crate) fn never_returns(servers: &[Stand], seed: u64) -> Made {
    let mut away = std::collections::HashSet::new();
    of_eligible(servers, seed, move |fleet, key, eligible| {
        let n = fleet.servers.len();
        away.extend((0..n).filter(|i| !eligible.contains(i)));
        next_that_fits(fleet, key, eligible, |_, i| !away.contains(&i))
    })
}

/// Any that is up in the first level for which `takes` says so, of `(level, up, all)`; backups are level 3.
fn by_level(
    servers: &[Stand],
    seed: u64,
    takes: impl Fn(&mut Fleet, usize, usize) -> bool + 'static,
) -> Made {
    let rule = move |fleet: &mut Fleet, _: u64, _: &[u32]| {
        let n = fleet.servers.len();
        let level =
            |fleet: &Fleet, i: usize| if fleet.servers[i].backup { 3 } else { fleet.servers[i].priority };
        let mut last = None;
        for place in 0..4 {
            let all: Vec<usize> = (0..n).filter(|&i| level(fleet, i) == place).collect();
            let up: Vec<usize> = all.iter().copied().filter(|&i| fleet.is_up(i)).collect();
            if !up.is_empty() && takes(fleet, up.len(), all.len()) {
                return fleet.any(&up);
            }
            last = if up.is_empty() { last } else { Some(up) };
        }
        last.and_then(|up| fleet.any(&up)).or_else(|| fleet.any(&(0..n).collect::<Vec<_>>()))
    };
    Ruled::boxed(servers, seed, Box::new(rule))
}

/// The first level with anybody takes everything, as backups in nginx and HAProxy do.
pub(crate) fn all_or_nothing(servers: &[Stand], seed: u64) -> Made {
    by_level(servers, seed, |_, _, _| true)
}

/// A level takes what part of it is up, without the reserve that every level has.
pub(crate) fn without_reserve(servers: &[Stand], seed: u64) -> Made {
    by_level(servers, seed, |fleet, up, all| fleet.dice.below(all as u32) < up as u32)
}

/// The rule's parts for the first level, and backups as if they were one more level.
pub(crate) fn backups_too_early(servers: &[Stand], seed: u64) -> Made {
    by_level(servers, seed, |fleet, up, all| fleet.dice.below(100) < (140 * up / all) as u32)
}

/// A subset of 12: whom `instance` and the list say.
fn some_of(servers: &[Stand], seed: u64, members: Vec<usize>) -> Made {
    of_eligible(servers, seed, move |fleet, _, eligible| {
        let open: Vec<usize> = eligible.iter().copied().filter(|i| members.contains(i)).collect();
        fleet.any(&open)
    })
}

/// All instances use the servers whose names hash lowest.
pub(crate) fn everybody_the_same(servers: &[Stand], seed: u64) -> Made {
    let mut members: Vec<usize> = (0..servers.len()).collect();
    members.sort_by_key(|&i| hash_key(servers[i].name.as_bytes()));
    members.truncate(12);
    some_of(servers, seed, members)
}

/// Twelve in a row of the sorted list, beginning at the instance's place: how many servers there are moves all of them (Google's first one).
pub(crate) fn slices(servers: &[Stand], seed: u64) -> Made {
    let mut members: Vec<usize> = (0..servers.len()).collect();
    members.sort_by_key(|&i| servers[i].name.clone());
    let begin = hash_key(&seed.to_le_bytes()) as usize % servers.len();
    members.rotate_left(begin);
    members.truncate(12);
    some_of(servers, seed, members)
}

/// The first twelve of the file.
pub(crate) fn first_of_the_file(servers: &[Stand], seed: u64) -> Made {
    some_of(servers, seed, (0..servers.len().min(12)).collect())
}
