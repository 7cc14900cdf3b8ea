//! What is to be asked when, and for what there is room.
//!
//! Checks, programs and agents each have places of their own: a backend full of agents that hang keeps no server from being checked, nor do programs that hang.
//! Among what has room the earliest comes first. In go times and numbers of jobs; nothing here asks anybody.

use std::collections::BTreeSet;

use plimsoll_config::defaults::{AGENTS_AT_ONCE, CHECKS_AT_ONCE, PROGRAMS_AT_ONCE};
use tokio::time::Instant;

/// Whose places something takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A check over a connection.
    Check,
    /// A check by a program.
    Program,
    /// A question to an agent.
    Agent,
}

/// The part of all descriptors that checks may take; agents may take half of that.
const PART: usize = 16;

/// All that waits for its time, or has it.
#[derive(Debug)]
pub(super) struct Due {
    queues: [Queue; 3],
}

#[derive(Debug)]
struct Queue {
    waiting: BTreeSet<(Instant, u64)>,
    running: usize,
    most: usize,
}

impl Due {
    /// With so many descriptors in all.
    pub(super) fn new(descriptors: usize) -> Due {
        let queue = |most: usize, part: usize| Queue {
            waiting: BTreeSet::new(),
            running: 0,
            most: (descriptors / part).clamp(1, most),
        };
        Due {
            queues: [
                queue(CHECKS_AT_ONCE, PART),
                queue(PROGRAMS_AT_ONCE, PART),
                queue(AGENTS_AT_ONCE, 2 * PART),
            ],
        }
    }

    pub(super) fn insert(&mut self, kind: Kind, at: Instant, id: u64) {
        self.queues[kind as usize].waiting.insert((at, id));
    }

    pub(super) fn remove(&mut self, kind: Kind, at: Instant, id: u64) {
        self.queues[kind as usize].waiting.remove(&(at, id));
    }

    /// When the next one is due for which there is room.
    pub(super) fn next(&self) -> Option<Instant> {
        self.with_room().map(|(at, _)| at).min()
    }

    /// The earliest that is due now and has room. It takes its place until [`Due::ended`].
    pub(super) fn take(&mut self, now: Instant) -> Option<u64> {
        let (_, place) = self.with_room().filter(|(at, _)| *at <= now).min()?;
        let queue = &mut self.queues[place];
        let (_, id) = queue.waiting.pop_first()?;
        queue.running += 1;
        Some(id)
    }

    /// One of these has ended.
    pub(super) fn ended(&mut self, kind: Kind) {
        self.queues[kind as usize].running -= 1;
    }

    /// When the first of each kind is due that has room.
    fn with_room(&self) -> impl Iterator<Item = (Instant, usize)> {
        let first = |(place, queue): (usize, &Queue)| {
            let (at, _) = queue.waiting.first().filter(|_| queue.running < queue.most)?;
            Some((*at, place))
        };
        self.queues.iter().enumerate().filter_map(first)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_comes_first_whatever_its_kind() {
        let (mut due, now) = (Due::new(1 << 20), Instant::now());
        let at = |millis| now + Duration::from_millis(millis);
        due.insert(Kind::Agent, at(2), 2);
        due.insert(Kind::Check, at(3), 3);
        due.insert(Kind::Program, at(1), 1);
        due.insert(Kind::Check, at(9), 9);
        due.remove(Kind::Check, at(9), 9);
        assert_eq!((due.take(now), due.next()), (None, Some(at(1))));
        let taken: Vec<u64> = std::iter::from_fn(|| due.take(at(10))).collect();
        assert_eq!((taken, due.next()), (vec![1, 2, 3], None));
    }

    #[test]
    fn whatever_hangs_takes_no_places_but_those_of_its_kind() {
        let (mut due, now) = (Due::new(1 << 20), Instant::now());
        for (kind, most) in
            [(Kind::Agent, AGENTS_AT_ONCE), (Kind::Program, PROGRAMS_AT_ONCE), (Kind::Check, CHECKS_AT_ONCE)]
        {
            (0..1_000).for_each(|id| due.insert(kind, now, id));
            let begun = std::iter::from_fn(|| due.take(now)).count();
            assert_eq!(begun, most, "{kind:?}");
            assert_eq!(due.next(), None, "what has no room is not waited for");
        }
        due.ended(Kind::Program);
        assert_eq!(due.next(), Some(now));
        assert!(due.take(now).is_some() && due.take(now).is_none());
    }

    #[test]
    fn where_descriptors_are_few_there_is_one_at_least() {
        let (mut due, now) = (Due::new(40), Instant::now());
        for kind in [Kind::Check, Kind::Agent] {
            (0..9).for_each(|id| due.insert(kind, now, id));
        }
        assert_eq!(std::iter::from_fn(|| due.take(now)).count(), 2 + 1);
    }
}
