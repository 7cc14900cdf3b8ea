//! Listeners: where to bind, and what takes the rest.
//!
//! No two may ask for the same address, the admin address included. A listener needs somewhere to send to: its own
//! `to`, or a route.

use std::net::{IpAddr, SocketAddr};

use super::Compiler;
use crate::address::parse_bind;
use crate::model::Listener;
use crate::node::{Field, Fields, Node, Value, Written};
use crate::problem::{Code, Problem};
use crate::source::At;

impl Compiler<'_> {
    /// All `[[listen]]`, and their nameless backends.
    pub(super) fn listeners(&mut self, root: &Fields) -> Vec<Listener> {
        let Some(field) = root.find("listen") else {
            return Vec::new();
        };
        if matches!(&field.node.value, Value::List(items) if items.is_empty()) {
            let problem = Problem::new(Code::NothingToDo, field.at, "there is no listener");
            self.report.error(problem.help("add `[[listen]]` with `bind = \":8080\"`".to_owned()));
        }
        let routed = root.probably_has("route");
        let mut bound: Vec<(SocketAddr, At)> = Vec::new();
        let mut listeners = Vec::new();
        for node in field.node.items() {
            listeners.extend(self.listener(node, routed, &mut bound));
        }
        self.check_admin(root, &bound);
        listeners
    }

    fn listener(&mut self, node: &Node, routed: bool, bound: &mut Vec<(SocketAddr, At)>) -> Option<Listener> {
        let fields = node.fields()?;
        let written = fields.text("bind");
        let bind = self.read(written, parse_bind);
        if let (Some(written), Some(bind)) = (written, bind) {
            self.check_free(written, bind, bound);
            bound.push((bind, written.at));
        }
        // Without a bind text its servers are checked under its place alone.
        let name = written.unwrap_or(Written { text: "?", at: node.at });
        let fallback = match fields.find("to") {
            Some(to) => self.fallback(name, to),
            None => {
                self.check_purpose(name, routed || fields.probably_has("to"));
                None
            }
        };
        Some(Listener {
            bind: bind?,
            fallback,
            max_connections: fields.count("max_connections"),
            max_connections_per_client: fields.count("max_connections_per_client"),
        })
    }

    fn check_free(&mut self, written: Written<'_>, bind: SocketAddr, bound: &[(SocketAddr, At)]) {
        if let Some((_, first)) = bound.iter().find(|(other, _)| same_address(*other, bind)) {
            let message = format!("`{}` is listened on already", written.text);
            let problem = Problem::new(Code::Duplicate, written.at, message).also(*first, "first here");
            self.report.error(problem.help("remove one, or give it another port".to_owned()));
        }
    }

    fn check_purpose(&mut self, listener: Written<'_>, routed: bool) {
        if !routed {
            let message = format!("the listener `{}` has nowhere to send requests", listener.text);
            self.report.error(
                Problem::new(Code::NothingToDo, listener.at, message)
                    .help("add `to = [\"10.0.0.1:3000\"]`, or a `[[route]]`".to_owned()),
            );
        }
    }

    /// A backend's name, one address, or servers.
    fn fallback(&mut self, listener: Written<'_>, to: &Field) -> Option<usize> {
        let Some(written) = to.node.text() else {
            return match &to.node.value {
                Value::List(servers) => Some(self.nameless_backend(listener, servers)),
                _ => None,
            };
        };
        let named = self.names.iter().any(|name| name.text == written.text);
        let address = written.text.contains([':', '/', ',']) || written.text.parse::<IpAddr>().is_ok();
        if named || !address {
            return self.resolve(written);
        }
        Some(self.nameless_backend(listener, &[address_node(written)]))
    }
}

/// An address alone, as a server.
fn address_node(written: Written<'_>) -> Node {
    let node = |value| Node { at: written.at, given: true, value };
    let field = |name: &str, value| Field { name: name.to_owned(), at: written.at, node: node(value) };
    let address = field("address", Value::Text(written.text.to_owned()));
    let weight = field("weight", Value::Number(crate::defaults::WEIGHT));
    node(Value::Table(Fields { entries: vec![address, weight], ..Fields::default() }))
}

/// Equal, or every address twice: `[::]` takes IPv4 too.
fn same_address(a: SocketAddr, b: SocketAddr) -> bool {
    let same = a.ip() == b.ip() || (a.ip().is_unspecified() && b.ip().is_unspecified());
    a.port() != 0 && a.port() == b.port() && same
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_address_of_both_families_is_the_same() {
        assert!(same_address(address("[::]:80"), address("0.0.0.0:80")));
        assert!(!same_address(address("[::]:0"), address("[::]:0")));
        assert!(!same_address(address("127.0.0.1:80"), address("127.0.0.2:80")));
    }
}
