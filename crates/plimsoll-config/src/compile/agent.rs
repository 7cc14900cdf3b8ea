//! A server's own word: whom to ask for it, and in which field it may stand.

use std::net::IpAddr;
use std::time::Duration;

use super::Compiler;
use crate::address::Fault;
use crate::defaults;
use crate::model::{Address, Agent, ServerAgent};
use crate::node::{Fields, Node, Value};
use crate::pattern::is_token;
use crate::problem::{Code, Problem};
use crate::source::At;

/// Fields that say how the message itself is to be read.
const MESSAGE: [&str; 8] = [
    "connection",
    "content-length",
    "content-type",
    "date",
    "location",
    "set-cookie",
    "transfer-encoding",
    "upgrade",
];

impl Compiler<'_> {
    /// What all servers of a backend have in common: their agent, and the field of their answers in lower case.
    pub(super) fn backend_agent(&mut self, backend: &Fields) -> (Option<Agent>, Option<String>) {
        let Some((field, fields)) = backend.find("agent").zip(backend.table("agent")) else {
            return (None, None);
        };
        let header = self.read(fields.text("header"), parse_header);
        if fields.find("port").is_none() && fields.find("header").is_none() {
            let message = "it is not said where servers say their word".to_owned();
            let help = "write `port`, to ask an agent, or `header`, to hear it with their answers".to_owned();
            self.report.error(Problem::new(Code::MissingKey, field.at, message).help(help));
        }
        let agent = self.agent(fields);
        let is_unix = |node: &Node| {
            let address = node.fields().and_then(|server| server.text("address"));
            let is_own = node.fields().is_some_and(|server| server.find("agent").is_some());
            !is_own && address.is_some_and(|address| address.text.starts_with("unix:"))
        };
        let is_beside = agent.is_some() && fields.find("address").is_none();
        if is_beside && backend.items("servers").iter().any(is_unix) {
            self.refuse_agent_of_unix(field.at);
        }
        (agent, header)
    }

    pub(super) fn server_agent(&mut self, server: &Fields, address: &Address) -> ServerAgent {
        let Some(field) = server.find("agent") else { return ServerAgent::Backends };
        if let Value::Bool(_) = field.node.value {
            return ServerAgent::Never;
        }
        let fields = server.table("agent");
        let agent = fields.and_then(|fields| self.agent(fields));
        let is_beside = agent.is_some() && fields.is_some_and(|fields| fields.find("address").is_none());
        if is_beside && matches!(address, Address::Unix(_)) {
            self.refuse_agent_of_unix(field.at);
        }
        agent.map_or(ServerAgent::Backends, |agent| ServerAgent::Own(Box::new(agent)))
    }

    fn refuse_agent_of_unix(&mut self, at: At) {
        let message = "a Unix socket has no address that its agent could be at".to_owned();
        let help =
            "say with `address` where the agent listens, or give that server `agent = false`".to_owned();
        self.report.error(Problem::new(Code::KeyConflict, at, message).help(help));
    }

    fn agent(&mut self, fields: &Fields) -> Option<Agent> {
        let address = self.read(fields.text("address"), parse_ip);
        let every = fields.time("every").unwrap_or(defaults::AGENT_EVERY);
        let timeout = self.within(fields, every);
        Some(Agent {
            port: fields.number("port").and_then(|port| u16::try_from(port).ok())?,
            address,
            every,
            timeout,
            send: fields.text("send").map(|send| send.text.to_owned()).unwrap_or_default(),
        })
    }

    fn within(&mut self, fields: &Fields, every: Duration) -> Duration {
        self.within_every(fields, "timeout", defaults::CHECK_TIMEOUT, every)
    }
}

fn parse_ip(text: &str) -> Result<IpAddr, Fault> {
    let fault = || {
        let help = "such as \"10.0.0.9\" or \"fd00::9\", without a port";
        Fault::new(Code::BadValue, format!("`{text}` is not an IP address")).help(help)
    };
    text.parse().map_err(|_| fault())
}

fn parse_header(text: &str) -> Result<String, Fault> {
    let name = text.to_ascii_lowercase();
    if !is_token(text) {
        return Err(Fault::new(Code::BadValue, format!("`{text}` is not a header's name"))
            .help("write it as \"X-Server-Word\""));
    }
    if MESSAGE.contains(&name.as_str()) {
        let message = format!("`{text}` has a meaning of its own, which clients would miss");
        return Err(Fault::new(Code::BadValue, message).help("write another one, such as \"X-Server-Word\""));
    }
    Ok(name)
}
