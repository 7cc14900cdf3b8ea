//! Contracts of subsets: an instance uses so many servers and no others, always the same, and one change changes one of them.
//!
//! Who is used is seen from who is chosen. An instance is told by the seed that its subject is made with.

use std::collections::BTreeSet;

use plimsoll_traffic::Dice;

use super::promise::Kind;
use super::small::LARGEST;
use super::statistics::chi_square_bound;
use super::subject::{End, Maker, Stand};
use super::{Reading, Unit};

const FLEET: usize = 60;
const INSTANCES: u64 = 400;
/// Enough for each server of a subset to be chosen.
const PICKS: u64 = 400;

fn size(kind: Kind) -> Result<usize, Reading> {
    match kind {
        Kind::Subset(size) => Ok(size as usize),
        _ => Err(Reading::Unpromised("uses all servers")),
    }
}

/// The names of all that this instance chooses.
fn used(make: &Maker<'_>, servers: &[Stand], instance: u64, picks: u64) -> BTreeSet<String> {
    let mut subject = make(servers, instance);
    let mut dice = Dice::new(1);
    let mut choose = |_| {
        let server = subject.pick(dice.next(), &[])?;
        subject.end(server, End::Answered);
        Some(servers[server].name.clone())
    };
    (0..picks).filter_map(&mut choose).collect()
}

/// Backends of 1 to 6 servers, of 11 to 13 and of 60, in the order of the file and turned round: the size is right and the servers are the same.
pub(super) fn stable(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    let size = match size(kind) {
        Ok(size) => size,
        Err(unpromised) => return unpromised,
    };
    let mut broken = 0u64;
    for n in (1..=LARGEST).chain(size - 1..=size + 1).chain([FLEET]) {
        let servers = Stand::equal(n);
        let reversed: Vec<Stand> = servers.iter().rev().cloned().collect();
        for instance in seed..seed + 20 {
            let (one, again) =
                (used(make, &servers, instance, PICKS), used(make, &reversed, instance, PICKS));
            broken += u64::from(one.len() != n.min(size) || one != again);
        }
    }
    Reading::Measured { figure: broken as f64, bound: 0.0, unit: Unit::Cases }
}

/// Each of all servers is taken out: the most that the subset loses besides.
pub(super) fn change(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    if let Err(unpromised) = size(kind) {
        return unpromised;
    }
    let servers = Stand::equal(FLEET);
    let before = used(make, &servers, seed, PICKS);
    let lost = |out: usize| {
        let mut left = servers.clone();
        left.remove(out);
        let after = used(make, &left, seed, PICKS);
        before.difference(&after).count().max(after.difference(&before).count())
    };
    let most = (0..FLEET).map(lost).max().unwrap_or(0);
    Reading::Measured { figure: most as f64, bound: 1.0, unit: Unit::Servers }
}

/// How unequally servers are used by many instances: as sampling without replacement would have it.
pub(super) fn even(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    let size = match size(kind) {
        Ok(size) => size,
        Err(unpromised) => return unpromised,
    };
    let servers = Stand::equal(FLEET);
    let mut counts = vec![0u64; FLEET];
    for instance in 0..INSTANCES {
        let used = used(make, &servers, seed * INSTANCES + instance, PICKS);
        servers.iter().zip(&mut counts).filter(|(s, _)| used.contains(&s.name)).for_each(|(_, c)| *c += 1);
    }
    let (n, part) = (FLEET as f64, size as f64 / FLEET as f64);
    let wanted = INSTANCES as f64 * part;
    let squares: f64 = counts.iter().map(|&count| (count as f64 - wanted).powi(2)).sum();
    // The counts of one instance are tied together: their sum is known, and nobody counts twice.
    let figure = squares * (n - 1.0) / n / (wanted * (1.0 - part));
    Reading::Measured { figure, bound: chi_square_bound(FLEET - 1), unit: Unit::ChiSquare }
}
