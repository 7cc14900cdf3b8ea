//! A server as the balancer sees it: what the file says about it, and its live counters.
//!
//! In come picks, connects and refusals of all workers; out goes how loaded it is and whether it just refused. `Live`
//! belongs to the identity (name and address) and outlives any one configuration. It must never hold a slot that
//! nobody gives back: only `Lease` raises `in_flight`, and its drop lowers it.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use plimsoll_config::model::Address;

use crate::time::Millis;

/// How long a server that refused a connection is passed over by everyone, in milliseconds.
///
/// Long enough that a dead server costs one failed connect a second instead of one a request, short enough that a
/// restarted one is back before anybody looks. Health checks, once there, decide about longer.
pub const REFUSED_FOR: u64 = 1_000;

/// One server of a backend.
#[derive(Debug)]
pub struct Server {
    /// The identity, unique in the backend; hashing goes by it.
    pub name: Box<str>,
    /// Where it listens.
    pub address: Address,
    /// Its part of the traffic; 0 takes nothing new.
    pub weight: u16,
    /// Serves only when no primary can.
    pub backup: bool,
    /// Requests in flight at once, over all workers.
    pub max_requests: u32,
    /// Counters that all workers, and later configurations, share.
    pub live: Arc<Live>,
}

/// The live counters of one server.
///
/// Alone on its two cache lines: every pick reads and every request writes it, from all cores. The orderings are
/// `Relaxed` throughout, because each field is a fact by itself and no other memory is published through it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Live {
    in_flight: AtomicU32,
    refused_until: AtomicU64,
    total: AtomicU64,
    refusals: AtomicU64,
}

impl Live {
    /// Requests assigned and not yet ended.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Requests assigned since the process started.
    pub fn assigned(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// Connects that were refused or timed out since the process started.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Relaxed)
    }

    /// A connect was refused or timed out: for [`REFUSED_FOR`] nobody chooses this server, unless no other is left.
    pub fn refused(&self, now: Millis) {
        self.refusals.fetch_add(1, Relaxed);
        // The maximum, so that a worker with an older `now` cannot shorten what another has set.
        self.refused_until.fetch_max(now.0.saturating_add(REFUSED_FOR), Relaxed);
    }

    /// A connect succeeded: what an earlier refusal said is over.
    pub fn connected(&self) {
        // Reads first: a write on every connect would take the line away from all other cores.
        if self.refused_until.load(Relaxed) != 0 {
            self.refused_until.store(0, Relaxed);
        }
    }

    /// Whether it refused a connection within the last [`REFUSED_FOR`].
    pub fn is_refused(&self, now: Millis) -> bool {
        now.0 < self.refused_until.load(Relaxed)
    }

    /// Takes a slot unless `max` are taken. One atomic step, so all workers together never exceed `max`, not even for
    /// an instant (raising first and checking afterwards would).
    pub(crate) fn take(&self, max: u32) -> bool {
        let taken = self.in_flight.fetch_update(Relaxed, Relaxed, |n| (n < max).then(|| n + 1)).is_ok();
        if taken {
            self.total.fetch_add(1, Relaxed);
        }
        taken
    }

    /// Gives back a slot that `take` took.
    pub(crate) fn give_back(&self) {
        let before = self.in_flight.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "a slot was given back that nobody had taken");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_passed_over_for_one_second_after_a_refusal() {
        let live = Live::default();
        assert!(!live.is_refused(Millis(0)), "a new server has refused nobody");
        live.refused(Millis(0));
        assert!(live.is_refused(Millis(0)) && live.is_refused(Millis(999)));
        assert!(!live.is_refused(Millis(1_000)));
        assert_eq!(live.refusals(), 1);
    }

    #[test]
    fn a_late_report_of_an_old_refusal_does_not_shorten_a_newer_one() {
        let live = Live::default();
        live.refused(Millis(500));
        live.refused(Millis(100));
        assert!(live.is_refused(Millis(1_499)));
    }

    #[test]
    fn a_successful_connect_ends_a_refusal() {
        let live = Live::default();
        live.refused(Millis(10));
        live.connected();
        assert!(!live.is_refused(Millis(10)));
    }

    #[test]
    fn takes_no_more_slots_than_the_maximum() {
        let live = Live::default();
        assert!(live.take(2) && live.take(2) && !live.take(2));
        live.give_back();
        assert!(live.take(2));
        assert_eq!((live.in_flight(), live.assigned()), (2, 3));
    }

    #[test]
    fn shares_a_cache_line_with_nobody() {
        assert_eq!((size_of::<Live>(), align_of::<Live>()), (128, 128));
    }
}
