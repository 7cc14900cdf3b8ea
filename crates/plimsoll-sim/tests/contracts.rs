//! The contracts: every policy of production keeps them, and for each there is a wrong policy that breaks it.
//!
//! A wrong policy is one that exists in the field or that a slip would make. It is made of a `Fleet`, which keeps counts, and a rule.

#[path = "contracts/fleet.rs"]
mod fleet;
#[path = "contracts/reporting.rs"]
mod reporting;
#[path = "contracts/wrong.rs"]
mod wrong;

use std::collections::BTreeSet;

use reporting::{Fault, listener};

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

const KEYS: Kind = Kind::Keys(Spread { error: 0.004, outage: 0.025, moved: 0.02, bound: None });
const BOUNDED: Kind = Kind::Keys(Spread { error: 0.004, outage: 0.025, moved: 0.02, bound: Some(1.25) });
const ASKS: Kind = Kind::Reports { asks: 3 };
const ANSWERS: Kind = Kind::Reports { asks: 0 };

#[test]
fn every_policy_keeps_its_contracts_and_every_contract_is_promised_by_one() {
    let mut promised = BTreeSet::new();
    for promise in policies() {
        let findings = hold(&promise, &maker(&promise.backend), SEED);
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
    let make = maker(&promise.backend);
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

#[test]
fn return_is_broken_by_keys_that_stay_where_they_fled() {
    assert!(breaks("return", KEYS, &wrong::never_returns));
    assert!(!breaks("return", KEYS, &wrong::without_bound));
}

#[test]
fn bounds_are_broken_by_one_more_and_by_who_spreads_everything() {
    for contract in ["bound", "bound-small"] {
        assert!(!breaks(contract, BOUNDED, &wrong::bounded), "{contract}");
        assert!(breaks(contract, BOUNDED, &wrong::without_bound), "{contract}");
        assert!(breaks(contract, BOUNDED, &wrong::one_above_the_bound), "{contract}");
    }
    // A few more or fewer have to leave where one more fits or nobody remembers who is whose; with the bound all is as it should be.
    assert!(!breaks("bound-displaced", BOUNDED, &wrong::bounded));
    assert!(breaks("bound-displaced", BOUNDED, &wrong::without_bound));
    assert!(breaks("bound-displaced", BOUNDED, &wrong::one_above_the_bound));
    assert!(breaks("bound-displaced", BOUNDED, &wrong::within_the_bound_whoever));
    assert!(!breaks("bound", BOUNDED, &wrong::within_the_bound_whoever));
    assert!(breaks("bound-small", BOUNDED, &wrong::within_the_bound_whoever));
}

#[test]
fn levels_are_broken_by_all_or_nothing_and_by_backups_that_come_too_early() {
    for contract in ["spill", "levels"] {
        assert!(breaks(contract, Kind::Chance, &wrong::all_or_nothing), "{contract}");
        assert!(breaks(contract, Kind::Chance, &wrong::without_reserve), "{contract}");
        assert!(breaks(contract, Kind::Chance, &wrong::fair_coin), "{contract}");
    }
    assert!(breaks("levels", Kind::Chance, &wrong::backups_too_early));
    assert!(
        !breaks("spill", Kind::Chance, &wrong::backups_too_early),
        "two levels and no backups: the rule itself"
    );
}

#[test]
fn reports_are_broken_by_who_does_not_see_heat_or_latency() {
    for kind in [ASKS, ANSWERS] {
        let asks = if kind == ASKS { 3 } else { 0 };
        assert!(!breaks("reports", kind, &listener(asks, Fault::None)), "{kind:?}");
        assert!(breaks("reports", kind, &listener(asks, Fault::BlindToHeat)), "{kind:?}");
        assert!(breaks("reports", kind, &listener(asks, Fault::BlindToLatency)), "{kind:?}");
        assert!(breaks("reports", kind, &wrong::fair_coin), "{kind:?}");
    }
    assert!(breaks("reports", ASKS, &listener(0, Fault::None)), "who asks has no reason to look elsewhere");
}

#[test]
fn old_reports_are_broken_by_who_never_forgets() {
    assert!(!breaks("reports-old", ASKS, &listener(3, Fault::None)));
    assert!(breaks("reports-old", ASKS, &listener(3, Fault::NeverForgets)));
}

#[test]
fn used_reports_are_broken_by_who_goes_by_one_for_ever() {
    for (kind, asks) in [(ASKS, 3), (ANSWERS, 0)] {
        assert!(!breaks("reports-used", kind, &listener(asks, Fault::None)));
        assert!(breaks("reports-used", kind, &listener(asks, Fault::UsesForEver)));
    }
}

#[test]
fn failing_is_broken_by_who_trusts_quick_errors() {
    for (kind, asks) in [(ASKS, 3), (ANSWERS, 0)] {
        assert!(!breaks("failing", kind, &listener(asks, Fault::None)));
        assert!(breaks("failing", kind, &listener(asks, Fault::TrustsFailures)));
    }
    assert!(breaks("stuck", ASKS, &listener(3, Fault::BlindToHeat)));
}

#[test]
fn asking_is_broken_by_who_asks_all_alike_or_too_little() {
    assert!(!breaks("asked", ASKS, &listener(3, Fault::None)));
    assert!(breaks("asked", ASKS, &listener(3, Fault::AsksAllAlike)));
    assert!(breaks("asked", ASKS, &listener(3, Fault::AsksTooLittle)));
}

#[test]
fn unheard_is_broken_by_who_goes_by_reports_alone() {
    assert!(!breaks("unheard", ANSWERS, &listener(0, Fault::None)));
    assert!(breaks("unheard", ANSWERS, &listener(0, Fault::NeverLooksElsewhere)));
}

#[test]
fn subsets_are_broken_by_places_by_slices_and_by_all_using_the_same() {
    let subset = Kind::Subset(12);
    assert!(breaks("subset", subset, &wrong::first_of_the_file));
    assert!(breaks("subset", subset, &wrong::fair_coin));
    assert!(breaks("subset-change", subset, &wrong::slices));
    assert!(breaks("subset-even", subset, &wrong::everybody_the_same));
    assert!(
        !breaks("subset", subset, &wrong::slices)
            && !breaks("subset-change", subset, &wrong::everybody_the_same)
    );
}

#[test]
fn sessions_are_broken_by_who_clings_and_by_who_lets_go() {
    assert!(!breaks("session", Kind::Sessions, &reporting::keeps));
    assert!(breaks("session", Kind::Sessions, &reporting::clings_to_the_dead));
    assert!(breaks("session", Kind::Sessions, &reporting::clings_to_the_full));
    assert!(breaks("session", Kind::Sessions, &reporting::clings_to_the_tried));
    assert!(breaks("session", Kind::Sessions, &reporting::drops_at_weight_zero));
    assert!(breaks("session", Kind::Sessions, &wrong::fair_coin), "who knows no sessions");
}

#[test]
fn small_is_broken_by_backups_that_step_in_for_full_servers() {
    assert!(breaks("small", Kind::Chance, &wrong::backups_for_the_full));
}
