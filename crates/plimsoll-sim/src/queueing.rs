//! Waiting for a server, as the proxy does it: production's own queue, with a bell in place of a task's waker.
//!
//! In goes a request that found no room, and later whoever production calls or refuses; out comes an attempt, or the end of the client's try.
//! Only virtual time passes here. It decides nothing: who goes and who is refused is what `plimsoll-traffic` says.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use plimsoll_traffic::{Micros, NoServer, Stand};

use crate::engine::Run;
use crate::events::Event;
use crate::report::End;

/// The slots of requests that production wants to tell something, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bells(Arc<Mutex<Vec<u32>>>);

/// One request's.
struct Bell {
    slot: u32,
    rung: Bells,
}

impl Bells {
    fn of(&self, slot: u32) -> Waker {
        Waker::from(Arc::new(Bell { slot, rung: self.clone() }))
    }

    fn take(&self) -> Vec<u32> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.0.lock().unwrap_or_else(PoisonError::into_inner).push(self.slot);
    }
}

impl Run<'_> {
    /// Takes a place for a request that found every server full.
    pub(crate) fn wait(&mut self, slot: u32) {
        let request = self.requests.at(slot);
        let (worker, key, high) =
            (request.arrived.worker as usize, request.arrived.key, request.arrived.high);
        let waker = self.bells.of(slot);
        match self.front.wait(worker, self.now, (key, high), &request.tried, &waker) {
            Ok((place, timeout)) => {
                request.place = Some(place);
                self.waiting += 1;
                self.events.push(self.now + timeout, Event::WaitEnds { worker: worker as u32 });
                self.answer_bells();
            }
            Err(_) => self.try_ended(slot, End::Refused),
        }
    }

    /// Gives up the place of a request that waits.
    pub(crate) fn leave_queue(&mut self, slot: u32) {
        if self.requests.at(slot).place.take().is_some() {
            self.waiting -= 1;
        }
    }

    /// Somebody's time may be up.
    pub(crate) fn wait_ends(&mut self, worker: u32) {
        self.front.look_at_queue(worker as usize, self.now);
    }

    /// Everybody whose bell has been rung finds out why.
    pub(crate) fn answer_bells(&mut self) {
        while self.waiting > 0 {
            let rung = self.bells.take();
            if rung.is_empty() {
                return;
            }
            rung.into_iter().for_each(|slot| self.answer_bell(slot));
        }
    }

    fn answer_bell(&mut self, slot: u32) {
        let now = Micros(self.now / 1_000);
        let request = self.requests.at(slot);
        let Some(place) = &mut request.place else { return };
        match place.poll(now, Waker::noop()) {
            Stand::Waits => {}
            Stand::Refused(_) => {
                self.leave_queue(slot);
                self.try_ended(slot, End::Refused);
            }
            Stand::Called => {
                let (worker, key) = (request.arrived.worker as usize, request.arrived.key);
                match self.front.pick(worker, self.now, key, &request.tried) {
                    Ok(held) => {
                        if let Some(place) = request.place.take() {
                            place.go();
                            self.waiting -= 1;
                        }
                        self.assign(slot, held);
                    }
                    Err(NoServer::Full) => place.put_back(false),
                    Err(_) => {
                        self.leave_queue(slot);
                        self.try_ended(slot, End::Refused);
                    }
                }
            }
        }
    }
}
