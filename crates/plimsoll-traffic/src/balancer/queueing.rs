//! The balancer's side of waiting: who may pick, who has to wait, and what a slot that is given back starts.
//!
//! Whoever comes while others wait has to wait too, also when a server has room: that room is for those who were called. It must cost nothing
//! but one load while nobody waits.

use std::rc::Rc;
use std::task::Waker;

use super::{Ask, Balancer, Session};
use crate::queue::{Rank, Refusal};
use crate::time::Micros;
use crate::waiting::Place;

impl Balancer {
    /// Whether a request that has just come may pick at once: nobody waits, or nobody who waits could have its server.
    #[inline]
    pub fn is_open(&self, session: Option<Session>) -> bool {
        self.backend.waiting.count() == 0 || self.is_apart(session)
    }

    /// One of weight 0 keeps its sessions and is for nobody else. Where requests do not wait, those who still do came with another configuration.
    #[cold]
    fn is_apart(&self, session: Option<Session>) -> bool {
        let own = match session {
            Some(Session::Server(index)) => self.backend.servers.get(index as usize),
            _ => None,
        };
        own.is_some_and(|server| server.weight == 0) || !self.queues()
    }

    /// Whether requests wait for a server at all.
    pub fn queues(&self) -> bool {
        self.backend.rules.is_some()
    }

    /// Takes a place among those who wait, for a request that found no server with room. `waker` is woken when it is its turn or it is
    /// refused.
    ///
    /// # Errors
    /// It may not wait, and why.
    pub fn wait(self: &Rc<Self>, ask: &Ask<'_>, rank: Rank, waker: &Waker) -> Result<Place, Refusal> {
        let rules = self.backend.rules.ok_or(Refusal::Full)?;
        self.backend.enter((ask.now, ask.tried), rank, rules, waker)
    }

    /// Time has passed; to be called now and then.
    pub fn look_at_queue(&self, now: Micros) {
        self.backend.poke(now);
    }

    /// A slot was given back: somebody who waits may have it.
    #[inline]
    pub(super) fn pass_on(&self, index: u32) {
        if self.backend.waiting.count() > 0 {
            self.backend.call_for(index);
        }
    }
}
