//! Messages to the operator, on standard error: one line each, never in a request's way.

use std::io::Write;

/// Writes `plimsoll: message`. A closed standard error is no reason to stop serving.
pub fn notice(message: &str) {
    let _ = writeln!(std::io::stderr().lock(), "plimsoll: {message}");
}
