//! Configuration texts, and the trees they parse to.
//!
//! TOML text goes in; out comes an owned tree in which every key and value knows its place (`At`), strings with `${ENV}`
//! filled in. Keys keep the order of the text. Never judges what a key means: that is `check`.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::interpolate::{Lookup, interpolate};
use crate::problem::{Code, Problem, Report};

/// One configuration text and the name to show for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path as the user wrote it; only shown.
    pub path: String,
    /// The text itself.
    pub text: String,
}

impl Source {
    /// Line and column of a byte offset, both from 1; columns count characters.
    pub(crate) fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let (start, _) = self.line_around(offset);
        let line = self.text[..start].bytes().filter(|byte| *byte == b'\n').count() + 1;
        (line, self.text[start..self.boundary(offset)].chars().count() + 1)
    }

    /// The line that holds a byte offset, without its end, and where it starts.
    pub(crate) fn line_around(&self, offset: usize) -> (usize, &str) {
        let offset = self.boundary(offset);
        let start = self.text[..offset].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[offset..].find('\n').map_or(self.text.len(), |at| offset + at);
        (start, self.text[start..end].trim_end_matches('\r'))
    }

    /// The offset, moved to the end of the text or the start of its character where it is none.
    fn boundary(&self, offset: usize) -> usize {
        self.text.floor_char_boundary(offset)
    }
}

/// A place: which source, and which bytes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) file: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A value as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) at: At,
    pub(crate) value: RawValue,
}

#[derive(Debug, Clone)]
pub(crate) enum RawValue {
    Text(String),
    /// `None`: does not fit 64 bits.
    Integer(Option<i64>),
    Float(f64),
    Bool(bool),
    Date,
    List(Vec<Raw>),
    Table(Vec<(RawKey, Raw)>),
    /// Reported already.
    Wrong,
}

impl RawValue {
    /// What it is, with its article.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number with a fraction",
            Self::Bool(_) => "true or false",
            Self::Date => "a date",
            Self::List(_) => "an array",
            Self::Table(_) => "a table",
            Self::Wrong => "wrong",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct RawKey {
    pub(crate) name: String,
    pub(crate) at: At,
}

/// Parses one source to its top-level entries. `None` when the text is not TOML: then nothing else is worth saying.
pub(crate) fn parse(
    file: usize,
    source: &Source,
    env: Lookup<'_>,
    report: &mut Report,
) -> Option<Vec<(RawKey, Raw)>> {
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    let mut readable = true;
    for error in errors {
        let problem = syntax_problem(file, source, &error);
        readable &= problem.code == Code::DuplicateKey;
        report.error(problem);
    }
    readable.then(|| Reader { file, source, env, report }.entries(document.get_ref()))
}

fn syntax_problem(file: usize, source: &Source, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(source.text.len()..source.text.len());
    let at = At { file, start: span.start, end: span.end };
    let written = source.text.get(span).unwrap_or_default();
    if error.message() == "duplicate key" {
        let message = format!("the key `{}` stands twice in one table", written.trim_matches(['"', '\'']));
        return Problem::new(Code::DuplicateKey, at, message).help("keep one of the two".to_owned());
    }
    Problem::new(Code::Syntax, at, error.message()).help(syntax_help(written))
}

fn syntax_help(written: &str) -> Option<String> {
    let first = written.chars().next()?;
    let bare = first.is_ascii_alphabetic() || first == ':' || first == '/' || first == '$';
    bare.then(|| "strings stand in quotes: \"…\"".to_owned())
}

struct Reader<'a> {
    file: usize,
    source: &'a Source,
    env: Lookup<'a>,
    report: &'a mut Report,
}

impl Reader<'_> {
    fn at(&self, span: std::ops::Range<usize>) -> At {
        At { file: self.file, start: span.start, end: span.end }
    }

    /// `toml` sorts by name; places tell the order of the text.
    fn entries(&mut self, table: &DeTable<'_>) -> Vec<(RawKey, Raw)> {
        let mut entries: Vec<_> = table.iter().map(|(key, value)| self.entry(key, value)).collect();
        entries.sort_by_key(|(key, _)| key.at.start);
        entries
    }

    fn entry(&mut self, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) -> (RawKey, Raw) {
        let name = RawKey { name: key.get_ref().to_string(), at: self.at(key.span()) };
        (name, self.value(value))
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>) -> Raw {
        let at = self.at(value.span());
        let value = match value.get_ref() {
            DeValue::String(text) => self.text(text, at),
            DeValue::Integer(number) => {
                RawValue::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok())
            }
            DeValue::Float(number) => {
                RawValue::Float(number.as_str().replace('_', "").parse().unwrap_or(f64::NAN))
            }
            DeValue::Boolean(value) => RawValue::Bool(*value),
            DeValue::Datetime(_) => RawValue::Date,
            DeValue::Array(items) => RawValue::List(items.iter().map(|item| self.value(item)).collect()),
            DeValue::Table(table) => RawValue::Table(self.entries(table)),
        };
        Raw { at, value }
    }

    fn text(&mut self, text: &str, at: At) -> RawValue {
        match interpolate(text, self.env) {
            Ok(text) => RawValue::Text(text),
            Err(fault) => {
                let written = self.source.text.get(at.start..at.end).unwrap_or_default();
                self.report.error(fault.problem(at, written));
                RawValue::Wrong
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: "x.toml".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(source("a\nöx").line_and_column(4), (2, 2));
    }

    #[test]
    fn a_place_past_the_end_is_the_end() {
        assert_eq!(source("ab\n").line_and_column(99), (2, 1));
    }

    #[test]
    fn a_line_is_shown_without_its_end() {
        assert_eq!(source("a\r\nb\r\n").line_around(3), (3, "b"));
    }

    #[test]
    fn keys_keep_the_order_of_the_text() {
        let mut report = Report::default();
        let entries = parse(0, &source("b = 1\na = 2\n"), &|_| None, &mut report).unwrap();
        assert_eq!(entries.iter().map(|(key, _)| key.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    }
}
