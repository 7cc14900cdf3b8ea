//! The balancers: every instance and worker with the objects that production's have.
//!
//! A pick and the end of an attempt each pass through one function here, so that what production is told about a request the
//! simulated one is told too. In come virtual time and who asks, out comes a server. It decides nothing itself.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use plimsoll_config::model::{self, Class};
use plimsoll_traffic::{
    Ask, Backend, Balancer, Denied, Dice, Lease, Micros, NoServer, Outcome, Place, Rank, Refusal, Savings,
    Verdict, Wish, permit,
};

use crate::gauge::Said;
use crate::policy::Kind;
use crate::reference::Referee;
use crate::told::Told;
use crate::world::World;

/// Nanoseconds in a microsecond.
const MICRO: u64 = 1_000;
/// How often production's workers hand over what requests have earned, in nanoseconds.
const DEPOSIT_EVERY: u64 = 50_000_000;

/// What holds a place on a server until it is given back to `Front::end`.
#[derive(Debug)]
pub(crate) struct Held {
    /// In the world's order.
    pub(crate) server: u32,
    /// When it was picked, in nanoseconds.
    since: u64,
    hold: Hold,
}

#[derive(Debug)]
enum Hold {
    Lease(Lease),
    Reference,
}

#[derive(Debug)]
struct Worker {
    balancer: Rc<Balancer>,
    dice: Dice,
    savings: Savings,
    /// When they were handed over last, in nanoseconds.
    handed: u64,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A good answer.
    Answered,
    /// An answer that says the server failed.
    Error,
    /// The connection was refused.
    Refused,
    /// The connection broke.
    Reset,
    /// Nothing came in time.
    TimedOut,
    /// The client went away.
    Abandoned,
}

/// All balancers of a run.
#[derive(Debug)]
pub(crate) enum Front {
    Production(Production),
    Reference { referee: Referee, workers: usize, unit: f64 },
}

#[derive(Debug)]
pub(crate) struct Production {
    pattern: Box<model::Backend>,
    instances: Vec<Arc<Backend>>,
    /// By instance and then by worker.
    workers: Vec<Worker>,
    /// Production's indices to the world's, for the configuration in force.
    servers: Vec<u32>,
    tried: Vec<u32>,
}

impl Fate {
    fn reason(self) -> &'static str {
        match self {
            Fate::Answered | Fate::Abandoned => "",
            Fate::Error => "an error",
            Fate::Refused => "refused",
            Fate::Reset => "reset",
            Fate::TimedOut => "timed out",
        }
    }

    /// As the proxy tells it.
    fn verdict(self) -> Verdict {
        match self {
            Fate::Answered => Verdict::Answered,
            Fate::Error | Fate::Refused | Fate::Reset | Fate::TimedOut => Verdict::Failed,
            Fate::Abandoned => Verdict::Cancelled,
        }
    }
}

impl Front {
    /// `dice` seeds the dice of every worker.
    pub(crate) fn new(world: &World, kind: &Kind, unit: f64, dice: &mut Dice) -> Front {
        match kind {
            Kind::Production(pattern) => {
                let backend = |_| Arc::new(Backend::new(&world.backend(pattern, &[]), None));
                let mut production = Production {
                    pattern: pattern.clone(),
                    instances: (0..world.instances).map(backend).collect(),
                    workers: Vec::new(),
                    servers: (0..world.servers.len() as u32).collect(),
                    tried: Vec::new(),
                };
                let seeds = (0..world.instances * world.workers).map(|_| Dice::new(dice.next())).collect();
                production.staff(seeds);
                Front::Production(production)
            }
            Kind::Reference(policy) => {
                let own = Dice::new(dice.next());
                let (servers, instances) = (world.servers.len(), world.instances as usize);
                let referee = Referee::new(*policy, servers, instances, own);
                Front::Reference { referee, workers: world.workers as usize, unit }
            }
        }
    }

    /// Chooses a server for a request that has just come: none while others wait, as in production's exchange.
    pub(crate) fn pick_in_turn(
        &mut self,
        worker: usize,
        now: u64,
        key: u64,
        tried: &[u32],
    ) -> Result<Held, NoServer> {
        match self {
            Front::Production(production) if !production.workers[worker].balancer.is_open(None) => {
                Err(NoServer::Full)
            }
            _ => self.pick(worker, now, key, tried),
        }
    }

    /// Whether requests wait for a server at all.
    pub(crate) fn queues(&self) -> bool {
        matches!(self, Front::Production(production) if production.pattern.queue.is_some())
    }

    /// Takes a place among those who wait; also gives the nanoseconds after which it is lost.
    pub(crate) fn wait(
        &mut self,
        worker: usize,
        now: u64,
        (key, high): (u64, bool),
        tried: &[u32],
        waker: &Waker,
    ) -> Result<(Place, u64), Refusal> {
        match self {
            Front::Production(production) => production.wait(worker, now, (key, high), tried, waker),
            Front::Reference { .. } => Err(Refusal::Full),
        }
    }

    /// Time has passed for those who wait at that worker's instance.
    pub(crate) fn look_at_queue(&self, worker: usize, now: u64) {
        if let Front::Production(production) = self {
            production.workers[worker].balancer.look_at_queue(Micros(now / MICRO));
        }
    }

    /// Chooses a server for an attempt. `tried` are the world's indices.
    pub(crate) fn pick(
        &mut self,
        worker: usize,
        now: u64,
        key: u64,
        tried: &[u32],
    ) -> Result<Held, NoServer> {
        match self {
            Front::Production(production) => {
                let (server, lease) = production.pick(worker, now, key, tried)?;
                Ok(Held { server, since: now, hold: Hold::Lease(lease) })
            }
            Front::Reference { referee, workers, unit } => {
                let server = referee.pick(worker / *workers, now as f64 / *unit, tried);
                Ok(Held { server, since: now, hold: Hold::Reference })
            }
        }
    }

    /// Whether what servers report of their load is of use.
    pub(crate) fn hears(&self) -> bool {
        match self {
            Front::Production(production) => {
                production.workers.first().is_some_and(|worker| worker.balancer.hears())
            }
            Front::Reference { referee, .. } => referee.policy().hears(),
        }
    }

    /// Answers the probes that are due: `says` what a server would say. A probe takes no time here.
    pub(crate) fn probe(&mut self, worker: usize, now: u64, says: impl Fn(u32) -> Said) {
        match self {
            Front::Production(production) => {
                let Worker { balancer, dice, .. } = &mut production.workers[worker];
                while let Some(index) = balancer.next_probe(dice) {
                    let said = says(production.servers[index as usize]);
                    balancer.hear(index, &said.report, None, Micros(now / MICRO));
                }
            }
            Front::Reference { referee, workers, .. } => referee.probe(worker / *workers, says),
        }
    }

    /// An answer carries what its server says of its load.
    pub(crate) fn hear(&mut self, worker: usize, held: &Held, said: &Said, now: u64) {
        match (self, &held.hold) {
            (_, Hold::Lease(lease)) => lease.hear(&said.report, Micros(now / MICRO)),
            (Front::Reference { referee, workers, .. }, Hold::Reference) => {
                referee.hear(worker / *workers, held.server, said);
            }
            _ => unreachable!("who has given a hold hears of it"),
        }
    }

    /// A request reaches its balancer. What was saved is handed over as often as production's workers do it: what lies about for longer
    /// would count as new when it is.
    pub(crate) fn save(&mut self, worker: usize, share: model::Share, now: u64) {
        if let Front::Production(production) = self {
            let Worker { balancer, savings, handed, .. } = &mut production.workers[worker];
            savings.save(share);
            if now - *handed >= DEPOSIT_EVERY {
                *handed = now;
                savings.hand_over(&balancer.backend().budget, Micros(now / MICRO).millis());
            }
        }
    }

    /// Leave for another attempt, and after how many milliseconds. A reference keeps to no budget.
    pub(crate) fn permit(&mut self, worker: usize, wish: &Wish, now: u64) -> Result<u64, Denied> {
        let Front::Production(production) = self else { return Ok(0) };
        let Worker { balancer, dice, savings, .. } = &mut production.workers[worker];
        let (budget, now) = (&balancer.backend().budget, Micros(now / MICRO).millis());
        savings.hand_over(budget, now);
        permit(wish, budget, now, dice)
    }

    /// A second server beside `first`, if production lets there be one. A reference never does.
    pub(crate) fn hedge(&mut self, worker: usize, now: u64, key: u64, first: u32) -> Option<Held> {
        let Front::Production(production) = self else { return None };
        let millis = Micros(now / MICRO).millis();
        let Worker { balancer, savings, .. } = &production.workers[worker];
        let balancer = Rc::clone(balancer);
        let backend = balancer.backend();
        savings.hand_over(&backend.budget, millis);
        backend.may_hedge(millis).ok()?;
        if !balancer.is_open(None) {
            return None;
        }
        let (server, lease) = production.pick(worker, now, key, &[first]).ok()?;
        backend.budget.withdraw(millis).then_some(Held { server, since: now, hold: Hold::Lease(lease) })
    }

    /// The connection to the picked server stands.
    pub(crate) fn connected(held: &Held, now: u64) {
        if let Hold::Lease(lease) = &held.hold {
            lease.connected(Micros(now / MICRO));
        }
    }

    /// An attempt has ended. `idle` says that nothing is left on its server.
    pub(crate) fn end(&mut self, worker: usize, held: Held, fate: Fate, now: u64, idle: bool) {
        match (self, held.hold) {
            (Front::Production(production), Hold::Lease(lease)) => {
                let now = Micros(now / MICRO);
                // Production's clock is a tick behind here; virtual time is exact.
                production.workers[worker].balancer.look_at_queue(now);
                if fate == Fate::Refused {
                    lease.server().live.refused(now.millis());
                }
                match fate {
                    Fate::Answered => lease.succeeded(now),
                    Fate::Reset | Fate::Refused => lease.broke(fate.reason(), now),
                    Fate::Error | Fate::TimedOut => {
                        lease.failed(fate.reason(), now);
                    }
                    Fate::Abandoned => {}
                }
                lease.finish(&Outcome::new(now, fate.verdict()));
            }
            (Front::Reference { referee, workers, unit }, Hold::Reference) => {
                let (since, now) = (held.since as f64 / *unit, now as f64 / *unit);
                referee.end(worker / *workers, held.server, since, now, fate == Fate::Answered, idle);
            }
            _ => unreachable!("who has given a hold takes it back"),
        }
    }

    /// Whether servers that fail, or whose checks do, are passed over.
    pub(crate) fn watches(&self) -> bool {
        let watches = |pattern: &model::Backend| pattern.eject.is_some() || pattern.check.is_some();
        matches!(self, Front::Production(production) if watches(&production.pattern))
    }

    /// Ends ejections, and judges what was counted.
    pub(crate) fn tick(&mut self, now: u64) {
        if let Front::Production(production) = self {
            production.instances.iter().for_each(|backend| backend.tick(Micros(now / MICRO).millis()));
        }
    }

    /// A reload without the servers that are `gone`, with what the others are told. A reference knows no reload.
    pub(crate) fn reload(&mut self, world: &World, gone: &[bool], told: &Told) {
        if let Front::Production(production) = self {
            production.reload(world, gone, told);
        }
    }

    /// The reference that needs a board of loads.
    pub(crate) fn board(&mut self) -> Option<&mut Referee> {
        match self {
            Front::Reference { referee, .. } if referee.policy().period().is_some() => Some(referee),
            _ => None,
        }
    }
}

impl Production {
    pub(crate) fn pattern(&self) -> &model::Backend {
        &self.pattern
    }

    /// How many there are.
    pub(crate) fn instances(&self) -> u32 {
        self.instances.len() as u32
    }

    pub(crate) fn instance(&self, instance: u32) -> &Backend {
        &self.instances[instance as usize]
    }

    /// Production's index of a server of the world; `None` for one that is gone.
    pub(crate) fn own(&self, server: u32) -> Option<usize> {
        self.servers.binary_search(&server).ok()
    }

    fn staff(&mut self, dice: Vec<Dice>) {
        let per_instance = dice.len() / self.instances.len();
        let worker = |(index, mut dice): (usize, Dice)| {
            let backend = Arc::clone(&self.instances[index / per_instance]);
            Worker {
                balancer: Balancer::new(backend, &mut dice),
                dice,
                savings: Savings::default(),
                handed: 0,
            }
        };
        self.workers = dice.into_iter().enumerate().map(worker).collect();
    }

    /// The world's indices as production's.
    fn note_tried(&mut self, tried: &[u32]) {
        self.tried.clear();
        if !tried.is_empty() {
            let own =
                (0u32..).zip(&self.servers).filter(|(_, world)| tried.contains(world)).map(|(own, _)| own);
            self.tried.extend(own);
        }
    }

    fn wait(
        &mut self,
        worker: usize,
        now: u64,
        (key, high): (u64, bool),
        tried: &[u32],
        waker: &Waker,
    ) -> Result<(Place, u64), Refusal> {
        self.note_tried(tried);
        let Some(queue) = &self.pattern.queue else { return Err(Refusal::Full) };
        let ask = Ask { now: Micros(now / MICRO), key, tried: &self.tried };
        let rank = Rank {
            class: if high { Class::High } else { Class::Normal },
            client: if queue.fair.is_some() { key } else { 0 },
        };
        let place = self.workers[worker].balancer.wait(&ask, rank, waker)?;
        // A microsecond more: what is due has to be due when the time is rounded down.
        Ok((place, queue.timeout.as_nanos() as u64 + MICRO))
    }

    fn pick(&mut self, worker: usize, now: u64, key: u64, tried: &[u32]) -> Result<(u32, Lease), NoServer> {
        self.note_tried(tried);
        let Worker { balancer, dice, .. } = &mut self.workers[worker];
        let ask = Ask { now: Micros(now / MICRO), key, tried: &self.tried };
        let lease = balancer.pick(&ask, dice)?;
        Ok((self.servers[lease.index() as usize], lease))
    }

    fn reload(&mut self, world: &World, gone: &[bool], told: &Told) {
        let mut spec = world.backend(&self.pattern, gone);
        self.servers = (0..world.servers.len() as u32).filter(|&s| !gone[s as usize]).collect();
        told.apply(&self.servers, &mut spec.servers);
        for instance in &mut self.instances {
            *instance = Arc::new(Backend::new(&spec, Some(instance)));
        }
        let dice = std::mem::take(&mut self.workers).into_iter().map(|worker| worker.dice).collect();
        self.staff(dice);
    }
}
