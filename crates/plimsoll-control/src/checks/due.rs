//! What is to be asked when, and for what there is room.
//!
//! Checks, programs and agents each have places of their own: a backend full of agents that hang keeps no server from being checked, nor do programs that hang.
//! Among what has room the earliest comes first, and with it what may be early. In go times and numbers of jobs; nothing here asks anybody.

use std::collections::BTreeMap;
use std::time::Duration;

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

/// Nothing is earlier than that.
pub(super) const EARLIEST: Duration = Duration::from_millis(250);
/// The part of all descriptors that checks may take; agents may take half of that.
const PART: usize = 16;

/// All that waits for its time, or has it.
#[derive(Debug)]
pub(super) struct Due {
    queues: [Queue; 3],
}

#[derive(Debug)]
struct Queue {
    /// By when each is due and whose it is: by how much it may be early.
    waiting: BTreeMap<(Instant, u64), Duration>,
    running: usize,
    most: usize,
}

impl Due {
    /// With so many descriptors in all.
    pub(super) fn new(descriptors: usize) -> Due {
        let queue = |most: usize, part: usize| Queue {
            waiting: BTreeMap::new(),
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

    /// It is due then, and may be taken by so much earlier together with something else.
    pub(super) fn insert(&mut self, kind: Kind, at: Instant, early: Duration, id: u64) {
        self.queues[kind as usize].waiting.insert((at, id), early.min(EARLIEST));
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
        let ((_, id), _) = queue.waiting.pop_first()?;
        queue.running += 1;
        Some(id)
    }

    /// The same of what may be early enough.
    pub(super) fn take_early(&mut self, now: Instant) -> Option<u64> {
        let may = |queue: &Queue| {
            let near = queue.waiting.range(..=(now + EARLIEST, u64::MAX));
            near.into_iter().find(|&(&(at, _), &early)| at <= now + early).map(|(&key, _)| key)
        };
        let with_room = self.queues.iter().enumerate().filter(|(_, queue)| queue.running < queue.most);
        let (key, place) = with_room.filter_map(|(place, queue)| Some((may(queue)?, place))).min()?;
        let queue = &mut self.queues[place];
        queue.waiting.remove(&key);
        queue.running += 1;
        Some(key.1)
    }

    /// One of these has ended.
    pub(super) fn ended(&mut self, kind: Kind) {
        self.queues[kind as usize].running -= 1;
    }

    /// When the first of each kind is due that has room.
    fn with_room(&self) -> impl Iterator<Item = (Instant, usize)> {
        let first = |(place, queue): (usize, &Queue)| {
            let (&(at, _), _) = queue.waiting.first_key_value().filter(|_| queue.running < queue.most)?;
            Some((at, place))
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
        due.insert(Kind::Agent, at(2), Duration::ZERO, 2);
        due.insert(Kind::Check, at(3), Duration::ZERO, 3);
        due.insert(Kind::Program, at(1), Duration::ZERO, 1);
        due.insert(Kind::Check, at(9), Duration::ZERO, 9);
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
            (0..1_000).for_each(|id| due.insert(kind, now, Duration::ZERO, id));
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
            (0..9).for_each(|id| due.insert(kind, now, Duration::ZERO, id));
        }
        assert_eq!(std::iter::from_fn(|| due.take(now)).count(), 2 + 1);
    }

    #[test]
    fn what_may_be_early_goes_with_what_is_due_in_its_own_places() {
        let (mut due, now) = (Due::new(40), Instant::now());
        let millis = Duration::from_millis;
        for (id, at, early) in [(0, 20, 125), (1, 60, 5), (2, 124, 125), (3, 126, 125), (4, 300, 900)] {
            due.insert(Kind::Agent, now + millis(at), millis(early), id);
        }
        assert_eq!(due.take(now), None, "nobody's time has come");
        assert_eq!(
            (due.take_early(now), due.take_early(now)),
            (Some(0), None),
            "there is room for one agent"
        );
        let mut next = |time| {
            due.ended(Kind::Agent);
            due.take_early(now + millis(time))
        };
        assert_eq!([next(0), next(0)], [Some(2), None], "one may be hardly early, one is too far away");
        due.queues[Kind::Agent as usize].running = 1;
        let mut next = |time| {
            due.ended(Kind::Agent);
            due.take_early(now + millis(time))
        };
        assert_eq!([next(56), next(56), next(56)], [Some(1), Some(3), Some(4)]);
    }
}
