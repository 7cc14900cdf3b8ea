//! JSON in which every key of an object stands once.
//!
//! Of a key that stands twice, parsers take the first, the last or none (RFC 8259, section 4), so two that read the same text would make different things of it;
//! TOML refuses it too. `serde_json` keeps the last without a word.

use std::collections::HashSet;

use serde_json::Value;

/// Why a text is not such JSON.
#[derive(Debug)]
pub enum Unsound {
    /// It is no JSON.
    Syntax(serde_json::Error),
    /// An object has this key twice.
    Twice(String),
}

/// Reads a text.
///
/// # Errors
/// It is no JSON, or an object in it has a key twice.
pub fn parse_json(text: &[u8]) -> Result<Value, Unsound> {
    let value = serde_json::from_slice(text).map_err(Unsound::Syntax)?;
    twice(text).map_or(Ok(value), |key| Err(Unsound::Twice(key)))
}

/// The first key that its object has already. The text is JSON: a string in an object is a key if `{` or `,` stands before it.
fn twice(text: &[u8]) -> Option<String> {
    // For each object and array that is open, the keys so far; an array has none.
    let mut open: Vec<Option<HashSet<String>>> = Vec::new();
    let mut is_key = false;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => {
                open.push((byte == b'{').then(HashSet::new));
                is_key = byte == b'{';
            }
            b'}' | b']' => drop(open.pop()),
            b',' => is_key = matches!(open.last(), Some(Some(_))),
            b'"' => {
                let end = string_end(text, at);
                let keys = open.last_mut().and_then(Option::as_mut).filter(|_| is_key);
                if let Some(keys) = keys {
                    // Written in two ways it is the same key.
                    let key: String = serde_json::from_slice(&text[at - 1..end]).ok()?;
                    if !keys.insert(key.clone()) {
                        return Some(key);
                    }
                }
                is_key = false;
                at = end;
            }
            _ => {}
        }
    }
    None
}

/// Behind the quotation mark that ends the string which begins at `from`.
fn string_end(text: &[u8], from: usize) -> usize {
    let mut at = from;
    while at < text.len() && text[at] != b'"' {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated(text: &str) -> Option<String> {
        match parse_json(text.as_bytes()) {
            Ok(_) => None,
            Err(Unsound::Twice(key)) => Some(key),
            Err(Unsound::Syntax(error)) => panic!("{text}: {error}"),
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_found_however_it_is_written() {
        for (text, key) in [
            (r#"{"a": 1, "a": 1}"#, "a"),
            (r#"{"a": 1, "b": [{}], "\u0061": 2}"#, "a"),
            (r#"[{"x": {"b": "}", "b": 1}}]"#, "b"),
            (r#"{"":1,"":2}"#, ""),
            (r#"{"a\"": "{", "c": ["a\"", "c"], "a\"": 1}"#, "a\""),
        ] {
            assert_eq!(repeated(text).as_deref(), Some(key), "{text}");
        }
    }

    #[test]
    fn values_and_keys_of_other_objects_are_no_repetition() {
        for text in [
            r#"{"a": "a", "b": "a", "c": ["a", "a"]}"#,
            r#"[{"a": 1}, {"a": 1}]"#,
            r#"{"a": {"a": {"a": 1}}, "b": {"a": 1}}"#,
            r#"{"a": "\\", "b": "\"a\": 1, \"a\": 1", "A": 1}"#,
            r#"[[], {}, "", 0, null]"#,
        ] {
            assert_eq!(repeated(text), None, "{text}");
        }
        assert!(matches!(parse_json(b"{\"a\": 1,}"), Err(Unsound::Syntax(_))));
    }
}
