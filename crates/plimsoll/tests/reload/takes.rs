//! Every way to ask for a reload takes a changed file, and everything that can be changed is in force afterwards.
//!
//! What a reload has said is in force for every request after it, so nothing here asks twice.

use std::net::TcpListener;

use crate::rig::{Named, before, field, file, fresh_path, text, until};
use crate::stage::{
    WAYS, Way, admin, ask_admin, free_address, hang_up, reload, status, take, take_by, utf8, who, who_on,
};
use crate::support::{Client, Gate, Origin, Plimsoll, Step, get};

/// One listener before this server, in a file that is watched.
fn watched(server: &Named, rest: &str) -> String {
    format!("watch = true\n{}", file(&[server.address()], "", rest))
}

#[test]
fn every_way_takes_a_changed_file() {
    for way in WAYS {
        let (a, b) = (Named::start("a"), Named::start("b"));
        let to = |server: &Named| watched(server, "[admin]\nbind = \"127.0.0.1:0\"\n");
        let program = Plimsoll::start(&to(&a));
        assert_eq!(who(program.address()), "a", "{way:?}");
        for (server, name) in [(&b, "b"), (&a, "a"), (&b, "b")] {
            let said = take(&program, way, &to(server)).expect("it is good");
            assert!(said.contains("1 listener, 1 backend, 0 routes"), "{said}");
            assert_eq!(who(program.address()), name, "{way:?}");
        }
    }
}

#[test]
fn what_a_reload_has_told_is_in_force_for_every_later_request() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let to = |server: &Named| file(&[server.address()], "", "").replace("workers = 1", "workers = 4");
    let program = Plimsoll::start(&to(&a));
    let mut kept: Vec<Client> = (0..16).map(|_| Client::connect(program.address())).collect();
    for round in 0..40 {
        let (server, name) = if round % 2 == 0 { (&b, "b") } else { (&a, "a") };
        hang_up(&program, &to(server));
        for client in &mut kept {
            assert_eq!(who_on(client), name, "round {round}");
        }
    }
}

#[test]
fn an_included_file_is_watched_too() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let part = fresh_path("part.toml");
    let include = part.file_name().expect("it is a file").to_str().expect("ASCII");
    let write = |server: &Named| {
        std::fs::write(&part, format!("[backend.web]\nservers = [\"{}\"]\n", server.address()))
            .expect("writable");
    };
    write(&a);
    let program = Plimsoll::start(&format!(
        "workers = 1\nwatch = true\ninclude = [\"{include}\"]\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"web\"\n"
    ));
    assert_eq!(who(program.address()), "a");
    take_by(&program, Way::Watch, || write(&b)).expect("it is good");
    assert_eq!(who(program.address()), "b");
    std::fs::remove_file(&part).expect("it is there");
}

#[test]
fn watching_can_be_turned_on_and_off() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let watched = |server: &Named| watched(server, "");
    let program = before(&[a.address()], "");
    hang_up(&program, &watched(&a));
    take(&program, Way::Watch, &watched(&b)).expect("it is watched now");
    assert_eq!(who(program.address()), "b");
    hang_up(&program, &file(&[b.address()], "", ""));
    hang_up(&program, &watched(&a)); // and on again, with a file that differs from the one watched last
    assert_eq!(who(program.address()), "a");
    take(&program, Way::Watch, &watched(&b)).expect("it is watched again");
    assert_eq!(who(program.address()), "b");
}

#[test]
fn a_watched_file_that_goes_back_is_taken_back() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let program = Plimsoll::start(&watched(&a, ""));
    // Taken before the watch has looked twice: what it knows is not what is in force.
    hang_up(&program, &watched(&b, ""));
    assert_eq!(who(program.address()), "b");
    take(&program, Way::Watch, &watched(&a, "")).expect("it is good");
    assert_eq!(who(program.address()), "a");
}

#[test]
fn routes_come_change_and_go() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let with = |rest: &str| file(&[a.address()], "", rest);
    let program = Plimsoll::start(&with(""));
    let mut client = Client::connect(program.address());
    let mut answer = |path: &str| {
        client.send(&get(path));
        let response = client.answer().whole();
        (response.status, text(&response), field(&response, "location"))
    };
    assert_eq!(answer("/new").1, "a");
    hang_up(&program, &with("[[route]]\npath = \"/new\"\nrespond = { status = 418, body = \"tea\" }\n"));
    assert_eq!(answer("/new"), (418, "tea".into(), String::new()));
    hang_up(&program, &with("[[route]]\npath = \"/new\"\nredirect = \"/old\"\n"));
    assert_eq!((answer("/new").0, answer("/new").2), (308, "/old".into()));
    let backend =
        format!("[backend.b]\nservers = [\"{}\"]\n[[route]]\npath = \"/new\"\nto = \"b\"\n", b.address());
    hang_up(&program, &with(&backend));
    assert_eq!((answer("/new").1, answer("/").1), ("b".into(), "a".into()));
    hang_up(&program, &with(""));
    assert_eq!(answer("/new").1, "a");
}

#[test]
fn weights_backups_and_policies_change() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let servers = |of_a: &str, of_b: &str, balance: &str| {
        let servers = format!("[{}, {}]", a.entry(of_a), b.entry(of_b));
        format!(
            "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"s\"\n[backend.s]\nbalance = \"{balance}\"\nservers = {servers}\n"
        )
    };
    let program = Plimsoll::start(&servers(", weight = 0", "", "p2c"));
    let answers = || -> Vec<String> { (0..12).map(|_| who(program.address())).collect() };
    let all = |name: &str| vec![name.to_owned(); 12];
    assert_eq!(answers(), all("b"));
    hang_up(&program, &servers("", ", weight = 0", "p2c"));
    assert_eq!(answers(), all("a"));
    hang_up(&program, &servers(", backup = true", "", "p2c"));
    assert_eq!(answers(), all("b"));
    hang_up(&program, &servers("", "", "first"));
    assert_eq!(answers(), all("a"));
    hang_up(&program, &servers("", ", weight = 3", "round_robin"));
    assert_eq!(answers().iter().filter(|name| *name == "b").count(), 9);
}

#[test]
fn timeouts_change() {
    let gate = Gate::default();
    let never = vec![Step::Read, Step::Wait(gate.clone())];
    let origin = Origin::scripted(vec![never]);
    let program = before(&[origin.address()], "[[route]]\npath = \"/x\"\nrespond = { body = \"x\" }\n");
    hang_up(&program, &file(&[origin.address()], "", "[timeout]\nfirst_byte = \"50ms\"\n"));
    let mut client = Client::connect(program.address());
    client.send(&get("/"));
    assert_eq!(client.answer().whole().status, 504);
    gate.open();
}

#[test]
fn limits_change() {
    let origin = Origin::serve();
    let program = before(&[origin.address()], "");
    let mut client = Client::connect(program.address());
    let long = format!("/{}", "x".repeat(3000));
    client.send(&get(&long));
    assert_eq!(client.answer().whole().status, 200);
    hang_up(&program, &file(&[origin.address()], "", "[limits]\ntarget = \"2KiB\"\n"));
    client.send(&get(&long));
    assert_eq!(client.answer().whole().status, 414, "also on a connection that was there before");
    let body = "x".repeat(100);
    hang_up(
        &program,
        &file(
            &[origin.address()],
            "",
            "[[route]]\nto = \"w\"\nmax_body = \"99B\"\n[backend.w]\nservers = [\"127.0.0.1:9\"]\n",
        ),
    );
    let mut client = Client::connect(program.address());
    client.send(&crate::rig::post("/", &body));
    assert_eq!(client.answer().whole().status, 413);
}

#[test]
fn the_access_log_moves_and_no_line_is_lost() {
    let origin = Origin::serve();
    let (first, second) = (fresh_path("first.log"), fresh_path("second.log"));
    let with = |log: &str| file(&[origin.address()], "", log);
    let to = |path: &std::path::Path| with(&format!("[log]\noutput = \"{}\"\n", path.display()));
    let program = Plimsoll::start(&with(""));
    let mut client = Client::connect(program.address());
    let mut ask = |path: &str| {
        for _ in 0..100 {
            client.send(&get(path));
            assert_eq!(client.answer().whole().status, 200);
        }
    };
    let lines = |path: &std::path::Path, wanted: &str| -> usize {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        assert!(text.lines().all(|line| line.contains(wanted)), "only its own: {text}");
        text.lines().count()
    };
    ask("/stdout");
    hang_up(&program, &to(&first));
    ask("/first");
    hang_up(&program, &to(&second));
    ask("/second");
    hang_up(&program, &with("[log]\nformat = \"off\"\n"));
    ask("/nowhere");
    hang_up(&program, &with("[log]\nformat = \"common\"\n"));
    ask("/common");
    until("every line is written", || {
        let counts = (lines(&first, "/first"), lines(&second, "/second"), program.log_lines().len());
        counts == (100, 100, 100)
    });
    assert!(program.log_lines().iter().all(|line| line["path"] == "/stdout"));
    assert_eq!(program.stop().code(), Some(0));
    let _ = (std::fs::remove_file(first), std::fs::remove_file(second));
}

#[test]
fn the_admin_address_moves_whoever_asks_for_it() {
    let origin = Origin::serve();
    for way in [Way::HangUp, Way::Verb] {
        let (old, new) = (free_address(), free_address());
        let on = |address| file(&[origin.address()], "", &format!("[admin]\nbind = \"{address}\"\n"));
        let program = Plimsoll::start(&on(old));
        take(&program, way, &on(new)).expect("it is good");
        assert_eq!(admin(&program), new);
        assert_eq!(ask_admin(new, "GET /healthz", "Host: localhost\r\n").0, 200);
        until("the old address is free", || TcpListener::bind(old).is_ok());
        // And away altogether.
        take(&program, way, &file(&[origin.address()], "", "")).expect("it is good");
        until("the new address is free", || TcpListener::bind(new).is_ok());
    }
}

#[test]
fn the_verb_finds_the_admin_address_in_the_file() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let address = free_address();
    let to = |server: &Named| file(&[server.address()], "", &format!("[admin]\nbind = \"{address}\"\n"));
    let program = Plimsoll::start(&to(&a));
    program.configure(&to(&b));
    let output = reload(&["-c", program.configuration().to_str().expect("ASCII")]);
    assert_eq!(output.status.code(), Some(0), "{}", utf8(&output.stderr));
    assert_eq!(who(program.address()), "b");
}

#[test]
fn a_change_of_workers_is_said_to_take_a_restart() {
    let origin = Origin::serve();
    let program = before(&[origin.address()], "");
    let two = file(&[origin.address()], "", "").replace("workers = 1", "workers = 2");
    let said = take(&program, Way::HangUp, &two).expect("the rest of it is good");
    assert!(said.contains("a change of workers takes a restart"), "{said}");
}

#[test]
fn status_shows_what_is_in_force() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let with = |servers: &[&Named]| {
        let servers: Vec<String> = servers.iter().map(|server| server.entry("")).collect();
        format!(
            "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = [{}]\n[admin]\nbind = \"127.0.0.1:0\"\n",
            servers.join(", ")
        )
    };
    let program = Plimsoll::start(&with(&[&a]));
    let names = || {
        let servers = status(&program)["backends"][0]["servers"].as_array().expect("an array").clone();
        servers.iter().map(|server| server["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["a"]);
    hang_up(&program, &with(&[&b, &a]));
    assert_eq!(names(), ["b", "a"]);
    hang_up(&program, &with(&[&b]));
    assert_eq!(names(), ["b"]);
}
