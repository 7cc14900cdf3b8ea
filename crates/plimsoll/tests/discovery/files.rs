//! Lists in files: replaced, swapped by a link, gone, wrong, empty, not there at the start.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

use rustix::process::{Resource, Rlimit, prlimit};

use crate::rig::fresh_path;
use crate::stage::{
    before, json, list, names, replace, servers, sites, soon, source, until_asked, until_failing,
    until_served_by, who,
};
use crate::support::Plimsoll;

const A: &str = "127.0.0.11";
const B: &str = "127.0.0.12";
const C: &str = "127.0.0.13";

#[test]
fn a_list_that_changes_is_followed_and_one_that_is_wrong_is_not() {
    let port = sites(&[A, B, C]);
    let path = list(&json(&[A], port));
    let program = before(&format!("discover = {{ file = \"{}\" }}", path.display()));
    until_served_by(&program, &[A], port);
    replace(&path, &json(&[B, C], port));
    until_served_by(&program, &[B, C], port);
    let wrong = [
        ("[", "not JSON"),
        ("[]", "it names no server"),
        ("[\"127.0.0.11\"]", "item 1: `127.0.0.11` has no port"),
        ("{\"servers\": []}", "not an array"),
    ];
    for (text, reason) in wrong {
        replace(&path, text);
        let said = soon("the list is refused", || {
            let why = until_failing(&program);
            if why.contains(reason) { Ok(why) } else { Err(why) }
        });
        assert!(said.contains(reason), "{said}");
        until_served_by(&program, &[B, C], port);
    }
    std::fs::remove_file(&path).expect("it is there");
    soon("its absence is told", || {
        let why = until_failing(&program);
        if why.contains("No such file") { Ok(()) } else { Err(why) }
    });
    until_served_by(&program, &[B, C], port);
    replace(&path, &json(&[A, B], port));
    until_served_by(&program, &[A, B], port);
    let found = source(&program);
    assert_eq!(
        (&found["failing"], &found["servers"], &found["changes"]),
        (&false.into(), &2.into(), &3.into())
    );
    let lines = program.stderr_lines().join("\n");
    let expected = format!("backend web: file {} names 2 servers: 1 new, 1 gone", path.display());
    assert!(lines.contains(&expected), "{lines}");
    assert!(lines.contains("fails: it is not JSON"), "{lines}");
}

#[test]
fn a_link_that_is_swapped_is_another_list() {
    let port = sites(&[A, B]);
    let (one, two, link) = (list(&json(&[A], port)), list(&json(&[B], port)), fresh_path("link.json"));
    symlink(&one, &link).expect("it is free");
    let program = before(&format!("discover = {{ file = \"{}\" }}", link.display()));
    until_served_by(&program, &[A], port);
    let new = fresh_path("link.new");
    symlink(&two, &new).expect("it is free");
    std::fs::rename(&new, &link).expect("it is the same directory");
    until_served_by(&program, &[B], port);
}

#[test]
fn a_list_may_say_all_that_a_configuration_may_and_prometheus_format_is_a_list_too() {
    let port = sites(&[A, B, C]);
    let text = format!(
        r#"[{{"address": "{A}:{port}", "name": "first", "weight": 3, "max_requests": 7}},
            {{"targets": ["{B}:{port}"], "labels": {{"env": "x", "plimsoll_weight": "2"}}}},
            {{"address": "{C}:{port}", "backup": true}}]"#
    );
    let program = before(&format!("max_requests = 9\ndiscover = {{ file = \"{}\" }}", list(&text).display()));
    let found: Vec<_> = servers(&program)
        .iter()
        .map(|s| (s["name"].clone(), s["weight"].clone(), s["backup"].clone(), s["max_requests"].clone()))
        .collect();
    let expected = [
        ("first".into(), 3.into(), false.into(), 7.into()),
        (format!("{B}:{port}").into(), 2.into(), false.into(), 9.into()),
        (format!("{C}:{port}").into(), 1.into(), true.into(), 9.into()),
    ];
    assert_eq!(found, expected);
    let mut counts = [0; 2];
    for _ in 0..50 {
        let who = who(&program);
        let place = [A, B].iter().position(|&name| name == who);
        counts[place.unwrap_or_else(|| panic!("{who} serves"))] += 1;
    }
    assert_eq!(counts, [30, 20]);
}

#[test]
fn without_a_list_it_starts_says_so_and_serves_when_there_is_one() {
    let port = sites(&[A]);
    let path = fresh_path("later.json");
    let program = before(&format!("discover = {{ file = \"{}\" }}", path.display()));
    let lines = program.stderr_lines().join("\n");
    assert!(lines.contains("has named no server within 5 seconds; going on without"), "{lines}");
    assert_eq!(who(&program), "503");
    assert_eq!(program.wait_for_log(|line| line["status"] == 503)["reason"], "no_server");
    replace(&path, &json(&[A], port));
    until_served_by(&program, &[A], port);
}

#[test]
fn servers_of_the_configuration_stand_beside_those_that_are_found() {
    let port = sites(&[A, B]);
    let path = fresh_path("beside.json");
    let own = format!("servers = [\"{A}:{port}\"]\ndiscover = {{ file = \"{}\" }}", path.display());
    let program = before(&own);
    until_served_by(&program, &[A], port);
    replace(&path, &json(&[A, B], port));
    until_served_by(&program, &[A, B], port);
}

#[test]
fn what_may_be_empty_is_emptied_and_filled_again() {
    let port = sites(&[A, B]);
    let path = list(&json(&[A, B], port));
    let program = before(&format!("discover = {{ file = \"{}\", allow_empty = true }}", path.display()));
    until_served_by(&program, &[A, B], port);
    replace(&path, "[]");
    soon("there is nobody", || names(&program).is_empty().then_some(()).ok_or("somebody"));
    assert_eq!(who(&program), "503");
    replace(&path, &json(&[B], port));
    until_served_by(&program, &[B], port);
}

#[test]
fn another_order_of_the_same_servers_changes_nothing() {
    let port = sites(&[A, B, C]);
    let path = list(&json(&[A, B, C], port));
    let program = before(&format!("discover = {{ file = \"{}\" }}", path.display()));
    until_served_by(&program, &[A, B, C], port);
    let order =
        |program| -> Vec<_> { servers(program).iter().map(|server| server["name"].clone()).collect() };
    let (first, changes) = (order(&program), source(&program)["changes"].clone());
    replace(&path, &json(&[C, A, B], port));
    until_asked(&program, 2);
    assert_eq!((order(&program), source(&program)["changes"].clone()), (first, changes));
}

/// Leaves the program one descriptor that it may open: enough to read a file, and too few to begin to check servers. Gives what it might open before.
fn starve(program: &Plimsoll) -> Rlimit {
    let folder = format!("/proc/{}/fd", program.pid().as_raw_nonzero());
    let names = std::fs::read_dir(folder).expect("it runs").flatten();
    let used: BTreeSet<u64> = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let free: Vec<u64> = (0..).filter(|number| !used.contains(number)).take(2).collect();
    let before = getrlimit_of(program);
    let less = Rlimit { current: Some(free[1]), ..before };
    prlimit(Some(program.pid()), Resource::Nofile, less).expect("it is our child")
}

fn getrlimit_of(program: &Plimsoll) -> Rlimit {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.pid().as_raw_nonzero()));
    let limits = limits.expect("it runs");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("Linux has it");
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    Rlimit { current: numbers.next(), maximum: numbers.next() }
}

#[test]
fn a_list_that_cannot_be_served_when_it_comes_is_served_once_it_can() {
    let (port, path) = (sites(&[A, B]), fresh_path("servers.json"));
    let program = before(&format!(
        "servers = [{{ address = \"{A}:{port}\", health = false }}]\nhealth = {{ path = \"/\", every = \"50ms\" }}\n\
         discover = {{ file = \"{}\" }}",
        path.display()
    ));
    let enough = starve(&program);
    let said = program.stderr_lines().len();
    replace(&path, &json(&[B], port));
    program
        .wait_for_line(said, |line| line.contains("the servers stay as they were: cannot start what checks"));
    prlimit(Some(program.pid()), Resource::Nofile, enough).expect("it is our child");
    // Nothing else happens: the list was said once.
    program.wait_for_line(said, |line| line.contains("what could not be served before is served now"));
    until_served_by(&program, &[A, B], port);
}
