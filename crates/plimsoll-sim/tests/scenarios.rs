//! The shipped scenarios that take no time are judged with every test run; `plimsoll sim all` judges the rest too.

// A test fails by panicking.
#![allow(clippy::unwrap_used)]

use plimsoll_sim::{Judged, Scenario, Verdict};

fn assert_as_expected(name: &str) {
    let judged = Scenario::shipped(name).unwrap().study().judge();
    let broken: Vec<&Judged> = judged.iter().filter(|one| one.verdict == Verdict::Broken).collect();
    assert!(broken.is_empty(), "{name}; plimsoll sim {name} repeats it: {broken:#?}");
    assert!(judged.iter().any(|one| one.verdict == Verdict::Holds), "{name}: nothing was judged");
}

#[test]
fn a_server_that_hangs_draws_little() {
    assert_as_expected("hang");
}

#[test]
fn a_black_hole_draws_no_more_than_its_bound() {
    assert_as_expected("black-hole");
}

#[test]
fn a_restart_is_borne() {
    assert_as_expected("restart");
}

#[test]
fn a_retry_storm_goes_as_arithmetic_says() {
    assert_as_expected("retry-storm");
}

#[test]
fn hedges_cut_the_tail_for_little() {
    assert_as_expected("hedging");
}

#[test]
fn a_limit_keeps_overload_useful() {
    assert_as_expected("overload");
}

#[test]
fn hashes_move_what_they_should() {
    assert_as_expected("membership-hash");
}

#[test]
fn checks_find_a_hang_in_time_and_a_rolling_restart_loses_nothing() {
    assert_as_expected("health-checks");
}

#[test]
fn the_faults_of_the_real_program_are_foreseen() {
    assert_as_expected("faults");
}

#[test]
fn what_becomes_of_a_list_that_changes_is_foreseen() {
    assert_as_expected("membership");
}
