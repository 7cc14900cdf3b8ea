//! What a contract is held against: anything that chooses a server.
//!
//! `Plimsoll` stands on the balancer of production; tests put deliberately wrong choosers in its place, so that each contract is seen
//! to break. A subject owns its state and chance; a contract owns the traffic.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use plimsoll_config::model::{self, Balance};
use plimsoll_traffic::{Ask, Backend, Balancer, Dice, Lease, Micros, NoServer, Outcome, Verdict};

/// A server as a contract sets it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stand {
    /// What hashes go by.
    pub name: String,
    /// 0 takes nothing.
    pub weight: u16,
    /// Serves only when no other can.
    pub backup: bool,
    /// Requests in flight at once.
    pub max_requests: u32,
}

impl Stand {
    /// A server of weight 1 with room for everything, named by its number.
    pub fn numbered(number: usize) -> Stand {
        Stand { name: format!("server-{number}"), weight: 1, backup: false, max_requests: u32::MAX }
    }

    /// `n` of them.
    pub fn equal(n: usize) -> Vec<Stand> {
        (0..n).map(Stand::numbered).collect()
    }

    /// One for each weight.
    pub fn weighted(weights: &[u16]) -> Vec<Stand> {
        weights.iter().enumerate().map(|(i, &weight)| Stand { weight, ..Stand::numbered(i) }).collect()
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With an answer.
    Answered,
    /// With a failure of the server.
    Failed,
}

/// Something that chooses servers, by their place in the list that it was made for.
pub trait Subject {
    /// Chooses a server, not one of `tried`, and takes one of its slots; `None` when no server can take the request.
    fn pick(&mut self, key: u64, tried: &[u32]) -> Option<usize>;
    /// The oldest request in flight at a server ends.
    fn end(&mut self, server: usize, how: End);
    /// A server refused a connection: it is down for the next second.
    fn refuse(&mut self, server: usize);
    /// Microseconds pass.
    fn wait(&mut self, microseconds: u64);
}

/// Makes a subject for these servers; the same seed makes the same one.
pub type Maker<'a> = dyn Fn(&[Stand], u64) -> Box<dyn Subject> + 'a;

/// Production's balancer with a clock and the leases that are out.
pub struct Plimsoll {
    balancer: Rc<Balancer>,
    dice: Dice,
    now: Micros,
    leases: Vec<VecDeque<Lease>>,
}

impl Plimsoll {
    /// Stands a policy before these servers.
    pub fn new(balance: &Balance, servers: &[Stand], seed: u64) -> Plimsoll {
        let server = |stand: &Stand| model::Server {
            weight: stand.weight,
            backup: stand.backup,
            max_requests: stand.max_requests,
            ..model::Server::new(&stand.name, model::Address::Name(stand.name.clone(), 80))
        };
        let servers: Vec<model::Server> = servers.iter().map(server).collect();
        let leases = servers.iter().map(|_| VecDeque::new()).collect();
        let spec = model::Backend::new("verified", servers, balance.clone());
        let mut dice = Dice::new(seed);
        let balancer = Balancer::new(Arc::new(Backend::new(&spec, None)), &mut dice);
        Plimsoll { balancer, dice, now: Micros(0), leases }
    }
}

impl Subject for Plimsoll {
    fn pick(&mut self, key: u64, tried: &[u32]) -> Option<usize> {
        let ask = Ask { now: self.now, key, tried };
        match self.balancer.pick(&ask, &mut self.dice) {
            Ok(lease) => {
                let server = lease.index() as usize;
                self.leases[server].push_back(lease);
                Some(server)
            }
            Err(NoServer::Full | NoServer::Tried | NoServer::None) => None,
        }
    }

    fn end(&mut self, server: usize, how: End) {
        let result = match how {
            End::Answered => Verdict::Answered,
            End::Failed => Verdict::Failed,
        };
        if let Some(lease) = self.leases[server].pop_front() {
            lease.finish(&Outcome::new(self.now, result));
        }
    }

    fn refuse(&mut self, server: usize) {
        self.balancer.backend().servers[server].live.refused(self.now.millis());
    }

    fn wait(&mut self, microseconds: u64) {
        self.now = Micros(self.now.0 + microseconds);
    }
}
