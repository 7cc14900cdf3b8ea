//! What workers share is made of these: the standard library's, or, for the tests in `interleavings`, their twins of `shuttle`, which let a
//! scheduler decide after each step who goes on.
//!
//! Everything in this crate that two workers touch takes its atomics and locks from here. Nothing else may depend on `cfg(shuttle)`.

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(shuttle))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
