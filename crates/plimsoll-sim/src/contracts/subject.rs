//! What a contract is held against: anything that chooses a server.
//!
//! `Plimsoll` stands on the balancer of production; tests put deliberately wrong choosers in its place, so that each contract is seen
//! to break. A subject owns its state and chance; a contract owns the traffic.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use plimsoll_config::model;
use plimsoll_traffic::{
    Ask, Backend, Balancer, Dice, Lease, Micros, NoServer, Outcome, Report, Session, Verdict,
};

/// A server as a contract sets it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stand {
    /// What hashes go by.
    pub name: String,
    /// 0 takes nothing.
    pub weight: u16,
    /// 0 serves first.
    pub priority: u8,
    /// Serves only when no other can.
    pub backup: bool,
    /// Requests in flight at once.
    pub max_requests: u32,
}

impl Stand {
    /// A server of weight 1 with room for everything, named by its number.
    pub fn numbered(number: usize) -> Stand {
        Stand {
            name: format!("server-{number}"),
            weight: 1,
            priority: 0,
            backup: false,
            max_requests: u32::MAX,
        }
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
    /// As `pick`, for a request that belongs to a session. Who knows no sessions goes by its key, or picks.
    fn keep(&mut self, session: Session, tried: &[u32]) -> Option<usize> {
        match session {
            Session::Key(key) => self.pick(key, tried),
            Session::Server(_) => self.pick(0, tried),
        }
    }
    /// The server that is to be asked for its load now, if any.
    fn asks(&mut self) -> Option<usize> {
        None
    }
    /// A server says how many requests are in flight there and how long one takes, in microseconds.
    fn hear(&mut self, _server: usize, _in_flight: u32, _latency: f32) {}
}

/// A subject whose requests all belong to sessions that go by their keys.
pub(super) struct ByKey(pub(super) Box<dyn Subject>);

impl Subject for ByKey {
    fn pick(&mut self, key: u64, tried: &[u32]) -> Option<usize> {
        self.0.keep(Session::Key(key), tried)
    }
    fn end(&mut self, server: usize, how: End) {
        self.0.end(server, how);
    }
    fn refuse(&mut self, server: usize) {
        self.0.refuse(server);
    }
    fn wait(&mut self, microseconds: u64) {
        self.0.wait(microseconds);
    }
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
    /// Stands a backend without servers before these. The seed tells one instance from another too.
    pub fn new(backend: &model::Backend, servers: &[Stand], seed: u64) -> Plimsoll {
        let server = |stand: &Stand| model::Server {
            weight: stand.weight,
            backup: stand.backup,
            priority: stand.priority,
            max_requests: stand.max_requests,
            ..model::Server::new(&stand.name, model::Address::Name(stand.name.clone(), 80))
        };
        let servers: Vec<model::Server> = servers.iter().map(server).collect();
        let leases = servers.iter().map(|_| VecDeque::new()).collect();
        let mut spec = model::Backend { servers, ..backend.clone() };
        if let Some(subset) = &mut spec.subset {
            subset.instance = format!("{}-{seed}", subset.instance);
        }
        let mut dice = Dice::new(seed);
        let balancer = Balancer::new(Arc::new(Backend::new(&spec, None)), &mut dice);
        Plimsoll { balancer, dice, now: Micros(0), leases }
    }
}

impl Plimsoll {
    fn hold(&mut self, lease: Lease) -> usize {
        let server = lease.index() as usize;
        self.leases[server].push_back(lease);
        server
    }
}

impl Subject for Plimsoll {
    fn pick(&mut self, key: u64, tried: &[u32]) -> Option<usize> {
        let ask = Ask { now: self.now, key, tried };
        match self.balancer.pick(&ask, &mut self.dice) {
            Ok(lease) => Some(self.hold(lease)),
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

    /// As production's routes: the session's own server, or whom the policy picks.
    fn keep(&mut self, session: Session, tried: &[u32]) -> Option<usize> {
        let ask = Ask { now: self.now, key: 0, tried };
        match self.balancer.keep(session, &ask) {
            Some(lease) => Some(self.hold(lease)),
            None => self.pick(0, tried),
        }
    }

    fn asks(&mut self) -> Option<usize> {
        self.balancer.next_probe(&mut self.dice).map(|server| server as usize)
    }

    fn hear(&mut self, server: usize, in_flight: u32, latency: f32) {
        let report = Report { in_flight: Some(in_flight), latency: Some(latency), ..Report::default() };
        self.balancer.hear(server as u32, &report, None, self.now);
    }
}
