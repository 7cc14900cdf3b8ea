//! One worker: a thread with its own runtime, listeners, connections, idle pools, dice and buffers.
//!
//! Nothing here is shared with other workers but what `Shared` names. The worker ends when it drains and its last
//! connection is gone, or at once when told to cut; dropping its runtime drops every exchange, and their guards give back what they held.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use plimsoll_http::{Head, Kind};
use plimsoll_traffic::Dice;
use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, watch};

use crate::access_log::AccessLog;
use crate::buffer::Buffers;
use crate::clock::WallClock;
use crate::deadline::{Deadlines, TICK};
use crate::listener::{self, Doors};
use crate::snapshot::{Snapshot, View};

/// Small things that a worker keeps for reuse, each.
const KEPT: usize = 256;
/// Idle pools are looked through every so many ticks: once a second.
const SWEEP_TICKS: u32 = 20;

/// What workers are told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Serve,
    Drain,
    Cut,
}

/// What a worker starts with.
pub(crate) struct Start {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) doors: Vec<Doors>,
    pub(crate) log: Option<AccessLog>,
    pub(crate) orders: watch::Receiver<Order>,
    pub(crate) epoch: Instant,
    pub(crate) seed: u64,
}

/// A worker's own things.
pub(crate) struct Worker {
    view: RefCell<Rc<View>>,
    pub(crate) dice: RefCell<Dice>,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) buffers: Buffers,
    pub(crate) wall: WallClock,
    pub(crate) log: Option<AccessLog>,
    pub(crate) draining: Cell<bool>,
    #[expect(clippy::vec_box, reason = "a head moves from task to task; its fields stay where they are")]
    heads: RefCell<Vec<Box<Head>>>,
    texts: RefCell<Vec<Vec<u8>>>,
    /// Accept loops and connections that are still there.
    busy: Cell<u32>,
    quiet: Notify,
}

impl Worker {
    /// The configuration of the moment; an exchange keeps what it got.
    pub(crate) fn view(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
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

    fn drain(&self) {
        self.draining.set(true);
        self.deadlines.wake_all();
    }

    /// Closes every idle connection to a server: descriptors are short.
    pub(crate) fn close_idle(&self) {
        for pool in self.view().backends.iter().flat_map(|upstream| &upstream.pools) {
            pool.clear();
        }
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

/// Runs a worker to its end on the calling thread. True if requests were cut.
///
/// # Errors
/// The runtime cannot be made.
pub(crate) fn run(start: Start) -> io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build_local(LocalOptions::default())?;
    let mut dice = Dice::new(start.seed);
    let worker = Rc::new(Worker {
        view: RefCell::new(Rc::new(View::new(start.snapshot, &mut dice))),
        dice: RefCell::new(dice),
        deadlines: Deadlines::new(start.epoch),
        buffers: Buffers::default(),
        wall: WallClock::default(),
        log: start.log,
        draining: Cell::new(false),
        heads: RefCell::default(),
        texts: RefCell::default(),
        busy: Cell::new(0),
        quiet: Notify::new(),
    });
    let orders = start.orders;
    runtime.block_on(serve(&worker, start.doors, orders));
    let cut = worker.busy.get() > 0;
    drop(runtime);
    if let Some(log) = &worker.log {
        log.flush();
    }
    Ok(cut)
}

/// Serves until there is nothing left to do, or the order to cut.
async fn serve(worker: &Rc<Worker>, doors: Vec<Doors>, mut orders: watch::Receiver<Order>) {
    worker.deadlines.tick();
    for door in doors {
        tokio::task::spawn_local(listener::accept(Rc::clone(worker), door, orders.clone()));
    }
    tokio::task::spawn_local(tick(Rc::clone(worker)));
    loop {
        let order = *orders.borrow_and_update();
        match order {
            Order::Serve => {}
            Order::Drain => worker.drain(),
            Order::Cut => return,
        }
        // Before every wait: the last task may have ended, and said so, before the order was seen.
        if worker.draining.get() && worker.busy.get() == 0 {
            return;
        }
        // The loser of the select is only a wait; nothing is lost with it.
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { return },
            () = worker.quiet.notified() => {}
        }
    }
}

/// The worker's heartbeat: deadlines, log lines, idle pools.
async fn tick(worker: Rc<Worker>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ticks = 0u32;
    loop {
        interval.tick().await;
        worker.deadlines.tick();
        if let Some(log) = &worker.log {
            log.flush();
        }
        ticks = ticks.wrapping_add(1);
        if ticks.is_multiple_of(SWEEP_TICKS) {
            worker.sweep_pools();
        }
    }
}
