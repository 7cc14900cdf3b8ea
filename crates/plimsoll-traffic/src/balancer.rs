//! Which server takes the next request.
//!
//! In come the question (`Ask`) and the dice, out comes a `Lease` on one server or the reason why there is none. One
//! `Balancer` belongs to one worker; what workers share is only each server's `Live` and the ramps of those that are new. A pick
//! never allocates, never chooses a server that is not eligible, and all workers together never exceed `max_requests`.
//!
//! Eligible is a server with weight, not tried by this request, with room, in the first of these groups that has any
//! server at all: the level that `levels` chose; the other levels by priority; backups; then the same again with servers that
//! refused a connection in the last second. Those that health keeps out are in none. So full servers don't bring in the backups (as in HAProxy): the answer is then `Full`.

mod again;
mod heard;
mod keyed;
mod queueing;
mod sampled;
mod session;
mod trial;
mod turns;

use crate::sync::atomic::Ordering::Relaxed;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use plimsoll_config::model::Balance;

use crate::backend::{Backend, Tier};
use crate::dice::Dice;
use crate::ewma::{Ewma, Load};
use crate::lease::Lease;
use crate::levels::Levels;
use crate::outcome::{Outcome, Verdict};
use crate::prequal::Prequal;
use crate::ramp::WHOLE;
use crate::ranking::Notes;
use crate::recent::{Recent, Standing};
use crate::rotation::Rotation;
use crate::server::Server;
use crate::time::{Micros, Millis};

/// `p2c` looks at all servers when there are no more than this: a scan of four costs as little as two draws, and chooses better.
const FULL_SCAN: usize = 4;
/// `least_conn` looks at all servers when there are no more than this; of more it takes the least loaded of some drawn by weight. A
/// server's counter is on a cache line of its own, so a scan of 1,000 takes microseconds, and the best of all is what
/// every other instance chooses too.
const LEAST_CONN_SCAN: usize = 64;
/// Draws that may hit an ineligible server before all are scanned.
const DRAWS: usize = 8;
/// Picks that may lose a server's last slot to another worker before any free slot is taken.
const RACES: usize = 4;

pub use session::{Session, Split};

/// A worker's view of one backend: it chooses, and owns what only this worker needs to remember.
#[derive(Debug)]
pub struct Balancer {
    backend: Arc<Backend>,
    policy: Policy,
    levels: Levels,
    /// What servers say with their answers is of use: either of the next two.
    hears: bool,
    /// What they report of their load is.
    reports: bool,
    /// Outcomes are of use.
    learns: bool,
    /// The eligible servers of the pick at hand. As long as the backend from the start, so that a pick never allocates.
    eligible: RefCell<Vec<u32>>,
    /// What a search by rendezvous notes down, with room from the start.
    notes: RefCell<Notes>,
}

/// The policy with the memory of this worker.
#[derive(Debug)]
enum Policy {
    P2c(Recent),
    /// By tier.
    RoundRobin(Box<[Rotation]>),
    LeastConn(Recent),
    Random,
    /// The bound, in hundredths of the mean.
    Hash(Option<u32>),
    First,
    Ewma(Ewma),
    Prequal(Box<Prequal>),
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
    /// There are no servers, all weights are 0, or health keeps all out.
    None,
}

/// An [`Ask`] with what is worked out once for all of a pick.
struct Question<'a> {
    ask: &'a Ask<'a>,
    millis: Millis,
    /// The tier to begin with.
    level: usize,
    /// Some server's share still grows.
    ramps: bool,
}

impl Question<'_> {
    /// Those that nearly every pick chooses from.
    #[inline(always)]
    fn group(&self) -> Group {
        Group { tier: self.level, refused: false, sound: false }
    }
}

/// Servers that stand in for one another; see the head of this file.
#[derive(Debug, Clone, Copy)]
struct Group {
    tier: usize,
    refused: bool,
    /// Only those whose last request did not fail.
    sound: bool,
}

impl Balancer {
    /// A balancer for one worker. Where turns and ties begin is random, so that workers don't march in step.
    pub fn new(backend: Arc<Backend>, dice: &mut Dice) -> Rc<Balancer> {
        let servers = backend.servers.len();
        let policy = match &backend.balance {
            Balance::P2c => Policy::P2c(Recent::new(servers, dice)),
            Balance::RoundRobin => {
                let weights: Vec<u16> = backend.servers.iter().map(|s| s.weight).collect();
                let rotation = |tier: &Tier| Rotation::new(&tier.members, &weights, dice);
                Policy::RoundRobin(backend.tiers.iter().map(rotation).collect())
            }
            Balance::LeastConn => Policy::LeastConn(Recent::new(servers, dice)),
            Balance::Random => Policy::Random,
            Balance::Hash(hash) => Policy::Hash(hash.bound),
            Balance::First => Policy::First,
            Balance::Ewma(parameters) => {
                let lives = backend.servers.iter().map(|s| &*s.live);
                Policy::Ewma(Ewma::new(parameters.decay, lives, Recent::new(servers, dice)))
            }
            Balance::Prequal(spec) => Policy::Prequal(Box::new(heard::memory(&backend, spec, dice))),
        };
        let levels = Levels::new(backend.tiers.iter().filter(|tier| !tier.backup).count());
        let reports = backend.ramp.reported().is_some() || matches!(policy, Policy::Prequal(_));
        let notes = Notes::for_all(backend.tiers.iter().map(|tier| &*tier.ranking));
        Rc::new(Balancer {
            notes: RefCell::new(notes),
            hears: reports || backend.word_field.is_some(),
            reports,
            learns: backend.adaptive.is_some() || matches!(policy, Policy::Ewma(_) | Policy::Prequal(_)),
            backend,
            policy,
            levels,
            eligible: RefCell::new(Vec::with_capacity(servers)),
        })
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
        let question = self.question(ask, dice);
        if !ask.tried.is_empty() {
            return self.pick_again(&question, dice);
        }
        if self.backend.has_trials()
            && let Some(lease) = self.try_out(ask)
        {
            return Ok(lease);
        }
        for _ in 0..RACES {
            let index = match self.glance(&question, dice) {
                Some(index) => index,
                None => self.study(&question, dice)?,
            };
            if let Some(lease) = self.lease(index, ask.now) {
                return Ok(lease);
            }
        }
        // Others keep taking the last slots: no time for preferences.
        self.survey(&question)?;
        self.any_eligible(&question)
    }

    /// One of those that were eligible a moment ago.
    fn any_eligible(self: &Rc<Self>, question: &Question<'_>) -> Result<Lease, NoServer> {
        let eligible = self.eligible.borrow();
        eligible.iter().find_map(|&index| self.lease(index, question.ask.now)).ok_or(NoServer::Full)
    }

    #[inline]
    fn question<'a>(&self, ask: &'a Ask<'a>, dice: &mut Dice) -> Question<'a> {
        let millis = ask.now.millis();
        let ramps = self.backend.ramp.is_active(millis);
        if ramps {
            self.backend.ramp.begin_new(&self.backend.servers, millis);
        }
        if !self.levels.are_several() {
            return Question { ask, millis, level: 0, ramps };
        }
        let available = |tier: usize| self.backend.tiers[tier].availability(&self.backend.servers, millis);
        Question { ask, millis, level: self.levels.choose(millis, dice, available), ramps }
    }

    /// The way of nearly every pick: touches a few servers, never all. `None` when they were not enough to decide.
    fn glance(&self, question: &Question<'_>, dice: &mut Dice) -> Option<u32> {
        let group = question.group();
        let tier = self.backend.tiers.get(group.tier)?;
        let open = |index: &u32| self.open(*index, question, group);
        let mut draw = |except| self.draw_open(tier, except, question, dice);
        match &self.policy {
            Policy::P2c(_) if tier.members.len() <= FULL_SCAN + question.ask.tried.len() => None,
            Policy::P2c(recent) => {
                let a = draw(None)?;
                let b = draw(Some(a))?;
                let standing = |index| self.standing(index, question);
                Some(recent.lighter(standing(a), standing(b)).index)
            }
            Policy::Ewma(ewma) => {
                let a = draw(None)?;
                let b = draw(Some(a))?;
                Some(self.cheaper(a, b, ewma, question))
            }
            Policy::Random => draw(None),
            Policy::Hash(bound) => {
                let passes = |index: &u32| open(index) && self.is_within(*index, tier, *bound);
                tier.hashing.as_ref()?.find(question.ask.key, &self.notes, passes)
            }
            Policy::First => tier.members.iter().copied().find(open),
            Policy::RoundRobin(rotations) => {
                rotations[group.tier].turn(|index| self.answer(index, question, group, dice))
            }
            Policy::LeastConn(_) if tier.members.len() <= LEAST_CONN_SCAN => None,
            Policy::LeastConn(recent) => self.least_of_some(recent, tier, question, dice),
            Policy::Prequal(prequal) => self.heard_of(prequal, tier, question, dice),
        }
    }

    /// The exact way: looks at every server, and decides among all that are eligible.
    #[inline(never)]
    fn study(&self, question: &Question<'_>, dice: &mut Dice) -> Result<u32, NoServer> {
        let group = self.survey(question)?;
        let eligible = self.eligible.borrow();
        let tier = &self.backend.tiers[group.tier];
        let chosen = match &self.policy {
            Policy::P2c(recent) if eligible.len() <= FULL_SCAN => {
                recent.lightest(&eligible, |index| self.standing(index, question))
            }
            Policy::P2c(recent) => {
                let a = self.draw(&eligible, None, question, dice);
                let b = self.draw(&eligible, Some(a), question, dice);
                recent.lighter(self.standing(a, question), self.standing(b, question)).index
            }
            Policy::Ewma(ewma) if eligible.len() > 1 => {
                let a = self.draw(&eligible, None, question, dice);
                self.cheaper(a, self.draw(&eligible, Some(a), question, dice), ewma, question)
            }
            Policy::Prequal(prequal) => self.unheard_of(prequal, &eligible, question, dice),
            Policy::LeastConn(recent) => recent.lightest(&eligible, |index| self.standing(index, question)),
            Policy::Random => self.draw(&eligible, None, question, dice),
            Policy::Hash(bound) => {
                let hashing = tier.hashing.as_ref().expect("a backend that hashes has its tables");
                self.place(hashing, &eligible, question, group, *bound)
            }
            Policy::First | Policy::Ewma(_) => eligible[0],
            Policy::RoundRobin(rotations) => {
                self.whose_turn(&rotations[group.tier], &eligible, question, group, dice)
            }
        };
        Ok(chosen)
    }

    /// Collects the eligible servers (at least one) and names their group. For a request that has failed elsewhere these are servers whose last request
    /// did not fail, if there are any: those that are dead are idle, and it would meet one after the other.
    fn survey(&self, question: &Question<'_>) -> Result<Group, NoServer> {
        let mut eligible = self.eligible.borrow_mut();
        eligible.clear();
        let tiers = self.backend.tiers.len();
        for refused in [false, true] {
            let first = (question.level..tiers).take(1); // without servers there is none
            for tier in first.chain((0..tiers).filter(|&tier| tier != question.level)) {
                let group = Group { tier, refused, sound: false };
                let mut full = false;
                for &index in &self.backend.tiers[tier].members {
                    if self.in_group(index, question, group) {
                        if self.has_room(index) {
                            eligible.push(index);
                        } else {
                            full = true;
                        }
                    }
                }
                if !eligible.is_empty() {
                    let sound = !question.ask.tried.is_empty() && self.leave_the_sound(&mut eligible);
                    return Ok(Group { sound, ..group });
                }
                if full {
                    return Err(NoServer::Full);
                }
            }
        }
        let weightless = self.backend.tiers.iter().all(|tier| tier.members.is_empty());
        Err(if weightless || question.ask.tried.is_empty() { NoServer::None } else { NoServer::Tried })
    }

    #[inline(always)] // what nearly every pick consists of
    fn open(&self, index: u32, question: &Question<'_>, group: Group) -> bool {
        self.in_group(index, question, group) && self.has_room(index)
    }

    /// For a member of the group's tier.
    #[inline(always)]
    fn in_group(&self, index: u32, question: &Question<'_>, group: Group) -> bool {
        let live = &self.server(index).live;
        // Those that refused are asked for once no other is left. One whose refusal ends at that moment, by a connect of another worker, is as good.
        let may = if group.refused { !live.is_barred() } else { !live.is_closed(question.millis) };
        let tried = question.ask.tried;
        let is_sound = || !group.sound || !live.fails();
        may && (tried.is_empty() || (!tried.contains(&index) && is_sound()))
    }

    #[inline(always)]
    fn has_room(&self, index: u32) -> bool {
        self.server(index).has_room()
    }

    #[inline]
    pub(crate) fn server(&self, index: u32) -> &Server {
        &self.backend.servers[index as usize]
    }

    /// Its weight, in units that are the same for all servers of one pick.
    #[inline]
    fn weight(&self, index: u32, question: &Question<'_>) -> u64 {
        let server = self.server(index);
        let share = if question.ramps { self.backend.ramp.share(server, question.millis) } else { 1 };
        u64::from(server.weight) * share
    }

    /// Whether one that was drawn by its weight takes the request: always, unless its share still grows.
    #[inline]
    fn admits(&self, index: u32, question: &Question<'_>, dice: &mut Dice) -> bool {
        !question.ramps
            || dice.below_u64(WHOLE) < self.backend.ramp.share(self.server(index), question.millis)
    }

    #[inline]
    fn standing(&self, index: u32, question: &Question<'_>) -> Standing {
        let in_flight = u64::from(self.server(index).live.in_flight());
        Standing { index, in_flight, weight: self.weight(index, question) }
    }

    /// The one where a request costs less; of equals the one with fewer recent picks for its weight; else `a`.
    #[inline(never)] // keeps the way of the other policies short
    fn cheaper(&self, a: u32, b: u32, ewma: &Ewma, question: &Question<'_>) -> u32 {
        let (weight_a, weight_b) = (self.weight(a, question), self.weight(b, question));
        let mean = self.backend.mean_weight * if question.ramps { WHOLE as f32 } else { 1.0 };
        let cost = |index: u32, weight: u64| {
            let live = &self.server(index).live;
            let load = Load { in_flight: live.in_flight(), weight: weight as f32 / mean };
            ewma.cost(live, load, question.ask.now)
        };
        let order = cost(a, weight_a).total_cmp(&cost(b, weight_b));
        if order.then_with(|| ewma.recent.compare((a, weight_a), (b, weight_b))).is_gt() { b } else { a }
    }

    /// Draws one that can take the request by weight, `except` left out. (One function for this and the next costs 77 instructions a pick.)
    #[inline(always)]
    fn draw_open(
        &self,
        tier: &Tier,
        except: Option<u32>,
        question: &Question<'_>,
        dice: &mut Dice,
    ) -> Option<u32> {
        let group = question.group();
        let drawn = match except {
            None => tier.weights.draw(dice),
            Some(except) => tier.weights.draw_except(except, dice),
        };
        match drawn {
            Some(index) if self.open(index, question, group) && self.admits(index, question, dice) => drawn,
            _ => self.draw_again(tier, except, question, dice),
        }
    }

    /// The first draw hit one that can't.
    #[cold]
    fn draw_again(
        &self,
        tier: &Tier,
        except: Option<u32>,
        question: &Question<'_>,
        dice: &mut Dice,
    ) -> Option<u32> {
        let group = question.group();
        (1..DRAWS).find_map(|_| {
            let drawn = match except {
                None => tier.weights.draw(dice),
                Some(except) => tier.weights.draw_except(except, dice),
            };
            drawn.filter(|&index| self.open(index, question, group) && self.admits(index, question, dice))
        })
    }

    /// Draws one of `eligible`, or one but `except`, by weight.
    fn draw(&self, eligible: &[u32], except: Option<u32>, question: &Question<'_>, dice: &mut Dice) -> u32 {
        let others = eligible.iter().filter(|&&i| Some(i) != except);
        let weights = others.map(|&i| (i, self.weight(i, question)));
        let mut place = dice.below_u64(weights.clone().map(|(_, weight)| weight).sum());
        for (index, weight) in weights {
            if place < weight {
                return index;
            }
            place -= weight;
        }
        eligible[0]
    }

    /// Takes a slot; `None` when another worker took the last one meanwhile.
    fn lease(self: &Rc<Self>, index: u32, now: Micros) -> Option<Lease> {
        let server = self.server(index);
        if !server.live.take(server.most()) {
            return None;
        }
        match &self.policy {
            Policy::P2c(recent) | Policy::LeastConn(recent) => recent.count(index, now.millis()),
            Policy::Ewma(ewma) => {
                ewma.recent.count(index, now.millis());
                server.live.begin_wait(now);
            }
            Policy::Hash(Some(_)) => {
                self.backend.in_flight.0.fetch_add(1, Relaxed);
            }
            Policy::RoundRobin(_) | Policy::Random | Policy::Hash(None) | Policy::First => {}
            Policy::Prequal(prequal) => prequal.taken(index, now),
        }
        Some(Lease::new(Rc::clone(self), index, now))
    }

    /// What a policy that learns makes of an outcome; `None`: nobody says what became of the request.
    #[inline(never)]
    pub(crate) fn learn(&self, index: u32, since: Micros, outcome: Option<&Outcome>) {
        self.backend.measure(index, since, outcome);
        if let Policy::Ewma(ewma) = &self.policy {
            let live = &self.server(index).live;
            live.end_wait(since);
            if let Some(outcome) = outcome {
                ewma.learn(live, since, outcome);
            }
        } else if outcome.is_some_and(|outcome| outcome.result == Verdict::Failed) {
            self.forget(index);
        }
    }

    /// The end of a lease.
    #[inline]
    pub(crate) fn give_back(&self, index: u32) {
        self.server(index).live.give_back();
        if let Policy::Hash(Some(_)) = self.policy {
            self.backend.in_flight.0.fetch_sub(1, Relaxed);
        }
        self.pass_on(index);
    }
}
