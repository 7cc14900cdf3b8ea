//! Messages to the operator, on standard error: one line each, never in a request's way.
//!
//! A thread that serves must not write itself, because standard error may be a pipe that nobody reads: it leaves its message, and
//! whoever runs the proxy tells it.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// Messages that may wait to be told; more are left out.
const WAITING: usize = 32;

static LEFT: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Writes `plimsoll: message`. A closed standard error is no reason to stop serving.
pub fn notice(message: &str) {
    // In one write: during an upgrade two processes share standard error.
    let _ = std::io::stderr().lock().write_all(format!("plimsoll: {message}\n").as_bytes());
}

/// Leaves a message for [`tell`].
pub(crate) fn leave(message: String) {
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    if left.len() < WAITING {
        left.push_back(message);
    }
}

/// Writes what was left.
pub(crate) fn tell() {
    // Taken out first: the lock is never held while writing.
    let left = std::mem::take(&mut *LEFT.lock().unwrap_or_else(PoisonError::into_inner));
    left.iter().for_each(|message| notice(message));
}
