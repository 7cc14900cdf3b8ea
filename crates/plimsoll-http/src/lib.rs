//! HTTP/1 messages: bytes in, heads and bodies out, and back to bytes.
//!
//! Pure: no I/O, no clock, no `unsafe`; limits are inputs. One implementation serves requests and responses. It is strict on
//! purpose: where the RFCs let a recipient repair or reject, it rejects, because every repair is a chance for two
//! programs to read one message differently. The caller feeds [`Head::parse`] until a head is whole, asks
//! [`framing`] what follows it, feeds that to a [`Body`], and writes heads anew with [`emit`]; received
//! framing is never passed on.

#![forbid(unsafe_code)]

mod body;
mod chars;
pub mod emit;
mod field;
mod field_line;
pub mod framing;
mod head;
mod host;
mod lanes;
mod reason;
mod target;
pub mod trace_context;

pub use body::{Body, Decoded};
pub use field::{Field, Known, Span};
pub use head::{Head, Kind, Limits, Version};
pub use host::{host_without_port, valid_authority};
pub use reason::Reason;
pub use target::Target;
pub use trace_context::TraceParent;
