//! Limits that are found out, in the real program: servers with so many places, and clients that always want more.

#[path = "peers/process.rs"]
mod process;
#[path = "support/rig.rs"]
mod rig;
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use process::Port;
use rig::until;
use rustix::process::Signal;
use serde_json::Value;
use support::{Client, Plimsoll, get};

/// What a request takes.
const SERVICE: Duration = Duration::from_millis(20);
/// Clients that ask again as soon as they are answered.
const CLIENTS: usize = 60;

/// A server that does so many requests at once; the others wait in it.
#[derive(Clone)]
struct Places {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

struct State {
    places: usize,
    taken: usize,
    /// The most that were taken.
    most: usize,
}

impl Places {
    fn start(places: usize) -> Places {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new((Mutex::new(State { places, taken: 0, most: 0 }), Condvar::new()));
        let server = Places { address, state };
        let all = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let own = all.clone();
                let small = std::thread::Builder::new().stack_size(128 * 1024);
                small.spawn(move || own.serve(stream)).expect("threads suffice");
            }
        });
        server
    }

    fn become_of(&self, places: usize) {
        self.state.0.lock().expect("nobody panics").places = places;
        self.state.1.notify_all();
    }

    fn serve(&self, mut stream: TcpStream) {
        let (state, changed) = &*self.state;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while let Ok(1) = stream.read(&mut byte) {
            head.push(byte[0]);
            if !head.ends_with(b"\r\n\r\n") {
                continue;
            }
            head.clear();
            let guard = state.lock().expect("nobody panics");
            let mut guard =
                changed.wait_while(guard, |state| state.taken >= state.places).expect("nobody panics");
            guard.taken += 1;
            guard.most = guard.most.max(guard.taken);
            drop(guard);
            std::thread::sleep(SERVICE);
            state.lock().expect("nobody panics").taken -= 1;
            changed.notify_one();
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    }
}

struct Stage {
    program: Plimsoll,
    admin: Port,
    port: Port,
    server: Places,
}

fn text((admin, port): (&Port, &Port), server: &Places, keys: &str) -> String {
    format!(
        "workers = 2\n[log]\nformat = \"off\"\n[admin]\nbind = \"{}\"\n[[listen]]\nbind = \"{}\"\nto = \"all\"\n\
         [backend.all]\nservers = [\"{}\"]\nqueue = {{ timeout = \"10s\", target = \"10s\" }}\n{keys}\n",
        admin.address(),
        port.address(),
        server.address
    )
}

impl Stage {
    fn new(places: usize, keys: &str) -> Stage {
        let (admin, port, server) = (Port::reserve(), Port::reserve(), Places::start(places));
        let program = Plimsoll::start(&text((&admin, &port), &server, keys));
        Stage { program, admin, port, server }
    }

    fn reload(&self, keys: &str) {
        self.program.configure(&text((&self.admin, &self.port), &self.server, keys));
        let said = self.program.stderr_lines().len();
        self.program.signal(Signal::HUP);
        self.program.wait_for_line(said, |line| line.contains("reloaded "));
    }

    fn asked(&self, path: &str) -> Vec<u8> {
        let mut client = Client::connect(self.admin.address());
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        client.answer().whole().body
    }

    fn seen(&self) -> Value {
        let status: Value = serde_json::from_slice(&self.asked("/status")).expect("JSON");
        status["backends"][0]["servers"][0].clone()
    }

    fn limit(&self) -> u64 {
        self.seen()["limit"].as_u64().expect("a number")
    }

    /// Runs `act` while clients ask as fast as they are answered.
    fn under_load(&self, act: impl FnOnce()) {
        let (stop, to) = (AtomicBool::new(false), self.port.address());
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut client = Client::connect(to);
                    while !stop.load(Relaxed) {
                        client.send(&get("/"));
                        assert_eq!(client.answer().whole().status, 200);
                    }
                });
            }
            let stops = Stops(&stop);
            act();
            drop(stops);
        });
    }
}

/// Stops the clients however the test goes on.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_limit_is_found_and_follows_and_a_reload_keeps_it() {
    let on = "adaptive_concurrency = { start = 40, probe = \"2s\" }";
    let stage = Stage::new(8, on);
    assert_eq!(stage.limit(), 40);
    stage.under_load(|| {
        // 1.2 x 8 and its square root are 13.
        until("8 places are found", || (8..=18).contains(&stage.limit()));
        let least = stage.seen()["least_latency_ms"].as_f64().expect("it is known");
        assert!((15.0..60.0).contains(&least), "{least} ms for 20");
        let page = String::from_utf8(stage.asked("/metrics")).expect("text");
        assert!(page.contains("plimsoll_server_limit{backend=\"all\""), "{page}");
        stage.server.become_of(24);
        until("24 places are found", || stage.limit() >= 24);
        stage.server.become_of(4);
        until("only 4 are left", || stage.limit() <= 12);
    });
    let limit = stage.limit();
    stage.reload(&format!("{on}\nslow_start = \"1s\""));
    assert_eq!(stage.limit(), limit);
    stage.reload("max_requests = 77");
    let seen = stage.seen();
    assert_eq!((&seen["limit"], &seen["least_latency_ms"]), (&77.into(), &Value::Null));
}

#[test]
fn nobody_has_more_than_max_requests() {
    let stage = Stage::new(40, "adaptive_concurrency = true\nmax_requests = 10");
    assert_eq!(stage.limit(), 10);
    stage.under_load(|| {
        until("a least latency is known", || stage.seen()["least_latency_ms"].as_f64().is_some());
        until("the limit has been looked for", || stage.limit() == 10);
    });
    assert_eq!(stage.server.state.0.lock().expect("nobody panics").most, 10, "sixty clients ask");
}
