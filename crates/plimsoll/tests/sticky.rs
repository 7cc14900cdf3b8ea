//! Sessions: who comes back finds the same server, as long as that one can serve, and is moved without an error when it cannot.
//!
//! Real `plimsoll origin` servers behind the real program, by cookie and by header: over connections and workers, reloads, restarts,
//! upgrades and instances; servers that go, die or are drained; cookies that are forged or garbled; curl with its cookie jar.

#[path = "peers/curl.rs"]
mod curl;
#[path = "peers/need.rs"]
mod need;
#[path = "peers/process.rs"]
mod process;
#[path = "support/rig.rs"]
mod rig;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use process::{Port, Server, scratch};
use rig::{PROGRAM, ask, field, fresh_path, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::oracle::Response;
use support::{Client, Origin, Plimsoll, Step};

const SECRET: &str = "9a7c4f0e3b5d21886e0f4c2a7b9d1e35";

/// A file with a secret in it.
fn secret(text: &str) -> PathBuf {
    let path = fresh_path("sticky.secret");
    std::fs::write(&path, format!("{text}\n")).expect("the test's own directory can be written");
    path
}

fn origins(names: &[&str]) -> Vec<Server> {
    names.iter().map(|name| Server::start(name)).collect()
}

/// An entry of `servers`, named after the origin, with further keys.
fn entry(name: &str, address: &str, more: &str) -> String {
    format!("{{ address = \"{address}\", name = \"{name}\"{more} }}")
}

fn backend(name: &str, entries: &[String]) -> String {
    // Without slow start: a server that has come back has its whole share at once.
    format!(
        "[backend.{name}]\nbalance = \"random\"\nslow_start = \"0s\"\nservers = [{}]\n",
        entries.join(", ")
    )
}

/// The servers under these names, in order.
fn entries(names: &[&str], servers: &[Server]) -> Vec<String> {
    names.iter().zip(servers).map(|(name, server)| entry(name, server.address(), "")).collect()
}

fn file(secret: &Path, rest: &str) -> String {
    file_at("127.0.0.1:0".parse().expect("an address"), secret, rest)
}

fn file_at(bind: SocketAddr, secret: &Path, rest: &str) -> String {
    let secret = secret.display();
    format!(
        "workers = 2\n[[listen]]\nbind = \"{bind}\"\n[sticky]\nsecret = {{ file = \"{secret}\" }}\n{rest}"
    )
}

/// A backend `shop` of these servers, and everything goes there.
fn shop(secret: &Path, entries: &[String]) -> String {
    file(secret, &format!("{}[[route]]\nto = \"shop\"\nsticky = \"cookie\"\n", backend("shop", entries)))
}

/// A client that keeps what it is told to.
#[derive(Debug, Clone, Default)]
struct Browser {
    cookies: BTreeMap<String, String>,
}

/// One answer: who gave it, what it set, the request as the server saw it.
struct Visit {
    server: String,
    set: Vec<String>,
    seen: Vec<(String, String)>,
    response: Response,
}

impl Browser {
    /// A request on a connection of its own; the answer must be good.
    #[track_caller]
    fn visit(&mut self, to: SocketAddr, path: &str, more: &str) -> Visit {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookie =
            if cookies.is_empty() { String::new() } else { format!("Cookie: {}\r\n", cookies.join("; ")) };
        let visit = visit(to, &format!("GET {path} HTTP/1.1\r\nHost: shop\r\n{cookie}{more}\r\n"));
        for set in &visit.set {
            let pair = set.split(';').next().expect("it is there");
            let (name, value) = pair.split_once('=').expect("a pair");
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        visit
    }

    #[track_caller]
    fn who(&mut self, to: SocketAddr) -> String {
        self.visit(to, "/", "").server
    }

    /// One that is known to this server.
    #[track_caller]
    fn of(to: SocketAddr, server: &str) -> Browser {
        let mut browsers = std::iter::repeat_with(Browser::default).take(400);
        browsers
            .find_map(|mut browser| (browser.who(to) == server).then_some(browser))
            .expect("it gets its share")
    }
}

#[track_caller]
fn visit(to: SocketAddr, request: &str) -> Visit {
    let response = ask(to, request).whole();
    let body = String::from_utf8_lossy(&response.body).into_owned();
    assert_eq!(response.status, 200, "{body}");
    let echo: Value = serde_json::from_str(&body).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let seen = echo["request"]["headers"].as_array().expect("an array").iter();
    Visit {
        server: text(&echo["server"]),
        set: response
            .fields
            .all("set-cookie")
            .iter()
            .map(|v| String::from_utf8_lossy(v).into_owned())
            .collect(),
        seen: seen.map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
        response,
    }
}

impl Visit {
    fn seen(&self, name: &str) -> Vec<&str> {
        self.seen.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// HUP with this configuration, which is good.
#[track_caller]
fn reload(program: &Plimsoll, configuration: &str) {
    let said = program.stderr_lines().len();
    program.configure(configuration);
    program.signal(Signal::HUP);
    let is_outcome = |line: &str| line.contains(": reloaded ") || line.contains(": not reloaded");
    let lines = program.wait_for_line(said, is_outcome);
    assert!(lines.last().is_some_and(|line| line.contains(": reloaded ")), "{}", lines.join("\n"));
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[test]
fn a_client_stays_with_its_server_and_is_told_once() {
    let servers = origins(&NAMES);
    let program = Plimsoll::start(&shop(&secret(SECRET), &entries(&NAMES, &servers)));
    let mut everybody = BTreeSet::new();
    for _ in 0..24 {
        let mut browser = Browser::default();
        let first = browser.visit(program.address(), "/", "");
        assert_eq!(first.set.len(), 1, "{:?}", first.set);
        let ticket = &browser.cookies["plimsoll-shop"];
        assert_eq!(first.set[0], format!("plimsoll-shop={ticket}; Path=/; HttpOnly; SameSite=Lax"));
        assert!(ticket.len() == 32 && ticket.bytes().all(|b| b.is_ascii_hexdigit()), "{ticket}");
        assert_eq!(field(&first.response, "cache-control"), "private");
        for _ in 0..6 {
            let again = browser.visit(program.address(), "/x", "");
            assert_eq!((again.server.as_str(), again.set.len()), (first.server.as_str(), 0));
            assert_eq!(field(&again.response, "cache-control"), "");
        }
        everybody.insert(first.server);
    }
    assert_eq!(everybody.len(), 4, "without a cookie everybody is balanced");
}

#[test]
fn requests_of_one_connection_may_be_of_several_sessions() {
    let servers = origins(&NAMES);
    let program = Plimsoll::start(&shop(&secret(SECRET), &entries(&NAMES, &servers)));
    let browsers: Vec<(Browser, &str)> =
        NAMES.map(|name| (Browser::of(program.address(), name), name)).into();
    let mut client = Client::connect(program.address());
    for (browser, name) in browsers.iter().cycle().take(20) {
        let cookie = &browser.cookies["plimsoll-shop"];
        client
            .send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: plimsoll-shop={cookie}\r\n\r\n").as_bytes());
        let body = String::from_utf8_lossy(&client.answer().whole().body).into_owned();
        assert!(body.starts_with(&format!("{{\"server\":\"{name}\"")), "{body}");
    }
}

#[test]
fn the_server_sees_every_cookie_but_ours() {
    let servers = origins(&["a"]);
    let program = Plimsoll::start(&shop(&secret(SECRET), &entries(&["a"], &servers)));
    let ticket = Browser::of(program.address(), "a").cookies["plimsoll-shop"].clone();
    for (fields, seen) in [
        (format!("Cookie: plimsoll-shop={ticket}\r\n"), vec![]),
        (format!("Cookie: x=1; plimsoll-shop={ticket};y=\"2 3\"\r\n"), vec!["x=1; y=\"2 3\""]),
        (format!("Cookie: x=1\r\nCookie: plimsoll-shop={ticket}\r\nCookie: y=2\r\n"), vec!["x=1", "y=2"]),
        ("Cookie: plimsoll-shop=forged; z=1\r\n".to_owned(), vec!["z=1"]),
        (
            "Cookie: a=plimsoll-shop; plimsoll-shops=1\r\n".to_owned(),
            vec!["a=plimsoll-shop; plimsoll-shops=1"],
        ),
        (format!("Connection: Cookie\r\nCookie: x=1; plimsoll-shop={ticket}\r\n"), vec![]),
    ] {
        let visit = visit(program.address(), &format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(visit.seen("cookie"), seen, "{fields}");
    }
}

#[test]
fn a_session_survives_a_reload_that_moves_everything_around() {
    let servers = origins(&["a", "b", "c", "d", "e"]);
    let secret = secret(SECRET);
    let all = entries(&["a", "b", "c", "d", "e"], &servers);
    let program = Plimsoll::start(&shop(&secret, &all[..4]));
    let mut browsers: Vec<(Browser, &str)> =
        NAMES.map(|name| (Browser::of(program.address(), name), name)).into();
    let turned: Vec<String> = all.iter().rev().cloned().collect();
    reload(&program, &shop(&secret, &turned));
    for _ in 0..3 {
        for (browser, name) in &mut browsers {
            let visit = browser.visit(program.address(), "/", "");
            assert_eq!((visit.server.as_str(), visit.set.len()), (*name, 0));
        }
    }
}

#[test]
fn a_session_survives_a_restart_and_is_known_to_another_instance() {
    let servers = origins(&NAMES);
    let all = entries(&NAMES, &servers);
    let from_environment = shop(Path::new("unused"), &all).replace("{ file = \"unused\" }", "\"${STICKY}\"");
    let start = |text: &str| {
        let mut command = Command::new(PROGRAM);
        command.env("STICKY", text);
        Plimsoll::start_by(command, &from_environment, Stdio::piped())
    };
    let first = start(SECRET);
    let mut browsers: Vec<(Browser, &str)> =
        NAMES.map(|name| (Browser::of(first.address(), name), name)).into();
    let beside = start(SECRET);
    for (browser, name) in &mut browsers {
        assert_eq!(browser.who(beside.address()), *name);
    }
    assert!(first.stop().success());
    let again = Plimsoll::start(&shop(&secret(SECRET), &all)); // the same secret, from a file
    for (browser, name) in &mut browsers {
        let visit = browser.visit(again.address(), "/", "");
        assert_eq!((visit.server.as_str(), visit.set.len()), (*name, 0));
    }
    let stranger = start("another-secret-of-some-length");
    let visit = browsers[0].0.visit(stranger.address(), "/", "");
    assert_eq!(visit.set.len(), 1, "a cookie that another secret sealed is replaced");
}

#[test]
fn a_changed_secret_is_read_by_a_reload_and_an_unreadable_one_refuses_it() {
    let servers = origins(&NAMES);
    let secret = secret(SECRET);
    let configuration = shop(&secret, &entries(&NAMES, &servers));
    let program = Plimsoll::start(&configuration);
    let mut browser = Browser::of(program.address(), "b");
    std::fs::write(&secret, "short\n").expect("writable");
    let said = program.stderr_lines().len();
    program.signal(Signal::HUP);
    let lines = program.wait_for_line(said, |line| line.contains("not reloaded")).join("\n");
    assert!(lines.contains("the sticky secret in ") && lines.contains("is shorter than 16"), "{lines}");
    assert!(!lines.contains("short\n"), "{lines}");
    assert_eq!(browser.visit(program.address(), "/", "").set.len(), 0, "the old one stays in force");
    std::fs::write(&secret, "a-new-secret-of-some-length\n").expect("writable");
    reload(&program, &configuration);
    assert_eq!(browser.visit(program.address(), "/", "").set.len(), 1);
    assert_eq!(browser.visit(program.address(), "/", "").set.len(), 0);
    std::fs::remove_file(&secret).expect("it is there");
    let (code, said) = rig::refuses(Command::new(PROGRAM), &configuration);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("the sticky secret in ") && said.contains("cannot be read"), "{said}");
}

#[test]
fn a_session_survives_an_upgrade() {
    let servers = origins(&NAMES);
    let port = Port::reserve();
    let rest = format!(
        "{}[[route]]\nto = \"shop\"\nsticky = \"cookie\"\n",
        backend("shop", &entries(&NAMES, &servers))
    );
    let program = Plimsoll::start(&file_at(port.address(), &secret(SECRET), &rest));
    let mut browsers: Vec<(Browser, &str)> =
        NAMES.map(|name| (Browser::of(port.address(), name), name)).into();
    let said = program.stderr_lines().len();
    program.signal(Signal::USR2);
    let is_outcome = |line: &str| line.contains(" serves now, ") || line.contains("not upgraded");
    let lines = program.wait_for_line(said, is_outcome);
    let last = lines.last().expect("a line");
    let number = last.split("upgraded: process ").nth(1).unwrap_or_else(|| panic!("{}", lines.join("\n")));
    let number = number.split(' ').next().expect("a number").parse().expect("a number");
    let successor = Successor(Pid::from_raw(number).expect("a process"));
    for _ in 0..3 {
        for (browser, name) in &mut browsers {
            let visit = browser.visit(port.address(), "/", "");
            assert_eq!((visit.server.as_str(), visit.set.len()), (*name, 0));
        }
    }
    drop(successor);
}

/// A process that an upgrade has started; killed when dropped.
struct Successor(Pid);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL); // it may have ended
    }
}

#[test]
fn a_server_that_is_removed_gives_its_sessions_up() {
    let servers = origins(&NAMES);
    let (secret, all) = (secret(SECRET), entries(&NAMES, &servers));
    let program = Plimsoll::start(&shop(&secret, &all));
    let mut browsers: Vec<(Browser, &str)> =
        NAMES.map(|name| (Browser::of(program.address(), name), name)).into();
    reload(&program, &shop(&secret, &all[1..]));
    for (browser, name) in &mut browsers {
        let first = browser.visit(program.address(), "/", "");
        assert_eq!(first.set.len(), usize::from(*name == "a"), "only those of the one that is gone");
        assert!(first.server != "a" && (*name == "a" || first.server == *name));
        let again = browser.visit(program.address(), "/", "");
        assert_eq!((again.server, again.set.len()), (first.server, 0), "and stay where they were moved to");
    }
}

#[test]
fn a_server_that_dies_gives_its_sessions_up_without_an_error() {
    let port = Port::reserve();
    let listen = port.address().to_string();
    let mortal = Server::with("a", &listen, &[]);
    let servers = origins(&["b", "c"]);
    let mut all = entries(&["b", "c"], &servers);
    all.insert(0, entry("a", &listen, ""));
    let program = Plimsoll::start(&shop(&secret(SECRET), &all));
    let (mut of_a, mut of_b) = (Browser::of(program.address(), "a"), Browser::of(program.address(), "b"));
    mortal.kill();
    let ticket = of_a.cookies["plimsoll-shop"].clone();
    let post = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nCookie: plimsoll-shop={ticket}\r\nContent-Length: 2\r\n\r\nhi"
    );
    let posted = visit(program.address(), &post);
    assert!(posted.server != "a" && posted.set.len() == 1, "also a POST, as nothing of it was sent");
    let moved = of_a.visit(program.address(), "/", "");
    assert!(moved.server != "a" && moved.set.len() == 1);
    assert_eq!(of_b.who(program.address()), "b");
    let _reborn = Server::with("a", &listen, &[]);
    until("the server is back", || Browser::default().who(program.address()) == "a");
    assert_eq!(of_a.who(program.address()), moved.server, "a session that was moved is not moved back");
}

#[test]
fn a_full_server_gives_a_session_up_and_weight_zero_keeps_them() {
    let servers = origins(&["a", "b"]);
    let secret = secret(SECRET);
    let with = |more: &str| {
        shop(&secret, &[entry("a", servers[0].address(), more), entry("b", servers[1].address(), "")])
    };
    let program = Plimsoll::start(&with(""));
    let (mut stays, mut moves) = (Browser::of(program.address(), "a"), Browser::of(program.address(), "a"));
    reload(&program, &with(", weight = 0"));
    for _ in 0..8 {
        assert_eq!(stays.who(program.address()), "a", "what it has, it keeps");
        assert_eq!(Browser::default().who(program.address()), "b", "and takes nothing new");
    }
    reload(&program, &with(", max_requests = 1"));
    servers[0].set(&serde_json::json!({ "delay": "30s" }));
    let ticket = stays.cookies["plimsoll-shop"].clone();
    let mut waits = Client::connect(program.address());
    waits.send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: plimsoll-shop={ticket}\r\n\r\n").as_bytes());
    until("it waits", || servers[0].shown()["in_flight"] == 1);
    let moved = moves.visit(program.address(), "/", "");
    assert_eq!((moved.server.as_str(), moved.set.len()), ("b", 1));
}

#[test]
fn cookies_that_are_none_of_ours_are_ignored_and_replaced() {
    let servers = origins(&["a", "b"]);
    let all = entries(&["a", "b"], &servers);
    let program = Plimsoll::start(&shop(&secret(SECRET), &all));
    let other = Plimsoll::start(&shop(&secret("another-secret-of-some-length"), &all));
    let foreign = Browser::of(other.address(), "a").cookies["plimsoll-shop"].clone();
    let ours = Browser::of(program.address(), "a").cookies["plimsoll-shop"].clone();
    let last = if ours.ends_with('0') { '1' } else { '0' };
    let nearly = format!("{}{last}", &ours[..31]);
    let longest = "f".repeat(8_000);
    let values = [
        "",
        "a",
        servers[0].address(),
        &foreign,
        &nearly,
        &ours.to_uppercase(),
        &longest,
        "\"",
        "%00",
        "\u{e9}",
    ];
    for value in values {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: plimsoll-shop={value}\r\n\r\n");
        let answers: Vec<Visit> = (0..16).map(|_| visit(program.address(), &request)).collect();
        assert!(answers.iter().all(|answer| answer.set.len() == 1), "{value}");
        let chosen: BTreeSet<&str> = answers.iter().map(|answer| &*answer.server).collect();
        assert_eq!(chosen.len(), 2, "{value} chooses no server");
    }
    let request =
        format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: plimsoll-shop=x; plimsoll-shop={ours}\r\n\r\n");
    let visit = visit(program.address(), &request);
    assert_eq!((visit.server.as_str(), visit.set.len()), ("a", 0), "one beside it does no harm");
}

#[test]
fn two_backends_of_one_host_keep_apart_and_two_routes_to_one_share() {
    let servers = origins(&["a", "b", "c", "x", "y", "z"]);
    let rest = format!(
        "{}{}[[route]]\nto = \"shop\"\nsticky = \"cookie\"\n\
         [[route]]\npath = \"/cart/*\"\nto = \"shop\"\nsticky = {{ by = \"cookie\", max_age = \"1h\" }}\n\
         [[route]]\npath = \"/api/*\"\nto = \"api\"\nsticky = \"cookie\"\n",
        backend("shop", &entries(&["a", "b", "c"], &servers[..3])),
        backend("api", &entries(&["x", "y", "z"], &servers[3..])),
    );
    let program = Plimsoll::start(&file(&secret(SECRET), &rest));
    for _ in 0..6 {
        let mut browser = Browser::default();
        let (shop, api) =
            (browser.who(program.address()), browser.visit(program.address(), "/api/x", "").server);
        for _ in 0..6 {
            let visits = ["/", "/cart/1", "/api/y"].map(|path| browser.visit(program.address(), path, ""));
            assert!(visits.iter().all(|visit| visit.set.is_empty()));
            assert_eq!(visits.map(|visit| visit.server), [shop.clone(), shop.clone(), api.clone()]);
        }
    }
    let cart = Browser::default().visit(program.address(), "/cart/1", "");
    assert!(cart.set[0].contains("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"), "{:?}", cart.set);
}

#[test]
fn a_session_stays_in_its_part_of_a_split_whatever_becomes_of_the_weights() {
    let servers = origins(&["a", "b", "x", "y"]);
    let secret = secret(SECRET);
    let with = |to: &str| {
        let web = backend("web", &entries(&["a", "b"], &servers[..2]));
        let canary = backend("canary", &entries(&["x", "y"], &servers[2..]));
        let direct = "[[route]]\npath = \"/canary\"\nto = \"canary\"\n";
        file(&secret, &format!("{web}{canary}{direct}[[route]]\nto = {to}\nsticky = \"cookie\"\n"))
    };
    let program = Plimsoll::start(&with("{ web = 50, canary = 50 }"));
    let names = ["a", "b", "x", "y"];
    let mut browsers: Vec<(Browser, &str)> =
        names.map(|name| (Browser::of(program.address(), name), name)).into();
    for to in ["{ web = 50, canary = 50 }", "{ web = 100, canary = 1 }", "{ web = 1, canary = 0 }"] {
        reload(&program, &with(to));
        for _ in 0..4 {
            for (browser, name) in &mut browsers {
                assert_eq!(browser.who(program.address()), *name, "{to}");
            }
        }
    }
    reload(&program, &with("\"web\""));
    for (browser, name) in &mut browsers {
        let visit = browser.visit(program.address(), "/", "");
        assert_eq!(visit.set.len(), usize::from(["x", "y"].contains(name)), "the name of the cookie stays");
        assert!(["a", "b"].contains(&&*visit.server));
    }
}

#[test]
fn a_headers_value_keeps_its_server_without_any_memory() {
    let servers = origins(&NAMES);
    let all = entries(&NAMES, &servers);
    let with = |entries: &[String]| {
        let text =
            format!("{}[[route]]\nto = \"shop\"\nsticky = \"header:X-Session\"\n", backend("shop", entries));
        format!("workers = 2\n[[listen]]\nbind = \"127.0.0.1:0\"\n{text}")
    };
    let who = |program: &Plimsoll, session: &str| {
        let visit =
            visit(program.address(), &format!("GET / HTTP/1.1\r\nHost: a\r\nx-session: {session}\r\n\r\n"));
        assert!(visit.set.is_empty() && visit.seen("x-session") == [session]);
        visit.server
    };
    let program = Plimsoll::start(&with(&all));
    let sessions: Vec<String> = (0..40).map(|number| format!("session {number}")).collect();
    let before: Vec<String> = sessions.iter().map(|session| who(&program, session)).collect();
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 4, "{before:?}");
    let beside = Plimsoll::start(&with(&all.iter().rev().cloned().collect::<Vec<_>>()));
    assert!(sessions.iter().zip(&before).all(|(session, server)| who(&beside, session) == *server));
    reload(&program, &with(&all[1..]));
    for (session, server) in sessions.iter().zip(&before) {
        let now = who(&program, session);
        assert!(if server == "a" { now != "a" } else { now == *server }, "{session}: {server} {now}");
        assert_eq!(who(&program, session), now);
    }
    reload(&program, &with(&all));
    assert!(sessions.iter().zip(&before).all(|(session, server)| who(&program, session) == *server));
    let strangers: BTreeSet<String> =
        (0..60).map(|_| visit(program.address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").server).collect();
    assert_eq!(strangers.len(), 4, "without the header a request is balanced");
}

#[test]
fn secure_is_set_where_a_trusted_proxy_says_https_or_the_route_says_always() {
    let servers = origins(&["a"]);
    let with = |head: &str, sticky: &str| {
        let rest = format!(
            "{}[[route]]\nto = \"shop\"\nsticky = {sticky}\n",
            backend("shop", &entries(&["a"], &servers))
        );
        format!("{head}{}", file(&secret(SECRET), &rest))
    };
    let trusting = "trusted = [\"127.0.0.0/8\"]\n";
    let always = "{ by = \"cookie:id\", secure = true, same_site = \"strict\", path = \"/s\" }";
    for (head, sticky, proto, secure) in [
        ("", "\"cookie\"", "https", false),
        (trusting, "\"cookie\"", "https", true),
        (trusting, "\"cookie\"", "HTTPS", true),
        (trusting, "\"cookie\"", "http", false),
        ("", always, "http", true),
        ("", "{ by = \"cookie\", same_site = \"none\" }", "http", true),
    ] {
        let program = Plimsoll::start(&with(head, sticky));
        let more = format!("X-Forwarded-Proto: {proto}\r\n");
        let set = Browser::default().visit(program.address(), "/", &more).set.remove(0);
        assert_eq!(set.ends_with("; Secure"), secure, "{head} {sticky} {proto}: {set}");
        if sticky == always {
            assert!(
                set.starts_with("id=") && set.contains("; Path=/s; HttpOnly; SameSite=Strict; "),
                "{set}"
            );
        }
    }
}

#[test]
fn an_answer_that_upgrades_sets_the_cookie_and_our_own_answers_do_not() {
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let origin = Origin::scripted(vec![vec![Step::Read, Step::Send(switch.to_vec()), Step::Close]]);
    let entry = entry("a", &origin.address().to_string(), "");
    let program = Plimsoll::start(&shop(&secret(SECRET), &[entry]));
    let mut client = Client::connect(program.address());
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    let head = String::from_utf8_lossy(client.read_until(|bytes| bytes.ends_with(b"\r\n\r\n"))).into_owned();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("\r\nSet-Cookie: plimsoll-shop="), "{head}");
    let port = Port::reserve();
    let nobody = self::entry("dead", &port.address().to_string(), "");
    let dead = Plimsoll::start(&shop(&secret(SECRET), &[nobody]));
    let refused = ask(dead.address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").whole();
    assert_eq!((refused.status, field(&refused, "set-cookie").as_str()), (502, ""));
}

#[test]
fn curl_with_its_cookie_jar_comes_back_to_the_same_server() {
    let Some(curl) = need::need("curl") else { return };
    let servers = origins(&NAMES);
    let program = Plimsoll::start(&shop(&secret(SECRET), &entries(&NAMES, &servers)));
    let mut all = BTreeSet::new();
    for _ in 0..10 {
        let jar = scratch("jar");
        let jar_path = jar.to_str().expect("ASCII");
        let url = format!("http://{}/", program.address());
        let get = || curl::run(&curl, &["-b", jar_path, "-c", jar_path, &url]).json();
        let first = get();
        let kept = std::fs::read_to_string(&jar).expect("curl has written it");
        assert!(kept.contains("#HttpOnly_127.0.0.1") && kept.contains("plimsoll-shop"), "{kept}");
        for _ in 0..6 {
            assert_eq!(get()["server"], first["server"]);
        }
        all.insert(first["server"].as_str().expect("a name").to_owned());
        let _ = std::fs::remove_file(&jar);
    }
    assert!(all.len() > 1, "{all:?}");
}
