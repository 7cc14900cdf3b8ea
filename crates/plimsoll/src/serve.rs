//! A proxy from start to stop: what `run` and `demo` have in common.
//!
//! Takes a checked configuration; resolves names, binds, serves, and acts on signals until the last request has ended or is
//! cut. Tells on standard error where it listens, one line a listener, and then that it is ready.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_config::model::Config;
use plimsoll_control::admin::{self, Admin, Phase, Published, Shown};
use plimsoll_control::reload::{Outcome, Request, Watch};
use plimsoll_control::{files, resolve};
use plimsoll_proxy::{Proxy, Snapshot, StartError, notice};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::configuration;
use crate::exit::Exit;
use crate::terminal;

/// How often a stop looks whether the workers have ended.
const LOOK: Duration = Duration::from_millis(10);
/// How often the proxy is asked what the operator should know.
const REPORT: Duration = Duration::from_millis(500);
/// How often a watched configuration is looked at.
const WATCH: Duration = Duration::from_secs(1);

/// A proxy that serves.
pub(crate) struct Running {
    proxy: Proxy,
    published: Arc<Published>,
    /// Answers until dropped.
    admin: Option<Admin>,
    /// Where the configuration came from; `None` if it came from options.
    file: Option<PathBuf>,
    reloads: mpsc::Receiver<Request>,
    watch: Option<Watch>,
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

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Unresolved(lines) => f.write_str(&lines.join("\n")),
            Failed::Start(error) => error.fmt(f),
            Failed::Admin(address, error) => write!(f, "cannot listen on {address} ([admin] bind): {error}"),
        }
    }
}

impl Failed {
    /// Tells the operator.
    pub(crate) fn show(&self) -> Exit {
        self.to_string().lines().for_each(notice);
        Exit::Start
    }
}

/// Starts everything that `config` asks for; `file` is what a reload takes it from.
pub(crate) fn start(config: Config, file: Option<PathBuf>) -> Result<Running, Failed> {
    let snapshot = Arc::new(Snapshot::new(resolved(config)?, None));
    let proxy = Proxy::start(&snapshot).map_err(Failed::Start)?;
    let (ask, reloads) = mpsc::channel(4);
    let published = Arc::new(Published::new(shown(&proxy), file.is_some().then_some(ask)));
    let watch = file.as_deref().filter(|_| snapshot.config.watch).map(Watch::new);
    let mut running = Running { proxy, published, admin: None, file, reloads, watch };
    if let Err(failed) = running.open_admin() {
        running.proxy.cut();
        running.proxy.join();
        return Err(failed);
    }
    running.published.enter(Phase::Serving);
    Ok(running)
}

fn resolved(mut config: Config) -> Result<Config, Failed> {
    match resolve::resolve(&mut config) {
        Ok(()) => Ok(config),
        Err(all) => Err(Failed::Unresolved(all.iter().map(ToString::to_string).collect())),
    }
}

fn shown(proxy: &Proxy) -> Shown {
    Shown { listeners: proxy.listeners(), backends: proxy.snapshot().backends.clone() }
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
        let stop = self.until_told_to_stop(&mut signals).await;
        self.published.enter(Phase::Draining);
        self.proxy.drain();
        let until = match stop {
            Stop::Deadline => Some(Instant::now() + self.proxy.snapshot().config.timeouts.drain),
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

    /// Waits for the first signal that asks for an end; acts on everything else. The only place that reloads.
    async fn until_told_to_stop(&mut self, signals: &mut Signals) -> Stop {
        let mut report = tokio::time::interval(REPORT);
        let mut watch = tokio::time::interval(WATCH);
        loop {
            // The losers are only waits.
            tokio::select! {
                _ = signals.terminate.recv() => return Stop::Deadline,
                _ = signals.interrupt.recv() => return Stop::Deadline,
                _ = signals.quit.recv() => return Stop::Patient,
                _ = report.tick() => self.proxy.report(),
                _ = signals.reopen.recv() => self.proxy.reopen_log(),
                _ = signals.hang_up.recv() => { let _ = self.reload(); }
                Some(request) = self.reloads.recv() => {
                    let outcome = self.reload();
                    let _ = request.answer.send(outcome); // who asked may have gone away
                }
                _ = watch.tick(), if self.watch.is_some() => {
                    if self.watch.as_mut().is_some_and(Watch::look) {
                        let _ = self.reload();
                    }
                }
                _ = signals.upgrade.recv() => notice("USR2: upgrading is not supported yet; restart to run a new binary"),
            }
        }
    }

    /// Takes the configuration again. With any problem everything stays as it was; either way the operator is told.
    fn reload(&mut self) -> Outcome {
        let outcome = self.take_configuration();
        match &outcome {
            Ok(done) => notice(done),
            Err(problems) => {
                terminal::err(problems);
                notice("not reloaded: the configuration in force stays");
            }
        }
        outcome
    }

    fn take_configuration(&mut self) -> Outcome {
        let Some(path) = self.file.clone() else {
            return Err("started without a file: there is nothing to reload\n".to_owned());
        };
        let line = |failed: Failed| format!("{failed}\n");
        let loaded = files::load_file(&path).map_err(|error| error.render(false))?;
        let before = Arc::clone(self.proxy.snapshot());
        let snapshot = Arc::new(Snapshot::new(resolved(loaded.config).map_err(line)?, Some(&before)));
        let admin_stays = snapshot.config.admin == before.config.admin;
        self.proxy.publish(&snapshot).map_err(|error| line(Failed::Start(error)))?;
        self.published.show(shown(&self.proxy));
        if snapshot.config.watch != self.watch.is_some() {
            self.watch = snapshot.config.watch.then(|| Watch::new(&path));
        }
        let mut done = configuration::summary(&snapshot.config);
        if !admin_stays {
            let opened = self.open_admin();
            opened.err().into_iter().for_each(|failed| done.push_str(&format!("; {failed}")));
        }
        if snapshot.config.workers.is_some_and(|n| n.get() != self.proxy.workers()) {
            done.push_str("; a change of workers takes a restart");
        }
        Ok(format!("reloaded {}: {done}", path.display()))
    }

    /// Opens the admin address that the configuration names, in place of any other.
    fn open_admin(&mut self) -> Result<(), Failed> {
        self.admin = None;
        let Some(admin) = self.proxy.snapshot().config.admin.clone() else { return Ok(()) };
        let started = admin::start(admin.bind, Arc::clone(&self.published))
            .map_err(|error| Failed::Admin(admin.bind, error))?;
        notice(&format!("admin on {}", started.address()));
        self.admin = Some(started);
        Ok(())
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
