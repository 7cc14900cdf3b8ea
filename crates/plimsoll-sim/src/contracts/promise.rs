//! Which policies there are and of which kind each is: the kind decides what is promised.
//!
//! A policy comes in by one line of `policies`. A kind says how a choice is made, in the terms of the theory that gives the bounds; it
//! must never be finer than what users are told in `docs/CONFIGURATION.md`.

use plimsoll_config::model::{Balance, Ewma, Hash, HashKey, HashMethod};

/// A policy under its name, with its kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Promise {
    /// As in the configuration.
    pub name: &'static str,
    /// What it promises.
    pub kind: Kind,
    /// The policy.
    pub balance: Balance,
}

/// How a policy chooses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// In turn, exactly by weight.
    Turns,
    /// By chance, each time anew.
    Chance,
    /// The best of so many servers drawn by weight.
    BestOf(u32),
    /// The best of all.
    Best,
    /// By the request's key.
    Keys(Spread),
    /// The first in the list that has room.
    Order,
}

/// How far a mapping of keys is from the weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The standard deviation of a server of weight 1, as a part of its share.
    pub error: f64,
    /// The same while a server is down and its keys are with the others.
    pub outage: f64,
    /// The part of the other servers' keys that moves, at most, when a server is taken out.
    pub moved: f64,
}

/// Maglev with a hundred slots a server or more: within 1 % (Eisenbud et al., 2016), and some churn. The slots that follow those of one
/// server belong to the others only roughly by weight: a light one was seen 6 % off beside heavy ones.
const MAGLEV: Spread = Spread { error: 0.01 / 3.0, outage: 0.025, moved: 0.02 };

/// 160 points a server of weight 1, at random places: the parts of a circle vary by 1 in the root of the points. Exact when one goes.
const RING: Spread = Spread { error: 0.08, outage: 0.08, moved: 0.0 };
/// A score for each server: by weight but for the chance of the keys. Exact when one goes.
const RENDEZVOUS: Spread = Spread { error: 0.0, outage: 0.0, moved: 0.0 };

/// All policies.
pub fn policies() -> Vec<Promise> {
    let promise = |name, kind, balance| Promise { name, kind, balance };
    let hash = |method, bound| Balance::Hash(Hash { key: HashKey::ClientIp, method, bound });
    vec![
        promise("p2c", Kind::BestOf(2), Balance::P2c),
        promise("round_robin", Kind::Turns, Balance::RoundRobin),
        promise("least_conn", Kind::Best, Balance::LeastConn),
        promise("ewma", Kind::BestOf(2), Balance::Ewma(Ewma::default())),
        promise("random", Kind::Chance, Balance::Random),
        promise("hash", Kind::Keys(MAGLEV), hash(HashMethod::Maglev, None)),
        promise("hash_ring", Kind::Keys(RING), hash(HashMethod::Ring, None)),
        promise("hash_rendezvous", Kind::Keys(RENDEZVOUS), hash(HashMethod::Rendezvous, None)),
        promise("first", Kind::Order, Balance::First),
    ]
}
