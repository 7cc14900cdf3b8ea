//! Contracts about shares of idle servers: who gets how many, how smoothly, and how long anybody waits.
//!
//! Each request ends before the next one comes, so load never decides and all that is left is weight, turn and chance.

use plimsoll_traffic::Dice;

use super::promise::{Kind, Spread};
use super::statistics::{RARE, chi_square, chi_square_bound, gap_bound};
use super::subject::{End, Maker, Stand, Subject};
use super::{Reading, Unit};

const EQUAL: usize = 10;
const FIRST_TAKES_ALL: Reading = Reading::Unpromised("idle, the first server takes everything");
/// The list of contracts holds these as what they come down to.
const NOT_ITSELF: Reading = Reading::Unpromised("what chooses among idle servers is another policy");

/// Chooses for each of `requests` random keys and ends each before the next; who was chosen, in order. A request that
/// nobody took is left out, which every contract notices as a missing share.
pub(super) fn idle_choices(subject: &mut dyn Subject, requests: u64, seed: u64) -> Vec<usize> {
    let mut dice = Dice::new(seed ^ 0x6b65_7973);
    (0..requests)
        .filter_map(|_| {
            let server = subject.pick(dice.next(), &[])?;
            // So short that whoever is down stays down, and not nothing, which is no latency.
            subject.wait(1);
            subject.end(server, End::Answered);
            Some(server)
        })
        .collect()
}

pub(super) fn counts(choices: &[usize], servers: usize) -> Vec<u64> {
    let mut counts = vec![0; servers];
    choices.iter().for_each(|&server| counts[server] += 1);
    counts
}

pub(super) fn parts(weights: &[u16]) -> Vec<f64> {
    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    weights.iter().map(|&w| f64::from(w) / total).collect()
}

/// What chi-square stays below; a mapping of keys may also be as uneven as it says.
pub(super) fn chi_bound(kind: Kind, servers: usize, requests: u64) -> f64 {
    let degrees = servers - 1;
    let by_chance = chi_square_bound(degrees);
    match kind {
        Kind::Turns => 0.0,
        Kind::Keys(spread) => by_chance + requests as f64 * spread.error.powi(2) * by_chance / degrees as f64,
        _ => by_chance,
    }
}

/// How far the share of a server may be off, relative to its share, over so many requests.
fn error_bound(kind: Kind, part: f64, weight: u16, requests: u64) -> f64 {
    let by_chance = RARE * ((1.0 - part) / (part * requests as f64)).sqrt();
    match kind {
        // Whoever begins in the middle of a round is owed or owes a request.
        Kind::Turns => 2.0 / (part * requests as f64),
        Kind::Keys(spread) => by_chance + RARE * spread.error / f64::from(weight).sqrt(),
        _ => by_chance,
    }
}

pub(super) fn uniform(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    if kind == Kind::Order {
        return FIRST_TAKES_ALL;
    }
    let requests = 20_000;
    let mut subject = make(&Stand::equal(EQUAL), seed);
    let chosen = counts(&idle_choices(&mut *subject, requests, seed), EQUAL);
    let missing = requests - chosen.iter().sum::<u64>();
    Reading::Measured {
        figure: chi_square(&chosen, &parts(&[1; EQUAL])) + missing as f64,
        bound: chi_bound(kind, EQUAL, requests),
        unit: Unit::ChiSquare,
    }
}

/// The relative error and its bound of the server that is worst in relation to it; one without weight may get nothing.
fn worst_error(kind: Kind, chosen: &[u64], weights: &[u16], requests: u64) -> (f64, f64) {
    let errors = chosen.iter().zip(parts(weights)).zip(weights).filter_map(|((&count, part), &weight)| {
        if weight == 0 {
            return (count > 0).then_some((f64::INFINITY, 0.0));
        }
        let error = (count as f64 / (part * requests as f64) - 1.0).abs();
        Some((error, error_bound(kind, part, weight, requests)))
    });
    errors.max_by(|a, b| (a.0 - a.1).total_cmp(&(b.0 - b.1))).unwrap_or((0.0, 0.0))
}

pub(super) fn weights(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    if kind == Kind::Order {
        return FIRST_TAKES_ALL;
    }
    let weights: [u16; 10] = std::array::from_fn(|i| i as u16 + 1);
    let requests = 55 * 4_000;
    let mut subject = make(&Stand::weighted(&weights), seed);
    let chosen = counts(&idle_choices(&mut *subject, requests, seed), weights.len());
    let (figure, bound) = worst_error(kind, &chosen, &weights, requests);
    Reading::Measured { figure, bound, unit: Unit::Part }
}

pub(super) fn one_down(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    let kind = match kind {
        Kind::Order => return FIRST_TAKES_ALL,
        Kind::Keys(spread) => Kind::Keys(Spread { error: spread.outage, ..spread }),
        kind => kind,
    };
    let weights = [4u16, 3, 2, 1];
    let requests = 60_000;
    let worst = (0..weights.len()).map(|down| {
        let mut subject = make(&Stand::weighted(&weights), seed + down as u64);
        subject.refuse(down);
        let chosen = counts(&idle_choices(&mut *subject, requests, seed), weights.len());
        let mut left = weights;
        left[down] = 0;
        worst_error(kind, &chosen, &left, requests)
    });
    let (figure, bound) =
        worst.max_by(|a, b| (a.0 - a.1).total_cmp(&(b.0 - b.1))).expect("there are four servers");
    Reading::Measured { figure, bound, unit: Unit::Part }
}

pub(super) fn smooth(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    match kind {
        Kind::Turns => {}
        Kind::Order => return FIRST_TAKES_ALL,
        _ => return Reading::Unpromised("the order is left to chance, load or keys"),
    }
    let mut weights = [1u16; 11];
    weights[0] = 10;
    let mut subject = make(&Stand::weighted(&weights), seed);
    let choices = idle_choices(&mut *subject, 4_000, seed);
    // A server's lead over its share moves between two bounds; the widest window spans them.
    let widest = (0..weights.len()).map(|server| {
        let part = parts(&weights)[server];
        let (mut lead, mut least, mut most) = (0.0f64, 0.0f64, 0.0f64);
        for &chosen in &choices {
            lead += f64::from(u8::from(chosen == server)) - part;
            (least, most) = (least.min(lead), most.max(lead));
        }
        most - least
    });
    // Never a whole request ahead or behind: any two moments differ by less than two.
    Reading::Measured { figure: widest.fold(0.0, f64::max), bound: 2.0, unit: Unit::Requests }
}

pub(super) fn starvation(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    let requests = 50_000u64;
    let part = 1.0 / EQUAL as f64;
    let bound = match kind {
        Kind::Order => return FIRST_TAKES_ALL,
        Kind::Turns => EQUAL as f64,
        Kind::Chance => gap_bound(part, requests),
        // Whoever has waited longest wins as soon as it is drawn.
        Kind::BestOf(d) => EQUAL as f64 + gap_bound(f64::from(d) * part, requests),
        Kind::Best => 2.0 * EQUAL as f64,
        Kind::Keys(spread) => gap_bound(part * (1.0 - RARE * spread.error), requests),
        Kind::Reports { .. } | Kind::Subset(_) | Kind::Sessions => return NOT_ITSELF,
    };
    let mut subject = make(&Stand::equal(EQUAL), seed);
    let choices = idle_choices(&mut *subject, requests, seed);
    let mut last = [0usize; EQUAL];
    let mut longest = 0;
    for (at, &server) in choices.iter().enumerate() {
        longest = longest.max(at + 1 - last[server]);
        last[server] = at + 1;
    }
    let longest = last.iter().fold(longest, |longest, &last| longest.max(choices.len() - last));
    Reading::Measured { figure: longest as f64, bound, unit: Unit::Requests }
}

pub(super) fn ties(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    const SERVERS: usize = 200;
    const EACH: u64 = 300;
    let bound = match kind {
        Kind::Turns => 0.0,
        // What HAProxy reached by the same rule: 580 to 628 around 625 (its commit b6bdb2553).
        Kind::BestOf(_) | Kind::Best => 0.08,
        Kind::Order => return FIRST_TAKES_ALL,
        Kind::Chance | Kind::Keys(_) => return Reading::Unpromised("chance or the key decides, not load"),
        Kind::Reports { .. } | Kind::Subset(_) | Kind::Sessions => return NOT_ITSELF,
    };
    let mut subject = make(&Stand::equal(SERVERS), seed);
    let chosen = counts(&idle_choices(&mut *subject, SERVERS as u64 * EACH, seed), SERVERS);
    let (least, most) = (chosen.iter().min().copied(), chosen.iter().max().copied());
    let range = most.zip(least).map_or(f64::NAN, |(most, least)| (most - least) as f64);
    Reading::Measured { figure: range / EACH as f64, bound, unit: Unit::Part }
}
