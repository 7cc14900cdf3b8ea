//! A whole proxy: binds its listeners, starts its workers, drains and stops them.
//!
//! Everything that can fail does so in [`Proxy::start`], before a single client is accepted.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use plimsoll_config::model::{LogFormat, LogOutput};
use plimsoll_traffic::{Gate, PerClient};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;

use crate::access_log::AccessLog;
use crate::listener::{self, DoorLimits, Doors};
use crate::log_writer::{LogQueue, LogWriter};
use crate::notice::{self, notice};
use crate::snapshot::Snapshot;
use crate::worker::{self, Order, Start};

/// Descriptors that are not for connections: log, admin, standard streams; and those of each worker besides its listeners.
const RESERVED_DESCRIPTORS: u64 = 48;
const WORKER_DESCRIPTORS: u64 = 4;
/// How long the last log lines may take.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Once told to cut, workers end at once; longer than this means that one hangs.
const CUT: Duration = Duration::from_secs(5);

/// A running proxy.
pub struct Proxy {
    listeners: Vec<SocketAddr>,
    orders: watch::Sender<Order>,
    workers: Vec<JoinHandle<io::Result<bool>>>,
    log: Option<LogWriter>,
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
    /// Binds every listener of the snapshot and starts serving, with one worker per usable core unless configured.
    ///
    /// # Errors
    /// Anything that makes the configuration unservable on this machine; then nothing is left running.
    pub fn start(snapshot: &Arc<Snapshot>) -> Result<Proxy, StartError> {
        let config = &snapshot.config;
        let workers =
            config.workers.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        let connections = budget(snapshot, workers)?;
        let everywhere = Arc::new(Gate::new(connections));
        let (mut listeners, mut doors) = (Vec::new(), Vec::<Vec<Doors>>::new());
        doors.resize_with(workers, Vec::new);
        for (index, listener) in config.listeners.iter().enumerate() {
            let (bound, sockets) =
                listener::bind(listener.bind, workers).map_err(|e| StartError::Bind(listener.bind, e))?;
            listeners.push(bound);
            let limits = Arc::new(DoorLimits {
                gates: std::iter::once(Arc::clone(&everywhere))
                    .chain(listener.max_connections.map(|n| Arc::new(Gate::new(n))))
                    .collect(),
                per_client: listener.max_connections_per_client.map(|n| Arc::new(PerClient::new(n))),
                waiting: AtomicBool::new(false),
                told: AtomicU64::new(0),
            });
            for (worker, socket) in doors.iter_mut().zip(sockets) {
                worker.push(Doors { index, socket, limits: Arc::clone(&limits) });
            }
        }
        let log = open_log(snapshot)?;
        let (orders, _) = watch::channel(Order::Serve);
        let mut proxy = Proxy { listeners, orders, workers: Vec::new(), log: None };
        let epoch = Instant::now();
        let queue = log.map(|(writer, queue)| {
            proxy.log = Some(writer);
            queue
        });
        for (number, doors) in doors.into_iter().enumerate() {
            let start = Start {
                snapshot: Arc::clone(snapshot),
                doors,
                log: queue.as_ref().map(|q| AccessLog::new(config.log.format, LogQueue::clone(q))),
                orders: proxy.orders.subscribe(),
                epoch,
                seed: seed(number),
            };
            let spawned = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || worker::run(start));
            match spawned {
                Ok(handle) => proxy.workers.push(handle),
                Err(e) => {
                    proxy.orders.send_replace(Order::Cut);
                    return Err(StartError::Worker(e));
                }
            }
        }
        Ok(proxy)
    }

    /// The addresses that were bound, in the order of the configuration.
    #[must_use]
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    /// Stops accepting, closes idle connections, and lets each request finish with `Connection: close`.
    pub fn drain(&self) {
        self.orders.send_replace(Order::Drain);
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
        if let Some(log) = &self.log {
            log.reopen();
        }
    }

    /// Tells the operator what has come up since the last call. To be called every second or so, by a thread that may wait.
    pub fn report(&mut self) {
        notice::tell();
        if let Some(log) = &mut self.log {
            log.report();
        }
    }

    /// Access log lines dropped so far.
    #[must_use]
    pub fn log_lines_dropped(&self) -> u64 {
        self.log.as_ref().map_or(0, LogWriter::dropped)
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
        self.report();
        if let Some(log) = self.log {
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
