//! The contracts: every policy of production keeps them, and for each there is a wrong policy that breaks it.
//!
//! A wrong policy is one that exists in the field or that a slip would make. It is made of a `Fleet`, which keeps counts, and a rule.

#[path = "contracts/fleet.rs"]
mod fleet;
#[path = "contracts/wrong.rs"]
mod wrong;

use std::collections::BTreeSet;

use plimsoll_sim::contracts::{CONTRACTS, Kind, Maker, Reading, Spread, hold, maker, policies};

const SEED: u64 = 1;

/// Whether this subject, said to be of this kind, breaks a contract.
#[track_caller]
fn breaks(contract: &str, kind: Kind, make: &Maker<'_>) -> bool {
    let contract = CONTRACTS.iter().find(|c| c.name == contract).expect("there is such a contract");
    let reading = (contract.measure)(kind, make, SEED);
    assert!(matches!(reading, Reading::Measured { .. }), "{} is not promised by {kind:?}", contract.name);
    !reading.holds()
}

const KEYS: Kind = Kind::Keys(Spread { error: 0.004, outage: 0.025, moved: 0.02 });

#[test]
fn every_policy_keeps_its_contracts_and_every_contract_is_promised_by_one() {
    let mut promised = BTreeSet::new();
    for promise in policies() {
        let findings = hold(&promise, &maker(&promise.balance), SEED);
        let broken: Vec<_> = findings.iter().filter(|f| !f.reading.holds()).collect();
        assert!(broken.is_empty(), "{broken:#?}");
        let measured = findings.iter().filter(|f| matches!(f.reading, Reading::Measured { .. }));
        let names: Vec<_> = measured.map(|f| f.contract).collect();
        assert!(names.len() >= 2, "{} promises only {names:?}", promise.name);
        promised.extend(names);
    }
    assert_eq!(promised, CONTRACTS.iter().map(|c| c.name).collect());
}

#[test]
fn one_seed_gives_one_finding_and_names_are_distinct() {
    let promise = &policies()[0];
    let make = maker(&promise.balance);
    assert_eq!(hold(promise, &make, 5), hold(promise, &make, 5));
    assert_ne!(hold(promise, &make, 5), hold(promise, &make, 6));
    let names: BTreeSet<_> = CONTRACTS.iter().map(|c| c.name).collect();
    assert_eq!(names.len(), CONTRACTS.len());
}

#[test]
fn uniform_is_broken_by_a_modulo_that_favours_the_first() {
    assert!(breaks("uniform", Kind::Chance, &wrong::biased));
    assert!(breaks("uniform", KEYS, &wrong::uneven_ring));
}

#[test]
fn weights_are_broken_by_who_ignores_them() {
    assert!(breaks("weights", Kind::Chance, &wrong::blind_to_weights));
    assert!(breaks("weights", Kind::Turns, &wrong::skipping_turns));
}

#[test]
fn one_down_is_broken_by_turns_that_skip_to_the_neighbour() {
    assert!(breaks("one-down", Kind::Turns, &wrong::skipping_turns));
    assert!(breaks("one-down", Kind::Chance, &wrong::blind_to_outages));
}

#[test]
fn smooth_is_broken_by_deadlines_without_windows() {
    assert!(breaks("smooth", Kind::Turns, &wrong::bursts));
}

#[test]
fn starvation_is_broken_by_who_forgets_the_last_server() {
    assert!(breaks("starvation", Kind::Chance, &wrong::without_the_last));
    assert!(breaks("starvation", Kind::Turns, &wrong::fair_coin));
}

#[test]
fn ties_are_broken_by_best_of_two_without_a_rule_for_equals() {
    assert!(breaks("ties", Kind::BestOf(2), &wrong::best_of_two_without_ties));
}

#[test]
fn herd_is_broken_by_the_least_busy_of_all() {
    assert!(breaks("herd", Kind::BestOf(2), &wrong::least_busy));
}

#[test]
fn stuck_is_broken_by_who_does_not_look_at_load() {
    assert!(breaks("stuck", Kind::BestOf(2), &wrong::fair_coin));
    assert!(breaks("stuck", Kind::Chance, &wrong::fond_of_the_first));
}

#[test]
fn failing_is_broken_by_the_least_busy_of_all() {
    assert!(breaks("failing", Kind::BestOf(2), &wrong::least_busy));
    assert!(breaks("failing", Kind::Chance, &wrong::fond_of_the_first));
}

#[test]
fn small_is_broken_by_draws_with_replacement_and_by_ignoring_states() {
    assert!(breaks("small", Kind::BestOf(2), &wrong::draws_with_replacement));
    assert!(breaks("small", Kind::Chance, &wrong::blind_to_room));
    assert!(breaks("small", Kind::Chance, &wrong::blind_to_outages));
    assert!(breaks("small", Kind::Best, &wrong::fair_coin));
}

#[test]
fn small_is_not_broken_by_a_fair_coin_that_respects_all_states() {
    assert!(!breaks("small", Kind::Chance, &wrong::fair_coin));
}

#[test]
fn small_shares_are_broken_by_turns_that_skip_to_the_neighbour() {
    assert!(breaks("small-shares", Kind::Turns, &wrong::skipping_turns));
}

#[test]
fn outage_and_removal_are_broken_by_a_modulo() {
    assert!(breaks("outage", KEYS, &wrong::modulo));
    assert!(breaks("removal", KEYS, &wrong::modulo));
}

#[test]
fn agreement_is_broken_by_who_goes_by_the_place_in_the_file() {
    assert!(breaks("agreement", KEYS, &wrong::modulo));
}

#[test]
fn order_is_broken_by_who_begins_at_the_end() {
    assert!(breaks("order", Kind::Order, &wrong::from_the_end));
}
