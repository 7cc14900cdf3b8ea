//! Requests that are at two servers at once: when the second is asked, and what becomes of the other when one has answered.
//!
//! Delay, leave and budget are production's; which answers end the race is what the proxy's `race` does. In go the events of attempts whose request
//! has a second one, out comes a request with one attempt or none. A server goes on working for the one that is cancelled, so the cost is not made
//! to look smaller than it is.

use plimsoll_traffic::{Micros, Millis, Pace, hedge_delay};

use crate::engine::Run;
use crate::events::{Ending, Event, Token};
use crate::front::{Fate, Held};
use crate::world::World;

/// What sets a second attempt's number apart from the first one's.
const SECOND: u32 = 1 << 31;

/// The second attempt of a request.
#[derive(Debug)]
pub(crate) struct Second {
    pub(crate) held: Held,
    pub(crate) attempt: u32,
}

/// How long answers take, by instance; nothing where nobody hedges.
pub(crate) fn paces(world: &World) -> Vec<Pace> {
    let per_mille = match world.proxy.hedge {
        Some(plimsoll_config::model::Hedge::Quantile(per_mille)) => per_mille,
        Some(plimsoll_config::model::Hedge::After(_)) => plimsoll_config::defaults::LEAST_QUANTILE,
        None => return Vec::new(),
    };
    (0..world.instances).map(|_| Pace::new(per_mille)).collect()
}

impl Run<'_> {
    fn millis(&self) -> Millis {
        Micros(self.now / 1_000).millis()
    }

    fn pace(&self, worker: u32) -> Option<&Pace> {
        self.paces.get((worker / self.world.workers) as usize)
    }

    /// A first attempt begins.
    pub(crate) fn watch(&mut self, token: Token) {
        let request = self.requests.at(token.request);
        let (worker, is_first) = (request.arrived.worker, request.tried.is_empty());
        let (Some(wish), Some(pace), true) = (self.world.proxy.hedge, self.pace(worker), is_first) else {
            return;
        };
        if let Some(micros) = hedge_delay(wish, pace, self.millis()) {
            self.events.push(self.now + micros * 1_000, Event::HedgeDue(token));
        }
    }

    /// It was answered well.
    pub(crate) fn note_pace(&mut self, slot: u32) {
        let request = self.requests.at(slot);
        let (worker, began) = (request.arrived.worker, request.began);
        if let Some(pace) = self.pace(worker) {
            pace.observe((self.now - began) / 1_000, self.millis());
        }
    }

    /// The first attempt takes long: asks a second server, if there may be one.
    pub(crate) fn hedge(&mut self, token: Token) {
        let now = self.now;
        let request = self.requests.at(token.request);
        let Some(first) = &request.held else { return };
        let (worker, key, server) = (request.arrived.worker as usize, request.arrived.key, first.server);
        let Some(held) = self.front.hedge(worker, now, key, server) else { return };
        self.report.assigned[held.server as usize] += 1;
        self.surroundings.bin.assigned[held.server as usize] += 1;
        let second = Token { attempt: token.attempt ^ SECOND, ..token };
        self.requests.at(token.request).second = Some(Second { held, attempt: second.attempt });
        self.begin_attempt(second);
    }

    /// Gives back the second attempt's place, if there is one.
    pub(crate) fn drop_second(&mut self, slot: u32, fate: Fate) {
        let request = self.requests.at(slot);
        let worker = request.arrived.worker as usize;
        if let Some(second) = request.second.take() {
            let idle = self.machines[second.held.server as usize].jobs() == 0;
            self.front.end(worker, second.held, fate, self.now, idle);
        }
    }

    /// Whether this is the end of one of two attempts, and the other goes on.
    pub(crate) fn has_lost(&mut self, token: Token, how: Ending) -> bool {
        self.requests.at(token.request).second.is_some() && !self.is_settled(token, how)
    }

    /// One of two attempts has ended. True if that ends the other: it is given up, and the one that ended is the only one.
    fn is_settled(&mut self, token: Token, how: Ending) -> bool {
        let settles = matches!(how, Ending::Good | Ending::Error);
        let request = self.requests.at(token.request);
        let is_second = request.second.as_ref().is_some_and(|second| second.attempt == token.attempt);
        // Whoever is not needed any more is put in the second place.
        if is_second == settles {
            request.swap();
        }
        if !settles && let Some(second) = &request.second {
            let server = second.held.server;
            request.tried.push(server);
        }
        let fate = match how {
            _ if settles => Fate::Abandoned,
            Ending::Refused => Fate::Refused,
            Ending::Reset => Fate::Reset,
            _ => Fate::Error,
        };
        self.drop_second(token.request, fate);
        settles
    }
}
