//! `words.rs` of the proxy, with the locks of `shuttle`.

#[path = "../../crates/plimsoll-proxy/src/words.rs"]
mod words;

pub use words::{Heard, Told, Words};

/// What the proxy's own `sync.rs` is for.
mod sync {
    pub(crate) use shuttle::sync::Mutex;
}
