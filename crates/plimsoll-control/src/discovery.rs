//! Lists of servers that change: files, DNS and registries, asked as long as a configuration names them.
//!
//! Each source is a task of the control runtime that keeps its last good list. The one loop that publishes configurations starts,
//! keeps and ends them ([`Sources::next`]), is told when a list differs ([`Sources::changed`]) and puts the servers into a configuration
//! ([`Sources::fill`]). Nothing here publishes, and nothing here meets a request.

mod asker;
mod dns;
mod list;
mod names;
mod registry;
mod source;
mod tls;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::defaults::FIRST_ANSWER;
use plimsoll_config::model::{Address, Config, Server};
use plimsoll_proxy::notice;
use serde_json::{Value, json};
use tokio::sync::Notify;

use self::source::Source;
pub use self::source::{Known, Origin};
pub use self::tls::look_at_authority;
use crate::orders::{read_settings, settings};

/// What an answer names.
#[derive(Debug, Default)]
struct Found {
    /// With addresses; names are unique.
    servers: Vec<Server>,
    /// How long it is good, if it says so.
    ttl: Option<Duration>,
    /// What is wrong with a part of it.
    trouble: Option<String>,
    /// What is missing may be there: nobody has said that it is not.
    is_partial: bool,
}

/// The sources of one configuration. Those that the next one has too go on there.
#[derive(Debug, Default)]
pub struct Sources {
    all: Vec<Arc<Source>>,
    /// Some list differs from the one before.
    news: Arc<Notify>,
}

impl Sources {
    /// The sources of `config`: those that stay as they are, with all that they know, and new ones, which begin to ask.
    /// `handed` is what an earlier process knew, as [`Sources::handed`] put it. Needs a tokio runtime.
    #[must_use]
    pub fn next(&self, config: &Config, handed: &Value) -> Sources {
        let all = config.backends.iter().filter_map(|backend| {
            let spec = backend.discover.as_ref()?;
            let of_backend = |source: &&Arc<Source>| source.origin.backend == backend.name;
            let own = || self.all.iter().filter(of_backend);
            if let Some(same) = own().find(|source| source.origin.spec == *spec) {
                return Some(Arc::clone(same));
            }
            // The same place asked in another way says the same.
            let place = spec.source.to_string();
            let before = own().find(|source| source.origin.spec.source.to_string() == place);
            let before = before.and_then(|source| source.origin.known().servers);
            let before = before.or_else(|| recall(handed, &backend.name, &place, "servers"));
            Some(Arc::new(Source::start(&backend.name, spec, before, &self.news)))
        });
        Sources { all: all.collect(), news: Arc::clone(&self.news) }
    }

    /// Waits until each has a list, but no longer than `patience`; says which have none.
    pub async fn listed(&self, patience: Duration) {
        let all = async {
            for source in &self.all {
                source.origin.listed().await;
            }
        };
        if tokio::time::timeout(patience, all).await.is_ok() {
            return;
        }
        for origin in self.origins().iter().filter(|origin| origin.known().servers.is_none()) {
            notice(&format!(
                "backend {}: {} has named no server within {} seconds; going on without",
                origin.backend,
                origin.spec.source,
                FIRST_ANSWER.as_secs()
            ));
        }
    }

    /// Waits until some list differs from the one before. What came before it was asked is told, too.
    pub async fn changed(&self) {
        self.news.notified().await;
    }

    /// What each is and knows.
    #[must_use]
    pub fn origins(&self) -> Vec<Arc<Origin>> {
        self.all.iter().map(|source| Arc::clone(&source.origin)).collect()
    }

    /// Puts what is known into the backends, behind the servers of the file. A server of the file goes before one that was found under its name or at its address.
    pub fn fill(&self, config: &mut Config) {
        for source in &self.all {
            let Some(found) = source.origin.known().servers else { continue };
            let of = |backend: &&mut plimsoll_config::model::Backend| backend.name == source.origin.backend;
            let Some(backend) = config.backends.iter_mut().find(of) else { continue };
            let names: HashSet<&str> = backend.servers.iter().map(|own| own.name.as_str()).collect();
            let addresses: HashSet<&Address> = backend.servers.iter().map(|own| &own.address).collect();
            let is_other =
                |found: &&Server| !names.contains(found.name.as_str()) && !addresses.contains(&found.address);
            let others: Vec<Server> = found.iter().filter(is_other).cloned().collect();
            backend.servers.extend(others);
        }
    }

    /// The last good lists, for another process, and who stays though a list does not name them.
    #[must_use]
    pub fn handed(&self, staying: &[(String, Vec<Server>)]) -> Value {
        let listed = self.origins().into_iter().filter_map(|origin| {
            let servers = origin.known().servers?;
            let servers: Vec<Value> = servers.iter().map(settings).collect();
            let staying = staying.iter().filter(|(backend, _)| *backend == origin.backend);
            let staying: Vec<Value> = staying.flat_map(|(_, servers)| servers.iter().map(settings)).collect();
            let source = origin.spec.source.to_string();
            Some(json!({ "backend": origin.backend, "source": source, "servers": servers, "staying": staying }))
        });
        listed.collect()
    }

    /// By backend, who stays though no list names them, as [`Sources::handed`] put them.
    #[must_use]
    pub fn staying(&self, handed: &Value) -> Vec<(String, Vec<Server>)> {
        let all = self.origins().into_iter().filter_map(|origin| {
            let staying = recall(handed, &origin.backend, &origin.spec.source.to_string(), "staying")?;
            (!staying.is_empty()).then(|| (origin.backend.clone(), staying.to_vec()))
        });
        all.collect()
    }
}

/// Servers of that source; none if they are not understood.
fn recall(handed: &Value, backend: &str, source: &str, what: &str) -> Option<Arc<[Server]>> {
    let is_that = |one: &&Value| one["backend"] == backend && one["source"] == source;
    let servers = &handed.as_array()?.iter().find(is_that)?[what];
    let servers = servers.as_array()?.iter().map(read_settings).collect::<Option<Vec<Server>>>()?;
    let names: HashSet<&str> = servers.iter().map(|server| server.name.as_str()).collect();
    (names.len() == servers.len()).then(|| servers.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(discover: &str) -> Config {
        let text = format!(
            "[[listen]]\nbind = \":8080\"\nto = \"b\"\n[backend.b]\nservers = [\"127.0.0.1:1\"]\n{discover}\n"
        );
        let source = plimsoll_config::Source { path: "a.toml".to_owned(), text };
        plimsoll_config::load(&[source], &|_| None).unwrap().config
    }

    fn list(name: &str, text: &str) -> (std::path::PathBuf, Config) {
        let path = std::env::temp_dir().join(format!("plimsoll-sources-{name}-{}.json", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let config = config(&format!("discover = {{ file = \"{}\" }}", path.display()));
        (path, config)
    }

    fn names(sources: &Sources, config: &Config) -> Vec<String> {
        let mut config = config.clone();
        sources.fill(&mut config);
        config.backends[0].servers.iter().map(|server| server.name.clone()).collect()
    }

    const ENOUGH: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn what_is_found_stands_behind_the_servers_of_the_file_and_changes_are_told() {
        let (path, config) = list("found", "[\"127.0.0.1:1\", \"127.0.0.1:2\"]");
        let sources = Sources::default().next(&config, &Value::Null);
        sources.listed(ENOUGH).await;
        assert_eq!(names(&sources, &config), ["127.0.0.1:1", "127.0.0.1:2"]);
        tokio::time::timeout(ENOUGH, sources.changed()).await.unwrap();
        std::fs::write(&path, "[\"127.0.0.1:3\"]").unwrap();
        tokio::time::timeout(ENOUGH, sources.changed()).await.unwrap();
        assert_eq!(names(&sources, &config), ["127.0.0.1:1", "127.0.0.1:3"]);
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn a_source_that_stays_is_the_same_and_its_list_outlives_another_way_of_asking() {
        let (path, config) = list("stays", "[\"127.0.0.1:2\"]");
        let first = Sources::default().next(&config, &Value::Null);
        first.listed(ENOUGH).await;
        let second = first.next(&config, &Value::Null);
        assert!(Arc::ptr_eq(&first.all[0], &second.all[0]));
        std::fs::remove_file(&path).unwrap();
        let mut other = config.clone();
        other.backends[0].discover.as_mut().unwrap().every = Duration::from_secs(9);
        let third = second.next(&other, &Value::Null);
        assert!(!Arc::ptr_eq(&second.all[0], &third.all[0]));
        assert_eq!(names(&third, &config), ["127.0.0.1:1", "127.0.0.1:2"]);
        let gone = third.next(&self::config(""), &Value::Null);
        assert!(gone.all.is_empty());
    }

    #[tokio::test]
    async fn another_process_knows_the_last_good_lists() {
        let text = r#"[{"address": "127.0.0.1:2", "name": "two", "weight": 0, "priority": 3, "max_requests": 9},
            {"address": "unix:/run/a.sock", "backup": true}]"#;
        let (path, config) = list("handed", text);
        let first = Sources::default().next(&config, &Value::Null);
        first.listed(ENOUGH).await;
        let staying = vec![("b".to_owned(), vec![Server::new("gone", "127.0.0.1:3".parse().unwrap())])];
        let handed = first.handed(&staying);
        std::fs::remove_file(&path).unwrap();
        let second = Sources::default().next(&config, &handed);
        assert_eq!(second.staying(&handed), staying);
        assert!(second.staying(&first.handed(&[])).is_empty());
        assert_eq!(second.origins()[0].known().servers, first.origins()[0].known().servers);
        assert_eq!(names(&second, &config), ["127.0.0.1:1", "two", "unix:/run/a.sock"]);
        let other = self::config("discover = { file = \"/nowhere/else.json\" }");
        let other = Sources::default().next(&other, &handed);
        assert!(other.origins()[0].known().servers.is_none() && other.staying(&handed).is_empty());
        for odd in [json!(7), json!([7]), json!([{ "backend": "b", "source": "x", "servers": 7 }])] {
            assert_eq!(recall(&odd, "b", "x", "servers"), None, "{odd}");
        }
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_he_wants_to() {
        let config = config("discover = { file = \"/nowhere/at/all.json\" }");
        let sources = Sources::default().next(&config, &Value::Null);
        sources.listed(Duration::from_millis(50)).await;
        assert_eq!(names(&sources, &config), ["127.0.0.1:1"]);
        assert!(sources.origins()[0].known().is_failing);
    }
}
