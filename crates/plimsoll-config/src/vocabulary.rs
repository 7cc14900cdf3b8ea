//! What a configuration may say, as data.
//!
//! Each key is named in one place (the files below this one) with its kind, default and meaning. The checker, "did you
//! mean", "not supported yet", the effective configuration, the schema and, through it, the reference all read it there.
//! Never holds rules that need more than one key: those are in `compile`.

mod adaptive;
mod agent;
mod backends;
mod discover;
mod health;
mod hints;
mod limit;
mod queue;
mod retry;
mod routes;
mod settings;
mod state;
mod tables;
mod tracing;

use std::time::Duration;

pub(crate) use hints::instead;
pub(crate) use tables::{ALL, ROOT};

/// A table with its keys.
pub(crate) struct Table {
    /// Its name in the schema and in "belongs in".
    pub(crate) id: &'static str,
    /// How it is written, e.g. `[[listen]]`.
    pub(crate) title: &'static str,
    /// What it is for.
    pub(crate) about: &'static str,
    pub(crate) keys: &'static [Key],
    /// Keys of later versions.
    pub(crate) later: &'static [&'static str],
    /// What other balancers call our keys.
    pub(crate) elsewhere: &'static [(&'static str, &'static str)],
}

impl Table {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// One key.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Default,
    pub(crate) about: &'static str,
    /// The key without which this one has no meaning.
    pub(crate) only_with: Option<&'static str>,
}

impl Key {
    const fn only_with(mut self, other: &'static str) -> Self {
        self.only_with = Some(other);
        self
    }
}

const fn key(name: &'static str, kind: Kind, default: Default, about: &'static str) -> Key {
    Key { name, kind, default, about, only_with: None }
}

/// What a value must be.
pub(crate) enum Kind {
    /// A string; the name says of which form. Its meaning is judged in `compile`.
    Text(&'static str),
    /// One of some words.
    Choice(&'static Choice),
    Bool,
    /// A whole number within bounds.
    Number(u64, u64),
    /// A number with a fraction within bounds, in hundredths.
    Factor(u64, u64),
    /// A whole number of percent within bounds, written `"50%"`.
    Percent(u64, u64),
    /// One of some numbers.
    Status(&'static [u64]),
    /// A time within bounds.
    Time(Duration, Duration),
    /// A size within bounds.
    Size(u64, u64),
    /// An array of at least so many.
    List(usize, &'static Kind),
    /// An array, or one alone.
    Many(&'static Kind),
    Table(&'static Table),
    /// A table, `true` for the table with its defaults, or `false`.
    Switch(&'static Table),
    /// A table, or a string that stands for a table with just that key, or is the name of a key that is true then.
    Short(&'static str, &'static Table),
    /// The same, or `false` for none.
    ShortOrNo(&'static str, &'static Table),
    /// A table whose keys are names of the user's choice; the text says of what.
    Map(&'static str, &'static Kind),
    /// A string or something else.
    TextOr(&'static str, &'static Kind),
}

/// A closed set of words.
pub(crate) struct Choice {
    pub(crate) words: &'static [&'static str],
    /// Words of later versions.
    pub(crate) later: &'static [&'static str],
    /// What others call ours.
    pub(crate) elsewhere: &'static [(&'static str, &'static str)],
}

/// What holds when a key is absent.
pub(crate) enum Default {
    /// It must be there.
    Required,
    /// No value of its own; this is what then happens.
    Said(&'static str),
    /// Another key stands in its place.
    Alternative,
    Text(&'static str),
    Texts(&'static [&'static str]),
    Number(u64),
    Percent(u64),
    Time(Duration),
    Size(u64),
    Bool(bool),
    /// A table with its own defaults.
    Filled,
}
