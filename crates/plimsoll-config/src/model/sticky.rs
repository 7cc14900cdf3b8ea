//! The model's part about sessions: how requests that belong together find the same server.
//!
//! As everywhere in the model, a value is always meaningful. It knows no server: that is `plimsoll-proxy`'s, with the secret.

use std::time::Duration;

/// How requests that belong together find the same server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sticky {
    /// The client is told, and brings it back.
    Cookie(StickyCookie),
    /// The value of this header decides; the name is lower case.
    Header(String),
}

/// A cookie that names a server to us and to nobody else. Always `HttpOnly`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StickyCookie {
    /// Its name, a token.
    pub name: String,
    /// `Max-Age`, of at least a second; without it, the browser's session.
    pub max_age: Option<Duration>,
    /// `Path`: begins with `/` and has nothing in it that would end the attribute.
    pub path: String,
    /// `SameSite`.
    pub same_site: SameSite,
    /// `Secure`, whatever is known about the client's connection.
    pub secure: bool,
}

/// Which requests from other sites carry a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Those that follow a link (the default).
    Lax,
    /// None.
    Strict,
    /// All of them, over TLS.
    None,
}
