//! Contracts about keys: what moves when a server is down or taken out, and whether instances agree.
//!
//! Only for policies that go by a key. Servers are compared by name, since their places in the list change.

use std::collections::HashSet;

use plimsoll_traffic::Dice;

use super::promise::{Kind, Spread};
use super::subject::{End, Maker, Stand, Subject};
use super::{Reading, Unit};

const SERVERS: usize = 10;
const KEYS: u64 = 10_000;

fn spread(kind: Kind) -> Result<Spread, Reading> {
    match kind {
        Kind::Keys(spread) => Ok(spread),
        _ => Err(Reading::Unpromised("does not go by keys")),
    }
}

/// Who takes each key.
fn owners(make: &Maker<'_>, servers: &[Stand], down: Option<usize>, seed: u64) -> Vec<Option<String>> {
    let mut subject = make(servers, seed);
    if let Some(down) = down {
        subject.refuse(down);
    }
    // The keys are those of the contract's own seed in every world that is compared.
    let mut dice = Dice::new(7);
    let owner = |_| {
        let server = subject.pick(dice.next(), &[])?;
        subject.wait(1);
        subject.end(server, End::Answered);
        Some(servers[server].name.clone())
    };
    (0..KEYS).map(owner).collect()
}

/// The part of the keys that are not of `without` and have another owner.
fn moved(before: &[Option<String>], after: &[Option<String>], without: &str) -> f64 {
    let others = || before.iter().zip(after).filter(|(before, _)| before.as_deref() != Some(without));
    others().filter(|(before, after)| before != after).count() as f64 / others().count().max(1) as f64
}

/// Keys that the dead server still gets count as moved.
pub(super) fn outage(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    if let Err(unpromised) = spread(kind) {
        return unpromised;
    }
    let servers = Stand::equal(SERVERS);
    let before = owners(make, &servers, None, seed);
    let worst = (0..SERVERS).map(|down| {
        let after = owners(make, &servers, Some(down), seed);
        let dead = after.iter().filter(|owner| owner.as_deref() == Some(&servers[down].name)).count();
        moved(&before, &after, &servers[down].name) + dead as f64 / KEYS as f64
    });
    Reading::Measured { figure: worst.fold(0.0, f64::max), bound: 0.0, unit: Unit::Part }
}

pub(super) fn removal(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    let spread = match spread(kind) {
        Ok(spread) => spread,
        Err(unpromised) => return unpromised,
    };
    let servers = Stand::equal(SERVERS);
    let before = owners(make, &servers, None, seed);
    let worst = (0..SERVERS).map(|out| {
        let mut left = servers.clone();
        let gone = left.remove(out);
        moved(&before, &owners(make, &left, None, seed), &gone.name)
    });
    Reading::Measured { figure: worst.fold(0.0, f64::max), bound: spread.moved, unit: Unit::Part }
}

/// Where each key is now.
fn places(subject: &mut dyn Subject) -> Vec<Option<usize>> {
    let mut dice = Dice::new(7);
    let mut place = |_| {
        let server = subject.pick(dice.next(), &[])?;
        subject.end(server, End::Answered);
        Some(server)
    };
    (0..KEYS).map(&mut place).collect()
}

/// The server is back after a second.
pub(super) fn back(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    if let Err(unpromised) = spread(kind) {
        return unpromised;
    }
    let mut subject = make(&Stand::equal(SERVERS), seed);
    let before = places(&mut *subject);
    subject.refuse(3);
    places(&mut *subject);
    subject.wait(1_001_000);
    let after = places(&mut *subject);
    let moved = before.iter().zip(after).filter(|(before, after)| *before != after).count();
    Reading::Measured { figure: moved as f64 / KEYS as f64, bound: 0.0, unit: Unit::Part }
}

pub(super) fn agreement(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    if let Err(unpromised) = spread(kind) {
        return unpromised;
    }
    let servers = Stand::equal(SERVERS);
    let reversed: Vec<Stand> = servers.iter().rev().cloned().collect();
    let here = owners(make, &servers, None, seed);
    let there = owners(make, &reversed, None, seed + 1);
    // Agreement on one server for everything would be no mapping.
    let used: HashSet<_> = here.iter().flatten().collect();
    let figure = if used.len() == SERVERS { moved(&here, &there, "") } else { f64::INFINITY };
    Reading::Measured { figure, bound: 0.0, unit: Unit::Part }
}
