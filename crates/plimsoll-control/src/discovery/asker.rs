//! One question to the Domain Name System: a name and a type of record in, its records out.
//!
//! `hickory-resolver` sends it (several name servers, retries, TCP when an answer is truncated) and reads the message; what an answer may
//! say is judged here. Believed are only records of the name that was asked for and of the aliases that lead on from it, at most
//! [`MOST_ALIASES`] of them, so that loops, chains and records of other names come to nothing. That there is none is an answer; that
//! nobody knows is an error, and the two are never taken for each other. Keeps no answer.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, DnsResponse, Query};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, NameServerPool, PoolContext, TlsConfig};
use plimsoll_config::defaults::{LONGEST_TTL, SHORTEST_TTL};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// Aliases on the way to a record: what resolvers follow, too.
const MOST_ALIASES: usize = 8;
/// One try at all name servers, and tries.
const TRY: Duration = Duration::from_secs(3);
const TRIES: usize = 2;

/// Records, none of them of another name, and how long they are good.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) records: Vec<RData>,
    /// Within the bounds of `defaults`, if it says so.
    pub(super) ttl: Option<Duration>,
}

/// Whom to ask, and what the system says about names.
pub(super) struct Asker {
    pool: NameServerPool<TokioRuntimeProvider>,
    options: DnsRequestOptions,
    hosts: Hosts,
    search: Vec<Name>,
    /// A name with so many dots is tried as it is first.
    dots: usize,
}

/// An asker and what it was made from.
pub(super) struct Askers {
    resolver: Option<SocketAddr>,
    made: Option<(Texts, Arc<Asker>)>,
}

/// The system's two files, as far as they can be read.
#[derive(PartialEq)]
struct Texts {
    resolv_conf: Vec<u8>,
    hosts: Vec<u8>,
}

impl Askers {
    /// For that name server alone, or for what the system says.
    pub(super) fn new(resolver: Option<SocketAddr>) -> Askers {
        Askers { resolver, made: None }
    }

    /// The asker for now: a new one when the system's files have changed, as they do when a machine changes networks.
    pub(super) fn present(&mut self) -> Result<Arc<Asker>, String> {
        let texts = match self.resolver {
            Some(_) => Texts { resolv_conf: Vec::new(), hosts: Vec::new() },
            None => Texts {
                resolv_conf: fs::read(RESOLV_CONF)
                    .map_err(|e| format!("cannot read {RESOLV_CONF}: {e}; name one with `resolver`"))?,
                hosts: fs::read(HOSTS).unwrap_or_default(), // many containers have none
            },
        };
        if let Some((before, asker)) = &self.made
            && *before == texts
        {
            return Ok(Arc::clone(asker));
        }
        let asker = Arc::new(Asker::new(self.resolver, &texts)?);
        self.made = Some((texts, Arc::clone(&asker)));
        Ok(asker)
    }
}

impl Asker {
    fn new(resolver: Option<SocketAddr>, texts: &Texts) -> Result<Asker, String> {
        let failed = |e: &dyn std::fmt::Display| format!("{RESOLV_CONF}: {e}");
        let (servers, search, mut options) = match resolver {
            Some(address) => (vec![only(address)], Vec::new(), ResolverOpts::default()),
            None => {
                let text = &texts.resolv_conf;
                let (config, options) =
                    hickory_resolver::system_conf::parse_resolv_conf(text).map_err(|e| failed(&e))?;
                let (domain, mut search, servers) = config.into_parts();
                if search.is_empty() {
                    search.extend(domain);
                }
                (servers, search, options)
            }
        };
        options.timeout = options.timeout.min(TRY);
        let (dots, edns) = (options.ndots, options.edns0);
        let tls = TlsConfig::new().map_err(|e| failed(&e))?;
        let context = Arc::new(PoolContext::new(options, tls));
        let mut request = DnsRequestOptions::default();
        request.use_edns = edns;
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(&*texts.hosts).map_err(|e| format!("{HOSTS}: {e}"))?;
        let pool = NameServerPool::from_config(servers, context, TokioRuntimeProvider::default());
        Ok(Asker { pool, options: request, hosts, search, dots })
    }

    /// The addresses of a name in the system's list of hosts. A name that stands there is not asked for.
    pub(super) fn host(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = Name::from_ascii(name).ok()?;
        let of = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let found = [of(RecordType::A), of(RecordType::AAAA)];
        let all = found.iter().flatten().flat_map(|lookup| lookup.answers());
        let addresses: Vec<IpAddr> = all.filter_map(|record| record.data.ip_addr()).collect();
        (!addresses.is_empty()).then_some(addresses)
    }

    /// The records of that type. None is an answer, too.
    pub(super) async fn ask(&self, name: &str, kind: RecordType) -> Result<Answer, String> {
        let mut nothing = Answer { records: Vec::new(), ttl: None };
        for name in self.candidates(name)? {
            let answer = self.follow(name, kind).await?;
            if !answer.records.is_empty() {
                return Ok(answer);
            }
            nothing.ttl = shorter(nothing.ttl, answer.ttl);
        }
        Ok(nothing)
    }

    /// The names that a name may mean, in the order in which they are tried (resolv.conf(5), `search` and `ndots`).
    fn candidates(&self, text: &str) -> Result<Vec<Name>, String> {
        let mut name = Name::from_ascii(text).map_err(|e| format!("{text}: {e}"))?;
        let is_whole = name.is_fqdn();
        let dots = text.bytes().filter(|&byte| byte == b'.').count();
        let searched: Vec<Name> = match is_whole {
            true => Vec::new(),
            false => self.search.iter().filter_map(|of| name.clone().append_domain(of).ok()).collect(),
        };
        name.set_fqdn(true);
        let mut all = searched;
        let place = if dots >= self.dots { 0 } else { all.len() };
        all.insert(place, name);
        all.iter_mut().for_each(|name| name.set_fqdn(true));
        Ok(all)
    }

    /// Follows aliases within messages and, where a message ends before the chain does, by asking again.
    async fn follow(&self, mut name: Name, kind: RecordType) -> Result<Answer, String> {
        let mut ttl = None;
        let mut aliases = 0;
        'messages: loop {
            let message = match self.send(&name, kind).await? {
                Said::Nothing(negative) => {
                    return Ok(Answer { records: Vec::new(), ttl: shorter(ttl, negative.map(clamp)) });
                }
                Said::Message(message) => message,
            };
            let mut is_about_us = false;
            loop {
                let own = message.answers.iter().filter(|record| record.name == name);
                let (mut records, mut alias) = (Vec::new(), None);
                for record in own {
                    ttl = shorter(ttl, Some(clamp(record.ttl)));
                    match &record.data {
                        RData::CNAME(target) if kind != RecordType::CNAME => alias = Some(target.0.clone()),
                        data if data.record_type() == kind => records.push(data.clone()),
                        _ => {}
                    }
                }
                match alias {
                    _ if !records.is_empty() => return Ok(Answer { records, ttl }),
                    Some(_) if aliases == MOST_ALIASES => {
                        return Err(format!("{name} is at the end of more than {MOST_ALIASES} aliases"));
                    }
                    Some(target) => (name, aliases, is_about_us) = (target, aliases + 1, true),
                    None if is_about_us => continue 'messages,
                    None if message.answers.is_empty() => return Ok(Answer { records, ttl }),
                    None => return Err(format!("the answer for {name} is about other names")),
                }
            }
        }
    }

    async fn send(&self, name: &Name, kind: RecordType) -> Result<Said, String> {
        let mut tries = 1;
        loop {
            let query = Query::query(name.clone(), kind);
            let answer = self.pool.lookup(query, self.options).first_answer().await;
            match answer.and_then(|answer| DnsError::from_response(answer).map_err(NetError::from)) {
                Ok(message) => return Ok(Said::Message(Box::new(message))),
                Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                    return Ok(Said::Nothing(none.negative_ttl));
                }
                Err(_) if tries < TRIES => tries += 1,
                Err(error) => return Err(format!("{name} {kind}: {error}")),
            }
        }
    }
}

/// What a name server says.
enum Said {
    Message(Box<DnsResponse>),
    /// There is none; good for so many seconds, if it says so.
    Nothing(Option<u32>),
}

fn only(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    server.connections.iter_mut().for_each(|connection| connection.port = address.port());
    server
}

/// The shorter of two lives, as far as they are known.
pub(super) fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

fn clamp(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into()).clamp(SHORTEST_TTL, LONGEST_TTL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(resolv_conf: &str, hosts: &str) -> Asker {
        let texts = Texts { resolv_conf: resolv_conf.into(), hosts: hosts.into() };
        Asker::new(None, &texts).unwrap()
    }

    fn tried(asker: &Asker, name: &str) -> Vec<String> {
        asker.candidates(name).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_are_searched_for_as_the_system_does() {
        let asker = asker("nameserver 127.0.0.1\nsearch a.example b.example\noptions ndots:2\n", "");
        assert_eq!(tried(&asker, "web"), ["web.a.example.", "web.b.example.", "web."]);
        assert_eq!(tried(&asker, "web.x"), ["web.x.a.example.", "web.x.b.example.", "web.x."]);
        assert_eq!(tried(&asker, "web.x.y"), ["web.x.y.", "web.x.y.a.example.", "web.x.y.b.example."]);
        assert_eq!(tried(&asker, "web."), ["web."]);
    }

    #[test]
    fn a_list_of_hosts_goes_before() {
        let asker = asker("nameserver 127.0.0.1\n", "10.0.0.1 web Web.internal # a\n::1 web\n10.0.0.2 web\n");
        let found = |name: &str| asker.host(name).map(|ips| ips.iter().map(ToString::to_string).collect());
        assert_eq!(found("web"), Some(vec!["10.0.0.1".to_owned(), "10.0.0.2".into(), "::1".into()]));
        assert_eq!(found("WEB.internal."), Some(vec!["10.0.0.1".to_owned()]));
        assert_eq!(found("other"), None);
    }

    #[test]
    fn without_a_name_server_there_is_an_error_that_says_where() {
        let texts = Texts { resolv_conf: b"search a\n".to_vec(), hosts: Vec::new() };
        let error = Asker::new(None, &texts).err().unwrap();
        assert!(error.starts_with("/etc/resolv.conf: "), "{error}");
    }

    #[test]
    fn a_ttl_has_bounds() {
        assert_eq!([0, 1, 30, u32::MAX].map(|ttl| clamp(ttl).as_secs()), [1, 1, 30, 60]);
    }
}
