//! How a backend finds out which of its servers can serve.

use std::fmt;
use std::time::Duration;

use regex_automata::meta::Regex;

use crate::defaults;

/// When a server that fails requests is passed over for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eject {
    /// Failures in a row; 0 does not look at that.
    pub consecutive: u32,
    /// Percent of the requests of the last ten seconds that failed; 0 does not look at that.
    pub share: u32,
    /// Requests in that time without which the share says nothing.
    pub requests: u32,
    /// How long for the first time; each further time twice as long.
    pub base: Duration,
    /// The longest time.
    pub longest: Duration,
    /// Percent of the servers that may be out afterwards, for whatever reason. Never the last one.
    pub most: u32,
}

impl Default for Eject {
    fn default() -> Eject {
        Eject {
            consecutive: defaults::EJECT_CONSECUTIVE as u32,
            share: defaults::EJECT_SHARE as u32,
            requests: defaults::EJECT_REQUESTS as u32,
            base: defaults::EJECT_BASE,
            longest: defaults::EJECT_LONGEST,
            most: defaults::EJECT_MOST as u32,
        }
    }
}

/// How a server is asked regularly whether it is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is asked.
    pub how: How,
    /// Where, if not at the server's own port. Not with a Unix socket.
    pub port: Option<u16>,
    /// The time between two questions.
    pub every: Duration,
    /// The same while a server is new or down, for a while; not longer than `every`.
    pub every_down: Duration,
    /// How long a whole check may take; not longer than `every`.
    pub timeout: Duration,
    /// Failures in a row that take a server out; at least 1.
    pub fall: u32,
    /// Passes in a row that bring it back; at least 1. A server that has never passed needs one.
    pub rise: u32,
}

impl Check {
    /// With the usual times and counts.
    pub fn new(how: How) -> Check {
        Check {
            how,
            port: None,
            every: defaults::CHECK_EVERY,
            every_down: defaults::CHECK_EVERY_DOWN,
            timeout: defaults::CHECK_TIMEOUT,
            fall: defaults::CHECK_FALL as u32,
            rise: defaults::CHECK_RISE as u32,
        }
    }
}

/// What a check asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// An HTTP request.
    Http(HttpCheck),
    /// A connection.
    Tcp,
    /// A program's exit code: its absolute path, and its arguments.
    Program(Vec<String>),
}

/// The request of a check, and which answers pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// As it is sent.
    pub method: String,
    /// A path, with a query or without.
    pub path: String,
    /// `Host`; `None` is the server's address.
    pub host: Option<String>,
    /// Further fields.
    pub headers: Vec<(String, String)>,
    /// From and to, both included.
    pub statuses: Vec<(u16, u16)>,
    /// What the body must have in it.
    pub body: Option<String>,
    /// What must match somewhere in it.
    pub body_regex: Option<Pattern>,
}

impl HttpCheck {
    /// `GET` for a path; 200 to 399 pass.
    pub fn new(path: &str) -> HttpCheck {
        HttpCheck {
            method: "GET".to_owned(),
            path: path.to_owned(),
            host: None,
            headers: Vec::new(),
            statuses: vec![defaults::CHECK_STATUSES],
            body: None,
            body_regex: None,
        }
    }
}

/// A regular expression over bytes, with its text. Equal if the texts are.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// Of a bounded size; matching takes time in proportion to the input.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Pattern, String> {
        let syntax = regex_automata::util::syntax::Config::new().utf8(false);
        let config = Regex::config().nfa_size_limit(Some(defaults::REGEX_SIZE)).utf8_empty(false);
        let regex = Regex::builder().configure(config).syntax(syntax).build(text).map_err(|e| {
            e.syntax_error().map_or_else(|| "it is too large".to_owned(), |_| "it cannot be read".to_owned())
        })?;
        Ok(Pattern { text: text.to_owned(), regex })
    }

    /// Whether it matches somewhere in `bytes`.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.regex.is_match(bytes)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// Whether and how one server is checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ServerCheck {
    /// As its backend says.
    #[default]
    Backends,
    /// Not at all: it counts as well.
    Never,
    /// In its own way.
    Own(Box<Check>),
}
