//! What is to happen and when: a heap ordered by time and then by creation, so that one seed gives one order.
//!
//! In go events with their time in nanoseconds, out comes the next. A four-way heap: a third fewer cache lines than the
//! standard binary one when it is deep, and no slower when it is not. It must never reorder events of one instant.

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
    CheckLate { instance: u32, server: u32, began: u64 },
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
    at: u64,
    created: u64,
    event: Event,
}

impl Entry {
    fn before(&self, other: &Entry) -> bool {
        (self.at, self.created) < (other.at, other.created)
    }
}

/// The heap.
#[derive(Debug, Default)]
pub(crate) struct Events {
    heap: Vec<Entry>,
    created: u64,
    foreground: usize,
}

const WAYS: usize = 4;

impl Events {
    pub(crate) fn push(&mut self, at: u64, event: Event) {
        self.created += 1;
        self.foreground += usize::from(!event.is_background());
        let entry = Entry { at, created: self.created, event };
        self.heap.push(entry);
        let mut hole = self.heap.len() - 1;
        while hole > 0 {
            let parent = (hole - 1) / WAYS;
            if !entry.before(&self.heap[parent]) {
                break;
            }
            self.heap[hole] = self.heap[parent];
            hole = parent;
        }
        self.heap[hole] = entry;
    }

    /// The next event; `None` when only the background goes on.
    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        if self.foreground == 0 {
            return None;
        }
        let first = *self.heap.first()?;
        let last = self.heap.pop()?;
        if !self.heap.is_empty() {
            self.sink(last);
        }
        self.foreground -= usize::from(!first.event.is_background());
        Some((first.at, first.event))
    }

    /// Puts `entry` where the first one was and lets it sink to its place.
    fn sink(&mut self, entry: Entry) {
        let (mut hole, len) = (0, self.heap.len());
        loop {
            let child = hole * WAYS + 1;
            if child >= len {
                break;
            }
            let mut least = child;
            for other in child + 1..(child + WAYS).min(len) {
                if self.heap[other].before(&self.heap[least]) {
                    least = other;
                }
            }
            if !self.heap[least].before(&entry) {
                break;
            }
            self.heap[hole] = self.heap[least];
            hole = least;
        }
        self.heap[hole] = entry;
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
