//! What a request to the API names and what it demands: names in its path, `If-Match`, and where something new is afterwards.
//!
//! Pieces of a request go in; what they mean comes out, or a [`Problem`]. Asks nobody and changes nothing.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use crate::servers::Problem;

/// The names in a request's path, decoded.
pub(crate) struct Named<T>(pub(crate) T);

impl<T, S: Send + Sync> FromRequestParts<S> for Named<T>
where
    Path<T>: FromRequestParts<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::from_request_parts(parts, state).await;
        let wrong = |_| malformed("a name in the path is not percent-encoded UTF-8");
        path.map(|Path(names)| Named(names)).map_err(wrong)
    }
}

/// Whether the file is to keep the change: `?persist=true`.
pub(crate) struct Persist(pub(crate) bool);

impl<S: Sync> FromRequestParts<S> for Persist {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match parts.uri.query() {
            None | Some("" | "persist=false") => Ok(Persist(false)),
            Some("persist=true") => Ok(Persist(true)),
            Some(_) => Err(malformed("the query is `persist=true`, `persist=false`, or none")),
        }
    }
}

fn malformed(detail: &str) -> Problem {
    Problem(StatusCode::BAD_REQUEST, detail.to_owned())
}

/// `If-Match` as one list, whatever lines it came in (RFC 9110, 5.3); `None` without it.
///
/// # Errors
/// It is neither `*` nor a list of entity tags (13.1.1). It would match nothing, and whoever sent it would be told that
/// somebody else was first.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let wrong = || malformed("`If-Match` is neither `*` nor a list of entity tags, in their quotes");
    let lines = headers.get_all(header::IF_MATCH).iter();
    let lines: Vec<&str> = lines.map(|line| line.to_str()).collect::<Result<_, _>>().map_err(|_| wrong())?;
    if lines.is_empty() {
        return Ok(None);
    }
    let list = lines.join(", ");
    let is_sound = list.trim() == "*" || are_tags(&list);
    is_sound.then_some(Some(list)).ok_or_else(wrong)
}

/// RFC 9110, 5.6.1.2 and 8.8.3: at least one entity tag; a list may have empty elements.
fn are_tags(list: &str) -> bool {
    let (mut rest, mut count) = (list, 0);
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return count > 0;
        }
        let Some(opaque) = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"') else { return false };
        let Some((tag, after)) = opaque.split_once('"') else { return false };
        let after = after.trim_start_matches([' ', '\t']);
        if !tag.bytes().all(|byte| byte.is_ascii_graphic()) || !(after.is_empty() || after.starts_with(',')) {
            return false;
        }
        (rest, count) = (after, count + 1);
    }
}

/// The path of a server.
pub(crate) fn location(backend: &str, server: &str) -> String {
    format!("/v1/backends/{}/servers/{}", escaped(backend), escaped(server))
}

/// RFC 3986, 2.3: what is unreserved stands for itself.
fn escaped(segment: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let one = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    segment.bytes().map(one).collect()
}

/// A problem as it is sent: RFC 9457.
pub(crate) fn details(status: StatusCode, detail: &str) -> Value {
    let title = status.canonical_reason().unwrap_or("error");
    serde_json::json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Option<Option<String>> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::IF_MATCH, line.parse().unwrap());
        }
        if_match(&headers).ok()
    }

    #[test]
    fn all_lines_are_one_list() {
        assert_eq!(of(&[]), Some(None));
        assert_eq!(of(&["\"a\"", "W/\"b\" ,\t\"c\""]), Some(Some("\"a\", W/\"b\" ,\t\"c\"".to_owned())));
        assert_eq!(of(&[" * "]).flatten().as_deref().map(str::trim), Some("*"));
        assert!(of(&[", \"a,b\",, \"\""]).is_some());
    }

    #[test]
    fn what_is_no_list_of_tags_is_told_so() {
        for lines in [
            &["a"][..],
            &["\"a"],
            &[""],
            &[","],
            &["*, \"a\""],
            &["*", "*"],
            &["\"a\" \"b\""],
            &["w/\"a\""],
            &["\"a b\""],
            &["\"a\"", "b"],
            &["\"\u{e4}\""],
        ] {
            assert_eq!(of(lines), None, "{lines:?}");
        }
    }

    #[test]
    fn every_name_has_a_path() {
        assert_eq!(
            location("listen :8080", "unix:/a~b"),
            "/v1/backends/listen%20%3A8080/servers/unix%3A%2Fa~b"
        );
        assert_eq!(escaped("ü%"), "%C3%BC%25");
    }
}
