//! Sticky routes: how requests that belong together are told, and the secret without which no cookie is sealed.
//!
//! A cookie without a secret is an error and no default stands in: what a configuration has by itself (names, addresses) is no secret,
//! and what one process makes up is gone with it and unknown to the instance beside it.

use super::Compiler;
use super::admin::STICKY_SECRET;
use crate::address::Fault;
use crate::defaults::COOKIE_NAME;
use crate::model::{Action, Route, SameSite, Sticky, StickyCookie, Token};
use crate::node::{Fields, Written};
use crate::pattern::is_token;
use crate::problem::{Code, Problem};
use crate::suggest::closest;

/// What `by` says.
enum By {
    Cookie(Option<String>),
    Header(String),
}

/// Keys of the table that describe a cookie.
const OF_COOKIES: [&str; 4] = ["max_age", "path", "same_site", "secure"];

impl Compiler<'_> {
    /// What a route's `sticky` says.
    pub(super) fn sticky(&mut self, table: &Fields, action: &Action) -> Option<Sticky> {
        let path = table.text("path").map(|written| self.accept(parse_cookie_path(written), written.at));
        let name = match self.read(table.text("by"), parse_by)? {
            By::Header(name) => {
                self.refuse_cookie_keys(table);
                return Some(Sticky::Header(name));
            }
            By::Cookie(name) => name.unwrap_or_else(|| self.cookie_name(action)),
        };
        Some(Sticky::Cookie(StickyCookie {
            name,
            max_age: table.time("max_age"),
            path: path.flatten().unwrap_or_else(|| "/".to_owned()),
            same_site: match table.text("same_site").map_or("lax", |written| written.text) {
                "strict" => SameSite::Strict,
                "none" => SameSite::None,
                _ => SameSite::Lax,
            },
            secure: table.flag("secure"),
        }))
    }

    /// Named after the first backend, so that routes to the same one share its sessions and those to different ones don't
    /// take them from each other; the first alone, so that a canary added behind it leaves sessions where they are.
    fn cookie_name(&self, action: &Action) -> String {
        let Action::Proxy(split) = action else { return String::new() };
        let first = split.first().map_or("", |&(backend, _)| &self.backends[backend].name);
        format!("{COOKIE_NAME}{first}")
    }

    fn refuse_cookie_keys(&mut self, table: &Fields) {
        let given = |name: &&str| table.find(name).filter(|field| field.node.given);
        for field in OF_COOKIES.iter().filter_map(given) {
            let message = format!("`{}` has no meaning for a header", field.name);
            let problem = Problem::new(Code::KeyConflict, field.at, message);
            self.report.error(problem.help("leave it out: nothing is set".to_owned()));
        }
    }

    /// The secret, which cookies must have.
    pub(super) fn sticky_secret(&mut self, root: &Fields, routes: &[Route]) -> Option<Token> {
        let has_cookie = routes.iter().any(|route| matches!(route.sticky, Some(Sticky::Cookie(_))));
        if let Some(field) = root.find("sticky") {
            if !has_cookie {
                let message = "no route sets a sticky cookie, so nothing is sealed with the secret";
                self.report.warn(Problem::new(Code::Suspicious, field.at, message));
            }
            return self.secret(&STICKY_SECRET, field.node.fields()?);
        }
        let is_cookie =
            |table: &Fields| table.text("by").is_some_and(|by| by.text.split(':').next() == Some("cookie"));
        let sticky = root.items("route").iter().filter_map(|route| route.fields()?.find("sticky"));
        let mut cookies = sticky.filter(|field| field.node.fields().is_some_and(is_cookie));
        if !root.probably_has("sticky")
            && let Some(first) = cookies.next()
        {
            let problem = Problem::new(Code::MissingKey, first.at, "a sticky cookie takes a secret");
            self.report.error(problem.help(format!("add `[sticky]` with {}", STICKY_SECRET.example())));
        }
        None
    }
}

fn parse_by(text: &str) -> Result<By, Fault> {
    let fault = |message: String| Fault::new(Code::BadValue, message);
    let (kind, name) = match text.split_once(':') {
        Some((kind, name)) => (kind, Some(name)),
        None => (text, None),
    };
    match (kind, name) {
        ("cookie", None) => Ok(By::Cookie(None)),
        ("cookie", Some(name)) if is_token(name) => Ok(By::Cookie(Some(name.to_owned()))),
        ("header", Some(name)) if is_token(name) => Ok(By::Header(name.to_ascii_lowercase())),
        ("cookie" | "header", _) => {
            let example = if kind == "header" { "x-session" } else { "session" };
            Err(fault(format!("`{text}` does not name the {kind}"))
                .help(format!("write \"{kind}:{example}\"")))
        }
        _ => Err(fault(format!("`{text}` is not what a session goes by")).help(
            match closest(kind, ["cookie", "header"]) {
                Some("header") => "did you mean `header:NAME`?",
                Some(_) => "did you mean `cookie`?",
                None => "it is `cookie`, `cookie:NAME` or `header:NAME`",
            },
        )),
    }
}

/// What can stand in a cookie's `Path` (RFC 6265, 4.1.1).
fn parse_cookie_path(written: Written<'_>) -> Result<String, Fault> {
    let text = written.text;
    let sound = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
    if !sound {
        return Err(Fault::new(Code::BadValue, format!("`{text}` cannot be a cookie's path"))
            .help("begin with `/`, without spaces and `;`: \"/shop\""));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_goes_by() {
        assert!(matches!(parse_by("cookie"), Ok(By::Cookie(None))));
        assert!(matches!(parse_by("cookie:Id"), Ok(By::Cookie(Some(name))) if name == "Id"));
        assert!(matches!(parse_by("header:X-Session"), Ok(By::Header(name)) if name == "x-session"));
        for wrong in ["", "header", "header:", "cookie:", "cookie:a b", "cookie:a=b", "cookie:a;b", "ip"] {
            assert!(parse_by(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_ends_no_attribute() {
        let is_fine = |text| {
            let at = crate::source::At { file: 0, start: 0, end: 0 };
            parse_cookie_path(Written { text, at }).is_ok()
        };
        assert!(is_fine("/") && is_fine("/shop/a"));
        assert!(["", "shop", "/a;b", "/a b", "/a\r\n", "/ü"].iter().all(|path| !is_fine(path)));
    }
}
