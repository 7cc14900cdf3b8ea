//! What is compared: a policy of production, read by the code that reads configurations, or a reference.
//!
//! In goes the value of a `balance` key (`p2c`, or a table as TOML), out comes a backend's model to be filled with servers.
//! The names, parameters and defaults are the configuration's own, so this crate keeps no list of policies.

use plimsoll_config::{Source, load, model};

use crate::reference::Reference;

/// What chooses the servers in a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// As it was written.
    pub name: String,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// A backend to take everything from but the servers; its own are the pattern for those.
    Production(Box<model::Backend>),
    Reference(Reference),
}

/// What a name with this in front is.
const REFERENCE: &str = "reference:";

impl Policy {
    /// Reads a policy: `p2c`, `{ policy = "hash", key = "path" }`, `reference:join_idle`.
    ///
    /// # Errors
    /// What the configuration would say of it, or that there is no such reference.
    pub fn parse(text: &str) -> Result<Policy, String> {
        Policy::with(text, "")
    }

    /// The same with further keys of the backend, as lines of TOML.
    ///
    /// # Errors
    /// As `parse`.
    pub fn with(text: &str, keys: &str) -> Result<Policy, String> {
        let name = text.to_owned();
        if let Some(reference) = text.strip_prefix(REFERENCE) {
            return Ok(Policy { name, kind: Kind::Reference(Reference::parse(reference)?) });
        }
        let balance = if text.trim_start().starts_with('{') {
            text.to_owned()
        } else {
            format!("{}", toml::Value::String(text.to_owned()))
        };
        let backend = "[backend.simulated]\nservers = [\"127.0.0.1:1\", \"127.0.0.1:2\"]";
        let text = format!(
            "[[listen]]\nbind = \":1\"\nto = \"simulated\"\n{backend}\nbalance = {balance}\n{keys}\n"
        );
        let source = Source { path: "the policy".to_owned(), text };
        let loaded = load(&[source], &|_| None).map_err(|problems| {
            let told = problems.iter().map(|p| match p.help_line() {
                Some(help) => format!("{} ({help})", p.message()),
                None => p.message().to_owned(),
            });
            told.collect::<Vec<_>>().join("; ")
        })?;
        let backend = loaded.config.backends.into_iter().next();
        let mut backend = backend.ok_or_else(|| "the policy leaves no backend".to_owned())?;
        // What is compared is choosing; who wants to see ejection too says so.
        if !keys.contains("eject") {
            (backend.eject, backend.panic) = (None, 0);
        }
        Ok(Policy { name, kind: Kind::Production(Box::new(backend)) })
    }

    /// This policy's `balance` with everything else from `backend`. A reference stays as it is.
    pub fn in_backend(mut self, backend: &model::Backend) -> Policy {
        if let Kind::Production(own) = &mut self.kind {
            **own = model::Backend { balance: own.balance.clone(), ..backend.clone() };
        }
        self
    }

    /// The policy and everything else that a configuration says of `backend`.
    pub fn of_backend(backend: &model::Backend) -> Policy {
        Policy { name: backend.name.clone(), kind: Kind::Production(Box::new(backend.clone())) }
    }
}

/// A backend to take what a test says nothing about from.
#[cfg(test)]
pub(crate) fn pattern() -> model::Backend {
    match Policy::parse("p2c").unwrap().kind {
        Kind::Production(backend) => *backend,
        Kind::Reference(_) => panic!("p2c is production's"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance(text: &str) -> model::Balance {
        match Policy::parse(text).unwrap().kind {
            Kind::Production(backend) => backend.balance,
            Kind::Reference(_) => panic!("{text} is production's"),
        }
    }

    #[test]
    fn reads_what_a_configuration_would() {
        assert_eq!(balance("p2c"), model::Balance::P2c);
        assert_eq!(balance("least_conn"), model::Balance::LeastConn);
        let path = model::Balance::Hash(model::Hash::new(model::HashKey::Path));
        assert_eq!(balance("{ policy = \"hash\", key = \"path\" }"), path);
    }

    #[test]
    fn says_what_the_configuration_says() {
        let problem = Policy::parse("p2d").unwrap_err();
        assert!(problem.contains("p2c"), "{problem}");
        assert!(Policy::parse("a\"b\nc").is_err());
        assert!(Policy::with("p2c", "serverz = 1").unwrap_err().contains("serverz"));
    }

    #[test]
    fn references_have_a_name_space_of_their_own() {
        assert_eq!(Policy::parse("reference:join_idle").unwrap().kind, Kind::Reference(Reference::JoinIdle));
        assert!(Policy::parse("reference:p2c").is_err());
    }
}
