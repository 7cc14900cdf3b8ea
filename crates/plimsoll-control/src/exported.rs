//! What became of recorded spans since the process started, whichever exporter had them, and how the last request to a collector went.
//!
//! Exporters write it; the metrics page and `/status` read it. Decides nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use plimsoll_proxy::Stats;

/// How it goes.
pub(crate) static EXPORTED: Exported = Exported {
    taken: AtomicU64::new(0),
    unsent: AtomicU64::new(0),
    rejected: AtomicU64::new(0),
    cut: AtomicU64::new(0),
    failures: AtomicU64::new(0),
    last: Mutex::new(Last { is_failing: false, error: None }),
};

/// Counts, and the last request.
#[derive(Debug)]
pub(crate) struct Exported {
    /// By a collector.
    pub(crate) taken: AtomicU64,
    /// Given up after failures.
    pub(crate) unsent: AtomicU64,
    /// The collector took the message but not these.
    pub(crate) rejected: AtomicU64,
    /// Still there when the process had to end.
    pub(crate) cut: AtomicU64,
    /// Requests to the collector that failed.
    pub(crate) failures: AtomicU64,
    last: Mutex<Last>,
}

/// How the last request went, and when and why one last failed.
#[derive(Debug, Clone)]
pub(crate) struct Last {
    pub(crate) is_failing: bool,
    pub(crate) error: Option<(SystemTime, String)>,
}

impl Exported {
    /// The collector took a message, perhaps not all of it.
    pub(crate) fn succeeded(&self, taken: u64, rejected: u64) {
        self.taken.fetch_add(taken, Relaxed);
        self.rejected.fetch_add(rejected, Relaxed);
        self.lock().is_failing = false;
    }

    /// A request to the collector failed.
    pub(crate) fn failed(&self, reason: &str) {
        self.failures.fetch_add(1, Relaxed);
        *self.lock() = Last { is_failing: true, error: Some((SystemTime::now(), reason.to_owned())) };
    }

    /// There is another collector now, or none, of which nothing is known.
    pub(crate) fn begin_anew(&self) {
        *self.lock() = Last { is_failing: false, error: None };
    }

    pub(crate) fn last(&self) -> Last {
        self.lock().clone()
    }

    /// Spans that were recorded and not taken, by reason.
    pub(crate) fn dropped(&self, stats: &Stats) -> [(&'static str, u64); 4] {
        let read = |n: &AtomicU64| n.load(Relaxed);
        [
            ("queue_full", stats.spans_dropped()),
            ("not_sent", read(&self.unsent)),
            ("rejected", read(&self.rejected)),
            ("stopped", read(&self.cut)),
        ]
    }

    fn lock(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
