//! `plimsoll verify`: the policies of the program keep their contracts, and a balancer is judged by what it does.
//!
//! Runs the real program as origins and as the judge, on loopback. For every contract that is looked at from outside there is a balancer that
//! keeps it and one that is wrong in one way and breaks it.

#[path = "verify/balancer.rs"]
mod balancer;
#[path = "verify/judge.rs"]
mod judge;
#[path = "verify/signals.rs"]
mod signals;
#[path = "support/mod.rs"]
mod support;

use balancer::{Balancer, Defect, Rule};
use judge::{Origin, Verdict, controls, judge, verify};
use support::Plimsoll;

const EQUAL: [u16; 3] = [1, 1, 1];

/// Right balancers keep all that their policy promises, and it is just this.
#[track_caller]
fn keeps(rule: Rule, policy: &str, weights: [u16; 3], contracts: &[&str]) {
    let verdict = judge(rule, Defect::None, policy, weights, &[]);
    let kept = |contract: &&&str| verdict.holds(contract) == Some(true);
    let of_these = contracts.iter().filter(kept).count();
    let measured = verdict.page["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .filter(|f| f["promised"] == true)
        .count();
    assert_eq!(
        (verdict.code, of_these, measured),
        (Some(0), contracts.len(), contracts.len()),
        "{verdict:#?}"
    );
}

/// A balancer with this defect breaks each of these.
#[track_caller]
fn breaks(rule: Rule, defect: Defect, policy: &str, weights: [u16; 3], contracts: &[&str]) {
    let verdict = judge(rule, defect, policy, weights, contracts);
    for contract in contracts {
        assert_eq!(
            (verdict.code, verdict.holds(contract)),
            (Some(1), Some(false)),
            "{contract}: {verdict:#?}"
        );
    }
}

/// All at once: most of the time they wait.
fn together(checks: &[fn()]) {
    std::thread::scope(|scope| checks.iter().for_each(|&check| drop(scope.spawn(check))));
}

#[test]
fn one_policy_is_held_against_its_contracts() {
    let verdict = Verdict::of(&["--policy", "round_robin", "--seed", "3"]);
    assert_eq!((verdict.code, &verdict.page["ok"]), (Some(0), &true.into()), "{verdict:#?}");
    assert_eq!(verdict.holds("smooth"), Some(true));
    assert_eq!(verdict.holds("outage"), None, "round robin does not go by keys");
}

#[test]
fn the_contracts_that_are_asked_for_are_looked_at_and_no_others() {
    let verdict = Verdict::of(&["--policy", "hash", "--contract", "outage,return"]);
    assert_eq!(
        (verdict.code, verdict.page["findings"].as_array().expect("findings").len()),
        (Some(0), 2),
        "{verdict:#?}"
    );
    assert_eq!(verify(&["--contract", "no_such"]).status.code(), Some(2));
    let unpromised = verify(&["--policy", "round_robin", "--contract", "outage"]);
    assert_eq!(unpromised.status.code(), Some(2), "nothing measured must not pass for kept");
}

#[test]
fn a_policy_goes_by_each_of_its_names() {
    let verdict = Verdict::of(&["--policy", "least_time", "--contract", "uniform"]);
    assert_eq!(
        (verdict.code, &verdict.page["findings"][0]["policy"]),
        (Some(0), &"ewma".into()),
        "{verdict:#?}"
    );
}

#[test]
fn plimsoll_in_turns_keeps_what_turns_promise() {
    let origins = Origin::three();
    let servers: Vec<String> = origins.iter().map(|o| format!("\"{}\"", o.address)).collect();
    let balancer = Plimsoll::start(&format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"all\"\n[backend.all]\nbalance = \"round_robin\"\nslow_start = \"0s\"\nservers = [{}]\n",
        servers.join(", ")
    ));
    let url = format!("http://{}", balancer.address());
    let verdict = Verdict::of(&["--url", &url, "--policy", "round_robin", "--control", &controls(&origins)]);
    assert_eq!((verdict.code, &verdict.page["ok"]), (Some(0), &true.into()), "{verdict:#?}");
    assert_eq!(verdict.holds("dying"), Some(true));
}

#[test]
fn right_balancers_keep_what_their_policies_promise() {
    together(&[
        || {
            keeps(
                Rule::Turns,
                "round_robin",
                [3, 1, 1],
                &["shares", "smooth", "one-down", "small", "failing", "dying", "revived"],
            );
        },
        || {
            let load = ["shares", "one-down", "small", "busy", "slow", "dying", "revived", "busy-pair"];
            keeps(Rule::Least, "least_conn", EQUAL, &load);
        },
        || {
            let load =
                ["shares", "one-down", "small", "busy", "slow", "failing", "dying", "revived", "busy-pair"];
            keeps(Rule::BestOfTwo, "p2c", EQUAL, &load);
        },
        || {
            let keys = ["shares", "outage", "return", "one-down", "small", "failing", "dying", "revived"];
            keeps(Rule::Keys, "hash_rendezvous", EQUAL, &keys);
        },
        || keeps(Rule::First, "first", EQUAL, &["order", "dying", "revived"]),
    ]);
}

#[test]
fn shares_are_broken_by_who_ignores_weights_drops_requests_or_answers_nobody() {
    breaks(Rule::Turns, Defect::IgnoresWeights, "round_robin", [3, 1, 1], &["shares"]);
    breaks(Rule::Turns, Defect::Drops, "round_robin", EQUAL, &["shares", "smooth"]);
    breaks(Rule::Turns, Defect::AnswersNobody, "round_robin", EQUAL, &["shares", "smooth"]);
}

#[test]
fn smooth_is_broken_by_bursts_that_are_even_in_the_end() {
    let verdict = judge(Rule::Turns, Defect::Bursts, "round_robin", EQUAL, &["shares", "smooth"]);
    assert_eq!((verdict.holds("shares"), verdict.holds("smooth")), (Some(true), Some(false)), "{verdict:#?}");
}

#[test]
fn one_down_and_small_are_broken_by_who_skips_to_the_neighbour_or_refuses() {
    together(&[
        || breaks(Rule::Turns, Defect::NeighbourInherits, "round_robin", EQUAL, &["one-down", "small"]),
        || breaks(Rule::Turns, Defect::RefusesWhileOneIsDown, "round_robin", EQUAL, &["one-down", "small"]),
        || {
            let few = ["shares", "one-down", "small"];
            let verdict = judge(Rule::Turns, Defect::RefusesWithOneLeft, "round_robin", EQUAL, &few);
            let holds = few.map(|contract| verdict.holds(contract));
            assert_eq!(
                (verdict.code, holds),
                (Some(1), [Some(true), Some(true), Some(false)]),
                "{verdict:#?}"
            );
        },
    ]);
}

#[test]
fn outage_is_broken_by_a_modulo_and_return_by_keys_that_are_dealt_anew() {
    together(&[
        || breaks(Rule::Keys, Defect::Modulo, "hash", EQUAL, &["outage"]),
        || breaks(Rule::Keys, Defect::RefusesWhileOneIsDown, "hash", EQUAL, &["outage"]),
        || {
            let verdict = judge(Rule::Keys, Defect::DealsAnew, "hash", EQUAL, &["outage", "return"]);
            assert_eq!(
                (verdict.holds("outage"), verdict.holds("return")),
                (Some(true), Some(false)),
                "{verdict:#?}"
            );
        },
    ]);
}

#[test]
fn busy_and_slow_are_broken_by_who_is_blind_and_by_who_refuses() {
    together(&[
        || breaks(Rule::BestOfTwo, Defect::BlindToLoad, "p2c", EQUAL, &["busy", "slow"]),
        || breaks(Rule::BestOfTwo, Defect::RefusesWhileOneIsBusy, "p2c", EQUAL, &["busy", "slow"]),
        || breaks(Rule::BestOfTwo, Defect::SecondAlone, "p2c", EQUAL, &["busy-pair"]),
        || {
            let busy = ["busy", "busy-pair"];
            let verdict = judge(Rule::BestOfTwo, Defect::BlindWithTwo, "p2c", EQUAL, &busy);
            let holds = busy.map(|contract| verdict.holds(contract));
            assert_eq!((verdict.code, holds), (Some(1), [Some(true), Some(false)]), "{verdict:#?}");
        },
    ]);
}

#[test]
fn failing_is_broken_by_who_goes_by_load_and_by_who_refuses_after_failures() {
    breaks(Rule::Least, Defect::None, "round_robin", EQUAL, &["failing"]);
    breaks(Rule::Turns, Defect::RefusesAfterFailures, "round_robin", EQUAL, &["failing"]);
}

#[test]
fn dying_is_broken_by_who_never_tries_again_and_revived_by_who_never_revives() {
    together(&[
        || breaks(Rule::Turns, Defect::NeverTriesAgain, "round_robin", EQUAL, &["dying"]),
        || breaks(Rule::Turns, Defect::NeverRevives, "round_robin", EQUAL, &["revived"]),
    ]);
}

#[test]
fn order_is_broken_by_who_spreads_or_refuses() {
    together(&[
        || breaks(Rule::First, Defect::RefusesWithOneLeft, "first", EQUAL, &["order"]),
        || breaks(Rule::Turns, Defect::None, "first", EQUAL, &["order"]),
    ]);
}

#[test]
fn an_origin_that_was_not_named_is_told_and_not_held_against_the_balancer() {
    let origins = Origin::three();
    let servers = origins.each_ref().map(|origin| (origin.address.clone(), 1));
    let balancer = Balancer::start(Rule::Turns, Defect::None, &servers);
    let url = format!("http://{}", balancer.address);
    let out = verify(&["--url", &url, "--policy", "round_robin", "--control", &controls(&origins[..2])]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(3), "{said}");
    assert!(said.contains("c answers through"), "{said}");
}

#[test]
fn what_is_no_control_address_is_refused() {
    let origins = Origin::three();
    let servers = origins.each_ref().map(|origin| (origin.address.clone(), 1));
    let balancer = Balancer::start(Rule::Turns, Defect::None, &servers);
    let (own, url) = (balancer.address.to_string(), format!("http://{}", balancer.address));
    let with = |other: &str| {
        let named = format!("{},{other}", origins[0].control);
        let out = verify(&["--url", &url, "--policy", "round_robin", "--control", &named]);
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, said) = with(&own);
    assert!(code == Some(2) && said.contains("is the balancer itself"), "{said}");
    let (code, said) = with(&origins[1].address);
    assert!(code == Some(3) && said.contains("where b or a balancer serves clients"), "{said}");
}

#[test]
fn wrong_options_and_absent_balancers_are_told() {
    assert_eq!(verify(&["--policy", "no_such"]).status.code(), Some(2));
    let nowhere = ["--url", "http://192.0.2.1", "--policy", "p2c", "--control", ":1,:2"];
    assert_eq!(verify(&nowhere).status.code(), Some(2), "not on loopback");
    let nobody = ["--url", "http://127.0.0.1:1", "--policy", "p2c", "--control", "127.0.0.1:2,127.0.0.1:3"];
    assert_eq!(verify(&nobody).status.code(), Some(3));
}
