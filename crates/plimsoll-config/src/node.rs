//! The checked tree: every value of the right type and in range, defaults filled in.
//!
//! Made by `check`, read by `compile` and `effective`. A value that was wrong is `Wrong`, so that its absence is not
//! reported a second time; reading it gives `None`, which is a placeholder since the configuration will be refused.

use std::time::Duration;

use crate::source::At;
use crate::vocabulary::Table;

/// A value and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// For a default: the table that lacks it.
    pub(crate) at: At,
    /// Written by the user, not a default.
    pub(crate) given: bool,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    Number(u64),
    /// In hundredths.
    Factor(u64),
    Percent(u64),
    Time(Duration),
    Size(u64),
    Bool(bool),
    List(Vec<Node>),
    Table(Fields),
    Wrong,
}

/// The entries of a table.
#[derive(Clone, Default)]
pub(crate) struct Fields {
    /// `None` where the user chooses the keys.
    pub(crate) spec: Option<&'static Table>,
    pub(crate) entries: Vec<Field>,
    /// Keys that a misspelt one probably means; their absence is not worth a second message.
    pub(crate) meant: Vec<&'static str>,
}

#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// Where the key stands.
    pub(crate) at: At,
    pub(crate) node: Node,
}

/// A string and its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written<'a> {
    pub(crate) text: &'a str,
    pub(crate) at: At,
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.entries).finish()
    }
}

impl Node {
    pub(crate) fn text(&self) -> Option<Written<'_>> {
        match &self.value {
            Value::Text(text) => Some(Written { text, at: self.at }),
            _ => None,
        }
    }

    pub(crate) fn fields(&self) -> Option<&Fields> {
        match &self.value {
            Value::Table(fields) => Some(fields),
            _ => None,
        }
    }

    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn number(&self) -> Option<u64> {
        match self.value {
            Value::Number(number) | Value::Size(number) | Value::Factor(number) | Value::Percent(number) => {
                Some(number)
            }
            _ => None,
        }
    }
}

impl Fields {
    pub(crate) fn find(&self, name: &str) -> Option<&Field> {
        self.entries.iter().find(|field| field.name == name)
    }

    pub(crate) fn probably_has(&self, name: &str) -> bool {
        self.meant.contains(&name) || self.find(name).is_some()
    }

    fn node(&self, name: &str) -> Option<&Node> {
        self.find(name).map(|field| &field.node)
    }

    pub(crate) fn text(&self, name: &str) -> Option<Written<'_>> {
        self.node(name)?.text()
    }

    /// A number, the bytes of a size, the hundredths of a factor, or percent.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.node(name)?.number()
    }

    /// A number whose bounds in the vocabulary fit 32 bits.
    pub(crate) fn count(&self, name: &str) -> Option<u32> {
        self.number(name).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
    }

    pub(crate) fn time(&self, name: &str) -> Option<Duration> {
        match self.node(name)?.value {
            Value::Time(time) => Some(time),
            _ => None,
        }
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.node(name).is_some_and(|node| matches!(node.value, Value::Bool(true)))
    }

    pub(crate) fn items(&self, name: &str) -> &[Node] {
        self.node(name).map_or(&[], Node::items)
    }

    pub(crate) fn table(&self, name: &str) -> Option<&Fields> {
        self.node(name)?.fields()
    }
}
