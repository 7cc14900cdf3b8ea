//! Operators above servers' words, and words through reloads and upgrades.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::rig::{PROGRAM, until};
use crate::stage::{Speech, Stage};

fn server(stage: &Stage, words: &[&str]) {
    let admin = stage.admin().to_string();
    let output = Command::new(PROGRAM)
        .args(["server", "all/a"])
        .args(words)
        .args(["--admin", &admin])
        .output()
        .expect("it is built");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_operators_order_stands_above_and_ends_with_the_word_that_it_was_against() {
    let stage = Stage::new(2, "");
    stage.speakers[0].says("down # its disk is full");
    stage.until_state("a", "down");
    server(&stage, &["ready"]);
    assert_eq!((&stage.seen("a")["state"], stage.spread(10)), (&"up".into(), vec![5, 5]));
    stage.speakers[0].says("up 20%");
    stage.until_share("a", 0.2);
    server(&stage, &["weight", "3"]);
    assert_eq!(stage.spread(40), [30, 10], "an operator's weight is meant as it is said");
    server(&stage, &["drain"]);
    stage.speakers[0].says("ready up 100%");
    until("its word is taken", || stage.seen("a")["word"].is_null());
    assert_eq!(stage.seen("a")["state"], "drain", "it cannot undo that");
    server(&stage, &["ready"]);
    server(&stage, &["weight", "1"]);
    stage.speakers[0].says("drain");
    let seen = stage.until_state("a", "drain");
    assert_eq!(seen["state_reason"], "it says so itself");
}

#[test]
fn a_reload_keeps_what_was_said_and_forgets_it_where_nobody_is_asked_any_more() {
    let stage = Stage::new(2, "agent = { header = \"X-Word\" }");
    stage.speakers[0].says("drain # a while");
    stage.until_state("a", "drain");
    stage.speakers[0].becomes(Speech::Silent);
    stage.reload("agent = { header = \"X-Word\" }\nmax_requests = 77");
    assert_eq!(stage.seen("a")["max_requests"], 77);
    assert_eq!(stage.seen("a")["state_reason"], "it says so itself: a while");
    stage.reload("agent = { header = \"X-Other\" }");
    assert_eq!(stage.seen("a")["state"], "drain", "its agent is still asked");
    let text = format!(
        "[admin]\nbind = \"{}\"\n[[listen]]\nbind = \"{}\"\nto = \"all\"\n[backend.all]\nservers = [{{ address = \"{}\", name = \"a\" }}]\n",
        stage.admin(),
        stage.address(),
        stage.speakers[0].address
    );
    let said = stage.program.stderr_lines().len();
    stage.program.configure(&text);
    stage.program.signal(Signal::HUP);
    stage.program.wait_for_line(said, |line| line.contains("reloaded "));
    assert_eq!((&stage.seen("a")["state"], stage.ask()), (&"up".into(), 200));
}

#[test]
fn an_upgrade_keeps_what_was_said_also_of_agents_that_say_nothing_any_more() {
    let stage = Stage::new(3, "agent = { header = \"X-Word\" }");
    stage.speakers[0].says("down # its disk is full");
    stage.speakers[1].answers_with("X-Word: 25%\r\n");
    stage.spread(9);
    stage.until_state("a", "down");
    stage.until_share("b", 0.25);
    stage.speakers.iter().for_each(|speaker| speaker.becomes(Speech::Silent));
    stage.speakers[1].answers_with("");
    let old = stage.seen("a")["pid"].clone();
    stage.program.signal(Signal::USR2);
    until("another process serves", || {
        let seen = stage.seen("a");
        seen.is_object() && seen["pid"] != old
    });
    let seen = stage.seen("a");
    assert_eq!(
        (&seen["state"], &seen["state_reason"]),
        (&"down".into(), &"it says so itself: its disk is full".into())
    );
    assert_eq!(stage.seen("b")["share"], json!(0.25));
    // Turns begin anywhere in a round of which one server is out: one more or less.
    let got = stage.spread(50);
    assert!(got[0] == 0 && (9..=11).contains(&got[1]), "{got:?}");
    stage.speakers[0].says("up");
    stage.until_state("a", "up");
    let pid = i32::try_from(stage.seen("a")["pid"].as_i64().expect("a number")).expect("a pid");
    kill_process(Pid::from_raw(pid).expect("not zero"), Signal::KILL).expect("it runs");
}
