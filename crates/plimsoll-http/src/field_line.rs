//! One line of a field section, whole: where its parts are, or what is wrong with it.
//!
//! In go the buffer and where a line begins; out come places. A good line costs one look at each of its bytes, and its end is found
//! by the same look that judges its value. Why a bad line is bad is found out apart, since such a line ends the message.

use memchr::memchr;

use crate::field::{Name, Span, name_at};
use crate::lanes::value_len;
use crate::reason::Reason;

/// A field's line with nothing wrong in it.
pub(crate) struct FieldLine<'b> {
    /// Where it begins in the buffer.
    pub(crate) from: usize,
    pub(crate) name: Name<'b>,
    /// Between the colon and CRLF.
    pub(crate) value: &'b [u8],
}

impl FieldLine<'_> {
    /// The line that begins at `from`; `None` if it has not ended yet, or has a fault.
    #[inline(always)] // together with what is made of it, or places are passed on in memory
    pub(crate) fn at(buffer: &[u8], from: usize) -> Option<FieldLine<'_>> {
        let (name, bytes) = name_at(buffer.get(from..)?);
        let (&b':', bytes) = bytes.split_first()? else { return None };
        let (value, bytes) = bytes.split_at(value_len(bytes));
        let whole = !name.bytes.is_empty() && bytes.starts_with(b"\r\n");
        whole.then_some(FieldLine { from, name, value })
    }

    /// What is wrong with a line that has ended and is none.
    pub(crate) fn fault(line: &[u8]) -> Reason {
        if matches!(line[0], b' ' | b'\t') {
            return Reason::ObsFold;
        }
        let Some(colon) = memchr(b':', line) else { return Reason::FieldName };
        match name_at(line).0.bytes.len() {
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

    /// Its length without CRLF.
    pub(crate) fn len(&self) -> usize {
        self.name.bytes.len() + 1 + self.value.len()
    }

    /// The place of the value without white space around it, and whether the line is written as [`crate::emit::field`] would write it.
    pub(crate) fn trimmed(&self) -> (Span, bool) {
        let from = self.from + self.name.bytes.len() + 1;
        let place = Span::new(from, from + self.value.len());
        match is_canonical(self.value) {
            true => (Span { from: place.from + 1, ..place }, true),
            false => (place.within(self.value), false),
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
        self.within(self.of(buffer))
    }

    /// The same, given the bytes at this place.
    fn within(self, bytes: &[u8]) -> Span {
        let start = bytes.iter().position(|b| !matches!(b, b' ' | b'\t')).unwrap_or(bytes.len());
        let end = bytes.iter().rposition(|b| !matches!(b, b' ' | b'\t')).map_or(start, |at| at + 1);
        Span { from: self.from + start as u32, to: self.from + end as u32 }
    }
}
