//! Heads for the next hop: what of a received head goes on, and what is added.
//!
//! Hop-by-hop fields go first, whatever `Connection` names with them; then ours are added, so that no client can take
//! them away. Framing is what the caller is going to send, never what was received.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use plimsoll_config::model::{Http, Underscores};
use plimsoll_http::{Field, Head, Known, TraceParent, Version, emit, framing};

use crate::sticky::{self, Placed};
use crate::{load_report, request_id, trace};

/// Who is asking, as far as it can be believed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
    /// The peer may speak for others.
    pub(crate) trusted: bool,
    /// The client itself: the peer, or whom a trusted peer names.
    pub(crate) address: IpAddr,
    /// `peer` spelled out, once for all requests of a connection.
    spelled: Spelled,
}

/// An IP address as text, without a block of its own.
#[derive(Debug, Clone, Copy)]
struct Spelled {
    bytes: [u8; 39],
    len: u8,
}

impl Spelled {
    fn new(address: IpAddr) -> Spelled {
        let text = address.to_string(); // at most eight groups of four digits and seven colons
        let mut bytes = [0; 39];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Spelled { bytes, len: text.len() as u8 }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Client {
    pub(crate) fn new(peer: IpAddr, nets: &[IpNet]) -> Client {
        let peer = peer.to_canonical();
        Client { peer, trusted: is_trusted(peer, nets), address: peer, spelled: Spelled::new(peer) }
    }

    /// Takes the client's address from `X-Forwarded-For`: the last one that is not itself a trusted proxy.
    pub(crate) fn named_by(mut self, head: &Head, buffer: &[u8], nets: &[IpNet]) -> Client {
        if !self.trusted {
            return self;
        }
        let chains = head.fields().iter().rev().filter(|f| f.known == Known::XForwardedFor);
        for hop in chains.flat_map(|f| f.value.of(buffer).rsplit(|&b| b == b',')) {
            let Some(address) = parse_address(hop) else { break };
            self.address = address;
            if !is_trusted(address, nets) {
                break;
            }
        }
        self
    }
}

fn is_trusted(address: IpAddr, nets: &[IpNet]) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

/// `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]`, `[::1]:5`.
fn parse_address(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim();
    let bare = hop.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse::<IpAddr>().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|s| s.ip()));
    address.map(|a| a.to_canonical())
}

/// What we say of a request that it does not say itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Added<'a> {
    /// The protocol to switch to.
    pub(crate) upgrade: Option<&'a [u8]>,
    /// Stands in for a missing `Host`.
    pub(crate) own_authority: Option<SocketAddr>,
    /// The field with the request's id.
    pub(crate) request_id: Option<(&'a str, &'a [u8])>,
    /// Where it stands in its trace, and whether that trace was there before.
    pub(crate) trace: Option<(TraceParent, bool)>,
    /// A cookie that is ours and not the server's, where the request has it.
    pub(crate) cookie: Option<&'a str>,
}

impl Added<'_> {
    /// True if one of ours takes the place of this field.
    fn replaces(&self, field: &Field, buffer: &[u8]) -> bool {
        self.request_id.is_some_and(|(name, _)| request_id::is_named(field, buffer, name.as_bytes()))
            || self.trace.is_some_and(|(_, continued)| trace::replaces(field, buffer, continued))
            || self.cookie.is_some_and(|name| sticky::has_crumb(field, buffer, name))
    }

    fn is_nothing(&self) -> bool {
        self.request_id.is_none() && self.trace.is_none() && self.cookie.is_none()
    }
}

/// Appends the head that goes to a server. Gives where in it the sender's id of `traceparent` stands.
pub(crate) fn request(
    out: &mut Vec<u8>,
    (head, buffer): (&Head, &[u8]),
    asked: &framing::Request,
    client: &Client,
    http: &Http,
    added: &Added<'_>,
) -> Option<usize> {
    emit::request_line(out, head, buffer, &asked.target);
    if let Some(authority) = added.own_authority {
        // HTTP/1.0 may come without Host; HTTP/1.1 may not go without.
        emit::field(out, b"Host", authority.to_string().as_bytes());
    }
    let drop_underscores = http.underscores == Underscores::Drop;
    let mut id_at = None;
    if added.is_nothing() {
        emit::end_to_end(out, head, buffer, |field| keep_in_request(field, buffer, drop_underscores, asked));
        forwarded(out, head, buffer, asked, client);
    } else {
        id_at = replacing(out, (head, buffer), asked, client, added, drop_underscores);
    }
    if let Some(via) = &http.via {
        emit::field(out, b"Via", via_value(head, via).as_bytes());
    }
    emit::framing(out, asked.framing);
    if asked.framing == framing::Framing::None && expects_a_body(head.method(buffer)) {
        emit::number_field(out, b"Content-Length", 0);
    }
    if let Some(protocol) = added.upgrade {
        emit::field(out, b"Connection", b"upgrade");
        emit::field(out, b"Upgrade", protocol);
    }
    out.extend_from_slice(b"\r\n");
    id_at
}

/// The fields of a request that has ids or a cookie of ours. Apart, so that the others do not pay for it.
#[inline(never)]
fn replacing(
    out: &mut Vec<u8>,
    (head, buffer): (&Head, &[u8]),
    asked: &framing::Request,
    client: &Client,
    added: &Added<'_>,
    drop_underscores: bool,
) -> Option<usize> {
    emit::end_to_end(out, head, buffer, |field| {
        keep_in_request(field, buffer, drop_underscores, asked) && !added.replaces(field, buffer)
    });
    if let Some(name) = added.cookie {
        sticky::write_rest(out, head, buffer, name);
    }
    forwarded(out, head, buffer, asked, client);
    if let Some((name, id)) = added.request_id {
        emit::field(out, name.as_bytes(), id);
    }
    added.trace.map(|(context, _)| trace::write(out, &context))
}

#[inline(always)] // called from two places, of which one is for every request
fn keep_in_request(field: &Field, buffer: &[u8], drop_underscores: bool, asked: &framing::Request) -> bool {
    match field.known {
        Known::Expect => asked.expects_continue,
        known if emit::is_forwarding(known) => false,
        _ => !field.underscore || !(drop_underscores || is_forwarding_lookalike(field.name.of(buffer))),
    }
}

/// `X_Forwarded_For` and its like: programs that fold `_` and `-` would take it for the field that only we may set.
fn is_forwarding_lookalike(name: &[u8]) -> bool {
    [&b"x-forwarded-for"[..], b"x-forwarded-proto", b"x-forwarded-host"].iter().any(|known| {
        let same = |(&a, &b): (&u8, &u8)| if a == b'_' { b == b'-' } else { a.eq_ignore_ascii_case(&b) };
        name.len() == known.len() && name.iter().zip(*known).all(same)
    })
}

/// Methods whose missing body is said as `Content-Length: 0` (RFC 9110, 8.6).
fn expects_a_body(method: &[u8]) -> bool {
    matches!(method, b"POST" | b"PUT" | b"PATCH")
}

/// `X-Forwarded-*` and `Forwarded`: continued for a trusted peer, begun anew for any other.
fn forwarded(out: &mut Vec<u8>, head: &Head, buffer: &[u8], asked: &framing::Request, client: &Client) {
    let host = asked.host.map_or(&b""[..], |span| span.of(buffer));
    let earlier = |known: Known| {
        head.fields().iter().filter(move |f| client.trusted && f.known == known).map(|f| f.value.of(buffer))
    };
    let peer = client.spelled.as_bytes();
    list_field(out, b"X-Forwarded-For", earlier(Known::XForwardedFor), |out| {
        out.extend_from_slice(peer);
    });
    emit::field(out, b"X-Forwarded-Proto", earlier(Known::XForwardedProto).next().unwrap_or(b"http"));
    if let Some(host) = earlier(Known::XForwardedHost).next().or((!host.is_empty()).then_some(host)) {
        emit::field(out, b"X-Forwarded-Host", host);
    }
    list_field(out, b"Forwarded", earlier(Known::Forwarded), |out| {
        let (open, close) =
            if client.peer.is_ipv6() { (&b"\"["[..], &b"]\""[..]) } else { (&b""[..], &b""[..]) };
        for piece in [b"for=", open, peer, close] {
            out.extend_from_slice(piece);
        }
        if !host.is_empty() {
            out.extend_from_slice(b";host=\"");
            out.extend_from_slice(host); // a valid host has neither quote nor backslash
            out.push(b'"');
        }
        out.extend_from_slice(b";proto=http");
    });
}

/// A list field: what was there, then our member.
fn list_field<'b>(
    out: &mut Vec<u8>,
    name: &[u8],
    earlier: impl Iterator<Item = &'b [u8]>,
    ours: impl FnOnce(&mut Vec<u8>),
) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    for value in earlier.filter(|v| !v.is_empty()) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
    ours(out);
    out.extend_from_slice(b"\r\n");
}

/// `received-protocol received-by` (RFC 9110, 7.6.3).
fn via_value(head: &Head, pseudonym: &str) -> String {
    let version = if head.version() == Version::Http10 { "1.0" } else { "1.1" };
    format!("{version} {pseudonym}")
}

/// What a response's head says about its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// HTTP/1.1's own default.
    Default,
    /// To an HTTP/1.0 client that asked for it.
    KeepAlive,
    /// The last answer.
    Close,
}

/// The fields that servers write for us and that do not go on to clients.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ForUs<'a> {
    /// What they report of their load.
    pub(crate) reports: bool,
    /// The field with their word; lower case.
    pub(crate) word: Option<&'a str>,
}

impl ForUs<'_> {
    fn is_nothing(&self) -> bool {
        !self.reports && self.word.is_none()
    }

    fn has(&self, field: &Field, buffer: &[u8]) -> bool {
        let is_word = |name: &str| field.name.of(buffer).eq_ignore_ascii_case(name.as_bytes());
        (self.reports && load_report::is_named(field, buffer)) || self.word.is_some_and(is_word)
    }
}

/// What of an answer's head is ours.
pub(crate) struct Ours<'a> {
    /// How we name ourselves in `Via`.
    pub(crate) via: Option<&'a str>,
    /// The field with the request's id.
    pub(crate) id: Option<(&'a str, &'a [u8])>,
    /// What the server says to us alone.
    pub(crate) for_us: ForUs<'a>,
    /// The cookie to set.
    pub(crate) placed: Option<Placed<'a>>,
    /// Whole lines besides.
    pub(crate) fields: &'a [u8],
}

/// Appends the head that goes to a client. `body` is how the body will be framed, `stated` a length without a body.
pub(crate) fn response(
    out: &mut Vec<u8>,
    (head, buffer): (&Head, &[u8]),
    body: framing::Framing,
    stated: Option<u64>,
    persistence: Persistence,
    ours: &Ours<'_>,
) {
    emit::status_line(out, head.status(), head.phrase(buffer));
    fields_with_id(out, head, buffer, ours.id, ours.for_us);
    if let Some(placed) = &ours.placed {
        placed.write(out);
    }
    out.extend_from_slice(ours.fields);
    if let Some(via) = ours.via {
        emit::field(out, b"Via", via_value(head, via).as_bytes());
    }
    match (body, stated) {
        (framing::Framing::None, Some(length)) if head.status() >= 200 && head.status() != 204 => {
            emit::number_field(out, b"Content-Length", length);
        }
        _ => emit::framing(out, body),
    }
    match persistence {
        Persistence::Default => {}
        Persistence::KeepAlive => emit::field(out, b"Connection", b"keep-alive"),
        Persistence::Close => emit::field(out, b"Connection", b"close"),
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends an interim response's head, or the 101 that switches to `upgrade`.
pub(crate) fn interim(
    out: &mut Vec<u8>,
    (head, buffer): (&Head, &[u8]),
    upgrade: Option<&[u8]>,
    (id, placed): (Option<(&str, &[u8])>, Option<Placed<'_>>),
    for_us: ForUs<'_>,
) {
    emit::status_line(out, head.status(), head.phrase(buffer));
    fields_with_id(out, head, buffer, id, for_us);
    if let Some(placed) = placed {
        placed.write(out);
    }
    if let Some(protocol) = upgrade {
        emit::field(out, b"Connection", b"upgrade");
        emit::field(out, b"Upgrade", protocol);
    }
    out.extend_from_slice(b"\r\n");
}

/// A server's fields but those for us, and the request's id in the place of any that the server sent.
fn fields_with_id(
    out: &mut Vec<u8>,
    head: &Head,
    buffer: &[u8],
    id: Option<(&str, &[u8])>,
    for_us: ForUs<'_>,
) {
    match id {
        _ if !for_us.is_nothing() => fields_without_ours(out, head, buffer, id, for_us),
        None => emit::end_to_end(out, head, buffer, |_| true),
        Some(id) => replace_id(out, head, buffer, id),
    }
}

#[inline(never)]
fn fields_without_ours(
    out: &mut Vec<u8>,
    head: &Head,
    buffer: &[u8],
    id: Option<(&str, &[u8])>,
    for_us: ForUs<'_>,
) {
    let is_id =
        |field: &Field| id.is_some_and(|(name, _)| request_id::is_named(field, buffer, name.as_bytes()));
    emit::end_to_end(out, head, buffer, |field| !for_us.has(field, buffer) && !is_id(field));
    if let Some((name, id)) = id {
        emit::field(out, name.as_bytes(), id);
    }
}

#[inline(never)]
fn replace_id(out: &mut Vec<u8>, head: &Head, buffer: &[u8], (name, id): (&str, &[u8])) {
    emit::end_to_end(out, head, buffer, |field| !request_id::is_named(field, buffer, name.as_bytes()));
    emit::field(out, name.as_bytes(), id);
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_http::{Kind, Limits};

    const LIMITS: Limits = Limits { target: 8192, section: 32768, fields: 100 };
    const PLAIN: Http = Http { underscores: Underscores::Refuse, via: None, request_id: None };

    fn sent(text: &str, trusted: &[&str], peer: &str) -> (String, IpAddr) {
        let nets: Vec<IpNet> = trusted.iter().map(|n| n.parse().expect("net")).collect();
        let mut head = Head::new(Kind::Request);
        assert_eq!(head.parse(text.as_bytes(), &LIMITS), Ok(true));
        let asked = framing::request(&head, text.as_bytes()).expect("valid");
        let client = Client::new(peer.parse().expect("ip"), &nets);
        let client = client.named_by(&head, text.as_bytes(), &nets);
        let mut out = Vec::new();
        let own = asked.host.is_none().then(|| "127.0.0.1:80".parse().expect("address"));
        let added = Added { own_authority: own, ..Added::default() };
        request(&mut out, (&head, text.as_bytes()), &asked, &client, &PLAIN, &added);
        (String::from_utf8(out).expect("text"), client.address)
    }

    #[test]
    fn a_strangers_forwarding_fields_are_written_anew() {
        let (out, address) = sent(
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-Host: evil\r\n\r\n",
            &[],
            "192.0.2.1",
        );
        assert_eq!(
            out,
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n\
             Forwarded: for=192.0.2.1;host=\"a\";proto=http\r\n\r\n"
        );
        assert_eq!(address, "192.0.2.1".parse::<IpAddr>().expect("ip"));
    }

    #[test]
    fn a_trusted_proxys_forwarding_fields_are_continued() {
        let (out, address) = sent(
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6, 198.51.100.7\r\nX-Forwarded-For: 10.0.0.2\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Host: shop\r\nForwarded: for=198.51.100.7\r\n\r\n",
            &["10.0.0.0/8"],
            "::ffff:10.0.0.1",
        );
        assert!(out.contains("\r\nX-Forwarded-For: 6.6.6.6, 198.51.100.7, 10.0.0.2, 10.0.0.1\r\n"), "{out}");
        assert!(out.contains("\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop\r\n"));
        assert!(out.contains("\r\nForwarded: for=198.51.100.7, for=10.0.0.1;host=\"a\";proto=http\r\n"));
        assert_eq!(
            address,
            "198.51.100.7".parse::<IpAddr>().expect("ip"),
            "the last one that is no proxy of ours"
        );
    }

    #[test]
    fn connection_cannot_take_our_fields_away() {
        let (out, _) = sent(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Forwarded-For, x-secret\r\nX-Secret: 1\r\n\r\n",
            &[],
            "192.0.2.1",
        );
        assert!(out.contains("X-Forwarded-For: 192.0.2.1") && !out.contains("Secret"), "{out}");
    }

    #[test]
    fn a_request_without_host_gets_one() {
        let (out, _) = sent("GET / HTTP/1.0\r\n\r\n", &[], "::1");
        assert!(out.starts_with("GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n"), "{out}");
        assert!(out.contains("Forwarded: for=\"[::1]\";proto=http"), "{out}");
    }
}
