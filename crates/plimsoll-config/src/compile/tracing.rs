//! The `tracing` table: where spans go and which requests have one.

use std::net::Ipv6Addr;

use super::Compiler;
use crate::address::Fault;
use crate::model::{Endpoint, Parents, Share, Tracing};
use crate::node::Fields;
use crate::pattern::is_token;
use crate::problem::{Code, Problem};
use crate::share::parse_share;

/// Where collectors take OTLP over gRPC, which is another protocol.
const GRPC_PORT: u16 = 4317;
/// The path that the specification appends.
const PATH: &str = "/v1/traces";

impl Compiler<'_> {
    pub(super) fn tracing(&mut self, root: &Fields) -> Option<Tracing> {
        let table = root.table("tracing")?;
        let otlp = self.read(table.text("otlp"), parse_endpoint);
        if let (Some(written), Some(Endpoint { port: GRPC_PORT, .. })) = (table.text("otlp"), &otlp) {
            let message = format!("port {GRPC_PORT} is where collectors take OTLP over gRPC");
            let problem = Problem::new(Code::Suspicious, written.at, message);
            self.report.warn(problem.help("spans are sent over HTTP, which is mostly port 4318".to_owned()));
        }
        let sample = self.read(table.text("sample"), parse_sample);
        let service = self.read(table.text("service"), parse_service);
        let headers = self.tracing_headers(table.table("headers"));
        Some(Tracing {
            otlp: otlp?,
            sample: sample?,
            parents: match table.text("parents").map(|written| written.text) {
                Some("all") => Parents::All,
                Some("trusted") => Parents::Trusted,
                _ => Parents::Limited,
            },
            service: service?,
            headers,
        })
    }

    fn tracing_headers(&mut self, fields: Option<&Fields>) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        for field in fields.iter().flat_map(|fields| &fields.entries) {
            let name = self.accept(parse_header(&field.name), field.at);
            let value = self.read(field.node.text(), parse_value);
            headers.extend(name.zip(value));
        }
        headers
    }
}

/// `http://HOST:PORT/BASE`.
fn parse_endpoint(text: &str) -> Result<Endpoint, Fault> {
    let bad = |message: String| Fault::new(Code::BadAddress, message);
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(bad(format!("`{text}` is not a URL")).help("write \"http://127.0.0.1:4318\""));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "https" => {
            return Err(Fault::new(Code::NotSupported, "sending spans over TLS is not supported yet")
                .help("send them to a collector on this machine over http://, and let it go on from there"));
        }
        other => {
            return Err(bad(format!("`{other}://` is not how spans are sent"))
                .help("OTLP over HTTP is what there is: \"http://127.0.0.1:4318\""));
        }
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(bad("the URL has a user name in it".to_owned())
            .help("write `headers = { Authorization = \"…\" }` instead"));
    }
    let Some((host, port)) = authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) else {
        return Err(bad(format!("`{text}` has no port")).help(format!("write \"http://{authority}:4318\"")));
    };
    let port = port.parse().ok().filter(|&port| port > 0);
    let port =
        port.ok_or_else(|| bad(format!("`{text}` has no valid port")).help("1 to 65535, mostly 4318"))?;
    let host =
        parse_host(host).ok_or_else(|| bad(format!("`{host}` is neither a name nor an IP address")))?;
    let base = path.trim_end_matches('/');
    if base.contains(['?', '#']) || !base.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad(format!("`{path}` is not a path")).help("write only what stands before `/v1/traces`"));
    }
    if base.ends_with(PATH) {
        let without = text.trim_end_matches('/').trim_end_matches(PATH);
        return Err(bad(format!("`{PATH}` is appended by itself")).help(format!("write \"{without}\"")));
    }
    Ok(Endpoint { host, port, base: base.to_owned() })
}

/// A name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn parse_host(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().ok().map(|address| address.to_string());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (!text.is_empty() && text.len() <= 253 && text.bytes().all(plain)).then(|| text.to_ascii_lowercase())
}

fn parse_sample(text: &str) -> Result<Share, Fault> {
    parse_share(text, "sample")
}

fn parse_service(text: &str) -> Result<String, Fault> {
    if text.is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
        return Err(Fault::new(Code::BadValue, "`service` must be 1 to 255 characters, none of control"));
    }
    Ok(text.to_owned())
}

fn parse_header(name: &str) -> Result<String, Fault> {
    let ours =
        ["connection", "content-encoding", "content-length", "content-type", "host", "transfer-encoding"];
    if !is_token(name) {
        return Err(Fault::new(Code::BadValue, format!("`{name}` is not a field name"))
            .help("letters, digits and `-`: \"X-Tenant\""));
    }
    if ours.iter().any(|own| name.eq_ignore_ascii_case(own)) {
        return Err(Fault::new(Code::BadValue, format!("`{name}` is written by itself")).help("leave it out"));
    }
    Ok(name.to_owned())
}

fn parse_value(value: &str) -> Result<String, Fault> {
    let plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if value.trim() != value || !value.bytes().all(plain) {
        return Err(Fault::new(Code::BadValue, "a field's value is printable ASCII without space around it"));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_where_spans_go() {
        let endpoint = |host: &str, port, base: &str| Endpoint { host: host.into(), port, base: base.into() };
        for (text, expected) in [
            ("http://127.0.0.1:4318", endpoint("127.0.0.1", 4318, "")),
            ("HTTP://Collector.internal:80/", endpoint("collector.internal", 80, "")),
            ("http://[::1]:4318/otlp/", endpoint("::1", 4318, "/otlp")),
        ] {
            assert_eq!(parse_endpoint(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_endpoint() {
        for text in [
            "",
            "127.0.0.1:4318",
            "https://a:4318",
            "grpc://a:4317",
            "http://a",
            "http://[::1]",
            "http://:4318",
            "http://a:0",
            "http://a:99999",
            "http://u:p@a:4318",
            "http://a b:4318",
            "http://a:4318/v1/traces",
            "http://a:4318/?x",
            "http://a:4318/x#y",
            "http://a:4318/é",
            "http://[::1:4318",
        ] {
            assert!(parse_endpoint(text).is_err(), "{text}");
        }
    }
}
