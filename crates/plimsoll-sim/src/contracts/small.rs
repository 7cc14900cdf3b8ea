//! Contracts of small backends, checked exhaustively: 1 to 6 servers, every combination of states.
//!
//! Small is where balancers are wrong and nobody looks: two draws of two servers with replacement, a neighbour that inherits a dead
//! server's turns, a backup that steps in too early. What is expected is stated here in terms of what users are told; it must never
//! be worked out by asking the code under test.

use plimsoll_traffic::Dice;

use super::promise::{Kind, Spread};
use super::shares::{chi_bound, counts, idle_choices};
use super::statistics::chi_square;
use super::subject::{End, Maker, Stand, Subject};
use super::{Reading, Unit};

/// The largest backend whose servers take every state.
pub(super) const LARGEST: usize = 6;
/// The largest backend whose servers are also of every role.
pub(super) const WITH_ROLES: usize = 4;
/// What a server takes at once here.
pub(super) const ROOM: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Primary,
    Backup,
    /// Of weight 0.
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Idle,
    Busy,
    Full,
    Down,
    Tried,
}

pub(super) const ROLES: [Role; 3] = [Role::Primary, Role::Backup, Role::Off];
pub(super) const STATES: [State; 5] = [State::Idle, State::Busy, State::Full, State::Down, State::Tried];

/// Every way to give each of `n` places one of `values`.
pub(super) fn every<T: Copy>(values: &[T], n: usize) -> impl Iterator<Item = Vec<T>> {
    let all = values.len().pow(n as u32);
    (0..all).map(move |number| {
        let digit = |place: usize| number / values.len().pow(place as u32) % values.len();
        (0..n).map(|place| values[digit(place)]).collect()
    })
}

pub(super) fn choices(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    let mut broken = 0u64;
    let mut dice = Dice::new(seed ^ 3);
    for n in 1..=LARGEST {
        let roles: Vec<Vec<Role>> =
            if n <= WITH_ROLES { every(&ROLES, n).collect() } else { vec![vec![Role::Primary; n]] };
        for roles in roles {
            let stands: Vec<Stand> = roles.iter().enumerate().map(|(i, &role)| stand(i, role)).collect();
            let mut subject = make(&stands, dice.next());
            for states in every(&STATES, n) {
                broken += u64::from(!case(kind, &mut *subject, &roles, &states, dice.next()));
            }
        }
    }
    Reading::Measured { figure: broken as f64, bound: 0.0, unit: Unit::Cases }
}

pub(super) fn stand(number: usize, role: Role) -> Stand {
    Stand {
        weight: u16::from(role != Role::Off),
        backup: role == Role::Backup,
        max_requests: ROOM,
        ..Stand::numbered(number)
    }
}

/// Brings the servers into these states, asks once, and takes the states back.
fn case(kind: Kind, subject: &mut dyn Subject, roles: &[Role], states: &[State], key: u64) -> bool {
    let loads: Vec<u32> = states.iter().zip(roles).map(|(&state, &role)| load(state, role)).collect();
    let mut right = true;
    for (server, &load) in loads.iter().enumerate() {
        // All others are said to be tried, so there is only one to choose.
        let others: Vec<u32> = (0..states.len() as u32).filter(|&i| i as usize != server).collect();
        for _ in 0..load {
            right &= subject.pick(key, &others) == Some(server);
        }
    }
    let tried: Vec<u32> = (0u32..).zip(states).filter(|&(_, &s)| s == State::Tried).map(|(i, _)| i).collect();
    states.iter().enumerate().filter(|(_, s)| **s == State::Down).for_each(|(i, _)| subject.refuse(i));
    if right {
        let chosen = subject.pick(key, &tried);
        right = is_right(kind, roles, states, chosen);
        // All take equally long, so that a policy that measures has no reason to prefer one.
        subject.wait(1_000);
        if let Some(server) = chosen {
            subject.end(server, End::Answered);
        }
        (0..states.len())
            .for_each(|server| (0..loads[server]).for_each(|_| subject.end(server, End::Answered)));
    }
    // What was down is up again.
    subject.wait(1_001_000);
    right
}

pub(super) fn load(state: State, role: Role) -> u32 {
    match state {
        State::Busy if role != Role::Off => 1,
        State::Full if role != Role::Off => ROOM,
        _ => 0,
    }
}

/// What users are told: primaries that are up, then backups that are up, then whoever may be tried; never one that is full, tried
/// or without weight; and full primaries don't bring in the backups.
pub(super) fn is_right(kind: Kind, roles: &[Role], states: &[State], chosen: Option<usize>) -> bool {
    let of = |role: Role| (0..roles.len()).filter(move |&i| roles[i] == role && states[i] != State::Tried);
    let up = |role: Role| of(role).filter(|&i| states[i] != State::Down).collect::<Vec<_>>();
    let class =
        [up(Role::Primary), up(Role::Backup), of(Role::Primary).collect(), of(Role::Backup).collect()]
            .into_iter()
            .find(|class| !class.is_empty())
            .unwrap_or_default();
    let open: Vec<usize> = class.into_iter().filter(|&i| states[i] != State::Full).collect();
    match chosen {
        None => open.is_empty(),
        Some(server) => open.contains(&server) && is_less_busy(kind, states, &open, server),
    }
}

/// The best of all is never busier than another; the best of two or more draws is never the busiest of all.
fn is_less_busy(kind: Kind, states: &[State], open: &[usize], chosen: usize) -> bool {
    let busy = |i: usize| states[i] == State::Busy;
    let idle = open.iter().filter(|&&i| !busy(i)).count();
    match kind {
        Kind::Best => !busy(chosen) || idle == 0,
        Kind::BestOf(d) => !busy(chosen) || open.len() - idle >= d as usize || idle == 0,
        Kind::Order => Some(&chosen) == open.first(),
        _ => true,
    }
}

/// For every backend and every set of servers that are down: whether those left share evenly.
pub(super) fn shares(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    const EACH: u64 = 400;
    if kind == Kind::Order {
        return Reading::Unpromised("idle, the first server takes everything");
    }
    let mut broken = 0u64;
    for n in 1..=LARGEST {
        for is_down in every(&[false, true], n).filter(|down| down.contains(&false)) {
            let mut subject = make(&named_by(n, seed), seed + n as u64);
            (0..n).filter(|&i| is_down[i]).for_each(|i| subject.refuse(i));
            let left: Vec<usize> = (0..n).filter(|&i| !is_down[i]).collect();
            let requests = EACH * left.len() as u64;
            let chosen = counts(&idle_choices(&mut *subject, requests, seed), n);
            let of_left: Vec<u64> = left.iter().map(|&i| chosen[i]).collect();
            let all = of_left.iter().sum::<u64>() == requests;
            let kind = match kind {
                Kind::Keys(spread) => Kind::Keys(Spread { error: spread.outage, ..spread }),
                kind => kind,
            };
            let even = left.len() == 1
                || chi_square(&of_left, &vec![1.0 / left.len() as f64; left.len()])
                    <= chi_bound(kind, left.len(), requests);
            broken += u64::from(!(all && even));
        }
    }
    Reading::Measured { figure: broken as f64, bound: 0.0, unit: Unit::Cases }
}

/// Servers whose names change with the seed: hashes go by them, and a lucky choice would hide what others meet.
fn named_by(n: usize, seed: u64) -> Vec<Stand> {
    let mut dice = Dice::new(seed ^ n as u64);
    let name = |i| Stand { name: format!("127.0.0.1:{}", 30_000 + dice.below(30_000)), ..Stand::numbered(i) };
    (0..n).map(name).collect()
}

/// Fills a backend and lets requests end at random: a later server gets one only while all before it are full.
pub(super) fn order(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    const SERVERS: usize = 4;
    if kind != Kind::Order {
        return Reading::Unpromised("does not go by the order of the file");
    }
    let stands: Vec<Stand> = (0..SERVERS).map(|i| stand(i, Role::Primary)).collect();
    let mut subject = make(&stands, seed);
    let mut dice = Dice::new(seed ^ 4);
    let mut loads = [0u32; SERVERS];
    let mut broken = 0u64;
    for _ in 0..10_000 {
        let server = dice.below(SERVERS as u32) as usize;
        if dice.below(2) == 0 && loads[server] > 0 {
            subject.end(server, End::Answered);
            loads[server] -= 1;
            continue;
        }
        let chosen = subject.pick(dice.next(), &[]);
        broken += u64::from(chosen != loads.iter().position(|&load| load < ROOM));
        if let Some(server) = chosen {
            loads[server] += 1;
        }
    }
    Reading::Measured { figure: broken as f64, bound: 0.0, unit: Unit::Cases }
}
