//! Servers that report their load: what becomes of it, with answers and asked by probes.
//!
//! The servers here are threads that read a head and answer it with a report of their own; the program is the real one, with one worker.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use support::{Client, Plimsoll, get};

/// A server that reports; it lives as long as the test's process.
struct Reporter {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    probes: Arc<AtomicUsize>,
}

impl Reporter {
    /// Reports to requests, or to probes for `/load`, or to both.
    fn start(report: &str, to_requests: bool, to_probes: bool) -> Reporter {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (requests, probes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let reporter = Reporter { address, requests: Arc::clone(&requests), probes: Arc::clone(&probes) };
        let report = format!("Endpoint-Load-Metrics: {report}\r\n");
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (report, requests, probes) = (report.clone(), Arc::clone(&requests), Arc::clone(&probes));
                std::thread::spawn(move || {
                    serve(stream, |is_probe| {
                        if is_probe { &probes } else { &requests }.fetch_add(1, SeqCst);
                        if is_probe && to_probes || !is_probe && to_requests { &report } else { "" }
                    });
                });
            }
        });
        reporter
    }
}

fn serve<'r>(mut stream: TcpStream, report: impl Fn(bool) -> &'r str) {
    let mut head = Vec::new();
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte) {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            let fields = report(head.starts_with(b"GET /load "));
            let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
            head.clear();
        }
    }
}

fn before(servers: &[Reporter], keys: &str) -> Plimsoll {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address)).collect();
    Plimsoll::start(&format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"all\"\n[backend.all]\nservers = [{}]\n{keys}\n",
        servers.join(", ")
    ))
}

/// Sends so many requests one after the other, and gives how many each server got.
fn spread(program: &Plimsoll, servers: &[Reporter], requests: usize) -> Vec<usize> {
    let count = |server: &Reporter| server.requests.load(SeqCst);
    let before: Vec<usize> = servers.iter().map(count).collect();
    let mut client = Client::connect(program.address());
    for _ in 0..requests {
        client.send(&get("/"));
        assert_eq!(client.answer().whole().status, 200);
    }
    servers.iter().zip(before).map(|(server, before)| count(server) - before).collect()
}

fn fast_and_slow(to_requests: bool, to_probes: bool) -> Vec<Reporter> {
    let report = |latency| format!("TEXT named_metrics.rif=1,named_metrics.latency_ms={latency}");
    [50, 1, 50, 50].map(|latency| Reporter::start(&report(latency), to_requests, to_probes)).into()
}

#[test]
fn prequal_goes_by_what_servers_report_with_their_answers() {
    // Seventeen servers, four of them fast: more than 16, so that not all are heard of.
    let servers: Vec<Reporter> = (0..5).flat_map(|_| fast_and_slow(true, true)).skip(3).collect();
    let program = before(&servers, "balance = { policy = \"prequal\", age = \"1m\" }");
    let got = spread(&program, &servers, 800);
    let fast: usize = got.iter().skip(2).step_by(4).sum();
    // The rule alone, run apart 400 times, gives the four fast ones 605 with a deviation of 16; by chance they would have 188.
    assert!((541..=669).contains(&fast), "{fast} of 800: {got:?}");
    // One pick in four is p2c's, which serves all alike: 12 each.
    assert!(got.iter().all(|&got| got > 4), "{got:?}");
    assert_eq!(servers.iter().map(|server| server.probes.load(SeqCst)).sum::<usize>(), 0, "nobody asked");
}

/// By latency alone: these servers always say that one request is in flight, and what is sent between two probes would make the fast one hot.
#[test]
fn prequal_asks_servers_beside_the_traffic() {
    let servers = fast_and_slow(false, true);
    let program = before(
        &servers,
        "balance = { policy = \"prequal\", age = \"1m\", quantile = 1.0, probe = \"/load\" }",
    );
    spread(&program, &servers, 100); // until probes have been answered
    let got = spread(&program, &servers, 300);
    assert!(got[1] > 200, "{got:?}");
    let asked: Vec<usize> = servers.iter().map(|server| server.probes.load(SeqCst)).collect();
    assert!(asked.iter().all(|&asked| asked > 100) && asked.iter().sum::<usize>() <= 1_200, "{asked:?}");
}

#[test]
fn without_reports_prequal_serves_as_p2c_does() {
    let servers = fast_and_slow(false, false);
    for probe in ["", ", probe = \"/load\""] {
        let program = before(&servers, &format!("balance = {{ policy = \"prequal\"{probe} }}"));
        let got = spread(&program, &servers, 200);
        assert!(got.iter().all(|&got| (30..=70).contains(&got)), "{got:?}");
    }
}

#[test]
fn reported_weights_count_and_do_not_reach_clients() {
    let report =
        |requests| format!("JSON {{\"cpu_utilization\":0.5,\"rps_fractional\":{requests},\"eps\":0}}");
    let servers: Vec<Reporter> = [100, 300].map(|r| Reporter::start(&report(r), true, true)).into();
    let program = before(
        &servers,
        "balance = \"random\"\nweights = { from = \"orca\", blackout = \"0s\" }\nslow_start = \"0s\"",
    );
    let deadline = std::time::Instant::now() + support::PATIENCE;
    loop {
        // Factors are worked out once a second.
        let got = spread(&program, &servers, 400);
        if (70..=130).contains(&got[0]) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{got:?}");
    }
    let mut client = Client::connect(program.address());
    client.send(&get("/"));
    let answer = client.answer().whole();
    assert!(!answer.fields.has("endpoint-load-metrics"), "{answer:?}");
}

#[test]
fn a_report_is_a_field_like_any_other_where_nobody_uses_it() {
    let servers = vec![Reporter::start("TEXT cpu_utilization=0.5", true, true)];
    let program = before(&servers, "");
    let mut client = Client::connect(program.address());
    client.send(&get("/"));
    let answer = client.answer().whole();
    assert!(answer.fields.has("endpoint-load-metrics"), "{answer:?}");
}
