//! Addresses as they are written: where to listen, where servers are, whom to trust.
//!
//! Strings go in; a socket address, a name with a port, a Unix path or a network comes out, or a `Fault` that says how
//! to write it. Never resolves a name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use crate::model::{Address, AdminBind};
use crate::problem::Code;

/// The longest path that fits a Unix socket's address, without the final zero.
const LONGEST_UNIX_PATH: usize = 107;

/// Why a string is not what it should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Fault {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

fn bad(message: impl Into<String>) -> Fault {
    Fault::new(Code::BadAddress, message)
}

/// Where to listen. `":8080"` is every address; port 0 is allowed.
pub(crate) fn parse_bind(text: &str) -> Result<SocketAddr, Fault> {
    if text.starts_with("unix:") {
        return Err(Fault::new(Code::NotSupported, "listening on a Unix socket is not supported yet")
            .help("listen on a loopback address: \"127.0.0.1:8080\""));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(bad(format!("`{scheme}://` does not belong in a bind address"))
            .help(format!("write \"{}\"", rest.trim_end_matches('/'))));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad(format!("`{text}` is a port without an address")).help(format!("write \":{text}\"")));
    }
    let (host, port) = split_port(text, ":8080")?;
    let ip = match host {
        "" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        "*" => return Err(bad("`*` is not an address").help(format!("write \":{port}\" for every address"))),
        host => parse_ip(host).ok_or_else(|| {
            bad(format!("`{host}` is not an IP address")).help(format!(
                "write \":{port}\" for every address, or \"127.0.0.1:{port}\" for this machine only"
            ))
        })?,
    };
    Ok(SocketAddr::new(ip, port))
}

/// An admin address: as a listener's, or a Unix socket.
pub(crate) fn parse_admin(text: &str) -> Result<AdminBind, Fault> {
    match text.strip_prefix("unix:") {
        Some(path) => unix_path(path).map(AdminBind::Unix),
        None => parse_bind(text).map(AdminBind::Socket),
    }
}

/// Where a server is.
pub(crate) fn parse_server(text: &str) -> Result<Address, Fault> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(Address::Unix);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(scheme_fault(scheme, rest));
    }
    if text.contains('/') {
        return Err(bad(format!("`{text}` has a path, an address has none"))
            .help("write host:port, or \"unix:/path\" for a socket"));
    }
    if text.contains(',') {
        return Err(
            bad(format!("`{text}` is more than one address")).help("write an array: [\":8000\", \":8001\"]")
        );
    }
    let (host, port) = split_port(text, "10.0.0.1:3000")?;
    if port == 0 {
        return Err(bad("a server cannot have port 0"));
    }
    match (host, parse_ip(host)) {
        ("", _) => Ok(Address::Socket(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))),
        (_, Some(ip)) if ip.is_unspecified() => {
            Err(bad(format!("`{host}` is no address to connect to"))
                .help(format!("write \"127.0.0.1:{port}\"")))
        }
        (_, Some(ip)) => Ok(Address::Socket(SocketAddr::new(ip, port))),
        (_, None) => host_name(host).map(|name| Address::Name(name, port)),
    }
}

fn scheme_fault(scheme: &str, rest: &str) -> Fault {
    let host = rest.split('/').next().unwrap_or_default();
    match scheme {
        "https" => Fault::new(Code::NotSupported, "TLS to servers is not supported yet"),
        "http" => {
            let port = if split_port(host, "").is_ok() { "" } else { ":80" };
            bad("an address has no `http://`").help(format!("write host:port: \"{host}{port}\""))
        }
        _ => {
            bad(format!("`{scheme}://` is not known")).help("write host:port, or \"unix:/path\" for a socket")
        }
    }
}

fn unix_path(path: &str) -> Result<PathBuf, Fault> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(bad("a Unix socket needs an absolute path").help("write \"unix:/run/app.sock\""));
    }
    // A server without a name is called by its address, in logs and everywhere: it must not look like two lines there.
    if path.len() > LONGEST_UNIX_PATH || path.contains(char::is_control) {
        return Err(bad(format!(
            "a Unix socket's path has at most {LONGEST_UNIX_PATH} bytes and no control characters"
        )));
    }
    Ok(PathBuf::from(path))
}

/// Host (still with brackets) and port.
fn split_port<'a>(text: &'a str, example: &str) -> Result<(&'a str, u16), Fault> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(bad(format!("`{text}`: an IPv6 address stands in brackets before its port"))
            .help(format!("write \"[{text}]:80\"")));
    }
    let cut = text.rfind(':').filter(|at| !text[*at..].contains(']'));
    let Some(cut) = cut else {
        let help =
            if text.is_empty() { format!("write \"{example}\"") } else { format!("write \"{text}:80\"") };
        return Err(bad(format!("`{text}` has no port")).help(help));
    };
    let (host, port) = (&text[..cut], &text[cut + 1..]);
    if host.contains(':') && !host.starts_with('[') {
        return Err(bad(format!("`{text}`: an IPv6 address stands in brackets before its port"))
            .help(format!("write \"[{host}]:{port}\"")));
    }
    // `parse` alone would take "+80".
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port.parse().ok().filter(|_| digits);
    let number = number
        .ok_or_else(|| bad(format!("`{port}` is not a port")).help("a port is a number up to 65535"))?;
    Ok((host, number))
}

/// An IPv4 address, or an IPv6 address in brackets.
fn parse_ip(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inside) => inside.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// A name that can be resolved, lower case. `localhost`, `db_1.internal`; no wildcard.
pub(crate) fn host_name(host: &str) -> Result<String, Fault> {
    if !host.is_ascii() {
        return Err(Fault::new(Code::BadValue, format!("`{host}` has characters beyond ASCII"))
            .help("write it in punycode: \"xn--…\""));
    }
    let labels: Vec<&str> = host.split('.').collect();
    let sound = |label: &&str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if host.len() > 253 || !labels.iter().all(sound) {
        return Err(bad(format!("`{host}` is not a host name")));
    }
    // No top-level domain is a number, so this is an address that lacks a part or has a wrong one.
    if labels.last().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(
            bad(format!("`{host}` is not an IP address")).help("four numbers up to 255: \"10.0.0.1\"")
        );
    }
    Ok(host.to_ascii_lowercase())
}

/// `10.0.0.0/8`, or an address alone.
pub(crate) fn parse_network(text: &str) -> Result<IpNet, Fault> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip));
    }
    let network: IpNet = text.parse().map_err(|_| {
        bad(format!("`{text}` is not a network")).help("write \"10.0.0.0/8\", \"127.0.0.1\" or \"fd00::/8\"")
    })?;
    let start = network.trunc();
    if start != network {
        return Err(bad(format!("`{text}` is an address inside a network, not the network"))
            .help(format!("write \"{start}\" for the network, or \"{}\" for the address", network.addr())));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Address {
        parse_server(text).unwrap()
    }

    fn help_for(text: &str) -> String {
        parse_server(text).unwrap_err().help.unwrap_or_default()
    }

    #[test]
    fn reads_every_form_of_a_server() {
        assert_eq!(server("10.0.0.1:3000"), Address::Socket("10.0.0.1:3000".parse().unwrap()));
        assert_eq!(server(":8000"), Address::Socket("127.0.0.1:8000".parse().unwrap()));
        assert_eq!(server("[::1]:3000"), Address::Socket("[::1]:3000".parse().unwrap()));
        assert_eq!(server("App.internal:3000"), Address::Name("app.internal".to_owned(), 3000));
        assert_eq!(server("unix:/run/app.sock"), Address::Unix("/run/app.sock".into()));
    }

    #[test]
    fn says_how_to_write_a_server() {
        assert_eq!(help_for("http://10.0.0.1:3000/x"), "write host:port: \"10.0.0.1:3000\"");
        assert_eq!(help_for("http://app"), "write host:port: \"app:80\"");
        assert_eq!(help_for("10.0.0.1"), "write \"10.0.0.1:80\"");
        assert_eq!(help_for("::1"), "write \"[::1]:80\"");
        assert_eq!(help_for("fe80::1:2:3:4:5:6:7:8:80"), "write \"[fe80::1:2:3:4:5:6:7:8]:80\"");
        assert_eq!(help_for("10.0.0:80"), "four numbers up to 255: \"10.0.0.1\"");
        assert_eq!(help_for("0.0.0.0:80"), "write \"127.0.0.1:80\"");
    }

    #[test]
    fn refuses_what_is_no_server() {
        for text in [
            "",
            ":",
            ":0",
            ":65536",
            ":+80",
            "a b:80",
            "[::1]",
            "-a:80",
            "a..b:80",
            "unix:app.sock",
            "unix:/a\nb",
            "ü:80",
        ] {
            assert!(parse_server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_empty_host_binds_every_address() {
        assert_eq!(parse_bind(":8080").unwrap(), "[::]:8080".parse().unwrap());
        assert_eq!(parse_bind("0.0.0.0:0").unwrap(), "0.0.0.0:0".parse().unwrap());
    }

    #[test]
    fn refuses_what_cannot_be_bound() {
        for text in ["", "8080", "*:80", "localhost:80", "http://:80", "unix:/x", "::1:80", "[::1]", ":80:80"]
        {
            assert!(parse_bind(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_has_no_bits_beyond_its_length() {
        assert_eq!(parse_network("127.0.0.1").unwrap(), "127.0.0.1/32".parse().unwrap());
        assert_eq!(parse_network("10.0.0.0/8").unwrap(), "10.0.0.0/8".parse().unwrap());
        let fault = parse_network("10.1.2.3/8").unwrap_err();
        assert_eq!(
            fault.help.unwrap(),
            "write \"10.0.0.0/8\" for the network, or \"10.1.2.3\" for the address"
        );
    }
}
