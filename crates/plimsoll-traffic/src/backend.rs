//! A backend as the balancer sees it: its servers and the tables that are worked out once per configuration.
//!
//! In goes one backend of the checked configuration and, on a reload, its predecessor; out comes an immutable value that
//! all workers share. A server whose name and address stay keeps its live counters; anything else begins anew. Nothing here
//! may change after `new` except through `Live`.

use std::collections::HashMap;
use std::sync::Arc;

use plimsoll_config::model;

use crate::maglev::{Maglev, Member};
use crate::server::{Live, Server};
use crate::weights::Weights;

/// One backend; one per process, shared by all workers.
#[derive(Debug)]
pub struct Backend {
    /// As in the configuration.
    pub name: Box<str>,
    /// In the order of the file.
    pub servers: Box<[Server]>,
    /// How one is chosen.
    pub balance: model::Balance,
    /// The primaries, then the backups.
    pub(crate) tiers: [Tier; 2],
    /// Over the servers that have a weight; 1 when none has.
    pub(crate) mean_weight: f32,
}

/// The primaries or the backups, without those of weight 0.
#[derive(Debug)]
pub(crate) struct Tier {
    pub(crate) members: Box<[u32]>,
    pub(crate) weights: Weights,
    /// Filled only for `Balance::Hash`.
    pub(crate) maglev: Maglev,
}

impl Backend {
    /// Builds the tables. Live counters are carried over from `previous` by identity: name and address.
    pub fn new(spec: &model::Backend, previous: Option<&Backend>) -> Backend {
        let known: HashMap<(&str, &model::Address), &Arc<Live>> = previous
            .iter()
            .flat_map(|b| b.servers.iter())
            .map(|s| ((&*s.name, &s.address), &s.live))
            .collect();
        let servers: Box<[Server]> = spec
            .servers
            .iter()
            .map(|s| Server {
                name: s.name.as_str().into(),
                address: s.address.clone(),
                weight: s.weight,
                backup: s.backup,
                max_requests: s.max_requests,
                live: known.get(&(&*s.name, &s.address)).map_or_else(Arc::default, |live| Arc::clone(live)),
            })
            .collect();
        let tiers = [false, true].map(|backup| Tier::new(&servers, backup, &spec.balance));
        let weights: Vec<f32> = servers.iter().map(|s| f32::from(s.weight)).filter(|&w| w > 0.0).collect();
        let mean_weight =
            if weights.is_empty() { 1.0 } else { weights.iter().sum::<f32>() / weights.len() as f32 };
        Backend {
            name: spec.name.as_str().into(),
            servers,
            balance: spec.balance.clone(),
            tiers,
            mean_weight,
        }
    }
}

impl Tier {
    fn new(servers: &[Server], backup: bool, balance: &model::Balance) -> Tier {
        let weights: Vec<u16> =
            servers.iter().map(|s| if s.backup == backup { s.weight } else { 0 }).collect();
        let members: Box<[u32]> = (0u32..).zip(&weights).filter(|&(_, &w)| w > 0).map(|(i, _)| i).collect();
        let hashed = match balance {
            model::Balance::Hash(_) => &*members,
            _ => &[],
        };
        let member = |&index: &u32| {
            let server = &servers[index as usize];
            Member { name: &server.name, index, weight: server.weight }
        };
        let maglev = Maglev::new(hashed.iter().map(member).collect());
        Tier { weights: Weights::new(&weights), maglev, members }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, port: u16) -> model::Server {
        let address = model::Address::Socket(([127, 0, 0, 1], port).into());
        model::Server { max_requests: 8, ..model::Server::new(name, address) }
    }

    fn backend(servers: Vec<model::Server>, previous: Option<&Backend>) -> Backend {
        Backend::new(&model::Backend::new("b", servers, model::Balance::P2c), previous)
    }

    #[test]
    fn a_reload_keeps_the_counters_of_servers_that_stay() {
        let old = backend(vec![server("a", 1), server("b", 2)], None);
        assert!(old.servers[1].live.take(8));
        let new = backend(vec![server("c", 3), server("b", 2)], Some(&old));
        assert_eq!((new.servers[0].live.in_flight(), new.servers[1].live.in_flight()), (0, 1));
        old.servers[1].live.give_back();
        assert_eq!(new.servers[1].live.in_flight(), 0);
    }

    #[test]
    fn another_name_or_address_is_another_server() {
        let old = backend(vec![server("a", 1), server("b", 2)], None);
        old.servers.iter().for_each(|s| assert!(s.live.take(8)));
        let new = backend(vec![server("a", 9), server("z", 2)], Some(&old));
        assert!(new.servers.iter().all(|s| s.live.in_flight() == 0));
    }

    #[test]
    fn servers_of_weight_zero_are_in_no_tier() {
        let mut servers = vec![server("a", 1), server("b", 2), server("c", 3)];
        servers[0].weight = 0;
        servers[2].backup = true;
        let backend = backend(servers, None);
        assert_eq!([&*backend.tiers[0].members, &*backend.tiers[1].members], [[1], [2]]);
    }
}
