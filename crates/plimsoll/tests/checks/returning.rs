//! Servers that come back from maintenance: whoever sent them there, they are new until a check passes. One that drained is as it was.
//!
//! While it is away a server's health and answers become 500, as after a deployment that went wrong, so one request too early is seen.

use serde_json::json;

use crate::rig::until;
use crate::stage::{Asked, GET, Stage};

/// One check at the start, and none that would find out later; whoever is new or fails is asked again at once.
const KEYS: &str =
    "health = { path = \"/healthz\", every = \"1h\", every_down = \"50ms\" }\nbalance = \"round_robin\"";

fn stage(servers: usize) -> Stage {
    let stage = Stage::new(&vec![Asked::Status(200); servers], KEYS);
    assert_eq!(stage.states(), vec!["up"; servers]);
    stage
}

fn becomes(stage: &Stage, place: usize, state: &str) {
    assert_eq!(stage.order("PATCH", &format!("/s{place}"), &json!({ "state": state })), 200);
}

/// What is served there becomes this.
fn serves(stage: &Stage, place: usize, status: u16) {
    stage.servers[place].checks_become(Asked::Status(status));
    stage.servers[place].requests_become(status);
}

/// The second of three is back and broken: it is asked at once, gets nothing, and is back for good with one pass.
fn the_second_gets_nothing_until_it_passes(stage: &Stage) {
    let before = stage.servers[1].requests();
    (0..30).for_each(|_| assert_eq!(stage.ask(GET), 200));
    until("it is down", || stage.server(1)["state"] == "down");
    assert_eq!(stage.server(1)["state_reason"], "status 500");
    (0..30).for_each(|_| assert_eq!(stage.ask(GET), 200));
    assert_eq!((stage.servers[1].requests(), &stage.backend()["panic"]), (before, &json!(false)));
    serves(stage, 1, 200);
    until("one pass is enough", || stage.ask(GET) == 200 && stage.servers[1].requests() > before);
    assert_eq!(stage.states(), ["up"; 3]);
}

#[test]
fn one_that_an_operator_calls_back() {
    let stage = stage(3);
    becomes(&stage, 1, "maint");
    serves(&stage, 1, 500);
    becomes(&stage, 1, "ready");
    the_second_gets_nothing_until_it_passes(&stage);
    // By way of draining: its checks begin with that.
    becomes(&stage, 1, "maint");
    serves(&stage, 1, 500);
    becomes(&stage, 1, "drain");
    let asked = stage.servers[1].checks();
    until("it is asked", || stage.servers[1].checks() > asked + 2);
    becomes(&stage, 1, "ready");
    the_second_gets_nothing_until_it_passes(&stage);
}

#[test]
fn one_that_the_file_calls_back() {
    let stage = stage(3);
    let file = stage.file(KEYS);
    stage.reload(&file.replace("name = \"s1\"", "name = \"s1\", state = \"maint\""));
    assert_eq!(stage.states(), ["up", "maint", "up"]);
    serves(&stage, 1, 500);
    stage.reload(&file);
    the_second_gets_nothing_until_it_passes(&stage);
}

#[test]
fn one_that_is_called_back_after_an_upgrade() {
    let stage = stage(3);
    becomes(&stage, 1, "maint");
    serves(&stage, 1, 500);
    stage.upgrade();
    assert_eq!(stage.states(), ["up", "maint", "up"]);
    becomes(&stage, 1, "ready");
    the_second_gets_nothing_until_it_passes(&stage);
    stage.end_successor();
}

#[test]
fn one_that_drained_serves_at_once() {
    let stage = stage(3);
    becomes(&stage, 1, "drain");
    (0..9).for_each(|_| assert_eq!(stage.ask(GET), 200));
    let before = stage.servers[1].requests();
    becomes(&stage, 1, "ready");
    assert_eq!(stage.states(), ["up"; 3]);
    (0..9).for_each(|_| assert_eq!(stage.ask(GET), 200));
    assert_eq!((stage.servers[1].requests(), stage.servers[1].checks()), (before + 3, 1));
}

#[test]
fn the_only_one_serves_before_it_passes() {
    let stage = stage(1);
    becomes(&stage, 0, "maint");
    assert_eq!(stage.ask(GET), 503);
    stage.servers[0].checks_become(Asked::Hang);
    becomes(&stage, 0, "ready");
    assert_eq!((stage.ask(GET), stage.backend()["panic"].as_bool()), (200, Some(true)));
    stage.servers[0].checks_become(Asked::Status(200));
    until("it is up", || stage.states() == ["up"]);
}
