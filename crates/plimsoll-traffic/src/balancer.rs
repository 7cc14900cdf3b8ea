//! Which server takes the next request.
//!
//! In come the question (`Ask`) and the dice, out comes a `Lease` on one server or the reason why there is none. One
//! `Balancer` belongs to one worker; what workers share is only each server's `Live`. A pick never allocates, never
//! chooses a server that is not eligible, and all workers together never exceed `max_requests`.
//!
//! Eligible is a server with weight, not tried by this request, with room, in the first of these groups that has any
//! server at all: primaries; backups; primaries that refused a connection in the last second; backups that did. So full
//! primaries don't bring in the backups (as in HAProxy): the answer is then `Full`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use plimsoll_config::model::Balance;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::backend::Backend;
use crate::dice::Dice;
use crate::ewma::{Ewma, Load};
use crate::outcome::Outcome;
use crate::recent::Recent;
use crate::rotation::Rotation;
use crate::server::Server;
use crate::time::Micros;

/// `p2c` looks at all servers when there are no more than this: a scan of four costs as little as two draws, and chooses better.
const FULL_SCAN: usize = 4;
/// Draws that may hit an ineligible server before all are scanned.
const DRAWS: usize = 8;
/// Picks that may lose a server's last slot to another worker before any free slot is taken.
const RACES: usize = 4;

/// A worker's view of one backend: it chooses, and owns what only this worker needs to remember.
#[derive(Debug)]
pub struct Balancer {
    backend: Arc<Backend>,
    policy: Policy,
    /// The eligible servers of the pick at hand. As long as the backend from the start, so that a pick never allocates.
    eligible: RefCell<Vec<u32>>,
}

/// The policy with the memory of this worker.
#[derive(Debug)]
enum Policy {
    P2c(Recent),
    RoundRobin([Rotation; 2]),
    LeastConn(Recent),
    Random,
    Hash,
    First,
    Ewma(Ewma),
}

/// What a request asks of a backend.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The time.
    pub now: Micros,
    /// [`hash_key`] of what the backend hashes by; other policies don't look at it.
    pub key: u64,
    /// Indices of the servers that this request has tried.
    pub tried: &'a [u32],
}

/// Why no server was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoServer {
    /// Each one that could serve has `max_requests` in flight.
    Full,
    /// This request has tried all of them.
    Tried,
    /// All weights are 0.
    None,
}

/// A slot of a server, given back when dropped: at the end, on cancel, on panic.
#[derive(Debug)]
#[must_use = "dropping a lease gives the slot back"]
pub struct Lease {
    balancer: Rc<Balancer>,
    index: u32,
    /// Nobody has said yet what became of the request.
    waits: Cell<bool>,
    /// When the server was chosen.
    since: Micros,
}

/// A group of servers that stand in for one another; see the head of this file.
#[derive(Debug, Clone, Copy)]
struct Group {
    tier: usize,
    refused: bool,
}

const GROUPS: [Group; 4] = [
    Group { tier: 0, refused: false },
    Group { tier: 1, refused: false },
    Group { tier: 0, refused: true },
    Group { tier: 1, refused: true },
];

impl Balancer {
    /// A balancer for one worker. Where turns and ties begin is random, so that workers don't march in step.
    pub fn new(backend: Arc<Backend>, dice: &mut Dice) -> Rc<Balancer> {
        let servers = backend.servers.len();
        let weights: Vec<u16> = backend.servers.iter().map(|s| s.weight).collect();
        let policy = match &backend.balance {
            Balance::P2c => Policy::P2c(Recent::new(servers, dice)),
            Balance::RoundRobin => {
                Policy::RoundRobin([0, 1].map(|t| Rotation::new(&backend.tiers[t].members, &weights, dice)))
            }
            Balance::LeastConn => Policy::LeastConn(Recent::new(servers, dice)),
            Balance::Random => Policy::Random,
            Balance::Hash(_) => Policy::Hash,
            Balance::First => Policy::First,
            Balance::Ewma(parameters) => {
                let lives = backend.servers.iter().map(|s| &*s.live);
                Policy::Ewma(Ewma::new(parameters.decay, lives, Recent::new(servers, dice)))
            }
        };
        Rc::new(Balancer { backend, policy, eligible: RefCell::new(Vec::with_capacity(servers)) })
    }

    /// The backend it chooses from.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Chooses a server and takes one of its slots.
    ///
    /// # Errors
    /// The reason why no server can take this request.
    pub fn pick(self: &Rc<Self>, ask: &Ask<'_>, dice: &mut Dice) -> Result<Lease, NoServer> {
        for _ in 0..RACES {
            let index = match self.glance(ask, dice) {
                Some(index) => index,
                None => self.study(ask, dice)?,
            };
            if let Some(lease) = self.lease(index, ask.now) {
                return Ok(lease);
            }
        }
        // Others keep taking the last slots: no time for preferences.
        self.survey(ask)?;
        let eligible = self.eligible.borrow();
        eligible.iter().find_map(|&index| self.lease(index, ask.now)).ok_or(NoServer::Full)
    }

    /// The way of nearly every pick: touches a few servers, never all. `None` when they were not enough to decide.
    fn glance(&self, ask: &Ask<'_>, dice: &mut Dice) -> Option<u32> {
        let group = GROUPS[0];
        let tier = &self.backend.tiers[group.tier];
        let open = |index: &u32| self.open(*index, ask, group);
        match &self.policy {
            Policy::P2c(_) if tier.members.len() <= FULL_SCAN + ask.tried.len() => None,
            Policy::P2c(recent) => {
                let a = (0..DRAWS).find_map(|_| tier.weights.draw(dice).filter(open))?;
                let b = (0..DRAWS).find_map(|_| tier.weights.draw_except(a, dice).filter(open))?;
                Some(self.lighter(a, b, recent))
            }
            Policy::Ewma(ewma) => {
                let a = (0..DRAWS).find_map(|_| tier.weights.draw(dice).filter(open))?;
                let b = (0..DRAWS).find_map(|_| tier.weights.draw_except(a, dice).filter(open))?;
                Some(self.cheaper(a, b, ewma, ask.now))
            }
            Policy::Random => (0..DRAWS).find_map(|_| tier.weights.draw(dice).filter(open)),
            Policy::Hash => tier.maglev.servers(ask.key).find(open),
            Policy::First => tier.members.iter().copied().find(open),
            Policy::RoundRobin(rotations) => match &rotations[group.tier] {
                Rotation::Queue(queue) => queue.turn(|index| open(&index)),
                Rotation::Smooth(_) => None,
            },
            Policy::LeastConn(_) => None,
        }
    }

    /// The exact way: looks at every server, and decides among all that are eligible.
    fn study(&self, ask: &Ask<'_>, dice: &mut Dice) -> Result<u32, NoServer> {
        let group = self.survey(ask)?;
        let eligible = self.eligible.borrow();
        let chosen = match &self.policy {
            Policy::P2c(recent) if eligible.len() <= FULL_SCAN => self.lightest(&eligible, recent),
            Policy::P2c(recent) => {
                let a = self.draw(&eligible, None, dice);
                self.lighter(a, self.draw(&eligible, Some(a), dice), recent)
            }
            Policy::Ewma(ewma) if eligible.len() > 1 => {
                let a = self.draw(&eligible, None, dice);
                self.cheaper(a, self.draw(&eligible, Some(a), dice), ewma, ask.now)
            }
            Policy::Ewma(_) => eligible[0],
            Policy::LeastConn(recent) => self.lightest(&eligible, recent),
            Policy::Random => self.draw(&eligible, None, dice),
            Policy::Hash => {
                let mut table = self.backend.tiers[group.tier].maglev.servers(ask.key);
                table
                    .find(|&index| self.open(index, ask, group))
                    .unwrap_or_else(|| self.nearest(&eligible, ask.key))
            }
            Policy::First => eligible[0],
            Policy::RoundRobin(rotations) => match &rotations[group.tier] {
                Rotation::Queue(queue) => queue.turn(|index| self.open(index, ask, group)),
                Rotation::Smooth(smooth) => smooth.turn(&eligible),
            }
            .unwrap_or(eligible[0]),
        };
        Ok(chosen)
    }

    /// Collects the eligible servers (at least one) and names their group.
    fn survey(&self, ask: &Ask<'_>) -> Result<Group, NoServer> {
        let mut eligible = self.eligible.borrow_mut();
        eligible.clear();
        for group in GROUPS {
            let mut full = false;
            for &index in &self.backend.tiers[group.tier].members {
                if self.in_group(index, ask, group) {
                    if self.has_room(index) {
                        eligible.push(index);
                    } else {
                        full = true;
                    }
                }
            }
            if !eligible.is_empty() {
                return Ok(group);
            }
            if full {
                return Err(NoServer::Full);
            }
        }
        let weightless = self.backend.tiers.iter().all(|tier| tier.members.is_empty());
        Err(if weightless { NoServer::None } else { NoServer::Tried })
    }

    fn open(&self, index: u32, ask: &Ask<'_>, group: Group) -> bool {
        self.in_group(index, ask, group) && self.has_room(index)
    }

    /// For a member of the group's tier.
    fn in_group(&self, index: u32, ask: &Ask<'_>, group: Group) -> bool {
        self.server(index).live.is_refused(ask.now.millis()) == group.refused && !ask.tried.contains(&index)
    }

    fn has_room(&self, index: u32) -> bool {
        let server = self.server(index);
        server.live.in_flight() < server.max_requests
    }

    fn server(&self, index: u32) -> &Server {
        &self.backend.servers[index as usize]
    }

    fn weight(&self, index: u32) -> u64 {
        u64::from(self.server(index).weight)
    }

    /// The one with less in flight for its weight; of equals the one with fewer recent picks for its weight; else `a`.
    fn lighter(&self, a: u32, b: u32, recent: &Recent) -> u32 {
        let (weight_a, weight_b) = (self.weight(a), self.weight(b));
        let in_flight = |index| u64::from(self.server(index).live.in_flight());
        let order = (in_flight(a) * weight_b).cmp(&(in_flight(b) * weight_a));
        if order.then_with(|| recent.compare((a, weight_a), (b, weight_b))).is_gt() { b } else { a }
    }

    /// The one where a request costs less; of equals the one with fewer recent picks for its weight; else `a`.
    fn cheaper(&self, a: u32, b: u32, ewma: &Ewma, now: Micros) -> u32 {
        let cost = |index: u32| {
            let server = self.server(index);
            let weight = f32::from(server.weight) / self.backend.mean_weight;
            ewma.cost(&server.live, Load { in_flight: server.live.in_flight(), weight }, now)
        };
        let (weight_a, weight_b) = (self.weight(a), self.weight(b));
        let order = cost(a).total_cmp(&cost(b));
        if order.then_with(|| ewma.recent.compare((a, weight_a), (b, weight_b))).is_gt() { b } else { a }
    }

    fn lightest(&self, eligible: &[u32], recent: &Recent) -> u32 {
        eligible.iter().copied().reduce(|a, b| self.lighter(a, b, recent)).expect("the survey found one")
    }

    /// Draws one of `eligible`, or one but `except`, by weight.
    fn draw(&self, eligible: &[u32], except: Option<u32>, dice: &mut Dice) -> u32 {
        let weights = || eligible.iter().filter(|&&i| Some(i) != except).map(|&i| (i, self.weight(i)));
        let mut place = dice.below_u64(weights().map(|(_, weight)| weight).sum());
        for (index, weight) in weights() {
            if place < weight {
                return index;
            }
            place -= weight;
        }
        eligible[0]
    }

    /// Weighted rendezvous hashing (Thaler and Ravishankar, 1998): for a key whose slots in the table are all out.
    /// Like the table it moves only the keys of a server that goes.
    fn nearest(&self, eligible: &[u32], key: u64) -> u32 {
        let distance = |index: u32| {
            let hash = xxh3_64_with_seed(&key.to_le_bytes(), hash_key(self.server(index).name.as_bytes()));
            let unit = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            -unit.ln() / self.weight(index) as f64
        };
        eligible
            .iter()
            .copied()
            .min_by(|&a, &b| distance(a).total_cmp(&distance(b)))
            .expect("the survey found one")
    }

    /// What the policy makes of an outcome; `None`: nobody says what became of the request.
    fn learn(&self, index: u32, since: Micros, outcome: Option<&Outcome<'_>>) {
        if let Policy::Ewma(ewma) = &self.policy {
            let live = &self.server(index).live;
            live.end_wait(since);
            if let Some(outcome) = outcome {
                ewma.learn(live, since, outcome);
            }
        }
    }

    /// Takes a slot; `None` when another worker took the last one meanwhile.
    fn lease(self: &Rc<Self>, index: u32, now: Micros) -> Option<Lease> {
        let server = self.server(index);
        if !server.live.take(server.max_requests) {
            return None;
        }
        match &self.policy {
            Policy::P2c(recent) | Policy::LeastConn(recent) => recent.count(index, now.millis()),
            Policy::Ewma(ewma) => {
                ewma.recent.count(index, now.millis());
                server.live.begin_wait(now);
            }
            _ => {}
        }
        Some(Lease { balancer: Rc::clone(self), index, waits: Cell::new(true), since: now })
    }
}

impl Lease {
    /// The server's index in its backend.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The server.
    pub fn server(&self) -> &Server {
        self.balancer.server(self.index)
    }

    /// Tells the policy what became of the request: once, when the head of the answer has come or the attempt has failed.
    /// The slot is still held: a body may take long and says nothing about the server. Later calls change nothing.
    pub fn observe(&self, outcome: &Outcome<'_>) {
        if self.waits.replace(false) {
            self.balancer.learn(self.index, self.since, Some(outcome));
        }
    }

    /// The same, and gives the slot back.
    pub fn finish(self, outcome: &Outcome<'_>) {
        self.observe(outcome);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.waits.get() {
            self.balancer.learn(self.index, self.since, None);
        }
        self.server().live.give_back();
    }
}

/// The hash of a key for [`Ask::key`]: XXH3, 64 bits, seed 0. It is the same on every machine and stays so, since with it
/// every key keeps its server across restarts, instances and releases.
pub fn hash_key(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_key_is_xxh3_and_stays_so() {
        assert_eq!(hash_key(b""), 0x2d06_8005_38d3_94c2);
    }
}
