//! From keys to servers: what `hash` looks a key up in.
//!
//! In goes a key with a test for who can take the request, out comes the first in the key's own order who can. Built
//! once per configuration, the same on all workers and instances. The order must never depend on load, only the test may.

use std::cell::RefCell;
use std::sync::Arc;

use plimsoll_config::model::HashMethod;
use xxhash_rust::xxh3::xxh3_64;

use crate::maglev::{Maglev, Member};
use crate::ranking::{Notes, Ranking};
use crate::ring::Ring;
use crate::server::Server;

/// The tables of one tier.
#[derive(Debug)]
pub(crate) struct Hashing {
    /// Shared with the next configuration where it would be the same.
    table: Arc<Table>,
    members: Box<[u32]>,
}

#[derive(Debug)]
enum Table {
    Maglev(Maglev),
    Ring(Ring),
    Rendezvous(Arc<Ranking>),
}

impl Hashing {
    /// `before`: what the servers that this configuration replaces had, and those servers.
    pub(crate) fn new(
        method: HashMethod,
        servers: &[Server],
        members: &[u32],
        ranking: &Arc<Ranking>,
        before: Option<(&Hashing, &[Server])>,
    ) -> Hashing {
        let listed = list(servers, members);
        let old =
            before.map(|(hashing, servers)| (Arc::clone(&hashing.table), list(servers, &hashing.members)));
        let table = match (method, old.as_ref().map(|(table, listed)| (table, &**table, listed))) {
            (HashMethod::Rendezvous, _) => Arc::new(Table::Rendezvous(Arc::clone(ranking))),
            (HashMethod::Maglev, Some((same, Table::Maglev(_), old))) if *old == listed => Arc::clone(same),
            (HashMethod::Ring, Some((same, Table::Ring(_), old))) if *old == listed => Arc::clone(same),
            (HashMethod::Ring, Some((_, Table::Ring(ring), old))) => {
                Arc::new(Table::Ring(ring.changed(old, &listed)))
            }
            (HashMethod::Maglev, _) => Arc::new(Table::Maglev(Maglev::new(listed))),
            (HashMethod::Ring, _) => Arc::new(Table::Ring(Ring::new(&listed))),
        };
        Hashing { table, members: members.into() }
    }

    /// The first in the key's order that passes; `None` when the table does not reach one.
    pub(crate) fn find(
        &self,
        key: u64,
        notes: &RefCell<Notes>,
        passes: impl FnMut(&u32) -> bool,
    ) -> Option<u32> {
        match &*self.table {
            Table::Maglev(table) => table.servers(key).find(passes),
            Table::Ring(ring) => ring.servers(key).find(passes),
            Table::Rendezvous(ranking) => ranking.find(key, &mut notes.borrow_mut(), passes),
        }
    }
}

fn list<'a>(servers: &'a [Server], members: &[u32]) -> Vec<Member<'a>> {
    let member = |&index: &u32| {
        let server = &servers[index as usize];
        Member { name: &server.name, index, weight: server.weight }
    };
    members.iter().map(member).collect()
}

/// The hash of a key for [`Ask::key`](crate::Ask::key): XXH3, 64 bits, seed 0. It is the same on every machine and stays so, since with it
/// every key keeps its server across restarts, instances and releases.
pub fn hash_key(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

#[cfg(test)]
mod tests {
    use plimsoll_config::model::{self, Balance, Hash, HashKey};

    use super::*;

    #[test]
    fn hash_key_is_xxh3_and_stays_so() {
        assert_eq!(hash_key(b""), 0x2d06_8005_38d3_94c2);
    }
    use crate::backend::Backend;

    /// A backend of `count` servers whose fourth has `weight`, after `previous`.
    fn backend(method: HashMethod, count: u16, weight: u16, previous: Option<&Backend>) -> Backend {
        let server = |port: u16| {
            let address = model::Address::Socket(([127, 0, 0, 1], port).into());
            let weight = if port == 3 { weight } else { 1 };
            model::Server { weight, ..model::Server::new(&port.to_string(), address) }
        };
        let balance = Balance::Hash(Hash { key: HashKey::ClientIp, method, bound: None });
        Backend::new(&model::Backend::new("b", (0..count).map(server).collect(), balance), previous)
    }

    fn table(backend: &Backend) -> &Arc<Table> {
        &backend.tiers[0].hashing.as_ref().unwrap().table
    }

    #[test]
    fn a_reload_that_changes_no_server_keeps_the_table_and_another_does_not() {
        for method in [HashMethod::Maglev, HashMethod::Ring] {
            let first = backend(method, 20, 1, None);
            assert!(Arc::ptr_eq(table(&first), table(&backend(method, 20, 1, Some(&first)))));
            let changes = [(HashMethod::Maglev, 20, 2), (HashMethod::Ring, 20, 2), (method, 19, 1)];
            for (method, count, weight) in changes {
                let (changed, anew) =
                    (backend(method, count, weight, Some(&first)), backend(method, count, weight, None));
                assert!(!Arc::ptr_eq(table(&first), table(&changed)));
                let home = |backend: &Backend, key| {
                    backend.tiers[0]
                        .hashing
                        .as_ref()
                        .unwrap()
                        .find(key, &RefCell::default(), |_| true)
                        .unwrap()
                };
                let keys = (0..2_000u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                assert!(keys.into_iter().all(|key| home(&changed, key) == home(&anew, key)));
            }
        }
    }
}
