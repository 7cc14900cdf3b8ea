//! A backend's `discover`: one source, and what goes with it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::Compiler;
use super::tracing::parse_host;
use crate::address::{Fault, host_name, parse_server};
use crate::defaults;
use crate::model::{Address, Balance, Discover, Roots, Source};
use crate::node::{Field, Fields};
use crate::problem::{Code, Problem};

/// The keys that name a source, and what else has a meaning with it.
const SOURCES: [(&str, &[&str]); 4] =
    [("file", &["every"]), ("dns", &["resolver"]), ("dns_srv", &["resolver"]), ("http", &["every", "ca"])];

impl Compiler<'_> {
    /// The source of a backend whose servers have `max_requests` and are chosen by `balance`.
    pub(super) fn discover(
        &mut self,
        backend: &Fields,
        max_requests: u32,
        balance: &Balance,
    ) -> Option<Discover> {
        let field = backend.find("discover")?;
        let fields = field.node.fields()?;
        let kind = self.one_source(field, fields)?;
        self.refuse_of_other_sources(fields, kind);
        let resolver = self.read(fields.text("resolver"), parse_resolver);
        let source = match kind {
            "file" => Source::File(self.read(fields.text("file"), parse_path)?),
            "dns" => {
                let (name, port) = self.read(fields.text("dns"), parse_name_and_port)?;
                Source::Dns { name, port, resolver }
            }
            "dns_srv" => Source::DnsSrv { name: self.read(fields.text("dns_srv"), parse_name)?, resolver },
            _ => self.registry(fields)?,
        };
        let is_list = matches!(source, Source::File(_) | Source::Http { .. });
        let default = if kind == "http" { defaults::HTTP_POLL } else { defaults::FILE_POLL };
        Some(Discover {
            source,
            every: fields.time("every").unwrap_or(default),
            allow_empty: fields.flag("allow_empty"),
            max_requests,
            is_ordered: is_list && *balance == Balance::First,
        })
    }

    fn registry(&mut self, fields: &Fields) -> Option<Source> {
        let mut source = self.read(fields.text("http"), parse_url)?;
        let ca = self.read(fields.text("ca"), parse_path);
        match (&mut source, ca, fields.find("ca")) {
            (Source::Http { tls: Some(roots), .. }, Some(ca), Some(field)) => {
                self.report.authorities.push((ca.clone(), field.node.at));
                *roots = Roots::File(ca);
            }
            (_, Some(_), Some(field)) => {
                let message = "`ca` has no meaning with `http://`".to_owned();
                let help = "ask with `https://`, or leave it out".to_owned();
                self.report.error(Problem::new(Code::KeyConflict, field.at, message).help(help));
            }
            _ => {}
        }
        Some(source)
    }

    /// The only one of the sources that is there.
    fn one_source(&mut self, whole: &Field, fields: &Fields) -> Option<&'static str> {
        let mut there = SOURCES.iter().filter_map(|(name, _)| Some((*name, fields.find(name)?)));
        let Some((name, first)) = there.next() else {
            if !SOURCES.iter().any(|(name, _)| fields.meant.contains(name)) {
                let message = "`discover` has no source".to_owned();
                let help = "name one: `file`, `dns`, `dns_srv` or `http`".to_owned();
                self.report.error(Problem::new(Code::MissingKey, whole.node.at, message).help(help));
            }
            return None;
        };
        for (other, field) in there {
            let message = format!("`discover` has two sources, `{name}` and `{other}`");
            self.report.error(
                Problem::new(Code::KeyConflict, field.at, message)
                    .also(first.at, "the other one")
                    .help("leave one out, or make two backends".to_owned()),
            );
        }
        Some(name)
    }

    fn refuse_of_other_sources(&mut self, fields: &Fields, kind: &str) {
        let own = SOURCES.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, own)| own);
        for name in ["resolver", "every", "ca"] {
            let Some(field) = fields.find(name).filter(|_| !own.contains(&name)) else { continue };
            let message = format!("`{name}` has no meaning with `{kind}`");
            let help = match name {
                "every" => "DNS says by its TTL how long an answer is good".to_owned(),
                "ca" => "only `http` with an `https://` URL needs one".to_owned(),
                _ => "only `dns` and `dns_srv` ask a name server".to_owned(),
            };
            self.report.error(Problem::new(Code::KeyConflict, field.at, message).help(help));
        }
    }
}

fn bad(message: impl Into<String>) -> Fault {
    Fault::new(Code::BadAddress, message)
}

fn parse_path(text: &str) -> Result<PathBuf, Fault> {
    if text.is_empty() || text.contains('\0') || text.ends_with('/') {
        return Err(Fault::new(Code::BadValue, format!("`{text}` is not a file's path"))
            .help("write a path such as \"servers.json\""));
    }
    Ok(PathBuf::from(text))
}

/// A host name, which may end with a dot.
fn parse_name(text: &str) -> Result<String, Fault> {
    let (name, dot) = text.strip_suffix('.').map_or((text, ""), |name| (name, "."));
    if name.contains(':') {
        return Err(bad(format!("`{text}` has a port: SRV records say it themselves"))
            .help(format!("write \"{}\"", name.split(':').next().unwrap_or_default())));
    }
    host_name(name).map(|name| name + dot)
}

fn parse_name_and_port(text: &str) -> Result<(String, u16), Fault> {
    let plain = match text.rsplit_once(':') {
        Some((host, port)) if host.ends_with('.') => format!("{}:{port}", host.trim_end_matches('.')),
        _ => text.to_owned(),
    };
    match parse_server(&plain)? {
        Address::Name(name, port) if plain.len() + 1 == text.len() => Ok((name + ".", port)),
        Address::Name(name, port) if plain == text => Ok((name, port)),
        Address::Name(..) => Err(bad(format!("`{text}` is not a host name and a port"))),
        _ => Err(bad(format!("`{text}` is not a name")).help("write addresses into `servers`")),
    }
}

/// An IP address with a port or without.
fn parse_resolver(text: &str) -> Result<SocketAddr, Fault> {
    let bare = text.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53));
    let address = text.parse::<SocketAddr>().ok().or(bare);
    let address = address.filter(|address| address.port() > 0 && !address.ip().is_unspecified());
    address.ok_or_else(|| {
        bad(format!("`{text}` is not a name server's address"))
            .help("write its IP address, and its port if it is not 53: \"127.0.0.1:5353\"")
    })
}

/// `http[s]://HOST[:PORT][/PATH][?QUERY]`.
fn parse_url(text: &str) -> Result<Source, Fault> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(bad(format!("`{text}` is not a URL")).help("write \"http://registry.internal/servers\""));
    };
    let (tls, usual) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (None, "80"),
        "https" => (Some(Roots::System), "443"),
        other => {
            return Err(bad(format!("`{other}://` is not how lists are asked for"))
                .help("there are http:// and https://"));
        }
    };
    let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(bad("the URL has a user name in it").help("a list is asked for without one"));
    }
    let split = authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
    let (host, port) = split.unwrap_or((authority, usual));
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|&port: &u16| digits && port > 0);
    let port = port.ok_or_else(|| bad(format!("`{text}` has no valid port")).help("1 to 65535"))?;
    let host =
        parse_host(host).ok_or_else(|| bad(format!("`{host}` is neither a name nor an IP address")))?;
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    if target.contains('#') || target.len() > 2_048 || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad(format!("`{target}` is not a path")).help("no spaces and no `#`"));
    }
    Ok(Source::Http { tls, host, port, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_with_ports() {
        for (text, name) in
            [("web.internal:3000", "web.internal"), ("Web.:3000", "web."), ("localhost:3000", "localhost")]
        {
            assert_eq!(parse_name_and_port(text), Ok((name.to_owned(), 3000)), "{text}");
        }
        for text in ["", "web", "web:0", "10.0.0.1:80", ":80", "[::1]:80", "unix:/a", "web..:80", "a b:80"] {
            assert!(parse_name_and_port(text).is_err(), "{text}");
        }
        assert_eq!(parse_name("_http._tcp.Web.internal."), Ok("_http._tcp.web.internal.".to_owned()));
        for text in ["", ".", "_http._tcp.web:80", "a..b"] {
            assert!(parse_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_name_servers() {
        for (text, expected) in [
            ("127.0.0.1:5353", "127.0.0.1:5353"),
            ("10.0.0.2", "10.0.0.2:53"),
            ("[::1]:5353", "[::1]:5353"),
            ("::1", "[::1]:53"),
            ("[::1]", "[::1]:53"),
        ] {
            assert_eq!(parse_resolver(text), Ok(expected.parse().unwrap()), "{text}");
        }
        for text in ["", "dns.internal:53", "0.0.0.0:53", "127.0.0.1:0", "127.0.0.1:99999"] {
            assert!(parse_resolver(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_urls() {
        let http = |host: &str, port, target: &str| Source::Http {
            tls: None,
            host: host.into(),
            port,
            target: target.into(),
        };
        let secure = |host: &str, port, target: &str| Source::Http {
            tls: Some(Roots::System),
            host: host.into(),
            port,
            target: target.into(),
        };
        for (text, expected) in [
            ("http://registry:8500/v1/web?dc=a", http("registry", 8500, "/v1/web?dc=a")),
            ("HTTP://Registry", http("registry", 80, "/")),
            ("https://registry/a", secure("registry", 443, "/a")),
            ("https://registry:80", secure("registry", 80, "/")),
            ("http://[::1]:80", http("::1", 80, "/")),
            ("http://[::1]?a", http("::1", 80, "/?a")),
        ] {
            assert_eq!(parse_url(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "registry/servers",
            "ftp://registry/servers",
            "ftp://registry",
            "http://",
            "http://a:0/",
            "http://a:+80/",
            "http://u@a/",
            "http://a/b c",
            "http://a/b#c",
        ] {
            assert!(parse_url(text).is_err(), "{text}");
        }
    }
}
