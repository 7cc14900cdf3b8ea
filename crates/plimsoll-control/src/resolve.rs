//! Host names of servers to addresses, once at the start and at each reload.
//!
//! A configuration goes in and comes out without names. All names that do not resolve are reported at once, each with
//! its backend, its server and the next step. Waits for DNS on a thread of its own and for a bounded time, whatever the system's resolver does.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_config::defaults::{MOST_RESOLUTIONS, RESOLVE};
use plimsoll_config::model::{Address, Config};
use tokio::sync::oneshot;

/// A server whose name has no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// The backend's name.
    pub backend: String,
    /// The server's name.
    pub server: String,
    /// The host name that was asked for.
    pub host: String,
    /// What the resolver said.
    pub reason: String,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unresolved { backend, server, host, reason } = self;
        write!(f, "backend {backend}, server {server}: {host} does not resolve ({reason})")?;
        write!(f, "; try `getent hosts {host}`, or write its IP address")
    }
}

/// Names on their way to addresses, on a thread of their own: a name server that is silent must not hold up signals.
///
/// Dropped, it is abandoned: its thread ends after the name that it asks for, which the system's resolver bounds.
#[derive(Debug)]
pub struct Resolution {
    done: oneshot::Receiver<Result<Config, Vec<Unresolved>>>,
    /// The name that is being asked for.
    asking: Arc<Mutex<String>>,
    /// Every server that has a name, should there be no answer.
    named: Vec<Unresolved>,
    until: Instant,
}

/// Resolutions whose thread has not ended.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

struct UnderWay;

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Resolution {
    /// Begins to replace every host name in `config` by its address.
    ///
    /// # Errors
    /// Too many earlier ones still wait for a name server, or there can be no further thread.
    pub fn begin(config: Config) -> io::Result<Resolution> {
        Resolution::begin_with(config, RESOLVE, |host| {
            Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
        })
    }

    fn begin_with<L>(mut config: Config, patience: Duration, lookup: L) -> io::Result<Resolution>
    where
        L: Fn(&str) -> io::Result<Vec<IpAddr>> + Send + 'static,
    {
        let (answer, done) = oneshot::channel();
        let named = named(&config);
        let asking = Arc::new(Mutex::new(String::new()));
        let resolution =
            Resolution { done, asking: Arc::clone(&asking), named, until: Instant::now() + patience };
        if resolution.named.is_empty() {
            let _ = answer.send(Ok(config)); // we hold the receiver
            return Ok(resolution);
        }
        // Relaxed: a count by itself.
        let under_way = (UNDER_WAY.fetch_add(1, Ordering::Relaxed), UnderWay);
        if under_way.0 >= MOST_RESOLUTIONS {
            return Err(io::Error::other(format!(
                "{MOST_RESOLUTIONS} earlier attempts still wait for a name server"
            )));
        }
        std::thread::Builder::new().name("resolve".to_owned()).spawn(move || {
            let _under_way = under_way;
            let outcome = resolve_with(&mut config, |host| {
                if answer.is_closed() {
                    return Err(io::Error::other("nobody waits for it any more"));
                }
                host.clone_into(&mut asking.lock().unwrap_or_else(PoisonError::into_inner));
                lookup(host)
            });
            let _ = answer.send(outcome.map(|()| config)); // it may have been abandoned
        })?;
        Ok(resolution)
    }

    /// Waits until every name has an address. May be dropped and asked again.
    ///
    /// # Errors
    /// Every server whose name has no address, or did not get one in time.
    pub async fn outcome(&mut self) -> Result<Config, Vec<Unresolved>> {
        match tokio::time::timeout_at(self.until.into(), &mut self.done).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(self.unanswered("looking it up ended by a defect")),
            Err(_) => {
                Err(self.unanswered(&format!("no name server has answered within {} s", RESOLVE.as_secs())))
            }
        }
    }

    /// The servers of the name that is being asked for.
    fn unanswered(&self, reason: &str) -> Vec<Unresolved> {
        let asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let concerned = self.named.iter().filter(|server| server.host == *asking);
        concerned.map(|server| Unresolved { reason: reason.to_owned(), ..server.clone() }).collect()
    }
}

fn named(config: &Config) -> Vec<Unresolved> {
    let servers =
        config.backends.iter().flat_map(|backend| backend.servers.iter().map(move |s| (backend, s)));
    let named = servers.filter_map(|(backend, server)| match &server.address {
        Address::Name(host, _) => Some(Unresolved {
            backend: backend.name.clone(),
            server: server.name.clone(),
            host: host.clone(),
            reason: String::new(),
        }),
        _ => None,
    });
    named.collect()
}

fn resolve_with<L>(config: &mut Config, lookup: L) -> Result<(), Vec<Unresolved>>
where
    L: Fn(&str) -> io::Result<Vec<IpAddr>>,
{
    // One question a name: several servers often stand on one host, and a name that fails may take seconds to.
    let mut known: HashMap<String, Result<IpAddr, String>> = HashMap::new();
    let mut unresolved = Vec::new();
    for backend in &mut config.backends {
        for server in &mut backend.servers {
            let Address::Name(host, port) = &server.address else {
                continue;
            };
            let answer = known.entry(host.clone()).or_insert_with(|| {
                let addresses = lookup(host).map_err(|error| error.to_string())?;
                choose(&addresses).ok_or_else(|| "it has no address".to_owned())
            });
            match answer {
                Ok(ip) => server.address = Address::Socket((*ip, *port).into()),
                Err(reason) => unresolved.push(Unresolved {
                    backend: backend.name.clone(),
                    server: server.name.clone(),
                    host: host.clone(),
                    reason: reason.clone(),
                }),
            }
        }
    }
    if unresolved.is_empty() { Ok(()) } else { Err(unresolved) }
}

/// The first IPv4 address, else the first: a server is one address, and `localhost` and container names often have an
/// IPv6 address that nobody listens on.
fn choose(addresses: &[IpAddr]) -> Option<IpAddr> {
    addresses.iter().find(|address| address.is_ipv4()).or(addresses.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(servers: &[&str]) -> Config {
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        plimsoll_config::from_flags(&[":8080".to_owned()], &servers).unwrap().config
    }

    fn addresses(config: &Config) -> Vec<&Address> {
        config.backends[0].servers.iter().map(|server| &server.address).collect()
    }

    #[test]
    fn names_become_addresses_and_addresses_stay() {
        let mut config = config(&["db.example:3000", "10.0.0.1:3000"]);
        resolve_with(&mut config, |_| Ok(vec!["10.0.0.9".parse().unwrap()])).unwrap();
        let expected = ["10.0.0.9:3000", "10.0.0.1:3000"].map(|text| Address::Socket(text.parse().unwrap()));
        assert_eq!(addresses(&config), expected.iter().collect::<Vec<_>>());
    }

    #[test]
    fn ipv4_comes_before_ipv6() {
        let (four, six) = ("10.0.0.9".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert_eq!(choose(&[six, four]), Some(four));
        assert_eq!(choose(&[six]), Some(six));
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn every_name_that_fails_is_told_with_its_place_and_asked_for_once() {
        let mut config = config(&["a.example:1", "b.example:1", "a.example:2"]);
        let asked = std::cell::RefCell::new(Vec::new());
        let unresolved = resolve_with(&mut config, |host| {
            asked.borrow_mut().push(host.to_owned());
            if host == "a.example" { Err(io::Error::other("no such host")) } else { Ok(Vec::new()) }
        })
        .unwrap_err();
        assert_eq!(*asked.borrow(), ["a.example", "b.example"]);
        assert_eq!(unresolved.len(), 3);
        let text = unresolved[0].to_string();
        let start =
            "backend listen :8080, server a.example:1: a.example does not resolve (no such host); try";
        assert!(text.starts_with(start), "{text}");
        assert!(unresolved[1].reason.contains("no address"));
    }

    fn wait(resolution: &mut Resolution) -> Result<Config, Vec<Unresolved>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(resolution.outcome())
    }

    #[test]
    fn localhost_resolves() {
        let config = wait(&mut Resolution::begin(config(&["localhost:3000"])).unwrap()).unwrap();
        let Address::Socket(address) = addresses(&config)[0] else { panic!("still a name") };
        assert!(address.ip().is_loopback() && address.port() == 3000);
    }

    #[test]
    fn a_silent_name_server_is_waited_for_so_long_and_the_error_names_the_host() {
        let (let_go, hang) = std::sync::mpsc::channel::<()>();
        let config = config(&["10.0.0.1:1", "dead.example:2", "never.example:3"]);
        let mut resolution = Resolution::begin_with(config, Duration::from_millis(50), move |_| {
            let _ = hang.recv(); // until the test ends
            Err(io::Error::other("too late"))
        })
        .unwrap();
        let began = Instant::now();
        let unresolved = wait(&mut resolution).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(5));
        let hosts: Vec<&str> = unresolved.iter().map(|server| server.host.as_str()).collect();
        assert_eq!(hosts, ["dead.example"], "the one that was being asked for");
        assert!(unresolved[0].to_string().contains("no name server has answered"), "{}", unresolved[0]);
        drop(let_go);
    }
}
