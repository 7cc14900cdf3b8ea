//! How long an order is in force: through reloads and upgrades, until the file says otherwise.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::family::Family;
use crate::rig::{Named, until};
use crate::stage::{SERVERS, admin, api, file, two, who};
use crate::support::Plimsoll;

#[track_caller]
fn reload(program: &Plimsoll, text: &str) {
    let said = program.stderr_lines().len();
    program.configure(text);
    program.signal(Signal::HUP);
    let lines = program.wait_for_line(said, |line| line.contains("reloaded "));
    assert!(lines.last().is_some_and(|line| line.starts_with("plimsoll: reloaded ")), "{lines:?}");
}

#[test]
fn an_order_outlives_a_reload_until_the_file_says_otherwise() {
    let (program, a, b) = two();
    let admin = admin(&program);
    let c = Named::start("c");
    let add = json!({ "address": c.address().to_string(), "name": "c" });
    assert_eq!(api(admin, "POST", SERVERS, &add).status, 201);
    assert_eq!(api(admin, "PATCH", &format!("{SERVERS}/a"), &json!({ "state": "drain" })).status, 200);
    // Another change of the file is no word on these.
    reload(&program, &file(&[a.entry(""), b.entry(", weight = 2")], ""));
    assert_eq!(who(&program, 8), ["b", "c"]);
    // The file's own word on them is.
    let said = program.stderr_lines().len();
    reload(&program, &file(&[a.entry(", state = \"maint\""), b.entry(""), c.entry(", backup = true")], ""));
    let lines = program.stderr_lines()[said..].join("\n");
    for server in ["web/a", "web/c"] {
        assert!(lines.contains(&format!("what was ordered about {server} ends")), "{lines}");
    }
    assert_eq!(who(&program, 4), ["b"]);
    reload(&program, &file(&[a.entry(""), b.entry("")], ""));
    assert_eq!(who(&program, 4), ["a", "b"]);
}

/// How a server is, why, and for how many seconds.
fn condition(server: &Value) -> (String, String, f64) {
    let text = |key: &str| server[key].as_str().expect("a string").to_owned();
    (text("state"), text("state_reason"), server["state_for_seconds"].as_f64().expect("a number"))
}

#[test]
fn since_when_and_who_said_so_are_told_of_what_servers_are_to_do() {
    let (program, a, b) = two();
    let admin = admin(&program);
    let one = format!("{SERVERS}/a");
    let told = |change: Value| {
        let began = Instant::now();
        let said = api(admin, "PATCH", &one, &change);
        let (state, reason, seconds) = condition(&said.body);
        (state, reason, seconds, began.elapsed().as_secs_f64())
    };
    let now = || condition(&api(admin, "GET", &one, &Value::Null).body);
    until("it has been up for a while", || now().2 > 1.0);
    let (state, reason, seconds, within) = told(json!({ "state": "maint" }));
    assert!(state == "maint" && reason.starts_with("ordered by 127.0.0.1:"), "{state}: {reason}");
    assert!(seconds <= within + 0.01, "{seconds} s since an order of {within} s ago");
    until("it has been in maintenance for a while", || now().2 > 0.5);
    // What else changes, changes nothing about that.
    let seconds = now().2;
    reload(&program, &file(&[a.entry(""), b.entry(", weight = 2")], ""));
    assert!(now().2 >= seconds);
    let (state, _, seconds, within) = told(json!({ "state": "ready" }));
    assert_eq!(state, "up");
    assert!(seconds <= within + 0.01, "{seconds} s since an order of {within} s ago");
    reload(&program, &file(&[a.entry(", state = \"drain\""), b.entry("")], ""));
    let (state, reason, _) = now();
    assert_eq!((state.as_str(), reason.as_str()), ("drain", "the file says so"));
}

#[test]
fn an_upgrade_hands_orders_over() {
    let (a, b, c) = (Named::start("a"), Named::start("b"), Named::start("c"));
    let family = Family::start(1, &[a.address(), b.address()]);
    let servers = format!("/v1/backends/listen%20127.0.0.1%3A{}/servers", family.address().port());
    let one = |address: &std::net::SocketAddr| format!("{servers}/{address}");
    let add = json!({ "address": c.address().to_string(), "weight": 3 });
    assert_eq!(api(family.admin(), "POST", &servers, &add).status, 201);
    let drain = json!({ "state": "drain" });
    assert_eq!(api(family.admin(), "PATCH", &one(&a.address()), &drain).status, 200);
    assert_eq!(api(family.admin(), "DELETE", &one(&b.address()), &Value::Null).status, 204);
    let since = || condition(&api(family.admin(), "GET", &one(&a.address()), &Value::Null).body).2;
    until("it has drained for a while", || since() > 0.5);
    let before = since();
    let old = family.upgrade();
    family.status();
    assert!(since() >= before, "{} s, and {before} s before", since());
    let listed = api(family.admin(), "GET", &servers, &Value::Null).body;
    let names: Vec<&str> =
        listed["servers"].as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, [a.address().to_string(), c.address().to_string()]);
    assert_eq!(listed["servers"][0]["state"], "drain");
    assert_eq!(listed["servers"][1]["weight"], 3);
    assert_eq!(listed["servers"][1]["origin"], "operator");
    until("only c is asked", || {
        let before = (a.count(), b.count(), c.count());
        crate::rig::ask(family.address(), crate::support::get("/")).whole();
        (a.count(), b.count(), c.count()) == (before.0, before.1, before.2 + 1)
    });
    // The new process takes orders too.
    assert_eq!(api(family.admin(), "PATCH", &one(&a.address()), &json!({ "state": "ready" })).status, 200);
    family.until_ended(old);
}
