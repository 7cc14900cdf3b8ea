//! Backends: their servers and how one is chosen.
//!
//! Also makes the nameless backends of listeners. Names are unique: of servers in their backend, of backends in all.

use super::{Compiler, Name};
use crate::address::parse_server;
use crate::defaults;
use crate::model::{
    Backend, Balance, Eject, Ewma, Hash, HashKey, HashMethod, Prequal, Probe, Queue, Reported, Said, Server,
    ServerState, Subset,
};
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
            let fields = field.node.fields().unwrap_or(&empty);
            if field.node.fields().is_some() {
                self.check_has_servers(fields, field.node.at);
            }
            let backend = self.backend(&field.name, fields, field.at);
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

    /// Named or discovered.
    fn check_has_servers(&mut self, fields: &Fields, at: At) {
        if !fields.probably_has("servers") && !fields.probably_has("discover") {
            let message = "`servers` is missing in `[backend.NAME]`".to_owned();
            let help = "add `servers = [\"10.0.0.1:3000\"]`, or say with `discover` where they come from";
            self.report.error(Problem::new(Code::MissingKey, at, message).help(help.to_owned()));
        }
    }

    fn backend(&mut self, name: &str, fields: &Fields, at: At) -> Backend {
        let max_requests = fields.count("max_requests").unwrap_or(0);
        let servers = self.servers(fields.items("servers"), max_requests);
        let balance = self.balance(fields.table("balance"));
        let discover = self.discover(fields, max_requests, &balance);
        if discover.is_none() {
            self.warn_if_idle(name, &servers, at);
            self.warn_if_few(name, &servers, &balance, at);
        }
        self.warn_if_slow(fields, servers.len());
        let (agent, agent_header) = self.backend_agent(fields);
        Backend {
            max_requests,
            discover,
            slow_start: fields.time("slow_start").unwrap_or_default(),
            subset: self.subset(fields.table("subset")),
            reported: self.reported(fields.table("weights")),
            check: self.backend_check(fields),
            agent,
            agent_header,
            eject: self.eject(fields),
            panic: fields.count("panic").unwrap_or_default(),
            adaptive: self.adaptive(fields, max_requests),
            queue: self.queue(fields),
            ..Backend::new(name, servers, balance)
        }
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
        let backend = Backend::new(&name, servers, Balance::P2c);
        self.backends.push(Backend {
            max_requests,
            slow_start: defaults::SLOW_START,
            eject: Some(Eject::default()),
            panic: defaults::PANIC as u32,
            queue: Some(Queue::default()),
            ..backend
        });
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
        let priority = fields.count("priority").unwrap_or(0);
        if let Some(field) = fields.find("priority").filter(|_| priority > 0 && fields.flag("backup")) {
            let message = "`priority` has no meaning for a backup".to_owned();
            let help = "backups come after every priority: leave one of the two out".to_owned();
            self.report.error(Problem::new(Code::KeyConflict, field.at, message).help(help));
        }
        let name = self.label(fields.text("name")).unwrap_or_else(|| written.text.to_owned());
        let check = self.server_check(fields, &address);
        let agent = self.server_agent(fields, &address);
        Some(Server {
            name,
            check,
            agent,
            said: Said::default(),
            address,
            weight: fields.number("weight").and_then(|weight| u16::try_from(weight).ok()).unwrap_or(0),
            priority: u8::try_from(priority).unwrap_or(u8::MAX),
            backup: fields.flag("backup"),
            max_requests: fields.count("max_requests").unwrap_or(max_requests),
            state: fields.text("state").and_then(|state| state.text.parse().ok()).unwrap_or_default(),
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
        } else if servers.iter().all(|server| server.weight == 0 || server.state != ServerState::Ready) {
            format!("no server of `{name}` is ready, so all its requests are answered with 503")
        } else if servers.iter().all(|server| server.backup) {
            format!("every server of `{name}` is a backup")
        } else {
            return;
        };
        self.report.warn(Problem::new(Code::Suspicious, at, message));
    }

    /// Rendezvous hashing looks at every server for every request.
    fn warn_if_slow(&mut self, backend: &Fields, servers: usize) {
        let subset = backend.table("subset").and_then(|subset| subset.count("size"));
        let servers = subset.map_or(servers, |size: u32| servers.min(size as usize));
        let method = backend.table("balance").and_then(|balance| balance.text("method"));
        let Some(method) = method.filter(|method| method.text == "rendezvous") else {
            return;
        };
        if servers > defaults::RENDEZVOUS_SERVERS {
            let message = format!("`rendezvous` looks at all {servers} servers for each request");
            let help = format!(
                "above {}, take `ring`, which moves as few keys, or `maglev`, which is more even than that",
                defaults::RENDEZVOUS_SERVERS
            );
            self.report.warn(Problem::new(Code::Suspicious, method.at, message).help(help));
        }
    }

    fn balance(&mut self, fields: Option<&Fields>) -> Balance {
        let policy = fields.and_then(|fields| fields.text("policy"));
        let policy_text = policy.map_or(defaults::POLICY, |written| written.text);
        if let (Some(fields), Some(policy)) = (fields, policy) {
            self.refuse_foreign(fields, policy);
        }
        match policy_text {
            "round_robin" => Balance::RoundRobin,
            "least_conn" => Balance::LeastConn,
            "random" => Balance::Random,
            "first" => Balance::First,
            "hash" => Balance::Hash(self.hash(fields)),
            "ewma" | "least_time" => {
                let decay = fields.and_then(|fields| fields.time("decay"));
                decay.map_or_else(|| Balance::Ewma(Ewma::default()), |decay| Balance::Ewma(Ewma { decay }))
            }
            "prequal" => Balance::Prequal(self.prequal(fields)),
            _ => Balance::P2c,
        }
    }

    /// Parameters of another policy.
    fn refuse_foreign(&mut self, fields: &Fields, policy: Written<'_>) {
        let of = |parameter| match parameter {
            "key" | "method" | "bound" => Some(&["hash"][..]),
            "decay" => Some(&["ewma", "least_time"][..]),
            "quantile" | "age" | "probe" | "probes" => Some(&["prequal"][..]),
            _ => None,
        };
        for field in &fields.entries {
            let Some(policies) = of(field.name.as_str()).filter(|of| !of.contains(&policy.text)) else {
                continue;
            };
            let message = format!("`{}` has no meaning with `{}`", field.name, policy.text);
            let help = match &*field.name {
                "key" => "only `hash` goes by a key".to_owned(),
                name if policies == ["prequal"] => format!("only `prequal` has `{name}`"),
                name => format!("only `{}` has a `{name}`", policies[0]),
            };
            self.report.error(Problem::new(Code::KeyConflict, field.node.at, message).help(help));
        }
    }

    fn hash(&mut self, fields: Option<&Fields>) -> Hash {
        let text = |name| fields.and_then(|fields| fields.text(name));
        let key = self.read(text("key"), parse_hash_key).unwrap_or(HashKey::ClientIp);
        let method = match text("method").map_or(defaults::HASH_METHOD, |method| method.text) {
            "ring" => HashMethod::Ring,
            "rendezvous" => HashMethod::Rendezvous,
            _ => HashMethod::Maglev,
        };
        Hash { key, method, bound: fields.and_then(|fields| fields.count("bound")) }
    }

    fn prequal(&mut self, fields: Option<&Fields>) -> Prequal {
        let count = |name| fields.and_then(|fields| fields.count(name));
        let path = fields.and_then(|fields| fields.text("probe"));
        if let Some(path) = path.filter(|path| !is_target(path.text)) {
            let message = format!("`{}` is not a path", path.text);
            let help = "it begins with `/` and has no spaces, such as \"/load\"".to_owned();
            self.report.error(Problem::new(Code::BadValue, path.at, message).help(help));
        }
        Prequal {
            quantile: count("quantile").unwrap_or(defaults::PREQUAL_QUANTILE as u32),
            age: fields.and_then(|fields| fields.time("age")).unwrap_or(defaults::PREQUAL_AGE),
            probe: path.map(|path| Probe {
                path: path.text.to_owned(),
                rate: count("probes").unwrap_or(defaults::PREQUAL_PROBES as u32),
            }),
        }
    }

    /// Of few servers everybody hears of all, and goes to the same.
    fn warn_if_few(&mut self, name: &str, servers: &[Server], balance: &Balance, at: At) {
        if matches!(balance, Balance::Prequal(_)) && servers.len() < defaults::PREQUAL_SERVERS {
            let count = servers.len();
            let message = format!(
                "`{name}` has {count} servers: `prequal` is for {} and more",
                defaults::PREQUAL_SERVERS
            );
            let help = "with fewer, `p2c` and `ewma` do better without anybody's help".to_owned();
            self.report.warn(Problem::new(Code::Suspicious, at, message).help(help));
        }
    }

    fn reported(&mut self, fields: Option<&Fields>) -> Option<Reported> {
        let fields = fields?;
        let from = fields.text("from")?;
        if from.text != "orca" {
            for field in fields.entries.iter().filter(|field| field.name != "from") {
                let message = format!("`{}` has no meaning with `{}`", field.name, from.text);
                let help = format!("only `orca` has `{}`", field.name);
                self.report.error(Problem::new(Code::KeyConflict, field.node.at, message).help(help));
            }
            return None;
        }
        Some(Reported {
            blackout: fields.time("blackout").unwrap_or(defaults::REPORT_BLACKOUT),
            expiration: fields.time("expiration").unwrap_or(defaults::REPORT_EXPIRATION),
            penalty: fields.count("error_penalty").unwrap_or(defaults::ERROR_PENALTY as u32),
        })
    }

    fn subset(&mut self, fields: Option<&Fields>) -> Option<Subset> {
        let fields = fields?;
        let size = fields.count("size")?;
        let instance = self.label(fields.text("instance"))?;
        Some(Subset { size, instance })
    }
}

/// An absolute path, with a query or without, that can stand in a request line as it is.
pub(super) fn is_target(text: &str) -> bool {
    text.starts_with('/') && text.len() <= 1_024 && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}
