//! Servers killed and started anew, again and again, while clients keep asking.
//!
//! One server at a time is dead, and each is killed only once it serves, so that every kill meets requests in flight.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::process::{Port, Server, scratch, until};
use crate::recorder::{Recorder, recorded};
use crate::support::{Answer, Client, Plimsoll};

const SERVERS: usize = 3;
const KILLS: usize = 12;
const GETTERS: usize = 4;
const POSTERS: usize = 2;
/// Requests that a server must have served before it is killed, and that are answered while it is dead.
const BETWEEN: usize = 30;

/// A server that can be killed.
trait Mortal {
    /// Requests since it started.
    fn served(&self) -> usize;
    /// KILL, and waits until it is gone.
    fn kill(self);
}

impl Mortal for Server {
    fn served(&self) -> usize {
        self.shown()["requests"].as_u64().expect("a number") as usize
    }

    fn kill(self) {
        Server::kill(self);
    }
}

impl Mortal for Recorder {
    fn served(&self) -> usize {
        Recorder::served(self)
    }

    fn kill(self) {
        Recorder::kill(self);
    }
}

/// What the clients do and have seen.
#[derive(Default)]
struct Load {
    ending: AtomicBool,
    answered: AtomicUsize,
}

/// What became of the requests.
#[derive(Default)]
struct Seen {
    /// Status by target.
    statuses: HashMap<String, u16>,
    /// Answers that are not whole.
    broken: Vec<String>,
}

impl Load {
    /// One client: asks, over one connection for as long as that lasts, until told to end.
    fn ask(&self, to: SocketAddr, method: &str, client_number: usize) -> Seen {
        let mut client = Client::connect(to);
        let mut seen = Seen::default();
        for number in 0.. {
            if self.ending.load(Ordering::Relaxed) {
                break;
            }
            let target = format!("/{method}/{client_number}/{number}");
            client.send(&request(method, &target, number));
            match client.answer() {
                Answer::Whole(answer) => {
                    if !answer.keep_alive {
                        client = Client::connect(to);
                    }
                    seen.statuses.insert(target, answer.status);
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
                other => {
                    seen.broken.push(format!("{target}: {}", other.describe()));
                    client = Client::connect(to);
                }
            }
        }
        seen
    }

    fn wait_for(&self, more: usize) {
        let from = self.answered.load(Ordering::Relaxed);
        until("answers under load", || self.answered.load(Ordering::Relaxed) >= from + more);
    }
}

/// POSTs have a body that comes with the head, later, or in many pieces.
fn request(method: &str, target: &str, number: usize) -> Vec<u8> {
    if method == "GET" {
        return format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    }
    let body = "p".repeat(number % 4 * 7000);
    let length = body.len();
    format!("{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// Lets servers die under load; gives what the clients saw, first of GET, then of POST.
fn under_load<S: Mortal>(plimsoll: &Plimsoll, start: impl Fn(usize) -> S) -> (Seen, Seen) {
    let load = Load::default();
    let mut servers: Vec<S> = (0..SERVERS).map(&start).collect();
    let (load, address) = (&load, plimsoll.address());
    std::thread::scope(|scope| {
        let ask = |method, count| {
            let one = |number| scope.spawn(move || load.ask(address, method, number));
            (0..count).map(one).collect::<Vec<_>>()
        };
        let clients = [ask("GET", GETTERS), ask("POST", POSTERS)];
        // Ends the clients also when something below panics; else the scope would wait for them for ever.
        let ending = EndsOnDrop(&load.ending);
        for kill in 0..KILLS {
            let number = kill % SERVERS;
            until("the server to be killed serves", || servers[number].served() >= BETWEEN);
            let others = servers.split_off(number + 1);
            servers.pop().expect("there are three").kill();
            load.wait_for(BETWEEN);
            servers.push(start(number));
            servers.extend(others);
        }
        drop(ending);
        let [get, post] = clients.map(|of_method| {
            let mut all = Seen::default();
            for client in of_method {
                let seen = client.join().expect("clients only count");
                all.statuses.extend(seen.statuses);
                all.broken.extend(seen.broken);
            }
            all
        });
        (get, post)
    })
}

struct EndsOnDrop<'a>(&'a AtomicBool);

impl Drop for EndsOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Every GET got its 200, every POST a 200 or a 502, and some GET did need another try.
fn judge(plimsoll: &Plimsoll, get: &Seen, post: &Seen) {
    assert!(get.broken.is_empty() && post.broken.is_empty(), "{:?} {:?}", get.broken, post.broken);
    let failed: Vec<_> = get.statuses.iter().filter(|(_, status)| **status != 200).collect();
    assert!(failed.is_empty(), "{failed:?} of {} GETs", get.statuses.len());
    let odd: Vec<_> = post.statuses.iter().filter(|(_, status)| ![200, 502].contains(*status)).collect();
    assert!(odd.is_empty(), "{odd:?} of {} POSTs", post.statuses.len());
    until("a GET that was tried again", || {
        let log = plimsoll.log_lines();
        log.iter().any(|line| line["method"] == "GET" && line["attempts"].as_u64() > Some(1))
    });
    for line in plimsoll.log_lines() {
        let letters = line["end"].as_str().expect("every line has them");
        let expected: &[&str] = if line["status"] == 200 { &["--"] } else { &["SH", "SC"] };
        assert!(expected.contains(&letters), "{line}");
    }
}

fn plimsoll(ports: &[Port; SERVERS]) -> Plimsoll {
    let addresses: Vec<String> = ports.iter().map(|port| format!("\"{}\"", port.address())).collect();
    Plimsoll::start(&format!("[[listen]]\nbind = \"127.0.0.1:0\"\nto = [{}]\n", addresses.join(", ")))
}

#[test]
fn no_get_fails_while_servers_are_killed_and_restarted() {
    let ports = [(); SERVERS].map(|()| Port::reserve());
    let plimsoll = plimsoll(&ports);
    let start = |number: usize| {
        let address = ports[number].address().to_string();
        Server::with(["a", "b", "c"][number], &address, &["--delay", "2ms", "--spread", "2ms"])
    };
    let (get, post) = under_load(&plimsoll, start);
    judge(&plimsoll, &get, &post);
}

#[test]
fn no_post_is_delivered_twice_while_servers_are_killed_and_restarted() {
    let ports = [(); SERVERS].map(|()| Port::reserve());
    let plimsoll = plimsoll(&ports);
    let records: Vec<PathBuf> = (0..SERVERS).map(|_| scratch("record")).collect();
    let (get, post) = under_load(&plimsoll, |number| Recorder::start(&ports[number], &records[number]));
    judge(&plimsoll, &get, &post);
    let mut deliveries: HashMap<String, usize> = HashMap::new();
    for line in records.iter().flat_map(|record| recorded(record)) {
        *deliveries.entry(line).or_default() += 1;
    }
    let count = |target: &String| deliveries.get(&format!("POST {target}")).copied().unwrap_or_default();
    for (target, status) in &post.statuses {
        let right = if *status == 200 { 1..=1 } else { 0..=1 };
        assert!(right.contains(&count(target)), "{target}: {status} after {} deliveries", count(target));
    }
    let answered = post.statuses.values().filter(|status| **status == 200).count();
    assert!(answered > KILLS * BETWEEN / 10, "only {answered} POSTs were answered");
    for record in &records {
        std::fs::remove_file(record).expect("it was written");
    }
}
