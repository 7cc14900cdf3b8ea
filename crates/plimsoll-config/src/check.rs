//! The walker: a tree as written against the vocabulary.
//!
//! Reports unknown keys, wrong types, bad units, values out of range and missing keys, all in one pass, and gives the
//! checked tree with the defaults filled in. Knows no key by name, and no rule that needs two keys.

use crate::node::{Field, Fields, Node, Value};
use crate::problem::{Code, Problem, Report};
use crate::source::{At, Raw, RawKey, RawValue};
use crate::suggest::{closest, did_you_mean};
use crate::units::{
    BadUnit, format_duration, format_percent, format_size, parse_duration, parse_percent, parse_size,
};
use crate::vocabulary::{ALL, Choice, Default, Key, Kind, Table, instead};

/// Checks the entries of `spec`, which stands at `at`.
pub(crate) fn check(
    spec: &'static Table,
    entries: Vec<(RawKey, Raw)>,
    at: At,
    report: &mut Report,
) -> Fields {
    Walker { report }.table(spec, entries, at)
}

struct Walker<'a> {
    report: &'a mut Report,
}

impl Walker<'_> {
    fn table(&mut self, spec: &'static Table, entries: Vec<(RawKey, Raw)>, at: At) -> Fields {
        let mut fields = Fields { spec: Some(spec), ..Fields::default() };
        for (key, raw) in entries {
            match spec.key(&key.name) {
                Some(known) => {
                    let node = self.value(&known.kind, raw, known.name);
                    fields.entries.push(Field { name: key.name, at: key.at, node });
                }
                None => {
                    let meant = meant_key(spec, &key.name);
                    fields.meant.extend(meant);
                    self.report.error(unknown_key(spec, &key, meant));
                }
            }
        }
        self.complete(spec, &mut fields, at);
        fields
    }

    /// Missing keys, keys without the one they need, and defaults.
    fn complete(&mut self, spec: &'static Table, fields: &mut Fields, at: At) {
        for key in spec.keys {
            let needed = key.only_with.filter(|other| fields.find(other).is_none());
            match (fields.find(key.name), needed) {
                (Some(field), Some(other)) => {
                    let message = format!("`{}` has no meaning without `{other}`", key.name);
                    let help = format!("leave it out, or add `{other}`");
                    self.report.error(Problem::new(Code::KeyConflict, field.at, message).help(help));
                }
                (Some(_), None) | (None, Some(_)) => {}
                (None, None) if matches!(key.default, Default::Required) => {
                    if !fields.probably_has(key.name) {
                        self.report.error(missing_key(spec, key, at));
                    }
                }
                (None, None) => {
                    if let Some(node) = self.default(key, at) {
                        fields.entries.push(Field { name: key.name.to_owned(), at, node });
                    }
                }
            }
        }
    }

    fn default(&mut self, key: &'static Key, at: At) -> Option<Node> {
        let value = match (&key.default, &key.kind) {
            (Default::Required | Default::Said(_) | Default::Alternative, _) => return None,
            (Default::Filled, Kind::Table(spec) | Kind::Switch(spec)) => {
                Value::Table(self.table(spec, Vec::new(), at))
            }
            (Default::Filled, _) => return None,
            (Default::Text(text), Kind::Short(..)) => {
                let raw = Raw { at, value: RawValue::Text((*text).to_owned()) };
                return Some(not_given(self.value(&key.kind, raw, key.name)));
            }
            (Default::Text(text), _) => Value::Text((*text).to_owned()),
            (Default::Texts(texts), _) => {
                let text = |text: &&str| Node { at, given: false, value: Value::Text((*text).to_owned()) };
                Value::List(texts.iter().map(text).collect())
            }
            (Default::Number(number), _) => Value::Number(*number),
            (Default::Percent(percent), _) => Value::Percent(*percent),
            (Default::Time(time), _) => Value::Time(*time),
            (Default::Size(bytes), _) => Value::Size(*bytes),
            (Default::Bool(flag), _) => Value::Bool(*flag),
        };
        Some(Node { at, given: false, value })
    }

    fn value(&mut self, kind: &'static Kind, raw: Raw, name: &str) -> Node {
        let at = raw.at;
        let value = self.typed(kind, raw, name).unwrap_or_else(|problem| {
            self.report.error(problem);
            Value::Wrong
        });
        Node { at, given: true, value }
    }

    fn typed(&mut self, kind: &'static Kind, raw: Raw, name: &str) -> Result<Value, Problem> {
        let at = raw.at;
        Ok(match (kind, raw.value) {
            (_, RawValue::Wrong) => Value::Wrong,
            (Kind::Text(_) | Kind::TextOr(..), RawValue::Text(text)) => Value::Text(text),
            (Kind::Choice(choice), RawValue::Text(text)) => Value::Text(choose(choice, text, at, name)?),
            (Kind::Bool, RawValue::Bool(flag)) => Value::Bool(flag),
            (Kind::Number(min, max), RawValue::Integer(number)) => {
                Value::Number(within(number, *min, *max, at, name)?)
            }
            (Kind::Factor(min, max), RawValue::Float(number)) => {
                Value::Factor(factor(number, *min, *max, at, name)?)
            }
            (Kind::Factor(min, max), RawValue::Integer(Some(number))) => {
                Value::Factor(factor(number as f64, *min, *max, at, name)?)
            }
            (Kind::Status(known), RawValue::Integer(number)) => {
                Value::Number(status(number, known, at, name)?)
            }
            (Kind::Time(min, max), RawValue::Text(text)) => Value::Time(bounded(
                parse_duration(&text).map_err(|bad| bad_unit("time", &text, bad, at, name))?,
                (*min, *max),
                format_duration,
                at,
                name,
            )?),
            (Kind::Size(min, max), RawValue::Text(text)) => Value::Size(bounded(
                parse_size(&text).map_err(|bad| bad_unit("size", &text, bad, at, name))?,
                (*min, *max),
                format_size,
                at,
                name,
            )?),
            (Kind::Percent(min, max), RawValue::Text(text)) => Value::Percent(bounded(
                parse_percent(&text).map_err(|bad| bad_unit("percentage", &text, bad, at, name))?,
                (*min, *max),
                format_percent,
                at,
                name,
            )?),
            (Kind::Switch(spec), RawValue::Bool(true)) if !spec.stands_alone() => {
                let message = format!("`{name}` cannot be true alone");
                let help = instead(spec, &RawValue::Bool(true));
                return Err(Problem::new(Code::WrongType, at, message).help(help));
            }
            (Kind::Switch(spec), RawValue::Bool(true)) => Value::Table(self.table(spec, Vec::new(), at)),
            (Kind::Switch(_) | Kind::ShortOrNo(..), RawValue::Bool(false)) => Value::Bool(false),
            (Kind::List(least, of), RawValue::List(items)) => {
                if items.len() < *least {
                    return Err(Problem::new(Code::OutOfRange, at, format!("`{name}` is empty"))
                        .help("it needs at least one".to_owned()));
                }
                self.list(of, items, name)
            }
            (Kind::Many(of), RawValue::List(items)) => self.list(of, items, name),
            (Kind::Many(of), value) => self.list(of, vec![Raw { at, value }], name),
            (
                Kind::Table(spec) | Kind::Switch(spec) | Kind::Short(_, spec) | Kind::ShortOrNo(_, spec),
                RawValue::Table(entries),
            ) => Value::Table(self.table(spec, entries, at)),
            (Kind::Short(short, spec) | Kind::ShortOrNo(short, spec), value @ RawValue::Text(_)) => {
                self.shorthand(short, spec, Raw { at, value }, name)
            }
            (Kind::Map(_, of), RawValue::Table(entries)) => Value::Table(self.map(of, entries)),
            (Kind::TextOr(_, of), value @ (RawValue::List(_) | RawValue::Table(_))) if of.accepts(&value) => {
                return self.typed(of, Raw { at, value }, name);
            }
            (kind, value) => return Err(wrong_type(kind, &value, at, name)),
        })
    }

    /// A string that stands for a table; messages name the key that was written.
    fn shorthand(&mut self, short: &str, spec: &'static Table, raw: Raw, name: &str) -> Value {
        let at = raw.at;
        let mut fields = Fields { spec: Some(spec), ..Fields::default() };
        let flag = match &raw.value {
            RawValue::Text(text) => spec.key(text).filter(|key| matches!(key.kind, Kind::Bool)),
            _ => None,
        };
        if let Some(key) = flag {
            let node = Node { at, given: true, value: Value::Bool(true) };
            fields.entries.push(Field { name: key.name.to_owned(), at, node });
        } else if let Some(key) = spec.key(short) {
            let node = self.value(&key.kind, raw, name);
            fields.entries.push(Field { name: short.to_owned(), at, node });
        }
        self.complete(spec, &mut fields, at);
        Value::Table(fields)
    }

    fn list(&mut self, of: &'static Kind, items: Vec<Raw>, name: &str) -> Value {
        Value::List(items.into_iter().map(|item| self.value(of, item, name)).collect())
    }

    fn map(&mut self, of: &'static Kind, entries: Vec<(RawKey, Raw)>) -> Fields {
        let field = |(key, raw): (RawKey, Raw)| {
            let node = self.value(of, raw, &key.name);
            Field { name: key.name, at: key.at, node }
        };
        Fields { entries: entries.into_iter().map(field).collect(), ..Fields::default() }
    }
}

/// Made from a default, all the way down.
fn not_given(mut node: Node) -> Node {
    node.given = false;
    if let Value::Table(fields) = &mut node.value {
        for field in &mut fields.entries {
            field.node.given = false;
        }
    }
    node
}

impl Kind {
    /// Whether the TOML type fits.
    fn accepts(&self, value: &RawValue) -> bool {
        match self {
            Self::List(..) => matches!(value, RawValue::List(_)),
            _ => matches!(value, RawValue::Table(_)),
        }
    }

    /// What a value must be, with its article.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Text(form) => format!("a string ({form})"),
            Self::Choice(choice) => format!("one of {}", listed(choice.words)),
            Self::Bool => "true or false".to_owned(),
            Self::Number(..) | Self::Status(_) => "a whole number".to_owned(),
            Self::Factor(..) => "a number such as 1.25".to_owned(),
            Self::Percent(..) => "a percentage such as \"20%\"".to_owned(),
            Self::Switch(spec) if !spec.stands_alone() => "false or a table".to_owned(),
            Self::Switch(_) => "true, false or a table".to_owned(),
            Self::Time(..) => "a time such as \"30s\"".to_owned(),
            Self::Size(..) => "a size such as \"64KiB\"".to_owned(),
            Self::List(_, Kind::Table(_)) => "an array of tables".to_owned(),
            Self::List(..) => "an array".to_owned(),
            Self::Many(of) => format!("{} or an array of them", of.describe()),
            Self::Table(_) | Self::Map(..) => "a table".to_owned(),
            Self::Short(..) => "a string or a table".to_owned(),
            Self::ShortOrNo(..) => "a string, a table or false".to_owned(),
            Self::TextOr(form, of) => format!("a string ({form}) or {}", of.describe()),
        }
    }
}

/// `` `a`, `b` or `c` ``.
pub(crate) fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => format!("`{word}`"),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(|word| format!("`{word}`")).collect();
            format!("{} or `{last}`", first.join(", "))
        }
    }
}

impl Table {
    /// Whether it says something without a key.
    pub(crate) fn stands_alone(&self) -> bool {
        !self.keys.iter().any(|key| matches!(key.default, Default::Required))
    }

    /// Where a key of it stands, as it is said in a sentence.
    fn place(&self) -> String {
        match self.title {
            title if title.starts_with('[') => format!("in `{title}`"),
            title if title.starts_with("the ") => format!("at {title}"),
            title => format!("in {title}"),
        }
    }
}

/// The key of ours that a foreign or misspelt one stands for.
fn meant_key(spec: &'static Table, name: &str) -> Option<&'static str> {
    let folded = name.to_ascii_lowercase().replace('-', "_");
    let elsewhere = spec.elsewhere.iter().find(|(theirs, _)| *theirs == folded).map(|(_, ours)| *ours);
    elsewhere.or_else(|| closest(name, spec.keys.iter().map(|key| key.name)))
}

fn unknown_key(spec: &'static Table, key: &RawKey, meant: Option<&str>) -> Problem {
    let name = key.name.as_str();
    if spec.later.contains(&name) {
        let message = format!("`{name}` {} is not supported yet", spec.place());
        return Problem::new(Code::NotSupported, key.at, message)
            .help("leave it out: this version would not act on it".to_owned());
    }
    let message = format!("unknown key `{name}` {}", spec.place());
    let help = match meant {
        Some(ours) => format!("did you mean `{ours}`?"),
        None => belongs_in(name).unwrap_or_else(|| format!("known are {}", known_keys(spec))),
    };
    Problem::new(Code::UnknownKey, key.at, message).help(help)
}

fn known_keys(spec: &Table) -> String {
    spec.keys.iter().map(|key| format!("`{}`", key.name)).collect::<Vec<_>>().join(", ")
}

fn belongs_in(name: &str) -> Option<String> {
    let homes: Vec<_> =
        ALL.iter().filter(|table| table.key(name).is_some()).map(|table| table.place()).collect();
    (!homes.is_empty()).then(|| format!("`{name}` belongs {}", homes.join(" or ")))
}

fn missing_key(spec: &Table, key: &Key, at: At) -> Problem {
    // The top level has no line of its own to show.
    let code = if key.name == "listen" { Code::NothingToDo } else { Code::MissingKey };
    if code == Code::NothingToDo {
        return Problem::new(code, at, "there is no listener")
            .help("add `[[listen]]` with `bind = \":8080\"`".to_owned());
    }
    let message = format!("`{}` is missing {}", key.name, spec.place());
    Problem::new(code, at, message).help(format!("it must be {}", key.kind.describe()))
}

fn wrong_type(kind: &Kind, value: &RawValue, at: At, name: &str) -> Problem {
    let message = format!("`{name}` must be {}, not {}", kind.describe(), value.kind());
    Problem::new(Code::WrongType, at, message).help(type_help(kind, value, name))
}

fn type_help(kind: &Kind, value: &RawValue, name: &str) -> Option<String> {
    match (kind, value) {
        (Kind::Time(..), RawValue::Integer(Some(number @ 0..))) => {
            Some(parse_duration(&number.to_string()).err()?.0)
        }
        (Kind::Size(..), RawValue::Integer(Some(number @ 0..))) => {
            Some(parse_size(&number.to_string()).err()?.0)
        }
        (Kind::Percent(..), RawValue::Integer(Some(number @ 0..))) => Some(format!("write \"{number}%\"")),
        (Kind::Time(..), RawValue::Float(_)) => Some("use a smaller unit: \"1500ms\"".to_owned()),
        (Kind::Number(..), RawValue::Text(text)) => {
            text.trim().parse::<u64>().ok().map(|number| format!("write {number} without quotes"))
        }
        (Kind::Bool, RawValue::Text(text)) if text == "true" || text == "false" => {
            Some(format!("write {text} without quotes"))
        }
        (Kind::Text(_) | Kind::TextOr(..), RawValue::Integer(Some(number))) => {
            Some(format!("strings stand in quotes: \"{number}\""))
        }
        (Kind::Switch(_), RawValue::Text(text)) if matches!(text.as_str(), "false" | "off" | "no") => {
            Some("write false without quotes".to_owned())
        }
        (Kind::Table(spec) | Kind::Switch(spec), value) if instead(spec, value).is_some() => {
            instead(spec, value)
        }
        (Kind::Switch(_), RawValue::Integer(Some(0))) => Some("write false for none".to_owned()),
        (Kind::List(_, Kind::Table(_)), RawValue::Table(_)) => {
            Some(format!("write `[[{name}]]`, with two brackets on each side"))
        }
        (Kind::List(..), RawValue::Text(text)) => Some(format!("write [\"{text}\"]")),
        (Kind::Table(_), RawValue::List(_)) => {
            Some(format!("there is only one `{name}`: write it with one bracket on each side"))
        }
        (Kind::Map(..), RawValue::List(_)) => {
            Some(format!("write `[{name}.NAME]`, with one bracket on each side"))
        }
        (Kind::Map(what, _), _) => Some(format!("its keys are {what} names")),
        (Kind::TextOr(_, Kind::Map(..)), _) => {
            Some("write a name, or names with numbers: { a = 1, b = 2 }".to_owned())
        }
        _ => None,
    }
}

/// Rounded to hundredths.
fn factor(number: f64, min: u64, max: u64, at: At, name: &str) -> Result<u64, Problem> {
    let hundredths = (number * 100.0).round();
    if hundredths >= min as f64 && hundredths <= max as f64 {
        return Ok(hundredths as u64);
    }
    let (min, max) = (format_factor(min), format_factor(max));
    Err(Problem::new(Code::OutOfRange, at, format!("`{name}` must be {min} to {max}")))
}

/// Hundredths as they are written.
pub(crate) fn format_factor(hundredths: u64) -> String {
    format!("{}", hundredths as f64 / 100.0)
}

fn choose(choice: &Choice, text: String, at: At, name: &str) -> Result<String, Problem> {
    if choice.words.contains(&text.as_str()) {
        return Ok(text);
    }
    let folded = text.to_ascii_lowercase().replace('-', "_");
    let elsewhere = choice.elsewhere.iter().find(|(theirs, _)| *theirs == folded).map(|(_, ours)| *ours);
    let meant = elsewhere.unwrap_or(&text);
    if choice.later.contains(&meant) {
        let message = format!("`{name} = \"{meant}\"` is not supported yet");
        return Err(
            Problem::new(Code::NotSupported, at, message).help(format!("use {}", listed(choice.words)))
        );
    }
    let help = match elsewhere {
        Some(ours) => Some(format!("did you mean `{ours}`?")),
        None => did_you_mean(&text, choice.words.iter().copied()),
    };
    let message = format!("`{name}` cannot be `{text}`");
    let all = format!("it is one of {}", listed(choice.words));
    Err(Problem::new(Code::UnknownWord, at, message).help(help.unwrap_or(all)))
}

fn within(number: Option<i64>, min: u64, max: u64, at: At, name: &str) -> Result<u64, Problem> {
    let inside =
        number.and_then(|number| u64::try_from(number).ok()).filter(|number| (min..=max).contains(number));
    inside.ok_or_else(|| {
        let help =
            (max == u64::from(u16::MAX) && name == "port").then(|| "TCP has no other ports".to_owned());
        Problem::new(Code::OutOfRange, at, format!("`{name}` must be from {min} to {max}")).help(help)
    })
}

fn status(number: Option<i64>, known: &[u64], at: At, name: &str) -> Result<u64, Problem> {
    let found = number.and_then(|number| u64::try_from(number).ok()).filter(|number| known.contains(number));
    found.ok_or_else(|| {
        let known: Vec<_> = known.iter().map(u64::to_string).collect();
        let known: Vec<_> = known.iter().map(String::as_str).collect();
        Problem::new(Code::OutOfRange, at, format!("`{name}` must be {}", listed(&known)))
    })
}

fn bounded<T: PartialOrd + Copy>(
    value: T,
    (min, max): (T, T),
    format: fn(T) -> String,
    at: At,
    name: &str,
) -> Result<T, Problem> {
    if min <= value && value <= max {
        return Ok(value);
    }
    let bound = if value < min { ("at least", min) } else { ("at most", max) };
    let message = format!("`{name}` must be {} {}", bound.0, format(bound.1));
    Err(Problem::new(Code::OutOfRange, at, message))
}

fn bad_unit(what: &str, text: &str, bad: BadUnit, at: At, name: &str) -> Problem {
    Problem::new(Code::BadUnit, at, format!("`{name}` is not a {what}: `{text}`")).help(bad.0)
}
