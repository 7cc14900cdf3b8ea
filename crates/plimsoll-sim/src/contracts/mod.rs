//! Contracts: what each policy promises, as measurements with bounds that anyone can run.
//!
//! In goes a policy with a way to make it (`Maker`) and a seed, out come findings: for each contract the figure, the bound and whether it
//! holds, or why this policy promises nothing of the kind. Contracts own the traffic and judge what they see; they must never look
//! inside a policy, so that a wrong one can stand in its place, and must never pass because of a lucky seed.

mod keys;
mod load;
mod promise;
mod shares;
mod small;
mod statistics;
mod subject;

use plimsoll_config::model::Balance;

pub use promise::{Kind, Promise, Spread, policies};
pub use statistics::{RARE, chi_square, chi_square_bound, share_bound};
pub use subject::{End, Maker, Plimsoll, Stand, Subject};

/// One promise that can be broken.
#[derive(Debug, Clone, Copy)]
pub struct Contract {
    /// Stable, for options and JSON.
    pub name: &'static str,
    /// What is promised, in a line.
    pub says: &'static str,
    /// Holds a policy against it.
    pub measure: fn(Kind, &Maker<'_>, u64) -> Reading,
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// Holds when the figure is at most the bound.
    Measured {
        /// What was seen.
        figure: f64,
        /// The most that a right policy shows.
        bound: f64,
        /// What both are counted in.
        unit: Unit,
    },
    /// This policy does not promise it, and why.
    Unpromised(&'static str),
}

/// What figures are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Pearson's statistic.
    ChiSquare,
    /// A part of a whole, or an error relative to what was wanted.
    Part,
    /// Requests.
    Requests,
    /// Cases in which the contract was broken.
    Cases,
    /// Seconds.
    Seconds,
}

/// A reading with what it is of.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The policy's name.
    pub policy: &'static str,
    /// The contract's name.
    pub contract: &'static str,
    /// What is promised.
    pub says: &'static str,
    /// What came out.
    pub reading: Reading,
}

impl Reading {
    /// False only for what was measured and lies beyond its bound; a figure that is no number breaks any bound.
    pub fn holds(&self) -> bool {
        match self {
            Reading::Measured { figure, bound, .. } => figure <= bound,
            Reading::Unpromised(_) => true,
        }
    }
}

impl Unit {
    /// For tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Unit::ChiSquare => "chi-square",
            Unit::Part => "part",
            Unit::Requests => "requests",
            Unit::Cases => "cases",
            Unit::Seconds => "seconds",
        }
    }
}

/// All of them, in the order in which they are shown.
pub const CONTRACTS: [Contract; 15] = [
    Contract { name: "uniform", says: "ten equal, idle servers get equally many", measure: shares::uniform },
    Contract { name: "weights", says: "weights of 1 to 10 are kept", measure: shares::weights },
    Contract {
        name: "one-down",
        says: "with one of four down, the others keep their weights",
        measure: shares::one_down,
    },
    Contract {
        name: "smooth",
        says: "with weights 10, 1, 1, … nobody is ahead or behind in any window",
        measure: shares::smooth,
    },
    Contract {
        name: "starvation",
        says: "no idle server of ten waits longer for its next request",
        measure: shares::starvation,
    },
    Contract {
        name: "ties",
        says: "among 200 idle servers, fullest and emptiest are close",
        measure: shares::ties,
    },
    Contract {
        name: "herd",
        says: "an empty server among nine full ones gets no more of the next",
        measure: load::herd,
    },
    Contract {
        name: "stuck",
        says: "one of fifty that never answers gets no more of all requests",
        measure: load::stuck,
    },
    Contract {
        name: "failing",
        says: "one of fifty that fails at once gets no more of all requests",
        measure: load::failing,
    },
    Contract {
        name: "small",
        says: "1 to 6 servers, every state of each: only what can serve, and the less busy",
        measure: small::choices,
    },
    Contract {
        name: "small-shares",
        says: "1 to 6 servers, whichever are down: those left share evenly",
        measure: small::shares,
    },
    Contract { name: "outage", says: "a server that is down moves no key of another", measure: keys::outage },
    Contract {
        name: "removal",
        says: "a server that is taken out moves few keys of others",
        measure: keys::removal,
    },
    Contract {
        name: "agreement",
        says: "instances agree on every key, whatever the order of the file",
        measure: keys::agreement,
    },
    Contract {
        name: "order",
        says: "a later server gets something only while the earlier ones are full",
        measure: small::order,
    },
];

/// Holds one policy, made by `make`, against all contracts.
pub fn hold(promise: &Promise, make: &Maker<'_>, seed: u64) -> Vec<Finding> {
    CONTRACTS
        .iter()
        .map(|contract| Finding {
            policy: promise.name,
            contract: contract.name,
            says: contract.says,
            reading: (contract.measure)(promise.kind, make, seed),
        })
        .collect()
}

/// Makes production's balancer with this policy.
pub fn maker(balance: &Balance) -> impl Fn(&[Stand], u64) -> Box<dyn Subject> {
    |servers: &[Stand], seed| Box::new(Plimsoll::new(balance, servers, seed))
}
