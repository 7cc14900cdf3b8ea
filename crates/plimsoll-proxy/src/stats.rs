//! What the data plane counts: a block of plain counters for each worker and each listener, route, backend and server.
//!
//! A worker writes only its own blocks, with a load and a store and no locked instruction, when an exchange ends; who reads adds the
//! workers up. What keeps its name keeps its counters from one snapshot to the next; what is gone takes them with it. Nothing
//! here may allocate or wait once a block has been touched, its first error apart.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use plimsoll_config::model::Config;
use plimsoll_http::Reason;
use plimsoll_traffic::Backend;
use tokio::runtime::RuntimeMetrics;

use crate::error::OUR_REASONS;
use crate::histogram::{Durations, Histogram};
use crate::log_writer;

/// A number with one writer. `Relaxed`: each is a fact by itself, and nothing else is read because of it.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Not `fetch_add`: with one writer nothing can be lost in between, and a locked instruction costs more than all the rest.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Classes of the status that clients were answered with: none at all, 1xx to 5xx.
pub const CODES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// What is counted about an exchange once it has ended.
pub(crate) struct Ended {
    pub(crate) status: u16,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) retries: u32,
    pub(crate) took: Duration,
    /// Why it did not end well; empty if it did.
    pub(crate) reason: &'static str,
}

/// One worker's exchanges of one listener, route, backend or server. On cache lines that no other worker writes to.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Traffic {
    begun: Counter,
    codes: [Counter; CODES.len()],
    received: Counter,
    sent: Counter,
    retries: Counter,
    took: Histogram,
    /// By reason; most things never fail.
    errors: OnceLock<Box<[Counter]>>,
}

impl Traffic {
    pub(crate) fn begin(&self) {
        self.begun.add(1);
    }

    pub(crate) fn count(&self, ended: &Ended) {
        let class = usize::from(ended.status / 100);
        self.codes[if class < CODES.len() { class } else { 0 }].add(1);
        self.received.add(ended.received);
        self.sent.add(ended.sent);
        self.took.observe(ended.took);
        if ended.retries > 0 {
            self.retries.add(u64::from(ended.retries));
        }
        if !ended.reason.is_empty() {
            self.count_error(ended.reason);
        }
    }

    /// Finds the reason by its name: errors are rare, and a message costs far more to refuse than this search.
    fn count_error(&self, reason: &'static str) {
        let number = reasons().position(|name| name == reason);
        debug_assert!(number.is_some(), "{reason} is not listed");
        let errors = self.errors.get_or_init(|| reasons().map(|_| Counter::default()).collect());
        errors[number.unwrap_or(errors.len() - 1)].add(1);
    }
}

/// Every reason for an error, and a last one for what has none of these names.
fn reasons() -> impl Iterator<Item = &'static str> {
    OUR_REASONS.into_iter().chain(Reason::ALL.iter().map(|reason| reason.name())).chain(["other"])
}

/// One worker's side of a listener.
#[derive(Debug, Default)]
pub(crate) struct Door {
    traffic: Traffic,
    accepted: Counter,
    closed: Counter,
    refused: Counter,
    pauses: Counter,
}

impl Door {
    /// A client was turned away for having too many connections.
    pub(crate) fn refuse(&self) {
        self.refused.add(1);
    }

    /// Accepting rests because nothing more fits.
    pub(crate) fn pause(&self) {
        self.pauses.add(1);
    }
}

/// One worker's side of a server.
#[derive(Debug, Default)]
pub(crate) struct Target {
    pub(crate) traffic: Traffic,
    pub(crate) first_byte: Histogram,
    connections: Counter,
    /// What the server did wrong, retried attempts included: the errors of `traffic` are those that a client got to feel.
    faults: Traffic,
}

impl Target {
    /// A connection to it was made.
    pub(crate) fn connected(&self) {
        self.connections.add(1);
    }

    /// An attempt failed by its doing.
    pub(crate) fn failed(&self, reason: &'static str) {
        self.faults.count_error(reason);
    }
}

/// The blocks of one thing, one for each worker, each made when its worker first needs it.
#[derive(Debug)]
pub(crate) struct Series<B> {
    blocks: Box<[OnceLock<Box<B>>]>,
}

impl<B: Default> Series<B> {
    fn new(workers: usize) -> Arc<Series<B>> {
        Arc::new(Series { blocks: (0..workers).map(|_| OnceLock::new()).collect() })
    }

    /// A worker's own block; only that worker may write to it.
    pub(crate) fn of(&self, worker: usize) -> &B {
        self.blocks[worker].get_or_init(Box::default)
    }

    fn all(&self) -> impl Iterator<Item = &B> {
        self.blocks.iter().filter_map(|block| block.get().map(|block| &**block))
    }
}

/// A client's connection as its listener counts it; dropping it counts it off.
pub(crate) struct Open {
    door: Arc<Series<Door>>,
    worker: usize,
    is_turned_away: bool,
}

impl Open {
    /// On the worker that is going to serve it.
    pub(crate) fn new(door: &Arc<Series<Door>>, worker: usize) -> Rc<Open> {
        door.of(worker).accepted.add(1);
        Rc::new(Open { door: Arc::clone(door), worker, is_turned_away: false })
    }

    /// One that is refused as soon as it is accepted.
    pub(crate) fn turned_away(door: &Arc<Series<Door>>, worker: usize) -> Rc<Open> {
        door.of(worker).refuse();
        Rc::new(Open { door: Arc::clone(door), worker, is_turned_away: true })
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        &self.door.of(self.worker).traffic
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.is_turned_away {
            self.door.of(self.worker).closed.add(1);
        }
    }
}

/// The counters of everything that a snapshot names, and of the process.
pub struct Stats {
    process: Arc<Process>,
    /// In the order of the snapshot's routes.
    routes: Vec<Arc<Series<Traffic>>>,
    route_names: Vec<Box<str>>,
    /// In the order of the snapshot's backends.
    backends: Vec<Upstream>,
}

struct Upstream {
    name: Box<str>,
    whole: Arc<Series<Traffic>>,
    /// In the order of the backend's servers.
    servers: Vec<(Box<str>, Arc<Series<Target>>)>,
}

/// What outlives every snapshot.
struct Process {
    /// By worker, once it runs.
    workers: Box<[OnceLock<RuntimeMetrics>]>,
    listeners: Mutex<Vec<(Box<str>, Weak<Series<Door>>)>>,
}

/// How many workers a configuration asks for: one for each usable core, unless it says otherwise.
fn worker_count(config: &Config) -> usize {
    config.workers.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
}

impl Stats {
    /// For `routes` and `backends`; what `previous` has by the same name goes on.
    pub(crate) fn new<'r>(
        config: &Config,
        routes: impl Iterator<Item = &'r str>,
        backends: &[Arc<Backend>],
        previous: Option<&Stats>,
    ) -> Stats {
        let process = previous.map_or_else(
            || Arc::new(Process::new(worker_count(config))),
            |previous| Arc::clone(&previous.process),
        );
        let workers = process.workers.len();
        let route_names: Vec<Box<str>> = routes.map(Box::from).collect();
        let mut known: HashMap<&str, Arc<Series<Traffic>>> = previous.map(Stats::by_route).unwrap_or_default();
        // Two routes of one name are counted as one.
        let series = |name| Arc::clone(known.entry(name).or_insert_with(|| Series::new(workers)));
        let routes = route_names.iter().map(|name| &**name).map(series).collect();
        let known: HashMap<&str, &Upstream> =
            previous.iter().flat_map(|p| &p.backends).map(|upstream| (&*upstream.name, upstream)).collect();
        let backends = backends.iter().map(|b| Upstream::new(b, known.get(&*b.name).copied(), workers)).collect();
        Stats { process, routes, route_names, backends }
    }

    fn by_route(&self) -> HashMap<&str, Arc<Series<Traffic>>> {
        self.route_names.iter().map(|name| &**name).zip(self.routes.iter().map(Arc::clone)).collect()
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.process.workers.len()
    }

    pub(crate) fn route(&self, number: usize, worker: usize) -> &Traffic {
        self.routes[number].of(worker)
    }

    pub(crate) fn backend(&self, number: usize, worker: usize) -> &Traffic {
        self.backends[number].whole.of(worker)
    }

    pub(crate) fn server(&self, backend: usize, server: u32, worker: usize) -> &Target {
        self.backends[backend].servers[server as usize].1.of(worker)
    }

    /// The counters of the listener at this address; they live as long as it or one of its connections.
    pub(crate) fn listener(&self, address: &str) -> Arc<Series<Door>> {
        let mut listeners = self.process.listeners();
        listeners.retain(|(_, series)| series.strong_count() > 0);
        let known = listeners.iter().find(|(name, _)| **name == *address).and_then(|(_, series)| series.upgrade());
        known.unwrap_or_else(|| {
            let series = Series::new(self.workers());
            listeners.push((address.into(), Arc::downgrade(&series)));
            series
        })
    }

    /// A worker's runtime has been made; it knows how busy it is.
    pub(crate) fn runs(&self, worker: usize, runtime: RuntimeMetrics) {
        // A worker begins once.
        let _ = self.process.workers[worker].set(runtime);
    }

    /// Access log lines dropped since the process started.
    #[must_use]
    pub fn log_lines_dropped(&self) -> u64 {
        log_writer::dropped_by_all()
    }
}

impl Upstream {
    fn new(backend: &Backend, previous: Option<&Upstream>, workers: usize) -> Upstream {
        let known: HashMap<&str, &Arc<Series<Target>>> =
            previous.iter().flat_map(|p| &p.servers).map(|(name, series)| (&**name, series)).collect();
        let server = |name: &Box<str>| {
            let series = known.get(&**name).map_or_else(|| Series::new(workers), |&series| Arc::clone(series));
            (name.clone(), series)
        };
        Upstream {
            name: backend.name.clone(),
            whole: previous.map_or_else(|| Series::new(workers), |p| Arc::clone(&p.whole)),
            servers: backend.servers.iter().map(|s| server(&s.name)).collect(),
        }
    }
}

impl Process {
    fn new(workers: usize) -> Process {
        Process { workers: (0..workers).map(|_| OnceLock::new()).collect(), listeners: Mutex::default() }
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, Vec<(Box<str>, Weak<Series<Door>>)>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
