//! Backends: their servers and how one is chosen.
//!
//! Also makes the nameless backends of listeners. Names are unique: of servers in their backend, of backends in all.

use super::{Compiler, Name};
use crate::address::parse_server;
use crate::defaults;
use crate::model::{Backend, Balance, Hash, HashKey, Server};
use crate::node::{Fields, Node, Written};
use crate::pattern::parse_hash_key;
use crate::problem::{Code, Problem};
use crate::source::At;

const LONGEST_NAME: usize = 128;

impl Compiler<'_> {
    /// All `[backend.NAME]`.
    pub(super) fn backends(&mut self, root: &Fields) {
        for field in root.table("backend").map_or(&[][..], |fields| &fields.entries) {
            self.check_backend_name(Written { text: &field.name, at: field.at });
            // One that is wrong keeps its place, so that what refers to it is not reported too.
            let empty = Fields::default();
            let backend = self.backend(&field.name, field.node.fields().unwrap_or(&empty), field.at);
            self.backends.push(backend);
            self.names.push(Name { text: field.name.clone(), at: field.at, used: false });
        }
    }

    fn check_backend_name(&mut self, name: Written<'_>) {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.text.is_empty() || name.text.len() > LONGEST_NAME || !name.text.bytes().all(sound) {
            let message = format!("`{}` cannot be a backend's name", name.text);
            self.report.error(
                Problem::new(Code::BadValue, name.at, message)
                    .help(format!("up to {LONGEST_NAME} letters, digits, `-`, `_` and `.`")),
            );
        }
    }

    fn backend(&mut self, name: &str, fields: &Fields, at: At) -> Backend {
        let max_requests = fields.count("max_requests").unwrap_or(0);
        let servers = self.servers(fields.items("servers"), max_requests);
        self.warn_if_idle(name, &servers, at);
        let balance = self.balance(fields.table("balance"));
        Backend::new(name, servers, balance)
    }

    /// The servers of a listener, as a backend of their own; gives its index.
    pub(super) fn nameless_backend(&mut self, bind: Written<'_>, servers: &[Node]) -> usize {
        let max_requests = u32::try_from(defaults::MAX_REQUESTS).unwrap_or(u32::MAX);
        let servers = self.servers(servers, max_requests);
        let first = format!("listen {}", bind.text);
        // Only port 0 can stand twice.
        let taken = |name: &String| self.backends.iter().any(|backend| backend.name == *name);
        let others = (2..).map(|number| format!("{first} #{number}"));
        let name = std::iter::once(first.clone()).chain(others).find(|name| !taken(name)).unwrap_or_default();
        self.warn_if_idle(&name, &servers, bind.at);
        self.backends.push(Backend::new(&name, servers, Balance::P2c));
        self.backends.len() - 1
    }

    fn servers(&mut self, items: &[Node], max_requests: u32) -> Vec<Server> {
        let mut seen: Vec<(String, At)> = Vec::new();
        let mut servers = Vec::with_capacity(items.len());
        for item in items {
            let Some(server) = self.server(item, max_requests) else {
                continue;
            };
            match seen.iter().find(|(name, _)| *name == server.name) {
                Some((name, first)) => self.report.error(
                    Problem::new(Code::Duplicate, item.at, format!("the server `{name}` stands twice"))
                        .also(*first, "first here")
                        .help("give one of them another `name`, or more `weight` to one alone".to_owned()),
                ),
                None => seen.push((server.name.clone(), item.at)),
            }
            servers.push(server);
        }
        servers
    }

    fn server(&mut self, item: &Node, max_requests: u32) -> Option<Server> {
        let fields = item.fields()?;
        let written = fields.text("address")?;
        let address = self.accept(parse_server(written.text), written.at)?;
        let name = self.label(fields.text("name")).unwrap_or_else(|| written.text.to_owned());
        Some(Server {
            name,
            address,
            weight: fields.number("weight").and_then(|weight| u16::try_from(weight).ok()).unwrap_or(0),
            priority: 0,
            backup: fields.flag("backup"),
            max_requests: fields.count("max_requests").unwrap_or(max_requests),
        })
    }

    /// A name that stands in logs.
    pub(super) fn label(&mut self, written: Option<Written<'_>>) -> Option<String> {
        let written = written?;
        let sound = !written.text.chars().any(char::is_control) && written.text.trim() == written.text;
        if written.text.is_empty() || written.text.len() > LONGEST_NAME || !sound {
            let message = format!("`{}` cannot be a name", written.text);
            self.report.error(
                Problem::new(Code::BadValue, written.at, message).help(format!(
                    "1 to {LONGEST_NAME} bytes, no white space around it, no control characters"
                )),
            );
        }
        Some(written.text.to_owned())
    }

    fn warn_if_idle(&mut self, name: &str, servers: &[Server], at: At) {
        if servers.is_empty() {
            return;
        }
        let message = if servers.iter().all(|server| server.weight == 0) {
            format!("every server of `{name}` has weight 0, so all its requests are answered with 503")
        } else if servers.iter().all(|server| server.backup) {
            format!("every server of `{name}` is a backup")
        } else {
            return;
        };
        self.report.warn(Problem::new(Code::Suspicious, at, message));
    }

    fn balance(&mut self, fields: Option<&Fields>) -> Balance {
        let policy = fields.and_then(|fields| fields.text("policy"));
        let policy_text = policy.map_or(defaults::POLICY, |written| written.text);
        let key = fields.and_then(|fields| fields.text("key"));
        if let (Some(key), Some(policy)) = (key, policy)
            && policy.text != "hash"
        {
            let message = format!("`key` has no meaning with `{}`", policy.text);
            self.report.error(
                Problem::new(Code::KeyConflict, key.at, message).help("only `hash` goes by a key".to_owned()),
            );
        }
        match policy_text {
            "round_robin" => Balance::RoundRobin,
            "least_conn" => Balance::LeastConn,
            "random" => Balance::Random,
            "first" => Balance::First,
            "hash" => Balance::Hash(Hash::new(self.read(key, parse_hash_key).unwrap_or(HashKey::ClientIp))),
            _ => Balance::P2c,
        }
    }
}
