//! The scenarios that are part of the program.
//!
//! Seventeen stories in nineteen files: the one of a server that hangs and the one of a server that fails at once are told apart, and so are
//! neighbours who take what is needed and neighbours who take what is left over.

use crate::scenario::Scenario;

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        /// Name and text of each, in the order of the numbers.
        pub const SHIPPED: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../scenarios/", $name, ".toml")))),*];
    };
}

shipped!(
    "uniform",
    "central-queue",
    "gray-failure",
    "hang",
    "black-hole",
    "heavy-tail",
    "antagonist",
    "contention",
    "scale",
    "restart",
    "health-checks",
    "retry-storm",
    "hedging",
    "membership-hash",
    "stale",
    "overload",
    "adaptive",
    "faults",
    "membership",
);

impl Scenario {
    /// The scenario that ships under this name.
    ///
    /// # Panics
    /// Never: a test reads them all.
    pub fn shipped(name: &str) -> Option<Scenario> {
        let (name, text) = SHIPPED.iter().find(|(shipped, _)| *shipped == name)?;
        let scenario =
            Scenario::parse(name, &format!("{name}.toml"), text, &|file| Err(format!("{file}: not there")));
        Some(scenario.unwrap_or_else(|problem| panic!("a shipped scenario: {problem}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_scenario_can_be_read_and_expects_something() {
        for (name, _) in SHIPPED {
            let scenario = Scenario::shipped(name).unwrap();
            assert!(scenario.cases.iter().all(|case| !case.expectations.is_empty()), "{name}");
        }
        assert!(Scenario::shipped("teleport").is_none());
    }

    #[test]
    fn what_is_pending_is_not_there_yet() {
        // A policy that has come must be taken from the lists of what is skipped.
        for (name, text) in SHIPPED {
            let scenario = Scenario::shipped(name).unwrap();
            for (policy, _) in scenario.pending {
                let without = text.replace("[[pending]]", "[[xpending]]");
                assert!(without.contains(&policy), "{name}: {policy} is pending and nobody wants it");
                assert!(crate::Policy::parse(&policy).is_err(), "{name}: {policy} is there by now");
            }
        }
    }
}
