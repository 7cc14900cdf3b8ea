//! An operator's order about one server: what it changes, why it may be refused, and until when it lasts.
//!
//! Orders are made and kept by [`Wanted`](super::Wanted); here stands what one of them does to what the file or discovery says of its server, and
//! to what the server says of itself. Never knows of other servers.

use std::fmt;

use plimsoll_config::defaults::MOST_ORDERS;
use plimsoll_config::model::{Server, ServerState};

use super::Spoken;

/// How one server differs by an operator's order from what the file or discovery says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Order {
    /// Another state.
    pub state: Option<ServerState>,
    /// Another weight.
    pub weight: Option<u16>,
    /// Whether it is there at all.
    pub presence: Presence,
    /// When it was last ordered, in milliseconds since 1970.
    pub since: u64,
    /// Who did.
    pub by: String,
}

/// Whether a server is there.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Presence {
    /// As the file or discovery says.
    #[default]
    AsFound,
    /// An operator added it, or put it in the place of the one that was removed.
    Added(Server),
    /// An operator removed it.
    Removed,
}

/// What an operator orders.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A further server.
    Add(Server),
    /// Another state or weight of the named one.
    Set {
        /// Its name.
        server: String,
        /// `None` leaves it.
        state: Option<ServerState>,
        /// `None` leaves it.
        weight: Option<u16>,
    },
    /// The named one is to go.
    Remove(String),
}

/// Why a change is not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// There is no backend of that name.
    NoBackend(String),
    /// The backend has no server of that name.
    NoServer(String, String),
    /// The backend has a server of that name.
    Exists(String, String),
    /// A backend cannot be without servers.
    Last(String, String),
    /// There are as many orders as there can be.
    TooMany,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::NoBackend(backend) => write!(f, "there is no backend `{backend}`"),
            Refused::NoServer(backend, server) => write!(f, "`{backend}` has no server `{server}`"),
            Refused::Exists(backend, server) => write!(f, "`{backend}` has a server `{server}` already"),
            Refused::Last(backend, server) => {
                write!(f, "`{server}` is the only server of `{backend}`: add another one first, or drain it")
            }
            Refused::TooMany => {
                write!(f, "{MOST_ORDERS} orders are in force: write some of them into the file")
            }
        }
    }
}

/// Where a server comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The file lists it.
    File,
    /// Discovery found it.
    Discovery,
    /// An operator added it.
    Operator,
}

impl Origin {
    /// By what was ordered about it.
    pub fn of(order: Option<&Order>, is_in_file: bool) -> Origin {
        let is_added = order.is_some_and(|order| matches!(order.presence, Presence::Added(_)));
        match (is_added, is_in_file) {
            (true, _) => Origin::Operator,
            (false, true) => Origin::File,
            (false, false) => Origin::Discovery,
        }
    }

    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::File => "file",
            Origin::Discovery => "discovery",
            Origin::Operator => "operator",
        }
    }
}

impl Change {
    /// The name of the server that it is about.
    pub fn server(&self) -> &str {
        match self {
            Change::Add(server) => &server.name,
            Change::Set { server, .. } | Change::Remove(server) => server,
        }
    }
}

/// `new`, but for how it is checked and asked, which is not an operator's to say.
pub(super) fn in_place_of(old: &Server, new: &Server) -> Server {
    Server { check: old.check.clone(), agent: old.agent.clone(), ..new.clone() }
}

impl Order {
    /// What becomes by it of what the file says, or else discovery.
    pub fn on(&self, base: Option<&Server>, spoken: Option<&Spoken>) -> Option<Server> {
        let added = match &self.presence {
            Presence::Added(added) => Some(added),
            Presence::AsFound | Presence::Removed => None,
        };
        let mut server = base.or(added)?.clone();
        self.apply(&mut server, spoken).then_some(server)
    }

    /// Makes of a server what was ordered, whatever it says itself; false if it is to go. One that was added speaks for itself too.
    pub(super) fn apply(&self, server: &mut Server, spoken: Option<&Spoken>) -> bool {
        match &self.presence {
            Presence::Removed => return false,
            Presence::Added(added) => {
                *server = in_place_of(server, added);
                spoken.into_iter().for_each(|spoken| spoken.apply(server));
            }
            Presence::AsFound => {}
        }
        if let Some(state) = self.state {
            server.state = state;
            server.said.down &= state != ServerState::Ready;
        }
        if let Some(weight) = self.weight {
            (server.weight, server.said.share) = (weight, 100);
        }
        true
    }

    /// What is as it is found anyway needs no order.
    pub(super) fn change(&mut self, change: &Change, base: Option<&Server>, spoken: Option<&Spoken>) {
        // What a server says against it would count if it were no order.
        let takes_out = spoken.is_some_and(Spoken::takes_out);
        let shares = spoken.is_some_and(Spoken::shares);
        match (change, &mut self.presence) {
            (Change::Add(server), _) => {
                let presence = match base {
                    Some(base) if *base == in_place_of(base, server) => Presence::AsFound,
                    _ => Presence::Added(server.clone()),
                };
                *self = Order { presence, ..Order::default() };
            }
            (Change::Set { state, weight, .. }, Presence::Added(server)) => {
                server.state = state.unwrap_or(server.state);
                server.weight = weight.unwrap_or(server.weight);
                self.state = state.filter(|_| takes_out).or(self.state.filter(|_| state.is_none()));
                self.weight = weight.filter(|_| shares).or(self.weight.filter(|_| weight.is_none()));
            }
            (Change::Set { state, weight, .. }, _) => {
                if state.is_some() {
                    self.state =
                        state.filter(|state| takes_out || base.is_none_or(|base| base.state != *state));
                }
                if weight.is_some() {
                    self.weight =
                        weight.filter(|weight| shares || base.is_none_or(|base| base.weight != *weight));
                }
            }
            (Change::Remove(_), _) => {
                let presence = if base.is_some() { Presence::Removed } else { Presence::AsFound };
                *self = Order { presence, ..Order::default() };
            }
        }
    }

    pub(super) fn says_something(&self) -> bool {
        self.state.is_some() || self.weight.is_some() || self.presence != Presence::AsFound
    }

    /// Drops what the file has since said otherwise; false if nothing is left.
    pub(super) fn outlives(&mut self, was: Option<&Server>, is: Option<&Server>) -> bool {
        match (was, is) {
            (None, None) => true,
            (Some(was), Some(is)) => {
                // A host name may have another address now, which says nothing about the server, nor does how it is checked or asked.
                let (address, check, agent) = (was.address.clone(), was.check.clone(), was.agent.clone());
                let same = Server { address, check, agent, ..is.clone() } == *was;
                self.state = self.state.filter(|_| was.state == is.state);
                self.weight = self.weight.filter(|_| was.weight == is.weight);
                if !same {
                    self.presence = Presence::AsFound;
                }
                self.says_something()
            }
            _ => false,
        }
    }
}
