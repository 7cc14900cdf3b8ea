//! Sixteen bytes looked at together: how far a name goes, a value, a target.
//!
//! In go bytes, out comes how many of them are fine. The vectors are those of the processor that the program is built for (SSE2 on
//! x86-64, NEON on AArch64), so nothing is asked at run time. Each must agree with a look at one byte after the other, as the tests do.

use wide::u8x16;

/// How many bytes are looked at together.
const LANES: usize = 16;

/// How many bytes at the front are ASCII letters or hyphens, of which most names consist.
pub(crate) fn letters_len(bytes: &[u8]) -> usize {
    front(bytes, |v| {
        let from_a = (v | u8x16::splat(0x20)) - u8x16::splat(b'a');
        let letter = from_a.min(u8x16::splat(25)).simd_eq(from_a);
        !(letter | v.simd_eq(u8x16::splat(b'-')))
    })
}

/// How many bytes at the front may stand in a field value: all of them, or up to the first control that is not HTAB.
pub(crate) fn value_len(bytes: &[u8]) -> usize {
    front(bytes, |v| {
        let low = v.min(u8x16::splat(0x1f)).simd_eq(v);
        let tab = v.simd_eq(u8x16::splat(b'\t'));
        (low & !tab) | v.simd_eq(u8x16::splat(0x7f))
    })
}

/// How many bytes at the front may stand in a request target: printable ASCII without `#`.
pub(crate) fn target_len(bytes: &[u8]) -> usize {
    front(bytes, |v| {
        let from_first = v - u8x16::splat(0x21);
        let printable = from_first.min(u8x16::splat(0x7e - 0x21)).simd_eq(from_first);
        !printable | v.simd_eq(u8x16::splat(b'#'))
    })
}

/// How many bytes come before the first that `ends`, which must say so of NUL.
#[inline(always)]
fn front(bytes: &[u8], ends: impl Fn(u8x16) -> u8x16) -> usize {
    let mut rest = bytes;
    while let Some((block, behind)) = rest.split_first_chunk::<LANES>() {
        let ended = ends(u8x16::new(*block)).to_bitmask();
        if ended != 0 {
            return bytes.len() - rest.len() + ended.trailing_zeros() as usize;
        }
        rest = behind;
    }
    let ended = ends(u8x16::new(filled_up(rest))).to_bitmask();
    bytes.len() - rest.len() + ended.trailing_zeros() as usize
}

/// The bytes with NUL behind them.
#[cold]
fn filled_up(bytes: &[u8]) -> [u8; LANES] {
    let mut block = [0; LANES];
    block[..bytes.len()].copy_from_slice(bytes);
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chars::is_value_byte;

    /// Every byte at every place among others that are fine, in a text that is cut everywhere.
    fn agrees(len: impl Fn(&[u8]) -> usize, fine: impl Fn(u8) -> bool, fills: &[u8]) {
        for at in 0..36 {
            for b in 0..=255u8 {
                for &fill in fills {
                    let mut text = [fill; 36];
                    text[at] = b;
                    let first = if fine(b) { 36 } else { at };
                    assert_eq!(len(&text), first, "{b} at {at}");
                    text[35] = 0;
                    for to in [0, 1, 7, 15, 16, 17, 31, 32, 33, 35, 36] {
                        assert_eq!(len(&text[..to]), first.min(to).min(35), "{b} at {at}, {to} bytes");
                    }
                }
            }
        }
    }

    #[test]
    fn values_end_where_they_would_byte_by_byte() {
        agrees(value_len, is_value_byte, b"a \t\x80\xff");
    }

    #[test]
    fn targets_end_where_they_would_byte_by_byte() {
        agrees(target_len, |b| (0x21..=0x7e).contains(&b) && b != b'#', b"a/~!");
    }

    #[test]
    fn letters_are_told_from_all_others() {
        agrees(letters_len, |b| b.is_ascii_alphabetic() || b == b'-', b"aZ-z");
    }
}
