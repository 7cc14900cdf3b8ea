//! A proxy from start to stop: what `run` and `demo` have in common.
//!
//! Takes a checked configuration; resolves names, binds, serves, and acts on signals until the last request has ended or is
//! cut. Tells on standard error where it listens, one line a listener, and then that it is ready.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_config::model::Config;
use plimsoll_control::admin::{self, Admin, Phase, Published};
use plimsoll_control::exporter::Exporters;
use plimsoll_control::handover::Given;
use plimsoll_control::reload::{Outcome, Request, Watch, Wish};
use plimsoll_control::systemd::{self, Heartbeat};
use plimsoll_control::{files, resolve};
use plimsoll_proxy::{Millis, Proxy, Snapshot, StartError, notice};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::configuration;
use crate::exit::Exit;
use crate::terminal;
use crate::upgrade::{self, Upgrade};

/// How often a stop looks whether the workers have ended.
const LOOK: Duration = Duration::from_millis(10);
/// How often the proxy is asked what the operator should know.
const REPORT: Duration = Duration::from_millis(500);
/// How often a watched configuration is looked at.
const WATCH: Duration = Duration::from_secs(1);
/// How long a new process tries for the admin address of the old one.
const ADMIN_HANDOVER: Duration = Duration::from_secs(10);
/// How long the last spans may take.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// A proxy that serves.
pub(crate) struct Running {
    proxy: Proxy,
    published: Arc<Published>,
    /// Answers until dropped.
    admin: Option<Admin>,
    /// One that a reload has replaced: it still has to tell who asked for the reload.
    old_admin: Option<Admin>,
    /// Where the configuration came from; `None` if it came from options.
    file: Option<PathBuf>,
    wishes: mpsc::Receiver<Request>,
    watch: Option<Watch>,
    /// The program to run for an upgrade, unless another is named.
    program: io::Result<PathBuf>,
    /// A new process that does not serve yet.
    upgrade: Option<Upgrade>,
    /// Until when to try for an admin address that an old process still holds.
    admin_until: Option<Instant>,
    heartbeat: Heartbeat,
    /// Send what is traced.
    exporters: Exporters,
}

/// Why there is none.
pub(crate) enum Failed {
    /// Host names that were not resolved.
    Unresolved(Vec<String>),
    /// The service manager passes sockets that are of no use.
    Passed(io::Error),
    /// The proxy cannot start.
    Start(StartError),
    /// The admin address cannot be bound.
    Admin(SocketAddr, io::Error),
    /// Nothing can send spans.
    Tracing(io::Error),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Unresolved(lines) => f.write_str(&lines.join("\n")),
            Failed::Passed(error) => error.fmt(f),
            Failed::Start(error) => error.fmt(f),
            Failed::Tracing(error) => write!(f, "cannot start what sends spans: {error}"),
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
///
/// With sockets from an old process it tells that one to end once everything serves.
pub(crate) fn start(config: Config, file: Option<PathBuf>, given: Option<Given>) -> Result<Running, Failed> {
    let program = upgrade::own_program();
    let mut exporters = Exporters::default();
    let prepared = exporters.prepare(config.tracing.as_ref()).map_err(Failed::Tracing)?;
    let snapshot = Arc::new(Snapshot::new(resolved(config)?, None).traced(prepared.queue()));
    exporters.adopt(prepared);
    let (mut sockets, old) = take(given, &snapshot);
    sockets.extend(passed(&snapshot.config).map_err(Failed::Passed)?);
    let proxy = Proxy::start(&snapshot, sockets).map_err(Failed::Start)?;
    let (ask, wishes) = mpsc::channel(4);
    let published = Arc::new(Published::new(Arc::clone(&snapshot), Some(ask)));
    let watch = file.as_deref().filter(|_| snapshot.config.watch).map(Watch::new);
    let (admin, upgrade, admin_until) = (None, None, None);
    let heartbeat = Heartbeat::new();
    let mut running = Running {
        proxy,
        published,
        admin,
        old_admin: None,
        file,
        wishes,
        watch,
        program,
        upgrade,
        admin_until,
        heartbeat,
        exporters,
    };
    match old {
        // The old process holds the admin address until it knows that this one serves.
        Some(old) => {
            old.ready();
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

/// The sockets that an old process gives, after what it has learned was noted.
fn take(given: Option<Given>, snapshot: &Snapshot) -> (Vec<TcpListener>, Option<Given>) {
    let Some(mut given) = given else { return (Vec::new(), None) };
    for (backend, server) in upgrade::refused(&given.learned) {
        snapshot.note_refused(&backend, &server, Millis::default());
    }
    (std::mem::take(&mut given.sockets), Some(given))
}

/// The sockets of socket activation.
fn passed(config: &Config) -> io::Result<Vec<TcpListener>> {
    let binds: Vec<SocketAddr> = config.listeners.iter().map(|listener| listener.bind).collect();
    systemd::wanted(systemd::inherited()?, &binds)
}

fn resolved(mut config: Config) -> Result<Config, Failed> {
    match resolve::resolve(&mut config) {
        Ok(()) => Ok(config),
        Err(all) => Err(Failed::Unresolved(all.iter().map(ToString::to_string).collect())),
    }
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
        if stop != Stop::Retire {
            if let Some(upgrade) = self.upgrade.take() {
                upgrade.call_off();
            }
            self.proxy.drain();
            return stop;
        }
        self.proxy.retire();
        self.admin = None; // the new process waits for the address
        while !self.proxy.is_finished() {
            tokio::select! {
                _ = signals.terminate.recv() => { self.proxy.drain(); return Stop::Deadline }
                _ = signals.interrupt.recv() => { self.proxy.drain(); return Stop::Deadline }
                _ = signals.quit.recv() => { self.proxy.drain(); return Stop::Patient }
                () = tokio::time::sleep(LOOK) => self.proxy.report(),
            }
        }
        stop
    }

    /// Starts a new process; `outcome` tells later what came of it.
    fn begin_upgrade(&mut self, path: Option<PathBuf>, answer: Option<oneshot::Sender<Outcome>>) {
        let program = match (path, &self.program) {
            (Some(path), _) => Ok(path),
            (None, Ok(path)) => Ok(path.clone()),
            (None, Err(e)) => Err(format!("cannot find this process's own program: {e}")),
        };
        let begun = match self.upgrade {
            Some(_) => Err("an upgrade is under way already".to_owned()),
            None => program.and_then(|program| Upgrade::start(&program, &self.proxy)),
        };
        match begun {
            Ok(mut upgrade) => {
                if let Some(answer) = answer {
                    upgrade.tell(answer);
                }
                self.upgrade = Some(upgrade);
            }
            Err(reason) => {
                notice(&format!("not upgraded: {reason}"));
                if let Some(answer) = answer {
                    let _ = answer.send(Err(format!("not upgraded: {reason}\n"))); // who asked may have gone away
                }
            }
        }
    }

    /// True if a new process serves now.
    fn end_upgrade(&mut self, outcome: &Outcome) -> bool {
        match outcome {
            Ok(done) => notice(done),
            Err(reason) => notice(reason.trim_end()),
        }
        if let Some(upgrade) = self.upgrade.take() {
            upgrade.answer(outcome);
        }
        outcome.is_ok()
    }

    /// Opens the admin address once the old process has let go of it.
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
        let mut report = tokio::time::interval(REPORT);
        let mut watch = tokio::time::interval(WATCH);
        loop {
            // The losers are only waits.
            tokio::select! {
                () = self.heartbeat.next() => {}
                _ = signals.terminate.recv() => return Stop::Deadline,
                _ = signals.interrupt.recv() => return Stop::Deadline,
                _ = signals.quit.recv() => return Stop::Patient,
                _ = report.tick() => {
                    self.proxy.report();
                    self.old_admin = None;
                }
                () = tokio::time::sleep(LOOK), if self.admin_until.is_some() => self.try_for_admin(),
                _ = signals.reopen.recv() => self.proxy.reopen_log(),
                _ = signals.hang_up.recv() => { let _ = self.reload(); }
                Some(request) = self.wishes.recv() => match request.wish {
                    Wish::Reload => {
                        let outcome = self.reload();
                        let _ = request.answer.send(outcome); // who asked may have gone away
                    }
                    Wish::Upgrade(path) => self.begin_upgrade(path, Some(request.answer)),
                },
                outcome = Upgrade::outcome(self.upgrade.as_mut()), if self.upgrade.is_some() => {
                    if self.end_upgrade(&outcome) {
                        return Stop::Retire;
                    }
                }
                _ = watch.tick(), if self.watch.is_some() => {
                    if self.watch.as_mut().is_some_and(Watch::look) {
                        let _ = self.reload();
                    }
                }
                _ = signals.upgrade.recv() => self.begin_upgrade(None, None),
            }
        }
    }

    /// Takes the configuration again. With any problem everything stays as it was; either way the operator is told.
    fn reload(&mut self) -> Outcome {
        systemd::reloading();
        let outcome = self.take_configuration();
        systemd::ready(outcome.as_deref().unwrap_or("serving; the last reload failed, see the journal"));
        self.published.reloaded(outcome.is_ok());
        match &outcome {
            Ok(done) => notice(done),
            Err(problems) => {
                // What was just tried is not tried again by the watch.
                if let (Some(watch), Some(path)) = (&mut self.watch, &self.file) {
                    *watch = Watch::new(path);
                }
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
        let config = resolved(loaded.config).map_err(line)?;
        let prepared =
            self.exporters.prepare(config.tracing.as_ref()).map_err(|error| line(Failed::Tracing(error)))?;
        let snapshot = Arc::new(Snapshot::new(config, Some(&before)).traced(prepared.queue()));
        // The new admin address first: if it is taken, nothing else changes either.
        let admin = match snapshot.config.admin == before.config.admin {
            true => None,
            false => Some(self.started_admin(&snapshot.config).map_err(line)?),
        };
        self.proxy.publish(&snapshot).map_err(|error| line(Failed::Start(error)))?;
        self.exporters.adopt(prepared);
        self.published.show(Arc::clone(&snapshot));
        // What was just taken is what later looks compare with.
        self.watch = snapshot.config.watch.then(|| Watch::new(&path));
        if let Some(admin) = admin {
            self.old_admin = std::mem::replace(&mut self.admin, admin);
        }
        let mut done = configuration::summary(&snapshot.config);
        if snapshot.config.workers.is_some_and(|n| n.get() != self.proxy.workers()) {
            done.push_str("; a change of workers takes a restart");
        }
        Ok(format!("reloaded {}: {done}", path.display()))
    }

    /// Opens the admin address that the configuration names.
    fn open_admin(&mut self) -> Result<(), Failed> {
        let config = &self.proxy.snapshot().config;
        self.admin = self.started_admin(config)?;
        Ok(())
    }

    fn started_admin(&self, config: &Config) -> Result<Option<Admin>, Failed> {
        let Some(admin) = &config.admin else { return Ok(None) };
        let started = admin::start(admin.bind, Arc::clone(&self.published))
            .map_err(|error| Failed::Admin(admin.bind, error))?;
        notice(&format!("admin on {}", started.address()));
        Ok(Some(started))
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
