//! A proxy from start to stop: what `run` and `demo` have in common.
//!
//! Takes a checked configuration; resolves names, binds, serves, and acts on signals until the last request has ended or is
//! cut. Tells on standard error where it listens, one line a listener, and then that it is ready.

mod admin;
mod discovering;
mod hearing;
mod persisting;
mod publishing;
mod reloading;
mod reporting;
mod staying;
mod succession;
mod telling;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_config::model::{AdminBind, Config};
use plimsoll_control::admin::{Phase, Published};
use plimsoll_control::admin_server::Admin;
use plimsoll_control::checks::Checks;
use plimsoll_control::exporter::Exporters;
use plimsoll_control::handover::Given;
use plimsoll_control::orders::Ordered;
use plimsoll_control::reload::{Request, Watch, Wish};
use plimsoll_control::resolve::{Resolution, Unresolved};
use plimsoll_control::secrets::read_sticky_secret;
use plimsoll_control::systemd::{self, Heartbeat};
use plimsoll_control::wanted::Wanted;
use plimsoll_proxy::{Proxy, Snapshot, StartError, notice};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use self::discovering::Listed;
use self::hearing::Hearing;
use self::reloading::Reloading;
use self::succession::{Old, limited, take};
use crate::exit::Exit;
use crate::upgrade::{self, Upgrade};

/// How often a stop looks whether the workers have ended.
const LOOK: Duration = Duration::from_millis(10);
/// How often a watched configuration is looked at.
const WATCH: Duration = Duration::from_secs(1);
/// How long a new process tries for the admin address of the old one.
const ADMIN_HANDOVER: Duration = Duration::from_secs(10);
/// How long a start waits for the first results of checks.
const FIRST_CHECKS: Duration = Duration::from_secs(2);
/// Orders about servers that wait for the loop, and that it carries out at once.
const ORDERS: usize = 1024;
/// How long the last spans may take.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// A proxy that serves.
pub(crate) struct Running {
    proxy: Proxy,
    published: Arc<Published>,
    /// One for each address; each answers until dropped.
    admin: Vec<Admin>,
    /// Those that a reload has replaced: one of them still has to tell who asked for the reload.
    old_admin: Vec<Admin>,
    /// Names of a new configuration are being resolved.
    reloading: Option<Reloading>,
    /// The configuration of the file and the servers beside it.
    listed: Listed,
    /// Where the configuration came from, and its texts when they were last read to be taken; `None` if it came from options.
    file: Option<Watch>,
    /// The process before this one, until it has taken notice that this one serves.
    old: Option<Old>,
    wishes: mpsc::Receiver<Request>,
    ordered: mpsc::Receiver<Ordered>,
    /// The program to run for an upgrade, unless another is named.
    program: io::Result<PathBuf>,
    /// A new process that does not serve yet.
    upgrade: Option<Upgrade>,
    /// Until when to try for an admin address that an old process still holds.
    admin_until: Option<Instant>,
    heartbeat: Heartbeat,
    /// Send what is traced.
    exporters: Exporters,
    /// Ask servers whether they are well.
    checks: Checks,
    /// What is to be served, in its parts.
    wanted: Wanted,
    /// What servers say of themselves.
    hearing: Hearing,
    /// When to try again to serve what is wanted, if that could not be done.
    again: Option<Instant>,
}

/// Why there is none.
pub(crate) enum Failed {
    /// Host names that were not resolved.
    Unresolved(Vec<String>),
    /// The service manager passes sockets that are of no use.
    Passed(io::Error),
    /// The proxy cannot start.
    Start(StartError),
    /// An admin address cannot be bound.
    Admin(AdminBind, io::Error),
    /// There is to be a token or another secret, and there is none.
    Secret(String),
    /// Nothing can send spans.
    Tracing(io::Error),
    /// Nothing can check servers.
    Checks(io::Error),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Unresolved(lines) => f.write_str(&lines.join("\n")),
            Failed::Passed(error) => error.fmt(f),
            Failed::Start(error) => error.fmt(f),
            Failed::Tracing(error) => write!(f, "cannot start what sends spans: {error}"),
            Failed::Checks(error) => write!(f, "cannot start what checks servers: {error}"),
            Failed::Admin(address, error) => write!(f, "cannot listen on {address} ([admin] bind): {error}"),
            Failed::Secret(reason) => f.write_str(reason),
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

/// Starts everything that `config` asks for; `file` is what a reload takes it from, with the texts from before it was read.
///
/// With sockets from an old process it tells that one to end once everything serves.
pub(crate) async fn start(
    mut config: Config,
    file: Option<Watch>,
    mut given: Option<Given>,
) -> Result<Running, Failed> {
    let program = upgrade::own_program();
    read_sticky_secret(&mut config).map_err(Failed::Secret)?;
    let config = begin_to_resolve(config)?.outcome().await.map_err(|all| unresolved(&all))?;
    let mut exporters = Exporters::default();
    let prepared = exporters.prepare(config.tracing.as_ref()).map_err(Failed::Tracing)?;
    let (listed, wanted) = begin(config, given.as_mut()).await;
    let snapshot = Snapshot::new(wanted.compose(), None).traced(prepared.queue());
    let snapshot = Arc::new(limited(snapshot, given.as_ref()));
    exporters.adopt(prepared);
    let (mut sockets, mut doors, old) = take(given, &snapshot);
    sockets.extend(passed(&snapshot.config).map_err(Failed::Passed)?);
    let mut checks = Checks::default();
    checks.prepare(&snapshot.config).map_err(Failed::Checks)?;
    checks.adopt(&snapshot);
    checks.first_results(&snapshot, FIRST_CHECKS).await;
    let proxy = Proxy::start(&snapshot, sockets).map_err(Failed::Start)?;
    let (ask, wishes) = mpsc::channel(4);
    let (orders, ordered) = mpsc::channel(ORDERS);
    let published = Published::new(Arc::clone(&snapshot), Some(ask)).ordered_by(orders);
    published.show(Arc::clone(&snapshot), &wanted);
    published.show_origins(listed.sources.origins());
    let published = Arc::new(published);
    let heartbeat = Heartbeat::new();
    let mut running = Running {
        proxy,
        published,
        admin: Vec::new(),
        old_admin: Vec::new(),
        reloading: None,
        listed,
        file,
        old: None,
        wishes,
        ordered,
        program,
        upgrade: None,
        admin_until: None,
        heartbeat,
        exporters,
        checks,
        wanted,
        hearing: Hearing::new(Arc::clone(&snapshot.words)),
        again: None,
    };
    match old {
        // An old process of a version that does not give its admin addresses holds them until it knows that this one serves.
        Some(old) => {
            running.old = Old::follow(old.ready());
            if let Err(failed) = running.take_doors(&mut doors) {
                notice(&failed.to_string());
            }
            running.admin_until = Some(Instant::now() + ADMIN_HANDOVER);
        }
        None => {
            if let Err(failed) = running.open_admin() {
                running.proxy.cut();
                running.proxy.join();
                return Err(failed);
            }
            systemd::ready("serving");
        }
    }
    running.published.enter(Phase::Serving);
    Ok(running)
}

/// Asks the sources of servers for the first time, and takes over what an old process knew of them and what it was ordered.
async fn begin(config: Config, given: Option<&mut Given>) -> (Listed, Wanted) {
    let (handed, ordered) = match given {
        Some(given) => (given.discovered.take(), given.wanted.take()),
        None => Default::default(),
    };
    let listed = Listed::first(config, &handed).await;
    let mut wanted = Wanted::new(listed.filed.clone(), listed.recalled());
    tell_ended(wanted.recall(&ordered));
    (listed, wanted)
}

/// Says which orders have ended.
fn tell_ended(orders: Vec<(String, String)>) {
    for (backend, server) in orders {
        notice(&format!("what was ordered about {backend}/{server} ends: the file says otherwise"));
    }
}

/// The sockets of socket activation.
fn passed(config: &Config) -> io::Result<Vec<TcpListener>> {
    let binds: Vec<SocketAddr> = config.listeners.iter().map(|listener| listener.bind).collect();
    systemd::wanted(systemd::inherited()?, &binds)
}

fn begin_to_resolve(config: Config) -> Result<Resolution, Failed> {
    Resolution::begin(config).map_err(|e| Failed::Unresolved(vec![format!("cannot resolve names: {e}")]))
}

fn unresolved(all: &[Unresolved]) -> Failed {
    Failed::Unresolved(all.iter().map(ToString::to_string).collect())
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

impl Signals {
    /// Waits for one that ends a process that has not begun to serve.
    pub(crate) async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Another process serves.
    Retire,
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
        let drain = self.proxy.snapshot().config.timeouts.drain;
        match stop {
            Stop::Retire => self.heartbeat = Heartbeat::never(), // the new process is the service now
            Stop::Deadline => systemd::stopping(Some(drain)),
            Stop::Patient => systemd::stopping(None),
        }
        let stop = self.begin_to_end(stop, &mut signals).await;
        let until = (stop == Stop::Deadline).then(|| Instant::now() + drain);
        while !self.proxy.is_finished() {
            let late = until.is_some_and(|until| Instant::now() >= until);
            tokio::select! {
                () = self.heartbeat.next() => {}
                _ = signals.terminate.recv() => self.proxy.cut(),
                _ = signals.interrupt.recv() => self.proxy.cut(),
                () = tokio::time::sleep(LOOK) => if late { self.proxy.cut() },
            }
        }
        let cut = self.proxy.join();
        self.exporters.finish(LAST_SPANS);
        if cut { Exit::Cut } else { Exit::Fine }
    }

    /// Tells the workers to end. After a handover that takes as long as the last connection lives, unless a signal asks for more haste.
    async fn begin_to_end(&mut self, stop: Stop, signals: &mut Signals) -> Stop {
        // From now on nobody takes wishes: who waits for an outcome is told so by their answers being dropped.
        self.wishes.close();
        while self.wishes.try_recv().is_ok() {}
        self.ordered.close();
        while self.ordered.try_recv().is_ok() {}
        self.reloading = None;
        if stop != Stop::Retire {
            if let Some(upgrade) = self.upgrade.take() {
                upgrade.call_off();
            }
            self.proxy.drain();
            return stop;
        }
        self.proxy.retire();
        self.listed.end(); // the new process asks for itself
        // The new process has them.
        self.admin.iter_mut().for_each(Admin::leave);
        self.admin.clear();
        let mut report = reporting::interval();
        while !self.proxy.is_finished() {
            tokio::select! {
                _ = signals.terminate.recv() => { self.proxy.drain(); return Stop::Deadline }
                _ = signals.interrupt.recv() => { self.proxy.drain(); return Stop::Deadline }
                _ = signals.quit.recv() => { self.proxy.drain(); return Stop::Patient }
                _ = report.tick() => self.report(),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        stop
    }

    /// Opens the admin addresses once the old process has let go of them.
    fn try_for_admin(&mut self) {
        let Some(until) = self.admin_until else { return };
        match self.open_admin() {
            Ok(()) => self.admin_until = None,
            Err(_) if Instant::now() < until => {}
            Err(failed) => {
                notice(&failed.to_string());
                self.admin_until = None;
            }
        }
    }

    /// Waits for the first signal that asks for an end; acts on everything else. The only place that reloads.
    async fn until_told_to_stop(&mut self, signals: &mut Signals) -> Stop {
        let mut report = reporting::interval();
        let mut watch = tokio::time::interval(WATCH);
        loop {
            // The losers are only waits.
            tokio::select! {
                () = self.heartbeat.next() => {}
                _ = signals.terminate.recv() => return Stop::Deadline,
                _ = signals.interrupt.recv() => return Stop::Deadline,
                _ = signals.quit.recv() => return Stop::Patient,
                _ = report.tick() => {
                    self.report();
                    self.old_admin.clear();
                }
                () = tokio::time::sleep(LOOK), if self.admin_until.is_some() => self.try_for_admin(),
                _ = signals.reopen.recv() => self.proxy.reopen_log(),
                _ = signals.hang_up.recv() => self.begin_reload(None),
                Some(request) = self.wishes.recv() => match request.wish {
                    Wish::Reload => self.begin_reload(Some(request.answer)),
                    Wish::Upgrade(path) => self.begin_upgrade(path, Some(request.answer)),
                },
                Some(first) = self.ordered.recv() => self.carry_out(first),
                outcome = Upgrade::outcome(self.upgrade.as_mut()), if self.upgrade.is_some() => {
                    if self.end_upgrade(&outcome).await {
                        return Stop::Retire;
                    }
                }
                _ = watch.tick(), if self.proxy.snapshot().config.watch => {
                    if self.file.as_mut().is_some_and(Watch::look) {
                        self.begin_reload(None);
                    }
                }
                () = Old::end(self.old.as_mut()), if self.old.is_some() => self.end_old(),
                step = Reloading::step(self.reloading.as_mut()), if self.reloading.is_some() => {
                    self.go_on_reloading(step);
                }
                () = self.listed.due() => self.take_lists(),
                () = self.hearing.due() => self.take_words(),
                () = publishing::again(self.again) => self.publish_again(),
                _ = signals.upgrade.recv() => self.begin_upgrade(None, None),
            }
        }
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
