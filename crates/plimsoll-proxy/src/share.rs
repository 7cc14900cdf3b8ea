//! Even shares of connections: a worker that holds more than another hands new ones over to it.
//!
//! The kernel spreads clients over the workers' sockets by a hash, which is fair for many short connections and not for few long ones. Each
//! worker's count is public, so whoever accepts knows who has least; the difference has to be worth a wake-up of another thread. A worker that
//! ends closes its inbox first and empties it then, so that nobody is lost between two workers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::lag::Lag;
use crate::listener::Places;

/// Clients that may be on their way to one worker.
const INBOX: usize = 1024;
/// A difference of so many connections is not worth handing over; nor is one below an eighth of what the accepting worker has.
const SMALL: u32 = 2;

/// A client on its way to another worker.
pub(crate) struct Handed {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    /// The number of the listener.
    pub(crate) listener: usize,
    pub(crate) places: Places,
}

/// What all workers know of each other.
pub(crate) struct Shares {
    workers: Box<[Share]>,
}

/// Two cache lines, so that counting is not felt by the neighbour.
#[repr(align(128))]
struct Share {
    open: AtomicU32,
    /// Idle connections that it is to close.
    too_many: AtomicU32,
    lag: Lag,
    inbox: Sender<Handed>,
}

impl Shares {
    /// For so many workers, with the inbox of each.
    pub(crate) fn new(workers: usize) -> (Arc<Shares>, Vec<Receiver<Handed>>) {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| channel(INBOX)).unzip();
        let now = Instant::now();
        let share =
            |inbox| Share { open: AtomicU32::new(0), too_many: AtomicU32::new(0), lag: Lag::new(now), inbox };
        let workers = senders.into_iter().map(share).collect();
        (Arc::new(Shares { workers }), receivers)
    }

    /// The event loop of `worker` ticks, and should have when it was due.
    pub(crate) fn ticks(&self, worker: usize, due: Instant) {
        self.workers[worker].lag.tick(due, Instant::now());
    }

    /// By how much the latest event loop was late since the last look, at the least, among the workers that still run.
    pub(crate) fn take_lag(&self, runs: impl Fn(usize) -> bool) -> Duration {
        let now = Instant::now();
        let lags = self.workers.iter().enumerate().map(|(n, worker)| (n, worker.lag.take(now)));
        lags.filter(|(n, _)| runs(*n)).map(|(_, lag)| lag).max().unwrap_or_default()
    }

    /// So many connections are too many: each worker is to close its part of them, of those that are idle.
    pub(crate) fn too_many(&self, connections: u32) {
        let open = |worker: &Share| u64::from(worker.open.load(Ordering::Relaxed));
        let all = self.workers.iter().map(open).sum::<u64>().max(1);
        for worker in &self.workers {
            let part = (u64::from(connections) * open(worker)).div_ceil(all);
            worker.too_many.store(part as u32, Ordering::Relaxed);
        }
    }

    /// The idle connections that `worker` is to close now.
    pub(crate) fn take_too_many(&self, worker: usize) -> usize {
        self.workers[worker].too_many.swap(0, Ordering::Relaxed) as usize
    }

    /// Who should serve a client that `worker` has accepted.
    pub(crate) fn whose(&self, worker: usize) -> usize {
        let open = |n: usize| self.workers[n].open.load(Ordering::Relaxed);
        let mine = open(worker);
        let least = (0..self.workers.len()).min_by_key(|&n| open(n)).unwrap_or(worker);
        if mine >= open(least) + SMALL.max(mine / 8) { least } else { worker }
    }

    /// Counts a connection of `worker` for as long as the result lives.
    pub(crate) fn count(self: &Arc<Self>, worker: usize) -> Counted {
        self.workers[worker].open.fetch_add(1, Ordering::Relaxed);
        Counted { shares: Arc::clone(self), worker }
    }

    /// Hands a client over, or gives it back if that worker is ending or behind.
    pub(crate) fn hand_over(&self, worker: usize, handed: Handed) -> Result<(), Handed> {
        self.workers[worker]
            .inbox
            .try_send(handed)
            .map_err(tokio::sync::mpsc::error::TrySendError::into_inner)
    }
}

/// One connection of a worker.
pub(crate) struct Counted {
    shares: Arc<Shares>,
    worker: usize,
}

impl Counted {
    /// It is another worker's after all.
    pub(crate) fn moves_to(self, worker: usize) -> Counted {
        self.shares.count(worker)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shares.workers[self.worker].open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_connections_go_to_the_worker_with_least_once_it_matters() {
        let (shares, _inboxes) = Shares::new(3);
        let mut held = vec![shares.count(0)];
        assert_eq!(shares.whose(0), 0, "one more is not worth a wake-up");
        held.push(shares.count(0));
        held.push(shares.count(1));
        assert_eq!(shares.whose(0), 2);
        assert_eq!(shares.whose(1), 1);
        let moved = held.pop().expect("three").moves_to(2);
        assert_eq!(shares.whose(0), 1);
        drop((moved, held));
        assert_eq!(shares.whose(0), 0);
    }

    #[test]
    fn among_many_only_a_large_difference_counts() {
        let (shares, _inboxes) = Shares::new(2);
        let _mine: Vec<_> = (0..1000).map(|_| shares.count(0)).collect();
        let mut theirs: Vec<_> = (0..900).map(|_| shares.count(1)).collect();
        assert_eq!(shares.whose(0), 0);
        theirs.truncate(800);
        assert_eq!(shares.whose(0), 1);
    }
}
