//! What is to happen and when: a heap ordered by time and then by creation, so that one seed gives one order.
//!
//! In go events with their time in nanoseconds, out comes the next. A four-way heap, a third fewer cache lines than the
//! standard binary one when it is deep, in which nothing that chance decides is a branch: who of four comes first is worked out, and
//! what an event makes takes its place without another one being moved there first. (Mispredicted branches went from nine an event to two or three.)
//! It must never reorder events of one instant.

use std::hint::select_unpredictable;

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The next request of the arrival process.
    Arrival,
    /// A client of the closed loop has thought enough.
    Thought { client: u32 },
    /// What the server finishes next; void when its version has moved on.
    Departure { server: u32, version: u32 },
    /// An attempt reaches its server.
    Delivery(Token),
    /// An attempt's end reaches the balancer.
    Answer { token: Token, how: Ending },
    /// The balancer has waited long enough to ask a second server.
    HedgeDue(Token),
    /// The balancer waits no longer for a first byte.
    FirstByteDue(Token),
    /// The client waits no longer.
    PatienceEnds { request: u32, life: u32 },
    /// The balancer has waited before another attempt.
    NextAttempt { request: u32, life: u32 },
    /// Somebody who waits for a server at that worker's instance may have waited long enough.
    WaitEnds { worker: u32 },
    /// A client tries once more.
    NewTry { request: u32, life: u32 },
    /// An entry of the world's timeline.
    Change(u32),
    /// A neighbour on the server's machine begins or ends its work.
    Antagonist { server: u32 },
    /// A board of loads is written anew.
    Board,
    /// A bin of the time series ends.
    Bin,
    /// Backends look after their servers, as production's control loop has them do.
    Tick,
    /// An instance checks a server.
    Check { instance: u32, server: u32 },
    /// Its check has taken too long.
    CheckLate { instance: u32, server: u32 },
}

/// One attempt of one request; void when the request has moved on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) request: u32,
    pub(crate) attempt: u32,
}

/// How an attempt ended at its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A good answer.
    Good,
    /// An answer that says it failed: status 500.
    Error,
    /// An answer that says it can't take it now: status 503.
    Unavailable,
    /// The connection was refused.
    Refused,
    /// The connection was reset while it waited.
    Reset,
}

impl Event {
    /// True for what would go on for ever by itself, with no request in the world.
    fn is_background(self) -> bool {
        matches!(
            self,
            Event::Change(_)
                | Event::Antagonist { .. }
                | Event::Board
                | Event::Bin
                | Event::Tick
                | Event::Check { .. }
                | Event::CheckLate { .. }
        )
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The time, and below it the number of the event: one comparison, and no two alike.
    key: u128,
    event: Event,
}

impl Entry {
    /// Later than any.
    const NONE: Entry = Entry { key: u128::MAX, event: Event::Bin };
}

/// The heap.
#[derive(Debug)]
pub(crate) struct Events {
    /// From `ROOT` on; what is not in use is `Entry::NONE`, in whole groups of children.
    heap: Box<[Entry]>,
    len: usize,
    /// The first one was taken, and nothing stands in its place yet.
    vacant: bool,
    created: u64,
    foreground: usize,
}

const WAYS: usize = 4;
/// Where the first one is, so that every group of children begins at a multiple of `WAYS`.
const ROOT: usize = WAYS - 1;

fn children(parent: usize) -> usize {
    (parent + 1 - ROOT) * WAYS
}

fn parent(child: usize) -> usize {
    child / WAYS + ROOT - 1
}

impl Default for Events {
    fn default() -> Events {
        Events { heap: vec![Entry::NONE; 2 * WAYS].into(), len: 0, vacant: false, created: 0, foreground: 0 }
    }
}

impl Events {
    pub(crate) fn push(&mut self, at: u64, event: Event) {
        self.created += 1;
        self.foreground += usize::from(!event.is_background());
        let entry = Entry { key: u128::from(at) << 64 | u128::from(self.created), event };
        if self.vacant {
            self.vacant = false;
            return self.sink(entry);
        }
        let mut hole = ROOT + self.len;
        self.len += 1;
        if hole >= self.heap.len() {
            self.grow();
        }
        while hole > ROOT && entry.key < self.heap[parent(hole)].key {
            self.heap[hole] = self.heap[parent(hole)];
            hole = parent(hole);
        }
        self.heap[hole] = entry;
    }

    /// The next event; `None` when only the background goes on.
    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        if self.foreground == 0 {
            return None;
        }
        if self.vacant {
            self.fill();
        }
        // Most events make another one: it takes this place, and sinks once instead of rising after another has sunk.
        self.vacant = true;
        let Entry { key, event } = self.heap[ROOT];
        self.foreground -= usize::from(!event.is_background());
        Some(((key >> 64) as u64, event))
    }

    /// Puts the last one where the first one was.
    fn fill(&mut self) {
        self.len -= 1;
        let last = std::mem::replace(&mut self.heap[ROOT + self.len], Entry::NONE);
        if self.len > 0 {
            self.sink(last);
        }
    }

    /// Puts `entry` where the first one was and lets it sink to its place.
    fn sink(&mut self, entry: Entry) {
        let mut hole = ROOT;
        while let Some(group) = self.heap.get(children(hole)..children(hole) + WAYS) {
            // Without a branch on who is the least of them, which nobody can foresee.
            let first = usize::from(group[1].key < group[0].key);
            let second = 2 + usize::from(group[3].key < group[2].key);
            let least = select_unpredictable(group[second].key < group[first].key, second, first);
            if entry.key < group[least].key {
                break;
            }
            let next = children(hole) + least;
            self.heap[hole] = self.heap[next];
            hole = next;
        }
        self.heap[hole] = entry;
    }

    #[cold]
    fn grow(&mut self) {
        let mut larger = vec![Entry::NONE; 2 * self.heap.len()];
        larger[..self.heap.len()].copy_from_slice(&self.heap);
        self.heap = larger.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_events_by_time_and_then_by_creation() {
        let (mut events, mut dice) = (Events::default(), plimsoll_traffic::Dice::new(1));
        let times: Vec<u64> = (0..2_000).map(|_| u64::from(dice.below(500))).collect();
        for (&at, client) in times.iter().zip(0..) {
            events.push(at, Event::Thought { client });
        }
        let mut expected: Vec<(u64, u32)> = times.into_iter().zip(0..).collect();
        expected.sort_unstable();
        for (at, client) in expected {
            assert_eq!(events.pop(), Some((at, Event::Thought { client })));
        }
        assert_eq!(events.pop(), None);
    }

    #[test]
    fn gives_them_so_too_when_they_are_made_meanwhile() {
        let (mut events, mut dice) = (Events::default(), plimsoll_traffic::Dice::new(2));
        let mut expected = std::collections::BTreeSet::new();
        let (mut now, mut popped) = (0, 0);
        for client in 0..20_000 {
            // Grows to some hundreds and shrinks again, down to nothing at times.
            if dice.below(100) < if client / 1_000 % 2 == 0 { 70 } else { 30 } {
                let at = now + u64::from(dice.below(300));
                events.push(at, Event::Thought { client });
                expected.insert((at, client));
            } else {
                let first = expected.pop_first();
                now = first.map_or(now, |(at, _)| at);
                popped += u32::from(first.is_some());
                assert_eq!(events.pop(), first.map(|(at, client)| (at, Event::Thought { client })));
            }
        }
        assert!(popped > 9_000, "{popped}");
    }

    #[test]
    fn ends_when_only_the_background_goes_on() {
        let mut events = Events::default();
        events.push(1, Event::Bin);
        events.push(2, Event::Arrival);
        events.push(3, Event::Bin);
        assert_eq!(events.pop(), Some((1, Event::Bin)));
        assert_eq!(events.pop(), Some((2, Event::Arrival)));
        assert_eq!(events.pop(), None);
    }
}
