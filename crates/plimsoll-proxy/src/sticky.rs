//! Sticky routes: what a request says about its session, what the server sees of it, and the cookie that an answer sets.
//!
//! A cookie's value is a ticket: HMAC-SHA256 of a server's name under the operator's secret, cut to 128 bits. Tickets are worked out once per
//! configuration, so a request costs a look into a table and no cryptography. A value that is no ticket of the route's backends is
//! ignored and replaced, never an error. Which server is taken is decided in `plimsoll-traffic`.

use std::collections::HashMap;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use plimsoll_config::model::{self, Config, SameSite, StickyCookie, Token};
use plimsoll_http::{Field, Head, emit};
use plimsoll_traffic::{Dice, Session, Split, hash_key, split};
use sha2::Sha256;

/// A server, as a client knows it: hexadecimal.
type Ticket = [u8; 32];

/// A route's stickiness.
pub(crate) enum Sticky {
    Cookie(Cookie),
    Header { name: Box<str>, split: Split },
}

/// A sticky cookie.
pub(crate) struct Cookie {
    name: Box<str>,
    /// What stands behind the value, `Secure` apart.
    attributes: Box<str>,
    secure: bool,
    /// By the route's backends, with their indices.
    tickets: Box<[(usize, Arc<Tickets>)]>,
}

/// The tickets of one backend's servers.
pub(crate) struct Tickets {
    /// By server.
    all: Box<[Ticket]>,
    /// Its hash is keyed, so the time of a lookup tells nobody how much of a guess is right.
    servers: HashMap<Ticket, u32>,
}

/// Which backend a request goes to and, if it says so, which server.
pub(crate) struct Belongs {
    pub(crate) backend: usize,
    pub(crate) session: Option<Session>,
}

/// What an answer tells the client to bring back.
#[derive(Clone, Copy)]
pub(crate) struct Placed<'a> {
    cookie: &'a Cookie,
    ticket: &'a Ticket,
    secure: bool,
}

impl Tickets {
    fn new(secret: &[u8], backend: &model::Backend) -> Tickets {
        let all: Box<[Ticket]> =
            backend.servers.iter().map(|server| seal(secret, &backend.name, &server.name)).collect();
        let servers = all.iter().copied().zip(0..).collect();
        Tickets { all, servers }
    }
}

/// The ticket of a server. Cookies outlive releases: this never changes.
fn seal(secret: &[u8], backend: &str, server: &str) -> Ticket {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    // The length keeps the two names apart.
    mac.update(&(backend.len() as u64).to_be_bytes());
    mac.update(backend.as_bytes());
    mac.update(server.as_bytes());
    let code = mac.finalize().into_bytes();
    let mut ticket = [0; 32];
    for (place, byte) in ticket.chunks_exact_mut(2).zip(code) {
        place[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        place[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    ticket
}

/// The stickiness of a configuration's routes, in order.
pub(crate) fn of_routes(config: &Config) -> Vec<Option<Sticky>> {
    let secret = config.sticky_secret.as_ref().map(|token| match token {
        Token::Text(secret) => secret.reveal().as_bytes(),
        Token::File(_) => unreachable!("whoever makes a snapshot has read the file"),
    });
    let mut known: HashMap<usize, Arc<Tickets>> = HashMap::new();
    let mut of = |route: &model::Route| {
        let model::Action::Proxy(weights) = &route.action else { return None };
        match route.sticky.as_ref()? {
            model::Sticky::Header(name) => {
                let backends =
                    weights.iter().map(|&(index, weight)| (index, &*config.backends[index].name, weight));
                Some(Sticky::Header { name: name.as_str().into(), split: Split::new(backends) })
            }
            model::Sticky::Cookie(cookie) => {
                let secret = secret.expect("a configuration with a sticky cookie has a secret");
                let tickets = |&(index, _): &(usize, u32)| {
                    let new = || Arc::new(Tickets::new(secret, &config.backends[index]));
                    (index, Arc::clone(known.entry(index).or_insert_with(new)))
                };
                Some(Sticky::Cookie(Cookie::new(cookie, weights.iter().map(tickets).collect())))
            }
        }
    };
    config.routes.iter().map(&mut of).collect()
}

impl Sticky {
    /// The cookie, if it goes by one.
    pub(crate) fn cookie(&self) -> Option<&Cookie> {
        match self {
            Sticky::Cookie(cookie) => Some(cookie),
            Sticky::Header { .. } => None,
        }
    }

    /// Where a request belongs; one without a session goes to a backend by `weights`.
    pub(crate) fn belongs(
        &self,
        (head, bytes): (&Head, &[u8]),
        weights: &[(usize, u32)],
        dice: &mut Dice,
    ) -> Belongs {
        let found = match self {
            Sticky::Cookie(cookie) => cookie.find(head, bytes),
            Sticky::Header { name, split } => head.value(bytes, name).and_then(|value| {
                let key = hash_key(value);
                Some(Belongs { backend: split.of(key)?, session: Some(Session::Key(key)) })
            }),
        };
        found.unwrap_or_else(|| Belongs { backend: split(weights, dice), session: None })
    }
}

impl Cookie {
    fn new(spec: &StickyCookie, tickets: Box<[(usize, Arc<Tickets>)]>) -> Cookie {
        let same_site = match spec.same_site {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        };
        let max_age = spec.max_age.map(|age| format!("; Max-Age={}", age.as_secs())).unwrap_or_default();
        let attributes = format!("; Path={}{max_age}; HttpOnly; SameSite={same_site}", spec.path);
        Cookie {
            name: spec.name.as_str().into(),
            attributes: attributes.into(),
            secure: spec.secure || spec.same_site == SameSite::None, // browsers take no `None` without it
            tickets,
        }
    }

    /// The server of the first crumb that is a ticket. A server whose backend has weight 0 in the route keeps its sessions too.
    fn find(&self, head: &Head, bytes: &[u8]) -> Option<Belongs> {
        let crumbs = cookies(head, bytes).flat_map(|field| crumbs(field.value.of(bytes)));
        let values = crumbs.filter_map(|crumb| value_of(crumb, self.name.as_bytes()));
        values.filter_map(|value| <&Ticket>::try_from(value).ok()).find_map(|ticket| {
            let held = |(backend, tickets): &(usize, Arc<Tickets>)| {
                let server = *tickets.servers.get(ticket)?;
                Some(Belongs { backend: *backend, session: Some(Session::Server(server)) })
            };
            self.tickets.iter().find_map(held)
        })
    }

    /// The name, where the request has a cookie of that name: the servers are not to see it.
    pub(crate) fn to_take_out(&self, head: &Head, bytes: &[u8]) -> Option<&str> {
        cookies(head, bytes).any(|field| has_crumb(field, bytes, &self.name)).then_some(&*self.name)
    }

    /// What an answer of this server sets, unless the client has it already.
    pub(crate) fn placed(
        &self,
        (backend, server): (usize, u32),
        belonged: Option<Session>,
        over_tls: bool,
    ) -> Option<Placed<'_>> {
        if belonged == Some(Session::Server(server)) {
            return None;
        }
        let (_, tickets) = self.tickets.iter().find(|(index, _)| *index == backend)?;
        let ticket = tickets.all.get(server as usize)?;
        Some(Placed { cookie: self, ticket, secure: self.secure || over_tls })
    }
}

impl Placed<'_> {
    /// Appends the fields. A cache that many share must not keep the answer: it would send everybody to this server.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Set-Cookie: ");
        out.extend_from_slice(self.cookie.name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(self.ticket);
        out.extend_from_slice(self.cookie.attributes.as_bytes());
        out.extend_from_slice(if self.secure { b"; Secure\r\n" } else { b"\r\n" });
        emit::field(out, b"Cache-Control", b"private");
    }
}

/// True for a field that `name` has to be taken out of.
pub(crate) fn has_crumb(field: &Field, bytes: &[u8], name: &str) -> bool {
    is_cookie(field, bytes)
        && crumbs(field.value.of(bytes)).any(|crumb| value_of(crumb, name.as_bytes()).is_some())
}

/// Appends the fields that `has_crumb` is true for, without what has that name; those with nothing else are left out.
pub(crate) fn write_rest(out: &mut Vec<u8>, head: &Head, bytes: &[u8], name: &str) {
    for field in head.fields().iter().filter(|field| !field.hop && has_crumb(field, bytes, name)) {
        let others = crumbs(field.value.of(bytes)).filter(|crumb| value_of(crumb, name.as_bytes()).is_none());
        let mut before: &[u8] = b"Cookie: ";
        let start = out.len();
        for crumb in others.filter(|crumb| !crumb.is_empty()) {
            out.extend_from_slice(std::mem::replace(&mut before, b"; "));
            out.extend_from_slice(crumb);
        }
        if out.len() > start {
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn is_cookie(field: &Field, bytes: &[u8]) -> bool {
    field.name.of(bytes).eq_ignore_ascii_case(b"cookie")
}

fn cookies<'h>(head: &'h Head, bytes: &'h [u8]) -> impl Iterator<Item = &'h Field> {
    head.fields().iter().filter(|field| is_cookie(field, bytes))
}

/// The `name=value` of a field.
fn crumbs(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b';').map(<[u8]>::trim_ascii)
}

/// The value, for a crumb of that name.
fn value_of<'b>(crumb: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    let (found, value) = crumb.split_at(crumb.iter().position(|&byte| byte == b'=')?);
    (found.trim_ascii_end() == name).then(|| value[1..].trim_ascii_start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_config::model::{Address, Backend, Balance, Server};
    use plimsoll_http::{Kind, Limits};

    const SECRET: &[u8] = b"0123456789abcdef";

    fn head(fields: &str) -> (Head, Vec<u8>) {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes();
        let mut head = Head::new(Kind::Request);
        let limits = Limits { target: 8192, section: 32768, fields: 100 };
        assert_eq!(head.parse(&bytes, &limits), Ok(true));
        (head, bytes)
    }

    fn backend(name: &str) -> Backend {
        let server = |port: u16| {
            let address = Address::Socket(([10, 0, 0, 1], port).into());
            Server::new(&address_text(port), address)
        };
        Backend::new(name, (1..=3).map(server).collect(), Balance::P2c)
    }

    fn address_text(port: u16) -> String {
        format!("10.0.0.1:{port}")
    }

    fn cookie(max_age: Option<std::time::Duration>, same_site: SameSite) -> Cookie {
        let spec = StickyCookie { name: "id".into(), max_age, path: "/".into(), same_site, secure: false };
        let tickets =
            [(4, "web"), (7, "canary")].map(|(i, name)| (i, Arc::new(Tickets::new(SECRET, &backend(name)))));
        Cookie::new(&spec, tickets.into())
    }

    fn text(ticket: Ticket) -> String {
        String::from_utf8(ticket.to_vec()).expect("digits")
    }

    fn found(cookie: &Cookie, fields: &str) -> Option<(usize, Option<Session>)> {
        let (head, bytes) = head(fields);
        cookie.find(&head, &bytes).map(|belongs| (belongs.backend, belongs.session))
    }

    fn rest(fields: &str) -> String {
        let (head, bytes) = head(fields);
        let mut out = Vec::new();
        write_rest(&mut out, &head, &bytes, "id");
        String::from_utf8(out).expect("text")
    }

    /// Told by Python: hmac.new(secret, len(backend).to_bytes(8, "big") + backend + server, "sha256").hexdigest()[:32].
    #[test]
    fn a_ticket_is_hmac_sha_256_and_stays_so() {
        assert_eq!(text(seal(SECRET, "web", "10.0.0.1:1")), "0bb5d957c248fb12a5bccd8239d99856");
    }

    #[test]
    fn tickets_differ_by_secret_backend_and_server_and_show_neither() {
        let all = [
            seal(SECRET, "web", "a"),
            seal(SECRET, "web", "b"),
            seal(SECRET, "we", "ba"),
            seal(b"another", "web", "a"),
        ];
        let distinct: std::collections::HashSet<Ticket> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn a_ticket_among_other_cookies_names_its_backend_and_server() {
        let cookie = cookie(None, SameSite::Lax);
        let (web, canary) =
            (text(seal(SECRET, "web", &address_text(2))), text(seal(SECRET, "canary", &address_text(3))));
        let web_1 = Some((4, Some(Session::Server(1))));
        assert_eq!(found(&cookie, &format!("Cookie: a=b; id={web}; c=d\r\n")), web_1);
        assert_eq!(found(&cookie, &format!("COOKIE: x=y\r\ncookie: id = {web}\r\n")), web_1);
        assert_eq!(found(&cookie, &format!("Cookie: id={canary}\r\n")), Some((7, Some(Session::Server(2)))));
        assert_eq!(
            found(&cookie, &format!("Cookie: id=wrong; id={web}\r\n")),
            web_1,
            "the first that is one"
        );
    }

    #[test]
    fn what_is_no_ticket_says_nothing() {
        let cookie = cookie(None, SameSite::Lax);
        let ticket = text(seal(SECRET, "web", &address_text(2)));
        let foreign = text(seal(b"another secret..", "web", &address_text(2)));
        let gone = text(seal(SECRET, "web", &address_text(9)));
        for value in [
            "",
            "=",
            "10.0.0.1:2",
            &ticket[1..],
            &ticket.to_uppercase(),
            &foreign,
            &gone,
            &format!("{ticket}0"),
            &format!("\"{ticket}\""),
            &"f".repeat(4_000),
        ] {
            assert_eq!(found(&cookie, &format!("Cookie: id={value}\r\n")), None, "{value}");
        }
        assert_eq!(found(&cookie, &format!("Cookie: xid={ticket}; ID={ticket}; id\r\n")), None);
        assert_eq!(found(&cookie, &format!("X-Cookie: id={ticket}\r\n")), None);
    }

    #[test]
    fn our_cookie_is_taken_out_and_nothing_else() {
        assert_eq!(rest("Cookie: id=1\r\n"), "");
        assert_eq!(rest("Cookie: a=1;id=2;  b=\"x y\" ;\r\n"), "Cookie: a=1; b=\"x y\"\r\n");
        assert_eq!(
            rest("Cookie: a=id=3\r\nCookie: c; id=; id=2\r\n"),
            "Cookie: c\r\n",
            "the first is not ours"
        );
        assert_eq!(rest("Connection: cookie\r\nCookie: a=1; id=2\r\n"), "", "meant for this hop");
        let (head, bytes) = head("Cookie: idx=1; a=id\r\n");
        assert_eq!(cookie(None, SameSite::Lax).to_take_out(&head, &bytes), None);
    }

    #[test]
    fn a_cookie_is_set_once_with_what_protects_it() {
        let written = |cookie: &Cookie, over_tls| {
            let mut out = Vec::new();
            cookie.placed((4, 1), None, over_tls).expect("a new session").write(&mut out);
            String::from_utf8(out).expect("text").replace(&text(seal(SECRET, "web", &address_text(2))), "T")
        };
        let plain = cookie(None, SameSite::Lax);
        let set = "Set-Cookie: id=T; Path=/; HttpOnly; SameSite=Lax";
        assert_eq!(written(&plain, false), format!("{set}\r\nCache-Control: private\r\n"));
        assert_eq!(written(&plain, true), format!("{set}; Secure\r\nCache-Control: private\r\n"));
        let hour = cookie(Some(std::time::Duration::from_secs(3_600)), SameSite::None);
        assert!(
            written(&hour, false).contains("id=T; Path=/; Max-Age=3600; HttpOnly; SameSite=None; Secure\r\n")
        );
        assert!(plain.placed((4, 1), Some(Session::Server(1)), false).is_none(), "the client has it");
        assert!(plain.placed((4, 1), Some(Session::Server(0)), false).is_some(), "it was moved");
    }
}
