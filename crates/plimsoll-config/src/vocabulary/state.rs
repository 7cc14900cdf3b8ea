//! The key `state` of a server.

use super::Default::Text;
use super::{Choice, Key, Kind, key};

/// The words of `state`.
static STATES: Choice = Choice {
    words: &["ready", "drain", "maint"],
    later: &[],
    elsewhere: &[
        ("up", "ready"),
        ("enabled", "ready"),
        ("draining", "drain"),
        ("down", "maint"),
        ("disabled", "maint"),
        ("maintenance", "maint"),
    ],
};

pub(super) const STATE: Key = key(
    "state",
    Kind::Choice(&STATES),
    Text("ready"),
    "`drain` takes nothing new, also of sticky sessions, and finishes what it has. `maint` does the same and is not expected to work: when it comes back, its share grows slowly.",
);
