//! What is wanted besides the file, on its way to the process that comes after this one.
//!
//! The new process reads the file anew, so each order goes with what the file said when it was given, and ends there if the file has
//! said otherwise since. What is not understood is left out.

use std::collections::HashMap;

use plimsoll_config::model::{Server, ServerState};
use serde_json::{Value, json};

use super::{Order, Presence, Wanted, index};
use crate::orders::{read_settings, settings};

impl Wanted {
    /// For [`recall`](Wanted::recall) in another process.
    pub fn handover(&self) -> Value {
        let file = index(&self.file);
        let orders = self.orders().map(|(backend, server, order, _)| {
            let presence = match &order.presence {
                Presence::AsFound => Value::Null,
                Presence::Removed => "removed".into(),
                Presence::Added(added) => settings(added),
            };
            json!({
                "backend": backend,
                "server": server,
                "state": order.state.map(ServerState::as_str),
                "weight": order.weight,
                "presence": presence,
                "since": order.since,
                "by": order.by,
                "file": file.get(&(backend, server)).map(|server| settings(server)),
            })
        });
        let orders: Vec<Value> = orders.collect();
        json!({ "orders": orders, "words": self.words_handed() })
    }

    /// Takes over what another process was told, and gives the orders that have ended by what the file says now, as [`reload`](Wanted::reload)
    /// does. To be called before anything else is ordered.
    pub fn recall(&mut self, said: &Value) -> Vec<(String, String)> {
        let told = said["orders"].as_array().map_or(&[][..], Vec::as_slice);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let name = |one: &Value| Some((text(&one["backend"])?, text(&one["server"])?));
        for one in told {
            if let Some(((backend, server), order)) = name(one).zip(order(one)) {
                self.put(&backend, &server, order);
            }
        }
        let was = told.iter().filter_map(|one| Some((name(one)?, read_settings(&one["file"])?)));
        let was: HashMap<(String, String), Server> = was.collect();
        let ended = self.settle(|backend, name| was.get(&(backend.to_owned(), name.to_owned())).cloned());
        self.recall_words(&said["words"]);
        ended
    }
}

fn order(said: &Value) -> Option<Order> {
    let presence = match &said["presence"] {
        Value::Null => Presence::AsFound,
        Value::String(word) if word == "removed" => Presence::Removed,
        added => Presence::Added(read_settings(added)?),
    };
    Some(Order {
        state: said["state"].as_str().and_then(|state| state.parse().ok()),
        weight: said["weight"].as_u64().and_then(|weight| u16::try_from(weight).ok()),
        presence,
        since: said["since"].as_u64()?,
        by: said["by"].as_str()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Change;
    use super::*;

    const B: &str = "listen :8080";

    fn wanted(servers: &[&str]) -> Wanted {
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        let file = plimsoll_config::from_flags(&[":8080".to_owned()], &servers).unwrap().config;
        Wanted::new(file.clone(), file)
    }

    /// As the file says, and one that was found.
    fn with_found(mut wanted: Wanted) -> Wanted {
        let mut base = wanted.file.clone();
        base.backends[0].servers.push(Server::new("10.0.0.5:1", "10.0.0.5:1".parse().unwrap()));
        wanted.discover(base);
        wanted
    }

    fn full() -> Wanted {
        let mut old = with_found(wanted(&["10.0.0.1:1", "10.0.0.2:1", "unix:/run/a.sock"]));
        let state = Some(ServerState::Maint);
        for change in [
            Change::Set { server: "10.0.0.1:1".into(), state, weight: Some(3) },
            Change::Set { server: "10.0.0.5:1".into(), state, weight: None },
            Change::Remove("10.0.0.2:1".into()),
            Change::Add(Server { weight: 7, ..Server::new("new", "[::1]:9".parse().unwrap()) }),
        ] {
            old.change(B, &change, "unix uid 0", 1_700_000_000_000).unwrap();
        }
        old
    }

    #[test]
    fn the_next_process_wants_the_same() {
        let old = full();
        let mut new = with_found(wanted(&["10.0.0.1:1", "10.0.0.2:1", "unix:/run/a.sock"]));
        new.recall(&old.handover());
        assert_eq!(new, old);
    }

    #[test]
    fn the_next_process_hears_the_file_that_changed_meanwhile() {
        let mut new = wanted(&["10.0.0.1:1", "10.0.0.2:1", "new:9"]);
        new.file.backends[0].servers[0].state = ServerState::Drain;
        new.file.backends[0].servers[2].name = "new".to_owned();
        let mut new = with_found(new);
        new.recall(&full().handover());
        let shown: Vec<(String, u16, ServerState)> =
            new.of(B).unwrap().into_iter().map(|s| (s.name, s.weight, s.state)).collect();
        let ready = ServerState::Ready;
        assert_eq!(
            shown,
            [
                ("10.0.0.1:1".to_owned(), 3, ServerState::Drain),
                ("new".to_owned(), 1, ready),
                ("10.0.0.5:1".to_owned(), 1, ServerState::Maint)
            ]
        );
    }

    #[test]
    fn nonsense_is_left_out() {
        let mut new = wanted(&["10.0.0.1:1"]);
        let before = new.clone();
        new.recall(&Value::Null);
        new.recall(&json!({ "orders": [7, {}, { "backend": B, "server": "x" }] }));
        assert_eq!(new, before);
    }
}
