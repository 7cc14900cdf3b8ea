//! What a rate limit remembers, on its way to the one that comes after it: in the next configuration, or in the next process.
//!
//! Out come hashed keys with what each still owes, those that owe most first where there is no room for all; in another limit it is owed on, request for request, also if that
//! has another rate. Between whole calls a key never owes less than was handed over. It must never let a key owe more than a whole burst.

use std::sync::PoisonError;
use std::time::Duration;

use super::{RateLimit, set_of};
use crate::sync::atomic::Ordering::Relaxed;
use crate::time::Micros;

/// What one limit remembers at some time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RateMemory {
    /// What keys are hashed with.
    pub seeds: [u64; 2],
    /// Nanoseconds that one request stands for.
    pub interval: u64,
    /// Hashed keys, and in how many nanoseconds each is as if it had never come.
    pub debts: Vec<(u64, u64)>,
    /// Keys for which there was no room.
    pub left_out: u64,
}

impl RateMemory {
    /// The same so much later.
    #[must_use]
    pub fn after(mut self, time: Duration) -> RateMemory {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.debts.retain_mut(|(_, debt)| {
            *debt = debt.saturating_sub(time);
            *debt > 0
        });
        self
    }
}

impl RateLimit {
    /// A limit in which keys owe what they owe by `before`.
    #[must_use]
    pub fn after(requests: u32, per: Duration, burst: u32, before: &RateMemory, now: Micros) -> RateLimit {
        let limit = RateLimit::seeded(requests, per, burst, before.seeds);
        limit.recall(before, now);
        limit.forgotten.fetch_add(before.left_out, Relaxed);
        limit
    }

    /// What is remembered, of at most so many keys.
    pub fn memory(&self, now: Micros, most: usize) -> RateMemory {
        let now = now.0.saturating_mul(1_000);
        let mut debts = Vec::new();
        for shard in &self.shards {
            let cells = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let owing = cells.iter().filter(|cell| cell.fresh > now);
            debts.extend(owing.map(|cell| (cell.key, cell.fresh - now)));
        }
        let left_out = debts.len().saturating_sub(most);
        if left_out > 0 {
            debts.sort_unstable_by_key(|&(_, debt)| std::cmp::Reverse(debt));
            debts.truncate(most);
        }
        RateMemory { seeds: self.seeds, interval: self.interval, debts, left_out: left_out as u64 }
    }

    /// Has keys owe at least what they owe by `before`, if that was remembered by a limit that came before this one; otherwise nothing can be made of it.
    pub fn recall(&self, before: &RateMemory, now: Micros) {
        if before.seeds != self.seeds {
            return;
        }
        let now = now.0.saturating_mul(1_000);
        let most = self.burst.saturating_mul(self.interval);
        for &(key, debt) in before.debts.iter().filter(|&&(key, _)| key > 0) {
            let here = u128::from(debt) * u128::from(self.interval) / u128::from(before.interval.max(1));
            let fresh = now.saturating_add(u64::try_from(here).unwrap_or(u64::MAX).min(most));
            let mut cells = self.shard_of(key);
            let set = set_of(&mut cells, key);
            // Among as many that owe more it is the one that is forgotten.
            if set.iter().any(|cell| cell.key == key || cell.fresh < fresh) {
                let cell = self.place(set, key, now);
                cell.fresh = cell.fresh.max(fresh);
            } else {
                self.forgotten.fetch_add(1, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SECOND: u64 = 1_000_000;
    const NOW: Micros = Micros(7 * SECOND);

    /// A limit in which `a` has used up five and `b` two.
    fn used() -> RateLimit {
        let limit = RateLimit::new(1, Duration::from_secs(1), 5);
        (0..9).for_each(|_| {
            limit.ask(b"a", NOW);
        });
        (0..2).for_each(|_| {
            limit.ask(b"b", NOW);
        });
        limit
    }

    fn passes(limit: &RateLimit, key: &[u8], now: Micros) -> usize {
        (0..20).take_while(|_| limit.ask(key, now).passes).count()
    }

    #[test]
    fn keys_owe_on_what_they_owed() {
        let memory = used().memory(NOW, 100);
        assert_eq!(memory.debts.len(), 2);
        let later = Micros(90 * SECOND); // by another clock
        let next = RateLimit::after(1, Duration::from_secs(1), 5, &memory, later);
        assert_eq!(
            [passes(&next, b"a", later), passes(&next, b"b", later), passes(&next, b"c", later)],
            [0, 3, 5]
        );
        let aged =
            RateLimit::after(1, Duration::from_secs(1), 5, &memory.after(Duration::from_secs(2)), later);
        assert_eq!([passes(&aged, b"a", later), passes(&aged, b"b", later)], [2, 5]);
    }

    #[test]
    fn who_keeps_to_the_rate_is_not_refused_by_what_was_remembered() {
        let limit = RateLimit::new(1, Duration::from_secs(1), 1);
        assert!(limit.ask(b"a", NOW).passes);
        let memory = limit.memory(Micros(NOW.0 + SECOND / 2), 100).after(Duration::from_millis(499));
        let next = RateLimit::after(1, Duration::from_secs(1), 1, &memory, Micros(0));
        assert!(!next.ask(b"a", Micros(0)).passes);
        assert!(next.ask(b"a", Micros(1_000)).passes);
    }

    #[test]
    fn another_rate_or_burst_counts_the_same_requests() {
        let memory = used().memory(NOW, 100);
        let left = |requests, burst| {
            let next = RateLimit::after(requests, Duration::from_secs(1), burst, &memory, NOW);
            [passes(&next, b"a", NOW), passes(&next, b"b", NOW)]
        };
        assert_eq!(left(10, 5), [0, 3], "faster");
        assert_eq!(left(1, 8), [3, 6], "more at once");
        assert_eq!(left(1, 2), [0, 0], "fewer");
        let less = RateLimit::after(1, Duration::from_secs(1), 2, &memory, NOW);
        assert_eq!(less.ask(b"a", NOW).wait, Duration::from_secs(1), "nobody owes more than a burst");
    }

    #[test]
    fn recalling_again_takes_nothing_back_and_adds_nothing() {
        let old = used();
        let next = RateLimit::after(1, Duration::from_secs(1), 5, &old.memory(NOW, 100), NOW);
        assert!(next.ask(b"b", NOW).passes);
        next.recall(&old.memory(NOW, 100), NOW);
        assert_eq!(passes(&next, b"b", NOW), 2);
        assert!(old.ask(b"c", NOW).passes);
        next.recall(&old.memory(NOW, 100), NOW);
        assert_eq!(passes(&next, b"c", NOW), 4);
        let strange = RateMemory { seeds: [1, 2], ..used().memory(NOW, 100) };
        next.recall(&strange, NOW);
        assert_eq!(
            next.memory(NOW, 100).debts.len(),
            3,
            "keys that were hashed with other seeds are nobody's"
        );
    }

    #[test]
    fn without_room_for_all_those_stay_that_owe_most() {
        let limit = RateLimit::new(1, Duration::from_secs(1), 5);
        for key in 0..1_000u32 {
            (0..=key % 4).for_each(|_| {
                limit.ask(&key.to_le_bytes(), NOW);
            });
        }
        let memory = limit.memory(NOW, 400);
        assert_eq!((memory.debts.len(), memory.left_out), (400, 600));
        let next = RateLimit::after(1, Duration::from_secs(1), 5, &memory, NOW);
        assert_eq!(next.forgotten(), 600);
        assert!(
            (0..1_000u32).filter(|key| key % 4 == 3).all(|key| passes(&next, &key.to_le_bytes(), NOW) == 1)
        );
    }

    #[test]
    fn a_full_memory_goes_into_a_full_one() {
        let full = |from: u32| {
            let limit = RateLimit::new(1, Duration::from_secs(1), 5);
            (from..from + 300_000).for_each(|key| {
                limit.ask(&key.to_le_bytes(), NOW);
            });
            limit
        };
        let memory = full(0).memory(NOW, usize::MAX);
        assert!(memory.debts.len() > 60_000);
        let next = RateLimit::after(1, Duration::from_secs(1), 5, &memory, NOW);
        assert_eq!((next.memory(NOW, usize::MAX).debts.len(), next.forgotten()), (memory.debts.len(), 0));
        let more: Vec<(u64, u64)> =
            memory.debts.iter().map(|&(key, debt)| (key ^ 1 << 63, debt / 2)).collect();
        next.recall(&RateMemory { debts: more, ..memory.clone() }, NOW);
        let kept: HashSet<(u64, u64)> = next.memory(NOW, usize::MAX).debts.into_iter().collect();
        assert!(memory.debts.iter().all(|owed| kept.contains(owed)), "who owes more stays");
        assert!(next.forgotten() > 0);
    }
}
