//! What the fuzz targets check: bytes in, a panic out where a promise is broken.
//!
//! Those of the codec are shared with its tests, which replay the same inputs; the oracle is the one that the tests use.
//! Those of configuration, routing, discovery and servers' words are here.

#![forbid(unsafe_code)]

pub mod config;
pub mod list;
pub mod load_report;
#[path = "../../crates/plimsoll-http/tests/oracle/mod.rs"]
pub mod oracle;
#[path = "../../crates/plimsoll-http/tests/reading/mod.rs"]
pub mod reading;
pub mod route;
pub mod trace_context;
pub mod word;
