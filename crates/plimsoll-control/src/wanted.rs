//! What is to be served: the file, the servers that discovery found, and what operators ordered since, as one configuration.
//!
//! The file and what `Sources::fill` makes of it go in together, operators' orders one by one, and [`Wanted::compose`] makes the configuration of it all. An order lasts
//! until the file says otherwise: it ends when the file's own word on what it changes becomes another one, when the server enters the
//! file or leaves it, or when its backend is gone. A server that discovery does not find for a while keeps its orders, because a
//! machine in maintenance is likely to vanish and must not come back by itself. Pure: no file, no clock, no socket.

mod handover;
mod order;
mod persisted;
mod word;

use std::collections::{BTreeMap, HashMap, HashSet};

use plimsoll_config::defaults::MOST_ORDERS;
use plimsoll_config::model::{Backend, Config, Server};

pub use self::order::{Change, Order, Origin, Presence, Refused};
pub use self::persisted::Lasting;
pub use self::word::{Effect, Spoken};

/// The parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    file: Config,
    /// The file, with what discovery has found.
    base: Config,
    /// By backend and server.
    orders: BTreeMap<String, BTreeMap<String, Order>>,
    /// What servers say of themselves: above the base, below the orders.
    words: word::All,
}

impl Wanted {
    /// What the file says, and what there is with discovered servers. No order is in force.
    pub fn new(file: Config, base: Config) -> Wanted {
        Wanted { file, base, orders: BTreeMap::new(), words: BTreeMap::new() }
    }

    /// What the file says; names of servers are resolved.
    pub fn file(&self) -> &Config {
        &self.file
    }

    /// The file says this from now on, and with discovered servers it is `base`. Gives the orders that have ended by it, each with the
    /// names of its backend and server.
    pub fn reload(&mut self, file: Config, base: Config) -> Vec<(String, String)> {
        self.base = base;
        let old = std::mem::replace(&mut self.file, file);
        let before = index(&old);
        self.settle_words();
        self.settle(|backend, server| before.get(&(backend, server)).copied().cloned())
    }

    /// Discovery has made this of the file. No order ends by it.
    pub fn discover(&mut self, base: Config) {
        self.base = base;
        self.settle_words();
    }

    /// The configuration of all parts. Servers stand in the order of the file, then of discovery, then by name.
    pub fn compose(&self) -> Config {
        let mut config = self.base.clone();
        for backend in &mut config.backends {
            let base = std::mem::take(&mut backend.servers);
            backend.servers = self.servers(&backend.name, base);
        }
        config
    }

    fn servers(&self, backend: &str, mut servers: Vec<Server>) -> Vec<Server> {
        servers.iter_mut().for_each(|server| self.hark(backend, server));
        let Some(orders) = self.orders.get(backend) else { return servers };
        let spoken = |name: &str| self.spoken(backend, name);
        servers.retain_mut(|server| {
            orders.get(&server.name).is_none_or(|order| order.apply(server, spoken(&server.name.clone())))
        });
        let there: HashSet<String> = servers.iter().map(|server| server.name.clone()).collect();
        for (name, order) in orders {
            if let Presence::Added(added) = &order.presence
                && !there.contains(name)
            {
                servers.extend(order.on(Some(added), spoken(name)));
            }
        }
        servers
    }

    /// Makes a change on behalf of `by` at `now`, in milliseconds since 1970. Nothing has changed if it is refused.
    pub fn change(&mut self, backend: &str, change: &Change, by: &str, now: u64) -> Result<(), Refused> {
        self.spec(backend)?;
        let missing = |name: &str| Refused::NoServer(backend.to_owned(), name.to_owned());
        let name = match change {
            Change::Add(server) if self.server(backend, &server.name).is_some() => {
                return Err(Refused::Exists(backend.to_owned(), server.name.clone()));
            }
            Change::Add(server) => &server.name,
            Change::Set { server: name, .. } | Change::Remove(name) => {
                self.server(backend, name).ok_or_else(|| missing(name))?;
                name
            }
        };
        if matches!(change, Change::Remove(_)) && !self.has_others(backend, name) {
            return Err(Refused::Last(backend.to_owned(), name.clone()));
        }
        let base = self.base(backend, name).cloned();
        let mut order = self.order(backend, name).cloned().unwrap_or_default();
        order.change(change, base.as_ref(), self.spoken(backend, name));
        let is_new = self.order(backend, name).is_none();
        if is_new && self.orders.values().map(BTreeMap::len).sum::<usize>() >= MOST_ORDERS {
            return Err(Refused::TooMany);
        }
        (order.by, order.since) = (by.to_owned(), now);
        self.put(backend, name, order);
        self.settle_word(backend, name);
        Ok(())
    }

    /// The servers of a backend, as they are to be.
    pub fn of(&self, backend: &str) -> Result<Vec<Server>, Refused> {
        Ok(self.servers(backend, self.spec(backend)?.servers.clone()))
    }

    /// One of them.
    pub fn server(&self, backend: &str, name: &str) -> Option<Server> {
        let mut base = self.base(backend, name).cloned();
        base.iter_mut().for_each(|server| self.hark(backend, server));
        match self.order(backend, name) {
            Some(order) => order.on(base.as_ref(), self.spoken(backend, name)),
            None => base,
        }
    }

    fn spec(&self, backend: &str) -> Result<&Backend, Refused> {
        let spec = self.base.backends.iter().find(|spec| spec.name == backend);
        spec.ok_or_else(|| Refused::NoBackend(backend.to_owned()))
    }

    /// True if the backend has servers but for the named one.
    fn has_others(&self, backend: &str, name: &str) -> bool {
        let is_removed =
            |name: &str| self.order(backend, name).is_some_and(|order| order.presence == Presence::Removed);
        let based = self.spec(backend).map_or(&[][..], |spec| &spec.servers);
        let is_added =
            |(other, order): (&String, &Order)| other != name && matches!(order.presence, Presence::Added(_));
        based.iter().any(|server| server.name != name && !is_removed(&server.name))
            || self.orders.get(backend).is_some_and(|orders| orders.iter().any(is_added))
    }

    /// The order about a server that is in force.
    pub fn order(&self, backend: &str, server: &str) -> Option<&Order> {
        self.orders.get(backend)?.get(server)
    }

    /// Every order, with the names of its backend and server and what it departs from.
    pub fn orders(&self) -> impl Iterator<Item = (&str, &str, &Order, Option<&Server>)> {
        let base = index(&self.base);
        let all = self.orders.iter();
        let all =
            all.flat_map(|(backend, orders)| orders.iter().map(|(s, o)| (backend.as_str(), s.as_str(), o)));
        all.map(move |(backend, server, order)| {
            (backend, server, order, base.get(&(backend, server)).copied())
        })
    }

    /// What the file says of each of its servers, by the names of backend and server.
    pub fn in_file(&self) -> HashMap<(&str, &str), &Server> {
        index(&self.file)
    }

    /// What the file says of one server.
    pub fn filed(&self, backend: &str, server: &str) -> Option<&Server> {
        find(&self.file, backend, server)
    }

    /// The servers of a backend that discovery has found.
    pub fn found(&self, backend: &str) -> impl Iterator<Item = &Server> {
        let of = |config: &'_ Config| config.backends.iter().position(|spec| spec.name == backend);
        let filed = of(&self.file).map_or(&[][..], |place| &self.file.backends[place].servers);
        let based = of(&self.base).map_or(&[][..], |place| &self.base.backends[place].servers);
        let filed: HashSet<&str> = filed.iter().map(|server| server.name.as_str()).collect();
        based.iter().filter(move |server| !filed.contains(server.name.as_str()))
    }

    /// What the file says of a server, or else discovery.
    pub fn base(&self, backend: &str, server: &str) -> Option<&Server> {
        find(&self.base, backend, server)
    }

    fn put(&mut self, backend: &str, server: &str, order: Order) {
        let orders = self.orders.entry(backend.to_owned()).or_default();
        if order.says_something() {
            orders.insert(server.to_owned(), order);
        } else {
            orders.remove(server);
        }
        if orders.is_empty() {
            self.orders.remove(backend);
        }
    }

    /// Ends the orders that the file contradicts, where `before` is what it said when they were given, and removals that would leave a backend
    /// without any server.
    fn settle(&mut self, before: impl Fn(&str, &str) -> Option<Server>) -> Vec<(String, String)> {
        let mut ended = Vec::new();
        let file = index(&self.file);
        for (backend, mut orders) in std::mem::take(&mut self.orders) {
            let stays = self.file.backends.iter().any(|spec| spec.name == backend);
            orders.retain(|server, order| {
                let earlier = order.clone();
                let (was, is) =
                    (before(&backend, server), file.get(&(backend.as_str(), server.as_str())).copied());
                let goes_on = stays && order.outlives(was.as_ref(), is);
                if !goes_on || *order != earlier {
                    ended.push((backend.clone(), server.clone()));
                }
                goes_on
            });
            self.orders.insert(backend, orders);
        }
        for spec in self.base.backends.iter().filter(|spec| !spec.servers.is_empty()) {
            if let Some(orders) = self.orders.get_mut(&spec.name)
                && is_emptied(&spec.servers, orders)
            {
                let gone = orders.extract_if(.., |_, order| order.presence == Presence::Removed);
                ended.extend(gone.map(|(server, _)| (spec.name.clone(), server)));
            }
        }
        self.orders.retain(|_, orders| !orders.is_empty());
        ended
    }
}

/// True if the orders leave none of these servers and add none.
fn is_emptied(servers: &[Server], orders: &BTreeMap<String, Order>) -> bool {
    let removed = |server: &Server| orders.get(&server.name).is_some_and(|o| o.presence == Presence::Removed);
    servers.iter().all(removed) && !orders.values().any(|order| matches!(order.presence, Presence::Added(_)))
}

/// The servers by the names of backend and server: for whoever looks for many.
fn index(config: &Config) -> HashMap<(&str, &str), &Server> {
    let all = config.backends.iter();
    all.flat_map(|spec| {
        spec.servers.iter().map(|server| ((spec.name.as_str(), server.name.as_str()), server))
    })
    .collect()
}

fn find<'c>(config: &'c Config, backend: &str, server: &str) -> Option<&'c Server> {
    let backend = config.backends.iter().find(|spec| spec.name == backend)?;
    backend.servers.iter().find(|spec| spec.name == server)
}

#[cfg(test)]
mod tests {
    use plimsoll_config::model::{ServerAgent, ServerCheck, ServerState};

    use super::*;

    const B: &str = "listen :8080";

    fn file(servers: &[&str]) -> Config {
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        plimsoll_config::from_flags(&[":8080".to_owned()], &servers).unwrap().config
    }

    fn wanted(servers: &[&str]) -> Wanted {
        Wanted::new(file(servers), file(servers))
    }

    fn server(name: &str) -> Server {
        Server::new(name, name.parse().unwrap())
    }

    fn set(server: &str, state: Option<ServerState>, weight: Option<u16>) -> Change {
        Change::Set { server: server.to_owned(), state, weight }
    }

    impl Wanted {
        fn take(&mut self, file: Config) -> Vec<(String, String)> {
            self.reload(file.clone(), file)
        }

        fn origin(&self, server: &str) -> Origin {
            Origin::of(self.order(B, server), self.in_file().contains_key(&(B, server)))
        }

        fn order_it(&mut self, change: &Change) -> Result<(), Refused> {
            self.change(B, change, "test", 7)
        }

        fn shown(&self) -> Vec<(String, u16, ServerState)> {
            let servers = self.compose().backends.remove(0).servers;
            servers.into_iter().map(|s| (s.name, s.weight, s.state)).collect()
        }

        fn names(&self) -> Vec<String> {
            self.shown().into_iter().map(|(name, ..)| name).collect()
        }
    }

    #[test]
    fn without_orders_it_is_the_file() {
        let config = file(&["10.0.0.1:1", "10.0.0.2:1"]);
        assert_eq!(Wanted::new(config.clone(), config.clone()).compose(), config);
    }

    #[test]
    fn orders_change_what_is_composed_and_not_the_file() {
        let mut wanted = wanted(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        wanted.order_it(&set("10.0.0.1:1", Some(ServerState::Drain), None)).unwrap();
        wanted.order_it(&set("10.0.0.1:1", None, Some(5))).unwrap();
        wanted.order_it(&Change::Remove("10.0.0.2:1".into())).unwrap();
        wanted.order_it(&Change::Add(server("10.0.0.9:1"))).unwrap();
        let ready = ServerState::Ready;
        let expected =
            [("10.0.0.1:1", 5, ServerState::Drain), ("10.0.0.3:1", 1, ready), ("10.0.0.9:1", 1, ready)];
        assert_eq!(wanted.shown(), expected.map(|(name, weight, state)| (name.to_owned(), weight, state)));
        assert_eq!(wanted.file().backends[0].servers.len(), 3);
        assert_eq!(wanted.orders().count(), 3);
        let origins = ["10.0.0.1:1", "10.0.0.9:1"].map(|name| wanted.origin(name));
        assert_eq!(origins, [Origin::File, Origin::Operator]);
    }

    #[test]
    fn an_order_back_to_what_the_file_says_is_none() {
        let mut wanted = wanted(&["10.0.0.1:1", "10.0.0.2:1"]);
        let before = wanted.clone();
        wanted.order_it(&set("10.0.0.1:1", Some(ServerState::Maint), Some(9))).unwrap();
        wanted.order_it(&set("10.0.0.1:1", Some(ServerState::Ready), Some(1))).unwrap();
        assert_eq!(wanted, before);
        let old = wanted.of(B).unwrap().remove(1);
        wanted.order_it(&Change::Remove("10.0.0.2:1".into())).unwrap();
        wanted.order_it(&Change::Add(old)).unwrap();
        assert_eq!(wanted, before);
        wanted.order_it(&Change::Add(server("10.0.0.9:1"))).unwrap();
        wanted.order_it(&Change::Remove("10.0.0.9:1".into())).unwrap();
        assert_eq!(wanted, before);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_changes_nothing() {
        let mut wanted = wanted(&["10.0.0.1:1"]);
        let before = wanted.clone();
        let refused = [
            wanted.order_it(&Change::Add(server("10.0.0.1:1"))),
            wanted.order_it(&Change::Remove("10.0.0.1:1".into())),
            wanted.order_it(&Change::Remove("x".into())),
            wanted.order_it(&set("x", None, Some(1))),
            wanted.change("y", &set("x", None, Some(1)), "", 0),
        ];
        assert!(matches!(
            refused.map(Result::unwrap_err),
            [
                Refused::Exists(..),
                Refused::Last(..),
                Refused::NoServer(..),
                Refused::NoServer(..),
                Refused::NoBackend(_)
            ]
        ));
        assert_eq!(wanted, before);
    }

    #[test]
    fn an_order_lasts_until_the_file_says_otherwise() {
        let mut wanted = wanted(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        wanted.order_it(&set("10.0.0.1:1", Some(ServerState::Drain), Some(5))).unwrap();
        wanted.order_it(&Change::Remove("10.0.0.2:1".into())).unwrap();
        wanted.order_it(&Change::Add(server("10.0.0.9:1"))).unwrap();
        let before = wanted.clone();
        // Another address of a host name, and another server, are no word on these.
        let mut next = file(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"]);
        next.backends[0].servers[1].address = "10.7.7.7:1".parse().unwrap();
        assert_eq!(wanted.take(next.clone()), []);
        assert_eq!(wanted.orders, before.orders);
        // The weight of the first is: its drain goes on.
        next.backends[0].servers[0].weight = 2;
        next.backends[0].servers[1].max_requests = 3;
        assert_eq!(wanted.take(next).len(), 2);
        assert_eq!(wanted.shown()[0], ("10.0.0.1:1".to_owned(), 2, ServerState::Drain));
        assert_eq!(wanted.names()[1], "10.0.0.2:1", "the file wants it again");
        // In the file an added one is the file's; what left the file takes its orders with it.
        assert_eq!(wanted.take(file(&["10.0.0.9:1", "10.0.0.2:1"])).len(), 2);
        assert_eq!(wanted.orders().count(), 0);
        assert_eq!(wanted.names(), ["10.0.0.9:1", "10.0.0.2:1"]);
    }

    #[test]
    fn a_removal_that_would_leave_nobody_ends() {
        let mut wanted = wanted(&["10.0.0.1:1", "10.0.0.2:1"]);
        wanted.order_it(&Change::Remove("10.0.0.1:1".into())).unwrap();
        let told = wanted.handover();
        assert_eq!(wanted.take(file(&["10.0.0.1:1"])), [(B.to_owned(), "10.0.0.1:1".to_owned())]);
        assert_eq!(wanted.names(), ["10.0.0.1:1"]);
        let mut new = Wanted::new(file(&["10.0.0.1:1"]), file(&["10.0.0.1:1"]));
        assert_eq!(new.recall(&told).len(), 1);
        assert_eq!(new.names(), ["10.0.0.1:1"]);
        // Another one that was added is somebody.
        wanted.order_it(&Change::Add(server("10.0.0.9:1"))).unwrap();
        wanted.order_it(&Change::Remove("10.0.0.1:1".into())).unwrap();
        assert_eq!(wanted.take(file(&["10.0.0.1:1"])), []);
        assert_eq!(wanted.names(), ["10.0.0.9:1"]);
    }

    #[test]
    fn one_that_is_removed_and_added_again_is_checked_as_the_file_says() {
        let mut file = file(&["10.0.0.1:1", "10.0.0.2:1"]);
        file.backends[0].servers[0].check = ServerCheck::Never;
        file.backends[0].servers[0].agent = ServerAgent::Never;
        let mut wanted = Wanted::new(file.clone(), file);
        let before = wanted.clone();
        wanted.order_it(&Change::Remove("10.0.0.1:1".into())).unwrap();
        wanted.order_it(&Change::Add(Server { weight: 3, ..server("10.0.0.1:1") })).unwrap();
        let now = wanted.server(B, "10.0.0.1:1").unwrap();
        assert_eq!((now.weight, now.check, now.agent), (3, ServerCheck::Never, ServerAgent::Never));
        wanted.order_it(&Change::Remove("10.0.0.1:1".into())).unwrap();
        wanted.order_it(&Change::Add(Server { max_requests: 1024, ..server("10.0.0.1:1") })).unwrap();
        assert_eq!(wanted, before);
    }

    #[test]
    fn a_backend_that_is_gone_takes_its_orders_with_it() {
        let mut wanted = wanted(&["10.0.0.1:1"]);
        wanted.order_it(&set("10.0.0.1:1", None, Some(3))).unwrap();
        let other = plimsoll_config::from_flags(&[":9090".to_owned()], &["10.0.0.1:1".to_owned()]);
        assert_eq!(wanted.take(other.unwrap().config).len(), 1);
        assert_eq!(wanted.orders().count(), 0);
    }

    #[test]
    fn discovered_servers_keep_their_orders_while_they_are_away() {
        let mut wanted = wanted(&["10.0.0.1:1"]);
        let both = file(&["10.0.0.1:1", "10.0.0.5:1"]);
        wanted.discover(both.clone());
        assert_eq!(wanted.names(), ["10.0.0.1:1", "10.0.0.5:1"]);
        assert_eq!(wanted.origin("10.0.0.5:1"), Origin::Discovery);
        wanted.order_it(&set("10.0.0.5:1", Some(ServerState::Maint), None)).unwrap();
        wanted.discover(file(&["10.0.0.1:1"]));
        assert_eq!(wanted.names(), ["10.0.0.1:1"]);
        assert_eq!(wanted.take(file(&["10.0.0.1:1"])), []);
        wanted.discover(both);
        assert_eq!(wanted.shown()[1].2, ServerState::Maint);
    }

    #[test]
    fn one_server_is_as_it_is_among_all() {
        let mut wanted = wanted(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        wanted.order_it(&set("10.0.0.1:1", Some(ServerState::Drain), Some(5))).unwrap();
        wanted.order_it(&Change::Remove("10.0.0.2:1".into())).unwrap();
        wanted.order_it(&Change::Add(server("10.0.0.9:1"))).unwrap();
        let all = wanted.of(B).unwrap();
        for name in ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.9:1", "x"] {
            let among = all.iter().find(|server| server.name == name);
            assert_eq!(wanted.server(B, name).as_ref(), among, "{name}");
        }
        // Of added ones too, one may not be the last to go.
        wanted.order_it(&Change::Remove("10.0.0.1:1".into())).unwrap();
        wanted.order_it(&Change::Remove("10.0.0.3:1".into())).unwrap();
        assert!(matches!(wanted.order_it(&Change::Remove("10.0.0.9:1".into())), Err(Refused::Last(..))));
    }

    #[test]
    fn orders_are_bounded() {
        let mut wanted = wanted(&["10.0.0.1:1"]);
        let server = server("10.0.0.2:1");
        let all = (0..MOST_ORDERS).map(|n| {
            let order = Order { presence: Presence::Removed, ..Order::default() };
            (n.to_string(), order)
        });
        wanted.orders.insert(B.to_owned(), all.collect());
        assert_eq!(wanted.order_it(&Change::Add(server)), Err(Refused::TooMany));
    }
}
