//! What follows a failed attempt: another server, now or after a pause, or the end of the client's try.
//!
//! The rules, the pause and the budget are production's; here stands only what they are told.

use plimsoll_traffic::{Again, Attempt, Failure, Wish, again};

use crate::engine::Run;
use crate::events::Event;
use crate::front::Fate;
use crate::report::End;

impl Run<'_> {
    /// Tries another server if production's rules say so, as production's exchange does.
    pub(crate) fn attempt_failed(&mut self, slot: u32, failure: Failure, fate: Fate, end: End) {
        let server = self.give_back(slot, fate);
        let proxy = self.world.proxy;
        let request = self.requests.at(slot);
        let chance = Attempt {
            idempotent: proxy.idempotent,
            anything_sent: request.sent_any,
            replayable: true,
            left: proxy.retries.saturating_sub(request.tried.len() as u32),
            fresh_used: true,
            on: proxy.on,
        };
        let (Again::OtherServer, Some(server)) = (again(failure, &chance), server) else {
            return self.try_ended(slot, end);
        };
        request.tried.push(server);
        // As production, which knows that there is no other server before it asks for leave.
        if request.tried.len() == self.machines.len() {
            return self.try_ended(slot, end);
        }
        let (number, worker) = (request.tried.len() as u32, request.arrived.worker as usize);
        let wish = Wish { number, asked: None, time_left: None, usual: None };
        match self.front.permit(worker, &wish, self.now) {
            Ok(0) => self.attempt(slot),
            Ok(millis) => {
                let life = self.requests.life(slot);
                self.events.push(self.now + millis * 1_000_000, Event::NextAttempt { request: slot, life });
            }
            Err(_) => self.try_ended(slot, end),
        }
    }
}
