//! Who begins next: a worker finishes what it has begun before it begins much more.
//!
//! When a thousand clients ask at once, a worker that read all their requests first would have a thousand exchanges under way, each with its memory,
//! its connection to a server and the kernel's part of it long out of the cache when the answer comes. So in one turn of the event loop only
//! [`BATCH`] requests begin. The others wait in the order of their coming, unread, and the sockets are looked at again before the next ones
//! begin: answers that have come meanwhile are passed on first. It never waits for anything, so a slow server holds nobody else up.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

/// Requests that begin in one turn.
const BATCH: u32 = 16;

/// A worker's turns.
pub(crate) struct Turns {
    /// How often the worker has had nothing left to do; written by its runtime's hook.
    rests: Arc<AtomicU64>,
    rested: Cell<u64>,
    /// Requests that may still begin in this turn.
    left: Cell<u32>,
    queue: RefCell<VecDeque<Waker>>,
    /// Tickets that were given out, and the last one that may begin.
    given: Cell<u64>,
    called: Cell<u64>,
    caller: RefCell<Option<Waker>>,
}

/// A client's place in the queue; 0 for none.
#[derive(Default)]
pub(crate) struct Ticket(u64);

impl Turns {
    pub(crate) fn new(rests: Arc<AtomicU64>) -> Turns {
        Turns {
            rests,
            rested: Cell::new(0),
            left: Cell::new(BATCH),
            queue: RefCell::default(),
            given: Cell::new(0),
            called: Cell::new(0),
            caller: RefCell::default(),
        }
    }

    /// Ready when the client may begin a request.
    pub(crate) fn poll_begin(&self, cx: &Context<'_>, ticket: &mut Ticket) -> Poll<()> {
        if ticket.0 == 0 {
            // Relaxed: the hook runs on this thread.
            let rests = self.rests.load(Ordering::Relaxed);
            if self.rested.replace(rests) != rests {
                self.left.set(BATCH);
            }
            if self.left.get() > 0 && self.queue.borrow().is_empty() {
                self.left.set(self.left.get() - 1);
                return Poll::Ready(());
            }
            self.given.set(self.given.get() + 1);
            ticket.0 = self.given.get();
            self.queue.borrow_mut().push_back(cx.waker().clone());
            if let Some(caller) = self.caller.borrow_mut().take() {
                caller.wake();
            }
        }
        if ticket.0 > self.called.get() {
            return Poll::Pending;
        }
        ticket.0 = 0;
        Poll::Ready(())
    }

    /// Calls those who wait, a batch a turn; never ends.
    pub(crate) async fn call(self: Rc<Self>) {
        loop {
            poll_fn(|cx| {
                if !self.queue.borrow().is_empty() {
                    return Poll::Ready(());
                }
                *self.caller.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
            // The runtime looks at the sockets before it goes on here.
            tokio::task::yield_now().await;
            let batch = self.queue.borrow().len().min(BATCH as usize);
            self.called.set(self.called.get() + batch as u64);
            self.left.set(BATCH - batch as u32);
            self.queue.borrow_mut().drain(..batch).for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;

    struct Client {
        woken: Arc<Count>,
        ticket: Ticket,
    }
    #[derive(Default)]
    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Client {
        fn new() -> Client {
            Client { woken: Arc::default(), ticket: Ticket::default() }
        }
        fn begins(&mut self, turns: &Turns) -> bool {
            let waker = Waker::from(Arc::clone(&self.woken));
            turns.poll_begin(&Context::from_waker(&waker), &mut self.ticket).is_ready()
        }
        fn is_woken(&self) -> bool {
            self.woken.0.load(Ordering::Relaxed) > 0
        }
    }

    fn turns() -> (Rc<Turns>, Arc<AtomicU64>) {
        let rests = Arc::new(AtomicU64::new(0));
        (Rc::new(Turns::new(Arc::clone(&rests))), rests)
    }

    async fn a_turn() {
        tokio::task::yield_now().await;
    }

    #[test]
    fn a_turn_begins_a_batch_and_a_rest_begins_a_turn() {
        let (turns, rests) = turns();
        let begun = || (0..3 * BATCH).take_while(|_| Client::new().begins(&turns)).count();
        assert_eq!(begun(), BATCH as usize);
        rests.fetch_add(1, Ordering::Relaxed);
        assert_eq!(begun(), 0, "one waits, and nobody goes before it");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_waits_is_called_in_order_a_batch_a_turn() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let (turns, _) = turns();
                tokio::task::spawn_local(Rc::clone(&turns).call());
                let mut clients: Vec<Client> = (0..4 * BATCH).map(|_| Client::new()).collect();
                let begun = clients.iter_mut().map(|c| c.begins(&turns)).filter(|&begins| begins).count();
                assert_eq!(begun, BATCH as usize);
                for turn in 1..4 {
                    while !clients[(turn * BATCH) as usize].is_woken() {
                        a_turn().await;
                    }
                    let called = clients.iter().filter(|client| client.is_woken()).count();
                    assert_eq!(called as u32, turn * BATCH);
                    let next = (turn * BATCH) as usize;
                    assert!(clients[next..next + BATCH as usize].iter_mut().all(|c| c.begins(&turns)));
                    assert!(clients.get_mut(next + BATCH as usize).is_none_or(|c| !c.begins(&turns)));
                    let mut late = Client::new();
                    assert!(turn == 3 || !late.begins(&turns), "who comes later does not begin sooner");
                }
            })
            .await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_left_costs_the_others_nothing() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let (turns, _) = turns();
                tokio::task::spawn_local(Rc::clone(&turns).call());
                (0..BATCH).for_each(|_| assert!(Client::new().begins(&turns)));
                (0..2 * BATCH).for_each(|_| assert!(!Client::new().begins(&turns))); // gone at once
                let mut patient = Client::new();
                assert!(!patient.begins(&turns));
                for _ in 0..20 {
                    a_turn().await;
                }
                assert!(patient.is_woken() && patient.begins(&turns));
            })
            .await;
    }
}
