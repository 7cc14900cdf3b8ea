//! One source of servers: a task that asks for as long as it lives, and what it knows.
//!
//! An answer is judged here: one without servers, or one that some name server kept half of, leaves the servers as they are, unless the
//! configuration says that it may empty the backend. Says to the operator when a source begins to fail, when it answers again and
//! when its servers change, and nothing else.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use plimsoll_config::defaults::{LONGEST_SOURCE_RETRY, SHORTEST_TTL, SOURCE_PATIENCE, UNKNOWN_TTL};
use plimsoll_config::model::{self, Address, Discover, Server};
use plimsoll_proxy::notice;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::list::FileList;
use super::names::Names;
use super::registry::Registry;
use super::{Found, dns};

/// A source that is asked until it is dropped.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) origin: Arc<Origin>,
    task: JoinHandle<()>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a source is, and what it has said so far.
#[derive(Debug)]
pub struct Origin {
    /// The backend's name.
    pub backend: String,
    /// As configured.
    pub spec: Discover,
    known: Mutex<Known>,
    /// Something has been learned: wakes whoever waits for a first answer.
    learned: Notify,
}

/// What a source has said so far.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The last good list; `None`: there was none yet.
    pub servers: Option<Arc<[Server]>>,
    /// When the source last gave a good answer, the same one or another.
    pub success: Option<SystemTime>,
    /// Why it last did not, or what was wrong with a part, and when.
    pub failure: Option<(SystemTime, String)>,
    /// The last question failed.
    pub is_failing: bool,
    /// Good answers, the same ones counted too.
    pub successes: u64,
    /// Questions that failed.
    pub failures: u64,
    /// Lists that differed from the one before.
    pub changes: u64,
}

impl Source {
    /// Begins to ask; `list` is what was known before. Needs a tokio runtime.
    pub(super) fn start(
        backend: &str,
        spec: &Discover,
        list: Option<Arc<[Server]>>,
        news: &Arc<Notify>,
    ) -> Source {
        let known = Mutex::new(Known { servers: list, ..Known::default() });
        let (backend, spec) = (backend.to_owned(), spec.clone());
        let origin = Arc::new(Origin { backend, spec, known, learned: Notify::new() });
        let task = tokio::spawn(ask(Arc::clone(&origin), Arc::clone(news)));
        Source { origin, task }
    }
}

impl Origin {
    /// What it has said so far.
    pub fn known(&self) -> Known {
        self.lock().clone()
    }

    /// Waits until there is a list.
    pub(super) async fn listed(&self) {
        loop {
            let mut learned = std::pin::pin!(self.learned.notified());
            learned.as_mut().enable(); // what is learned from here on is not missed
            if self.lock().servers.is_some() {
                return;
            }
            learned.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a question came to; true if the servers are others now.
    fn take(&self, answer: Result<Option<Found>, String>) -> Result<bool, String> {
        let mut known = self.lock();
        let judged = answer.map_err(|reason| shown(&reason)).and_then(|answer| match answer {
            None => Ok(None),
            Some(found) if found.servers.is_empty() && !self.spec.allow_empty => {
                Err(found.trouble.unwrap_or_else(|| "it names no server".to_owned()))
            }
            Some(found) if found.is_partial && known.servers.is_some() => {
                Err(found.trouble.unwrap_or_else(|| "a part of it is unknown".to_owned()))
            }
            found => Ok(found),
        });
        let now = SystemTime::now();
        let outcome = match judged {
            Ok(found) => {
                known.successes += 1;
                known.success = Some(now);
                let trouble = found.as_ref().and_then(|found| found.trouble.as_deref()).map(shown);
                self.tell_success(known.is_failing, trouble.as_ref(), known.failure.as_ref());
                known.is_failing = false;
                if let Some(trouble) = trouble {
                    known.failure = Some((now, trouble));
                }
                let servers = found.map(|found| found.servers);
                let before = known.servers.as_deref();
                let others =
                    servers.filter(|servers| before.is_none_or(|before| self.differs(before, servers)));
                if let Some(servers) = &others {
                    self.tell_change(before.unwrap_or_default(), servers);
                    known.changes += 1;
                    known.servers = Some(servers.as_slice().into());
                }
                Ok(others.is_some())
            }
            Err(reason) => {
                known.failures += 1;
                // Another reason is news; the same at each question is told once.
                if !known.is_failing || known.failure.as_ref().is_none_or(|(_, last)| *last != reason) {
                    self.tell_failure(&reason, known.servers.as_deref());
                }
                known.is_failing = true;
                known.failure = Some((now, reason.clone()));
                Err(reason)
            }
        };
        drop(known);
        self.learned.notify_waiters();
        outcome
    }

    /// Where the order has no meaning, another order is not another list.
    fn differs(&self, before: &[Server], now: &[Server]) -> bool {
        if self.spec.is_ordered || before.len() != now.len() {
            return before != now;
        }
        let sorted = |all: &[Server]| {
            let mut all: Vec<Server> = all.to_vec();
            all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            all
        };
        sorted(before) != sorted(now)
    }

    fn tell_success(&self, was_failing: bool, trouble: Option<&String>, last: Option<&(SystemTime, String)>) {
        let Origin { backend, spec, .. } = self;
        match trouble {
            // The same trouble at each question is told once.
            Some(trouble) if was_failing || last.is_none_or(|(_, last)| last != trouble) => {
                notice(&format!("backend {backend}: {}: {trouble}", spec.source));
            }
            None if was_failing => notice(&format!("backend {backend}: {} answers again", spec.source)),
            _ => {}
        }
    }

    fn tell_failure(&self, reason: &str, servers: Option<&[Server]>) {
        let Origin { backend, spec, .. } = self;
        let stays = match servers {
            Some(servers) => format!("its last {} stay", self::servers(servers.len())),
            None => "it has named no server yet".to_owned(),
        };
        notice(&format!("backend {backend}: {} fails: {reason}; {stays}", spec.source));
    }

    fn tell_change(&self, before: &[Server], now: &[Server]) {
        let names =
            |all: &[Server]| all.iter().map(|s| s.name.clone()).collect::<std::collections::HashSet<_>>();
        let (old, new) = (names(before), names(now));
        let (added, gone) = (new.difference(&old).count(), old.difference(&new).count());
        let Origin { backend, spec, .. } = self;
        notice(&format!(
            "backend {backend}: {} names {}: {added} new, {gone} gone",
            spec.source,
            servers(now.len())
        ));
    }
}

fn servers(count: usize) -> String {
    if count == 1 { "1 server".to_owned() } else { format!("{count} servers") }
}

/// Characters of a reason.
const REASON: usize = 300;

/// A reason as an operator may see it: parts of it may be others' words.
fn shown(reason: &str) -> String {
    reason.chars().take(REASON).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// How a source is asked, with what it remembers between questions.
struct Way {
    names: Names,
    of: Of,
}

enum Of {
    Addresses,
    Service,
    File(FileList),
    /// With the names that lead to it.
    Registry(Box<(Registry, Names)>),
}

impl Way {
    fn new(origin: &Origin) -> Way {
        match &origin.spec.source {
            model::Source::File(_) => Way { names: Names::new(None), of: Of::File(FileList::default()) },
            model::Source::Dns { name, resolver, .. } => {
                let mut names = Names::new(*resolver);
                names.recall(name, &addresses(origin.lock().servers.as_deref().unwrap_or_default()));
                Way { names, of: Of::Addresses }
            }
            model::Source::DnsSrv { resolver, .. } => Way { names: Names::new(*resolver), of: Of::Service },
            model::Source::Http { tls, host, port, target } => {
                let registry = Registry::new(tls.clone(), host, *port, target);
                Way { names: Names::new(None), of: Of::Registry(Box::new((registry, Names::new(None)))) }
            }
        }
    }

    async fn ask(&mut self, spec: &Discover) -> Result<Option<Found>, String> {
        let (names, max_requests) = (&mut self.names, spec.max_requests);
        match (&mut self.of, &spec.source) {
            (Of::File(list), model::Source::File(path)) => list.look(path, max_requests, names).await,
            (Of::Registry(of), _) => of.0.ask(max_requests, &mut of.1, names).await,
            (_, model::Source::Dns { name, port, .. }) => {
                dns::addresses(names, name, *port, max_requests).await.map(Some)
            }
            (_, model::Source::DnsSrv { name, .. }) => {
                dns::service(names, name, max_requests).await.map(Some)
            }
            (_, model::Source::File(_) | model::Source::Http { .. }) => Ok(None),
        }
    }

    /// The last answer is in force: the same need not come again.
    fn take(&mut self) {
        match &mut self.of {
            Of::File(list) => list.take(),
            Of::Registry(of) => of.0.take(),
            Of::Addresses | Of::Service => {}
        }
    }
}

fn addresses(servers: &[Server]) -> Vec<IpAddr> {
    let ip = |server: &Server| match server.address {
        Address::Socket(address) => Some(address.ip()),
        _ => None,
    };
    servers.iter().filter_map(ip).collect()
}

/// Asks, and asks again, without end.
async fn ask(origin: Arc<Origin>, news: Arc<Notify>) {
    let mut way = Way::new(&origin);
    let mut failures = 0;
    loop {
        let asked = timeout(SOURCE_PATIENCE, way.ask(&origin.spec)).await;
        let asked =
            asked.unwrap_or_else(|_| Err(format!("no answer within {} seconds", SOURCE_PATIENCE.as_secs())));
        let found = asked.as_ref().ok().and_then(Option::as_ref);
        let (ttl, is_whole) = (found.and_then(|found| found.ttl), found.is_some_and(|f| f.trouble.is_none()));
        let outcome = origin.take(asked);
        failures = if outcome.is_ok() { 0 } else { failures + 1 };
        // With trouble a part of it is to be asked for again.
        if outcome.is_ok() && is_whole {
            way.take();
        }
        if outcome.is_ok_and(|is_another| is_another) {
            news.notify_one();
        }
        sleep(pause(&origin.spec, ttl, failures, RandomState::new().hash_one(failures))).await;
    }
}

/// How long until the next question: a list's interval, a TTL, or ever longer while it fails; a tenth of it, by chance, so that many
/// instances don't ask in step.
fn pause(spec: &Discover, ttl: Option<Duration>, failures: u32, chance: u64) -> Duration {
    let is_list = matches!(spec.source, model::Source::File(_) | model::Source::Http { .. });
    let pause = match failures {
        _ if is_list => spec.every,
        0 => ttl.unwrap_or(UNKNOWN_TTL),
        // Doubled so often, it is at its bound.
        n => (SHORTEST_TTL * 2_u32.pow((n - 1).min(10))).min(LONGEST_SOURCE_RETRY),
    };
    pause + pause.mul_f64((chance % 1_000) as f64 / 10_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(change: impl FnOnce(&mut Discover)) -> Origin {
        let mut spec = Discover {
            source: model::Source::File("servers.json".into()),
            every: Duration::from_secs(1),
            allow_empty: false,
            max_requests: 1,
            is_ordered: false,
        };
        change(&mut spec);
        Origin { backend: "b".to_owned(), spec, known: Mutex::default(), learned: Notify::new() }
    }

    fn servers(ports: &[u16]) -> Vec<Server> {
        let server =
            |&port: &u16| Server::new(&port.to_string(), Address::Socket(([127, 0, 0, 1], port).into()));
        ports.iter().map(server).collect()
    }

    fn found(ports: &[u16]) -> Result<Option<Found>, String> {
        Ok(Some(Found { servers: servers(ports), ..Found::default() }))
    }

    fn ports(origin: &Origin) -> Option<Vec<String>> {
        origin.known().servers.map(|all| all.iter().map(|s| s.name.clone()).collect())
    }

    #[test]
    fn an_empty_or_failing_answer_never_empties_a_backend() {
        let origin = origin(|_| {});
        assert!(origin.take(found(&[])).is_err());
        assert_eq!(ports(&origin), None);
        assert_eq!(origin.take(found(&[1, 2])), Ok(true));
        assert!(origin.take(found(&[])).is_err());
        assert!(origin.take(Err("dead".to_owned())).is_err());
        assert_eq!(ports(&origin), Some(vec!["1".to_owned(), "2".to_owned()]));
        let known = origin.known();
        assert_eq!((known.successes, known.failures, known.changes, known.is_failing), (1, 3, 1, true));
        assert_eq!(known.failure.unwrap().1, "dead");
        assert_eq!(origin.take(Ok(None)), Ok(false));
        assert!(!origin.known().is_failing);
    }

    #[test]
    fn one_that_may_does() {
        let origin = origin(|spec| spec.allow_empty = true);
        assert_eq!(origin.take(found(&[1])), Ok(true));
        assert_eq!(origin.take(found(&[])), Ok(true));
        assert_eq!(ports(&origin), Some(Vec::new()));
    }

    #[test]
    fn half_an_answer_is_better_than_none_and_worse_than_the_last() {
        let origin = origin(|_| {});
        let half = |ports: &[u16]| {
            let found = Found { servers: servers(ports), is_partial: true, ..Found::default() };
            Ok(Some(found))
        };
        assert_eq!(origin.take(half(&[1])), Ok(true));
        assert!(origin.take(half(&[2])).is_err());
        assert_eq!(ports(&origin), Some(vec!["1".to_owned()]));
    }

    #[test]
    fn an_order_that_rotates_changes_nothing_unless_it_has_a_meaning() {
        let unordered = origin(|_| {});
        assert_eq!(unordered.take(found(&[1, 2, 3])), Ok(true));
        assert_eq!(unordered.take(found(&[3, 1, 2])), Ok(false));
        assert_eq!(unordered.take(found(&[3, 1, 4])), Ok(true));
        let ordered = origin(|spec| spec.is_ordered = true);
        assert_eq!(ordered.take(found(&[1, 2])), Ok(true));
        assert_eq!(ordered.take(found(&[2, 1])), Ok(true));
    }

    #[test]
    fn pauses_have_bounds() {
        let list = origin(|_| {}).spec;
        let dns = origin(|spec| {
            spec.source = model::Source::DnsSrv { name: "a".to_owned(), resolver: None };
        })
        .spec;
        let of = |spec: &Discover, ttl, failures, chance| {
            pause(spec, Some(Duration::from_secs(ttl)), failures, chance).as_millis()
        };
        assert_eq!(pause(&dns, None, 0, 0), UNKNOWN_TTL);
        assert_eq!((of(&list, 9, 0, 0), of(&list, 9, 9, 0), of(&list, 9, 0, 999)), (1_000, 1_000, 1_099));
        assert_eq!((of(&dns, 9, 0, 0), of(&dns, 60, 0, 999)), (9_000, 65_994));
        let failing: Vec<u128> = [1, 2, 3, 5, 6, 1_000].iter().map(|&n| of(&dns, 9, n, 0)).collect();
        assert_eq!(failing, [1_000, 2_000, 4_000, 16_000, 30_000, 30_000]);
    }
}
