//! Idle connections to one server, kept by one worker for its next request.
//!
//! A connection comes here only after a complete, unsurprising exchange. While it idles it must stay quiet: one that becomes
//! readable was closed by the server, or carries bytes that nobody asked for (response-queue poisoning), and is closed.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use plimsoll_traffic::Millis;

use crate::stream::Stream;

/// Last in, first out: the warmest connection serves, the others grow old and are closed.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<Vec<Idle>>,
    /// Its server is no longer configured: nothing is kept.
    retired: Cell<bool>,
}

struct Idle {
    stream: Stream,
    since: Millis,
}

impl Pool {
    /// A connection that is still quiet, if there is one.
    pub(crate) fn take(&self, now: Millis, max_idle: Duration) -> Option<Stream> {
        loop {
            let idle = self.idle.borrow_mut().pop()?;
            if idle.is_usable(now, max_idle) {
                return Some(idle.stream);
            }
        }
    }

    /// Keeps a connection, unless there are `max` already.
    pub(crate) fn put(&self, stream: Stream, now: Millis, max: usize) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < max && !self.retired.get() {
            idle.push(Idle { stream, since: now });
        }
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Closes all, and keeps nothing from now on: exchanges of the past may still bring connections back.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        self.clear();
    }

    #[cfg(test)]
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// Closes what is too old, closed or not quiet.
    pub(crate) fn sweep(&self, now: Millis, max_idle: Duration) {
        self.idle.borrow_mut().retain(|idle| idle.is_usable(now, max_idle));
    }
}

impl Idle {
    fn is_usable(&self, now: Millis, max_idle: Duration) -> bool {
        u128::from(now.0.saturating_sub(self.since.0)) < max_idle.as_millis() && self.stream.is_quiet()
    }
}
