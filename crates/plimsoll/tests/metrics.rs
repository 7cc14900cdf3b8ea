//! What is counted: that it adds up, that the page is as documented, and that Prometheus takes it.
//!
//! Runs the real program before recording origins and reads `/metrics` of its admin address. `docs/METRICS.md` is the
//! golden list of names, types and labels. promtool and Prometheus are peers: where they are missing, their tests say so.

#[path = "peers/need.rs"]
mod need;
#[path = "metrics/page.rs"]
mod page;
#[path = "peers/process.rs"]
mod process;
#[path = "metrics/prometheus.rs"]
mod prometheus;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use page::Page;
use process::{Port, until};
use support::{Client, Gate, Origin, Plimsoll, Step, get};

/// The program with an admin address.
struct Counted {
    plimsoll: Plimsoll,
    admin: SocketAddr,
}

impl Counted {
    fn start(configuration: &str) -> Counted {
        let plimsoll = Plimsoll::start(&format!("{configuration}\n[admin]\nbind = \"127.0.0.1:0\"\n"));
        let lines = plimsoll.stderr_lines();
        let admin = lines.iter().find_map(|line| line.strip_prefix("plimsoll: admin on "));
        let admin = admin.expect("it says where").parse().expect("an address");
        Counted { plimsoll, admin }
    }

    fn page(&self) -> Page {
        Page::of(self.admin)
    }

    /// The first page on which so many requests have ended. An exchange is counted when it has ended, just after its answer.
    #[track_caller]
    fn after(&self, requests: u64) -> Page {
        let mut page = self.page();
        until("every request is counted", || {
            page = self.page();
            page.sum("plimsoll_listener_requests_total", &[]) >= requests
        });
        page
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn ask(to: SocketAddr, request: &[u8]) -> u16 {
    let mut client = Client::connect(to);
    client.send(request);
    client.answer().whole().status
}

/// Name, type and labels of every metric in `docs/METRICS.md`.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = std::fs::read_to_string(root().join("docs/METRICS.md")).expect("it is there");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let labels = cells[3].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels))
    };
    rows.map(row).collect()
}

/// A program that has something to show for every metric: answers, retries, errors at every level.
fn busy() -> (Counted, Vec<Origin>, Port) {
    let dead = Port::reserve();
    let cutting = Origin::scripted(vec![vec![
        Step::Read,
        Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut".to_vec()),
        Step::Reset,
    ]]);
    let serving = Origin::serve();
    let list = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("metrics-{}.json", std::process::id()));
    std::fs::write(&list, format!("[\"{}\"]", serving.address())).expect("the test's own directory");
    let counted = Counted::start(&format!(
        "workers = 2\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"good\"\n\
         [backend.good]\nservers = [\"{}\", \"{}\"]\nbalance = \"round_robin\"\n\
         [backend.bad]\nservers = [\"{}\"]\n[[route]]\nname = \"cut\"\npath = \"/cut\"\nto = \"bad\"\nlimit = {{ rate = \"100/s\" }}\n\
         [backend.asked]\nservers = [\"{}\"]\nhealth = \"tcp\"\nagent = {{ port = {} }}\n[[route]]\npath = \"/asked\"\nto = \"asked\"\n\
         [backend.found]\ndiscover = {{ file = \"{}\" }}\n[[route]]\npath = \"/found\"\nto = \"found\"",
        serving.address(),
        dead.address(),
        cutting.address(),
        serving.address(),
        dead.address().port(),
        list.display()
    ));
    let to = counted.plimsoll.address();
    let mut client = Client::connect(to);
    for _ in 0..4 {
        client.send(&get("/"));
        assert_eq!(client.answer().whole().status, 200, "the dead server is passed over");
    }
    client.send(&get("/cut"));
    client.answer();
    assert_eq!(ask(to, b"GET / HTTP/1.1\r\n\r\n"), 400);
    counted.after(6);
    (counted, vec![cutting, serving], dead)
}

#[test]
fn names_types_and_labels_are_those_of_the_document() {
    let (counted, _origins, _dead) = busy();
    // A server's agent is asked when its first check has ended, or soon after.
    let asked = || counted.page().families()["plimsoll_server_agent_questions_total"].1.len() == 3;
    process::until("an agent was asked", asked);
    let exposed = counted.page().families();
    let documented = documented();
    let names = |of: &BTreeMap<String, _>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&exposed), names(&documented));
    for (name, exposed) in &exposed {
        assert_eq!(exposed, &documented[name], "{name}");
    }
}

#[test]
fn requests_add_up_by_listener_route_backend_and_server() {
    let (a, b) = (Origin::serve(), Origin::serve());
    let counted = Counted::start(&format!(
        "workers = 2\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"web\"\n\
         [backend.web]\nservers = [\"{}\", \"{}\"]\n[backend.one]\nservers = [{{ address = \"{}\", name = \"one\" }}]\n\
         [[route]]\nname = \"one\"\npath = \"/one\"\nto = \"one\"\n\
         [[route]]\nname = \"gone\"\npath = \"/gone\"\nrespond = {{ status = 410 }}",
        a.address(),
        b.address(),
        a.address()
    ));
    let to = counted.plimsoll.address();
    let (mut sent, mut received) = (0, 0);
    for (path, times) in [("/", 30), ("/one", 20), ("/gone", 10)] {
        for _ in 0..times {
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            sent += request.len() as u64;
            received += support::exchange(to, request.as_bytes()).len() as u64;
        }
    }
    let page = counted.after(60);
    let requests =
        |level: &str, labels: &[(&str, &str)]| page.sum(&format!("plimsoll_{level}_requests_total"), labels);
    assert_eq!(requests("listener", &[("code", "2xx")]), 50);
    assert_eq!(requests("listener", &[("code", "4xx")]), 10);
    assert_eq!(requests("route", &[("route", "web")]), 30);
    assert_eq!(requests("route", &[("route", "one"), ("code", "2xx")]), 20);
    assert_eq!(requests("route", &[("route", "gone"), ("code", "4xx")]), 10);
    assert_eq!(
        (requests("backend", &[("backend", "web")]), requests("backend", &[("backend", "one")])),
        (30, 20)
    );
    assert_eq!(requests("server", &[("backend", "web"), ("code", "2xx")]), 30);
    assert_eq!(requests("server", &[("backend", "one"), ("server", "one")]), 20);
    for level in ["listener", "route", "backend", "server"] {
        let all = requests(level, &[]);
        assert_eq!(all, if matches!(level, "backend" | "server") { 50 } else { 60 });
        let durations = format!("plimsoll_{level}_request_duration_seconds");
        assert_eq!(page.sum(&format!("{durations}_count"), &[]), all, "{level}");
        assert_eq!(page.sum(&format!("{durations}_bucket"), &[("le", "+Inf")]), all, "{level}");
        assert_eq!(page.sum(&format!("plimsoll_{level}_requests_in_flight"), &[]), 0, "{level}");
        assert_eq!(page.sum(&format!("plimsoll_{level}_errors_total"), &[]), 0, "{level}");
    }
    assert_eq!(page.sum("plimsoll_server_first_byte_seconds_count", &[]), 50);
    assert_eq!(page.sum("plimsoll_listener_received_bytes_total", &[]), sent);
    assert_eq!(page.sum("plimsoll_listener_sent_bytes_total", &[]), received);
    assert_eq!(page.sum("plimsoll_listener_connections_total", &[]), 60);
    let made = a.connections().len() + b.connections().len();
    assert_eq!(page.sum("plimsoll_server_connections_total", &[]), made as u64);
}

#[test]
fn nothing_is_lost_when_many_ask_many_workers_at_once() {
    const CLIENTS: u64 = 16;
    const EACH: u64 = 100;
    let origin = Origin::serve();
    let counted = Counted::start(&format!(
        "workers = 2\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = [\"{}\"]",
        origin.address()
    ));
    let to = counted.plimsoll.address();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client::connect(to);
                for _ in 0..EACH {
                    client.send(&get("/"));
                    assert_eq!(client.answer().whole().status, 200);
                }
            });
        }
        let mut last = 0;
        until("all are counted while others look", || {
            let page = counted.page();
            let all = page.sum("plimsoll_server_requests_total", &[]);
            assert!((last..=CLIENTS * EACH).contains(&all), "{all} after {last}");
            last = all;
            all == CLIENTS * EACH
        });
    });
    let page = counted.after(CLIENTS * EACH);
    for level in ["listener", "route", "backend", "server"] {
        let count = page.sum(&format!("plimsoll_{level}_request_duration_seconds_count"), &[]);
        assert_eq!(count, CLIENTS * EACH, "{level}");
    }
    until("one log line for each request", || counted.plimsoll.log_lines().len() as u64 == CLIENTS * EACH);
    let busy = |page: &Page, worker| page.number("plimsoll_worker_busy_seconds_total", &[("worker", worker)]);
    assert!(busy(&page, "0") > 0.0 && busy(&page, "1") > 0.0, "both workers have worked");
}

#[test]
fn what_is_in_flight_shows_until_it_has_ended() {
    let gate = Gate::default();
    let answer = Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec());
    let origin = Origin::scripted(vec![vec![Step::Read, Step::Wait(gate.clone()), answer]]);
    let counted =
        Counted::start(&format!("[[listen]]\nbind = \"127.0.0.1:0\"\nto = [\"{}\"]", origin.address()));
    let mut client = Client::connect(counted.plimsoll.address());
    client.send(&get("/"));
    origin.wait_until("the request", |all| all.iter().any(|c| !c.requests.is_empty()));
    let in_flight = |page: &Page| {
        ["listener", "route", "backend", "server"]
            .map(|level| page.sum(&format!("plimsoll_{level}_requests_in_flight"), &[]))
    };
    let page = counted.page();
    assert_eq!(in_flight(&page), [1; 4]);
    assert_eq!(page.sum("plimsoll_worker_connections", &[]), 1);
    gate.open();
    assert_eq!(client.answer().whole().status, 200);
    assert_eq!(in_flight(&counted.after(1)), [0; 4]);
    drop(client);
    until("the connection is counted off", || counted.page().sum("plimsoll_listener_connections", &[]) == 0);
}

#[test]
fn errors_retries_and_limits_are_counted_where_they_belong() {
    let (counted, origins, dead) = busy();
    let page = counted.page();
    let dead = dead.address().to_string();
    let cutting = origins[0].address().to_string();
    let errors =
        |level: &str, labels: &[(&str, &str)]| page.sum(&format!("plimsoll_{level}_errors_total"), labels);
    assert!(errors("server", &[("server", &dead), ("reason", "connect_failed")]) >= 1);
    assert_eq!(errors("backend", &[("backend", "good")]), 0, "no client felt it");
    assert!(page.sum("plimsoll_backend_retries_total", &[("backend", "good")]) >= 1);
    assert!(page.sum("plimsoll_server_connections_refused_total", &[("server", &dead)]) >= 1);
    assert_eq!(errors("server", &[("server", &cutting), ("reason", "server_closed")]), 1);
    assert_eq!(errors("route", &[("route", "cut"), ("reason", "server_closed")]), 1);
    assert_eq!(errors("listener", &[("reason", "server_closed")]), 1);
    assert_eq!(errors("listener", &[("reason", "bad_host")]), 1, "refused before there was a route");
    assert_eq!(errors("route", &[("reason", "bad_host")]), 0);
}

#[test]
fn clients_that_are_turned_away_are_counted() {
    let origin = Origin::serve();
    let counted = Counted::start(&format!(
        "[[listen]]\nbind = \"127.0.0.1:0\"\nmax_connections_per_client = 1\nto = [\"{}\"]",
        origin.address()
    ));
    let mut first = Client::connect(counted.plimsoll.address());
    first.send(&get("/"));
    assert_eq!(first.answer().whole().status, 200);
    assert_eq!(ask(counted.plimsoll.address(), &get("/")), 503);
    let page = counted.after(2);
    assert_eq!(page.sum("plimsoll_listener_connections_refused_total", &[]), 1);
    assert_eq!(page.sum("plimsoll_limits_reached_total", &[("limit", "connections_per_client")]), 1);
    assert_eq!(page.sum("plimsoll_listener_connections", &[]), 1);
    assert_eq!(page.sum("plimsoll_listener_connections_total", &[]), 2);
}

#[test]
fn a_reload_is_counted_and_keeps_what_was_counted() {
    let (a, b) = (Origin::serve(), Origin::serve());
    let file = |servers: &str| {
        format!("[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"web\"\n[backend.web]\nservers = [{servers}]")
    };
    let counted = Counted::start(&file(&format!("\"{}\"", a.address())));
    let reload = || ask(counted.admin, b"POST /reload HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let configure =
        |text: &str| counted.plimsoll.configure(&format!("{text}\n[admin]\nbind = \"127.0.0.1:0\"\n"));
    for _ in 0..5 {
        assert_eq!(ask(counted.plimsoll.address(), &get("/")), 200);
    }
    counted.after(5);
    configure(&file(&format!("\"{}\", \"{}\"", a.address(), b.address())));
    assert_eq!(reload(), 200);
    for _ in 0..5 {
        assert_eq!(ask(counted.plimsoll.address(), &get("/")), 200);
    }
    let page = counted.after(10);
    let first = a.address().to_string();
    assert!(page.sum("plimsoll_server_requests_total", &[("server", &first)]) >= 5);
    assert_eq!(page.sum("plimsoll_server_requests_total", &[]), 10);
    for level in ["listener", "route", "backend"] {
        assert_eq!(page.sum(&format!("plimsoll_{level}_requests_total"), &[]), 10, "{level}");
    }
    configure("nonsense");
    assert_eq!(reload(), 422);
    let page = counted.page();
    assert_eq!(page.sum("plimsoll_config_reloads_total", &[("result", "success")]), 1);
    assert_eq!(page.sum("plimsoll_config_reloads_total", &[("result", "failure")]), 1);
    assert_eq!(page.sum("plimsoll_config_last_reload_successful", &[]), 0);
}

/// The names of metrics that a text mentions.
fn mentioned(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|w| w.starts_with("plimsoll_") || w.starts_with("process_")).map(str::to_owned).collect()
}

#[test]
fn the_dashboard_and_the_alerts_name_only_what_there_is() {
    let (counted, _origins, _dead) = busy();
    let exposed = counted.page().names();
    for file in ["packaging/grafana/plimsoll.json", "packaging/prometheus/alerts.yml"] {
        let names = mentioned(&std::fs::read_to_string(root().join(file)).expect("it is there"));
        assert!(names.len() >= 8, "{names:?}");
        let unknown: Vec<_> = names.difference(&exposed).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
    let dashboard = std::fs::read(root().join("packaging/grafana/plimsoll.json")).expect("it is there");
    let dashboard: serde_json::Value = serde_json::from_slice(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "every panel has an id of its own");
}

#[test]
fn few_long_connections_are_spread_evenly_over_the_workers() {
    let counted = Counted::start(
        "workers = 4\n[[listen]]\nbind = \"127.0.0.1:0\"\n[[route]]\nrespond = { status = 200, body = \"here\" }\n",
    );
    let mut clients: Vec<Client> = (0..40).map(|_| Client::connect(counted.plimsoll.address())).collect();
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer().whole().status, 200);
    }
    let page = counted.page();
    let held = |worker: &str| page.sum("plimsoll_worker_connections", &[("worker", worker)]);
    let held = ["0", "1", "2", "3"].map(held);
    assert_eq!(held.iter().sum::<u64>(), 40);
    // The kernel's hash alone spreads 40 over 4 with a standard deviation of nearly 3. Two workers may decide at the same instant.
    let (most, least) = (held.iter().max(), held.iter().min());
    assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 4), "{held:?}");
}
