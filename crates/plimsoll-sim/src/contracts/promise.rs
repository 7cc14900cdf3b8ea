//! Which policies there are and of which kind each is: the kind decides what is promised.
//!
//! A policy comes in by one line of `policies`. A kind says how a choice is made, in the terms of the theory that gives the bounds; it
//! must never be finer than what users are told in `docs/CONFIGURATION.md`.

use std::time::Duration;

use plimsoll_config::model::{Backend, Balance, Ewma, Hash, HashKey, HashMethod, Prequal, Probe, Subset};

/// A policy under its name, with its kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Promise {
    /// As in the configuration.
    pub name: &'static str,
    /// What it promises.
    pub kind: Kind,
    /// The backend, without servers. Where it has a subset, the instance is told by the seed.
    pub backend: Backend,
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
    /// By what servers report; while nobody does, the best of two.
    Reports {
        /// It asks so often for each request; 0: servers report with their answers.
        asks: u32,
    },
    /// The best of two among so many servers, which are this instance's.
    Subset(u32),
    /// Where the session belongs; else as its policy has it, the best of two.
    Sessions,
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
    /// The most that a server may have in flight, as a multiple of its part of all.
    pub bound: Option<f64>,
}

/// Maglev with a hundred slots a server or more: within 1 % (Eisenbud et al., 2016), and some churn. The slots that follow those of one
/// server belong to the others only roughly by weight: a light one was seen 6 % off beside heavy ones.
const MAGLEV: Spread = Spread { error: 0.01 / 3.0, outage: 0.025, moved: 0.02, bound: None };

/// 160 points a server of weight 1, at random places: the parts of a circle vary by 1 in the root of the points. Exact when one goes.
const RING: Spread = Spread { error: 0.08, outage: 0.08, moved: 0.0, bound: None };
/// A score for each server: by weight but for the chance of the keys. Exact when one goes.
pub(super) const RENDEZVOUS: Spread = Spread { error: 0.0, outage: 0.0, moved: 0.0, bound: None };
/// What is said of bounded loads: 25 % above the mean.
const BOUND: u32 = 125;
/// How often `prequal` asks for each request, unless told otherwise.
const ASKS: u32 = 3;
/// The least that a subset may have.
const SUBSET: u32 = 12;

/// The policy that goes by this name in the configuration, or here.
pub fn called(name: &str) -> Option<Promise> {
    let name = if name == "least_time" { "ewma" } else { name };
    policies().into_iter().find(|promise| promise.name == name)
}

/// All policies, and what goes before a policy: subsets and sticky sessions.
pub fn policies() -> Vec<Promise> {
    let promise =
        |name, kind, balance| Promise { name, kind, backend: Backend::new("verified", Vec::new(), balance) };
    let hash = |name, method, spread: Spread, bound: Option<u32>| {
        let spread = Spread { bound: bound.map(|bound| f64::from(bound) / 100.0), ..spread };
        promise(name, Kind::Keys(spread), Balance::Hash(Hash { key: HashKey::ClientIp, method, bound }))
    };
    let prequal = |asks: u32| {
        let probe = (asks > 0).then(|| Probe { path: "/load".to_owned(), rate: asks * 100 });
        Balance::Prequal(Prequal { quantile: 84, age: Duration::from_secs(1), probe })
    };
    let subset = promise("subset", Kind::Subset(SUBSET), Balance::P2c);
    let instance = Subset { size: SUBSET, instance: "instance".to_owned() };
    vec![
        promise("p2c", Kind::BestOf(2), Balance::P2c),
        promise("round_robin", Kind::Turns, Balance::RoundRobin),
        promise("least_conn", Kind::Best, Balance::LeastConn),
        promise("ewma", Kind::BestOf(2), Balance::Ewma(Ewma::default())),
        promise("prequal", Kind::Reports { asks: ASKS }, prequal(ASKS)),
        promise("prequal_answers", Kind::Reports { asks: 0 }, prequal(0)),
        promise("random", Kind::Chance, Balance::Random),
        hash("hash", HashMethod::Maglev, MAGLEV, None),
        hash("hash_ring", HashMethod::Ring, RING, None),
        hash("hash_rendezvous", HashMethod::Rendezvous, RENDEZVOUS, None),
        hash("hash_bound", HashMethod::Maglev, MAGLEV, Some(BOUND)),
        hash("hash_ring_bound", HashMethod::Ring, RING, Some(BOUND)),
        hash("hash_rendezvous_bound", HashMethod::Rendezvous, RENDEZVOUS, Some(BOUND)),
        promise("first", Kind::Order, Balance::First),
        Promise { backend: Backend { subset: Some(instance), ..subset.backend.clone() }, ..subset },
        promise("sticky", Kind::Sessions, Balance::P2c),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The list of words in a schema that has this one among others.
    fn list_with<'a>(schema: &'a Value, word: &str) -> Option<&'a Vec<Value>> {
        match schema {
            Value::Array(list) if list.iter().any(|entry| entry == word) => Some(list),
            Value::Array(list) => list.iter().find_map(|inner| list_with(inner, word)),
            Value::Object(table) => table.values().find_map(|inner| list_with(inner, word)),
            _ => None,
        }
    }

    #[test]
    fn every_policy_of_the_configuration_has_a_promise_by_its_name() {
        let schema = plimsoll_config::schema();
        let words = list_with(&schema, "round_robin").expect("the policies");
        assert!(words.len() >= 9, "{words:?}");
        for word in words {
            let name = word.as_str().expect("a name");
            assert!(called(name).is_some(), "{name}");
        }
        assert!(called("no_such").is_none());
    }

    #[test]
    fn every_way_to_hash_is_held_with_and_without_a_bound() {
        let all = policies();
        for method in [HashMethod::Maglev, HashMethod::Ring, HashMethod::Rendezvous] {
            for bounded in [false, true] {
                let is_it = |promise: &Promise| {
                    matches!(promise.backend.balance, Balance::Hash(Hash { method: m, bound, .. })
                        if m == method && bound.is_some() == bounded)
                };
                assert!(all.iter().any(is_it), "{method:?}, bounded: {bounded}");
            }
        }
    }
}
