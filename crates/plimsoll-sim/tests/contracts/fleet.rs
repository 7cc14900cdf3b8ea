//! What wrong policies are made of: the counts of a fleet, who can serve, and a rule that chooses.
//!
//! It keeps the states right, so that what a contract notices is the rule alone.

use plimsoll_sim::contracts::{End, Stand, Subject};
use plimsoll_traffic::Dice;

/// The servers and what is known of them.
pub(crate) struct Fleet {
    pub(crate) servers: Vec<Stand>,
    pub(crate) in_flight: Vec<u32>,
    pub(crate) picks: Vec<u64>,
    down_until: Vec<u64>,
    now: u64,
    pub(crate) dice: Dice,
}

/// Chooses for a key and what was tried.
pub(crate) type Rule = Box<dyn FnMut(&mut Fleet, u64, &[u32]) -> Option<usize>>;

/// A fleet with a rule.
pub(crate) struct Ruled {
    pub(crate) fleet: Fleet,
    rule: Rule,
}

impl Ruled {
    pub(crate) fn boxed(servers: &[Stand], seed: u64, rule: Rule) -> Box<dyn Subject> {
        Box::new(Ruled::new(servers, seed, rule))
    }

    pub(crate) fn new(servers: &[Stand], seed: u64, rule: Rule) -> Ruled {
        let n = servers.len();
        let fleet = Fleet {
            servers: servers.to_vec(),
            in_flight: vec![0; n],
            picks: vec![0; n],
            down_until: vec![0; n],
            now: 0,
            dice: Dice::new(seed),
        };
        Ruled { fleet, rule }
    }
}

impl Fleet {
    pub(crate) fn is_up(&self, server: usize) -> bool {
        self.down_until[server] <= self.now
    }

    pub(crate) fn has_room(&self, server: usize) -> bool {
        self.in_flight[server] < self.servers[server].max_requests
    }

    /// With weight and not tried, whatever its state.
    pub(crate) fn candidates(&self, tried: &[u32]) -> Vec<usize> {
        (0..self.servers.len())
            .filter(|&i| self.servers[i].weight > 0 && !tried.contains(&(i as u32)))
            .collect()
    }

    /// Who can serve, as a balancer should see it.
    pub(crate) fn eligible(&self, tried: &[u32]) -> Vec<usize> {
        let all = self.candidates(tried);
        let part = |backup: bool, up: bool| -> Vec<usize> {
            let fits = |i: &usize| self.servers[*i].backup == backup && (!up || self.is_up(*i));
            all.iter().copied().filter(fits).collect()
        };
        let classes = [part(false, true), part(true, true), part(false, false), part(true, false)];
        let class = classes.into_iter().find(|class| !class.is_empty()).unwrap_or_default();
        class.into_iter().filter(|&i| self.has_room(i)).collect()
    }

    /// One of them at random, all alike.
    pub(crate) fn any(&mut self, of: &[usize]) -> Option<usize> {
        if of.is_empty() { None } else { Some(of[self.dice.below(of.len() as u32) as usize]) }
    }
}

impl Subject for Ruled {
    fn pick(&mut self, key: u64, tried: &[u32]) -> Option<usize> {
        let server = (self.rule)(&mut self.fleet, key, tried)?;
        self.fleet.in_flight[server] += 1;
        self.fleet.picks[server] += 1;
        Some(server)
    }

    fn end(&mut self, server: usize, _: End) {
        let in_flight = &mut self.fleet.in_flight[server];
        *in_flight = in_flight.saturating_sub(1);
    }

    fn refuse(&mut self, server: usize) {
        self.fleet.down_until[server] = self.fleet.now + 1_000_000;
    }

    fn wait(&mut self, microseconds: u64) {
        self.fleet.now += microseconds;
    }
}
