//! Many servers join a few: however they come, they get nothing before a check of theirs has passed, and nobody panics because of them.
//!
//! Those who join answer requests with 500, so one request too early is seen. Some never answer a check, some fail it.

use serde_json::json;

use crate::rig::{fresh_path, until};
use crate::stage::{Asked, GET, Stage};

/// Whoever fails is asked again at once; whoever is silent has two seconds.
const KEYS: &str =
    "health = { path = \"/healthz\", every = \"5s\", every_down = \"50ms\" }\nbalance = \"round_robin\"";

const JOIN: [Asked; 6] =
    [Asked::Hang, Asked::Status(503), Asked::Hang, Asked::Status(503), Asked::Hang, Asked::Status(503)];

/// Two that are well, of which the file lists so many, and six that are not.
fn stage(listed: usize, keys: &str) -> Stage {
    let checks: Vec<Asked> = [Asked::Status(200); 2].into_iter().chain(JOIN).collect();
    let stage = Stage::of(listed, &checks, &format!("{KEYS}\n{keys}"));
    stage.servers[2..].iter().for_each(|server| server.requests_become(500));
    until("the first two are up", || stage.states() == ["up", "up"]);
    stage
}

fn entry(stage: &Stage, place: usize) -> serde_json::Value {
    json!({ "address": stage.servers[place].address().to_string(), "name": format!("s{place}") })
}

/// All eight are there: those who joined get nothing until a check passes, whether none has ended yet or some have failed.
fn none_gets_anything_before_a_check_has_passed(stage: &Stage) {
    let all_is_well = || {
        (0..60).for_each(|_| assert_eq!(stage.ask(GET), 200));
        assert_eq!(stage.backend()["panic"], false);
    };
    all_is_well();
    until("some have failed", || stage.states().iter().filter(|state| *state == "down").count() >= 3);
    let failed = stage.servers[3].checks();
    until("they fail again", || stage.servers[3].checks() > failed + 3);
    all_is_well();
    assert!(stage.servers[2..].iter().all(|server| server.requests() == 0));
    stage.servers[3].requests_become(200);
    stage.servers[3].checks_become(Asked::Status(200));
    until("one pass is enough", || stage.ask(GET) == 200 && stage.servers[3].requests() > 0);
    all_is_well();
    assert!((4..8).all(|place| stage.servers[place].requests() == 0));
}

#[test]
fn six_servers_that_an_operator_adds_to_two() {
    let stage = stage(2, "");
    for place in 2..8 {
        assert_eq!(stage.order("POST", "", &entry(&stage, place)), 201);
        assert_eq!(stage.ask(GET), 200);
    }
    none_gets_anything_before_a_check_has_passed(&stage);
}

#[test]
fn six_servers_that_a_list_adds_to_two() {
    let path = fresh_path("list.json");
    let replace = |stage: &Stage, places: std::ops::Range<usize>| {
        let list: Vec<_> = places.map(|place| entry(stage, place)).collect();
        let new = path.with_extension("new");
        std::fs::write(&new, json!(list).to_string()).expect("the test's own directory can be written");
        std::fs::rename(&new, &path).expect("it is the same directory");
    };
    std::fs::write(&path, "[]").expect("the test's own directory can be written");
    let stage = stage(2, &format!("discover = {{ file = \"{}\", allow_empty = true }}", path.display()));
    replace(&stage, 2..8);
    until("they are there", || stage.states().len() == 8);
    none_gets_anything_before_a_check_has_passed(&stage);
}

#[test]
fn six_servers_that_a_reload_adds_to_two() {
    let stage = stage(2, "");
    stage.reload(&stage.file(KEYS));
    none_gets_anything_before_a_check_has_passed(&stage);
}

#[test]
fn those_who_have_never_passed_are_as_new_after_an_upgrade() {
    let stage = stage(2, "");
    stage.reload(&stage.file(KEYS));
    until("some have failed", || stage.states().iter().filter(|state| *state == "down").count() >= 3);
    stage.upgrade();
    none_gets_anything_before_a_check_has_passed(&stage);
    stage.end_successor();
}
