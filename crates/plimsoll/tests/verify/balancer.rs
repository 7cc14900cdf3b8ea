//! A small balancer for the judge to judge: right by default, and wrong in one way at a switch.
//!
//! Each defect is one that exists in the field or that a slip would make. Servers are taken out by a failed request or connection and are back
//! when a connection to them succeeds; requests that found no answer are tried at another server.

use std::collections::hash_map::DefaultHasher;
use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// How it chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Smoothly by weight.
    Turns,
    /// The less busy of two that differ.
    BestOfTwo,
    /// The least busy, by chance among equals.
    Least,
    /// By the header `x-user`: the server with the highest score.
    Keys,
    /// The first that is up.
    First,
}

/// In which one way it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    None,
    /// Every tenth request is answered by nobody but itself.
    Drops,
    AnswersNobody,
    IgnoresWeights,
    /// Ten turns in a row for each.
    Bursts,
    /// Whoever comes next in the list takes the turns of a server that is down.
    NeighbourInherits,
    RefusesWhileOneIsDown,
    RefusesWithOneLeft,
    RefusesWhileOneIsBusy,
    /// After a failure nobody is served for the next twenty requests.
    RefusesAfterFailures,
    /// The place in the list of those that are up.
    Modulo,
    /// Keys are dealt anew when a server is back.
    DealsAnew,
    BlindToLoad,
    /// With two left both draws may be the same one.
    BlindWithTwo,
    /// With two left only the second of them is ever taken for itself, whatever it has: a sample that drops the first.
    SecondAlone,
    NeverTriesAgain,
    NeverRevives,
}

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Server {
    address: String,
    weight: i64,
    up: bool,
    in_flight: u32,
    lead: i64,
    idle: Vec<SendRequest<Full<Bytes>>>,
}

#[derive(Debug)]
struct State {
    rule: Rule,
    defect: Defect,
    servers: Vec<Server>,
    requests: usize,
    turn: usize,
    revivals: u64,
    /// So many are refused yet.
    refusals: u32,
    dice: u64,
}

type Shared = Arc<Mutex<State>>;

impl Balancer {
    pub(crate) fn start(rule: Rule, defect: Defect, servers: &[(String, u16)]) -> Balancer {
        let server = |(address, weight): &(String, u16)| Server {
            address: address.clone(),
            weight: i64::from(*weight),
            up: true,
            in_flight: 0,
            lead: 0,
            idle: Vec::new(),
        };
        let servers = servers.iter().map(server).collect();
        let state = State { rule, defect, servers, requests: 0, turn: 0, revivals: 0, refusals: 0, dice: 1 };
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                tell.send(listener.local_addr().expect("bound")).expect("somebody waits");
                let shared = Arc::new(Mutex::new(state));
                tokio::select! {
                    () = accept(listener, &shared) => {}
                    () = revive(&shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Balancer { address: told.recv().expect("it starts"), stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.stop.take();
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().expect("nobody panics with it")
}

async fn accept(listener: TcpListener, shared: &Shared) {
    loop {
        let (stream, _) = listener.accept().await.expect("a client");
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let service = service_fn(|request| serve(&shared, request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Looks every 50 ms whether a server that is down accepts again.
async fn revive(shared: &Shared) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let down: Vec<(usize, String)> = {
            let state = lock(shared);
            let down = state.servers.iter().enumerate().filter(|(_, server)| !server.up);
            down.map(|(place, server)| (place, server.address.clone())).collect()
        };
        for (place, address) in down {
            if TcpStream::connect(&address).await.is_ok() {
                lock(shared).is_back(place);
            }
        }
    }
}

async fn serve(shared: &Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut refusal = Response::new(Full::default());
    *refusal.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    if lock(shared).refuses() {
        return Ok(refusal);
    }
    let mut hasher = DefaultHasher::new();
    request.headers().get("x-user").hash(&mut hasher);
    let key = hasher.finish();
    let mut tried = Vec::new();
    loop {
        let Some(server) = lock(shared).pick(key, &tried) else { return Ok(refusal) };
        let outcome = forward(shared, server, request.uri().path()).await;
        let mut state = lock(shared);
        state.servers[server].in_flight -= 1;
        match outcome {
            Some(response) => {
                if response.status().is_server_error() && state.defect == Defect::RefusesAfterFailures {
                    state.refusals = 20;
                }
                return Ok(response);
            }
            None => {
                state.servers[server].up = false;
                state.servers[server].idle.clear();
                tried.push(server);
                if state.defect == Defect::NeverTriesAgain {
                    return Ok(refusal);
                }
            }
        }
    }
}

/// The answer of this server; nothing if there was none.
async fn forward(shared: &Shared, server: usize, path: &str) -> Option<Response<Full<Bytes>>> {
    let mut connection = connection(shared, server).await?;
    let request =
        Request::builder().uri(path).header("host", "origin").body(Full::default()).expect("a request");
    let (head, body) = connection.send_request(request).await.ok()?.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = head.status;
    if let Some(name) = head.headers.get("x-origin") {
        response.headers_mut().insert("x-origin", name.clone());
    }
    lock(shared).servers[server].idle.push(connection);
    Some(response)
}

async fn connection(shared: &Shared, server: usize) -> Option<SendRequest<Full<Bytes>>> {
    loop {
        let idle = lock(shared).servers[server].idle.pop();
        let Some(mut idle) = idle else { break };
        if idle.ready().await.is_ok() {
            return Some(idle);
        }
    }
    let address = lock(shared).servers[server].address.clone();
    let stream = TcpStream::connect(address).await.ok()?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Some(sender)
}

impl State {
    fn is_back(&mut self, server: usize) {
        if self.defect != Defect::NeverRevives {
            self.servers[server].up = true;
            self.revivals += 1;
        }
    }

    /// Whether the next request is refused without any server having been asked.
    fn refuses(&mut self) -> bool {
        self.requests += 1;
        let up = self.servers.iter().filter(|server| server.up).count();
        match self.defect {
            Defect::Drops => self.requests.is_multiple_of(10),
            // Those that wait for it to be there are served.
            Defect::AnswersNobody => self.requests > 40,
            Defect::RefusesWhileOneIsDown => up < self.servers.len(),
            Defect::RefusesWithOneLeft => up == 1,
            Defect::RefusesWhileOneIsBusy => self.servers.iter().any(|server| server.in_flight > 0),
            Defect::RefusesAfterFailures if self.refusals > 0 => {
                self.refusals -= 1;
                true
            }
            _ => false,
        }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn below(&mut self, limit: usize) -> usize {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    /// Whoever is up and was not tried; where nobody is up, anybody who was not tried.
    fn pick(&mut self, key: u64, tried: &[usize]) -> Option<usize> {
        let untried: Vec<usize> = (0..self.servers.len()).filter(|i| !tried.contains(i)).collect();
        let up: Vec<usize> = untried.iter().copied().filter(|&i| self.servers[i].up).collect();
        let candidates = if up.is_empty() { untried } else { up };
        if candidates.is_empty() {
            return None;
        }
        let chosen = match self.rule {
            Rule::Turns => self.turn(&candidates),
            Rule::BestOfTwo => self.best_of_two(&candidates),
            Rule::Least => self.least(&candidates),
            Rule::Keys => self.by_key(&candidates, key),
            Rule::First => candidates[0],
        };
        self.servers[chosen].in_flight += 1;
        Some(chosen)
    }

    fn turn(&mut self, candidates: &[usize]) -> usize {
        self.turn += 1;
        match self.defect {
            Defect::IgnoresWeights => return candidates[self.turn % candidates.len()],
            Defect::Bursts => return candidates[self.turn / 10 % candidates.len()],
            Defect::NeighbourInherits => {
                let all = self.servers.len();
                let next = (0..all).map(|step| (self.turn + step) % all).find(|i| candidates.contains(i));
                return next.expect("one of all is a candidate");
            }
            _ => {}
        }
        let total: i64 = candidates.iter().map(|&i| self.servers[i].weight).sum();
        candidates.iter().for_each(|&i| self.servers[i].lead += self.servers[i].weight);
        let best = *candidates.iter().max_by_key(|&&i| self.servers[i].lead).expect("there are candidates");
        self.servers[best].lead -= total;
        best
    }

    fn best_of_two(&mut self, candidates: &[usize]) -> usize {
        let first = candidates[self.below(candidates.len())];
        let is_blind = self.defect == Defect::BlindToLoad
            || self.defect == Defect::BlindWithTwo && candidates.len() == 2;
        let others: Vec<usize> = candidates.iter().copied().filter(|&i| i != first).collect();
        if others.is_empty() || is_blind {
            return first;
        }
        if self.defect == Defect::SecondAlone && candidates.len() == 2 && self.below(2) == 0 {
            return candidates[1];
        }
        let second = others[self.below(others.len())];
        if self.servers[second].in_flight < self.servers[first].in_flight { second } else { first }
    }

    fn least(&mut self, candidates: &[usize]) -> usize {
        let least =
            candidates.iter().map(|&i| self.servers[i].in_flight).min().expect("there are candidates");
        let equals: Vec<usize> =
            candidates.iter().copied().filter(|&i| self.servers[i].in_flight == least).collect();
        equals[self.below(equals.len())]
    }

    fn by_key(&self, candidates: &[usize], key: u64) -> usize {
        let salt = if self.defect == Defect::DealsAnew { self.revivals } else { 0 };
        if self.defect == Defect::Modulo {
            return candidates[(key % candidates.len() as u64) as usize];
        }
        let score = |&&server: &&usize| {
            let mut hasher = DefaultHasher::new();
            (server, key, salt).hash(&mut hasher);
            hasher.finish()
        };
        *candidates.iter().max_by_key(score).expect("there are candidates")
    }
}
