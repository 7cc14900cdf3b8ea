//! A secret: compared, never shown.
//!
//! In goes a text that fits `Authorization: Bearer …` (RFC 6750, 2.1); out comes only whether another is the same. It has no way to be
//! printed: `Debug` says that it is there.

use std::fmt;
use std::hint::black_box;

use crate::defaults::{LONGEST_TOKEN, SHORTEST_TOKEN};

/// A bearer token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a token; the error says what is wrong with it and never quotes it.
    ///
    /// # Errors
    /// It is too short to be safe, too long, or has characters that a field cannot carry.
    pub fn new(text: &str) -> Result<Secret, String> {
        let is_token_character = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if !text.bytes().all(is_token_character) {
            return Err("has characters other than letters, digits and `-._~+/=`".to_owned());
        }
        match text.len() {
            length if length < SHORTEST_TOKEN => Err(format!("is shorter than {SHORTEST_TOKEN} characters")),
            length if length > LONGEST_TOKEN => Err(format!("is longer than {LONGEST_TOKEN} characters")),
            _ => Ok(Secret(text.to_owned())),
        }
    }

    /// Whether `other` is the same. Takes as long wherever they differ, so that nobody finds it out by the time; its length is no secret.
    #[must_use]
    pub fn is(&self, other: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differ = own.iter().zip(other).fold(0, |differ, (a, b)| black_box(differ | (a ^ b)));
        own.len() == other.len() && black_box(differ) == 0
    }

    /// The text, for whoever has to send it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0123456789abcdef";

    #[test]
    fn only_the_whole_text_is_the_same() {
        let secret = Secret::new(TEXT).unwrap();
        assert!(secret.is(TEXT.as_bytes()));
        for other in ["", "0123456789abcde", "0123456789abcdefg", "0123456789abcdeF", "x123456789abcdef"] {
            assert!(!secret.is(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn it_is_never_shown() {
        assert!(!format!("{:?}", Secret::new(TEXT).unwrap()).contains("0123"));
        let spaced = format!("{TEXT} {TEXT}");
        for wrong in ["tiny", &spaced, "ä123456789abcdef"] {
            let reason = Secret::new(wrong).unwrap_err();
            assert!(!reason.contains(wrong), "{reason}");
        }
    }
}
