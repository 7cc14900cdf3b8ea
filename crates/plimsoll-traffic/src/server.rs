//! A server as the balancer sees it: what the file says about it, and its live counters.
//!
//! In come picks, connects and refusals of all workers; out goes how loaded it is and whether it just refused. `Live`
//! belongs to the identity (name and address) and outlives any one configuration. It must never hold a slot that
//! nobody gives back: only `Lease` raises `in_flight`, and its drop lowers it.

use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::Arc;

use plimsoll_config::model::{Address, ServerState};
use xxhash_rust::xxh3::xxh3_64;

use crate::ewma::stamp;
use crate::gradient::Gradient;
use crate::health::{CheckRules, Health};
use crate::reported::Said;
use crate::time::{Micros, Millis};

/// How long a server that refused a connection is passed over by everyone, in milliseconds.
///
/// Long enough that a dead server costs one failed connect a second instead of one a request, short enough that a
/// restarted one is back before anybody looks. `health` decides about longer.
pub const REFUSED_FOR: u64 = 1_000;

/// One server of a backend.
#[derive(Debug)]
pub struct Server {
    /// The identity, unique in the backend; hashing goes by it.
    pub name: Box<str>,
    /// Where it listens.
    pub address: Address,
    /// Its part of the traffic, in the backend's own unit (see `share`); 0 takes nothing new.
    pub weight: u16,
    /// 0 serves first.
    pub priority: u8,
    /// Serves only when no other can.
    pub backup: bool,
    /// Requests in flight at once, over all workers, as the file says; see also [`most`](Server::most).
    pub max_requests: u32,
    /// Whether it is to get requests.
    pub state: ServerState,
    /// It says itself that it cannot serve.
    pub says_down: bool,
    /// Counters that all workers, and later configurations, share.
    pub live: Arc<Live>,
    /// How many results of checks change its state; `None`: it is not checked.
    pub(crate) check: Option<CheckRules>,
    /// Whether it can serve, and why not.
    pub(crate) health: Arc<Health>,
    /// How its limit is found out, if it is.
    pub(crate) gradient: Option<Arc<Gradient>>,
}

impl Server {
    /// Whether anything new may go there at all, as far as the file and operators say.
    pub fn takes(&self) -> bool {
        self.weight > 0 && self.state == ServerState::Ready
    }

    /// Whether nothing speaks against it: its check passes, if there is one, it is not ejected, and does not say itself that it is down.
    pub fn is_well(&self) -> bool {
        !self.says_down && self.health.record().is_well()
    }

    /// Requests that it may have in flight now: `max_requests`, or less where a limit was found out.
    #[inline(always)] // what nearly every pick consists of
    pub fn most(&self) -> u32 {
        if self.gradient.is_none() { self.max_requests } else { self.max_requests.min(self.live.limit()) }
    }

    /// Whether it may have another one.
    #[inline(always)]
    pub fn has_room(&self) -> bool {
        self.live.in_flight() < self.most()
    }

    /// A number of its own.
    pub(crate) fn seed(&self) -> u64 {
        xxh3_64(self.name.as_bytes())
    }
}

/// The bit of `closed_until` that says that health keeps a server out.
const BARRED: u64 = 1 << 63;
/// The bit that says that it is to be left out of all counts as well. The other bits are a time.
const UNCOUNTED: u64 = 1 << 62;
const BARS: u64 = BARRED | UNCOUNTED;

/// Whether health keeps a server out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bar {
    /// It serves.
    Open,
    /// It is unwell.
    Unwell,
    /// None of its checks has ever passed: until then it is as if it were not there.
    New,
}

/// The live counters of one server.
///
/// Alone on its two cache lines: every pick reads and every request writes it, from all cores. The orderings are
/// `Relaxed` throughout, because each field is a fact by itself and no other memory is published through it. Every change is one
/// atomic step on one field, and atomic steps on one field have one order that all cores agree on, whatever the ordering. So
/// whatever workers do at the same time is the same as some order of whole calls, and tests with one thread say all there is
/// to say about each field. Nothing may be concluded from two fields together.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Live {
    in_flight: AtomicU32,
    /// Until when it is passed over, in milliseconds; with [`BARS`] for as long as these bits stay. One word, so that a pick looks at one.
    closed_until: AtomicU64,
    total: AtomicU64,
    refusals: AtomicU64,
    /// Requests that failed: in a row, and in all.
    row: AtomicU32,
    failures: AtomicU64,
    ejections: AtomicU32,
    /// All ones but for the limit that was found out, so that 0 is none.
    unlimited: AtomicU32,
    /// When connections broke last, in microseconds.
    broke: AtomicU64,
    /// The requests whose answer is awaited, in the low `WAITING_BITS`; above them the sum of the times at which they were sent, in
    /// microseconds, modulo what there is room for. One word, so that nobody ever reads a sum with another's count.
    waiting: AtomicU64,
    /// The expected latency: an `f32` in microseconds, and below it the stamp of when that was said. 0 for none.
    latency: AtomicU64,
    /// When its share began to grow, in milliseconds; 0 when it is whole, `ramp::NEW` before the first pick.
    pub(crate) ramp: AtomicU64,
    /// What it reported of its capacity; see `reported`.
    pub(crate) said: Said,
    /// Which word of its own was heard last; see `balancer::heard`.
    pub(crate) heard: AtomicU64,
}

/// A million requests that wait at one server; beyond that their mean age is wrong, and nothing else.
const WAITING_BITS: u32 = 20;

impl Live {
    /// Requests assigned and not yet ended.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// The limit that was found out; the largest number where none was.
    #[inline(always)]
    pub(crate) fn limit(&self) -> u32 {
        !self.unlimited.load(Relaxed)
    }

    /// Says it anew; `u32::MAX` is for none.
    pub(crate) fn set_limit(&self, limit: u32) {
        self.unlimited.store(!limit, Relaxed);
    }

    /// `in_flight`, for somebody who waits and must not miss a slot that is given back; see `waiting`.
    pub(crate) fn in_flight_for_certain(&self) -> u32 {
        self.in_flight.load(SeqCst)
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
        self.pass_over_until(now.0.saturating_add(REFUSED_FOR));
    }

    /// Until when nobody chooses it, in milliseconds.
    pub(crate) fn refused_until(&self) -> u64 {
        self.closed_until.load(Relaxed) & !BARS
    }

    /// It refuses. The maximum, so that a worker with an older `now` cannot shorten what another has set.
    pub(crate) fn pass_over_until(&self, until: u64) {
        let later = |word: u64| Some(word & BARS | (word & !BARS).max(until & !BARS));
        let _ = self.closed_until.fetch_update(Relaxed, Relaxed, later);
    }

    /// Health keeps it out, or does so no more.
    pub(crate) fn bar(&self, bar: Bar) {
        let bits = match bar {
            Bar::Open => 0,
            Bar::Unwell => BARRED,
            Bar::New => BARS,
        };
        // Reads first: most that is decided changes nothing.
        if self.closed_until.load(Relaxed) & BARS != bits {
            let changed = |word: u64| Some(word & !BARS | bits);
            let _ = self.closed_until.fetch_update(Relaxed, Relaxed, changed);
        }
    }

    /// Whether it counts where it is asked how many of the servers can serve.
    pub(crate) fn is_counted(&self) -> bool {
        self.closed_until.load(Relaxed) & UNCOUNTED == 0
    }

    /// Whether health keeps it out: nobody chooses it, also if no other is left.
    pub fn is_barred(&self) -> bool {
        self.closed_until.load(Relaxed) & BARRED != 0
    }

    /// Whether it is passed over, by its health or since it refused.
    #[inline]
    pub(crate) fn is_closed(&self, now: Millis) -> bool {
        now.0 < self.closed_until.load(Relaxed)
    }

    /// Requests that failed since the process started, by the server's fault.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// How often it was ejected since the process started.
    pub fn ejections(&self) -> u32 {
        self.ejections.load(Relaxed)
    }

    pub(crate) fn count_ejection(&self) {
        self.ejections.fetch_add(1, Relaxed);
    }

    /// One more failure; gives how many there are in a row, all workers' taken together.
    pub(crate) fn count_failure(&self) -> u32 {
        self.failures.fetch_add(1, Relaxed);
        self.row.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// A connection broke: true if its request was sent after the last time that one did.
    pub(crate) fn breaks_anew(&self, since: Micros, now: Micros) -> bool {
        self.broke.fetch_max(now.0.max(1), Relaxed) <= since.0
    }

    /// One more failure that says nothing new.
    pub(crate) fn count_broken(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// Whether the last request failed. Read by every answered request, written hardly ever.
    #[inline]
    pub(crate) fn fails(&self) -> bool {
        self.row.load(Relaxed) != 0
    }

    pub(crate) fn end_failures(&self) {
        self.row.store(0, Relaxed);
    }

    /// A connect succeeded: what an earlier refusal said is over. True if there was one. See also
    /// [`Lease::connected`](crate::Lease::connected).
    pub fn connected(&self) -> bool {
        // Reads first: a write on every connect would take the line away from all other cores. Ends only what it has read: a
        // refusal that another worker meets in between is newer than this connect.
        let word = self.closed_until.load(Relaxed);
        word & !BARS != 0 && self.closed_until.compare_exchange(word, word & BARS, Relaxed, Relaxed).is_ok()
    }

    /// Whether it refused a connection within the last [`REFUSED_FOR`].
    pub fn is_refused(&self, now: Millis) -> bool {
        now.0 < self.refused_until()
    }

    /// The latency that was last said, in microseconds, and its stamp.
    pub(crate) fn latency(&self) -> Option<(f32, u32)> {
        let packed = self.latency.load(Relaxed);
        (packed != 0).then(|| (f32::from_bits((packed >> 32) as u32), packed as u32))
    }

    /// Says it anew. Of two workers at the same instant one is lost, which the next sample mends.
    pub(crate) fn set_latency(&self, latency: f32, now: Micros) {
        // Nothing is faster than a microsecond, and 0 would mean that nothing is known.
        let bits = u64::from(latency.max(1.0).to_bits());
        self.latency.store(bits << 32 | u64::from(stamp(now)), Relaxed);
    }

    /// A request was sent whose answer is awaited.
    pub(crate) fn begin_wait(&self, now: Micros) {
        self.waiting.fetch_add(waiter(now), Relaxed);
    }

    /// The answer came, or will not; `since` is what it began with.
    pub(crate) fn end_wait(&self, since: Micros) {
        self.waiting.fetch_sub(waiter(since), Relaxed);
    }

    /// How long those that wait have waited on average, in microseconds; 0 when none does.
    pub(crate) fn mean_wait(&self, now: Micros) -> f32 {
        let waiting = self.waiting.load(Relaxed);
        let count = waiting & ((1 << WAITING_BITS) - 1);
        if count == 0 {
            return 0.0;
        }
        // The difference modulo the room; one that would be negative means a clock slightly behind the others'.
        let room = 64 - WAITING_BITS;
        let waited = (count.wrapping_mul(now.0)).wrapping_sub(waiting >> WAITING_BITS) << WAITING_BITS;
        ((waited as i64 >> (64 - room)).max(0)) as f32 / count as f32
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
        // `SeqCst`, for what `waiting` says about it; on x86 it is the same instruction.
        let before = self.in_flight.fetch_sub(1, SeqCst);
        debug_assert!(before > 0, "a slot was given back that nobody had taken");
    }
}

/// One request that waits since `since`.
fn waiter(since: Micros) -> u64 {
    since.0 << WAITING_BITS | 1
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
    fn health_and_refusals_leave_each_other_alone() {
        let live = Live::default();
        let told = |live: &Live| (live.is_barred(), live.is_counted(), live.refused_until());
        live.bar(Bar::New);
        live.refused(Millis(10));
        assert_eq!(told(&live), (true, false, 1_010));
        live.bar(Bar::Unwell);
        assert_eq!(told(&live), (true, true, 1_010));
        assert!(live.connected() && !live.connected());
        assert_eq!(told(&live), (true, true, 0));
        live.refused(Millis(20));
        live.bar(Bar::Open);
        assert_eq!(told(&live), (false, true, 1_020));
        assert!(live.is_closed(Millis(1_019)) && !live.is_closed(Millis(1_020)));
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
    fn the_mean_wait_is_exact_after_years_and_with_many_waiting() {
        let live = Live::default();
        let start = 10 * 365 * 24 * 3_600 * 1_000_000;
        (0..50_000).for_each(|i| live.begin_wait(Micros(start + i % 2 * 1_000)));
        assert_eq!(live.mean_wait(Micros(start + 1_000_000)), 999_500.0);
        (0..50_000).skip(1).for_each(|i| live.end_wait(Micros(start + i % 2 * 1_000)));
        assert_eq!(live.mean_wait(Micros(start + 7)), 7.0);
        assert_eq!(live.mean_wait(Micros(start - 7)), 0.0, "another worker's clock may be behind");
        live.end_wait(Micros(start));
        assert_eq!((live.mean_wait(Micros(start + 9)), live.waiting.load(Relaxed)), (0.0, 0));
    }

    #[test]
    fn shares_a_cache_line_with_nobody() {
        assert_eq!((size_of::<Live>(), align_of::<Live>()), (128, 128));
    }
}
