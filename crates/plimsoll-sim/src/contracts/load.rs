//! Contracts about load: an empty server among full ones, one that never answers, one that fails at once.
//!
//! Time is counted in requests: a healthy server answers after as many further ones as keep the fleet at 70 % of one request each.

use std::collections::VecDeque;

use plimsoll_traffic::Dice;

use super::promise::{Kind, Spread};
use super::statistics::share_bound;
use super::subject::{End, Maker, Stand};
use super::{Reading, Unit};

const FLEET: usize = 50;
const IN_FLIGHT: usize = FLEET * 7 / 10;
const ORDERED: Reading = Reading::Unpromised("the first server with room takes everything");

const BOUNDED: Reading = Reading::Unpromised("what is above the bound elsewhere goes to whoever is idle");
/// What servers say of their latency, in microseconds; who fails at once is fast.
const LATENCY: f32 = 10_000.0;
const AT_ONCE: f32 = 100.0;

/// What a policy that looks at nobody gives one of `n` at most.
fn fair(kind: Kind, n: usize, requests: u64) -> f64 {
    let fair = 1.0 / n as f64;
    match kind {
        Kind::Turns => fair + 1.0 / requests as f64,
        Kind::Keys(spread) => share_bound(fair * (1.0 + 5.0 * spread.error), requests),
        _ => share_bound(fair, requests),
    }
}

pub(super) fn herd(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    const SERVERS: usize = 10;
    let (each, burst) = (1_000, 4_000u64);
    let bound = match kind {
        Kind::BestOf(d) => share_bound(f64::from(d) / SERVERS as f64, burst),
        Kind::Best => return Reading::Unpromised("an empty server takes everything until it is level"),
        Kind::Order => return ORDERED,
        Kind::Keys(Spread { bound: Some(_), .. }) => return BOUNDED,
        _ => fair(kind, SERVERS, burst),
    };
    let mut subject = make(&Stand::equal(SERVERS), seed);
    let mut dice = Dice::new(seed ^ 1);
    let mut held = 0;
    for _ in 0..SERVERS * each {
        held += u64::from(subject.pick(dice.next(), &[]) == Some(0));
    }
    subject.wait(10_000);
    (0..held).for_each(|_| subject.end(0, End::Answered));
    let cold = (0..burst).filter(|_| subject.pick(dice.next(), &[]) == Some(0)).count();
    Reading::Measured { figure: cold as f64 / burst as f64, bound, unit: Unit::Part }
}

pub(super) fn stuck(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    let requests = 20_000;
    let bound = match kind {
        // Whoever looks at load leaves it alone once it holds what a busy server holds.
        Kind::BestOf(_) | Kind::Best | Kind::Reports { .. } => 0.1 / FLEET as f64,
        Kind::Order => return ORDERED,
        _ => fair(kind, FLEET, requests),
    };
    let figure = share_of_first(make, requests, seed, None);
    Reading::Measured { figure, bound, unit: Unit::Part }
}

pub(super) fn failing(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    let requests = 20_000;
    let bound = match kind {
        Kind::BestOf(d) => share_bound(f64::from(d) / FLEET as f64, requests),
        Kind::Best => return Reading::Unpromised("a server that fails at once is always the least busy"),
        Kind::Order => return ORDERED,
        Kind::Keys(Spread { bound: Some(_), .. }) => return BOUNDED,
        // A failure voids what was said before: each time that it is asked brings it one request.
        Kind::Reports { asks } if asks > 0 => {
            let asks = f64::from(asks);
            asks * share_bound(1.0 / FLEET as f64, (asks * requests as f64) as u64)
        }
        // What it says with a failure is void at once.
        Kind::Reports { .. } => share_bound(2.0 / FLEET as f64, requests),
        _ => fair(kind, FLEET, requests),
    };
    let figure = share_of_first(make, requests, seed, Some(End::Failed));
    Reading::Measured { figure, bound, unit: Unit::Part }
}

/// The share of the first server, whose requests end at once as `first` says, or never. Servers report their load, truly, with answers and where asked.
fn share_of_first(make: &Maker<'_>, requests: u64, seed: u64, first: Option<End>) -> f64 {
    let mut subject = make(&Stand::equal(FLEET), seed);
    let mut dice = Dice::new(seed ^ 2);
    let mut in_flight = VecDeque::new();
    let mut loads = [0u32; FLEET];
    let latency = |server| if server == 0 { AT_ONCE } else { LATENCY };
    let mut to_first = 0u64;
    for _ in 0..requests {
        // Ten requests in a millisecond: policies that forget get to do so.
        subject.wait(100);
        let chosen = subject.pick(dice.next(), &[]);
        match chosen {
            Some(0) => {
                to_first += 1;
                if let Some(how) = first {
                    subject.hear(0, loads[0], AT_ONCE);
                    subject.end(0, how);
                } else {
                    loads[0] += 1;
                }
            }
            Some(server) => {
                loads[server] += 1;
                in_flight.push_back(server);
            }
            None => {}
        }
        if in_flight.len() > IN_FLIGHT {
            let server = in_flight.pop_front().expect("it was counted");
            loads[server] -= 1;
            subject.hear(server, loads[server], LATENCY);
            subject.end(server, End::Answered);
        }
        while let Some(server) = subject.asks() {
            subject.hear(server, loads[server], latency(server));
        }
    }
    to_first as f64 / requests as f64
}
