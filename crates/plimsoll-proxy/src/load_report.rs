//! The field in which servers report their load: `endpoint-load-metrics`, as ORCA has it.
//!
//! In goes an answer's head, out comes the report, if there is one that can be read. Where reports are of use the field is the balancer's: it
//! does not go on to clients, whom the state of a server is no concern of. Elsewhere it is a field like any other.

use plimsoll_http::{Field, Head};
use plimsoll_traffic::Report;

const NAME: &str = "endpoint-load-metrics";
/// The same as a message in base64, which is not read.
const BINARY: &str = "endpoint-load-metrics-bin";

/// The report in `head`.
pub(crate) fn read(head: &Head, bytes: &[u8]) -> Option<Report> {
    Report::parse(head.value(bytes, NAME)?)
}

/// True for a field that is the balancer's.
pub(crate) fn is_named(field: &Field, bytes: &[u8]) -> bool {
    let name = field.name.of(bytes);
    [NAME, BINARY].iter().any(|ours| name.eq_ignore_ascii_case(ours.as_bytes()))
}
