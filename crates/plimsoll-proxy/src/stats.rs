//! What the data plane counts: a block of plain counters for each worker and each listener, route, backend and server.
//!
//! A worker writes only its own blocks, with a load and a store and no locked instruction, when an exchange ends; who reads adds the
//! workers up. What keeps its name keeps its counters from one snapshot to the next; what is gone takes them with it. Nothing
//! here may allocate or wait once a block has been touched, its first error apart.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use plimsoll_config::model::Config;
use plimsoll_http::Reason;
use plimsoll_traffic::pressure::Pressure;
use plimsoll_traffic::{Backend, Denied, NoHedge};
use tokio::runtime::RuntimeMetrics;

use crate::error::OUR_REASONS;
use crate::histogram::{Histogram, Took};

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

/// Where a status stands in [`CODES`].
pub(crate) fn class(status: u16) -> usize {
    Some(usize::from(status / 100)).filter(|class| *class < CODES.len()).unwrap_or(0)
}

/// What is counted about an exchange once it has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// Where its status stands in [`CODES`].
    pub(crate) class: usize,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) retries: u32,
    pub(crate) took: Took,
    /// Why it did not end well; empty if it did.
    pub(crate) reason: &'static str,
}

/// One worker's exchanges of one listener, route, backend or server. On cache lines that no other worker writes to.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Traffic {
    pub(crate) begun: Counter,
    pub(crate) codes: [Counter; CODES.len()],
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    pub(crate) retries: Counter,
    pub(crate) took: Histogram,
    pub(crate) errors: Errors,
}

impl Traffic {
    pub(crate) fn begin(&self) {
        self.begun.add(1);
    }

    pub(crate) fn count(&self, ended: &Ended) {
        self.codes[ended.class].add(1);
        self.received.add(ended.received);
        self.sent.add(ended.sent);
        self.took.observe(ended.took);
        if ended.retries > 0 {
            self.retries.add(u64::from(ended.retries));
        }
        if !ended.reason.is_empty() {
            self.errors.count(ended.reason);
        }
    }
}

/// Errors by reason, with room made at the first: most things never fail.
#[derive(Debug, Default)]
pub(crate) struct Errors(OnceLock<Box<[Counter]>>);

impl Errors {
    /// Finds the reason by its name: errors are rare, and answering one costs far more than this search.
    fn count(&self, reason: &'static str) {
        let number = reasons().position(|name| name == reason);
        debug_assert!(number.is_some(), "{reason} is not listed");
        let errors = self.0.get_or_init(|| reasons().map(|_| Counter::default()).collect());
        errors[number.unwrap_or(errors.len() - 1)].add(1);
    }

    /// In the order of [`reasons`]; nothing if there was never one.
    pub(crate) fn all(&self) -> impl Iterator<Item = u64> {
        self.0.get().into_iter().flatten().map(Counter::read)
    }
}

/// Every reason for an error, and a last one for what has none of these names.
pub(crate) fn reasons() -> impl Iterator<Item = &'static str> {
    OUR_REASONS.into_iter().chain(Reason::ALL.iter().map(|reason| reason.name())).chain(["other"])
}

/// One worker's side of a listener.
#[derive(Debug, Default)]
pub(crate) struct Entrance {
    pub(crate) traffic: Traffic,
    pub(crate) accepted: Counter,
    pub(crate) closed: Counter,
    pub(crate) refused: Counter,
    pub(crate) pauses: Counter,
}

impl Entrance {
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
    pub(crate) connections: Counter,
    pub(crate) failures: Errors,
    pub(crate) retried: Counter,
}

impl Target {
    /// It answered, or was the last that was tried.
    pub(crate) fn count(&self, ended: &Ended, first_byte: Option<Took>) {
        self.traffic.count(&Ended { reason: "", ..*ended });
        if let Some(first_byte) = first_byte {
            self.first_byte.observe(first_byte);
        }
    }

    /// A connection to it was made.
    pub(crate) fn connected(&self) {
        self.connections.add(1);
    }

    /// Its answer was not passed on, since another server might have a better one.
    pub(crate) fn answer_retried(&self) {
        self.retried.add(1);
    }

    /// An attempt failed by its doing, whether or not another one followed.
    pub(crate) fn failed(&self, reason: &'static str) {
        self.failures.count(reason);
    }
}

/// One worker's further attempts for one backend.
#[derive(Debug, Default)]
pub(crate) struct Further {
    /// Retries that would have been safe: beyond the budget, and too late.
    pub(crate) denied: [Counter; 2],
    /// Second servers asked at once: in vain, and with the answer that was taken.
    pub(crate) hedges: [Counter; 2],
    /// In the order of `NoHedge::ALL`.
    pub(crate) hedges_denied: [Counter; NoHedge::ALL.len()],
}

impl Further {
    pub(crate) fn deny(&self, denied: Denied) {
        self.denied[denied as usize].add(1);
    }

    pub(crate) fn hedge(&self, wins: bool) {
        self.hedges[usize::from(wins)].add(1);
    }

    pub(crate) fn deny_hedge(&self, why: NoHedge) {
        self.hedges_denied[why as usize].add(1);
    }
}

/// How long one worker's requests have waited for a server of a backend.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Waits(pub(crate) Histogram);

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

    /// A worker's block, if it has ever needed one.
    pub(crate) fn touched(&self, worker: usize) -> Option<&B> {
        self.blocks[worker].get().map(|block| &**block)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &B> {
        (0..self.blocks.len()).filter_map(|worker| self.touched(worker))
    }
}

/// A client's connection as its listener counts it; dropping it counts it off.
pub(crate) struct Open {
    entrance: Arc<Series<Entrance>>,
    worker: usize,
}

impl Open {
    /// On the worker that is going to serve it.
    pub(crate) fn new(entrance: &Arc<Series<Entrance>>, worker: usize) -> Rc<Open> {
        entrance.of(worker).accepted.add(1);
        Rc::new(Open { entrance: Arc::clone(entrance), worker })
    }

    /// It is turned away for being one too many of its client's.
    pub(crate) fn refuse(&self) {
        self.entrance.of(self.worker).refused.add(1);
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        &self.entrance.of(self.worker).traffic
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.entrance.of(self.worker).closed.add(1);
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
    further: Arc<Series<Further>>,
    waits: Arc<Series<Waits>>,
    /// In the order of the backend's servers.
    servers: Vec<(Box<str>, Arc<Series<Target>>)>,
}

/// What outlives every snapshot.
struct Process {
    /// By worker, once it runs.
    workers: Box<[OnceLock<RuntimeMetrics>]>,
    listeners: Mutex<Vec<Listening>>,
    pressure: Pressure,
}

/// A listener that may be gone.
struct Listening {
    address: Box<str>,
    series: Weak<Series<Entrance>>,
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
        let mut known: HashMap<&str, Arc<Series<Traffic>>> =
            previous.map(Stats::by_route).unwrap_or_default();
        // Two routes of one name are counted as one.
        let series = |name| Arc::clone(known.entry(name).or_insert_with(|| Series::new(workers)));
        let routes = route_names.iter().map(|name| &**name).map(series).collect();
        let known: HashMap<&str, &Upstream> =
            previous.iter().flat_map(|p| &p.backends).map(|upstream| (&*upstream.name, upstream)).collect();
        let backends =
            backends.iter().map(|b| Upstream::new(b, known.get(&*b.name).copied(), workers)).collect();
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

    pub(crate) fn backend_of(&self, number: usize, worker: usize) -> &Traffic {
        self.backends[number].whole.of(worker)
    }

    pub(crate) fn further_of(&self, number: usize, worker: usize) -> &Further {
        self.further_series(number).of(worker)
    }

    pub(crate) fn waits_of(&self, number: usize, worker: usize) -> &Histogram {
        &self.backends[number].waits.of(worker).0
    }

    pub(crate) fn server_of(&self, backend: usize, server: u32, worker: usize) -> &Target {
        self.server_series(backend, server as usize).of(worker)
    }

    /// The counters of the listener at this address; they live as long as it or one of its connections.
    pub(crate) fn listener(&self, address: &str) -> Arc<Series<Entrance>> {
        let mut listeners = self.process.listeners();
        listeners.retain(|listening| listening.series.strong_count() > 0);
        let known = listeners.iter().find(|listening| *listening.address == *address);
        known.and_then(|listening| listening.series.upgrade()).unwrap_or_else(|| {
            let series = Series::new(self.workers());
            listeners.push(Listening { address: address.into(), series: Arc::downgrade(&series) });
            series
        })
    }

    /// How short the process is of what it needs.
    pub fn pressure(&self) -> &Pressure {
        &self.process.pressure
    }

    /// A worker's runtime has been made; it knows how busy it is.
    pub(crate) fn runs(&self, worker: usize, runtime: RuntimeMetrics) {
        // A worker begins once.
        let _ = self.process.workers[worker].set(runtime);
    }

    pub(crate) fn busy(&self, worker: usize) -> Duration {
        self.process.workers[worker]
            .get()
            .map_or(Duration::ZERO, |runtime| runtime.worker_total_busy_duration(0))
    }

    pub(crate) fn named_routes(&self) -> impl Iterator<Item = (&str, &Series<Traffic>)> {
        self.route_names.iter().map(|name| &**name).zip(self.routes.iter().map(|series| &**series))
    }

    pub(crate) fn backend_series(&self, number: usize) -> &Series<Traffic> {
        &self.backends[number].whole
    }

    pub(crate) fn further_series(&self, number: usize) -> &Series<Further> {
        &self.backends[number].further
    }

    pub(crate) fn waits_series(&self, number: usize) -> &Series<Waits> {
        &self.backends[number].waits
    }

    pub(crate) fn server_series(&self, backend: usize, server: usize) -> &Series<Target> {
        &self.backends[backend].servers[server].1
    }

    /// Listeners that still are, with their addresses.
    pub(crate) fn entrances(&self) -> Vec<(Box<str>, Arc<Series<Entrance>>)> {
        let listeners = self.process.listeners();
        listeners.iter().filter_map(|known| Some((known.address.clone(), known.series.upgrade()?))).collect()
    }
}

impl Upstream {
    fn new(backend: &Backend, previous: Option<&Upstream>, workers: usize) -> Upstream {
        let known: HashMap<&str, &Arc<Series<Target>>> =
            previous.iter().flat_map(|p| &p.servers).map(|(name, series)| (&**name, series)).collect();
        let server = |name: &str| {
            let series = known.get(name).map_or_else(|| Series::new(workers), |&series| Arc::clone(series));
            (name.into(), series)
        };
        Upstream {
            name: backend.name.clone(),
            whole: previous.map_or_else(|| Series::new(workers), |p| Arc::clone(&p.whole)),
            further: previous.map_or_else(|| Series::new(workers), |p| Arc::clone(&p.further)),
            waits: previous.map_or_else(|| Series::new(workers), |p| Arc::clone(&p.waits)),
            servers: backend.servers.iter().map(|s| server(&s.name)).collect(),
        }
    }
}

impl Process {
    fn new(workers: usize) -> Process {
        Process {
            workers: (0..workers).map(|_| OnceLock::new()).collect(),
            listeners: Mutex::default(),
            pressure: Pressure::default(),
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Listening>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
