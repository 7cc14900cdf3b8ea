//! The view of a path that routes are matched on: RFC 3986, 6.2.2, so that two spellings of one path match alike.
//!
//! In goes the raw path of a request, out comes the same without dot segments (also those written `%2e`), with `%XX` of
//! unreserved characters decoded and the hex digits of all others in upper case. `%2F` stays, and so do empty segments: to
//! most servers they mean something. The result is for matching only; it must never be forwarded.

use std::borrow::Cow;

/// The normal form; borrowed when the path has it already.
pub(crate) fn normalise(path: &[u8]) -> Cow<'_, [u8]> {
    if is_normal(path) { Cow::Borrowed(path) } else { Cow::Owned(without_dots(&decoded(path))) }
}

fn is_normal(path: &[u8]) -> bool {
    path.iter().enumerate().all(|(i, &byte)| match byte {
        b'%' => escape(&path[i..])
            .is_none_or(|value| !unreserved(value) && !path[i + 1..i + 3].iter().any(u8::is_ascii_lowercase)),
        b'/' => !is_dots(path[i + 1..].split(|&b| b == b'/').next().unwrap_or_default()),
        _ => true,
    })
}

/// The value of the `%XX` that `bytes` begins with.
fn escape(bytes: &[u8]) -> Option<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|&b| char::from(b).to_digit(16));
    Some((digit(1)? * 16 + digit(2)?) as u8)
}

fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn is_dots(segment: &[u8]) -> bool {
    matches!(segment, b"." | b"..")
}

fn decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        match (path[at], escape(&path[at..])) {
            (b'%', Some(value)) => {
                if unreserved(value) {
                    out.push(value);
                } else {
                    out.extend(path[at..at + 3].to_ascii_uppercase());
                }
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// RFC 3986, 5.2.4.
fn without_dots(path: &[u8]) -> Vec<u8> {
    let Some(rest) = path.strip_prefix(b"/") else {
        return path.to_vec();
    };
    let mut out = Vec::with_capacity(path.len());
    let mut segments = rest.split(|&b| b == b'/').peekable();
    while let Some(segment) = segments.next() {
        if !is_dots(segment) {
            out.push(b'/');
            out.extend_from_slice(segment);
            continue;
        }
        if segment == b".." {
            out.truncate(out.iter().rposition(|&b| b == b'/').unwrap_or(0));
        }
        if segments.peek().is_none() {
            out.push(b'/');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(path: &str) -> String {
        String::from_utf8(normalise(path.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn follows_the_rfc() {
        for (raw, expected) in [
            ("/a/b/c/./../../g", "/a/g"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/..", "/"),
            ("/../../a", "/a"),
            ("/.", "/"),
            ("/%2e%2E/a/%2e", "/a/"),
            ("/a/.%2e/b", "/b"),
            ("/%7Euser/%61", "/~user/a"),
            ("/a%2fb%c3%A9", "/a%2Fb%C3%A9"),
            ("//a/..", "//"),
            ("/a/.../..b/.c", "/a/.../..b/.c"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/%zz/%4", "/%zz/%4"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(normal(raw), expected, "{raw}");
        }
    }

    #[test]
    fn a_normal_path_is_not_copied() {
        for path in ["/", "/v1/users", "/a%20b/%2F", "/.well-known/x", "/a//b", "*"] {
            assert!(matches!(normalise(path.as_bytes()), Cow::Borrowed(_)), "{path}");
        }
    }

    #[test]
    fn normalising_twice_changes_nothing_more_unless_decoding_made_an_escape() {
        let mut dice = crate::Dice::new(1);
        for _ in 0..20_000 {
            let path: Vec<u8> = (0..dice.below(12)).map(|_| b"/.%2eE5Ffa"[dice.below(10) as usize]).collect();
            let once = normalise(&path).into_owned();
            // `%%41` is not valid in a target, and becomes `%A`, which may form an escape with what follows.
            if !path.windows(2).any(|w| w == b"%%") && !path.windows(3).any(|w| w[0] == b'%' && w[2] == b'%')
            {
                assert_eq!(normalise(&once), once, "{}", String::from_utf8_lossy(&path));
            }
        }
    }
}
