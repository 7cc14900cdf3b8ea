//! What an operator sees when a configuration is wrong.
//!
//! A `Problem` has a code for machines, a message, the place and mostly a line of help. The other modules report into a
//! `Report` and go on, so that one run shows everything; `Problems` is what the caller gets, sorted by place. Rendering
//! is in `render`. Never drops a problem and never stops at the first.

use std::path::PathBuf;
use std::sync::Arc;

use crate::source::{At, Source};

/// The kind of a problem: stable, for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The text is not TOML.
    Syntax,
    /// A key stands twice in one table.
    DuplicateKey,
    /// Nobody knows this key.
    UnknownKey,
    /// Known, but this version cannot do it.
    NotSupported,
    /// A string where a number belongs, and the like.
    WrongType,
    /// A key that must be there is not.
    MissingKey,
    /// Keys that exclude each other, or one that has no meaning here.
    KeyConflict,
    /// A time or size that is not written as one.
    BadUnit,
    /// Below the least or above the greatest value.
    OutOfRange,
    /// Not one of the words that are possible.
    UnknownWord,
    /// Not an address that can be bound or reached.
    BadAddress,
    /// A string that is not of the form wanted.
    BadValue,
    /// `${NAME}` names a variable that is not set.
    UnsetVariable,
    /// `${` that is not a whole reference.
    BadReference,
    /// A name that no backend has.
    UnknownBackend,
    /// A backend that nothing sends to.
    UnusedBackend,
    /// A name or address that stands twice.
    Duplicate,
    /// Two routes ask for the same.
    DuplicateRoute,
    /// A setting that stands in two files.
    SetTwice,
    /// Nothing to listen on, or nowhere to send to.
    NothingToDo,
    /// Allowed, but hardly what is meant.
    Suspicious,
}

impl Code {
    /// The code as it is written, e.g. `unknown-key`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::DuplicateKey => "duplicate-key",
            Self::UnknownKey => "unknown-key",
            Self::NotSupported => "not-supported-yet",
            Self::WrongType => "wrong-type",
            Self::MissingKey => "missing-key",
            Self::KeyConflict => "key-conflict",
            Self::BadUnit => "bad-unit",
            Self::OutOfRange => "out-of-range",
            Self::UnknownWord => "unknown-word",
            Self::BadAddress => "bad-address",
            Self::BadValue => "bad-value",
            Self::UnsetVariable => "unset-variable",
            Self::BadReference => "bad-reference",
            Self::UnknownBackend => "unknown-backend",
            Self::UnusedBackend => "unused-backend",
            Self::Duplicate => "duplicate",
            Self::DuplicateRoute => "duplicate-route",
            Self::SetTwice => "set-twice",
            Self::NothingToDo => "nothing-to-do",
            Self::Suspicious => "suspicious",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub(crate) code: Code,
    pub(crate) at: At,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) related: Vec<(At, String)>,
}

impl Problem {
    pub(crate) fn new(code: Code, at: At, message: impl Into<String>) -> Self {
        Self { code, at, message: harmless(&message.into()), help: None, related: Vec::new() }
    }

    /// What to do about it; `None` adds nothing.
    pub(crate) fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into().map(|text| harmless(&text)).or(self.help);
        self
    }

    /// Another place that belongs to it.
    pub(crate) fn also(mut self, at: At, label: impl Into<String>) -> Self {
        self.related.push((at, harmless(&label.into())));
        self
    }

    /// The kind, stable for machines.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What is wrong, one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn help_line(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

/// The text with control characters written as escapes: a configuration may come from anywhere, and none of it may
/// steer a terminal.
fn harmless(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Collects what is found on the way.
#[derive(Debug, Default)]
pub(crate) struct Report {
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Files with certificates, and where they are named.
    pub(crate) authorities: Vec<(PathBuf, At)>,
}

impl Report {
    pub(crate) fn error(&mut self, problem: Problem) {
        self.errors.push(problem);
    }

    pub(crate) fn warn(&mut self, problem: Problem) {
        self.warnings.push(problem);
    }

    /// Drops all but what is wrong with the TOML itself.
    pub(crate) fn only_syntax(mut self) -> Self {
        self.errors.retain(|problem| matches!(problem.code, Code::Syntax | Code::DuplicateKey));
        self
    }

    /// The warnings when there is no error, else the errors.
    pub(crate) fn finish(self, sources: &[Source]) -> Result<Problems, Problems> {
        let sources: Arc<[Source]> = sources.into();
        if self.errors.is_empty() {
            Ok(Problems::new(self.warnings, sources, Severity::Warning))
        } else {
            Err(Problems::new(self.errors, sources, Severity::Error))
        }
    }
}

/// Whether the configuration can be used in spite of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Error,
    Warning,
}

/// All problems of one configuration, in the order of the text. Not empty where it is an error; may be where it holds
/// warnings.
#[derive(Debug, Clone)]
pub struct Problems {
    list: Vec<Problem>,
    pub(crate) sources: Arc<[Source]>,
    pub(crate) severity: Severity,
}

impl Problems {
    fn new(mut list: Vec<Problem>, sources: Arc<[Source]>, severity: Severity) -> Self {
        list.sort_by_key(|problem| (problem.at.file, problem.at.start));
        Self { list, sources, severity }
    }

    pub(crate) fn add(&mut self, problem: Problem) {
        self.list.push(problem);
        self.list.sort_by_key(|problem| (problem.at.file, problem.at.start));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none (only possible for warnings).
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Each problem, in the order of the text.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// File, line and column (both from 1, columns in characters) where `problem` is.
    pub fn place(&self, problem: &Problem) -> (&str, usize, usize) {
        self.locate(problem.at)
    }

    pub(crate) fn locate(&self, at: At) -> (&str, usize, usize) {
        let source = &self.sources[at.file];
        let (line, column) = source.line_and_column(at.start);
        (&source.path, line, column)
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(harmless("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\n");
    }
}
