//! Contracts of who goes by what servers report: the best of those heard of, for as long as it was heard, and no oftener than it may be used.
//!
//! The contract plays the servers: it says what they report, with answers or asked, so what a right choice is follows from that alone.

use plimsoll_traffic::Dice;

use super::promise::Kind;
use super::small::{LARGEST, every};
use super::statistics::{chi_square, chi_square_bound, gap_bound, share_bound};
use super::subject::{End, Maker, Stand, Subject};
use super::{Reading, Unit};

const NOT_BY_REPORTS: Reading = Reading::Unpromised("does not go by what servers report");
/// What is in flight where nothing is wrong, and how long a request takes there, in microseconds.
const USUAL: u32 = 5;
const LATENCY: f32 = 10_000.0;
/// Reports that tell hot from cold.
const HEARD: usize = 64;
/// Longer than any report counts.
const OLD: u64 = 1_001_000;
const FLEET: usize = 50;
/// Where servers report with their answers, this part of the picks looks at load alone, as the best of two.
const EXPLORED: f64 = 0.25;

fn asks(kind: Kind) -> Result<u32, Reading> {
    if let Kind::Reports { asks } = kind { Ok(asks) } else { Err(NOT_BY_REPORTS) }
}

/// What a server said: in the order in which they are to be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Fast,
    Slow,
    Hot,
    Hotter,
    Silent,
    /// Said the best of all, and then refused a connection.
    Down,
}

const STATES: [State; 6] = [State::Fast, State::Slow, State::Hot, State::Hotter, State::Silent, State::Down];

impl State {
    /// In flight and microseconds. Hot ones say that they are fast: that must not count.
    fn report(self) -> Option<(u32, f32)> {
        match self {
            State::Fast => Some((USUAL, 1_000.0)),
            State::Slow => Some((0, 2_000.0)),
            State::Hot => Some((USUAL + 1, 500.0)),
            State::Hotter => Some((USUAL + 7, 100.0)),
            State::Silent => None,
            State::Down => Some((0, 10.0)),
        }
    }
}

/// Every small backend with everything that its servers may have said.
pub(super) fn choices(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    let asks = match asks(kind) {
        Ok(asks) => asks,
        Err(unpromised) => return unpromised,
    };
    let mut dice = Dice::new(seed ^ 9);
    let (mut cases, mut others) = (0u64, 0u64);
    for n in 1..=LARGEST {
        let mut subject = make(&Stand::equal(n), dice.next());
        for states in every(&STATES, n) {
            cases += 1;
            match case(&mut *subject, &states, dice.next()) {
                Choice::Best => {}
                Choice::Other => others += 1,
                Choice::Wrong => {
                    return Reading::Measured { figure: f64::INFINITY, bound: 0.0, unit: Unit::Part };
                }
            }
        }
    }
    let bound = if asks > 0 { 0.0 } else { share_bound(EXPLORED, cases) };
    Reading::Measured { figure: others as f64 / cases as f64, bound, unit: Unit::Part }
}

enum Choice {
    Best,
    /// Another that is up.
    Other,
    Wrong,
}

fn case(subject: &mut dyn Subject, states: &[State], key: u64) -> Choice {
    (0..HEARD).for_each(|_| subject.hear(0, USUAL, LATENCY));
    subject.wait(OLD);
    for (server, state) in states.iter().enumerate() {
        if let Some((in_flight, latency)) = state.report() {
            subject.hear(server, in_flight, latency);
        }
        if *state == State::Down {
            subject.refuse(server);
        }
    }
    let chosen = subject.pick(key, &[]);
    chosen.into_iter().for_each(|server| subject.end(server, End::Answered));
    let up: Vec<State> = states.iter().copied().filter(|&s| s != State::Down).collect();
    let heard = states.iter().filter(|&&s| s != State::Silent).count();
    let best = up.iter().filter(|&&s| s != State::Silent).min();
    match (chosen.map(|server| states[server]), best) {
        (Some(State::Down), _) if !up.is_empty() => Choice::Wrong,
        (None, _) => Choice::Wrong,
        // With fewer than two reports there is no opinion.
        (Some(chosen), Some(best)) if heard >= 2 && chosen != *best => Choice::Other,
        _ => Choice::Best,
    }
}

/// Again and again: one of fifty is heard to be by far the best, a second passes, and a request comes.
pub(super) fn old(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    const TIMES: u64 = 5_000;
    if let Err(unpromised) = asks(kind) {
        return unpromised;
    }
    let mut subject = make(&Stand::equal(FLEET), seed);
    let mut dice = Dice::new(seed ^ 10);
    let mut first = 0u64;
    for _ in 0..TIMES {
        (1..FLEET).for_each(|server| subject.hear(server, USUAL, LATENCY));
        subject.hear(0, 0, 1.0);
        subject.wait(OLD);
        let chosen = subject.pick(dice.next(), &[]);
        first += u64::from(chosen == Some(0));
        chosen.into_iter().for_each(|server| subject.end(server, End::Answered));
    }
    let bound = share_bound(2.0 / FLEET as f64, TIMES);
    Reading::Measured { figure: first as f64 / TIMES as f64, bound, unit: Unit::Part }
}

/// How often a report is used, so that as many come in as go out (the paper's b_reuse, with 16 kept and a surplus of 1).
fn uses(asks: u32) -> f64 {
    let (incoming, removed) = if asks > 0 { (f64::from(asks), 1.0) } else { (1.0, 0.25) };
    (2.0 / ((1.0 - 16.0 / FLEET as f64) * incoming - removed)).ceil()
}

/// One of fifty says once in a while that it is by far the best, and the others go on reporting: its requests for each time that it says so.
pub(super) fn used(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    const TIMES: u64 = 1_000;
    const EACH: u64 = 30;
    let asks = match asks(kind) {
        Ok(asks) => asks,
        Err(unpromised) => return unpromised,
    };
    let mut subject = make(&Stand::equal(FLEET), seed);
    let mut dice = Dice::new(seed ^ 11);
    (0..HEARD).for_each(|i| subject.hear(1 + i % (FLEET - 1), USUAL, LATENCY));
    let mut first = 0u64;
    for _ in 0..TIMES {
        subject.hear(0, 0, 1.0);
        for _ in 0..EACH {
            let Some(server) = subject.pick(dice.next(), &[]) else { continue };
            subject.wait(1_000);
            subject.end(server, End::Answered);
            first += u64::from(server == 0);
            if server != 0 && asks == 0 {
                subject.hear(server, USUAL, LATENCY);
            }
            while let Some(server) = subject.asks() {
                if server != 0 {
                    subject.hear(server, USUAL, LATENCY);
                }
            }
        }
    }
    let drawn = if asks > 0 { 0.0 } else { share_bound(EXPLORED * 2.0 / FLEET as f64, TIMES * EACH) };
    let bound = uses(asks) + drawn * EACH as f64;
    Reading::Measured { figure: first as f64 / TIMES as f64, bound, unit: Unit::Requests }
}

/// Whom it asks: all by weight, so often for each request.
pub(super) fn asked(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    const REQUESTS: u64 = 20_000;
    const WEIGHTS: [u16; 10] = [1, 2, 3, 4, 5, 5, 4, 3, 2, 1];
    let asks = match asks(kind) {
        Ok(0) => return Reading::Unpromised("servers report with their answers"),
        Ok(asks) => asks,
        Err(unpromised) => return unpromised,
    };
    let mut subject = make(&Stand::weighted(&WEIGHTS), seed);
    let mut dice = Dice::new(seed ^ 12);
    let mut counts = [0u64; WEIGHTS.len()];
    for _ in 0..REQUESTS {
        let chosen = subject.pick(dice.next(), &[]);
        chosen.into_iter().for_each(|server| subject.end(server, End::Answered));
        while let Some(server) = subject.asks() {
            counts[server] += 1;
        }
    }
    let missing = (REQUESTS * u64::from(asks)).abs_diff(counts.iter().sum());
    let even = chi_square(&counts, &super::shares::parts(&WEIGHTS));
    let figure = if missing == 0 { even } else { f64::INFINITY };
    Reading::Measured { figure, bound: chi_square_bound(WEIGHTS.len() - 1), unit: Unit::ChiSquare }
}

/// One of fifty has never been heard of, and the others report with their answers: how long it waits for a request.
pub(super) fn unheard(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    const REQUESTS: u64 = 50_000;
    match asks(kind) {
        Ok(0) => {}
        Ok(_) => return Reading::Unpromised("every server is asked, whether it gets requests or not"),
        Err(unpromised) => return unpromised,
    }
    let mut subject = make(&Stand::equal(FLEET), seed);
    let mut dice = Dice::new(seed ^ 13);
    let (mut waited, mut longest) = (0u64, 0u64);
    for _ in 0..REQUESTS {
        waited += 1;
        let chosen = subject.pick(dice.next(), &[]);
        subject.wait(100);
        if let Some(server) = chosen {
            subject.end(server, End::Answered);
            if server == 0 {
                waited = 0;
            } else {
                subject.hear(server, USUAL, LATENCY);
            }
        }
        longest = longest.max(waited);
    }
    // Who had fewest of late wins as soon as it is drawn.
    let bound = gap_bound(EXPLORED * 2.0 / FLEET as f64, REQUESTS);
    Reading::Measured { figure: longest as f64, bound, unit: Unit::Requests }
}
