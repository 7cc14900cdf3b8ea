//! Wrong policies that go by what servers report, and that keep sessions. Each is right but for the faults that its name tells.

use plimsoll_sim::contracts::{End, Stand, Subject};
use plimsoll_traffic::{Dice, Session};

use super::fleet::{Fleet, Ruled};

type Made = Box<dyn Subject>;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Hot servers are as good as others.
    BlindToHeat,
    /// The least in flight, and nothing else.
    BlindToLatency,
    /// A report counts until the next one.
    NeverForgets,
    /// A report may be used as often as there are requests.
    UsesForEver,
    /// Servers that failed keep their reports.
    TrustsFailures,
    /// Asks all alike, whatever their weights.
    AsksAllAlike,
    /// Asks half as often.
    AsksTooLittle,
    /// Nothing but reports decides.
    NeverLooksElsewhere,
}

#[derive(Debug, Clone, Copy)]
struct Report {
    in_flight: u32,
    latency: f32,
    heard: u64,
    uses: u32,
}

/// Prequal in few lines: hot is what has more than `HOT` in flight.
pub(crate) struct Listener {
    servers: Vec<Stand>,
    heard: Vec<Option<Report>>,
    down_until: Vec<u64>,
    now: u64,
    owed: u32,
    asks: u32,
    fault: Fault,
    dice: Dice,
}

/// The contracts say that 5 is usual.
const HOT: u32 = 5;
const AGE: u64 = 1_000_000;

pub(crate) fn listener(asks: u32, fault: Fault) -> impl Fn(&[Stand], u64) -> Made {
    move |servers, seed| {
        let n = servers.len();
        Box::new(Listener {
            servers: servers.to_vec(),
            heard: vec![None; n],
            down_until: vec![0; n],
            now: 0,
            owed: 0,
            asks,
            fault,
            dice: Dice::new(seed),
        })
    }
}

impl Listener {
    fn fresh(&self, server: usize) -> Option<Report> {
        let forgets = self.fault != Fault::NeverForgets;
        self.heard[server].filter(|r| r.uses > 0 && (!forgets || self.now - r.heard < AGE))
    }

    fn rank(&self, server: usize) -> (bool, f32, u32) {
        let report = self.fresh(server).expect("only who was heard is ranked");
        match self.fault {
            Fault::BlindToHeat => (false, report.latency, 0),
            Fault::BlindToLatency => (false, 0.0, report.in_flight),
            _ => {
                let hot = report.in_flight > HOT;
                (hot, if hot { 0.0 } else { report.latency }, report.in_flight)
            }
        }
    }
}

impl Subject for Listener {
    fn pick(&mut self, _: u64, _: &[u32]) -> Option<usize> {
        self.owed += if self.fault == Fault::AsksTooLittle { self.asks / 2 } else { self.asks };
        let n = self.servers.len();
        let up: Vec<usize> = (0..n).filter(|&i| self.down_until[i] <= self.now).collect();
        let up = if up.is_empty() { (0..n).collect() } else { up };
        let looks_elsewhere =
            self.asks == 0 && self.fault != Fault::NeverLooksElsewhere && self.dice.below(4) == 0;
        let known = (0..n).filter(|&i| self.fresh(i).is_some()).count();
        let heard = up.iter().copied().filter(|&i| self.fresh(i).is_some());
        let best = heard.min_by(|&a, &b| self.rank(a).partial_cmp(&self.rank(b)).expect("numbers"));
        match best.filter(|_| known >= 2 && !looks_elsewhere) {
            Some(best) => {
                let report = self.heard[best].as_mut().expect("it was heard");
                report.in_flight += 1;
                report.uses -= u32::from(self.fault != Fault::UsesForEver);
                Some(best)
            }
            None => Some(up[self.dice.below(up.len() as u32) as usize]),
        }
    }

    fn end(&mut self, server: usize, how: End) {
        if how == End::Failed && self.fault != Fault::TrustsFailures {
            self.heard[server] = None;
        }
    }

    fn refuse(&mut self, server: usize) {
        self.down_until[server] = self.now + 1_000_000;
    }

    fn wait(&mut self, microseconds: u64) {
        self.now += microseconds;
    }

    fn asks(&mut self) -> Option<usize> {
        self.owed = self.owed.checked_sub(1)?;
        let weights: Vec<u32> = self.servers.iter().map(|s| u32::from(s.weight)).collect();
        let mut place = self.dice.below(weights.iter().sum());
        if self.fault == Fault::AsksAllAlike {
            return Some(self.dice.below(weights.len() as u32) as usize);
        }
        weights.iter().position(|&w| {
            let here = place < w;
            place = place.saturating_sub(w);
            here
        })
    }

    fn hear(&mut self, server: usize, in_flight: u32, latency: f32) {
        self.heard[server] = Some(Report { in_flight, latency, heard: self.now, uses: 2 });
    }
}

/// Whether a session may stay, from its server's state: `(up, with room, not tried, with weight)`.
type Stays = fn(bool, bool, bool, bool) -> bool;

/// Keeps sessions where `stays` says so; else any eligible one that is not the busiest.
struct Keeper {
    inner: Box<Ruled>,
    stays: Stays,
}

fn keeper(servers: &[Stand], seed: u64, stays: Stays) -> Made {
    let rule = |fleet: &mut Fleet, _: u64, tried: &[u32]| {
        let eligible = fleet.eligible(tried);
        eligible.into_iter().min_by_key(|&i| fleet.in_flight[i])
    };
    Box::new(Keeper { inner: Box::new(Ruled::new(servers, seed, Box::new(rule))), stays })
}

impl Subject for Keeper {
    fn pick(&mut self, key: u64, tried: &[u32]) -> Option<usize> {
        self.inner.pick(key, tried)
    }
    fn end(&mut self, server: usize, how: End) {
        self.inner.end(server, how);
    }
    fn refuse(&mut self, server: usize) {
        self.inner.refuse(server);
    }
    fn wait(&mut self, microseconds: u64) {
        self.inner.wait(microseconds);
    }
    fn keep(&mut self, session: Session, tried: &[u32]) -> Option<usize> {
        let fleet = &mut self.inner.fleet;
        if let Session::Server(own) = session
            && let Some(stand) = fleet.servers.get(own as usize)
        {
            let server = own as usize;
            let untried = !tried.contains(&own);
            if (self.stays)(fleet.is_up(server), fleet.has_room(server), untried, stand.weight > 0) {
                fleet.in_flight[server] += 1;
                return Some(server);
            }
        }
        self.pick(0, tried)
    }
}

/// Right.
pub(crate) fn keeps(servers: &[Stand], seed: u64) -> Made {
    keeper(servers, seed, |up, room, untried, _| up && room && untried)
}

/// A session stays with a dead server, as in a balancer without `redispatch`.
pub(crate) fn clings_to_the_dead(servers: &[Stand], seed: u64) -> Made {
    keeper(servers, seed, |_, room, untried, _| room && untried)
}

pub(crate) fn clings_to_the_full(servers: &[Stand], seed: u64) -> Made {
    keeper(servers, seed, |up, _, untried, _| up && untried)
}

/// A retry goes where it has just failed.
pub(crate) fn clings_to_the_tried(servers: &[Stand], seed: u64) -> Made {
    keeper(servers, seed, |up, room, _, _| up && room)
}

/// A server that is drained by weight 0 loses its sessions at once.
pub(crate) fn drops_at_weight_zero(servers: &[Stand], seed: u64) -> Made {
    keeper(servers, seed, |up, room, untried, weight| up && room && untried && weight)
}
