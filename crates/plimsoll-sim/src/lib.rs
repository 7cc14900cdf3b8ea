//! A seeded world of clients, workers and servers that drives the balancing code which production runs.
//!
//! In goes a `World` (how many servers, how fast, how much load, which policy, which seed), out comes a `Report`. It is a
//! discrete-event simulation: one heap ordered by time and then by creation, so one seed always gives one result. It
//! owns time and chance and models the servers; it must never make a choice that `plimsoll-traffic` makes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use plimsoll_config::model::{self, Balance};
use plimsoll_traffic::{Ask, Backend, Balancer, Dice, Lease, Micros, Outcome, Verdict};

/// Ticks in one mean service time: fine enough that rounding is far below the noise.
const TICKS: f64 = 1e6;
/// Ticks in a microsecond of the balancer's clock: a mean service takes 10 ms.
const TICKS_PER_MICRO: u64 = 100;
/// One request in so many is served before measuring begins, for the queues to fill.
const WARM_UP: u64 = 10;

/// What to simulate. Time is counted in mean service times of a server of speed 1.
#[derive(Debug, Clone)]
pub struct World {
    /// Fixes everything that is left to chance.
    pub seed: u64,
    /// The policy under test.
    pub balance: Balance,
    /// One entry a server: its speed and weight.
    pub machines: Vec<Machine>,
    /// Workers, each with its own balancer; requests reach them at random.
    pub workers: usize,
    /// Arrivals in one mean service time, over all servers (Poisson).
    pub load: f64,
    /// Requests that arrive in all.
    pub requests: u64,
}

/// A server with one core and a queue, first come first served; service times are exponential.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// 1 serves one request in one mean service time; 0 accepts requests and never answers.
    pub speed: f64,
    /// As in the configuration.
    pub weight: u16,
}

/// What happened; of the warm-up only `assigned` tells.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Requests assigned to each server.
    pub assigned: Vec<u64>,
    /// Waiting plus service of each request that ended, in order of their end.
    pub sojourns: Vec<f64>,
    /// How long it took until all had ended.
    pub span: f64,
    /// Requests in the system, averaged over the span.
    pub mean_in_system: f64,
}

impl World {
    /// `n` equal servers at `utilisation` (0 to 1) each, one worker.
    pub fn uniform(balance: Balance, n: usize, utilisation: f64, requests: u64, seed: u64) -> World {
        let machines = vec![Machine::STANDARD; n];
        World { seed, balance, machines, workers: 1, load: utilisation * n as f64, requests }
    }

    /// Runs until nothing more can happen: all requests have arrived, and ended unless their server never answers.
    /// Ending sooner would leave out the requests that wait longest.
    pub fn run(&self) -> Report {
        let mut run = Run::new(self);
        while run.step() {}
        run.report()
    }

    fn backend(&self) -> Backend {
        let server = |(index, machine): (usize, &Machine)| {
            let name = format!("server-{index}");
            let address = model::Address::Name(name.clone(), 80);
            model::Server { weight: machine.weight, ..model::Server::new(&name, address) }
        };
        let servers = self.machines.iter().enumerate().map(server).collect();
        let spec = model::Backend::new("simulated", servers, self.balance.clone());
        Backend::new(&spec, None)
    }
}

impl Machine {
    /// The measure of time.
    pub const STANDARD: Machine = Machine { speed: 1.0, weight: 1 };
}

impl Report {
    /// The mean time in the system.
    pub fn mean_sojourn(&self) -> f64 {
        self.sojourns.iter().sum::<f64>() / self.sojourns.len() as f64
    }

    /// The time in the system that a part `q` (0 to 1) of the requests doesn't exceed.
    pub fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.sojourns.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * q) as usize]
    }

    /// A server's part of all that was assigned.
    pub fn share(&self, server: usize) -> f64 {
        self.assigned[server] as f64 / self.assigned.iter().sum::<u64>() as f64
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    /// The request at the head of this server's queue ends.
    End(usize),
}

/// A request at a server; its lease ends with it.
struct Request {
    arrived: u64,
    ticks: u64,
    lease: Lease,
}

/// A simulation under way.
struct Run<'a> {
    world: &'a World,
    backend: Arc<Backend>,
    workers: Vec<Rc<Balancer>>,
    dice: Dice,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    scheduled: u64,
    now: u64,
    queues: Vec<VecDeque<Request>>,
    arrived: u64,
    in_system: u64,
    /// The warm-up's end.
    since: u64,
    sojourns: Vec<f64>,
    /// The integral of the requests in the system over the time since then.
    request_ticks: u128,
}

impl<'a> Run<'a> {
    fn new(world: &'a World) -> Run<'a> {
        let (mut dice, backend) = (Dice::new(world.seed), Arc::new(world.backend()));
        let workers = (0..world.workers).map(|_| Balancer::new(Arc::clone(&backend), &mut dice)).collect();
        Run {
            world,
            backend,
            workers,
            dice,
            events: BinaryHeap::from([Reverse((0, 0, Event::Arrival))]),
            scheduled: 0,
            now: 0,
            queues: world.machines.iter().map(|_| VecDeque::new()).collect(),
            arrived: 0,
            in_system: 0,
            since: 0,
            sojourns: Vec::new(),
            request_ticks: 0,
        }
    }

    /// The next event; false when there is none.
    fn step(&mut self) -> bool {
        let Some(Reverse((at, _, event))) = self.events.pop() else {
            return false;
        };
        if self.warm() {
            self.request_ticks += u128::from(at - self.now) * u128::from(self.in_system);
        }
        self.now = at;
        match event {
            Event::Arrival => self.arrive(),
            Event::End(server) => self.end(server),
        }
        true
    }

    fn arrive(&mut self) {
        self.arrived += 1;
        if self.arrived == self.world.requests / WARM_UP {
            self.since = self.now;
        }
        if self.arrived < self.world.requests {
            let ticks = self.exponential(1.0 / self.world.load);
            self.schedule(ticks, Event::Arrival);
        }
        let worker = self.dice.below(self.workers.len() as u32) as usize;
        let ask = Ask { now: Micros(self.now / TICKS_PER_MICRO), key: self.dice.next(), tried: &[] };
        let ticks = self.exponential(1.0);
        let lease = self.workers[worker].pick(&ask, &mut self.dice).expect("no server is ever full");
        let server = lease.index() as usize;
        self.in_system += 1;
        self.queues[server].push_back(Request { arrived: self.now, ticks, lease });
        if self.queues[server].len() == 1 {
            self.begin(server);
        }
    }

    fn begin(&mut self, server: usize) {
        let speed = self.world.machines[server].speed;
        if let Some(request) = self.queues[server].front().filter(|_| speed > 0.0) {
            let ticks = (request.ticks as f64 / speed) as u64;
            self.schedule(ticks, Event::End(server));
        }
    }

    fn end(&mut self, server: usize) {
        let request =
            self.queues[server].pop_front().expect("an end is scheduled only for a request in the queue");
        self.in_system -= 1;
        request.lease.observe(&Outcome::new(Micros(self.now / TICKS_PER_MICRO), Verdict::Answered));
        if self.warm() && request.arrived >= self.since {
            self.sojourns.push((self.now - request.arrived) as f64 / TICKS);
        }
        self.begin(server);
    }

    fn warm(&self) -> bool {
        self.arrived >= self.world.requests / WARM_UP
    }

    fn schedule(&mut self, ticks: u64, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((self.now + ticks, self.scheduled, event)));
    }

    fn exponential(&mut self, mean: f64) -> u64 {
        (-(1.0 - self.dice.unit()).ln() * mean * TICKS) as u64
    }

    fn report(self) -> Report {
        let ticks = (self.now - self.since) as f64;
        Report {
            assigned: self.backend.servers.iter().map(|s| s.live.assigned()).collect(),
            sojourns: self.sojourns,
            span: ticks / TICKS,
            mean_in_system: self.request_ticks as f64 / ticks,
        }
    }
}
