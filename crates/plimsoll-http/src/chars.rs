//! Which bytes may stand where: tables for the grammar of RFC 9110 and 9112.
//!
//! Whatever is long is looked through eight bytes at a time, as one word; each such function has its slow twin in the tests.

const TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~", true);
const HOST: [bool; 256] = table(b"-._~!$&'()*+;=%", true);

const fn table(extra: &[u8], alphanumeric: bool) -> [bool; 256] {
    let mut t = [false; 256];
    let mut i = 0;
    while i < extra.len() {
        t[extra[i] as usize] = true;
        i += 1;
    }
    let mut b = 0;
    while b < 256 {
        if alphanumeric && (b as u8).is_ascii_alphanumeric() {
            t[b] = true;
        }
        b += 1;
    }
    t
}

/// `tchar` (RFC 9110, 5.6.2).
pub(crate) fn is_token_byte(b: u8) -> bool {
    TOKEN[b as usize]
}

/// A non-empty `token`.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| TOKEN[b as usize])
}

/// A byte of `reg-name`, the comma left out (RFC 3986, 3.2.2).
pub(crate) fn is_host_byte(b: u8) -> bool {
    HOST[b as usize]
}

/// A byte of a request target: printable ASCII without `#`.
pub(crate) fn is_target_byte(b: u8) -> bool {
    (0x21..=0x7e).contains(&b) && b != b'#'
}

/// A byte of a field value: anything but controls, HTAB allowed.
pub(crate) fn is_value_byte(b: u8) -> bool {
    (b >= 0x20 && b != 0x7f) || b == b'\t'
}

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = ONES << 7;

/// How many bytes at the front are ASCII letters or hyphens, of which most names consist, in words of eight: what follows them may be more.
///
/// Adding to seven bits never carries into the next byte, so each top bit tells of its own byte alone.
pub(crate) fn letters_len(bytes: &[u8]) -> usize {
    let mut len = 0;
    for word in bytes.as_chunks::<8>().0 {
        let w = u64::from_le_bytes(*word);
        let lower = (w | (ONES * 0x20)) & !TOPS;
        let from_a = lower.wrapping_add(ONES * u64::from(0x80 - b'a'));
        let above_z = lower.wrapping_add(ONES * u64::from(0x7f - b'z'));
        let not_hyphen = ((w ^ (ONES * u64::from(b'-'))) & !TOPS).wrapping_add(!TOPS);
        let good = ((from_a & !above_z) | !not_hyphen) & !w & TOPS;
        if good != TOPS {
            return len + (good ^ TOPS).trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    len
}

/// How many bytes at the front may stand in a field value; all of them, or up to the first control.
///
/// Eight at a time: a byte below 0x20 borrows into its top bit when 0x20 is taken away; 0x7f becomes zero when xored. The word
/// test may report HTAB, or a neighbour behind a true hit, never one before it; so what it reports is looked at byte by byte.
pub(crate) fn value_len(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut len = 0;
    for word in words {
        let w = u64::from_le_bytes(*word);
        let low = w.wrapping_sub(ONES * 0x20) & !w;
        let x = w ^ (ONES * 0x7f);
        let del = x.wrapping_sub(ONES) & !x;
        let hits = (low | del) & TOPS;
        if hits != 0 {
            let first = hits.trailing_zeros() as usize / 8;
            if word[first] != b'\t' {
                return len + first;
            }
            if let Some(at) = word.iter().position(|&b| !is_value_byte(b)) {
                return len + at;
            }
        }
        len += 8;
    }
    len + rest.iter().position(|&b| !is_value_byte(b)).unwrap_or(rest.len())
}

/// True if every byte may stand in a field value.
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    value_len(bytes) == bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_at_a_time_agrees_with_one_at_a_time() {
        for at in 0..17 {
            for b in 0..=255u8 {
                for fill in [b'a', b' ', b'\t', 0x80, 0xff] {
                    let mut v = [fill; 17];
                    v[at] = b;
                    let first = v.iter().position(|&b| !is_value_byte(b)).unwrap_or(17);
                    assert_eq!(value_len(&v), first, "{b} at {at}");
                    let mut behind = v;
                    behind[16] = 0;
                    assert_eq!(value_len(&behind), first.min(16), "{b} at {at}, a control behind");
                }
            }
        }
    }

    #[test]
    fn letters_are_told_from_all_others_at_every_place() {
        for at in 0..24 {
            for b in 0..=255u8 {
                for fill in [b'a', b'Z', b'-'] {
                    let mut v = [fill; 24];
                    v[at] = b;
                    let good = b.is_ascii_alphabetic() || b == b'-';
                    assert_eq!(letters_len(&v), if good { 24 } else { at }, "{b} at {at}");
                    assert_eq!(letters_len(&v[..at]), at / 8 * 8, "only whole words");
                }
            }
        }
    }

    #[test]
    fn tokens_have_no_separators() {
        assert!(is_token(b"X-Forwarded-For"));
        for bad in ["", "a b", "a:", "a(", "a\"", "a/", "\u{e9}", "a\0"] {
            assert!(!is_token(bad.as_bytes()), "{bad:?}");
        }
    }
}
