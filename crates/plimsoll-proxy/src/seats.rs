//! A worker's client connections, each with what it holds: looked through when a limit appears that nobody counted for.
//!
//! While connections per client are not limited nobody counts them, so the first limit has to count those that are there. A worker finds
//! them here, once per publication and never for a request. A connection costs one entry, given back when its seat is dropped.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use crate::listener::Places;
use crate::worker::Worker;

/// The connections of one worker.
#[derive(Default)]
pub(crate) struct Seats {
    /// At a seat's number: whose connection it is, and what it holds.
    taken: RefCell<Vec<Option<(IpAddr, Places)>>>,
    free: RefCell<Vec<usize>>,
}

/// One connection's entry, for as long as it lives.
pub(crate) struct Seat {
    worker: Rc<Worker>,
    number: usize,
}

impl Seat {
    pub(crate) fn take(worker: &Rc<Worker>, peer: IpAddr, mut places: Places) -> Seat {
        places.count_client(peer); // the limit may have come while another worker handed it over
        let seats = &worker.seats;
        let mut taken = seats.taken.borrow_mut();
        let number = seats.free.borrow_mut().pop().unwrap_or(taken.len());
        match taken.get_mut(number) {
            Some(entry) => *entry = Some((peer, places)),
            None => taken.push(Some((peer, places))),
        }
        Seat { worker: Rc::clone(worker), number }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let seats = &self.worker.seats;
        let held = seats.taken.borrow_mut().get_mut(self.number).and_then(Option::take);
        seats.free.borrow_mut().push(self.number);
        drop(held); // after the borrows: it has work of its own to do
    }
}

impl Seats {
    /// Counts every connection that a limit of its listener concerns and that was not counted yet.
    pub(crate) fn count_clients(&self) {
        for (peer, places) in self.taken.borrow_mut().iter_mut().flatten() {
            places.count_client(*peer);
        }
    }
}
