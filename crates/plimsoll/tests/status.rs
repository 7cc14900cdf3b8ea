//! `plimsoll status`: tables for people, JSON for scripts, and clear words when nobody answers.
//!
//! Runs the real program twice: once to serve and once to ask. The tables are compared cell by cell where the numbers are
//! known; widths are no part of any promise.

mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::{Client, Origin, PATIENCE, Plimsoll, get};

const PROGRAM: &str = env!("CARGO_BIN_EXE_plimsoll");

fn status(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("status").args(arguments).stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = status(arguments).output().expect("the program is built");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// A program before one origin, and where its admin address is.
fn serving(origin: &Origin) -> (Plimsoll, String) {
    let plimsoll = Plimsoll::start(&format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"web\"\n\
         [backend.web]\nservers = [{{ address = \"{}\", name = \"one\", weight = 7 }}]\n\
         [[route]]\nname = \"gone\"\npath = \"/gone\"\nrespond = {{ status = 410 }}\n\
         [admin]\nbind = \"127.0.0.1:0\"\n",
        origin.address()
    ));
    let lines = plimsoll.stderr_lines();
    let admin =
        lines.iter().find_map(|line| line.strip_prefix("plimsoll: admin on ")).expect("it says where");
    let admin = admin.to_owned();
    (plimsoll, admin)
}

/// An address where connections are refused. Bound and not listening, so that nobody else gets the port.
fn dead() -> (socket2::Socket, SocketAddr) {
    let held = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
        .expect("descriptors suffice");
    held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("loopback has ports");
    let address = held.local_addr().ok().and_then(|a| a.as_socket()).expect("it is bound");
    (held, address)
}

/// Asks on one connection, which stays.
fn ask(plimsoll: &Plimsoll, paths: &[&str]) -> Client {
    let mut client = Client::connect(plimsoll.address());
    for path in paths {
        client.send(&get(path));
        client.answer().whole();
    }
    client
}

/// The cells of the line that begins so.
fn cells<'t>(text: &'t str, beginning: &str) -> Vec<&'t str> {
    let line = text.lines().find(|line| line.trim_start().starts_with(beginning));
    line.unwrap_or_else(|| panic!("no {beginning} in\n{text}")).split_whitespace().collect()
}

/// Looks until every request is counted: that happens just after its answer.
fn table_with(admin: &str, beginning: &str, count: &str) -> String {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let (code, stdout, stderr) = output(&["--admin", admin]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
        if cells(&stdout, beginning).contains(&count) {
            return stdout;
        }
        assert!(std::time::Instant::now() < deadline, "never {count}:\n{stdout}");
    }
}

#[test]
fn a_table_shows_listeners_routes_backends_and_servers() {
    let origin = Origin::serve();
    let (plimsoll, admin) = serving(&origin);
    let _client = ask(&plimsoll, &["/", "/", "/", "/gone"]);
    let listener = plimsoll.address().to_string();
    let text = table_with(&admin, &listener, "4");
    assert!(text.starts_with(concat!("plimsoll ", env!("CARGO_PKG_VERSION"), ", serving, up ")), "{text}");
    let heads = cells(&text, "LISTENER");
    let expected =
        ["LISTENER", "CONNECTIONS", "IN", "FLIGHT", "REQUESTS", "4XX", "5XX", "P50", "P99", "ERRORS"];
    assert_eq!(heads, expected);
    assert_eq!(cells(&text, &listener)[1..6], ["1", "0", "4", "1", "0"]);
    assert_eq!(cells(&text, "gone")[1..5], ["0", "1", "1", "0"]);
    assert_eq!(cells(&text, "one")[1..6], ["7", "0", "3", "0", "0"]);
    assert_eq!(cells(&text, "one").len(), 10, "two latencies with units: {text}");
}

#[test]
fn json_is_what_the_admin_address_says() {
    let origin = Origin::serve();
    let (plimsoll, admin) = serving(&origin);
    let _client = ask(&plimsoll, &["/", "/"]);
    table_with(&admin, "one", "2");
    let (code, stdout, stderr) = output(&["--json", "--admin", &admin]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let shown: Value = serde_json::from_str(&stdout).expect("JSON");
    let server = &shown["backends"][0]["servers"][0];
    assert_eq!((&server["name"], &server["codes"]["2xx"]), (&"one".into(), &2.into()));
    assert!(server["p50_ms"].as_f64() > Some(0.0) && server["p99_ms"].as_f64() >= server["p50_ms"].as_f64());
    let counts: u64 = server["durations"].as_array().expect("buckets").iter().filter_map(Value::as_u64).sum();
    assert_eq!(counts, 2);
    assert_eq!(shown["listeners"][0]["address"], plimsoll.address().to_string());
    assert_eq!(shown["workers"].as_array().map(Vec::len), Some(1));
}

#[test]
fn agents_and_collectors_that_fail_stand_on_top_and_retries_have_a_table() {
    let origin = Origin::serve();
    let (_held, dead) = dead();
    let plimsoll = Plimsoll::start(&format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"web\"\n[admin]\nbind = \"127.0.0.1:0\"\n\
         [backend.web]\nservers = [\"{dead}\", \"{}\"]\nbalance = \"first\"\nagent = {{ port = {} }}\n\
         [tracing]\notlp = \"http://{dead}\"\nsample = \"100%\"\n",
        origin.address(),
        dead.port()
    ));
    let lines = plimsoll.stderr_lines();
    let admin =
        lines.iter().find_map(|line| line.strip_prefix("plimsoll: admin on ")).expect("it says where");
    let _client = ask(&plimsoll, &["/"]);
    let silent = format!("! server web/{dead}: its agent says nothing: no connection: connection refused");
    let lost = format!("! tracing: http://{dead}/v1/traces does not take spans: ");
    let deadline = std::time::Instant::now() + PATIENCE;
    let text = loop {
        let (code, text, _) = output(&["--admin", admin]);
        assert_eq!(code, Some(0), "{text}");
        if text.contains(&silent) && text.contains(&lost) {
            break text;
        }
        assert!(std::time::Instant::now() < deadline, "{text}");
    };
    assert_eq!(cells(&text, &format!("http://{dead}"))[1], "0", "nothing was sent: {text}");
    assert_eq!(cells(&text, "FURTHER")[2..], ["RETRIES", "DENIED", "HEDGES", "WON", "DENIED", "BUDGET"]);
    let retried = text.lines().filter(|line| line.starts_with("web ")).find(|line| line.ends_with(" left"));
    let retried: Vec<&str> = retried.expect("it was retried").split_whitespace().collect();
    assert_eq!(retried[..6], ["web", "1", "0", "0", "0", "0"]);
    let (_, json, _) = output(&["--json", "--admin", admin]);
    let shown: Value = serde_json::from_str(&json).expect("JSON");
    let backend = &shown["backends"][0];
    assert_eq!(backend["retries_denied"], serde_json::json!({ "budget": 0, "time": 0 }));
    assert_eq!(backend["hedges"], serde_json::json!({ "won": 0, "lost": 0 }));
    // A hundred in ten seconds without any request; one was taken, and the request has earned a fifth. The rest comes back with time.
    let left = backend["retry_budget"].as_u64();
    assert!(left.is_some_and(|left| (99..=100).contains(&left)), "{left:?}");
    assert_eq!((&shown["tracing"]["failing"], &shown["tracing"]["exported"]), (&true.into(), &0.into()));
}

#[test]
fn watching_looks_again_until_the_process_is_gone() {
    let origin = Origin::serve();
    let (plimsoll, admin) = serving(&origin);
    let watching = ["--watch", "--admin", &admin];
    let mut watch =
        status(&watching).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it is built");
    let lines = BufReader::new(watch.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let titles = lines.filter(|line| line.starts_with("plimsoll "));
    let titles: Vec<String> = titles.take(2).collect();
    assert!(titles[0].ends_with("; counts since the start"), "{titles:?}");
    assert!(titles[1].contains("; counts of the last ") && titles[1].ends_with(" s"), "{titles:?}");
    drop(plimsoll);
    let ended = watch.wait_with_output().expect("it is our child");
    assert!(matches!(ended.status.code(), Some(0 | 3)), "nobody reads, or nobody answers: {ended:?}");
}

#[test]
fn the_configuration_names_the_admin_address() {
    let origin = Origin::serve();
    let (plimsoll, admin) = serving(&origin);
    plimsoll
        .configure(&format!("[[listen]]\nbind = \":8080\"\nto = [\":8000\"]\n[admin]\nbind = \"{admin}\"\n"));
    let file = plimsoll.configuration().to_str().expect("UTF-8").to_owned();
    let (code, stdout, _) = output(&["-c", &file]);
    assert_eq!(code, Some(0), "{stdout}");
    plimsoll.configure("[[listen]]\nbind = \":8080\"\nto = [\":8000\"]\n");
    let (code, _, stderr) = output(&["-c", &file]);
    assert_eq!(code, Some(3));
    assert!(stderr.contains("has no [admin]") && stderr.contains("--admin"), "{stderr}");
}

#[test]
fn nobody_there_is_told_with_the_next_step() {
    let (_held, address) = dead();
    let address = address.to_string();
    let (code, stdout, stderr) = output(&["--admin", &address]);
    assert_eq!((code, stdout.as_str()), (Some(3), ""));
    assert!(stderr.starts_with("plimsoll status: nothing answers") && stderr.contains("[admin]"), "{stderr}");
    assert!(stderr.contains(&address), "{stderr}");
}

#[test]
fn somebody_else_at_the_address_is_told_from_plimsoll() {
    let origin = Origin::serve();
    let address = origin.address().to_string();
    let (code, _, stderr) = output(&["--admin", &address]);
    assert_eq!(code, Some(3));
    assert!(stderr.contains("does not speak like plimsoll"), "{stderr}");
}
