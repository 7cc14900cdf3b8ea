//! A backend's servers seen together: how many may be spared, and when everybody must serve.
//!
//! In go the records of all, out comes for each whether picks may look at it. Servers none of whose checks has ever passed are no part of this: however many join,
//! they take nobody's requests, and are no reason to think that too few are left. Only when nobody is well they are as good as all others.

use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use plimsoll_config::model::ServerState;

use super::record::Health;
use crate::backend::Backend;
use crate::server::{Bar, Live, Server};

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
    /// It is in maintenance.
    is_away: bool,
}

impl Member {
    fn has_room(&self) -> bool {
        let limit = if self.adapts { self.live.limit() } else { u32::MAX };
        self.live.in_flight() < self.max_requests.min(limit)
    }

    fn is_well(&self) -> bool {
        !self.says_down && self.health.record().is_well()
    }

    fn has_passed(&self) -> bool {
        self.health.record().has_passed()
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
                && member.is_away == is_away(server)
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
            is_away: is_away(server),
        };
        self.members = backend.servers.iter().zip(tiers).map(member).collect();
    }

    /// Those of `backend`'s servers that were in maintenance and are there again, and have to pass a check first.
    pub(crate) fn returning<'b>(&self, backend: &'b Backend) -> impl Iterator<Item = &'b Server> {
        let away: HashSet<_> =
            self.members.iter().filter(|m| m.is_away).map(|m| Arc::as_ptr(&m.health)).collect();
        let returns = move |server: &&Server| {
            server.check.is_some() && !is_away(server) && away.contains(&Arc::as_ptr(&server.health))
        };
        backend.servers.iter().filter(returns)
    }

    /// Whether a server that serves now can be done without: afterwards at most `most` percent of those that have served are out, and one is left.
    pub(crate) fn may_spare(&self, health: &Arc<Health>, most: u32) -> bool {
        let counted = self.members.iter().filter(|m| m.tier.is_some() && m.has_passed());
        let (mut all, mut out) = (0, 0);
        for member in counted {
            all += 1;
            out += usize::from(Arc::ptr_eq(&member.health, health) || !member.is_well());
        }
        out < all && out * 100 <= most as usize * all
    }

    /// Works out who is passed over, and whether somebody waits for a trial.
    pub(crate) fn settle(&mut self, panic: u32, trials: &AtomicU32) {
        let mut waiting = 0;
        let standings: Vec<Standing> = self
            .members
            .iter()
            .map(|m| {
                let record = m.health.record();
                // One that is full is called once it has room: until then all picks would ask for it in vain.
                let may = m.tier.is_some() && !m.says_down && m.has_room();
                waiting += u32::from(may && record.awaits_trial());
                match m.says_down || !record.is_well() {
                    false => Standing::Well,
                    true if record.has_passed() => Standing::Unwell,
                    true => Standing::New,
                }
            })
            .collect();
        let levels = self.levels(&standings);
        let serves = levels.iter().any(|level| level.well > 0);
        let calm = panic == 0 || is_enough(&levels);
        self.panics = !calm && levels.iter().any(|level| level.is_few(panic));
        for (member, &standing) in self.members.iter().zip(&standings) {
            let fails_open = !calm && member.tier.is_some_and(|tier| levels[tier].is_few(panic));
            // Panic is for judges who may be wrong: nobody knows better than the server itself.
            let opens = fails_open && !member.says_down;
            member.live.bar(match standing {
                // So that it is not open for a moment when it comes back.
                _ if member.is_away => Bar::Unwell,
                Standing::Well => Bar::Open,
                Standing::Unwell if opens => Bar::Open,
                Standing::New if opens && !serves => Bar::Open,
                Standing::Unwell => Bar::Unwell,
                Standing::New => Bar::New,
            });
        }
        trials.store(waiting, Relaxed);
    }

    /// By tier, how many there are. As long as anybody is well, those that are new are left out.
    fn levels(&self, standings: &[Standing]) -> Vec<Level> {
        let members = || self.members.iter().zip(standings).filter_map(|(m, &s)| Some((m, m.tier?, s)));
        let tiers = members().map(|(_, tier, _)| tier + 1).max().unwrap_or(0);
        let serves = members().any(|(_, _, standing)| standing == Standing::Well);
        let mut levels = vec![Level::default(); tiers];
        for (member, tier, standing) in members() {
            let level = &mut levels[tier];
            level.all += usize::from(!(serves && standing == Standing::New));
            level.well += usize::from(standing == Standing::Well);
            level.backup |= member.backup;
        }
        levels
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

/// What speaks against a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Well,
    Unwell,
    /// It is unwell, and no check of it has ever passed.
    New,
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

fn is_away(server: &Server) -> bool {
    server.state == ServerState::Maint
}

/// By server: its place among the tiers.
fn tiers_of(backend: &Backend) -> Vec<Option<usize>> {
    let mut tiers = vec![None; backend.servers.len()];
    for (tier, members) in backend.tiers.iter().map(|tier| &tier.members).enumerate() {
        members.iter().for_each(|&member| tiers[member as usize] = Some(tier));
    }
    tiers
}
