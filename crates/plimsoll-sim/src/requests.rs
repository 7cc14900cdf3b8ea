//! The requests on their way, in slots that are used again.
//!
//! A token names one attempt of one request; when the attempt ends, or the slot gets another request, the token is void. So an
//! event that comes too late finds nothing, and none has to be taken out of the heap.

use plimsoll_traffic::Place;

use crate::events::Token;
use crate::front::Held;
use crate::hedging::Second;

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) arrived: Arrived,
    /// When it came to the server that it is on, and how many it found there.
    pub(crate) came: u64,
    pub(crate) met: u32,
    /// Tries of the client left.
    pub(crate) left: u32,
    /// A byte of it has reached a server.
    pub(crate) sent_any: bool,
    pub(crate) held: Option<Held>,
    /// Among those who wait for a server.
    pub(crate) place: Option<Place>,
    /// If it is at two servers.
    pub(crate) second: Option<Second>,
    /// When the client's try of now reached its balancer.
    pub(crate) began: u64,
    /// Servers that this try has been to.
    pub(crate) tried: Vec<u32>,
    attempt: u32,
    life: u32,
    free: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    slots: Vec<Request>,
    free: Vec<u32>,
}

/// What is known of a request when it arrives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived {
    /// When the client sent it first, in nanoseconds.
    pub(crate) sent: u64,
    /// What it takes on a core of speed 1, in units.
    pub(crate) work: f64,
    pub(crate) key: u64,
    /// Uniform in `[0, 1)`: it fails on servers whose share of failures is above.
    pub(crate) luck: f64,
    /// Of the high class.
    pub(crate) high: bool,
    pub(crate) worker: u32,
    /// In order of arrival.
    pub(crate) index: u64,
    /// Of the closed loop.
    pub(crate) client: u32,
    /// Further tries of the client.
    pub(crate) left: u32,
}

impl Requests {
    pub(crate) fn live(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn add(&mut self, a: Arrived) -> u32 {
        let Some(slot) = self.free.pop() else {
            self.slots.push(Request::new(a));
            return self.slots.len() as u32 - 1;
        };
        self.slots[slot as usize].begin(a);
        slot
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        let request = &mut self.slots[slot as usize];
        debug_assert!(
            !request.free && request.held.is_none() && request.place.is_none() && request.second.is_none(),
            "it has given back what it held"
        );
        request.free = true;
        self.free.push(slot);
    }

    pub(crate) fn at(&mut self, slot: u32) -> &mut Request {
        &mut self.slots[slot as usize]
    }

    /// Begins another attempt: older tokens are void.
    pub(crate) fn next_attempt(&mut self, slot: u32) -> Token {
        let request = self.at(slot);
        request.attempt = request.attempt.wrapping_add(1);
        Token { request: slot, attempt: request.attempt }
    }

    /// Begins another try of the client: what counted for the last one is void.
    pub(crate) fn next_life(&mut self, slot: u32) -> u32 {
        let request = self.at(slot);
        request.life = request.life.wrapping_add(1);
        request.life
    }

    pub(crate) fn is_current(&self, token: Token) -> bool {
        let request = &self.slots[token.request as usize];
        let is_second = request.second.as_ref().is_some_and(|second| second.attempt == token.attempt);
        !request.free && (is_second || request.attempt == token.attempt && request.held.is_some())
    }

    /// The client's try of now.
    pub(crate) fn life(&self, slot: u32) -> u32 {
        self.slots[slot as usize].life
    }

    pub(crate) fn is_alive(&self, slot: u32, life: u32) -> bool {
        let request = &self.slots[slot as usize];
        !request.free && request.life == life
    }
}

impl Request {
    /// What holds the place of this attempt.
    pub(crate) fn held_by(&self, token: Token) -> Option<&Held> {
        match &self.second {
            Some(second) if second.attempt == token.attempt => Some(&second.held),
            _ => self.held.as_ref(),
        }
    }

    /// The second attempt takes the first one's place.
    pub(crate) fn swap(&mut self) {
        if let (Some(second), Some(held)) = (&mut self.second, &mut self.held) {
            std::mem::swap(&mut second.held, held);
            std::mem::swap(&mut second.attempt, &mut self.attempt);
        }
    }

    fn new(arrived: Arrived) -> Request {
        Request {
            arrived,
            came: 0,
            met: 0,
            left: arrived.left,
            sent_any: false,
            held: None,
            place: None,
            second: None,
            began: 0,
            tried: Vec::new(),
            attempt: 0,
            life: 0,
            free: false,
        }
    }

    /// Another request in the slot of one that has ended and holds nothing any more: only what differs is written.
    fn begin(&mut self, arrived: Arrived) {
        (self.arrived, self.left, self.sent_any, self.free) = (arrived, arrived.left, false, false);
        self.tried.clear();
        self.attempt = self.attempt.wrapping_add(1);
        self.life = self.life.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_used_again_has_other_tokens() {
        let arrived = Arrived {
            sent: 0,
            work: 1.0,
            key: 0,
            luck: 0.5,
            high: false,
            worker: 0,
            index: 0,
            client: 0,
            left: 0,
        };
        let mut requests = Requests::default();
        let slot = requests.add(arrived);
        let (old, life) = (requests.next_attempt(slot), requests.next_life(slot));
        requests.remove(slot);
        assert_eq!((requests.live(), requests.add(arrived)), (0, slot));
        assert!(!requests.is_current(old) && !requests.is_alive(slot, life));
        assert_ne!(requests.next_attempt(slot), old);
    }
}
