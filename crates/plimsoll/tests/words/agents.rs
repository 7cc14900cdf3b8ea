//! Agents in HAProxy's text protocol: what they say and what follows.

use crate::process::Port;
use crate::rig::{fresh_path, until};
use crate::stage::{Speaker, Speech, Stage};

#[test]
fn a_share_changes_the_picks_and_is_seen() {
    let stage = Stage::new(3, "");
    assert_eq!(stage.spread(30), [10, 10, 10]);
    stage.speakers[0].says("50%");
    stage.until_share("a", 0.5);
    let mut got = stage.spread(100);
    assert_eq!(got.remove(0), 20, "one of five, where it was one of three");
    assert_eq!(stage.seen("a")["weight"], 1, "the file's is what it was");
    assert_eq!(stage.seen("a")["word"]["line"], "50%");
    assert_eq!(stage.seen("a")["state"], "up");
    assert!(stage.metrics().contains("plimsoll_server_share{backend=\"all\",server=\"a\"} 0.5\n"));
    stage.speakers[0].says("0%");
    stage.until_share("a", 0.0);
    assert_eq!(stage.spread(30), [0, 15, 15]);
    stage.speakers[0].says("200%");
    stage.until_share("a", 2.0);
    assert_eq!(stage.spread(40), [20, 10, 10]);
    stage.speakers[0].says("100%");
    stage.until_share("a", 1.0);
    assert_eq!(stage.spread(30), [10, 10, 10]);
}

#[test]
fn every_word_that_takes_a_server_out_is_obeyed_explained_and_taken_back() {
    for (out, state, back) in [
        ("drain", "drain", "ready"),
        ("MAINT", "maint", "Ready"),
        ("down", "down", "up"),
        ("fail", "down", "up"),
        ("stopped", "down", "up"),
    ] {
        let stage = Stage::new(2, "");
        let said = stage.program.stderr_lines().len();
        stage.speakers[0].says(&format!("{out} # the reason why"));
        let seen = stage.until_state("a", state);
        assert_eq!(seen["state_reason"], "it says so itself: the reason why");
        assert!(seen["state_for_seconds"].as_f64().is_some_and(|seconds| seconds < 5.0), "{seen}");
        assert_eq!(seen["word"]["by"], "agent");
        assert_eq!(stage.spread(10), [0, 10], "{out}");
        let word = out.to_ascii_lowercase();
        let line = format!("server all/a says by its agent `{word}`: the reason why");
        stage.program.wait_for_line(said, |said| said.contains(&line));
        let page = stage.metrics();
        assert!(page.contains("plimsoll_server_ready{backend=\"all\",server=\"a\"} 0\n"), "{page}");
        stage.speakers[0].says(back);
        stage.until_state("a", "up");
        assert_eq!(stage.spread(10), [5, 5], "{back}");
        let line = format!("server all/a says by its agent `{}`", back.to_ascii_lowercase());
        stage.program.wait_for_line(said, |said| said.contains(&line));
        assert_eq!(stage.seen("a")["word"], serde_json::Value::Null);
    }
}

#[test]
fn when_all_say_that_they_are_down_nobody_serves_and_that_is_no_panic() {
    let stage = Stage::new(2, "panic = \"50%\"");
    stage.speakers.iter().for_each(|speaker| speaker.says("stopped"));
    stage.until_state("a", "down");
    stage.until_state("b", "down");
    assert_eq!(stage.ask(), 503);
    stage.speakers[1].says("up");
    stage.until_state("b", "up");
    assert_eq!(stage.spread(5), [0, 5]);
}

#[test]
fn a_number_of_requests_is_obeyed_and_given_back() {
    let stage = Stage::new(1, "max_requests = 9");
    stage.speakers[0].says("maxconn:4");
    until("four", || stage.seen("a")["max_requests"] == 4);
    stage.speakers[0].says("maxconn:0");
    until("the file's again", || stage.seen("a")["max_requests"] == 9);
}

#[test]
fn up_by_its_own_word_is_not_up_while_its_check_fails() {
    let nobody = Port::reserve();
    let check = format!(", health = {{ tcp = true, port = {}, every = \"50ms\" }}", nobody.address().port());
    let (a, b) = (Speaker::start("a", Speech::line("up")), Speaker::start("b", Speech::line("up")));
    let stage = Stage::of(vec![a], &check, "panic = \"0%\"");
    stage.until_state("a", "down");
    let asked = stage.speakers[0].asked();
    until("it says so again", || stage.speakers[0].asked() > asked + 1);
    assert_eq!(stage.seen("a")["state_reason"], "no connection: connection refused");
    drop(b);
}

#[test]
fn back_from_maintenance_by_its_own_word_it_is_checked_before_it_serves() {
    let well = fresh_path("well");
    std::fs::write(&well, "").expect("the test's own directory can be written");
    // Asked at the start and when they are new, and not again while they are up.
    let check = format!(
        "health = {{ program = [\"/bin/sh\", \"-c\", \"test -e {}\"], every = \"1h\", every_down = \"50ms\" }}",
        well.display()
    );
    let stage = Stage::new(2, &check);
    assert_eq!(stage.spread(10), [5, 5]);
    stage.speakers[0].says("maint");
    stage.until_state("a", "maint");
    std::fs::remove_file(&well).expect("it is there");
    stage.speakers[0].says("ready");
    let seen = stage.until_state("a", "down");
    assert_eq!(seen["state_reason"], "exit code 1");
    assert_eq!((stage.spread(10), &stage.seen("b")["state"]), (vec![0, 10], &serde_json::json!("up")));
    std::fs::write(&well, "").expect("the test's own directory can be written");
    stage.until_state("a", "up");
    assert_eq!(stage.spread(10), [5, 5]);
}

#[test]
fn one_in_maintenance_by_its_own_word_is_still_asked() {
    let stage = Stage::new(2, "");
    stage.speakers[0].says("maint");
    stage.until_state("a", "maint");
    let asked = stage.speakers[0].asked();
    until("it is asked", || stage.speakers[0].asked() > asked + 2);
}

#[test]
fn an_agent_gets_what_it_is_to_be_sent_and_may_be_elsewhere() {
    let speaker = Speaker::start("a", Speech::line("75%"));
    let servers = format!(
        "servers = [\"unix:/nowhere.sock\"]\nagent = {{ port = {}, address = \"127.0.0.1\", every = \"50ms\", send = \"api\\n\" }}",
        speaker.agent.port()
    );
    let text = format!("[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"api\"\n[backend.api]\n{servers}\n");
    let _program = crate::support::Plimsoll::start(&text);
    until("it was sent", || speaker.sent() == b"api\n");
}
