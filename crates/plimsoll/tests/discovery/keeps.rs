//! What a reload and an upgrade keep: lists, and what is known about their servers, whoever is dead meanwhile.

use rustix::process::Signal;

use crate::liar::{Liar, Say};
use crate::stage::{
    before, configuration, names, sites, soon, source, status, until_failing, until_served_by, upgradable,
    upgrade, who,
};
use crate::support::Plimsoll;

const A: &str = "127.0.0.51";
const B: &str = "127.0.0.52";

fn discover(liar: &Liar, port: u16) -> String {
    format!("discover = {{ dns = \"web.internal:{port}\", {} }}", liar.resolver())
}

/// HUP with this configuration.
#[track_caller]
fn reload(program: &Plimsoll, text: &str) {
    let said = program.stderr_lines().len();
    program.configure(text);
    program.signal(Signal::HUP);
    let lines = program.wait_for_line(said, |line| line.contains("reloaded"));
    assert!(lines.last().is_some_and(|line| line.contains(": reloaded ")), "{lines:?}");
}

#[test]
fn a_reload_does_not_ask_a_source_that_stays() {
    let port = sites(&[A, B]);
    let liar = Liar::start(|asked| asked.addresses(&[A, B], 60));
    let program = before(&discover(&liar, port));
    until_served_by(&program, &[A, B], port);
    let requests =
        |program: &Plimsoll| status(program)["backends"][0]["requests"].as_u64().expect("a number");
    let (questions, before) = (liar.questions(), requests(&program));
    liar.say(|_| Say::Nothing);
    reload(&program, &configuration(&format!("max_requests = 1024\n{}", discover(&liar, port))));
    reload(
        &program,
        &configuration(&format!("{}\n[[route]]\npath = \"/x\"\nto = \"web\"", discover(&liar, port))),
    );
    assert_eq!(liar.questions(), questions);
    assert!(before > 0 && requests(&program) >= before, "what was counted is kept");
    until_served_by(&program, &[A, B], port);
}

#[test]
fn a_reload_to_a_source_waits_for_its_first_answer_and_one_from_it_ends_it() {
    let port = sites(&[A, B]);
    let liar = Liar::start(|asked| asked.addresses(&[B], 1));
    let program = before(&format!("servers = [\"{A}:{port}\"]"));
    assert_eq!(who(&program), A);
    reload(&program, &configuration(&discover(&liar, port)));
    assert_eq!(who(&program), B, "nobody was answered with 503");
    reload(&program, &configuration(&format!("servers = [\"{A}:{port}\"]")));
    assert!(source(&program).is_null());
    assert_eq!(names(&program).into_iter().collect::<Vec<_>>(), [format!("{A}:{port}")]);
    let questions = liar.questions();
    std::thread::sleep(std::time::Duration::from_millis(1_500)); // that nothing happens takes its time
    assert_eq!(liar.questions(), questions);
}

#[test]
fn a_reload_with_a_dead_source_is_taken_and_told() {
    let port = sites(&[A]);
    let liar = Liar::start(|_| Say::Nothing);
    let program = before(&format!("servers = [\"{A}:{port}\"]"));
    reload(&program, &configuration(&format!("servers = [\"{A}:{port}\"]\n{}", discover(&liar, port))));
    assert_eq!(who(&program), A);
    assert!(program.stderr_lines().iter().any(|line| line.contains("going on without")));
    until_failing(&program);
}

#[test]
fn an_upgrade_while_the_name_server_is_dead_loses_nothing() {
    let port = sites(&[A, B]);
    let liar = Liar::start(|asked| asked.addresses(&[A, B], 1));
    let program = upgradable(&discover(&liar, port));
    until_served_by(&program, &[A, B], port);
    liar.say(|_| Say::Nothing);
    until_failing(&program);
    let _successor = upgrade(&program);
    // The admin address is another one now; the clients' is the same.
    let who: std::collections::BTreeSet<String> = (0..12).map(|_| who(&program)).collect();
    assert_eq!(who, [A, B].map(str::to_owned).into());
    liar.say(|asked| asked.addresses(&[B], 1));
    soon("the new process asks", || {
        let who: std::collections::BTreeSet<String> = (0..8).map(|_| crate::stage::who(&program)).collect();
        if who == [B.to_owned()].into() { Ok(()) } else { Err(who) }
    });
}
