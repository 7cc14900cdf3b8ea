//! What the end-to-end tests share: the real program, a recording origin behind it, a raw client before it.
//!
//! `Plimsoll` runs the built binary on ports from the kernel. `Origin` is a TCP server on threads that keeps every byte
//! it receives and answers by script. `Client` writes raw bytes and reads answers with the oracle of the codec's tests.
//! Everything waits for events with one bound, `PATIENCE`, and panics with what it saw; nothing sleeps.

// Several test programs include this module and each uses a part of it.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod client;
#[path = "../../../plimsoll-http/tests/oracle/mod.rs"]
pub mod oracle;
mod origin;
mod program;

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

pub use client::{Answer, Client, exchange, get, show};
pub use origin::{Connection, Gate, Origin, Step, answer};
pub use program::Plimsoll;

/// How long anything may take before a test gives up; far more than a healthy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A value that threads change and a test waits on.
#[derive(Debug, Default)]
pub struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    /// Starts with `value`.
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Looks at it, or changes it, and wakes who waits.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Looks at it.
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock())
    }

    /// Waits until `found` finds something; `None` when patience ends.
    pub fn until<R>(&self, found: impl Fn(&T) -> Option<R>) -> Option<R> {
        let deadline = Instant::now() + PATIENCE;
        let mut value = self.lock();
        loop {
            if let Some(result) = found(&value) {
                return Some(result);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let waited = self.changed.wait_timeout(value, left);
            value = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}
