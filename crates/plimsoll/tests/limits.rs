//! Rate limits in the real program: who is refused, what both are told, and what a reload keeps.

#[path = "peers/process.rs"]
mod process;
#[path = "support/rig.rs"]
mod rig;
mod support;

use process::Port;
use rig::{Named, ask, field, until};
use rustix::process::Signal;
use support::oracle::Response;
use support::{Client, Plimsoll};

fn file(server: &Named, route: &str) -> String {
    format!(
        "workers = 2\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"all\"\n[backend.all]\nservers = [{}]\n[[route]]\nname = \"limited\"\npath = \"/limited/*\"\nto = \"all\"\n{route}\n",
        server.entry("")
    )
}

fn get(program: &Plimsoll, path: &str, fields: &str) -> Response {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    ask(program.address(), request).whole().clone()
}

fn statuses(program: &Plimsoll, times: usize, fields: &str) -> Vec<u16> {
    (0..times).map(|_| get(program, "/limited/", fields).status).collect()
}

#[test]
fn a_burst_passes_and_the_rest_is_told_when_to_come_again() {
    let server = Named::start("a");
    let program = Plimsoll::start(&file(&server, "limit = { rate = \"1/h\", burst = 3 }"));
    let first = get(&program, "/limited/x", "");
    assert_eq!(field(&first, "ratelimit-policy"), "\"client_ip\";q=3;w=10800");
    assert_eq!(field(&first, "ratelimit"), "\"client_ip\";r=2;t=3600");
    assert_eq!(statuses(&program, 4, ""), [200, 200, 429, 429]);
    let refused = get(&program, "/limited/x", "Accept: application/json\r\n");
    assert_eq!((refused.status, field(&refused, "ratelimit").as_str()), (429, "\"client_ip\";r=0;t=10800"));
    let wait: u64 = field(&refused, "retry-after").parse().expect("seconds");
    assert!((3_590..=3_600).contains(&wait), "{wait}");
    assert!(field(&refused, "proxy-status").contains("error=http_request_denied; details=\"rate_limited\""));
    assert!(String::from_utf8_lossy(&refused.body).contains("\"reason\":\"rate_limited\""));
    assert_eq!(get(&program, "/", "").status, 200, "another route");
    assert_eq!(server.count(), 4, "no server sees what is refused");
    let line = program.wait_for_log(|line| line["status"] == 429);
    assert_eq!((line["end"].as_str(), line["reason"].as_str()), (Some("PR"), Some("rate_limited")));
}

#[test]
fn a_refused_request_leaves_its_connection_open() {
    let server = Named::start("a");
    let program = Plimsoll::start(&file(&server, "limit = { rate = \"1/h\" }"));
    let mut client = Client::connect(program.address());
    for expected in [200, 429, 429] {
        client.send(b"GET /limited/ HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer().whole().status, expected);
    }
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().whole().status, 200);
}

#[test]
fn keys_are_counted_apart_and_who_has_none_by_the_address() {
    let server = Named::start("a");
    let limit = "limit = { rate = \"1/h\", burst = 2, key = \"header:X-Key\" }";
    let program = Plimsoll::start(&file(&server, limit));
    assert_eq!(statuses(&program, 3, "X-Key: one\r\n"), [200, 200, 429]);
    assert_eq!(statuses(&program, 3, "X-Key: two\r\n"), [200, 200, 429]);
    assert_eq!(statuses(&program, 3, ""), [200, 200, 429]);
}

#[test]
fn a_request_has_to_pass_all_limits() {
    let server = Named::start("a");
    let limits =
        "limit = [{ rate = \"1/h\", burst = 4 }, { rate = \"1/h\", burst = 2, key = \"header:X-Key\" }]";
    let program = Plimsoll::start(&file(&server, limits));
    assert_eq!(statuses(&program, 3, "X-Key: one\r\n"), [200, 200, 429]);
    assert_eq!(
        statuses(&program, 3, "X-Key: two\r\n"),
        [200, 429, 429],
        "four in all, refused ones included"
    );
}

#[test]
fn a_dry_run_refuses_nobody_and_says_whom_it_would_have() {
    let server = Named::start("a");
    let program = Plimsoll::start(&file(&server, "limit = { rate = \"1/h\", burst = 2, dry_run = true }"));
    assert_eq!(statuses(&program, 4, ""), [200; 4]);
    assert_eq!(field(&get(&program, "/limited/", ""), "ratelimit"), "");
    program.wait_for_log(|line| line["limited"] == "dry_run" && line["status"] == 200);
}

#[test]
fn a_reload_keeps_what_was_counted() {
    let (server, admin) = (Named::start("a"), Port::reserve());
    let text = |more: &str| {
        let own = format!("[admin]\nbind = \"{}\"\n", admin.address());
        file(&server, &format!("limit = {{ rate = \"1/h\", burst = 3 }}\n{more}")) + &own
    };
    let program = Plimsoll::start(&text(""));
    assert_eq!(statuses(&program, 2, ""), [200; 2]);
    program.configure(&text("max_body = \"1MiB\""));
    let said = program.stderr_lines().len();
    program.signal(Signal::HUP);
    program.wait_for_line(said, |line| line.contains("reloaded "));
    assert_eq!(statuses(&program, 3, ""), [200, 429, 429]);
    let line = "plimsoll_route_limited_total{route=\"limited\",key=\"client_ip\",mode=\"enforced\"} 2";
    let mut page = String::new();
    // A request is counted once its answer has gone.
    until("both are counted", || {
        let answer = ask(admin.address(), "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        page = String::from_utf8_lossy(&answer.whole().body).into_owned();
        page.contains("plimsoll_limits_reached_total{limit=\"rate\"} 2")
    });
    assert!(page.contains(line), "{page}");
}

#[test]
fn a_reload_that_changes_a_limit_counts_the_requests_of_before() {
    let server = Named::start("a");
    let limits = |one: &str| {
        let other = "{ rate = \"1/h\", burst = 5, key = \"header:x-key\" }";
        file(&server, &format!("limit = [{{ rate = \"1/h\", {one} }}, {other}]"))
    };
    let program = Plimsoll::start(&limits("burst = 9"));
    let reload = |text: &str| {
        program.configure(text);
        let said = program.stderr_lines().len();
        program.signal(Signal::HUP);
        program.wait_for_line(said, |line| line.contains("reloaded "));
    };
    assert_eq!(statuses(&program, 3, "X-Key: a\r\n"), [200; 3]);
    reload(&limits("burst = 4"));
    assert_eq!(statuses(&program, 2, "X-Key: b\r\n"), [200, 429], "four of this client");
    reload(&limits("burst = 9"));
    assert_eq!(statuses(&program, 3, "X-Key: a\r\n"), [200, 200, 429], "five of this key");
    reload(&limits("burst = 9, key = \"path\""));
    assert_eq!(statuses(&program, 2, "X-Key: b\r\n"), [200; 2], "by another key it is another limit");
    reload(&file(&server, ""));
    reload(&limits("burst = 2"));
    assert_eq!(statuses(&program, 3, "X-Key: a\r\n"), [200, 200, 429], "one that was gone is forgotten");
}
