//! What a pick costs: each policy among 10, 100 and 1,000 servers, with its slot taken and given back, a few other requests in flight; and the
//! same where something is out of the ordinary: a server down, new, of another weight, or full by its bound.
//!
//! `cargo bench -p plimsoll-traffic`. Also what a change of one of 10,000 servers costs: the tables and one worker's balancer.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark may panic, and its macros document nothing"
)]

use std::collections::VecDeque;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use plimsoll_config::model::{
    self, Balance, Ewma, Hash, HashKey, HashMethod, Prequal, Probe, Reported, Subset,
};
use plimsoll_traffic::{
    Ask, Backend, Balancer, Dice, Lease, Micros, Millis, Outcome, Report, Session, Verdict,
};

/// Requests in flight all the time.
const HELD: usize = 8;

/// How a backend differs from servers that are all alike, up and idle.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Ordinary,
    /// Weights of 1 to 7.
    Weighted,
    /// No two alike.
    Distinct,
    /// So many percent refuse; of one percent the first server alone.
    Down(usize),
    /// The same with weights of 1 to 7.
    WeightedDown(usize),
    /// As many requests in flight as there are servers, so that every other one is above its bound.
    Busy,
    /// The same with weights of 1 to 7.
    WeightedBusy,
    /// The first server begins slowly.
    Ramp,
    /// Half of the servers report that they can do half of what the others can.
    Reported,
    /// Two priorities, and the first is half down.
    Levels,
    /// Ten of the servers.
    Subset,
}

impl State {
    fn weight(self, i: usize) -> u16 {
        match self {
            State::Weighted | State::WeightedDown(_) | State::WeightedBusy => 1 + (i % 7) as u16,
            State::Distinct => 1_000 + i as u16,
            _ => 1,
        }
    }

    fn held(self, count: usize) -> usize {
        if matches!(self, State::Busy | State::WeightedBusy) { count } else { HELD }
    }
}

const fn hash(method: HashMethod, bound: Option<u32>) -> Balance {
    Balance::Hash(Hash { key: HashKey::ClientIp, method, bound })
}

fn prequal(probe: bool) -> Balance {
    let probe = probe.then(|| Probe { path: "/load".into(), rate: 300 });
    Balance::Prequal(Prequal { quantile: 84, age: Duration::from_secs(1), probe })
}

fn policies() -> Vec<(&'static str, Balance, State)> {
    vec![
        ("p2c", Balance::P2c, State::Ordinary),
        ("ewma", Balance::Ewma(Ewma::default()), State::Ordinary),
        ("least_conn", Balance::LeastConn, State::Ordinary),
        ("round_robin", Balance::RoundRobin, State::Ordinary),
        ("round_robin-weighted", Balance::RoundRobin, State::Weighted),
        ("random", Balance::Random, State::Ordinary),
        ("maglev", hash(HashMethod::Maglev, None), State::Ordinary),
        ("maglev-bound", hash(HashMethod::Maglev, Some(125)), State::Ordinary),
        ("ring", hash(HashMethod::Ring, None), State::Ordinary),
        ("ring-bound", hash(HashMethod::Ring, Some(125)), State::Ordinary),
        ("rendezvous", hash(HashMethod::Rendezvous, None), State::Ordinary),
        ("rendezvous-bound", hash(HashMethod::Rendezvous, Some(125)), State::Ordinary),
        ("first", Balance::First, State::Ordinary),
        ("prequal", prequal(false), State::Ordinary),
        ("prequal-probe", prequal(true), State::Ordinary),
    ]
}

/// What is not ordinary.
fn states() -> Vec<(&'static str, Balance, State)> {
    let mut states = Vec::new();
    let (rendezvous, maglev) = (hash(HashMethod::Rendezvous, None), hash(HashMethod::Maglev, None));
    let bound = |method| hash(method, Some(125));
    let weighted = [
        ("p2c", Balance::P2c),
        ("ewma", Balance::Ewma(Ewma::default())),
        ("least_conn", Balance::LeastConn),
        ("random", Balance::Random),
        ("maglev", maglev.clone()),
        ("rendezvous", rendezvous.clone()),
        ("prequal", prequal(false)),
    ];
    states.extend(weighted.clone().map(|(name, balance)| (name, balance, State::Weighted)));
    states.push(("rendezvous", rendezvous.clone(), State::Distinct));
    for (name, method) in [
        ("maglev-bound", HashMethod::Maglev),
        ("ring-bound", HashMethod::Ring),
        ("rendezvous-bound", HashMethod::Rendezvous),
    ] {
        states.extend([State::Busy, State::WeightedBusy].map(|state| (name, bound(method), state)));
    }
    let all = weighted.into_iter().chain([("round_robin", Balance::RoundRobin), ("first", Balance::First)]);
    for (name, balance) in all.clone() {
        for state in [State::Down(1), State::Down(50), State::Levels, State::Subset] {
            states.push((name, balance.clone(), state));
        }
        if !matches!(balance, Balance::Hash(_) | Balance::First) {
            states.extend([State::Ramp, State::Reported].map(|state| (name, balance.clone(), state)));
        }
    }
    states.extend([1, 50, 90].map(|down| ("round_robin", Balance::RoundRobin, State::WeightedDown(down))));
    states
}

fn state_name(state: State) -> String {
    match state {
        State::Ordinary => "".into(),
        State::Weighted => "-weighted".into(),
        State::Distinct => "-distinct".into(),
        State::Down(percent) => format!("-down{percent}"),
        State::WeightedDown(percent) => format!("-weighted-down{percent}"),
        State::Busy => "-busy".into(),
        State::WeightedBusy => "-weighted-busy".into(),
        State::Ramp => "-ramp".into(),
        State::Reported => "-reported".into(),
        State::Levels => "-levels".into(),
        State::Subset => "-subset".into(),
    }
}

fn spec(balance: &Balance, count: usize, state: State) -> model::Backend {
    let server = |i: usize| {
        let name = format!("10.{}.{}.{}:80", i >> 16, i >> 8 & 255, i & 255);
        let priority = u8::from(state == State::Levels && i % 2 == 1);
        let address = model::Address::Name(name.clone(), 80);
        model::Server { weight: state.weight(i), priority, ..model::Server::new(&name, address) }
    };
    model::Backend::new("b", (0..count).map(server).collect(), balance.clone())
}

/// A balancer in that state, with what its servers have said.
fn balancer(balance: &Balance, count: usize, state: State, dice: &mut Dice) -> Rc<Balancer> {
    let mut spec = spec(balance, count, state);
    let mut before = None;
    match state {
        State::Ramp => {
            let new = spec.servers.remove(0);
            before = Some(Backend::new(&spec, None));
            spec.servers.insert(0, new);
            spec.slow_start = Duration::from_secs(1_000_000);
        }
        State::Reported => {
            let (blackout, expiration) = (Duration::ZERO, Duration::from_secs(1_000_000));
            spec.reported = Some(Reported { blackout, expiration, penalty: 0 });
        }
        State::Subset => spec.subset = Some(Subset { size: 10, instance: "one".into() }),
        _ => {}
    }
    let backend = Arc::new(Backend::new(&spec, before.as_ref()));
    let balancer = Balancer::new(Arc::clone(&backend), dice);
    let down = |percent: usize| {
        (0..count).filter(move |i| if percent == 1 { *i == 0 } else { i % 100 * 37 % 100 < percent })
    };
    let refuse = |i: usize| backend.servers[i].live.refused(Millis(1 << 40));
    match state {
        State::Down(percent) | State::WeightedDown(percent) => down(percent).for_each(refuse),
        State::Levels => (0..count).filter(|i| i % 4 == 0).for_each(refuse),
        State::Reported => {
            for i in 0..count {
                let requests = if i % 2 == 0 { 50.0 } else { 100.0 };
                balancer.hear(i as u32, &Report { cpu: 1.0, requests, ..Report::default() }, None, Micros(0));
            }
        }
        _ => {}
    }
    balancer
}

/// A pick, and the end of the oldest of those in flight.
struct Turns {
    balancer: Rc<Balancer>,
    held: VecDeque<Lease>,
    most: usize,
    now: u64,
    dice: Dice,
    says: bool,
}

impl Turns {
    fn new(balance: &Balance, count: usize, state: State) -> Turns {
        let mut dice = Dice::new(1);
        let balancer = balancer(balance, count, state, &mut dice);
        let most = state.held(count);
        let says = matches!(balance, Balance::Prequal(_));
        let mut turns = Turns { balancer, held: VecDeque::with_capacity(most + 1), most, now: 0, dice, says };
        (0..most).for_each(|_| turns.next());
        turns
    }

    fn next(&mut self) {
        self.now += 100;
        let key = self.now.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let ask = Ask { now: Micros(self.now), key, tried: &[] };
        self.held.push_back(self.balancer.pick(black_box(&ask), &mut self.dice).unwrap());
        if self.held.len() > self.most {
            let lease = self.held.pop_front().unwrap();
            if self.says {
                lease.hear(&load(lease.index()), Micros(self.now));
            }
            lease.finish(&Outcome::new(Micros(self.now), Verdict::Answered));
        }
        while let Some(server) = self.balancer.next_probe(&mut self.dice) {
            self.balancer.hear(server, &load(server), None, Micros(self.now));
        }
    }
}

fn load(server: u32) -> Report {
    Report { in_flight: Some(server % 5), latency: Some((server % 7) as f32 * 1e3), ..Report::default() }
}

fn picks(criterion: &mut Criterion) {
    for (name, balance, state) in policies() {
        for count in [10, 100, 1_000] {
            let mut turns = Turns::new(&balance, count, state);
            criterion
                .bench_function(&format!("pick/{name}/{count}"), |bencher| bencher.iter(|| turns.next()));
        }
    }
}

fn unusual(criterion: &mut Criterion) {
    for (name, balance, state) in states() {
        let mut turns = Turns::new(&balance, 1_000, state);
        let name = format!("state/{name}{}/1000", state_name(state));
        criterion.bench_function(&name, |bencher| bencher.iter(|| turns.next()));
    }
}

/// A session's server, its slot taken and given back.
fn sessions(criterion: &mut Criterion) {
    for state in [State::Ordinary, State::Weighted, State::Distinct, State::Down(1), State::Down(50)] {
        for by_key in [false, true] {
            let balancer = balancer(&Balance::P2c, 1_000, state, &mut Dice::new(1));
            let mut now = 0u64;
            let name = format!("session/{}{}/1000", if by_key { "key" } else { "server" }, state_name(state));
            criterion.bench_function(&name, |bencher| {
                bencher.iter(|| {
                    now += 1;
                    let key = now.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let session =
                        if by_key { Session::Key(key) } else { Session::Server((key >> 32) as u32 % 1_000) };
                    drop(balancer.keep(session, black_box(&Ask { now: Micros(now), key, tried: &[] })));
                });
            });
        }
    }
}

/// What a report costs, apart from the pick that it is for.
fn hears(criterion: &mut Criterion) {
    for probe in [false, true] {
        let mut turns = Turns::new(&prequal(probe), 1_000, State::Ordinary);
        let name = if probe { "hear/prequal-probe" } else { "hear/prequal" };
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                turns.now += 100;
                let server = turns.dice.below(1_000);
                turns.balancer.hear(server, black_box(&load(server)), None, Micros(turns.now));
            });
        });
    }
}

fn change(criterion: &mut Criterion) {
    for (name, balance, state) in policies() {
        let mut changed = spec(&balance, 10_000, state);
        let before = Backend::new(&changed, None);
        changed.servers[5_000].weight = 9;
        criterion.bench_function(&format!("change/{name}/10000"), |bencher| {
            bencher.iter(|| {
                let backend = Arc::new(Backend::new(black_box(&changed), Some(&before)));
                Balancer::new(backend, &mut Dice::new(1))
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700))
        .sample_size(20);
    targets = picks, unusual, sessions, hears, change
}
criterion_main!(benches);
