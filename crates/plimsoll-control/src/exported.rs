//! What became of recorded spans since the process started, whichever exporter had them, and how it goes with the collector in force.
//!
//! Exporters write it; the metrics page and `/status` read it. Decides nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use plimsoll_proxy::Stats;

/// How it goes.
pub(crate) static EXPORTED: Exported = Exported::new();

/// Counts of all exporters, and how it goes with one of them.
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
    /// Requests to a collector that failed.
    pub(crate) failures: AtomicU64,
    /// Of the exporter in force; those before it may still send what they got.
    shown: Mutex<Option<Arc<Sending>>>,
}

/// How it goes with one exporter's collector.
#[derive(Debug, Default)]
pub(crate) struct Sending(Mutex<Last>);

/// How the last request went, and when and why one last failed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Last {
    pub(crate) is_failing: bool,
    pub(crate) error: Option<(SystemTime, String)>,
}

impl Sending {
    fn lock(&self) -> MutexGuard<'_, Last> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exported {
    const fn new() -> Exported {
        Exported {
            taken: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            shown: Mutex::new(None),
        }
    }

    /// A collector took a message, perhaps not all of it.
    pub(crate) fn succeeded(&self, sending: &Sending, taken: u64, rejected: u64) {
        self.taken.fetch_add(taken, Relaxed);
        self.rejected.fetch_add(rejected, Relaxed);
        sending.lock().is_failing = false;
    }

    /// A request to a collector failed.
    pub(crate) fn failed(&self, sending: &Sending, reason: &str) {
        self.failures.fetch_add(1, Relaxed);
        *sending.lock() = Last { is_failing: true, error: Some((SystemTime::now(), reason.to_owned())) };
    }

    /// There is another exporter now, or none.
    pub(crate) fn show(&self, sending: Option<Arc<Sending>>) {
        *self.shown() = sending;
    }

    /// How it goes with the collector in force.
    pub(crate) fn last(&self) -> Last {
        self.shown().as_ref().map(|sending| sending.lock().clone()).unwrap_or_default()
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

    fn shown(&self) -> MutexGuard<'_, Option<Arc<Sending>>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_a_replaced_exporters_last_spans_is_not_said_of_its_successor() {
        let exported = Exported::new();
        let reason = || exported.last().error.map(|(_, reason)| reason);
        let [old, new] = [(); 2].map(|()| Arc::new(Sending::default()));
        exported.show(Some(Arc::clone(&old)));
        exported.failed(&old, "the old one is gone");
        assert_eq!((exported.last().is_failing, reason().as_deref()), (true, Some("the old one is gone")));
        exported.show(Some(Arc::clone(&new)));
        exported.failed(&old, "the old one is still gone");
        assert_eq!((exported.last().is_failing, reason()), (false, None));
        exported.failed(&new, "the new one is gone too");
        exported.succeeded(&old, 3, 1);
        assert_eq!(
            (exported.last().is_failing, reason().as_deref()),
            (true, Some("the new one is gone too"))
        );
        exported.show(None);
        assert_eq!((exported.last().is_failing, reason()), (false, None));
        let read = |n: &AtomicU64| n.load(Relaxed);
        let counts = [&exported.failures, &exported.taken, &exported.rejected].map(read);
        assert_eq!(counts, [3, 3, 1], "counts are of all");
    }
}
