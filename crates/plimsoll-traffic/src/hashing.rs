//! From keys to servers: what `hash` looks a key up in.
//!
//! In goes a key with a test for who can take the request, out comes the first in the key's own order who can. Built
//! once per configuration, the same on all workers and instances. The order must never depend on load, only the test may.

use plimsoll_config::model::HashMethod;

use crate::maglev::{Maglev, Member};
use crate::rendezvous::{self, Seat};
use crate::ring::Ring;
use crate::server::Server;

/// The tables of one tier.
#[derive(Debug)]
pub(crate) struct Hashing {
    table: Table,
    /// By server index.
    seats: Box<[Seat]>,
    members: Box<[u32]>,
}

#[derive(Debug)]
enum Table {
    Maglev(Maglev),
    Ring(Ring),
    /// The seats are enough.
    Rendezvous,
}

impl Hashing {
    pub(crate) fn new(method: HashMethod, servers: &[Server], members: &[u32]) -> Hashing {
        let member = |&index: &u32| {
            let server = &servers[index as usize];
            Member { name: &server.name, index, weight: server.weight }
        };
        let listed: Vec<Member<'_>> = members.iter().map(member).collect();
        let table = match method {
            HashMethod::Maglev => Table::Maglev(Maglev::new(listed)),
            HashMethod::Ring => Table::Ring(Ring::new(&listed)),
            HashMethod::Rendezvous => Table::Rendezvous,
        };
        let seats = servers.iter().map(|server| Seat::new(&server.name, server.weight)).collect();
        Hashing { table, seats, members: members.into() }
    }

    /// The first in the key's order that passes; `None` when the table does not reach one.
    pub(crate) fn find(&self, key: u64, mut passes: impl FnMut(&u32) -> bool) -> Option<u32> {
        match &self.table {
            Table::Maglev(table) => table.servers(key).find(passes),
            Table::Ring(ring) => ring.servers(key).find(passes),
            // Servers are tested last: a test touches memory that is not in this core's cache.
            Table::Rendezvous => self.nearest(self.members.iter().copied(), key).filter(|best| passes(best)),
        }
    }

    /// The best of `servers` by rendezvous: for a key whose places in the table are all out.
    pub(crate) fn nearest(&self, servers: impl Iterator<Item = u32>, key: u64) -> Option<u32> {
        rendezvous::best(servers, &self.seats, key)
    }
}
