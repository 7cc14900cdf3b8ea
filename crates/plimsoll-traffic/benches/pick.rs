//! What a pick costs: each policy among 10, 100 and 1,000 servers, with its slot taken and given back, a few other requests in flight.
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
use plimsoll_config::model::{self, Balance, Ewma, Hash, HashKey, HashMethod};
use plimsoll_traffic::{Ask, Backend, Balancer, Dice, Lease, Micros, Outcome, Verdict};

/// Requests in flight all the time.
const HELD: usize = 8;

fn policies() -> Vec<(&'static str, Balance, bool)> {
    let hash = |method, bound| Balance::Hash(Hash { key: HashKey::ClientIp, method, bound });
    vec![
        ("p2c", Balance::P2c, false),
        ("ewma", Balance::Ewma(Ewma::default()), false),
        ("least_conn", Balance::LeastConn, false),
        ("round_robin", Balance::RoundRobin, false),
        ("round_robin-weighted", Balance::RoundRobin, true),
        ("random", Balance::Random, false),
        ("maglev", hash(HashMethod::Maglev, None), false),
        ("maglev-bound", hash(HashMethod::Maglev, Some(125)), false),
        ("ring", hash(HashMethod::Ring, None), false),
        ("ring-bound", hash(HashMethod::Ring, Some(125)), false),
        ("rendezvous", hash(HashMethod::Rendezvous, None), false),
        ("first", Balance::First, false),
    ]
}

fn spec(balance: &Balance, count: usize, weighted: bool) -> model::Backend {
    let server = |i: usize| {
        let name = format!("10.{}.{}.{}:80", i >> 16, i >> 8 & 255, i & 255);
        let weight = if weighted { 1 + (i % 7) as u16 } else { 1 };
        model::Server { weight, ..model::Server::new(&name, model::Address::Name(name.clone(), 80)) }
    };
    model::Backend::new("b", (0..count).map(server).collect(), balance.clone())
}

/// A pick, and the end of the oldest of those in flight.
fn turn(balancer: &Rc<Balancer>, held: &mut VecDeque<Lease>, now: u64, dice: &mut Dice) {
    let ask = Ask { now: Micros(now), key: now.wrapping_mul(0x9e37_79b9_7f4a_7c15), tried: &[] };
    held.push_back(balancer.pick(black_box(&ask), dice).unwrap());
    if held.len() > HELD {
        held.pop_front().unwrap().finish(&Outcome::new(Micros(now), Verdict::Answered));
    }
}

fn picks(criterion: &mut Criterion) {
    for (name, balance, weighted) in policies() {
        for count in [10, 100, 1_000] {
            let mut dice = Dice::new(1);
            let balancer =
                Balancer::new(Arc::new(Backend::new(&spec(&balance, count, weighted), None)), &mut dice);
            let (mut held, mut now) = (VecDeque::with_capacity(HELD + 1), 0);
            criterion.bench_function(&format!("pick/{name}/{count}"), |bencher| {
                bencher.iter(|| {
                    now += 100;
                    turn(&balancer, &mut held, now, &mut dice);
                });
            });
        }
    }
}

fn change(criterion: &mut Criterion) {
    for (name, balance, weighted) in policies() {
        let mut changed = spec(&balance, 10_000, weighted);
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
    targets = picks, change
}
criterion_main!(benches);
