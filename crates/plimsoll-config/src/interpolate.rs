//! `${NAME}` and `${NAME:-default}` in strings.
//!
//! Works on a string after TOML has been parsed, so a variable's value can never add keys or quotes. `$${` stands for
//! `${`; a lone `$` stands for itself. What is put in is not looked at again. Never reads the environment: the caller
//! hands in how to.

use crate::problem::{Code, Problem};
use crate::source::At;

/// The value of an environment variable, or `None` when it is not set.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a string could not be filled in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The variable is not set, and there is no default.
    Unset(String),
    /// `${` without `}`.
    Open,
    /// What stands between the braces is no name.
    BadName(String),
}

/// Fills in all references of `text`.
pub(crate) fn interpolate(text: &str, env: Lookup<'_>) -> Result<String, Fault> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let body = &rest[at + 2..];
        let end = body.find('}').ok_or(Fault::Open)?;
        out.push_str(&resolve(&body[..end], env)?);
        rest = &body[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// As in a shell, `:-` also stands in for a variable that is set to nothing.
fn resolve(reference: &str, env: Lookup<'_>) -> Result<String, Fault> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    if !is_name(name) {
        return Err(Fault::BadName(name.to_owned()));
    }
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Fault::Unset(name.to_owned())),
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// `text` so that `interpolate` gives it back as it is.
pub(crate) fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

impl Fault {
    /// The problem at `at`, or more exactly at the reference where it stands as such in `written`.
    pub(crate) fn problem(&self, at: At, written: &str) -> Problem {
        match self {
            Self::Unset(name) => {
                let place = within(at, written, &format!("${{{name}}}"));
                Problem::new(
                    Code::UnsetVariable,
                    place,
                    format!("the environment variable `{name}` is not set"),
                )
                .help(format!("set it, or give a default: \"${{{name}:-…}}\""))
            }
            Self::Open => Problem::new(Code::BadReference, at, "`${` without a closing `}`")
                .help("write `$${` for the characters themselves".to_owned()),
            Self::BadName(name) => {
                Problem::new(Code::BadReference, at, format!("`{name}` is not a variable's name")).help(
                    "write \"${NAME}\" or \"${NAME:-default}\"; `$${` for the characters themselves"
                        .to_owned(),
                )
            }
        }
    }
}

fn within(at: At, written: &str, part: &str) -> At {
    match written.find(part) {
        Some(offset) => At { start: at.start + offset, end: at.start + offset + part.len(), ..at },
        None => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> Result<String, Fault> {
        interpolate(text, &|name| match name {
            "HOST" => Some("10.0.0.1".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${HOST}".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn fills_in_variables_and_defaults() {
        assert_eq!(fill("${HOST}:${PORT:-80}").unwrap(), "10.0.0.1:80");
    }

    #[test]
    fn a_default_also_stands_in_for_an_empty_variable() {
        assert_eq!(fill("${EMPTY:-x}").unwrap(), "x");
        assert_eq!(fill("${EMPTY}").unwrap(), "");
    }

    #[test]
    fn two_dollars_stand_for_themselves() {
        assert_eq!(fill("$${HOST} costs $5").unwrap(), "${HOST} costs $5");
    }

    #[test]
    fn a_value_is_not_filled_in_again() {
        assert_eq!(fill("${TRICK}").unwrap(), "${HOST}");
    }

    #[test]
    fn an_unset_variable_is_a_fault() {
        assert_eq!(fill("${NOPE}"), Err(Fault::Unset("NOPE".to_owned())));
    }

    #[test]
    fn half_a_reference_is_a_fault() {
        assert_eq!(fill("${HOST"), Err(Fault::Open));
        assert_eq!(fill("${}"), Err(Fault::BadName(String::new())));
        assert_eq!(fill("${A B}"), Err(Fault::BadName("A B".to_owned())));
    }

    #[test]
    fn escaped_text_comes_back_as_it_was() {
        for text in ["${HOST}", "$", "a$b", "x${"] {
            assert_eq!(fill(&escape(text)).unwrap(), text);
        }
    }
}
