//! What happens besides requests: servers change speed, crash and fail, neighbours come and go, somebody reloads; and the
//! time series is written.
//!
//! In go the events that belong to no request. Changes of speed multiply: a server's own, the timeline's and the neighbour's.

use std::sync::Arc;

use plimsoll_traffic::{Ask, Backend, Balancer, Dice, Micros};

use crate::engine::Run;
use crate::events::{Ending, Event};
use crate::front::Front;
use crate::law::exponential;
use crate::policy::Kind;
use crate::report::{BINS, Bin, Moved, Series};
use crate::told::Told;
use crate::world::{Change, Fail, What, World};

/// How often production has backends look after their servers, in nanoseconds.
const TICK: u64 = 500_000_000;

/// Keys that a membership change is judged by: eight to each slot of the smallest hash table, and, to within nine, one to each of the next.
const KEYS: u64 = 8 * 65_537;
/// Bins of a series when nothing is said.
const USUAL_BINS: f64 = 120.0;

/// The state of the world around the requests.
#[derive(Debug)]
pub(crate) struct Surroundings {
    timeline: Vec<Change>,
    pub(crate) down: Vec<bool>,
    pub(crate) fail: Vec<Fail>,
    pub(crate) checks_fail: Vec<bool>,
    pub(crate) gone: Vec<bool>,
    pub(crate) told: Told,
    /// What the timeline makes of each speed, and whether the neighbour is on.
    pub(crate) factor: Vec<f64>,
    disturbed: Vec<bool>,
    pub(crate) bin: Bin,
    pub(crate) series: Series,
    width: u64,
}

impl Surroundings {
    pub(crate) fn new(world: &World, unit: f64) -> Surroundings {
        let n = world.servers.len();
        let width = world.bin.unwrap_or_else(|| world.span() / USUAL_BINS);
        Surroundings {
            timeline: world.timeline.clone(),
            down: vec![false; n],
            fail: world.servers.iter().map(|s| s.fail).collect(),
            checks_fail: vec![false; n],
            gone: vec![false; n],
            told: Told::nothing(n),
            factor: vec![1.0; n],
            disturbed: vec![false; n],
            bin: Bin { assigned: vec![0; n], ..Bin::default() },
            series: Series { width, bins: Vec::new() },
            width: ((width * unit) as u64).max(1),
        }
    }
}

impl Run<'_> {
    pub(crate) fn begin_surroundings(&mut self) {
        for index in 0..self.surroundings.timeline.len() {
            let at = self.after(self.surroundings.timeline[index].at);
            self.events.push(at, Event::Change(index as u32));
        }
        for server in 0..self.machines.len() as u32 {
            if let Some(antagonist) = self.world.servers[server as usize].antagonist {
                let on = self.streams.neighbours.unit() < antagonist.share;
                // Toggled at once by the event below.
                self.surroundings.disturbed[server as usize] = !on;
                self.events.push(self.now, Event::Antagonist { server });
            }
            self.set_speed(server);
        }
        self.events.push(self.surroundings.width, Event::Bin);
        if self.front.board().is_some() {
            self.events.push(0, Event::Board);
        }
        self.begin_checks();
        if self.front.watches() {
            self.events.push(self.now + TICK, Event::Tick);
        }
    }

    pub(crate) fn surround(&mut self, event: Event) {
        match event {
            Event::Change(index) => self.change(&self.surroundings.timeline[index as usize].clone()),
            Event::Antagonist { server } => self.toggle(server),
            Event::Board => self.write_board(),
            Event::Bin => self.end_bin(),
            Event::Tick => self.tick(),
            Event::Check { instance, server } => self.check(instance, server),
            Event::CheckLate { instance, server } => self.check_late(instance, server),
            _ => unreachable!("events of requests are the engine's"),
        }
    }

    fn change(&mut self, change: &Change) {
        if let What::Load(load) = change.what {
            self.rate = load * self.world.capacity() / self.unit;
            return;
        }
        if self.tell(change) {
            return;
        }
        for index in change.servers.clone() {
            match change.what {
                What::Speed(factor) => {
                    self.surroundings.factor[index] = factor;
                    self.set_speed(index as u32);
                }
                What::Fail(fail) => self.surroundings.fail[index] = fail,
                What::Down(down) => self.set_down(index, down),
                What::ChecksFail(fail) => self.surroundings.checks_fail[index] = fail,
                What::Remove => self.surroundings.gone[index] = true,
                What::Load(_) | What::Present(_) | What::Weight(_) | What::State(_) => {}
            }
        }
        if change.what == What::Remove {
            self.remove();
        }
    }

    fn set_speed(&mut self, server: u32) {
        let index = server as usize;
        let spec = &self.world.servers[index];
        let taken = spec.antagonist.filter(|_| self.surroundings.disturbed[index]).map_or(0.0, |a| a.takes);
        let speed = spec.speed * self.surroundings.factor[index] * (1.0 - taken);
        let next = self.machines[index].set_speed(speed, self.now);
        self.schedule_departure(server, next);
    }

    /// A crash loses what is on the machine; those who waited see their connections reset.
    fn set_down(&mut self, index: usize, down: bool) {
        self.surroundings.down[index] = down;
        if down {
            for job in self.machines[index].clear() {
                if self.requests.is_current(job.token) {
                    self.send_back(job.token, Ending::Reset);
                }
            }
        }
    }

    /// The neighbour comes or goes, and will again.
    fn toggle(&mut self, server: u32) {
        let index = server as usize;
        let Some(antagonist) = self.world.servers[index].antagonist else { return };
        let on = !self.surroundings.disturbed[index];
        self.surroundings.disturbed[index] = on;
        self.set_speed(server);
        let mean = match on {
            true => antagonist.length,
            false => antagonist.length * (1.0 - antagonist.share) / antagonist.share,
        };
        let time = exponential(&mut self.streams.neighbours) * mean;
        if time.is_finite() && !(self.is_over() && self.requests.live() == 0) {
            self.events.push(self.after(time), Event::Antagonist { server });
        }
    }

    fn tick(&mut self) {
        self.front.tick(self.now);
        self.events.push(self.now + TICK, Event::Tick);
    }

    fn write_board(&mut self) {
        let loads = self.machines.iter().map(|m| m.jobs() as u32);
        if let Some(referee) = self.front.board() {
            referee.write_board(loads);
            if let Some(period) = referee.policy().period() {
                self.events.push(self.after(period), Event::Board);
            }
        }
    }

    fn end_bin(&mut self) {
        let n = self.machines.len();
        let mut bin =
            std::mem::replace(&mut self.surroundings.bin, Bin { assigned: vec![0; n], ..Bin::default() });
        bin.load = self.machines.iter().map(|m| m.jobs() as u32).collect();
        self.surroundings.series.bins.push(bin);
        if self.surroundings.series.bins.len() < BINS {
            self.events.push(self.now + self.surroundings.width, Event::Bin);
        }
    }

    /// Reloads without the servers that are gone, and looks where keys have their servers before and after.
    fn remove(&mut self) {
        let gone = self.surroundings.gone.clone();
        if let Some(pattern) = self.front.pattern() {
            let kind = Kind::Production(Box::new(pattern.clone()));
            self.report.moved = moved(self.world, &kind, &gone);
        }
        self.reload();
    }
}

impl Front {
    fn pattern(&self) -> Option<&plimsoll_config::model::Backend> {
        match self {
            Front::Production(production) => Some(production.pattern()),
            Front::Reference { .. } => None,
        }
    }
}

/// Asks two fresh balancers, one with all servers and one without those `gone`, for keys spread evenly over all there are.
fn moved(world: &World, kind: &Kind, gone: &[bool]) -> Option<Moved> {
    let Kind::Production(pattern) = kind else { return None };
    let whose = |gone: &[bool]| {
        let left: Vec<u32> = (0..world.servers.len() as u32)
            .filter(|&s| !gone.get(s as usize).copied().unwrap_or(false))
            .collect();
        let backend = Arc::new(Backend::new(&world.backend(pattern, gone), None));
        let mut dice = Dice::new(1);
        let balancer = Balancer::new(backend, &mut dice);
        let mut of = |key| {
            let ask = Ask { now: Micros(0), key, tried: &[] };
            balancer.pick(&ask, &mut dice).map_or(u32::MAX, |lease| left[lease.index() as usize])
        };
        (0..KEYS).map(|k| of(k * (u64::MAX / KEYS))).collect::<Vec<u32>>()
    };
    let (before, after) = (whose(&[]), whose(gone));
    let mut counts = vec![0u64; world.servers.len()];
    before.iter().filter(|&&s| s != u32::MAX).for_each(|&s| counts[s as usize] += 1);
    let keys = KEYS as f64;
    let is_gone = |&&s: &&u32| gone.get(s as usize).copied().unwrap_or(false);
    Some(Moved {
        fullest: counts.iter().max().copied().unwrap_or(0) as f64 / keys * counts.len() as f64,
        moved: before.iter().zip(&after).filter(|(a, b)| a != b).count() as f64 / keys,
        had_to: before.iter().filter(is_gone).count() as f64 / keys,
    })
}
