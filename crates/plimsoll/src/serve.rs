//! A proxy from start to stop: what `run` and `demo` have in common.
//!
//! Takes a checked configuration; resolves names, binds, serves, and acts on signals until the last request has ended or is
//! cut. Tells on standard error where it listens, one line a listener, and then that it is ready.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_config::model::Config;
use plimsoll_control::admin::{self, Admin, Phase, Published};
use plimsoll_control::resolve;
use plimsoll_proxy::{Proxy, Snapshot, StartError, notice};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Exit;

/// How often a stop looks whether the workers have ended.
const LOOK: Duration = Duration::from_millis(10);
/// How often the proxy is asked what the operator should know.
const REPORT: Duration = Duration::from_millis(500);

/// A proxy that serves.
pub(crate) struct Running {
    proxy: Proxy,
    published: Arc<Published>,
    /// Answers until dropped.
    _admin: Option<Admin>,
    drain: Duration,
}

/// Why there is none.
pub(crate) enum Failed {
    /// Host names that were not resolved.
    Unresolved(Vec<String>),
    /// The proxy cannot start.
    Start(StartError),
    /// The admin address cannot be bound.
    Admin(SocketAddr, io::Error),
}

impl Failed {
    /// Tells the operator.
    pub(crate) fn show(&self) -> Exit {
        match self {
            Failed::Unresolved(lines) => lines.iter().for_each(|line| notice(line)),
            Failed::Start(error) => notice(&error.to_string()),
            Failed::Admin(address, error) => {
                notice(&format!("cannot listen on {address} ([admin] bind): {error}"));
            }
        }
        Exit::Start
    }
}

/// Starts everything that `config` asks for.
pub(crate) fn start(mut config: Config) -> Result<Running, Failed> {
    resolve::resolve(&mut config)
        .map_err(|all| Failed::Unresolved(all.iter().map(ToString::to_string).collect()))?;
    let (drain, admin) = (config.timeouts.drain, config.admin.clone());
    let snapshot = Arc::new(Snapshot::new(config, None));
    let proxy = Proxy::start(&snapshot).map_err(Failed::Start)?;
    let published = Arc::new(Published::new(proxy.listeners(), snapshot.backends.clone()));
    let admin = match admin {
        None => None,
        Some(admin) => match admin::start(admin.bind, Arc::clone(&published)) {
            Ok(started) => {
                notice(&format!("admin on {}", started.address()));
                Some(started)
            }
            Err(error) => {
                proxy.cut();
                proxy.join();
                return Err(Failed::Admin(admin.bind, error));
            }
        },
    };
    published.enter(Phase::Serving);
    Ok(Running { proxy, published, _admin: admin, drain })
}

/// The signals that a running proxy acts on. Made before it is said to be ready: who reads that may send one at once.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    reopen: Signal,
    hang_up: Signal,
    upgrade: Signal,
}

impl Signals {
    /// Needs a tokio runtime.
    pub(crate) fn catch() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            reopen: signal(SignalKind::user_defined1())?,
            hang_up: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the first signal that asks for an end; acts on the others.
    async fn stop(&mut self, proxy: &mut Proxy) -> Stop {
        let mut report = tokio::time::interval(REPORT);
        loop {
            // The losers are only waits.
            tokio::select! {
                _ = self.terminate.recv() => return Stop::Deadline,
                _ = self.interrupt.recv() => return Stop::Deadline,
                _ = self.quit.recv() => return Stop::Patient,
                _ = report.tick() => proxy.report(),
                _ = self.reopen.recv() => proxy.reopen_log(),
                _ = self.hang_up.recv() => notice("HUP: reloading is not supported yet; restart to take a new configuration"),
                _ = self.upgrade.recv() => notice("USR2: upgrading is not supported yet; restart to run a new binary"),
            }
        }
    }
}

enum Stop {
    /// Within the drain time.
    Deadline,
    /// However long it takes.
    Patient,
}

impl Running {
    /// Where it accepts clients.
    pub(crate) fn listeners(&self) -> Vec<SocketAddr> {
        self.proxy.listeners()
    }

    /// Says where it listens, and that it is ready.
    pub(crate) fn announce(&self) {
        for address in self.listeners() {
            notice(&format!("listening on {address}"));
        }
        notice("ready");
    }

    /// Serves until a signal, then drains; a second TERM or INT ends at once.
    pub(crate) async fn until_stopped(mut self, mut signals: Signals) -> Exit {
        let stop = signals.stop(&mut self.proxy).await;
        self.published.enter(Phase::Draining);
        self.proxy.drain();
        let until = match stop {
            Stop::Deadline => Some(Instant::now() + self.drain),
            Stop::Patient => None,
        };
        while !self.proxy.is_finished() {
            let late = until.is_some_and(|until| Instant::now() >= until);
            tokio::select! {
                _ = signals.terminate.recv() => self.proxy.cut(),
                _ = signals.interrupt.recv() => self.proxy.cut(),
                () = tokio::time::sleep(LOOK) => if late { self.proxy.cut() },
            }
        }
        if self.proxy.join() { Exit::Cut } else { Exit::Fine }
    }
}

/// A runtime for signals and waiting; traffic has its own.
pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Tells why nothing could be started.
pub(crate) fn cannot_start(error: &io::Error) -> Exit {
    notice(&format!("cannot start: {error}"));
    Exit::Start
}
