//! Active checks in the real program: each kind of check, when a server serves and when not, and what outlives a reload and an upgrade.
//!
//! The servers are threads that answer checks and requests each as they are told; the program is the real one, with one worker.

#[path = "checks/joining.rs"]
mod joining;
#[path = "peers/process.rs"]
mod process;
#[path = "checks/returning.rs"]
mod returning;
#[path = "support/rig.rs"]
mod rig;
#[path = "checks/stage.rs"]
mod stage;
mod support;

use process::Port;
use rig::{fresh_path, until};
use rustix::process::Signal;
use stage::{Asked, GET, POST, Stage};

/// Checks often, and with time enough for a busy machine: a check may take as long as the time between two.
const FAST: &str = "health = { path = \"/healthz\", every = \"250ms\" }\nbalance = \"round_robin\"";
/// One check at the start, and no other while a test lasts.
const ONCE: &str =
    "health = { path = \"/healthz\", every = \"1h\", every_down = \"1h\" }\nbalance = \"round_robin\"";

#[test]
fn whatever_is_wrong_with_an_answer_fails_the_check_and_is_said() {
    let cases = [
        (Asked::Status(503), "status 503"),
        (Asked::Hang, "no whole answer within 1 s"),
        (Asked::Trickle, "no whole answer within 1 s"),
        (Asked::Close, "it closed before a whole answer"),
        (Asked::Reset, "the connection broke: connection reset by peer"),
        (Asked::Garbage, "its answer makes no sense: bad_status_line"),
        (Asked::Endless, "its answer is longer than 64 KiB"),
    ];
    let mut servers = vec![Asked::Status(200); 8];
    servers.extend(cases.iter().map(|(asked, _)| *asked));
    let keys = "health = { path = \"/healthz\", every = \"1s\" }";
    let stage = Stage::new(&servers, keys);
    for (place, (asked, reason)) in (8..).zip(cases) {
        until("it is down", || stage.server(place)["state"] == "down");
        assert_eq!(stage.server(place)["state_reason"], reason, "{asked:?}");
        assert_eq!(stage.server(place)["check"]["passes"], false);
    }
    assert!((0..8).all(|place| stage.server(place)["state"] == "up"));
    for _ in 0..60 {
        assert_eq!(stage.ask(GET), 200);
    }
    assert!((8..15).all(|place| stage.servers[place].requests() == 0), "none was given a request");
    let page = stage.metrics();
    assert!(
        page.contains("plimsoll_server_checks_total{backend=\"all\",server=\"s0\",result=\"failed\"} 0\n"),
        "{page}"
    );
    let failed = page.lines().find(|line| {
        line.starts_with("plimsoll_server_checks_total{backend=\"all\",server=\"s8\",result=\"failed\"} ")
    });
    assert!(failed.is_some_and(|line| !line.ends_with("} 0")), "{page}");
    assert!(page.contains("plimsoll_server_check_age_seconds{backend=\"all\",server=\"s0\"} 0."), "{page}");
}

#[test]
fn a_dead_server_gets_nothing_from_the_first_request_on() {
    let nobody = Port::reserve();
    let stage = Stage::new(&[Asked::Status(200), Asked::Status(200)], FAST);
    let text = stage.file(FAST).replace(
        "servers = [",
        &format!("servers = [{{ address = \"{}\", name = \"dead\" }}, ", nobody.address()),
    );
    let again = Stage::at(&text, stage.servers.clone());
    for _ in 0..10 {
        assert_eq!(again.ask(GET), 200);
    }
    assert_eq!(
        (again.server(0)["state"].as_str(), again.server(0)["refused"].as_u64()),
        (Some("down"), Some(0))
    );
    assert_eq!(again.server(0)["state_reason"], "no connection: connection refused");
    again.program.wait_for_line(0, |line| line.contains("server all/dead is down: no connection"));
}

#[test]
fn a_new_server_gets_nothing_until_its_first_check_passes() {
    let stage = Stage::new(&[Asked::Status(200), Asked::Status(200), Asked::Status(503)], FAST);
    let two = Stage::at(&stage.file_of(2, FAST), stage.servers.clone());
    assert_eq!(stage.servers[2].requests(), 0);
    two.reload(&stage.file_of(3, FAST).replace(&stage.place(), &two.place()));
    (0..30).for_each(|_| assert_eq!(two.ask(GET), 200));
    assert_eq!(two.servers[2].requests(), 0);
    two.servers[2].checks_become(Asked::Status(204));
    until("one pass is enough", || {
        two.ask(GET);
        two.servers[2].requests() > 0
    });
}

#[test]
fn three_failures_take_a_server_out_and_two_passes_bring_it_back() {
    let stage = Stage::new(&[Asked::Status(200), Asked::Status(200)], FAST);
    let (pass, fail) = (Asked::Status(200), Asked::Status(500));
    let begun = stage.servers[1].script(&[pass, fail, fail, pass, fail, fail, fail, pass, fail, pass, pass]);
    until("the script ends", || stage.servers[1].checks() > begun + 20);
    let told: Vec<String> = stage.told("server all/s1 ");
    let expected = ["server all/s1 is down: status 500", "server all/s1 is up: the check passed"];
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().zip(expected).all(|(line, expected)| line.ends_with(expected)), "{told:?}");
    let page = stage.server(1)["check"].clone();
    assert_eq!(page["failed"], 6, "{page}");
}

#[test]
fn a_check_that_flaps_changes_nothing() {
    let stage = Stage::new(&[Asked::Status(200), Asked::Status(200)], FAST);
    let flaps: Vec<Asked> = (0..20).map(|i| Asked::Status(if i % 3 == 0 { 200 } else { 500 })).collect();
    let begun = stage.servers[1].script(&flaps);
    until("it has flapped", || stage.servers[1].checks() > begun + 20);
    assert_eq!((stage.server(1)["state"].as_str(), stage.told("server all/s1 ")), (Some("up"), vec![]));
}

#[test]
fn when_all_are_down_those_that_accept_connections_serve() {
    let stage = Stage::new(&[Asked::Status(200); 3], FAST);
    stage.servers.iter().for_each(|server| server.checks_become(Asked::Status(500)));
    until("all are down", || (0..3).all(|place| stage.server(place)["state"] == "down"));
    assert_eq!(
        (stage.backend()["panic"].as_bool(), stage.backend()["healthy"].as_u64()),
        (Some(true), Some(0))
    );
    (0..12).for_each(|_| assert_eq!(stage.ask(GET), 200));
    assert!(stage.servers.iter().all(|server| server.requests() >= 3));
    stage.servers.iter().for_each(|server| server.checks_become(Asked::Status(200)));
    until("all are back", || (0..3).all(|place| stage.server(place)["state"] == "up"));
    assert_eq!(stage.backend()["panic"], false);
}

#[test]
fn a_server_whose_check_lies_is_ejected_all_the_same() {
    let stage = Stage::new(&[Asked::Status(200); 3], &format!("{FAST}\neject = {{ time = \"5m\" }}"));
    stage.servers[1].requests_become(503);
    (0..40).for_each(|_| {
        stage.ask(POST);
    });
    assert_eq!(stage.server(1)["state"], "ejected");
    let checked = stage.servers[1].checks();
    until("its check goes on passing", || stage.servers[1].checks() > checked + 3);
    assert_eq!((stage.server(1)["state"].as_str(), stage.servers[1].requests()), (Some("ejected"), 5));
    assert_eq!(stage.server(1)["check"]["passes"], true);
}

#[test]
fn a_check_must_pass_before_the_trial_of_an_ejected_server() {
    let keys = format!("{FAST}\neject = {{ time = \"1s\" }}");
    let stage = Stage::new(&[Asked::Status(200); 3], &keys);
    stage.servers[1].requests_become(503);
    (0..40).for_each(|_| {
        stage.ask(POST);
    });
    stage.servers[1].checks_become(Asked::Status(500));
    until("it is down as well", || stage.server(1)["state"] == "down");
    let checked = stage.servers[1].checks();
    until("the ejection is over", || stage.servers[1].checks() > checked + 30);
    (0..9).for_each(|_| assert_eq!(stage.ask(POST), 200));
    stage.servers[1].requests_become(200);
    stage.servers[1].checks_become(Asked::Status(200));
    until("it is back", || {
        stage.ask(POST);
        stage.server(1)["state"] == "up"
    });
}

#[test]
fn a_reload_keeps_what_checks_found_and_their_rhythm() {
    let stage = Stage::new(&[Asked::Status(200), Asked::Status(500), Asked::Status(200)], ONCE);
    assert_eq!(stage.states(), ["up", "down", "up"]);
    // The backend is built anew; then its checks change too, and then everything but the servers.
    for keys in [
        format!("{ONCE}\nmax_requests = 7"),
        format!("{ONCE}\nmax_requests = 7\npanic = \"10%\"")
            .replace("every_down = \"1h\"", "fall = 2, every_down = \"30m\""),
    ] {
        stage.reload(&stage.file(&keys));
        assert_eq!(stage.states(), ["up", "down", "up"]);
    }
    (0..9).for_each(|_| assert_eq!(stage.ask(GET), 200));
    let counts: Vec<(usize, usize)> = stage.servers.iter().map(|s| (s.checks(), s.requests())).collect();
    assert_eq!(counts.iter().map(|count| count.0).collect::<Vec<_>>(), [1; 3], "nobody was asked again");
    assert_eq!(counts[1].1, 0);
    assert_eq!(stage.server(1)["check"]["failed"], 1, "the last result is still there");
    stage.reload(&stage.file("balance = \"round_robin\""));
    assert_eq!(stage.states(), ["up"; 3], "without checks nothing speaks against it");
}

#[test]
fn an_upgrade_keeps_what_checks_found() {
    let stage = Stage::new(&[Asked::Status(200), Asked::Status(500), Asked::Status(200)], ONCE);
    assert_eq!(stage.states(), ["up", "down", "up"]);
    stage.upgrade();
    assert_eq!(stage.states(), ["up", "down", "up"]);
    assert_eq!(stage.server(1)["state_reason"], "status 500");
    (0..9).for_each(|_| assert_eq!(stage.ask(GET), 200));
    let checks: Vec<usize> = stage.servers.iter().map(stage::Server::checks).collect();
    assert_eq!((checks, stage.servers[1].requests()), (vec![1; 3], 0), "they need not be asked at once");
    stage.end_successor();
}

#[test]
fn a_connection_is_enough_for_tcp() {
    let nobody = Port::reserve();
    let stage = Stage::new(&[Asked::Hang, Asked::Hang], "health = \"tcp\"");
    let text = stage.file("health = \"tcp\"").replace(
        "servers = [",
        &format!("servers = [{{ address = \"{}\", name = \"dead\" }}, ", nobody.address()),
    );
    let stage = Stage::at(&text, stage.servers.clone());
    assert_eq!(stage.states(), ["down", "up", "up"]);
}

#[test]
fn a_program_decides_and_a_server_can_have_its_own_check_or_none() {
    let flag = fresh_path("well");
    std::fs::write(&flag, "s0").expect("the test's own directory can be written");
    let script =
        format!("grep -q $PLIMSOLL_SERVER {} || {{ echo not on the list; exit 4; }}", flag.display());
    let keys = format!(
        "health = {{ program = [\"/bin/sh\", \"-c\", {script:?}], every = \"100ms\", timeout = \"100ms\" }}"
    );
    let keys = keys.replace("timeout = \"100ms\"", "rise = 1, fall = 1").replace("100ms", "1s");
    let stage =
        Stage::new(&[Asked::Status(200), Asked::Status(200), Asked::Status(500), Asked::Status(500)], "");
    let text = stage.file(&keys);
    let text = text
        .replace("name = \"s2\"", "name = \"s2\", health = false")
        .replace("name = \"s3\"", "name = \"s3\", health = \"/x\"");
    let stage = Stage::at(&text, stage.servers.clone());
    assert_eq!(stage.states(), ["up", "down", "up", "down"]);
    assert_eq!(stage.server(1)["state_reason"], "exit code 4: not on the list");
    assert_eq!((stage.server(2)["check"].is_null(), stage.servers[2].checks()), (true, 0));
    assert_eq!(stage.server(3)["state_reason"], "status 500");
    std::fs::write(&flag, "s0 s1").expect("the test's own directory can be written");
    until("it is on the list", || stage.server(1)["state"] == "up");
}

#[test]
fn a_server_in_maintenance_is_not_asked_and_one_that_drains_is() {
    let keys = "health = { path = \"/x\", every = \"250ms\" }";
    let stage = Stage::new(&[Asked::Status(200); 3], keys);
    let file = stage.file(keys);
    let file = file.replace("name = \"s1\"", "name = \"s1\", state = \"maint\"");
    stage.reload(&file.replace("name = \"s2\"", "name = \"s2\", state = \"drain\""));
    let (maint, drain) = (stage.servers[1].checks(), stage.servers[2].checks());
    until("the one that drains is asked", || stage.servers[2].checks() >= drain + 10);
    assert!(stage.servers[1].checks() <= maint + 1, "one may have been on its way");
}

#[test]
fn a_check_can_go_to_another_port_and_look_at_the_body() {
    let side = Stage::new(&[Asked::Status(200)], "");
    let port = side.servers[0].address().port();
    let keys = |body: &str| {
        format!(
            "health = {{ path = \"/up?deep=1\", host = \"h.example\", headers = {{ X-A = \"b\" }}, port = {port}, every = \"250ms\", {body} }}"
        )
    };
    let stage = Stage::new(
        &[Asked::Hang],
        &keys("body = \"o\", body_regex = \"^ok$\", status = [\"200\", \"204-299\"]"),
    );
    assert_eq!(stage.states(), ["up"]);
    assert_eq!(stage.servers[0].checks(), 0);
    let head = side.servers[0].last_check();
    assert!(
        head.starts_with("GET /up?deep=1 HTTP/1.1\r\nHost: h.example\r\n") && head.contains("X-A: b\r\n"),
        "{head}"
    );
    let other = Stage::new(&[Asked::Hang], &keys("body = \"ko\""));
    assert_eq!(other.states(), ["down"]);
    assert_eq!(other.server(0)["state_reason"], "its body does not have \"ko\" in it");
}

#[test]
fn a_stopped_program_leaves_no_check_behind() {
    let stage = Stage::new(&[Asked::Status(200)], "");
    let place = fresh_path("id");
    let script = format!("echo $$ >{0}.new; mv {0}.new {0}; sleep 1000", place.display());
    let keys = format!(
        "health = {{ program = [\"/bin/sh\", \"-c\", {script:?}], every = \"1m\", timeout = \"1m\" }}"
    );
    let stage = Stage::at(&stage.file(&keys), stage.servers.clone());
    until("the check runs", || place.exists());
    let id = std::fs::read_to_string(&place).expect("it is there");
    stage.program.signal(Signal::TERM);
    until("the check is killed", || !std::path::Path::new(&format!("/proc/{}", id.trim())).exists());
}
