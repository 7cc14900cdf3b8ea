//! Twice as much comes as can be done, for twenty seconds, in the real program, with the numbers of `bench/faults` and of the simulator's `faults`.
//!
//! Servers that take a while for each request and have room for a few, a load that does not wait for answers, and a look at what came of
//! it. What the servers can do is measured first, on the same machine in the same minute.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::rig::PROGRAM;
use super::support::{Client, Plimsoll, get};

/// How long a server takes for a request, how many it does at once, and how many servers there are.
const DELAY: &str = "40ms";
const ROOM: usize = 2;
const SERVERS: usize = 4;
/// How long the overload lasts, and what of it is left out until it has settled.
const LASTS: Duration = Duration::from_secs(20);
const SETTLES: Duration = Duration::from_secs(1);
/// Every request of that number is of the high class.
const HIGH: u64 = 5;

struct Origin {
    child: Child,
    address: String,
}

impl Origin {
    fn start() -> Origin {
        let mut child = Command::new(PROGRAM)
            .args(["origin", "--listen", ":0", "--delay", DELAY])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program is built");
        let mut line = String::new();
        let out = child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().rsplit("http://").next().expect("an address").to_owned();
        Origin { child, address }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client got.
struct Ended {
    high: bool,
    began: Duration,
    ended: Duration,
    status: Option<u16>,
}

/// Requests a second that are done when as many clients ask as there is room.
fn capacity(address: SocketAddr) -> f64 {
    let (done, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..SERVERS * ROOM {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                while !over.load(Relaxed) {
                    client.send(&get("/warm"));
                    assert_eq!(client.answer().status(), Some(200));
                    done.fetch_add(1, Relaxed);
                    over.fetch_or(began.elapsed() > Duration::from_millis(1_500), Relaxed);
                }
            });
        }
    });
    done.load(Relaxed) as f64 / began.elapsed().as_secs_f64()
}

/// Sends `rate` requests a second, each on a connection of its own, whatever becomes of those before.
fn overload(address: SocketAddr, rate: f64) -> Vec<Ended> {
    let (sender, ends) = mpsc::channel();
    let start = Instant::now();
    for n in 0..(LASTS.as_secs_f64() * rate) as u64 {
        let due = Duration::from_secs_f64(n as f64 / rate);
        thread::sleep(due.saturating_sub(start.elapsed()));
        let sender = sender.clone();
        let small = thread::Builder::new().stack_size(128 * 1024);
        let ask = move || {
            let (high, began) = (n % HIGH == 0, start.elapsed());
            let mut client = Client::connect(address);
            client.send(&get(if high { "/high" } else { "/usual" }));
            let status = client.answer().status();
            let _ = sender.send(Ended { high, began, ended: start.elapsed(), status });
        };
        small.spawn(ask).expect("threads suffice");
    }
    drop(sender);
    ends.into_iter().collect()
}

#[test]
fn at_twice_the_capacity_all_of_it_is_used_and_the_high_class_does_not_notice() {
    let origins: Vec<Origin> = (0..SERVERS).map(|_| Origin::start()).collect();
    let servers: Vec<String> = origins.iter().map(|origin| format!("\"{}\"", origin.address)).collect();
    let program = Plimsoll::start(&format!(
        "workers = 2\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"all\"\n[backend.all]\nslow_start = \"0s\"\n\
         max_requests = {ROOM}\nservers = [{}]\n[[route]]\npath = \"/high\"\nto = \"all\"\npriority = \"high\"\n\
         [log]\nformat = \"off\"\n",
        servers.join(", ")
    ));
    let capacity = capacity(program.address());
    let ends = overload(program.address(), 2.0 * capacity);
    let good = |ended: &&Ended| ended.status == Some(200);
    let window = |ended: &&Ended| (SETTLES..LASTS).contains(&ended.ended);
    let goodput = ends.iter().filter(good).filter(window).count() as f64 / (LASTS - SETTLES).as_secs_f64();
    let high: Vec<&Ended> = ends.iter().filter(|ended| ended.high).collect();
    let unharmed = high.iter().copied().filter(good).count() as f64 / high.len() as f64;
    let mut waited: Vec<Duration> = high.iter().map(|ended| ended.ended - ended.began).collect();
    waited.sort_unstable();
    let p99 = waited[waited.len() * 99 / 100];
    let refused = ends.iter().filter(|ended| ended.status == Some(503)).count();
    let told = format!(
        "capacity {capacity:.0}/s, goodput {goodput:.0}/s, high class {:.1} % good, p99 {p99:?}, {refused} of {} refused",
        100.0 * unharmed,
        ends.len()
    );
    println!("{told}");
    assert!(goodput >= 0.95 * capacity, "{told}");
    assert!(unharmed >= 0.99 && p99 < Duration::from_millis(500), "{told}");
    assert_eq!(ends.iter().filter(good).count() + refused, ends.len(), "everybody is told: {told}");
}
