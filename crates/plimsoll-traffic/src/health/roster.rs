//! A backend's servers seen together: how many may be spared, and when everybody must serve.

use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;
use std::collections::VecDeque;
use std::sync::Arc;

use super::record::{Ejection, Health};
use crate::backend::Backend;
use crate::server::{Live, Server};

/// Turns that are kept until somebody asks.
const TURNS: usize = 256;
/// Envoy's overprovisioning: a level whose servers are well to 72 % needs no other one.
const OVERPROVISION: usize = 140;

/// What happened to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Its check passes now.
    Up,
    /// Its check fails now.
    Down,
    /// It is passed over for a while.
    Ejected,
    /// It serves again after its trial.
    Admitted,
}

/// The servers of the configuration in force. Its lock is the one that all decisions about a backend are made under.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    members: Vec<Member>,
    panics: bool,
    turns: VecDeque<(Turn, Box<str>, String)>,
}

#[derive(Debug)]
pub(crate) struct Member {
    live: Arc<Live>,
    health: Arc<Health>,
    /// Its tier; `None` takes nothing new anyway.
    tier: Option<usize>,
    backup: bool,
    max_requests: u32,
    /// Its limit is found out.
    adapts: bool,
    /// It says so itself.
    says_down: bool,
}

impl Member {
    fn has_room(&self) -> bool {
        let limit = if self.adapts { self.live.limit() } else { u32::MAX };
        self.live.in_flight() < self.max_requests.min(limit)
    }

    fn is_well(&self) -> bool {
        !self.says_down && self.health.record().is_well()
    }
}

impl Roster {
    /// Whether it lists just the servers of `backend`.
    pub(crate) fn is_of(&self, backend: &Backend) -> bool {
        let tiers = tiers_of(backend);
        let same = |(member, (server, tier)): (&Member, (&Server, &Option<usize>))| {
            Arc::ptr_eq(&member.health, &server.health)
                && member.tier == *tier
                && member.backup == server.backup
                && member.max_requests == server.max_requests
                && member.adapts == server.gradient.is_some()
                && member.says_down == server.says_down
        };
        self.members.len() == backend.servers.len()
            && self.members.iter().zip(backend.servers.iter().zip(&tiers)).all(same)
    }

    /// From now on the servers of `backend` are those that count.
    pub(crate) fn install(&mut self, backend: &Backend) {
        let tiers = tiers_of(backend);
        let member = |(server, tier): (&Server, Option<usize>)| Member {
            live: Arc::clone(&server.live),
            health: Arc::clone(&server.health),
            tier,
            backup: server.backup,
            max_requests: server.max_requests,
            adapts: server.gradient.is_some(),
            says_down: server.says_down,
        };
        self.members = backend.servers.iter().zip(tiers).map(member).collect();
    }

    /// Whether a server that serves now can be done without: afterwards at most `most` percent are out, and one is left.
    pub(crate) fn may_spare(&self, health: &Arc<Health>, most: u32) -> bool {
        let counted = self.members.iter().filter(|m| m.tier.is_some());
        let (mut all, mut out) = (0, 0);
        for member in counted {
            all += 1;
            out += usize::from(Arc::ptr_eq(&member.health, health) || !member.is_well());
        }
        out < all && out * 100 <= most as usize * all
    }

    /// Works out who is passed over, and whether somebody waits for a trial.
    pub(crate) fn settle(&mut self, panic: u32, trials: &AtomicU32) {
        let tiers = self.members.iter().filter_map(|m| m.tier).max().map_or(0, |last| last + 1);
        let mut levels = vec![Level::default(); tiers];
        let mut waiting = 0;
        let well: Vec<bool> = self
            .members
            .iter()
            .map(|m| {
                // One that is full is called once it has room: until then all picks would ask for it in vain.
                let may = m.tier.is_some() && !m.says_down && m.has_room();
                waiting += u32::from(may && m.health.record().ejection == Ejection::Waits);
                m.is_well()
            })
            .collect();
        for (member, &well) in self.members.iter().zip(&well) {
            if let Some(tier) = member.tier {
                let level = &mut levels[tier];
                level.all += 1;
                level.well += usize::from(well);
                level.backup |= member.backup;
            }
        }
        let calm = panic == 0 || is_enough(&levels);
        self.panics = !calm && levels.iter().any(|level| level.is_few(panic));
        for (member, &well) in self.members.iter().zip(&well) {
            let fails_open = !calm && member.tier.is_some_and(|tier| levels[tier].is_few(panic));
            // Panic is for judges who may be wrong: nobody knows better than the server itself.
            member.live.bar(member.says_down || (!well && !fails_open));
        }
        trials.store(waiting, Relaxed);
    }

    pub(crate) fn tell(&mut self, turn: Turn, server: &Server) {
        if self.turns.len() == TURNS {
            self.turns.pop_front();
        }
        // Why, as of now: by the time that it is told there may be another reason for something else.
        self.turns.push_back((turn, server.name.clone(), server.health.record().condition().reason));
    }

    pub(crate) fn turns(&mut self) -> Vec<(Turn, Box<str>, String)> {
        self.turns.drain(..).collect()
    }

    pub(crate) fn panics(&self) -> bool {
        self.panics
    }

    pub(crate) fn healthy(&self) -> (usize, usize) {
        let counted = || self.members.iter().filter(|m| m.tier.is_some());
        (counted().filter(|m| m.is_well()).count(), counted().count())
    }
}

#[derive(Debug, Clone, Default)]
struct Level {
    all: usize,
    well: usize,
    backup: bool,
}

impl Level {
    fn is_few(&self, panic: u32) -> bool {
        self.well * 100 < panic as usize * self.all
    }
}

/// Envoy's rule: no level panics while the levels together can take the traffic; nor while a backup is well.
fn is_enough(levels: &[Level]) -> bool {
    let capacity = |level: &Level| (OVERPROVISION * level.well).checked_div(level.all).unwrap_or(0).min(100);
    let levels = || levels.iter().filter(|level| level.all > 0);
    levels().any(|level| level.backup && level.well > 0)
        || levels().filter(|level| !level.backup).map(capacity).sum::<usize>() >= 100
}

/// By server: its place among the tiers.
fn tiers_of(backend: &Backend) -> Vec<Option<usize>> {
    let mut tiers = vec![None; backend.servers.len()];
    for (tier, members) in backend.tiers.iter().map(|tier| &tier.members).enumerate() {
        members.iter().for_each(|&member| tiers[member as usize] = Some(tier));
    }
    tiers
}
