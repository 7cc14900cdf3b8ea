//! Changes that the file is to keep: what of the file they change, and what is wanted once it says so.
//!
//! A change that was made goes in; how the file's servers must differ for it comes out. Pure: `persist` writes.

use plimsoll_config::model::{Config, Server, ServerState};

use super::order::in_place_of;
use super::{Change, Presence, Wanted, find};

/// How the file must differ for a change to be its own word.
#[derive(Debug, Clone, PartialEq)]
pub enum Lasting {
    /// It says so already.
    Nothing,
    /// It lists this server, in the place of the one of that name or behind the others.
    Put(Server),
    /// It says something else of the server of this name.
    Set {
        /// Its name.
        server: String,
        /// `None` leaves it.
        state: Option<ServerState>,
        /// `None` leaves it.
        weight: Option<u16>,
    },
    /// It does not list the server of this name.
    Remove(String),
}

impl Lasting {
    /// Makes it so in a list of servers.
    pub(crate) fn apply(&self, servers: &mut Vec<Server>) {
        match self {
            Lasting::Nothing => {}
            Lasting::Put(new) => match servers.iter_mut().find(|server| server.name == new.name) {
                Some(server) => *server = in_place_of(server, new),
                None => servers.push(new.clone()),
            },
            Lasting::Set { server: name, state, weight } => {
                for server in servers.iter_mut().filter(|server| server.name == *name) {
                    server.state = state.unwrap_or(server.state);
                    server.weight = weight.unwrap_or(server.weight);
                }
            }
            Lasting::Remove(name) => servers.retain(|server| server.name != *name),
        }
    }
}

impl Wanted {
    /// How the file must differ for `change`, which was made.
    ///
    /// # Errors
    /// The file does not list what it is about, in a sentence: discovery found it.
    pub fn lasting(&self, backend: &str, change: &Change) -> Result<Lasting, String> {
        let name = change.server();
        let listed = find(&self.file, backend, name);
        let found = self.base(backend, name);
        let order = self.order(backend, name);
        let is_added = order.is_some_and(|order| matches!(order.presence, Presence::Added(_)));
        if listed.is_none() && found.is_some() {
            return Err(format!(
                "discovery found `{name}`, and the file does not list it: its source has to say so"
            ));
        }
        Ok(match change {
            Change::Remove(_) if listed.is_none() => Lasting::Nothing,
            Change::Remove(_) => Lasting::Remove(name.to_owned()),
            Change::Set { state, weight, .. } if !is_added => {
                Lasting::Set { server: name.to_owned(), state: *state, weight: *weight }
            }
            Change::Add(_) | Change::Set { .. } => {
                let server = order.map_or_else(|| found.cloned(), |order| order.on(found, None));
                server.map_or(Lasting::Nothing, Lasting::Put)
            }
        })
    }

    /// What the file says once it differs so.
    #[must_use]
    pub fn file_with(&self, backend: &str, lasting: &Lasting) -> Config {
        let mut file = self.file.clone();
        let of = file.backends.iter_mut().filter(|spec| spec.name == backend);
        of.for_each(|spec| lasting.apply(&mut spec.servers));
        file
    }

    /// The file says `change` itself from now on, and with discovered servers it is `base`: no order about it is needed, but for one that
    /// stands against what the server says of itself.
    pub fn persisted(&mut self, file: Config, base: Config, backend: &str, change: &Change) {
        (self.file, self.base) = (file, base);
        let name = change.server();
        if let Some(mut order) = self.order(backend, name).cloned() {
            let is = self.base(backend, name).cloned();
            if is.is_some() && matches!(order.presence, Presence::Added(_)) {
                order.presence = Presence::AsFound; // whatever else was ordered goes on
            }
            order.change(change, is.as_ref(), self.spoken(backend, name));
            self.put(backend, name, order);
            self.drop_idle_order(backend, name);
        }
        self.settle_words();
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_config::model::ServerCheck;
    use plimsoll_proxy::{Heard, Told};
    use plimsoll_traffic::Word;

    use super::*;

    const B: &str = "listen :8080";

    fn wanted() -> Wanted {
        let servers = ["10.0.0.1:1", "10.0.0.2:1"].map(str::to_owned);
        let file = plimsoll_config::from_flags(&[":8080".to_owned()], &servers).unwrap().config;
        Wanted::new(file.clone(), file)
    }

    fn server(address: &str) -> Server {
        let address = format!("{{\"address\":\"{address}\"}}");
        plimsoll_config::parse_server(
            serde_json::from_str::<serde_json::Value>(&address).unwrap().as_object().unwrap(),
            1024,
        )
        .unwrap()
    }

    fn set(weight: Option<u16>, state: Option<ServerState>) -> Change {
        Change::Set { server: "10.0.0.1:1".to_owned(), state, weight }
    }

    /// Makes the change, has the file say it, and gives how.
    fn keep(wanted: &mut Wanted, change: &Change) -> Lasting {
        wanted.change(B, change, "me", 1).unwrap();
        let composed = wanted.compose();
        let lasting = wanted.lasting(B, change).unwrap();
        let file = wanted.file_with(B, &lasting);
        wanted.persisted(file.clone(), file, B, change);
        assert_eq!(wanted.compose(), composed, "what is served stays");
        lasting
    }

    #[test]
    fn what_the_file_says_needs_no_order() {
        let mut wanted = wanted();
        for change in [
            set(Some(5), None),
            set(None, Some(ServerState::Drain)),
            Change::Add(server("10.0.0.3:1")),
            Change::Remove("10.0.0.2:1".to_owned()),
        ] {
            keep(&mut wanted, &change);
            assert_eq!(wanted.orders().count(), 0, "{change:?}");
        }
        let names: Vec<&str> = wanted.file().backends[0].servers.iter().map(|server| &*server.name).collect();
        assert_eq!(names, ["10.0.0.1:1", "10.0.0.3:1"]);
    }

    #[test]
    fn what_was_ordered_before_stays_an_order() {
        let mut wanted = wanted();
        wanted.change(B, &set(None, Some(ServerState::Drain)), "me", 1).unwrap();
        keep(&mut wanted, &set(Some(5), None));
        assert_eq!(
            wanted.order(B, "10.0.0.1:1").map(|order| (order.state, order.weight)),
            Some((Some(ServerState::Drain), None))
        );
        assert_eq!(wanted.file().backends[0].servers[0].state, ServerState::Ready);
    }

    #[test]
    fn a_server_that_was_ordered_is_listed_with_all_that_it_is_told() {
        let mut wanted = wanted();
        wanted.change(B, &Change::Add(Server { weight: 3, ..server("10.0.0.3:1") }), "me", 1).unwrap();
        let drain =
            Change::Set { server: "10.0.0.3:1".to_owned(), state: Some(ServerState::Drain), weight: None };
        let lasting = keep(&mut wanted, &drain);
        let Lasting::Put(put) = lasting else { panic!("{lasting:?}") };
        assert_eq!((put.weight, put.state), (3, ServerState::Drain));
        assert_eq!(wanted.orders().count(), 0);
        // What is not there needs no word of the file.
        wanted.change(B, &Change::Add(server("10.0.0.4:1")), "me", 1).unwrap();
        assert_eq!(keep(&mut wanted, &Change::Remove("10.0.0.4:1".to_owned())), Lasting::Nothing);
    }

    #[test]
    fn one_that_is_put_back_is_checked_and_asked_as_the_file_says() {
        let mut wanted = wanted();
        let mut file = wanted.file().clone();
        file.backends[0].servers[0].check = ServerCheck::Never;
        wanted.reload(file.clone(), file);
        wanted.change(B, &Change::Remove("10.0.0.1:1".to_owned()), "me", 1).unwrap();
        let back = Server { weight: 4, ..server("10.0.0.1:1") };
        keep(&mut wanted, &Change::Add(back));
        let now = &wanted.file().backends[0].servers[0];
        assert_eq!((now.weight, &now.check), (4, &ServerCheck::Never));
        assert_eq!(wanted.orders().count(), 0);
    }

    #[test]
    fn what_was_ordered_of_an_added_one_against_its_word_stays_and_says_by_whom() {
        let mut wanted = wanted();
        let mut file = wanted.file().clone();
        file.backends[0].agent_header = Some("x-word".to_owned());
        wanted.reload(file.clone(), file);
        let added = server("10.0.0.3:1");
        wanted.change(B, &Change::Add(added.clone()), "me", 1).unwrap();
        let (backend, server, address) = (B.into(), added.name.as_str().into(), added.address.clone());
        let heard = Heard { backend, server, address, word: Word::parse(b"10%"), told: Told::Answer };
        wanted.hear(&heard, 2);
        let set = |weight, state| Change::Set { server: added.name.clone(), state, weight };
        wanted.change(B, &set(Some(5), None), "you", 3).unwrap();
        keep(&mut wanted, &set(None, Some(ServerState::Drain)));
        let order = wanted.order(B, &added.name).unwrap();
        assert_eq!((order.weight, order.state, &*order.by), (Some(5), None, "me"));
    }

    #[test]
    fn what_discovery_found_is_not_the_files() {
        let mut wanted = wanted();
        let mut base = wanted.file().clone();
        base.backends[0].servers.push(server("10.0.0.9:1"));
        wanted.discover(base);
        let remove = Change::Remove("10.0.0.9:1".to_owned());
        wanted.change(B, &remove, "me", 1).unwrap();
        assert!(wanted.lasting(B, &remove).is_err_and(|reason| reason.contains("discovery found")));
    }
}
