//! The configuration with every default filled in, as TOML that says where each value came from.
//!
//! Reads the checked tree; the text loads to the same configuration. A key without a value of its own stands in a
//! comment with what then happens, so that nothing is hidden.

use crate::check::format_factor;
use crate::compile::{SECRETS, as_written};
use crate::flags::COMMAND_LINE;
use crate::interpolate::escape;
use crate::node::{Field, Fields, Node, Value};
use crate::source::Source;
use crate::units::{format_duration, format_percent, format_size};
use crate::vocabulary::{Default, Key};

/// Comments start here, unless the line is longer.
const COMMENT_COLUMN: usize = 40;

/// The whole text.
pub(crate) fn effective(root: &Fields, sources: &[Source]) -> String {
    let mut printer = Printer { sources, text: String::new() };
    printer.fields("", root);
    printer.text
}

struct Printer<'a> {
    sources: &'a [Source],
    text: String,
}

impl Printer<'_> {
    /// Plain values first: after a sub-table's header they would belong to that.
    fn fields(&mut self, path: &str, fields: &Fields) {
        let ordered = in_order(fields);
        for entry in &ordered {
            match entry {
                Entry::Set(field) if is_plain(&field.node) => self.plain(path, field),
                Entry::Set(_) => {}
                Entry::Unset(key, said) => self.line(&format!("# {}", key.name), &format!("default: {said}")),
            }
        }
        for entry in ordered {
            if let Entry::Set(field) = entry
                && !is_plain(&field.node)
            {
                self.nested(&join(path, &field.name), &field.node);
            }
        }
    }

    fn plain(&mut self, path: &str, field: &Field) {
        // What was included is already here.
        let mark = if field.name == "include" { "# " } else { "" };
        // A secret's value is for nobody to see; what refers to it is.
        let is_secret = SECRETS.iter().any(|secret| secret.table == path && secret.key == field.name);
        let value = match (is_secret, as_written(&field.node, self.sources)) {
            (true, Some(written)) => written.to_owned(),
            (true, None) => quoted("(not shown)"),
            (false, _) => plain(&field.node.value),
        };
        let text = format!("{mark}{} = {value}", quoted_key(&field.name));
        let origin = self.origin(&field.node);
        self.line(&text, &origin);
    }

    fn nested(&mut self, path: &str, node: &Node) {
        match &node.value {
            Value::List(items) => {
                for item in items {
                    self.table(&format!("[[{path}]]"), path, item);
                }
            }
            // `[backend]` alone would say nothing.
            Value::Table(fields)
                if fields.spec.is_none() && fields.entries.iter().any(|field| !is_plain(&field.node)) =>
            {
                self.fields(path, fields);
            }
            _ => self.table(&format!("[{path}]"), path, node),
        }
    }

    fn table(&mut self, header: &str, path: &str, node: &Node) {
        let Some(fields) = node.fields() else { return };
        self.text.push('\n');
        let origin = self.origin(node);
        self.line(header, &origin);
        self.fields(path, fields);
    }

    fn line(&mut self, text: &str, comment: &str) {
        let padding = COMMENT_COLUMN.saturating_sub(text.chars().count()).max(2);
        self.text.push_str(&format!("{text}{:padding$}# {comment}\n", ""));
    }

    fn origin(&self, node: &Node) -> String {
        if !node.given {
            return "default".to_owned();
        }
        let source = &self.sources[node.at.file];
        if source.path == COMMAND_LINE {
            return source.path.clone();
        }
        let (line, _) = source.line_and_column(node.at.start);
        // A path may hold anything, a comment may not.
        let path: String = source.path.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        format!("{path}:{line}")
    }
}

/// A key with a value, or one without and what that means.
enum Entry<'a> {
    Set(&'a Field),
    Unset(&'static Key, &'static str),
}

/// The entries in the order of the vocabulary; names that the user chose in the order of the file.
fn in_order(fields: &Fields) -> Vec<Entry<'_>> {
    let Some(spec) = fields.spec else {
        return fields.entries.iter().map(Entry::Set).collect();
    };
    let entry = |key: &'static Key| match (fields.find(key.name), &key.default) {
        (Some(field), _) => Some(Entry::Set(field)),
        (None, Default::Said(said)) => {
            let useful = key.only_with.is_none_or(|other| fields.find(other).is_some());
            useful.then_some(Entry::Unset(key, said))
        }
        (None, _) => None,
    };
    spec.keys.iter().filter_map(entry).collect()
}

/// Whether it stands on one line.
fn is_plain(node: &Node) -> bool {
    match &node.value {
        Value::Table(_) => false,
        Value::List(items) => items.iter().all(is_plain),
        _ => true,
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Text(text) => quoted(&escape(text)),
        Value::Number(number) => number.to_string(),
        Value::Factor(hundredths) => format_factor(*hundredths),
        Value::Percent(percent) => quoted(&format_percent(*percent)),
        Value::Time(time) => quoted(&format_duration(*time)),
        Value::Size(bytes) => quoted(&format_size(*bytes)),
        Value::Bool(flag) => flag.to_string(),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(|item| plain(&item.value)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(_) | Value::Wrong => String::new(),
    }
}

fn join(path: &str, name: &str) -> String {
    let name = quoted_key(name);
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

fn quoted_key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { name.to_owned() } else { quoted(name) }
}

/// A TOML basic string on one line.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_so_that_toml_reads_them_back() {
        let text = "a\"\\\n\t\u{1}\u{85}é";
        let table: toml::Table = format!("x = {}", quoted(text)).parse().unwrap();
        assert_eq!(table["x"].as_str(), Some(text));
    }
}
