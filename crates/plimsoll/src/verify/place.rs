//! Where the balancer and the origins' control addresses are: texts in, addresses out.
//!
//! Only loopback, unless it was said otherwise: a check makes origins fail, and an address may be mistyped.

use std::net::{SocketAddr, ToSocketAddrs};

/// An `http` URL, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    /// What goes into `Host`.
    pub(super) host: String,
    /// Begins with `/`.
    pub(super) path: String,
}

impl Place {
    /// Reads `http://HOST:PORT/PATH`, `HOST:PORT` or `:PORT`.
    pub(super) fn new(text: &str, remote: bool) -> Result<Place, String> {
        let rest = text.strip_prefix("http://").unwrap_or(text);
        if rest.contains("://") {
            return Err(format!("\"{text}\": only http:// is spoken here"));
        }
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = if host.starts_with(':') { format!("127.0.0.1{host}") } else { host.to_owned() };
        let with_port = if host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) {
            host.clone()
        } else {
            format!("{host}:80")
        };
        let address = with_port
            .to_socket_addrs()
            .map_err(|error| format!("\"{text}\" is not HOST:PORT: {error}"))?
            .next()
            .ok_or_else(|| format!("\"{text}\" has no address"))?;
        if !address.ip().is_loopback() && !remote {
            return Err(format!("{address} is not on loopback; --remote allows it"));
        }
        let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
        Ok(Place { address, host, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_addresses_are_read() {
        let place = Place::new("http://127.0.0.1:8080/a?b", false).unwrap();
        assert_eq!(
            (place.address.port(), place.host.as_str(), place.path.as_str()),
            (8080, "127.0.0.1:8080", "/a?b")
        );
        assert_eq!(Place::new(":9001", false).unwrap().path, "/");
        assert_eq!(Place::new("http://127.0.0.1", false).unwrap().address.port(), 80);
    }

    #[test]
    fn other_machines_and_protocols_are_refused() {
        assert!(Place::new("192.0.2.1:80", false).unwrap_err().contains("--remote"));
        assert!(Place::new("192.0.2.1:80", true).is_ok());
        assert!(Place::new("https://127.0.0.1", false).is_err());
        assert!(Place::new("127.0.0.1:x", false).is_err());
    }
}
