//! A whole proxy: binds its listeners, starts its workers, drains and stops them.
//!
//! Everything that can fail does so in [`Proxy::start`], before a single client is accepted.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use plimsoll_config::model::{LogFormat, LogOutput};
use plimsoll_traffic::pressure::{Level, Reading, too_many};
use plimsoll_traffic::time::START;
use plimsoll_traffic::{Gate, Micros, Millis, Turn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;

use crate::listener::{self, Bound, DoorLimits};
use crate::log_writer::{LogQueue, LogWriter};
use crate::notice::{self, notice};
use crate::share::{Handed, Shares};
use crate::shortage::shortage;
use crate::snapshot::Snapshot;
use crate::worker::{self, Order, Publication, Start};

/// Descriptors that are not for connections: log, admin, standard streams; and those of each worker besides its listeners.
const RESERVED_DESCRIPTORS: u64 = 48;
const WORKER_DESCRIPTORS: u64 = 4;
/// How long workers may take to serve a new configuration before nobody waits for them.
const ADOPT: Duration = Duration::from_secs(1);
/// How long workers may take to close the socket of a listener that is gone.
const LET_GO: Duration = Duration::from_secs(1);
/// How long the last log lines may take.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Once told to cut, workers end at once; longer than this means that one hangs.
const CUT: Duration = Duration::from_secs(5);

/// A running proxy.
pub struct Proxy {
    snapshot: Arc<Snapshot>,
    /// Those before it that a request may still go by. Who lets go of one last frees it, which takes a millisecond for 10,000 servers: that is to be
    /// this thread, and no worker.
    past: Vec<Arc<Snapshot>>,
    bound: Vec<Arc<Bound>>,
    /// Listeners so far, also those that are gone.
    numbers: usize,
    /// Addresses that a reload gave up, which workers may be about to close.
    left: Vec<SocketAddr>,
    /// Connections that the descriptors allow.
    everywhere: Arc<Gate>,
    /// How many there are.
    connections: u32,
    shares: Arc<Shares>,
    publications: watch::Sender<Arc<Publication>>,
    orders: watch::Sender<Order>,
    workers: Vec<JoinHandle<io::Result<bool>>>,
    worker_count: usize,
    /// Where the time of this proxy begins.
    epoch: Instant,
    log: Option<(LogWriter, LogQueue)>,
}

/// Why a proxy cannot start.
#[derive(Debug)]
pub enum StartError {
    /// A listener cannot be bound.
    Bind(SocketAddr, io::Error),
    /// The access log's file cannot be opened.
    Log(PathBuf, io::Error),
    /// Configured connections need more descriptors than there are: needed, available.
    Descriptors(u64, u64),
    /// A worker thread cannot be made.
    Worker(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind(address, e) => {
                let hint = match e.kind() {
                    io::ErrorKind::AddrInUse => {
                        "; another program listens there: stop it, or choose another port"
                    }
                    io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
                    io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
                    _ => "",
                };
                write!(f, "cannot listen on {address}: {e}{hint}")
            }
            StartError::Log(path, e) => write!(f, "cannot open the access log {}: {e}", path.display()),
            StartError::Descriptors(needed, limit) => write!(
                f,
                "max_connections needs {needed} file descriptors, but the limit is {limit}; raise it (ulimit -n, LimitNOFILE=) or lower max_connections"
            ),
            StartError::Worker(e) => write!(f, "cannot start a worker: {e}"),
        }
    }
}

impl std::error::Error for StartError {}

impl Proxy {
    /// Binds every listener of the snapshot and starts serving, with one worker per usable core unless configured. Listening sockets
    /// that were `inherited` are used as they are, for the listeners whose address they have; the others among them are closed.
    ///
    /// # Errors
    /// Anything that makes the configuration unservable on this machine; then nothing is left running.
    pub fn start(snapshot: &Arc<Snapshot>, inherited: Vec<TcpListener>) -> Result<Proxy, StartError> {
        let worker_count = snapshot.stats.workers();
        let connections = budget(snapshot, worker_count)?;
        let everywhere = Arc::new(Gate::new(connections));
        let (shares, inboxes) = Shares::new(worker_count);
        let (publications, _) = watch::channel(Arc::new(Publication {
            adopted: AtomicUsize::new(0),
            snapshot: Arc::clone(snapshot),
            bound: Vec::new(),
            log: None,
        }));
        let mut proxy = Proxy {
            snapshot: Arc::clone(snapshot),
            past: Vec::new(),
            bound: Vec::new(),
            numbers: 0,
            left: Vec::new(),
            everywhere,
            connections,
            shares,
            publications,
            orders: watch::channel(Order::Serve).0,
            workers: Vec::new(),
            worker_count,
            epoch: epoch(),
            log: None,
        };
        proxy.log = open_log(snapshot)?;
        proxy.bound = proxy.bind(snapshot, inherited)?;
        proxy.announce();
        for (number, inbox) in inboxes.into_iter().enumerate() {
            if let Err(e) = proxy.start_worker(number, inbox) {
                proxy.cut();
                return Err(StartError::Worker(e));
            }
        }
        proxy.wait_for_workers(); // "ready" means that every worker has the descriptors it needs
        Ok(proxy)
    }

    fn start_worker(&mut self, number: usize, inbox: Receiver<Handed>) -> io::Result<()> {
        let start = Start {
            shares: Arc::clone(&self.shares),
            inbox,
            number,
            workers: self.worker_count,
            publications: self.publications.subscribe(),
            orders: self.orders.subscribe(),
            epoch: self.epoch,
            seed: seed(number),
        };
        let thread = std::thread::Builder::new().name(format!("worker-{number}"));
        self.workers.push(thread.spawn(move || worker::run(start))?);
        Ok(())
    }

    /// Serves `snapshot` from now on, without losing anything: listeners that stay are not touched, new ones are bound first,
    /// those that are gone finish what they have.
    ///
    /// # Errors
    /// It cannot be served on this machine; then everything is as it was.
    pub fn publish(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), StartError> {
        let connections = budget(snapshot, self.worker_count)?;
        let bound = self.bind(snapshot, Vec::new())?;
        if snapshot.config.log != self.snapshot.config.log {
            self.log = open_log(snapshot)?;
        }
        self.connections = connections;
        self.admit(self.snapshot.stats.pressure().level());
        self.past.push(std::mem::replace(&mut self.snapshot, Arc::clone(snapshot)));
        self.left.extend(self.bound.iter().map(|bound| bound.configured));
        self.left.retain(|address| bound.iter().all(|bound| bound.configured != *address));
        self.left.sort_unstable();
        self.left.dedup();
        self.bound = bound;
        self.announce();
        self.wait_for_workers();
        self.look_after_servers();
        self.free_past();
        Ok(())
    }

    /// Frees what nobody goes by any more.
    fn free_past(&mut self) {
        self.past.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    /// Waits until every worker serves what was announced, so that who is told of it can rely on it.
    fn wait_for_workers(&self) {
        let (began, publication) = (Instant::now(), Arc::clone(&self.publications.borrow()));
        // Relaxed: nothing is read because of it. A worker that hangs must not keep the others' operator waiting.
        while publication.adopted.load(Ordering::Relaxed) < self.worker_count && began.elapsed() < ADOPT {
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// The listeners of `snapshot`: those there are, those whose sockets were `inherited`, and new ones.
    fn bind(
        &mut self,
        snapshot: &Snapshot,
        mut inherited: Vec<TcpListener>,
    ) -> Result<Vec<Arc<Bound>>, StartError> {
        let mut there = self.bound.clone();
        let mut bound = Vec::new();
        let listeners = &snapshot.config.listeners;
        let mut order: Vec<_> = listeners.iter().collect();
        // What an old process serves comes last: further sockets for it get clients at once, who are lost if another cannot be bound.
        order.sort_by_key(|listener| inherited.iter().any(|socket| listener::is_for(socket, listener.bind)));
        for listener in order {
            if let Some(at) = there.iter().position(|b| b.configured == listener.bind) {
                bound.push(there.remove(at));
                continue;
            }
            let failed = |e| StartError::Bind(listener.bind, e);
            let ours = inherited.extract_if(.., |socket| listener::is_for(socket, listener.bind)).collect();
            let (local, sockets) = self.bind_one(listener.bind, ours).map_err(failed)?;
            let limits =
                Arc::new(DoorLimits::new(&self.everywhere, snapshot.stats.listener(&local.to_string())));
            bound.push(Arc::new(Bound {
                number: self.numbers,
                configured: listener.bind,
                local,
                sockets,
                limits,
            }));
            self.numbers += 1;
        }
        bound.sort_by_key(|bound| listeners.iter().position(|listener| listener.bind == bound.configured));
        Ok(bound)
    }

    /// Binds one listener. An address that was given up a moment ago is free once every worker has closed its socket.
    fn bind_one(
        &self,
        address: SocketAddr,
        mut inherited: Vec<TcpListener>,
    ) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
        let until = Instant::now() + LET_GO;
        loop {
            let bound = listener::bind(address, std::mem::take(&mut inherited), self.worker_count);
            let in_use = bound.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::AddrInUse);
            if !(in_use && self.left.contains(&address) && Instant::now() < until) {
                return bound;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Tells all workers what to serve.
    fn announce(&self) {
        for (bound, listener) in self.bound.iter().zip(&self.snapshot.config.listeners) {
            bound.limits.adopt(listener);
        }
        self.publications.send_replace(Arc::new(Publication {
            adopted: AtomicUsize::new(0),
            snapshot: Arc::clone(&self.snapshot),
            bound: self.bound.clone(),
            log: self.log.as_ref().map(|(_, queue)| (self.snapshot.config.log.format, queue.clone())),
        }));
    }

    /// The addresses that were bound, in the order of the configuration.
    #[must_use]
    pub fn listeners(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(|bound| bound.local).collect()
    }

    /// Worker threads.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.worker_count
    }

    /// What is being served.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Stops accepting, closes idle connections, and lets each request finish with `Connection: close`.
    pub fn drain(&mut self) {
        self.end(Order::Drain);
    }

    /// Stops accepting, because another process has the listeners now, and lets every connection ask once more before it closes.
    pub fn retire(&mut self) {
        self.end(Order::Retire);
    }

    fn end(&mut self, how: Order) {
        self.orders.send_replace(how);
        // The workers have sockets of their own; ours must not keep the addresses open.
        self.bound.clear();
        let snapshot = Arc::clone(&self.snapshot);
        let adopted = AtomicUsize::new(0);
        self.publications.send_replace(Arc::new(Publication {
            adopted,
            snapshot,
            bound: Vec::new(),
            log: None,
        }));
    }

    /// The listening sockets, by the configured address: what an upgrade hands over.
    #[must_use]
    pub fn sockets(&self) -> Vec<(SocketAddr, &[TcpListener])> {
        self.bound.iter().map(|bound| (bound.configured, &*bound.sockets)).collect()
    }

    /// Ends every connection at once.
    pub fn cut(&self) {
        self.orders.send_replace(Order::Cut);
    }

    /// True once every worker has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.workers.iter().all(JoinHandle::is_finished)
    }

    /// Opens the access log's file anew.
    pub fn reopen_log(&self) {
        if let Some((log, _)) = &self.log {
            log.reopen();
        }
    }

    /// Tells the operator what has come up since the last call. To be called every half second or so, by a thread that may wait. `memory` is the part in
    /// use of what the process may use, if that is known.
    pub fn report(&mut self, memory: Option<f64>) {
        self.look_after_servers();
        self.free_past();
        self.look_at_itself(memory);
        notice::tell();
        if let Some((log, _)) = &mut self.log {
            log.report();
        }
    }

    /// Compares what this process uses with what it may, and tells the workers what follows.
    fn look_at_itself(&mut self, memory: Option<f64>) {
        let held = self.everywhere.held();
        self.shares.too_many(too_many(held, self.connections));
        let connections = f64::from(held) / f64::from(self.connections.max(1));
        let runs = |worker: usize| self.workers.get(worker).is_some_and(|thread| !thread.is_finished());
        let reading = Reading { memory, connections, lag: self.shares.take_lag(runs) };
        if let Some((level, short)) = self.snapshot.stats.pressure().judge(&reading, now()) {
            notice(&shortage(level, short));
            self.admit(level);
        }
    }

    /// Lets as many clients in as the level allows.
    fn admit(&self, level: Level) {
        self.everywhere.set_max(if level == Level::All { 0 } else { self.connections });
    }

    /// Ends ejections, judges what has been counted, and tells what became of servers.
    fn look_after_servers(&self) {
        for backend in &self.snapshot.backends {
            backend.tick(now());
            for (turn, server, reason) in backend.turns() {
                notice(&told(turn, &backend.name, &server, &reason));
            }
        }
    }

    /// Access log lines dropped so far.
    #[must_use]
    pub fn log_lines_dropped(&self) -> u64 {
        self.log.as_ref().map_or(0, |(log, _)| log.dropped())
    }

    /// Waits for the workers, which have been told to drain or to cut, and for the last log lines. True if requests were cut.
    pub fn join(mut self) -> bool {
        let mut cut = false;
        let began = Instant::now();
        for worker in std::mem::take(&mut self.workers) {
            let hangs = || *self.orders.borrow() == Order::Cut && began.elapsed() > CUT;
            while !(worker.is_finished() || hangs()) {
                std::thread::sleep(Duration::from_millis(2));
            }
            if !worker.is_finished() {
                notice("a worker does not end; leaving it behind");
                return true;
            }
            match worker.join() {
                Ok(Ok(worker_cut)) => cut |= worker_cut,
                Ok(Err(e)) => notice(&format!("a worker failed: {e}")),
                Err(_) => notice("a worker panicked"),
            }
        }
        self.report(None);
        drop(self.publications);
        if let Some((log, queue)) = self.log {
            drop(queue);
            log.finish(LAST_LINES);
        }
        cut
    }
}

/// Raises the descriptor limit as far as allowed, and says how many connections fit: each may need one towards a server.
fn budget(snapshot: &Snapshot, workers: usize) -> Result<u32, StartError> {
    let limit = raise_descriptor_limit();
    let reserved =
        RESERVED_DESCRIPTORS + workers as u64 * (WORKER_DESCRIPTORS + snapshot.config.listeners.len() as u64);
    let fit = limit.saturating_sub(reserved) / 2;
    let configured: u64 =
        snapshot.config.listeners.iter().filter_map(|l| l.max_connections).map(u64::from).sum();
    if configured > fit {
        return Err(StartError::Descriptors(configured * 2 + reserved, limit));
    }
    Ok(u32::try_from(fit.max(1)).unwrap_or(u32::MAX))
}

fn raise_descriptor_limit() -> u64 {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limits.maximum, maximum: limits.maximum };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() { limits.maximum } else { limits.current };
    now.unwrap_or(u64::MAX)
}

fn open_log(snapshot: &Snapshot) -> Result<Option<(LogWriter, LogQueue)>, StartError> {
    let log = &snapshot.config.log;
    if log.format == LogFormat::Off {
        return Ok(None);
    }
    LogWriter::start(&log.output).map(Some).map_err(|e| match &log.output {
        LogOutput::File(path) => StartError::Log(path.clone(), e),
        LogOutput::Stdout => StartError::Worker(e),
    })
}

/// Different for every worker and every start.
fn seed(worker: usize) -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    (time ^ u64::from(std::process::id()) << 32)
        .wrapping_add(worker as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
/// What the operator is told of a server.
fn told(turn: Turn, backend: &str, name: &str, reason: &str) -> String {
    let what = match turn {
        Turn::Up => "is up",
        Turn::Down => "is down",
        Turn::Ejected => "is ejected",
        Turn::Admitted => "is back",
    };
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("server {backend}/{name} {what}{reason}")
}

/// When this process's clocks read zero; see [`START`].
fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(|| {
        let now = Instant::now();
        now.checked_sub(Duration::from_millis(START.0)).unwrap_or(now)
    })
}

/// The time of this process, as balancers and health go by.
#[must_use]
pub fn now() -> Millis {
    Millis(epoch().elapsed().as_millis() as u64)
}

/// The same in microseconds, as latencies and rate limits go by.
#[must_use]
pub fn now_micros() -> Micros {
    Micros(epoch().elapsed().as_micros() as u64)
}
