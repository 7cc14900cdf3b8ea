//! One worker: a thread with its own runtime, listeners, connections, idle pools, dice and buffers.
//!
//! Nothing here is shared with other workers but what a `Publication` carries. The worker ends when it drains and its last
//! connection is gone, or at once when told to cut; dropping its runtime drops every exchange, and their guards give back what they held.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use plimsoll_config::model::LogFormat;
use plimsoll_http::{Head, Kind};
use plimsoll_traffic::{Budget, Dice};
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc::Receiver;
use tokio::sync::{Notify, watch};

use crate::access_log::AccessLog;
use crate::buffer::Buffers;
use crate::clock::WallClock;
use crate::deadline::{Deadlines, TICK};
use crate::listener::{self, Bound, Door};
use crate::log_writer::LogQueue;
use crate::notice::leave;
use crate::probe::Probes;
use crate::seats::Seats;
use crate::share::{Handed, Shares};
use crate::snapshot::{Snapshot, View};
use crate::turn::Turns;

/// Small things that a worker keeps for reuse, each.
const KEPT: usize = 256;
/// Idle pools are looked through every so many ticks: once a second.
const SWEEP_TICKS: u32 = 20;

/// A removed listener's last view is kept this much longer than a request's head may take.
const MARGIN: Duration = Duration::from_secs(1);

/// What workers are told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Serve,
    /// Accept nothing new and end after the last connection, but let idle ones ask once more: another process has the listeners.
    Retire,
    /// The same, and close idle connections.
    Drain,
    Cut,
}

/// What all workers serve from now on.
pub(crate) struct Publication {
    /// Workers that serve it.
    pub(crate) adopted: AtomicUsize,
    pub(crate) snapshot: Arc<Snapshot>,
    /// In the order of the snapshot's listeners.
    pub(crate) bound: Vec<Arc<Bound>>,
    pub(crate) log: Option<(LogFormat, LogQueue)>,
}

/// What a worker starts with.
pub(crate) struct Start {
    pub(crate) shares: Arc<Shares>,
    /// Clients that other workers have accepted for this one.
    pub(crate) inbox: Receiver<Handed>,
    /// Which worker it is, of how many.
    pub(crate) number: usize,
    pub(crate) workers: usize,
    pub(crate) publications: watch::Receiver<Arc<Publication>>,
    pub(crate) orders: watch::Receiver<Order>,
    pub(crate) epoch: Instant,
    pub(crate) seed: u64,
}

/// A worker's own things.
pub(crate) struct Worker {
    /// Which of the workers it is; from 0.
    pub(crate) number: usize,
    pub(crate) shares: Arc<Shares>,
    view: RefCell<Rc<View>>,
    /// The last views of listeners that are gone, for requests that had begun by then.
    leaving: RefCell<Vec<Leaving>>,
    pub(crate) dice: RefCell<Dice>,
    /// Requests that strangers may have recorded.
    pub(crate) trace_budget: RefCell<Budget>,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) buffers: Buffers,
    pub(crate) wall: WallClock,
    pub(crate) turns: Rc<Turns>,
    log: RefCell<Option<Rc<AccessLog>>>,
    /// `Serve` until the worker is to end.
    ending: Cell<Order>,
    #[expect(clippy::vec_box, reason = "a head moves from task to task; its fields stay where they are")]
    heads: RefCell<Vec<Box<Head>>>,
    texts: RefCell<Vec<Vec<u8>>>,
    pub(crate) seats: Seats,
    pub(crate) probes: Probes,
    /// Interim answers that clients were sent.
    pub(crate) interims: Cell<u64>,
    /// Accept loops and connections that are still there.
    busy: Cell<u32>,
    quiet: Notify,
}

/// A listener that is gone.
struct Leaving {
    listener: usize,
    view: Rc<View>,
    /// When no request that had begun can still come, in milliseconds.
    until: u64,
}

impl Worker {
    /// The configuration of the moment; an exchange keeps what it got.
    pub(crate) fn view(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
    }

    /// What a request of this listener is served by: the configuration of the moment, or the last one that had the listener.
    pub(crate) fn view_of(&self, listener: usize) -> Rc<View> {
        let leaving = self.leaving.borrow();
        let last = leaving.iter().find(|leaving| leaving.listener == listener);
        last.map_or_else(|| self.view(), |leaving| Rc::clone(&leaving.view))
    }

    /// True while the listener is part of the configuration.
    pub(crate) fn has_listener(&self, listener: usize) -> bool {
        self.view.borrow().has_listener(listener)
    }

    pub(crate) fn take_head(&self, kind: Kind) -> Box<Head> {
        match self.heads.borrow_mut().pop() {
            Some(mut head) => {
                head.reset(kind);
                head
            }
            None => Box::new(Head::new(kind)),
        }
    }

    pub(crate) fn give_head(&self, head: Box<Head>) {
        let mut heads = self.heads.borrow_mut();
        if heads.len() < KEPT {
            heads.push(head);
        }
    }

    /// An empty vector with room for a head.
    pub(crate) fn take_text(&self) -> Vec<u8> {
        self.texts.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(1024))
    }

    pub(crate) fn give_text(&self, mut text: Vec<u8>) {
        let mut texts = self.texts.borrow_mut();
        if texts.len() < KEPT && (1..=8192).contains(&text.capacity()) {
            text.clear();
            texts.push(text);
        }
    }

    /// Counts a task that the worker must wait for; dropping the guard counts it off.
    pub(crate) fn enter(self: &Rc<Self>) -> Busy {
        self.busy.set(self.busy.get() + 1);
        Busy(Rc::clone(self))
    }

    /// The access log, if there is one.
    pub(crate) fn log(&self) -> Option<Rc<AccessLog>> {
        self.log.borrow().clone()
    }

    fn flush_log(&self) {
        if let Some(log) = &*self.log.borrow() {
            log.flush();
        }
    }

    /// Every answer is the last on its connection.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.get() != Order::Serve
    }

    /// Idle connections are to be closed.
    pub(crate) fn is_draining(&self) -> bool {
        self.ending.get() == Order::Drain
    }

    fn end(&self, how: Order, doors: &mut Vec<Rc<Door>>) {
        self.ending.set(how);
        doors.drain(..).for_each(|door| door.close());
        self.deadlines.wake_all();
    }

    /// Serves `publication` from now on. What goes on in it goes on here: doors stay open, balancers and pools are kept.
    fn adopt(self: &Rc<Self>, publication: &Publication, place: (usize, usize), doors: &mut Vec<Rc<Door>>) {
        let listeners = publication.bound.iter().enumerate().map(|(place, bound)| (bound.number, place));
        let snapshot = Arc::clone(&publication.snapshot);
        let view = View::new(snapshot, listeners, Some(&self.view()), &mut self.dice.borrow_mut());
        let old = self.view.replace(Rc::new(view));
        old.retire_pools(&self.view());
        self.flush_log();
        self.log.replace(open_log(publication));
        doors.retain(|door| {
            let stays = publication.bound.iter().any(|b| b.number == door.number);
            if !stays {
                door.close();
                self.keep_for(door.number, &old);
            }
            stays
        });
        for bound in &publication.bound {
            if !doors.iter().any(|door| door.number == bound.number) {
                self.open(bound, place, doors);
            }
        }
        self.seats.count_clients();
        self.deadlines.wake_all();
    }

    /// Keeps the view for the requests that have begun at a listener that is gone.
    fn keep_for(&self, listener: usize, view: &Rc<View>) {
        let patience = view.shared.config.timeouts.header + MARGIN;
        let until = self.deadlines.now().0.saturating_add(patience.as_millis() as u64);
        self.leaving.borrow_mut().push(Leaving { listener, view: Rc::clone(view), until });
    }

    /// Opens this worker's sockets of a listener: one, or several if they were inherited from a process with more workers.
    fn open(self: &Rc<Self>, bound: &Bound, (number, workers): (usize, usize), doors: &mut Vec<Rc<Door>>) {
        for socket in bound.sockets.iter().skip(number).step_by(workers) {
            match socket.try_clone() {
                Ok(socket) => {
                    let door = Door::new(bound.number);
                    doors.push(Rc::clone(&door));
                    let limits = Arc::clone(&bound.limits);
                    tokio::task::spawn_local(listener::accept(Rc::clone(self), door, socket, limits));
                }
                Err(e) => leave(format!("a worker cannot accept on {}: {e}", bound.local)),
            }
        }
    }

    /// Closes every idle connection to a server: descriptors are short.
    pub(crate) fn close_idle(&self) {
        for pool in self.view().backends.iter().flat_map(|upstream| &upstream.pools) {
            pool.clear();
        }
    }

    /// Adds what requests have earned to the budgets of their backends.
    fn deposit(&self) {
        let now = self.deadlines.now();
        for upstream in &self.view().backends {
            upstream.savings.hand_over(&upstream.balancer.backend().budget, now);
        }
    }

    /// Time has passed for those who wait for a server.
    fn look_at_queues(&self) {
        let now = self.deadlines.micros();
        self.view().backends.iter().for_each(|upstream| upstream.balancer.look_at_queue(now));
    }

    fn sweep_pools(&self) {
        let view = self.view();
        let (now, max_idle) = (self.deadlines.now(), view.shared.config.timeouts.pool_idle);
        for pool in view.backends.iter().flat_map(|upstream| &upstream.pools) {
            pool.sweep(now, max_idle);
        }
    }
}

/// A task that the worker waits for.
pub(crate) struct Busy(Rc<Worker>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
        if self.0.busy.get() == 0 {
            self.0.quiet.notify_one();
        }
    }
}

fn open_log(publication: &Publication) -> Option<Rc<AccessLog>> {
    publication.log.as_ref().map(|(format, queue)| Rc::new(AccessLog::new(*format, queue.clone())))
}

/// Runs a worker to its end on the calling thread. True if requests were cut.
///
/// # Errors
/// The runtime cannot be made.
pub(crate) fn run(start: Start) -> io::Result<bool> {
    let rests = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .on_thread_park({
            let rests = Arc::clone(&rests);
            move || rests.store(rests.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed)
        })
        .build_local(LocalOptions::default())?;
    let mut dice = Dice::new(start.seed);
    let publication = Arc::clone(&start.publications.borrow());
    let nothing_listens = std::iter::empty();
    let view = View::new(Arc::clone(&publication.snapshot), nothing_listens, None, &mut dice);
    publication.snapshot.stats.runs(start.number, runtime.metrics());
    let worker = Rc::new(Worker {
        number: start.number,
        shares: Arc::clone(&start.shares),
        view: RefCell::new(Rc::new(view)),
        dice: RefCell::new(dice),
        trace_budget: RefCell::default(),
        deadlines: Deadlines::new(start.epoch),
        buffers: Buffers::default(),
        wall: WallClock::default(),
        turns: Rc::new(Turns::new(rests)),
        leaving: RefCell::default(),
        log: RefCell::new(None),
        ending: Cell::new(Order::Serve),
        heads: RefCell::default(),
        texts: RefCell::default(),
        seats: Seats::default(),
        probes: Probes::default(),
        interims: Cell::new(0),
        busy: Cell::new(0),
        quiet: Notify::new(),
    });
    drop(publication);
    runtime.block_on(serve(&worker, start));
    let cut = worker.busy.get() > 0;
    drop(runtime);
    worker.flush_log();
    Ok(cut)
}

/// Serves until there is nothing left to do, or the order to cut.
async fn serve(worker: &Rc<Worker>, start: Start) {
    let Start { number, workers, mut publications, mut orders, mut inbox, .. } = start;
    let mut doors = Vec::new();
    worker.deadlines.tick();
    publications.mark_changed();
    tokio::task::spawn_local(tick(Rc::clone(worker)));
    tokio::task::spawn_local(Rc::clone(&worker.turns).call());
    loop {
        let order = *orders.borrow_and_update();
        match order {
            Order::Serve if publications.has_changed().unwrap_or(false) => {
                let publication = Arc::clone(&publications.borrow_and_update());
                worker.adopt(&publication, (number, workers), &mut doors);
                publication.adopted.fetch_add(1, Ordering::Relaxed);
            }
            Order::Serve => {}
            Order::Retire | Order::Drain => worker.end(order, &mut doors),
            Order::Cut => return,
        }
        // Before every wait: the last task may have ended, and said so, before the order was seen.
        if worker.is_ending() {
            // Once closed it gives what was sent before, also what is just being sent, and then nothing more.
            inbox.close();
            while let Some(handed) = inbox.recv().await {
                listener::receive(worker, handed);
            }
        }
        if worker.is_ending() && worker.busy.get() == 0 {
            return;
        }
        // The losers of the select are only waits; nothing is lost with them.
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { return },
            changed = publications.changed(), if !worker.is_ending() => {
                if changed.is_err() {
                    return;
                }
                publications.mark_changed();
            }
            Some(handed) = inbox.recv() => listener::receive(worker, handed),
            () = worker.quiet.notified() => {}
        }
    }
}

/// The worker's heartbeat: deadlines, idle clients, queues, log lines, budgets, idle pools.
async fn tick(worker: Rc<Worker>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ticks = 0u32;
    loop {
        let due = interval.tick().await.into_std();
        worker.deadlines.tick();
        worker.deadlines.give_up(worker.shares.take_too_many(worker.number));
        worker.look_at_queues();
        worker.shares.ticks(worker.number, due);
        worker.flush_log();
        worker.deposit();
        ticks = ticks.wrapping_add(1);
        if ticks.is_multiple_of(SWEEP_TICKS) {
            worker.sweep_pools();
            worker.leaving.borrow_mut().retain(|leaving| worker.deadlines.now().0 < leaving.until);
        }
    }
}
