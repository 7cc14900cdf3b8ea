//! Contracts: what each policy promises, as measurements with bounds that anyone can run.
//!
//! In goes a policy with a way to make it (`Maker`) and a seed, out come findings: for each contract the figure, the bound and whether it
//! holds, or why this policy promises nothing of the kind. Contracts own the traffic and judge what they see; they must never look
//! inside a policy, so that a wrong one can stand in its place, and must never pass because of a lucky seed.

mod bounds;
mod keys;
mod levels;
mod list;
mod load;
mod promise;
mod reports;
mod sessions;
mod shares;
mod small;
mod statistics;
mod subject;
mod subsets;

use plimsoll_config::model::Backend;

pub use list::CONTRACTS;
pub use promise::{Kind, Promise, Spread, called, policies};
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
    /// Servers.
    Servers,
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

impl Contract {
    /// Holds one policy, made by `make`, against this one.
    pub fn hold(&self, promise: &Promise, make: &Maker<'_>, seed: u64) -> Finding {
        let reading = (self.measure)(promise.kind, make, seed);
        Finding { policy: promise.name, contract: self.name, says: self.says, reading }
    }
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
            Unit::Servers => "servers",
            Unit::Cases => "cases",
            Unit::Seconds => "seconds",
        }
    }
}

/// Holds one policy, made by `make`, against all contracts.
pub fn hold(promise: &Promise, make: &Maker<'_>, seed: u64) -> Vec<Finding> {
    CONTRACTS.iter().map(|contract| contract.hold(promise, make, seed)).collect()
}

/// Makes production's balancer for a backend, which is without servers here.
pub fn maker(backend: &Backend) -> impl Fn(&[Stand], u64) -> Box<dyn Subject> {
    |servers: &[Stand], seed| Box::new(Plimsoll::new(backend, servers, seed))
}
