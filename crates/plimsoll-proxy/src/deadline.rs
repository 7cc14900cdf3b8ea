//! Deadlines without timers: one coarse tick a worker looks at all of them.
//!
//! A connection owns one [`Timer`]. Arming it is a store; nothing is registered anywhere, so a request that moves its deadline
//! five times costs five stores. The tick, every [`TICK`], scans the table and wakes the tasks whose time has come. A deadline
//! is met up to one tick late, which every timeout of a proxy can bear.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use plimsoll_traffic::{Micros, Millis};

/// How often deadlines are looked at.
pub(crate) const TICK: Duration = Duration::from_millis(50);

const NEVER: u64 = u64::MAX;
/// Marks the deadline of who is idle, and may be given up before it. No time ever reaches it.
const IDLE: u64 = 1 << 63;

/// All deadlines of one worker, and its coarse clock.
pub(crate) struct Deadlines {
    epoch: Instant,
    now: Cell<u64>,
    /// The same time in microseconds.
    micros: Cell<u64>,
    /// When each slot is due, in milliseconds since `epoch`; kept apart from the wakers so that the scan stays in cache.
    due: RefCell<Vec<u64>>,
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<u32>>,
    /// Slots to wake at the next tick, due or not.
    soon: RefCell<Vec<u32>>,
}

impl Deadlines {
    pub(crate) fn new(epoch: Instant) -> Rc<Deadlines> {
        Rc::new(Deadlines {
            epoch,
            now: Cell::new(0),
            micros: Cell::new(0),
            due: RefCell::default(),
            wakers: RefCell::default(),
            free: RefCell::default(),
            soon: RefCell::default(),
        })
    }

    /// The time of the last tick, or of the last [`Deadlines::precise`].
    pub(crate) fn now(&self) -> Millis {
        Millis(self.now.get())
    }

    /// The same, as fine as it was read.
    pub(crate) fn micros(&self) -> Micros {
        Micros(self.micros.get())
    }

    /// Reads the clock, and moves the coarse one along.
    pub(crate) fn precise(&self) -> Instant {
        let instant = Instant::now();
        let elapsed = instant.duration_since(self.epoch);
        let micros = elapsed.as_secs() * 1_000_000 + u64::from(elapsed.subsec_micros());
        self.now.set(micros / 1_000);
        self.micros.set(micros);
        instant
    }

    /// Wakes every task whose deadline has passed.
    pub(crate) fn tick(&self) {
        self.precise();
        let now = self.now.get();
        self.wake_where(|due| due & !IDLE <= now);
        let wakers = self.wakers.borrow();
        let soon = self
            .soon
            .borrow_mut()
            .drain(..)
            .filter_map(|slot| wakers[slot as usize].clone())
            .collect::<Vec<_>>();
        soon.into_iter().for_each(Waker::wake);
    }

    /// Wakes every task, so that each sees that the worker drains.
    pub(crate) fn wake_all(&self) {
        self.wake_where(|_| true);
    }

    /// Those of so many tasks that have been idle longest find that their time has come, if they were [armed](Timer::arm_idle) alike.
    pub(crate) fn give_up(&self, most: usize) {
        if most == 0 {
            return; // nearly always: nothing is looked through for it
        }
        let is_idle = |due: u64| due & IDLE != 0 && due != NEVER;
        let mut idle: Vec<u64> = self.due.borrow().iter().copied().filter(|&due| is_idle(due)).collect();
        let Some(last) = most.min(idle.len()).checked_sub(1) else { return };
        let (_, &mut last, _) = idle.select_nth_unstable(last);
        for due in self.due.borrow_mut().iter_mut().filter(|due| is_idle(**due) && **due <= last).take(most) {
            *due = self.now.get();
        }
        self.wake_where(|due| due <= self.now.get());
    }

    fn wake_where(&self, is_due: impl Fn(u64) -> bool) {
        let wakers = self.wakers.borrow();
        for (slot, due) in self.due.borrow().iter().enumerate() {
            if is_due(*due)
                && let Some(waker) = &wakers[slot]
            {
                waker.wake_by_ref();
            }
        }
    }

    /// A timer for the calling task.
    pub(crate) fn timer(self: &Rc<Self>) -> Timer {
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            self.due.borrow_mut().push(NEVER);
            self.wakers.borrow_mut().push(None);
            (self.due.borrow().len() - 1) as u32
        });
        Timer { deadlines: Rc::clone(self), slot }
    }
}

/// One deadline, belonging to one task. Dropping it gives the slot back.
pub(crate) struct Timer {
    deadlines: Rc<Deadlines>,
    slot: u32,
}

impl Timer {
    /// Due `after` from now, in place of any earlier deadline.
    pub(crate) fn arm(&self, after: Duration) {
        self.arm_at(self.deadlines.now.get().saturating_add(after.as_millis() as u64));
    }

    /// The same for who only waits to be asked, and may be [given up](Deadlines::give_up).
    pub(crate) fn arm_idle(&self, after: Duration) {
        let at = self.deadlines.now.get().saturating_add(after.as_millis() as u64);
        self.arm_at(at.min(!IDLE >> 1) | IDLE);
    }

    /// Due at `at` milliseconds.
    pub(crate) fn arm_at(&self, at: u64) {
        self.deadlines.due.borrow_mut()[self.slot as usize] = at;
    }

    /// Wakes the task at the next tick, without being due; only behind [`Timer::poll_due`].
    pub(crate) fn wake_at_tick(&self) {
        self.deadlines.soon.borrow_mut().push(self.slot);
    }

    /// Never due.
    pub(crate) fn disarm(&self) {
        self.arm_at(NEVER);
    }

    /// True once the deadline has passed; until then the task is woken when it does.
    pub(crate) fn poll_due(&self, cx: &Context<'_>) -> bool {
        let waker = &mut self.deadlines.wakers.borrow_mut()[self.slot as usize];
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.deadlines.due.borrow()[self.slot as usize] & !IDLE <= self.deadlines.now.get()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.disarm();
        self.deadlines.wakers.borrow_mut()[self.slot as usize] = None;
        self.deadlines.free.borrow_mut().push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_tick_wakes_what_is_due_and_nothing_else() {
        let count = Arc::new(Count(AtomicU32::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        let deadlines = Deadlines::new(Instant::now());
        let (soon, late) = (deadlines.timer(), deadlines.timer());
        soon.arm_at(0);
        late.arm(Duration::from_secs(3600));
        assert!(soon.poll_due(&cx));
        assert!(!late.poll_due(&cx));
        deadlines.tick();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        drop(soon);
        deadlines.tick();
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "a dropped timer wakes nobody");
        deadlines.wake_all();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        late.wake_at_tick();
        deadlines.tick();
        deadlines.tick();
        assert_eq!(count.0.load(Ordering::Relaxed), 3, "once, and without being due");
        assert!(!late.poll_due(&cx));
    }

    #[test]
    fn those_that_idle_longest_are_given_up_and_nobody_who_is_at_work() {
        let waker = Waker::from(Arc::new(Count(AtomicU32::new(0))));
        let cx = Context::from_waker(&waker);
        let deadlines = Deadlines::new(Instant::now());
        let timers: Vec<Timer> = (0..9).map(|_| deadlines.timer()).collect();
        // By threes at work, idle, and idle for longer the higher their number is.
        for (n, timer) in timers.iter().enumerate() {
            let after = Duration::from_secs(1_000 - n as u64);
            if n % 3 == 0 { timer.arm(after) } else { timer.arm_idle(after) }
        }
        let given_up =
            || timers.iter().enumerate().filter(|(_, t)| t.poll_due(&cx)).map(|(n, _)| n).collect::<Vec<_>>();
        deadlines.give_up(0);
        assert!(given_up().is_empty());
        deadlines.give_up(2);
        assert_eq!(given_up(), [7, 8]);
        deadlines.give_up(1);
        assert_eq!(given_up(), [5, 7, 8]);
        deadlines.give_up(100);
        assert_eq!(given_up(), [1, 2, 4, 5, 7, 8]);
        let of_one_moment: Vec<Timer> = (0..4).map(|_| deadlines.timer()).collect();
        of_one_moment.iter().for_each(|timer| timer.arm_idle(Duration::from_secs(9)));
        deadlines.give_up(3);
        assert_eq!(of_one_moment.iter().filter(|timer| timer.poll_due(&cx)).count(), 3, "and no more");
        let forever = deadlines.timer();
        forever.arm_idle(Duration::MAX);
        deadlines.tick();
        assert!(!forever.poll_due(&cx));
    }
}
