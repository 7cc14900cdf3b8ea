//! Bodies: by length, chunked, until close.
//!
//! In goes a `Reader` behind the head, out come the decoded body and the trailers. Chunk lines follow the ABNF of
//! RFC 9112, 7.1 with no white space after the size; extensions are checked and thrown away.

use super::head::{self, Length, Reader};
use super::{Fields, Rules, Stop};

/// The whole body.
pub(super) fn read(
    reader: &mut Reader<'_>,
    length: &Length,
    rules: &Rules,
    eof: bool,
) -> Result<(Vec<u8>, Fields), Stop> {
    match *length {
        Length::Exactly(count) => Ok((reader.take(count)?.to_vec(), Fields::default())),
        Length::Chunked => chunked(reader, rules),
        Length::UntilClose if eof => {
            Ok((reader.take(reader.rest().len() as u64)?.to_vec(), Fields::default()))
        }
        Length::UntilClose => Err(Stop::Incomplete),
    }
}

fn chunked(reader: &mut Reader<'_>, rules: &Rules) -> Result<(Vec<u8>, Fields), Stop> {
    let mut body = Vec::new();
    let mut extensions = 0;
    loop {
        let line = reader.line_within(16 + rules.chunk_extension, "chunk-extension-too-long")?;
        let (size, extension) = chunk_size(line)?;
        extensions += extension.len();
        if extension.len() > rules.chunk_extension || extensions > rules.chunk_extensions {
            return Err(Stop::Reject("chunk-extension-too-long"));
        }
        if !is_extension(extension) {
            return Err(Stop::Reject("chunk-extension"));
        }
        if size == 0 {
            return Ok((body, head::fields(reader, rules.trailer, rules.trailer_fields)?));
        }
        body.extend_from_slice(reader.take(size)?);
        reader.crlf()?;
    }
}

/// The size, and what stands behind it.
fn chunk_size(line: &[u8]) -> Result<(u64, &[u8]), Stop> {
    let end = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extension) = line.split_at(end);
    if digits.is_empty() || digits.len() > 16 || !matches!(extension, [] | [b';', ..]) {
        return Err(Stop::Reject("chunk-size"));
    }
    let text = std::str::from_utf8(digits).expect("hex digits are ASCII");
    let size = u64::from_str_radix(text, 16).expect("16 hex digits fit");
    if size >= 1 << 63 {
        return Err(Stop::Reject("chunk-size"));
    }
    Ok((size, extension))
}

/// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`.
fn is_extension(mut text: &[u8]) -> bool {
    while !text.is_empty() {
        let Some(rest) = trim_start(text).strip_prefix(b";") else {
            return false;
        };
        let Some(rest) = token(trim_start(rest)) else {
            return false;
        };
        text = match trim_start(rest).strip_prefix(b"=") {
            None => rest,
            Some(value) => match token(trim_start(value)).or_else(|| quoted_string(trim_start(value))) {
                Some(rest) => rest,
                None => return false,
            },
        };
    }
    true
}

fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

/// What follows the token at the start, if there is one.
fn token(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|&b| !head::is_tchar(b)).unwrap_or(text.len());
    (end > 0).then(|| &text[end..])
}

/// What follows the quoted string at the start, if there is one (RFC 9110, 5.6.4). Controls are gone already.
fn quoted_string(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', _, rest @ ..] => rest,
            [b'\\'] | [] => return None,
            [_, rest @ ..] => rest,
        };
    }
}
