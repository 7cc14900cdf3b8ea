//! Rate limits: may one more request of this key pass?
//!
//! In go keys and the time, out comes yes with what is left, or no with how long to wait. The generic cell rate algorithm (GCRA, ITU-T
//! I.371): of each key only the time is kept at which it would be as if it had never come. Shared by all workers, so the limit is
//! one for the process. Memory is bounded whatever keys come: when too many are active at once, of eight the one that is
//! nearest to a fresh start gets it early. It must never refuse a key that keeps to its rate.

mod memory;

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::{Mutex, MutexGuard};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::PoisonError;
use std::time::Duration;

pub use self::memory::RateMemory;
use crate::time::Micros;

/// Locks among which keys are spread, so that workers seldom meet at one.
const SHARDS: usize = 64;
/// Places where one key may be.
const WAYS: usize = 8;
/// Keys that are remembered: with 16 bytes each a limit takes 1 MiB once it is in use.
const KEYS: usize = 1 << 16;
const SETS: usize = KEYS / SHARDS / WAYS;

/// One limit with what it remembers.
#[derive(Debug)]
pub struct RateLimit {
    /// Nanoseconds that one request stands for.
    interval: u64,
    burst: u64,
    /// Empty until the shard is first asked.
    shards: Box<[Mutex<Vec<Cell>>]>,
    /// What keys are hashed with: random, so that nobody can choose keys that share a place, and the same in whatever comes after it.
    seeds: [u64; 2],
    refused: AtomicU64,
    forgotten: AtomicU64,
}

/// What is known of one key.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    key: u64,
    /// The theoretical arrival time: when the key is as if it had never come, in nanoseconds.
    fresh: u64,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// It may pass.
    pub passes: bool,
    /// Requests that may pass at once after this one.
    pub remaining: u32,
    /// How long until one may pass; zero unless it was refused.
    pub wait: Duration,
    /// How long until `burst` may pass at once.
    pub reset: Duration,
}

impl RateLimit {
    /// `requests` in `per`, in the long run, and `burst` at once; both at least 1.
    pub fn new(requests: u32, per: Duration, burst: u32) -> RateLimit {
        let random = RandomState::new();
        RateLimit::seeded(requests, per, burst, [0, 1].map(|n: u64| random.hash_one(n)))
    }

    fn seeded(requests: u32, per: Duration, burst: u32, seeds: [u64; 2]) -> RateLimit {
        let per = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        RateLimit {
            interval: (per / u64::from(requests.max(1))).max(1),
            burst: u64::from(burst.max(1)),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            seeds,
            refused: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
        }
    }

    /// One more request of `key`.
    pub fn ask(&self, key: &[u8], now: Micros) -> Verdict {
        let hash = self.hash(key);
        let now = now.0.saturating_mul(1_000);
        let mut cells = self.shard_of(hash);
        let cell = self.place(set_of(&mut cells, hash), hash, now);
        let debt = cell.fresh.max(now) - now;
        let allowed = (self.burst - 1).saturating_mul(self.interval);
        if debt > allowed {
            self.refused.fetch_add(1, Relaxed);
            let (wait, reset) = (Duration::from_nanos(debt - allowed), Duration::from_nanos(debt));
            return Verdict { passes: false, remaining: 0, wait, reset };
        }
        let debt = debt + self.interval;
        cell.fresh = now + debt;
        let remaining = self.burst.saturating_sub(debt.div_ceil(self.interval));
        Verdict {
            passes: true,
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            wait: Duration::ZERO,
            reset: Duration::from_nanos(debt),
        }
    }

    /// SipHash-2-4, which no attacker who sees what comes of it can foresee.
    #[expect(deprecated, reason = "the standard library has no other hash that is seeded and stays the same")]
    fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = std::hash::SipHasher::new_with_keys(self.seeds[0], self.seeds[1]);
        hasher.write(key);
        hasher.finish().max(1) // 0 is nobody's
    }

    /// Locks the cells among which a key is. Nothing that is done with them panics half-way through a change.
    fn shard_of(&self, hash: u64) -> MutexGuard<'_, Vec<Cell>> {
        let mut cells = self.shards[hash as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        if cells.is_empty() {
            cells.resize(SETS * WAYS, Cell::default());
        }
        cells
    }

    /// The key's own place, else that of one that is fresh, else that of who is fresh soonest.
    fn place<'c>(&self, set: &'c mut [Cell], key: u64, now: u64) -> &'c mut Cell {
        let own = set.iter().position(|cell| cell.key == key);
        let at = own.unwrap_or_else(|| {
            let soonest = (0..set.len()).min_by_key(|&at| set[at].fresh).unwrap_or(0);
            if set[soonest].fresh > now {
                self.forgotten.fetch_add(1, Relaxed);
            }
            set[soonest] = Cell { key, fresh: 0 };
            soonest
        });
        &mut set[at]
    }

    /// Requests that were refused, or would have been.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Keys that were given a fresh start for want of memory.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Relaxed)
    }

    /// Requests that may pass at once, after a silence.
    pub fn burst(&self) -> u32 {
        u32::try_from(self.burst).unwrap_or(u32::MAX)
    }
}

/// The places where a key may be.
fn set_of(cells: &mut [Cell], hash: u64) -> &mut [Cell] {
    &mut cells[(hash >> 32) as usize % SETS * WAYS..][..WAYS]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    const SECOND: u64 = 1_000_000;

    fn passed(limit: &RateLimit, key: &[u8], times: impl Iterator<Item = u64>) -> usize {
        times.filter(|&now| limit.ask(key, Micros(now)).passes).count()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limit = RateLimit::new(10, Duration::from_secs(1), 5);
        assert_eq!(passed(&limit, b"a", (0..20).map(|_| 7 * SECOND)), 5);
        let verdict = limit.ask(b"a", Micros(7 * SECOND));
        assert_eq!((verdict.remaining, verdict.wait), (0, Duration::from_millis(100)));
        assert_eq!(verdict.reset, Duration::from_millis(500));
        assert!(!limit.ask(b"a", Micros(7 * SECOND + 99_999)).passes);
        assert!(limit.ask(b"a", Micros(7 * SECOND + 100_000)).passes);
        assert_eq!(passed(&limit, b"b", (0..20).map(|_| 7 * SECOND)), 5, "each key by itself");
        // A thousand a second for ten seconds: ten a second, and the burst that came back in between.
        let many = passed(&limit, b"a", (0..10_000).map(|i| 20 * SECOND + i * 1_000));
        assert!((104..=105).contains(&many), "{many}");
        assert_eq!(limit.refused(), 15 + 1 + 1 + 15 + 10_000 - many as u64);
    }

    #[test]
    fn who_keeps_to_the_rate_is_never_refused() {
        for (requests, per, burst) in [(1, 1, 1), (3, 1, 1), (7, 60, 2), (1_000_000, 1, 3), (1, 3_600, 1)] {
            let limit = RateLimit::new(requests, Duration::from_secs(per), burst);
            let gap = (per * SECOND).div_ceil(u64::from(requests));
            assert_eq!(passed(&limit, b"a", (0..1_000).map(|i| i * gap)), 1_000, "{requests}/{per}");
        }
    }

    #[test]
    fn in_any_time_no_more_pass_than_rate_and_burst_allow() {
        let mut dice = Dice::new(3);
        for _ in 0..50 {
            let (requests, burst) = (1 + dice.below(50), 1 + dice.below(20));
            let limit = RateLimit::new(requests, Duration::from_secs(1), burst);
            let mut now = SECOND;
            let mut times = Vec::new();
            for _ in 0..2_000 {
                now += dice.below_u64(30_000);
                if limit.ask(b"k", Micros(now)).passes {
                    times.push(now);
                }
            }
            for (i, from) in times.iter().enumerate() {
                for (j, to) in times.iter().enumerate().skip(i) {
                    let most =
                        f64::from(burst) + (to - from) as f64 * f64::from(requests) / SECOND as f64 + 1e-6;
                    assert!(
                        ((j - i + 1) as f64) <= most,
                        "{} in {} µs of {requests}/s",
                        j - i + 1,
                        to - from
                    );
                }
            }
        }
    }

    #[test]
    fn remaining_counts_down_and_comes_back() {
        let limit = RateLimit::new(1, Duration::from_secs(1), 3);
        let remaining = |now| limit.ask(b"a", Micros(now)).remaining;
        assert_eq!([remaining(0), remaining(0), remaining(0), remaining(0)], [2, 1, 0, 0]);
        assert_eq!(remaining(10 * SECOND), 2);
    }

    #[test]
    fn memory_is_bounded_and_a_flood_of_keys_frees_nobody_who_is_far_over() {
        let limit = RateLimit::new(1, Duration::from_secs(1), 1_000);
        // One who has used up everything, among many who have hardly begun.
        assert_eq!(passed(&limit, b"heavy", (0..2_000).map(|_| SECOND)), 1_000);
        for key in 0..500_000u32 {
            assert!(limit.ask(&key.to_le_bytes(), Micros(SECOND)).passes, "one that is new passes");
        }
        assert!(limit.forgotten() > 100_000);
        assert!(!limit.ask(b"heavy", Micros(SECOND)).passes);
        let cells: usize = limit.shards.iter().map(|shard| shard.lock().expect("no panic").len()).sum();
        assert_eq!(cells, KEYS);
    }
}
