//! The addresses of host names, with the last good ones kept.
//!
//! Both kinds of address are asked for at once and judged apart: a name server that does not answer for one keeps what was known of
//! it, and does not take the other along. Bounded in how many names are asked for and how many at once.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::rr::{RData, RecordType};
use plimsoll_config::defaults::{MOST_NAMES, NAMES_AT_ONCE};
use tokio::task::JoinSet;

use super::asker::{Answer, Asker, Askers, shorter};

/// What is known of names, and whom to ask.
pub(super) struct Names {
    askers: Askers,
    known: HashMap<String, Known>,
}

/// The addresses that a name had when it was last answered for; `None` was never.
#[derive(Debug, Clone, Default)]
struct Known {
    four: Option<Vec<IpAddr>>,
    six: Option<Vec<IpAddr>>,
}

/// What names have come to.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// Of each name: sorted, each once.
    pub(super) addresses: HashMap<String, Vec<IpAddr>>,
    /// The shortest life of all.
    pub(super) ttl: Option<Duration>,
    /// What went wrong with some of them.
    pub(super) trouble: Option<String>,
    /// Somebody has answered for some name.
    pub(super) is_answered: bool,
    /// Of some name nothing is known, because nobody answers for it.
    pub(super) is_partial: bool,
}

impl Names {
    pub(super) fn new(resolver: Option<SocketAddr>) -> Names {
        Names { askers: Askers::new(resolver), known: HashMap::new() }
    }

    /// Takes addresses for known that an earlier process has learned.
    pub(super) fn recall(&mut self, name: &str, addresses: &[IpAddr]) {
        let of = |is: fn(&IpAddr) -> bool| {
            let all: Vec<IpAddr> = addresses.iter().copied().filter(is).collect();
            (!all.is_empty()).then_some(all)
        };
        self.known.insert(name.to_owned(), Known { four: of(IpAddr::is_ipv4), six: of(IpAddr::is_ipv6) });
    }

    /// Whom to ask now.
    pub(super) fn asker(&mut self) -> Result<Arc<Asker>, String> {
        self.askers.present()
    }

    /// The addresses of these names; others are forgotten.
    pub(super) async fn resolve(&mut self, names: HashSet<String>) -> Result<Resolved, String> {
        if names.len() > MOST_NAMES {
            return Err(format!("it leads to more than {MOST_NAMES} names"));
        }
        let asker = self.asker()?;
        self.known.retain(|name, _| names.contains(name));
        let mut resolved = Resolved::default();
        let mut names = names.into_iter();
        let mut asking = JoinSet::new(); // aborted when dropped
        loop {
            while asking.len() < NAMES_AT_ONCE
                && let Some(name) = names.next()
            {
                asking.spawn(both(Arc::clone(&asker), name));
            }
            match asking.join_next().await {
                None => return Ok(resolved),
                Some(Err(_)) => return Err("looking names up ended by a defect".to_owned()),
                Some(Ok((name, said))) => self.take(name, said, &mut resolved),
            }
        }
    }

    fn take(&mut self, name: String, said: Said, resolved: &mut Resolved) {
        let known = self.known.entry(name.clone()).or_default();
        let mut all = Vec::new();
        let mut is_unknown = false;
        for (said, known) in [(said.four, &mut known.four), (said.six, &mut known.six)] {
            match said {
                Ok(answer) => {
                    resolved.ttl = shorter(resolved.ttl, answer.ttl);
                    resolved.is_answered = true;
                    *known = Some(answer.records.iter().filter_map(RData::ip_addr).collect());
                }
                Err(reason) => {
                    is_unknown |= known.is_none();
                    resolved.trouble.get_or_insert(reason);
                }
            }
            all.extend(known.iter().flatten().copied());
        }
        resolved.is_partial |= is_unknown && all.is_empty();
        all.sort_unstable();
        all.dedup();
        resolved.addresses.insert(name, all);
    }
}

/// What was said about a name, for both kinds of address.
struct Said {
    four: Result<Answer, String>,
    six: Result<Answer, String>,
}

async fn both(asker: Arc<Asker>, name: String) -> (String, Said) {
    if let Some(addresses) = asker.host(&name) {
        let (four, six): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv4);
        let answer =
            |all: Vec<IpAddr>| Ok(Answer { records: all.into_iter().map(RData::from).collect(), ttl: None });
        return (name, Said { four: answer(four), six: answer(six) });
    }
    let (four, six) = tokio::join!(asker.ask(&name, RecordType::A), asker.ask(&name, RecordType::AAAA));
    (name, Said { four, six })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(all: &[&str]) -> Result<Answer, String> {
        let records = all.iter().map(|ip| RData::from(ip.parse::<IpAddr>().unwrap())).collect();
        Ok(Answer { records, ttl: Some(Duration::from_secs(9)) })
    }

    fn take(names: &mut Names, four: Result<Answer, String>, six: Result<Answer, String>) -> Resolved {
        let mut resolved = Resolved::default();
        names.take("web".to_owned(), Said { four, six }, &mut resolved);
        resolved
    }

    fn texts(resolved: &Resolved) -> Vec<String> {
        resolved.addresses["web"].iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_kind_that_fails_keeps_what_was_known_of_it_alone() {
        let mut names = Names::new(None);
        let dead = || Err("dead".to_owned());
        let first = take(&mut names, answer(&["10.0.0.2", "10.0.0.1", "10.0.0.2"]), answer(&["::1"]));
        assert_eq!(texts(&first), ["10.0.0.1", "10.0.0.2", "::1"]);
        assert!(first.trouble.is_none() && first.ttl == Some(Duration::from_secs(9)));
        let second = take(&mut names, answer(&["10.0.0.3"]), dead());
        assert_eq!(texts(&second), ["10.0.0.3", "::1"]);
        assert!(second.trouble.is_some() && !second.is_partial);
        assert!(second.is_answered);
        let third = take(&mut names, dead(), dead());
        assert!(texts(&third) == ["10.0.0.3", "::1"] && !third.is_answered);
        assert_eq!(texts(&take(&mut names, dead(), answer(&[]))), ["10.0.0.3"]);
    }

    #[test]
    fn a_name_that_nobody_ever_answered_for_is_not_a_name_without_addresses() {
        let mut names = Names::new(None);
        let dead = || Err("dead".to_owned());
        assert!(take(&mut names, dead(), dead()).is_partial);
        assert!(take(&mut names, dead(), answer(&[])).is_partial);
        assert!(!take(&mut names, answer(&["10.0.0.1"]), dead()).is_partial, "some name servers never say");
        let mut names = Names::new(None);
        assert!(!take(&mut names, answer(&[]), answer(&[])).is_partial);
    }

    #[test]
    fn what_was_recalled_is_known() {
        let mut names = Names::new(None);
        names.recall("web", &["10.0.0.1".parse().unwrap()]);
        let dead = || Err("dead".to_owned());
        assert_eq!(texts(&take(&mut names, dead(), dead())), ["10.0.0.1"]);
    }
}
