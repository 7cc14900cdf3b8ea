//! Every scenario that ships is judged with every test run, and the table of `docs/SIMULATION.md` lists what they expect.
//!
//! Those that take no time are judged with several seeds, so that no number is tuned to one of them. The table's last column is what was
//! measured with the first; it is not compared, since another platform's logarithm may differ in its last bit, and with it a run.
//! `UPDATE_GOLDEN=1` writes the table anew.

// A test fails by panicking.
#![allow(clippy::unwrap_used)]

use std::sync::{Mutex, PoisonError};

use plimsoll_sim::{Judged, SHIPPED, Scenario, Verdict, figure};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/SIMULATION.md");
const BEGIN: &str = "|---|---|---|---|---|---|\n";
const END: &str = "<!-- end -->";

/// The page, which several tests may write.
static WRITING: Mutex<()> = Mutex::new(());

/// From one seed to the next: a case with several runs takes those in between.
const APART: usize = 1_000;

/// Judges a scenario with seeds from the file's own on, and holds its part of the table against it.
fn assert_as_expected(name: &str, seeds: usize) {
    let scenario = Scenario::shipped(name).unwrap();
    for seed in (scenario.seed..).step_by(APART).take(seeds) {
        let judged = Scenario { seed, ..scenario.clone() }.study().judge();
        if seed == scenario.seed {
            assert_listed(name, &judged);
        }
        let broken: Vec<&Judged> = judged.iter().filter(|one| one.verdict == Verdict::Broken).collect();
        assert!(broken.is_empty(), "plimsoll sim {name} --seed {seed} repeats it: {broken:#?}");
        assert!(judged.iter().any(|one| one.verdict == Verdict::Holds), "{name}: nothing was judged");
    }
}

/// Holds a scenario's rows of the page against what was judged, or writes them.
fn assert_listed(name: &str, judged: &[Judged]) {
    let rows: String = judged.iter().map(|one| row(name, one)).collect();
    let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_at(table(&page));
    let (listed, after) = rest.split_at(rest.find(END).unwrap());
    let listed_of = |of: &str| -> String {
        let begin = format!("| `{of}` |");
        listed.split_inclusive('\n').filter(|row| row.starts_with(&begin)).collect()
    };
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let all = SHIPPED.iter().map(|&(one, _)| if one == name { rows.clone() } else { listed_of(one) });
        std::fs::write(PAGE, format!("{before}{}{after}", all.collect::<String>())).unwrap();
        return;
    }
    let expected = |rows: &str| -> Vec<String> {
        rows.lines().map(|row| row.rsplit_once(" | ").unwrap().0.to_owned()).collect()
    };
    assert_eq!(expected(&listed_of(name)), expected(&rows), "UPDATE_GOLDEN=1 writes the table anew");
}

/// Where the rows of the table begin.
fn table(page: &str) -> usize {
    let mark = page.find("<!-- SCENARIOS -->").unwrap();
    mark + page[mark..].find(BEGIN).unwrap() + BEGIN.len()
}

fn row(name: &str, one: &Judged) -> String {
    let value = match &one.verdict {
        Verdict::Skipped(_) => "-".to_owned(),
        Verdict::Holds | Verdict::Broken => figure(one.value),
    };
    format!("| `{name}` | {} | `{}` | {} | {} | {value} |\n", one.case, one.policy, one.what, one.bound)
}

#[test]
fn the_page_lists_the_scenarios_that_ship_and_no_others() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let rows = page[table(&page)..].lines().take_while(|line| *line != END);
    let mut names: Vec<&str> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    names.dedup();
    assert_eq!(names, SHIPPED.iter().map(|&(name, _)| name).collect::<Vec<_>>());
}

macro_rules! judged {
    ($($fact:ident: $name:literal, $seeds:literal;)*) => {
        $(#[test]
        fn $fact() {
            assert_as_expected($name, $seeds);
        })*

        #[test]
        fn every_scenario_is_judged() {
            let mut names = [$($name),*];
            let mut shipped: Vec<&str> = SHIPPED.iter().map(|&(name, _)| name).collect();
            names.sort_unstable();
            shipped.sort_unstable();
            assert_eq!(names, *shipped);
        }
    };
}

// What is judged with one seed takes seconds for it.
judged! {
    two_choices_buy_what_the_mean_field_says: "uniform", 1;
    what_is_lost_without_one_queue_is_what_theory_says: "central-queue", 1;
    slow_servers_draw_little: "gray-failure", 3;
    a_server_that_hangs_draws_little: "hang", 2;
    a_black_hole_draws_no_more_than_its_bound: "black-hole", 3;
    huge_requests_do_what_the_theory_of_heavy_tails_says: "heavy-tail", 1;
    neighbours_and_slow_halves_order_the_policies: "antagonist", 1;
    machines_in_demand_do_what_prequals_paper_says: "contention", 1;
    few_and_many_servers_and_balancers_do_what_was_measured: "scale", 1;
    a_restart_is_borne: "restart", 3;
    checks_find_a_hang_in_time_and_a_rolling_restart_loses_nothing: "health-checks", 2;
    a_retry_storm_goes_as_arithmetic_says: "retry-storm", 3;
    hedges_cut_the_tail_for_little: "hedging", 3;
    hashes_move_what_they_should: "membership-hash", 1;
    old_news_makes_herds: "stale", 1;
    a_limit_keeps_overload_useful: "overload", 1;
    a_limit_is_found: "adaptive", 2;
    the_faults_of_the_real_program_are_foreseen: "faults", 3;
    what_becomes_of_a_list_that_changes_is_foreseen: "membership", 3;
}
