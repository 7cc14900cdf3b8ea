//! One line of a field section, whole: where its parts are, or what is wrong with it.
//!
//! In go the buffer and where a line begins; out come places. A good line costs one look at each of its bytes, and its end is found
//! by the same look that judges its value. Why a bad line is bad is found out apart, since such a line ends the message.

use memchr::memchr;

use crate::chars::value_len;
use crate::field::{Name, Span, name_at};
use crate::reason::Reason;

/// A field's line with nothing wrong in it, as places in the buffer.
pub(crate) struct FieldLine {
    pub(crate) from: usize,
    pub(crate) colon: usize,
    /// Where its CRLF begins.
    pub(crate) to: usize,
    pub(crate) underscore: bool,
}

impl FieldLine {
    /// The line that begins at `from`; `None` if it has not ended yet, or has a fault.
    pub(crate) fn at(buffer: &[u8], from: usize) -> Option<FieldLine> {
        let Name { len, underscore } = name_at(&buffer[from..]);
        let colon = from + len;
        if len == 0 || buffer.get(colon) != Some(&b':') {
            return None;
        }
        let to = colon + 1 + value_len(&buffer[colon + 1..]);
        buffer[to..].starts_with(b"\r\n").then_some(FieldLine { from, colon, to, underscore })
    }

    /// What is wrong with a line that has ended and is none.
    pub(crate) fn fault(line: &[u8]) -> Reason {
        if matches!(line[0], b' ' | b'\t') {
            return Reason::ObsFold;
        }
        let Some(colon) = memchr(b':', line) else { return Reason::FieldName };
        match name_at(line).len {
            len if len == colon && len > 0 => {
                if line[colon..].contains(&b'\r') {
                    Reason::LineEnd
                } else {
                    Reason::Control
                }
            }
            _ if colon > 0 && matches!(line[colon - 1], b' ' | b'\t') => Reason::SpaceBeforeColon,
            _ => Reason::FieldName,
        }
    }

    /// The value without white space around it, and whether the line is written as [`crate::emit::field`] would write it.
    pub(crate) fn value(&self, buffer: &[u8]) -> (Span, bool) {
        let canonical = is_canonical(&buffer[self.colon + 1..self.to]);
        match canonical {
            true => (Span::new(self.colon + 2, self.to), true),
            false => (Span::new(self.colon + 1, self.to).trim(buffer), false),
        }
    }
}

/// True if this, behind a colon, is one space and a value without white space around it.
fn is_canonical(bytes: &[u8]) -> bool {
    let white = |b: &u8| matches!(b, b' ' | b'\t');
    matches!(bytes, [b' ', value @ ..] if !value.first().is_some_and(white) && !value.last().is_some_and(white))
}

impl Span {
    /// Without optional white space at both ends.
    pub(crate) fn trim(self, buffer: &[u8]) -> Span {
        let bytes = self.of(buffer);
        let start = bytes.iter().position(|b| !matches!(b, b' ' | b'\t')).unwrap_or(bytes.len());
        let end = bytes.iter().rposition(|b| !matches!(b, b' ' | b'\t')).map_or(start, |at| at + 1);
        Span { from: self.from + start as u32, to: self.from + end as u32 }
    }
}
