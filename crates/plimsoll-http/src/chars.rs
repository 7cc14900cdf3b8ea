//! Which bytes may stand where: tables for the grammar of RFC 9110 and 9112.
//!
//! What is long, names, values and targets, is looked through sixteen bytes at a time: see `lanes`.

use crate::lanes::value_len;

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

/// A byte of a field value: anything but controls, HTAB allowed.
pub(crate) fn is_value_byte(b: u8) -> bool {
    (b >= 0x20 && b != 0x7f) || b == b'\t'
}

/// True if every byte may stand in a field value.
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    value_len(bytes) == bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_no_separators() {
        assert!(is_token(b"X-Forwarded-For"));
        for bad in ["", "a b", "a:", "a(", "a\"", "a/", "\u{e9}", "a\0"] {
            assert!(!is_token(bad.as_bytes()), "{bad:?}");
        }
    }
}
