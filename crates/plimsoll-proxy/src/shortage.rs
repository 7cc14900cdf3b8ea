//! What the operator is told when this process itself is short of something.

use plimsoll_traffic::pressure::{Level, Short};

/// A line for a change of the level.
pub(crate) fn shortage(level: Level, short: Option<Short>) -> String {
    let what = match level {
        Level::Calm => return "no longer under pressure: everything is as usual".to_owned(),
        Level::NoKeepAlive if short == Some(Short::Connections) => {
            "connections are not kept alive, and those that have idled longest are closed"
        }
        Level::NoKeepAlive => "connections are not kept alive",
        Level::Low => "new requests of the low class are refused",
        Level::Normal => "new requests are refused, but for the high class",
        Level::All => "new requests are refused, and no clients accepted",
    };
    let short = match short {
        Some(Short::Memory) => "short of memory",
        Some(Short::Connections) => "short of connections",
        Some(Short::Time) => "workers are behind",
        None => "the pressure falls",
    };
    format!("{short}: {what}")
}
