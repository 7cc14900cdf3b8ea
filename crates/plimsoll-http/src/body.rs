//! Bodies: where the data is, and where the message ends.
//!
//! [`Body::decode`] is given received bytes and moves the data to their front, dropping chunk lines, extensions and
//! trailers on the way: framing is never passed on, so nobody needs them again. The chunked grammar is read byte by byte
//! and strictly (RFC 9112, 7.1): CRLF only, 1 to 16 hexadecimal digits, no white space, budgets for everything else.

use crate::chars::{is_token_byte, is_value_byte};
use crate::framing::Framing;
use crate::reason::Reason;

/// Bytes of extensions that one chunk may carry.
const EXTENSION_MAX: u32 = 256;
/// Bytes of extensions that all chunks of a message may carry.
const EXTENSIONS_MAX: u32 = 16 * 1024;
/// Trailer fields and bytes.
const TRAILER_FIELDS_MAX: u32 = 16;
const TRAILERS_MAX: u32 = 8 * 1024;
const SIZE_DIGITS_MAX: u8 = 16;

/// A body being received.
#[derive(Debug)]
pub struct Body {
    state: State,
    extensions: u32,
    trailers: u32,
    trailer_fields: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    /// Digits so far and their value.
    Size(u8, u64),
    Extension(Ext, u64, u32),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    End,
}

/// Places in `*( ";" ext-name [ "=" ( token / quoted-string ) ] )`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ext {
    NameStart,
    Name,
    ValueStart,
    Value,
    Quoted,
    Escaped,
    AfterQuoted,
}

/// What one call of [`Body::decode`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of data, now at the front of the buffer.
    pub data: usize,
    /// Bytes of the input that were used up; all of them unless the body ended.
    pub consumed: usize,
    /// The message is whole.
    pub end: bool,
}

impl Body {
    /// A body framed so.
    #[must_use]
    pub fn new(framing: Framing) -> Body {
        let state = match framing {
            Framing::None => State::End,
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::Size(0, 0),
            Framing::UntilClose => State::UntilClose,
        };
        Body { state, extensions: 0, trailers: 0, trailer_fields: 0 }
    }

    /// The message is whole; further bytes belong to the next.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.state == State::End
    }

    /// What the end of the connection means here: true if it ends the message, false if it cuts it.
    #[must_use]
    pub fn ends_at_close(&self) -> bool {
        matches!(self.state, State::UntilClose | State::End)
    }

    /// Reads `buffer`, moves the data in it to its front, and says how much that is.
    ///
    /// # Errors
    /// A chunk line, its extensions or a trailer is outside the grammar or its budget. The message cannot be completed.
    pub fn decode(&mut self, buffer: &mut [u8]) -> Result<Decoded, Reason> {
        let (mut data, mut at) = (0, 0);
        while at < buffer.len() && self.state != State::End {
            let run = self.data_run(buffer.len() - at);
            if run > 0 {
                if data != at {
                    buffer.copy_within(at..at + run, data);
                }
                data += run;
                at += run;
            } else {
                self.state = self.step(buffer[at])?;
                at += 1;
            }
        }
        Ok(Decoded { data, consumed: at, end: self.is_end() })
    }

    /// How many of `available` bytes are data, which are then counted as taken.
    fn data_run(&mut self, available: usize) -> usize {
        let (left, after): (u64, fn(u64) -> State) = match self.state {
            State::UntilClose => return available,
            State::Length(left) => (left, |left| if left == 0 { State::End } else { State::Length(left) }),
            State::Data(left) => (left, |left| if left == 0 { State::DataCr } else { State::Data(left) }),
            _ => return 0,
        };
        let run = left.min(available as u64);
        self.state = after(left - run);
        run as usize // at most `available`
    }

    fn step(&mut self, byte: u8) -> Result<State, Reason> {
        match (self.state, byte) {
            (State::Size(digits, size), b) if b.is_ascii_hexdigit() => {
                if digits == SIZE_DIGITS_MAX {
                    return Err(Reason::ChunkSize);
                }
                Ok(State::Size(digits + 1, size << 4 | u64::from(hex(b))))
            }
            (State::Size(0, _), _) => Err(Reason::ChunkSize),
            // As with Content-Length: more than any program can count in a signed number is not a size.
            (State::Size(_, size), _) if size >= 1 << 63 => Err(Reason::ChunkSize),
            (State::Size(_, size), b'\r') => Ok(State::SizeLf(size)),
            (State::Size(_, size), b';') => self.extension_byte(Ext::NameStart, size, 0),
            (State::Size(..), b'\n') => Err(Reason::LineEnd),
            (State::Size(..), _) => Err(Reason::ChunkSize),
            (State::Extension(ext, size, used), b) => self.extension(ext, size, used, b),
            (State::SizeLf(0), b'\n') => Ok(State::TrailerStart),
            (State::SizeLf(size), b'\n') => Ok(State::Data(size)),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size(0, 0)),
            (State::DataCr | State::DataLf, _) => Err(Reason::ChunkEnd),
            (State::SizeLf(_) | State::TrailerLf | State::LastLf, b) if b != b'\n' => Err(Reason::LineEnd),
            (State::LastLf, _) => Ok(State::End),
            (state, b) => self.trailer(state, b),
        }
    }

    fn extension(&mut self, ext: Ext, size: u64, used: u32, byte: u8) -> Result<State, Reason> {
        let next = match (ext, byte) {
            (Ext::Name | Ext::Value | Ext::AfterQuoted, b'\r') => return Ok(State::SizeLf(size)),
            (Ext::Name | Ext::Value | Ext::AfterQuoted, b';') => Ext::NameStart,
            (Ext::Name, b'=') => Ext::ValueStart,
            (Ext::ValueStart | Ext::Quoted, b'"') => {
                if ext == Ext::Quoted {
                    Ext::AfterQuoted
                } else {
                    Ext::Quoted
                }
            }
            (Ext::NameStart | Ext::Name, b) if is_token_byte(b) => Ext::Name,
            (Ext::ValueStart | Ext::Value, b) if is_token_byte(b) => Ext::Value,
            (Ext::Quoted, b'\\') => Ext::Escaped,
            (Ext::Quoted | Ext::Escaped, b) if is_value_byte(b) => Ext::Quoted,
            (_, b'\n') => return Err(Reason::LineEnd),
            _ => return Err(Reason::ChunkExtension),
        };
        self.extension_byte(next, size, used)
    }

    /// Counts a byte of an extension against both budgets.
    fn extension_byte(&mut self, ext: Ext, size: u64, used: u32) -> Result<State, Reason> {
        self.extensions += 1;
        if used == EXTENSION_MAX || self.extensions > EXTENSIONS_MAX {
            return Err(Reason::ChunkExtensionTooLong);
        }
        Ok(State::Extension(ext, size, used + 1))
    }

    fn trailer(&mut self, state: State, byte: u8) -> Result<State, Reason> {
        self.trailers += u32::from((state, byte) != (State::TrailerStart, b'\r')); // the empty line is no trailer
        if self.trailers > TRAILERS_MAX {
            return Err(Reason::TrailersTooLarge);
        }
        match (state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::LastLf),
            (State::TrailerStart, b) if is_token_byte(b) => {
                self.trailer_fields += 1;
                if self.trailer_fields > TRAILER_FIELDS_MAX {
                    Err(Reason::TrailersTooLarge)
                } else {
                    Ok(State::TrailerName)
                }
            }
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerName, b) if is_token_byte(b) => Ok(State::TrailerName),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, b) if is_value_byte(b) => Ok(State::TrailerValue),
            (State::TrailerLf, _) => Ok(State::TrailerStart),
            (_, b'\n') => Err(Reason::LineEnd),
            _ => Err(Reason::Trailer),
        }
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes in pieces of `step` bytes; gives the data, and what was left over if the body ended.
    fn decode(framing: Framing, input: &[u8], step: usize) -> Result<(Vec<u8>, Option<usize>), Reason> {
        let (mut body, mut data, mut used) = (Body::new(framing), Vec::new(), 0);
        for piece in input.chunks(step) {
            let mut piece = piece.to_vec();
            let d = body.decode(&mut piece)?;
            data.extend_from_slice(&piece[..d.data]);
            used += d.consumed;
            if d.end {
                return Ok((data, Some(input.len() - used)));
            }
        }
        Ok((data, None))
    }

    fn chunked(input: &str) -> Result<(String, Option<usize>), Reason> {
        let whole = decode(Framing::Chunked, input.as_bytes(), usize::MAX);
        for step in 1..input.len() {
            assert_eq!(decode(Framing::Chunked, input.as_bytes(), step), whole, "cut at {step}: {input:?}");
        }
        whole.map(|(data, left)| (String::from_utf8(data).expect("text"), left))
    }

    #[test]
    fn chunks_become_data_and_what_follows_is_left() {
        assert_eq!(chunked("5\r\nhello\r\n0\r\n\r\n"), Ok(("hello".into(), Some(0))));
        assert_eq!(
            chunked("5\r\nhello\r\n00001\r\n!\r\n0\r\nA: b\r\n\r\nGET"),
            Ok(("hello!".into(), Some(3)))
        );
        assert_eq!(
            chunked("A;a;b=c;d=\"e\\\"; f\"\r\n0123456789\r\n0;z\r\n\r\n"),
            Ok(("0123456789".into(), Some(0)))
        );
        assert_eq!(chunked("5\r\nhel"), Ok(("hel".into(), None)));
    }

    #[test]
    fn sizes_are_plain_hexadecimal() {
        for bad in [
            "\r\n",
            "0x5\r\n",
            "+5\r\n",
            "-1\r\n",
            "5 \r\n",
            " 5\r\n",
            "5_\r\n",
            "5,5\r\n",
            "00000000000000005\r\n",
            "g\r\n",
            "5\t\r\n",
        ] {
            assert_eq!(chunked(bad), Err(Reason::ChunkSize), "{bad:?}");
        }
        assert_eq!(chunked("7fffffffffffffff\r\na"), Ok(("a".into(), None)));
        assert_eq!(chunked("8000000000000000\r\n"), Err(Reason::ChunkSize));
    }

    #[test]
    fn line_ends_are_crlf_only() {
        for bad in ["5\nhello\r\n", "5;a\nhello", "0\r\n\n", "0\r\nA: b\n", "5\r\r\n"] {
            assert_eq!(chunked(bad), Err(Reason::LineEnd), "{bad:?}");
        }
        for bad in ["5\r\nhello\n", "5\r\nhelloX\r\n", "5\r\nhello\rX", "5\r\nhello0\r\n"] {
            assert_eq!(chunked(bad), Err(Reason::ChunkEnd), "{bad:?}");
        }
    }

    #[test]
    fn extensions_are_parsed_and_have_budgets() {
        for bad in [
            "5;\r\n",
            "5;=a\r\n",
            "5;a=\r\n",
            "5;a b\r\n",
            "5;a=\"b\"c\r\n",
            "5;a=\"b\0\"\r\n",
            "5; a\r\n",
            "5;a\rb",
        ] {
            assert!(chunked(bad).is_err(), "{bad:?}");
        }
        let one =
            |n: usize| decode(Framing::Chunked, format!("1;{}\r\na", "x".repeat(n)).as_bytes(), 64).err();
        assert_eq!(one(255), None);
        assert_eq!(one(256), Some(Reason::ChunkExtensionTooLong));
        let many = format!("1;{}\r\na\r\n", "x".repeat(200)).repeat(100);
        assert_eq!(decode(Framing::Chunked, many.as_bytes(), 64).err(), Some(Reason::ChunkExtensionTooLong));
    }

    #[test]
    fn trailers_are_checked_dropped_and_have_budgets() {
        for bad in ["0\r\n A: b\r\n", "0\r\nA : b\r\n", "0\r\nA\r\n", "0\r\n:b\r\n", "0\r\nA: \0\r\n"] {
            assert_eq!(chunked(bad), Err(Reason::Trailer), "{bad:?}");
        }
        let fields = |n: usize| {
            decode(Framing::Chunked, format!("0\r\n{}\r\n", "A: b\r\n".repeat(n)).as_bytes(), 64).err()
        };
        assert_eq!(fields(16), None);
        assert_eq!(fields(17), Some(Reason::TrailersTooLarge));
        let long = format!("0\r\nA: {}\r\n\r\n", "b".repeat(9000));
        assert_eq!(decode(Framing::Chunked, long.as_bytes(), 64).err(), Some(Reason::TrailersTooLarge));
    }

    #[test]
    fn a_length_takes_exactly_that_much() {
        assert_eq!(decode(Framing::Length(3), b"abcd", 2), Ok((b"abc".to_vec(), Some(1))));
        assert_eq!(decode(Framing::Length(3), b"ab", 1), Ok((b"ab".to_vec(), None)));
        assert!(Body::new(Framing::None).is_end());
        assert!(!Body::new(Framing::Length(3)).ends_at_close());
        assert!(Body::new(Framing::UntilClose).ends_at_close());
    }
}
