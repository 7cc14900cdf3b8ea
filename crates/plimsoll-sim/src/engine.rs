//! One run: the event loop, and the way of a request through it. The file to read first.
//!
//! In go a world, a policy and a seed, out comes a `Report`. What may happen to a request is all here: it arrives, an attempt
//! is picked for and delivered, the server answers or not, the balancer tries again as production's rules say, the client gives up or
//! tries once more. `front` asks production, `machine` works, `surroundings` changes the world. One seed gives one result.

use plimsoll_traffic::{Failure, NoServer, Pace};

use crate::arrivals::{Arrivals, Stream};
use crate::clients::Clients;
use crate::events::{Ending, Event, Events, Token};
use crate::front::{Fate, Front, Held};
use crate::gauge::Gauge;
use crate::hedging::paces;
use crate::law::exponential;
use crate::machine::{Degrade, Job, Machine};
use crate::policy::Policy;
use crate::queueing::Bells;
use crate::report::{BATCHES, End, Report};
use crate::requests::{Arrived, Requests};
use crate::streams::Streams;
use crate::surroundings::Surroundings;
use crate::world::World;

/// Events between two reports of progress.
const STRIDE: u64 = 1 << 16;
/// Looks at all servers' loads in a run, by arrivals.
const LOOKS: u64 = 2_000;

/// A run under way.
pub(crate) struct Run<'a> {
    pub(crate) world: &'a World,
    pub(crate) unit: f64,
    pub(crate) now: u64,
    pub(crate) events: Events,
    pub(crate) streams: Streams,
    pub(crate) front: Front,
    pub(crate) machines: Vec<Machine>,
    /// What servers know of their load; empty where nobody hears of it.
    pub(crate) gauges: Vec<Gauge>,
    pub(crate) requests: Requests,
    /// Those that wait for a server, and what they are called by.
    pub(crate) waiting: usize,
    pub(crate) bells: Bells,
    pub(crate) surroundings: Surroundings,
    clients: Clients,
    pub(crate) paces: Vec<Pace>,
    pub(crate) report: Report,
    stream: Option<Stream>,
    /// Arrivals in a nanosecond.
    pub(crate) rate: f64,
    pub(crate) arrived: u64,
    /// Of how many, and from which on they are measured.
    total: u64,
    warm: u64,
    /// When that one came.
    since: u64,
    /// The integral of the requests in the system over the time since then.
    request_time: u128,
}

impl World {
    /// Runs `policy` until all requests have arrived and ended, or nothing more can happen.
    pub fn run(&self, policy: &Policy, seed: u64) -> Report {
        self.run_telling(policy, seed, &mut |_| {})
    }

    /// The same; `progress` hears from time to time which part (0 to 1) of the requests has arrived.
    pub fn run_telling(&self, policy: &Policy, seed: u64, progress: &mut dyn FnMut(f64)) -> Report {
        let mut run = Run::new(self, policy, seed);
        run.begin();
        let mut count = 0u64;
        while let Some((at, event)) = run.events.pop() {
            run.pass(at);
            run.act(event);
            run.answer_bells();
            count += 1;
            if count.is_multiple_of(STRIDE) {
                progress(run.arrived as f64 / run.total as f64);
            }
            if run.arrived == run.total && run.requests.live() == 0 {
                break;
            }
        }
        run.report.events = count;
        run.finish()
    }
}

impl<'a> Run<'a> {
    fn new(world: &'a World, policy: &Policy, seed: u64) -> Run<'a> {
        let unit = world.unit_ms * 1e6;
        let mut streams = Streams::new(world, seed);
        let rate = world.load * world.capacity();
        let front = Front::new(world, &policy.kind, unit, &mut streams.balancers);
        let machine = |s: &crate::world::Server| {
            let degrade = s.degrade.map(|(alpha, from)| Degrade { alpha, from });
            Machine::new(s.cores, s.discipline, degrade, s.room, unit)
        };
        let traced = world.trace.as_ref().map_or(u64::MAX, |trace| trace.len() as u64);
        let total = world.requests.min(traced);
        Run {
            world,
            unit,
            now: 0,
            events: Events::default(),
            gauges: if front.hears() { vec![Gauge::default(); world.servers.len()] } else { Vec::new() },
            front,
            machines: world.servers.iter().map(machine).collect(),
            requests: Requests::default(),
            waiting: 0,
            bells: Bells::default(),
            surroundings: Surroundings::new(world, unit),
            clients: Clients::new(world),
            paces: paces(world),
            report: Report::new(world.servers.len(), world.capacity(), world.last_change()),
            stream: Stream::new(&world.arrivals, rate, &mut streams.arrivals),
            streams,
            rate: rate / unit,
            arrived: 0,
            total,
            warm: (total as f64 * world.warm_up) as u64,
            since: 0,
            request_time: 0,
        }
    }

    fn begin(&mut self) {
        self.begin_surroundings();
        match self.world.arrivals {
            Arrivals::Closed { clients, .. } => (0..clients.0).for_each(|client| self.think(client)),
            _ => self.schedule_arrival(),
        }
    }

    /// Time passes until `at`.
    fn pass(&mut self, at: u64) {
        if self.arrived > self.warm {
            self.request_time += u128::from(at - self.now) * self.requests.live() as u128;
        }
        self.now = at;
    }

    fn act(&mut self, event: Event) {
        match event {
            Event::Arrival => {
                self.schedule_arrival_after_this();
                self.arrive(0);
            }
            Event::Thought { client } => self.arrive(client),
            Event::Departure { server, version } => {
                if self.machines[server as usize].version == version {
                    self.depart(server);
                }
            }
            Event::Delivery(token) => {
                if self.requests.is_current(token) {
                    self.deliver(token);
                }
            }
            Event::Answer { token, how } => {
                if self.requests.is_current(token) {
                    self.answered(token, how);
                }
            }
            Event::HedgeDue(token) => {
                if self.requests.is_current(token) {
                    self.hedge(token);
                }
            }
            Event::FirstByteDue(token) => {
                if self.requests.is_current(token) && !self.has_lost(token, Ending::Reset) {
                    self.attempt_failed(token.request, Failure::Timeout, Fate::TimedOut, End::TimedOut);
                }
            }
            Event::PatienceEnds { request, life } => {
                if self.requests.is_alive(request, life) {
                    self.leave_queue(request);
                    self.drop_second(request, Fate::Abandoned);
                    self.give_back(request, Fate::Abandoned);
                    self.try_ended(request, End::TimedOut);
                }
            }
            Event::NextAttempt { request, life } => {
                if self.requests.is_alive(request, life) {
                    self.attempt(request);
                }
            }
            Event::NewTry { request, life } => {
                if self.requests.is_alive(request, life) {
                    self.begin_try(request);
                }
            }
            Event::WaitEnds { worker } => self.wait_ends(worker),
            Event::Change(_)
            | Event::Antagonist { .. }
            | Event::Board
            | Event::Bin
            | Event::Tick
            | Event::Check { .. }
            | Event::CheckLate { .. } => self.surround(event),
        }
    }

    // Arrivals.

    fn schedule_arrival(&mut self) {
        let Some(stream) = &mut self.stream else {
            let at = self.world.trace.as_ref().map(|trace| trace[self.arrived as usize].at);
            let at = at.map_or(self.now, |seconds| (seconds * 1e9) as u64);
            self.events.push(at.max(self.now), Event::Arrival);
            return;
        };
        let gap = stream.gap(&mut self.streams.arrivals) / self.rate;
        self.events.push(self.now + gap as u64, Event::Arrival);
    }

    fn schedule_arrival_after_this(&mut self) {
        self.arrived += 1;
        if self.arrived < self.total {
            self.schedule_arrival();
        }
        self.arrived -= 1;
    }

    /// A client of the closed loop begins to think about its next request.
    fn think(&mut self, client: u32) {
        if let Arrivals::Closed { think, .. } = self.world.arrivals {
            let time = exponential(&mut self.streams.thinking) * think.0 * self.unit;
            self.events.push(self.now + time as u64, Event::Thought { client });
        }
    }

    fn arrive(&mut self, client: u32) {
        if self.arrived == self.total {
            return;
        }
        let index = self.arrived;
        let traced = self.world.trace.as_ref().and_then(|trace| trace[index as usize].service);
        let drawn = self.streams.sampler.draw(&mut self.streams.work);
        let arrived = Arrived {
            sent: self.now,
            work: traced.map_or(drawn, |seconds| seconds * 1e3 / self.world.unit_ms),
            luck: self.streams.nature.unit(),
            worker: self.streams.nature.below(self.world.instances * self.world.workers),
            key: self.streams.key(),
            high: self.world.high > 0.0 && self.streams.nature.unit() < self.world.high,
            index,
            client,
            left: self.world.client.retries,
        };
        self.arrived += 1;
        if index == self.warm {
            self.since = self.now;
        }
        self.look(index);
        self.surroundings.bin.arrived += 1;
        self.clients.save(self.now);
        let slot = self.requests.add(arrived);
        self.begin_try(slot);
    }

    /// Counts the loads of all servers, from time to time; what arrivals see is what time sees (PASTA).
    fn look(&mut self, index: u64) {
        if index >= self.warm && index.is_multiple_of((self.total / LOOKS).max(1)) {
            for machine in &self.machines {
                self.report.count_load(machine.jobs());
            }
        }
    }

    // The way of a request.

    fn begin_try(&mut self, slot: u32) {
        let life = self.requests.next_life(slot);
        let now = self.now;
        let request = self.requests.at(slot);
        request.began = now;
        let worker = request.arrived.worker as usize;
        self.front.save(worker, self.world.proxy.budget, now);
        if let Some(patience) = self.world.client.patience {
            self.events.push(self.after(patience), Event::PatienceEnds { request: slot, life });
        }
        self.attempt(slot);
    }

    /// Picks a server and sends the request there.
    pub(crate) fn attempt(&mut self, slot: u32) {
        let request = self.requests.at(slot);
        let (worker, key) = (request.arrived.worker as usize, request.arrived.key);
        match self.front.pick_in_turn(worker, self.now, key, &request.tried) {
            Ok(held) => self.assign(slot, held),
            Err(NoServer::Full) if self.front.queues() => self.wait(slot),
            // As production: when there was a server and it failed, that is what the client is told.
            Err(_) if !request.tried.is_empty() => self.try_ended(slot, End::Failed),
            Err(_) => self.try_ended(slot, End::Refused),
        }
    }

    /// An attempt at a server that was picked begins.
    pub(crate) fn assign(&mut self, slot: u32, held: Held) {
        self.report.assigned[held.server as usize] += 1;
        self.surroundings.bin.assigned[held.server as usize] += 1;
        let request = self.requests.at(slot);
        let worker = request.arrived.worker as usize;
        request.held = Some(held);
        self.probe(worker);
        let token = self.requests.next_attempt(slot);
        self.watch(token);
        self.begin_attempt(token);
    }

    /// An attempt that has its place goes to its server.
    pub(crate) fn begin_attempt(&mut self, token: Token) {
        if let Some(first_byte) = self.world.proxy.first_byte {
            self.events.push(self.after(first_byte), Event::FirstByteDue(token));
        }
        if self.world.delay > 0.0 {
            let delay = self.streams.delay(self.world.delay);
            self.events.push(self.after(delay), Event::Delivery(token));
        } else {
            self.deliver(token);
        }
    }

    /// An attempt reaches its server.
    fn deliver(&mut self, token: Token) {
        let request = self.requests.at(token.request);
        let held = request.held_by(token).expect("a token in force holds a place");
        let server = held.server;
        let index = server as usize;
        if self.surroundings.down[index] {
            return self.send_back(token, Ending::Refused);
        }
        Front::connected(held, self.now);
        request.sent_any = true;
        (request.came, request.met) = (self.now, self.machines[index].jobs() as u32);
        let fail = self.surroundings.fail[index];
        let fails = request.arrived.luck < fail.share;
        let work = if fails { request.arrived.work / fail.speed } else { request.arrived.work };
        let work = work
            * self.world.servers[index].hiccup.map_or(1.0, |hiccup| hiccup.of(request.arrived.luck, server));
        if self.machines[index].is_full() {
            return self.send_back(token, Ending::Unavailable);
        }
        let next = self.machines[index].accept(Job { token, work, fails }, self.now);
        self.schedule_departure(server, next);
    }

    pub(crate) fn schedule_departure(&mut self, server: u32, next: Option<u64>) {
        if let Some(at) = next {
            let version = self.machines[server as usize].version;
            self.events.push(at, Event::Departure { server, version });
        }
    }

    fn depart(&mut self, server: u32) {
        let (job, next) = self.machines[server as usize].finish(self.now);
        self.schedule_departure(server, next);
        self.note_work(server, &job);
        if self.requests.is_current(job.token) {
            self.report_load(job.token, server);
            self.send_back(job.token, if job.fails { Ending::Error } else { Ending::Good });
        } else {
            self.report.wasted += job.work;
        }
    }

    /// The end of an attempt travels to its balancer.
    pub(crate) fn send_back(&mut self, token: Token, how: Ending) {
        if self.world.delay > 0.0 {
            let delay = self.streams.delay(self.world.delay);
            self.events.push(self.after(delay), Event::Answer { token, how });
        } else {
            self.answered(token, how);
        }
    }

    fn answered(&mut self, token: Token, how: Ending) {
        if self.has_lost(token, how) {
            return;
        }
        let slot = token.request;
        match how {
            Ending::Good => {
                self.note_pace(slot);
                self.give_back(slot, Fate::Answered);
                self.try_ended(slot, End::Good);
            }
            Ending::Error => {
                self.give_back(slot, Fate::Error);
                self.try_ended(slot, End::Failed);
            }
            Ending::Unavailable => {
                self.attempt_failed(slot, Failure::Answer(503), Fate::Error, End::Failed);
            }
            Ending::Refused => self.attempt_failed(slot, Failure::Connect, Fate::Refused, End::Failed),
            Ending::Reset => self.attempt_failed(slot, Failure::Reset, Fate::Reset, End::Failed),
        }
    }

    /// Gives back the place that the request holds, if any, and says whose it was.
    pub(crate) fn give_back(&mut self, slot: u32, fate: Fate) -> Option<u32> {
        let request = self.requests.at(slot);
        let (held, worker) = (request.held.take()?, request.arrived.worker as usize);
        let server = held.server;
        let idle = self.machines[server as usize].jobs() == 0;
        self.front.end(worker, held, fate, self.now, idle);
        Some(server)
    }

    /// A try of the client has ended: it is content, tries again or gives up.
    pub(crate) fn try_ended(&mut self, slot: u32, end: End) {
        let life = self.requests.next_life(slot);
        let request = self.requests.at(slot);
        if end != End::Good && request.left > 0 && self.clients.may_try_again(self.now) {
            request.left -= 1;
            request.tried.clear();
            request.sent_any = false;
            let at = self.after(self.world.client.pause);
            self.events.push(at, Event::NewTry { request: slot, life });
            return;
        }
        let (index, key, high, client) =
            (request.arrived.index, request.arrived.key, request.arrived.high, request.arrived.client);
        let waited = (self.now - request.arrived.sent) as f64 / self.unit;
        self.surroundings.bin.good += u64::from(end == End::Good);
        if index >= self.warm {
            let batch = (index - self.warm) * BATCHES as u64 / (self.total - self.warm);
            self.report.end(end, waited, batch as usize);
            self.report.count_high(high, end, waited);
            self.report.count_modest(self.streams.is_modest(key), end);
        }
        self.requests.remove(slot);
        self.think(client);
    }

    pub(crate) fn after(&self, units: f64) -> u64 {
        self.now.saturating_add((units * self.unit) as u64)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.arrived == self.total
    }

    fn finish(self) -> Report {
        let mut report = self.report;
        report.series = self.surroundings.series;
        report.span = (self.now - self.since) as f64 / self.unit;
        report.mean_in_system = self.request_time as f64 / (self.now - self.since) as f64;
        report.arrived = self.arrived;
        report.stuck = self.requests.live() as u64;
        report
    }
}
