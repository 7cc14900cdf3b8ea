//! Agents that are dead, silent, slow, endless or talk nonsense.

use std::net::TcpListener;

use serde_json::Value;

use crate::process::Port;
use crate::rig::{memory, until};
use crate::stage::{Speech, Stage, status};
use crate::support::{Origin, Plimsoll};

#[test]
fn whatever_an_agent_does_its_server_stays_as_it_last_said() {
    let stage = Stage::new(3, "");
    stage.speakers[0].says("50%");
    stage.speakers[1].says("drain # as it was");
    stage.until_share("a", 0.5);
    stage.until_state("b", "drain");
    let cases = [
        (Speech::Silent, "no whole line within 50 ms"),
        (Speech::Trickles, "no whole line within 50 ms"),
        (Speech::Endless, "its line is longer than 4 KiB"),
        (Speech::Says("drain".to_owned()), "its line has no end"),
        (Speech::Says(String::new()), "its line has no end"),
    ];
    for (speech, reason) in cases {
        stage.speakers[..2].iter().for_each(|speaker| speaker.becomes(speech.clone()));
        until(reason, || {
            (stage.seen("a")["agent"]["reason"] == reason) && (stage.seen("b")["agent"]["reason"] == reason)
        });
        assert_eq!(stage.seen("a")["agent"]["answers"], false);
        assert_eq!((&stage.seen("a")["share"], &stage.seen("b")["state"]), (&0.5.into(), &"drain".into()));
        assert_eq!(stage.spread(9), [3, 0, 6], "{speech:?}");
    }
    stage.speakers[0].becomes(Speech::Resets);
    until("it is a failure", || {
        stage.seen("a")["agent"]["reason"].as_str().is_some_and(|reason| reason.contains("reset"))
    });
    let page = stage.metrics();
    let failed = page.lines().find(|line| {
        line.starts_with(
            "plimsoll_server_agent_questions_total{backend=\"all\",server=\"a\",result=\"failed\"}",
        )
    });
    assert!(failed.is_some_and(|line| !line.ends_with(" 0")), "{page}");
    assert_eq!(stage.seen("c")["agent"]["answers"], true, "the others are asked as ever");
    stage.speakers[0].says("100%");
    stage.until_share("a", 1.0);
    // Told when it begins and when it ends, however often it is asked.
    let told = |words: &str| {
        let lines = stage.program.stderr_lines();
        lines.iter().filter(|line| line.contains("the agent of server all/a") && line.contains(words)).count()
    };
    assert_eq!((told("says nothing: no whole line within 50 ms"), told("answers")), (1, 1));
}

#[test]
fn megabytes_of_an_agent_take_no_memory() {
    let stage = Stage::new(4, "");
    stage.spread(8);
    let (before, _) = memory(&stage.program);
    stage.speakers.iter().for_each(|speaker| speaker.becomes(Speech::Endless));
    let asked = stage.speakers[0].asked();
    until("many times", || stage.speakers[0].asked() > asked + 20);
    let (after, _) = memory(&stage.program);
    assert!(after < before + (8 << 20), "{before} before, {after} after");
}

#[test]
fn what_is_not_understood_changes_nothing_and_is_told_once() {
    let stage = Stage::new(2, "");
    stage.speakers[0].says("75 what is this");
    until("it is seen", || stage.seen("a")["word"]["not_understood"] == "75");
    let asked = stage.speakers[0].asked();
    until("it is asked again", || stage.speakers[0].asked() > asked + 3);
    assert_eq!(stage.spread(10), [5, 5]);
    let told = |line: &String| line.contains("server all/a says by its agent what is not understood: `75`");
    assert_eq!(stage.program.stderr_lines().iter().filter(|line| told(line)).count(), 1);
    stage.speakers[0].says("up");
    until("it is forgotten", || stage.seen("a")["word"] == Value::Null);
}

#[test]
fn a_backend_full_of_agents_that_hang_keeps_no_server_from_being_checked() {
    // The kernel takes their connections, and nobody says a word.
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let origin = Origin::serve();
    let admin = Port::reserve();
    let entry = |n: usize| format!("{{ address = \"{}\", name = \"s{n}\" }}", origin.address());
    let entries: Vec<String> = (0..300).map(entry).collect();
    let program = Plimsoll::start(&format!(
        "workers = 1\n[admin]\nbind = \"{}\"\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"all\"\n\
         [backend.all]\nservers = [{}]\nagent = {{ port = {}, every = \"60s\", timeout = \"60s\" }}\n\
         [[route]]\npath = \"/checked\"\nto = \"checked\"\n\
         [backend.checked]\nservers = [\"{}\"]\nhealth = {{ tcp = true, every = \"100ms\" }}\n",
        admin.address(),
        entries.join(", "),
        silent.local_addr().expect("it is bound").port(),
        origin.address(),
    ));
    let status = || status(admin.address());
    until("it is checked again and again", || {
        status()["backends"][1]["servers"][0]["check"]["passed"].as_u64() >= Some(5)
    });
    let shown = status();
    let agents = shown["backends"][0]["servers"].as_array().expect("a list");
    assert!(agents.iter().all(|server| server["agent"].is_null()), "no question has ended");
    assert!(program.stop().success());
}

#[test]
fn a_server_that_changes_its_mind_all_the_time_does_not_fill_the_log() {
    let stage = Stage::new(2, "");
    for (word, state) in [("drain", "drain"), ("ready", "up")].repeat(6) {
        stage.speakers[0].says(word);
        stage.until_state("a", state);
    }
    stage.speakers[0].says("drain # at last");
    stage.until_state("a", "drain");
    // How many others are told depends on how long all of it took; the last one always is.
    let last = "all/a says by its agent `drain`: at last";
    stage.program.wait_for_line(0, |line| line.contains(last));
    let all = stage.program.stderr_lines();
    let told: Vec<&String> = all.iter().filter(|line| line.contains("all/a says by its agent")).collect();
    assert!(told.len() < 13, "{told:?}");
    assert!(told.last().is_some_and(|line| line.contains(last)), "{told:?}");
}
