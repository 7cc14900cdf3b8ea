//! The configuration of the file, and the servers that stand beside it. What is in force is both together, and what operators ordered.
//!
//! A list that changes is taken by the loop that reloads, so that nothing else publishes. Changes that come close together are taken
//! together.

use std::time::{Duration, Instant};

use plimsoll_config::defaults::FIRST_ANSWER;
use plimsoll_config::model::Config;
use plimsoll_control::discovery::Sources;
use plimsoll_proxy::notice;
use serde_json::Value;

use super::Running;
use super::staying::{Staying, tell};

/// How long further changes are waited for: a publication makes all tables of its backend anew.
const TOGETHER: Duration = Duration::from_millis(50);

/// A configuration with its sources.
pub(super) struct Listed {
    /// As the file has it, its names resolved.
    pub(super) filed: Config,
    pub(super) sources: Sources,
    /// Who goes on though no list names them.
    pub(super) staying: Staying,
    /// When what has changed is to be taken.
    due: Option<Instant>,
}

impl Listed {
    /// Asks the sources of a configuration that is the first, and waits for their lists; `handed` is what an earlier process knew.
    pub(super) async fn first(filed: Config, handed: &Value) -> Listed {
        let sources = Sources::default().next(&filed, handed);
        sources.listed(FIRST_ANSWER).await;
        let staying = sources.staying(handed);
        Listed { filed, sources, staying, due: None }
    }

    /// Asks the sources of another configuration; those that stay are kept.
    pub(super) fn next(&self, filed: Config) -> Listed {
        let sources = self.sources.next(&filed, &Value::Null);
        Listed { filed, sources, staying: self.staying.clone(), due: None }
    }

    /// Asks no source any more.
    pub(super) fn end(&mut self) {
        self.sources = Sources::default();
        self.staying.clear();
    }

    /// What the file and discovery say.
    pub(super) fn whole(&self) -> Config {
        let mut config = self.filed.clone();
        self.sources.fill(&mut config);
        config
    }

    /// What another process should know.
    pub(super) fn handed(&self) -> Value {
        self.sources.handed(&self.staying)
    }

    /// Waits until lists that have changed are to be taken. May be dropped and asked again.
    pub(super) async fn due(&mut self) {
        let due = match self.due {
            Some(due) => due,
            None => {
                self.sources.changed().await;
                *self.due.insert(Instant::now() + TOGETHER)
            }
        };
        tokio::time::sleep_until(due.into()).await;
    }
}

impl Running {
    /// Goes over to the servers that are known now.
    pub(super) fn take_lists(&mut self) {
        self.listed.due = None;
        let (base, staying) = self.based(&self.listed);
        tell(&self.listed.staying, &staying);
        self.listed.staying = staying;
        self.wanted.discover(base);
        if let Err(error) = self.republish() {
            notice(&format!("the servers stay as they were: {error}"));
        }
    }
}
