//! What workers share is made of these: the standard library's, or, for the tests in `interleavings`, their twins of `shuttle`, which let a
//! scheduler decide after each step who goes on.
//!
//! Only for files that those tests compile once more, each in a crate whose own `sync` has the twins.

pub(crate) use std::sync::Mutex;
