//! Builds backends, and puts load on their servers by taking leases.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::model::{self, Balance, Ewma, Hash, HashKey, HashMethod, Prequal};
use plimsoll_traffic::{Ask, Backend, Balancer, Dice, Lease, Micros};

pub(crate) const HASH: Balance = hash(HashMethod::Maglev, None);
pub(crate) const EWMA: Balance = Balance::Ewma(Ewma { decay: Duration::from_secs(10) });

pub(crate) const PREQUAL: Balance =
    Balance::Prequal(Prequal { quantile: 84, age: Duration::from_secs(1), probe: None });
pub(crate) const RING: Balance = hash(HashMethod::Ring, None);
pub(crate) const RENDEZVOUS: Balance = hash(HashMethod::Rendezvous, None);
pub(crate) const BOUNDED: [Balance; 3] = [
    hash(HashMethod::Maglev, Some(125)),
    hash(HashMethod::Ring, Some(125)),
    hash(HashMethod::Rendezvous, Some(125)),
];

/// Every policy once.
pub(crate) const POLICIES: [Balance; 11] = [
    Balance::P2c,
    Balance::RoundRobin,
    Balance::LeastConn,
    Balance::Random,
    HASH,
    RING,
    RENDEZVOUS,
    Balance::First,
    EWMA,
    PREQUAL,
    hash(HashMethod::Maglev, Some(125)),
];

const fn hash(method: HashMethod, bound: Option<u32>) -> Balance {
    Balance::Hash(Hash { key: HashKey::ClientIp, method, bound })
}

pub(crate) fn server(index: usize, weight: u16) -> model::Server {
    let address = model::Address::Name(format!("host{index}"), 80);
    model::Server { weight, ..model::Server::new(&format!("s{index}"), address) }
}

pub(crate) fn backend(balance: &Balance, servers: Vec<model::Server>) -> Arc<Backend> {
    Arc::new(Backend::new(&model::Backend::new("b", servers, balance.clone()), None))
}

pub(crate) fn weighted(balance: &Balance, weights: &[u16]) -> Arc<Backend> {
    backend(balance, weights.iter().enumerate().map(|(i, &w)| server(i, w)).collect())
}

pub(crate) fn balancer(backend: &Arc<Backend>, seed: u64) -> Rc<Balancer> {
    Balancer::new(Arc::clone(backend), &mut Dice::new(seed))
}

pub(crate) fn ask(key: u64) -> Ask<'static> {
    Ask { now: Micros(0), key, tried: &[] }
}

/// Puts `requests` in flight on one server, through a backend of its own that shares the live counters.
pub(crate) fn occupy(backend: &Backend, index: usize, requests: u32) -> Vec<Lease> {
    let server = &backend.servers[index];
    let alone = model::Server::new(&server.name, server.address.clone());
    let spec = model::Backend::new("b", vec![alone], Balance::First);
    let balancer = balancer(&Arc::new(Backend::new(&spec, Some(backend))), 0);
    (0..requests).map(|_| balancer.pick(&ask(0), &mut Dice::new(0)).expect("it has room for all")).collect()
}

/// Puts so many requests in flight on each server.
pub(crate) fn occupy_all(backend: &Backend, in_flight: &[u32]) -> Vec<Lease> {
    in_flight.iter().enumerate().flat_map(|(index, &requests)| occupy(backend, index, requests)).collect()
}

/// How often each server is picked when every lease ends at once.
pub(crate) fn counts(balancer: &Rc<Balancer>, picks: usize, seed: u64) -> Vec<f64> {
    let mut dice = Dice::new(seed);
    let mut counts = vec![0.0; balancer.backend().servers.len()];
    for _ in 0..picks {
        let ask = ask(dice.next());
        counts[balancer.pick(&ask, &mut dice).expect("nothing is held").index() as usize] += 1.0;
    }
    counts
}
