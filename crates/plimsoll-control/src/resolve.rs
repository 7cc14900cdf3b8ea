//! Host names of servers to addresses, once at the start.
//!
//! A configuration goes in and comes out without names. All names that do not resolve are reported at once, each with
//! its backend, its server and the next step. May wait for DNS as long as the system's resolver does.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};

use plimsoll_config::model::{Address, Config};

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

/// Replaces every host name in `config` by its address.
pub fn resolve(config: &mut Config) -> Result<(), Vec<Unresolved>> {
    resolve_with(config, |host| Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
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

    #[test]
    fn localhost_resolves() {
        let mut config = config(&["localhost:3000"]);
        resolve(&mut config).unwrap();
        let Address::Socket(address) = addresses(&config)[0] else { panic!("still a name") };
        assert!(address.ip().is_loopback() && address.port() == 3000);
    }
}
