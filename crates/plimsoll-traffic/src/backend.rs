//! A backend as the balancer sees it: its servers and the tables that are worked out once per configuration.
//!
//! In goes one backend of the checked configuration and, on a reload, its predecessor; out comes an immutable value that
//! all workers share. A server whose name and address stay keeps its live counters; anything else begins anew. Nothing here
//! may change after `new` except through `Live`.

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::{Mutex, MutexGuard};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use plimsoll_config::model::{self, ServerState};

use crate::budget::RetryBudget;
use crate::gradient::Gradient;
use crate::hashing::Hashing;
use crate::health::{CheckRules, Health, Record, Roster};
use crate::kept::Kept;
use crate::levels::Availability;
use crate::queue::Rules;
use crate::ramp::{self, Ramp};
use crate::ranking::Ranking;
use crate::rendezvous::Seat;
use crate::reported::Reported;
use crate::server::{Bar, Server};
use crate::share;
use crate::stays;
use crate::subset;
use crate::time::Millis;
use crate::waiting::Waiting;
use crate::weights::Weights;

/// One backend; one per process, shared by all workers.
#[derive(Debug)]
pub struct Backend {
    /// As in the configuration.
    pub name: Box<str>,
    /// In the order of the file.
    pub servers: Box<[Server]>,
    /// How one is chosen.
    pub balance: model::Balance,
    /// By priority, then the backups; none where there are no servers.
    pub(crate) tiers: Box<[Tier]>,
    /// Over the servers that have a weight; 1 when none has.
    pub(crate) mean_weight: f32,
    /// Servers whose share still grows.
    pub(crate) ramp: Ramp,
    /// By server index, for sessions that go by a key.
    pub(crate) seats: Box<[Seat]>,
    /// For `hash` with a bound: requests in flight to all servers. Its own line: every request writes it.
    pub(crate) in_flight: Arc<Total>,
    /// How many further attempts its requests may have.
    pub budget: Arc<RetryBudget>,
    /// When a server that fails is passed over.
    pub(crate) eject: Option<model::Eject>,
    /// Below so many percent that are well everybody serves.
    pub(crate) panic: u32,
    /// Goes from one configuration to the next: decisions are about those that are in force.
    roster: Arc<Mutex<Roster>>,
    /// By server index: it is a member of a tier that is none of backups.
    pub(crate) serves: Box<[bool]>,
    /// How one may wait; `None`: not at all.
    pub(crate) rules: Option<Rules>,
    /// Those who wait for one of its servers, whichever configuration they came with.
    pub(crate) waiting: Arc<Waiting>,
    /// How servers' limits are found out; `None`: they are `max_requests`.
    pub(crate) adaptive: Option<model::AdaptiveConcurrency>,
    /// The field of answers in which servers may say what they want of themselves; lower case.
    pub word_field: Option<Box<str>>,
    /// Which servers it took over.
    kept: Kept,
}

/// A counter alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Total(pub(crate) AtomicU64);

/// The servers of one priority, or the backups; without those that take nothing new and those that are not in the subset.
#[derive(Debug)]
pub(crate) struct Tier {
    /// Serves only when no other tier can.
    pub(crate) backup: bool,
    pub(crate) members: Box<[u32]>,
    pub(crate) weights: Weights,
    /// For sessions that go by a key, and `hash` by `rendezvous`.
    pub(crate) ranking: Arc<Ranking>,
    /// Only for `Balance::Hash`.
    pub(crate) hashing: Option<Hashing>,
}

impl Backend {
    /// Builds the tables. Live counters are carried over from `previous` by identity: name and address. Servers that it did not
    /// have begin slowly, unless all are new.
    pub fn new(spec: &model::Backend, previous: Option<&Backend>) -> Backend {
        let places = places(spec, previous);
        let before = |place: &Option<usize>| Some(&previous?.servers[(*place)?]);
        let known: Vec<Option<&Server>> = places.iter().map(before).collect();
        let server = |((s, weight), known): ((&model::Server, u16), &Option<&Server>)| {
            let check = spec.check_of(s).map(CheckRules::of);
            let new_health = || match check {
                Some(_) => Arc::new(Health::new(Record::starting(previous.is_none()))),
                None => Arc::default(),
            };
            Server {
                name: s.name.as_str().into(),
                address: s.address.clone(),
                weight,
                priority: s.priority,
                backup: s.backup,
                max_requests: s.max_requests,
                state: s.state,
                says_down: s.said.down,
                live: known.map_or_else(Arc::default, |known| Arc::clone(&known.live)),
                check,
                health: known.map_or_else(new_health, |known| Arc::clone(&known.health)),
                gradient: gradient(spec, *known),
            }
        };
        let weights = share::weights(&spec.servers);
        let servers: Box<[Server]> = spec.servers.iter().zip(weights).zip(&known).map(server).collect();
        // One that comes back from maintenance, or was down by its own word, may have been started anew.
        let was_at_work = |known: &Option<&Server>| {
            known.is_some_and(|known| known.state != ServerState::Maint && !known.says_down)
        };
        if spec.slow_start > Duration::ZERO && known.iter().any(was_at_work) {
            let others = servers.iter().zip(&known).filter(|(_, known)| !was_at_work(known));
            others.for_each(|(server, _)| server.live.ramp.store(ramp::NEW, Relaxed));
        }
        let weights: Vec<f32> = servers.iter().filter(|s| s.takes()).map(|s| f32::from(s.weight)).collect();
        let seats: Box<[Seat]> =
            servers.iter().map(|server| Seat::new(&server.name, server.weight)).collect();
        let tiers = tiers(&servers, &seats, spec, previous);
        let mut serves: Box<[bool]> = vec![false; servers.len()].into();
        let members = tiers.iter().filter(|tier| !tier.backup).flat_map(|tier| &tier.members);
        members.for_each(|&member| serves[member as usize] = true);
        let backend = Backend {
            name: spec.name.as_str().into(),
            balance: spec.balance.clone(),
            tiers,
            serves,
            mean_weight: if weights.is_empty() {
                1.0
            } else {
                weights.iter().sum::<f32>() / weights.len() as f32
            },
            ramp: Ramp::new(spec.slow_start, &servers).with(reported(spec, servers.len())),
            seats,
            in_flight: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.in_flight)),
            budget: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.budget)),
            eject: spec.eject.clone(),
            panic: spec.panic,
            roster: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.roster)),
            rules: spec.queue.as_ref().map(rules),
            waiting: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.waiting)),
            adaptive: spec.adaptive.clone(),
            word_field: spec.agent_header.as_deref().map(Box::from),
            kept: Kept::new(&places, previous.map(|previous| (&previous.kept, previous.servers.len()))),
            servers,
        };
        backend.forget_words(previous);
        backend.begin(previous.is_none());
        backend
    }

    /// Where servers say their word in another field than before, nothing was heard in it yet.
    fn forget_words(&self, previous: Option<&Backend>) {
        if previous.is_some_and(|previous| previous.word_field != self.word_field) {
            self.servers.iter().for_each(|server| server.live.heard.store(0, Relaxed));
        }
    }

    /// Sets limits that are to be found out, and keeps out who has to be checked first. The roster stays that of the configuration in force until a `tick` of this one.
    fn begin(&self, first: bool) {
        for server in &self.servers {
            if let Some(known) = &server.gradient {
                server.live.set_limit(known.told().limit);
            }
        }
        if first {
            let mut roster = self.roster();
            roster.install(self);
            roster.settle(self.panic, &self.ramp.trials);
        } else {
            for server in &self.servers {
                if server.check.is_some() && !server.health.record().has_begun() {
                    server.live.bar(Bar::New);
                } else if server.says_down {
                    server.live.bar(Bar::Unwell);
                }
            }
        }
    }

    /// Locks what is decided for the backend as a whole. Nothing in there panics half-way through a change.
    pub(crate) fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend {
    /// Whether some server besides `this` and those that were `tried` takes requests at all; it may be full, and is not ejected.
    pub fn has_another(&self, this: u32, tried: &[u32]) -> bool {
        let mut members = self.tiers.iter().flat_map(|tier| &tier.members);
        let is_barred = |member: u32| self.servers[member as usize].live.is_barred();
        members.any(|&member| member != this && !tried.contains(&member) && !is_barred(member))
    }

    /// Which servers it has of `old`: known if it came next after that, else found out now, at the price of looking all of them up.
    pub fn kept(&self, old: &Backend) -> Cow<'_, Kept> {
        if self.kept.is_of(&old.kept) {
            return Cow::Borrowed(&self.kept);
        }
        let places = stays::places(&identities(&old.servers), &identities(&self.servers));
        Cow::Owned(Kept::new(&places, Some((&old.kept, old.servers.len()))))
    }

    /// The tables of the tier of that rank, and the servers that they speak of.
    fn hashing_of(&self, of: (bool, u8)) -> Option<(&Hashing, &[Server])> {
        let is_that =
            |tier: &&Tier| tier.members.first().is_some_and(|&i| rank(&self.servers[i as usize]) == of);
        let hashing = self.tiers.iter().find(is_that)?.hashing.as_ref()?;
        Some((hashing, &self.servers))
    }
}

/// How a server's limit is found out, if it is to be: on from what is known.
fn gradient(spec: &model::Backend, known: Option<&Server>) -> Option<Arc<Gradient>> {
    let rules = spec.adaptive.as_ref()?;
    let known = known.and_then(|known| known.gradient.as_ref());
    Some(known.map_or_else(|| Arc::new(Gradient::new(rules)), Arc::clone))
}

/// For each server its place in the backend before, by identity.
fn places(spec: &model::Backend, previous: Option<&Backend>) -> Vec<Option<usize>> {
    let old = previous.map_or_else(Vec::new, |previous| identities(&previous.servers));
    let new: Vec<_> = spec.servers.iter().map(|s| (s.name.as_str(), &s.address)).collect();
    stays::places(&old, &new)
}

fn identities(servers: &[Server]) -> Vec<(&str, &model::Address)> {
    servers.iter().map(|server| (&*server.name, &server.address)).collect()
}

/// The weights that servers report, if they do.
fn reported(spec: &model::Backend, servers: usize) -> Option<Reported> {
    spec.reported.as_ref().map(|reported| Reported::new(reported, servers))
}

fn rules(spec: &model::Queue) -> Rules {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Rules { max: spec.max, timeout: micros(spec.timeout), target: micros(spec.target) }
}

/// One for each priority that is in use, in order, and one for the backups.
fn tiers(
    servers: &[Server],
    seats: &[Seat],
    spec: &model::Backend,
    previous: Option<&Backend>,
) -> Box<[Tier]> {
    let ranks: BTreeSet<(bool, u8)> = servers.iter().map(rank).collect();
    ranks.into_iter().map(|rank| Tier::new(servers, seats, rank, spec, previous)).collect()
}

/// Backups have no priorities among themselves.
fn rank(server: &Server) -> (bool, u8) {
    (server.backup, if server.backup { 0 } else { server.priority })
}

impl Tier {
    /// How many may be chosen, and how many there are: those that have yet to show that they can serve are no reason to go elsewhere.
    pub(crate) fn availability(&self, servers: &[Server], now: Millis) -> Availability {
        let lives = || self.members.iter().map(|&member| &servers[member as usize].live);
        let available = lives().filter(|live| !live.is_closed(now)).count();
        (available as u32, lives().filter(|live| live.is_counted()).count() as u32)
    }

    fn new(
        servers: &[Server],
        seats: &[Seat],
        of: (bool, u8),
        spec: &model::Backend,
        previous: Option<&Backend>,
    ) -> Tier {
        let mut members: Vec<u32> =
            (0u32..).zip(servers).filter(|(_, s)| s.takes() && rank(s) == of).map(|(i, _)| i).collect();
        if let Some(subset) = &spec.subset {
            let name = |index: u32| &*servers[index as usize].name;
            subset::keep(&mut members, subset.size as usize, &subset.instance, name);
        }
        let mut weights = vec![0; servers.len()];
        members.iter().for_each(|&member| weights[member as usize] = servers[member as usize].weight);
        let ranking = Arc::new(Ranking::new(&members, seats));
        let hashing = match &spec.balance {
            model::Balance::Hash(hash) => {
                let before = previous.and_then(|previous| previous.hashing_of(of));
                Some(Hashing::new(hash.method, servers, &members, &ranking, before))
            }
            _ => None,
        };
        Tier { backup: of.0, weights: Weights::new(&weights), ranking, hashing, members: members.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, port: u16) -> model::Server {
        let address = model::Address::Socket(([127, 0, 0, 1], port).into());
        model::Server { max_requests: 8, ..model::Server::new(name, address) }
    }

    fn backend(servers: Vec<model::Server>, previous: Option<&Backend>) -> Backend {
        Backend::new(&model::Backend::new("b", servers, model::Balance::P2c), previous)
    }

    #[test]
    fn a_reload_keeps_the_counters_of_servers_that_stay() {
        let old = backend(vec![server("a", 1), server("b", 2)], None);
        assert!(old.servers[1].live.take(8));
        let new = backend(vec![server("c", 3), server("b", 2)], Some(&old));
        assert_eq!((new.servers[0].live.in_flight(), new.servers[1].live.in_flight()), (0, 1));
        old.servers[1].live.give_back();
        assert_eq!(new.servers[1].live.in_flight(), 0);
    }

    #[test]
    fn another_name_or_address_is_another_server() {
        let old = backend(vec![server("a", 1), server("b", 2)], None);
        old.servers.iter().for_each(|s| assert!(s.live.take(8)));
        let new = backend(vec![server("a", 9), server("z", 2)], Some(&old));
        assert!(new.servers.iter().all(|s| s.live.in_flight() == 0));
    }

    #[test]
    fn servers_of_weight_zero_are_in_no_tier() {
        let mut servers = vec![server("a", 1), server("b", 2), server("c", 3)];
        servers[0].weight = 0;
        servers[2].backup = true;
        let backend = backend(servers, None);
        assert_eq!([&*backend.tiers[0].members, &*backend.tiers[1].members], [[1], [2]]);
    }

    #[test]
    fn servers_that_are_not_ready_are_in_no_tier_and_keep_their_counters() {
        let all = || vec![server("a", 1), server("b", 2), server("c", 3)];
        let old = backend(all(), None);
        assert!(old.servers.iter().all(|s| s.live.take(8)));
        let mut servers = all();
        servers[0].state = ServerState::Drain;
        servers[1].state = ServerState::Maint;
        let new = backend(servers, Some(&old));
        assert_eq!(*new.tiers[0].members, [2]);
        assert!(new.servers.iter().all(|s| s.live.in_flight() == 1));
    }

    #[test]
    fn a_server_begins_slowly_after_maintenance_and_not_after_draining() {
        let with = |states: [ServerState; 3], previous: Option<&Backend>| {
            let mut servers = vec![server("a", 1), server("b", 2), server("c", 3)];
            servers.iter_mut().zip(states).for_each(|(server, state)| server.state = state);
            let backend = model::Backend::new("b", servers, model::Balance::P2c);
            Backend::new(&model::Backend { slow_start: Duration::from_secs(10), ..backend }, previous)
        };
        let old = with([ServerState::Ready, ServerState::Drain, ServerState::Maint], None);
        let new = with([ServerState::Ready; 3], Some(&old));
        let slow: Vec<bool> = new.servers.iter().map(|s| s.live.ramp.load(Relaxed) == ramp::NEW).collect();
        assert_eq!(slow, [false, false, true]);
    }

    #[test]
    fn one_that_says_that_it_is_down_gets_nothing_even_in_a_panic_and_then_begins_slowly() {
        let with = |down: [bool; 3], previous: Option<&Backend>| {
            let mut servers = vec![server("a", 1), server("b", 2), server("c", 3)];
            servers.iter_mut().zip(down).for_each(|(server, down)| server.said.down = down);
            let backend = model::Backend::new("b", servers, model::Balance::P2c);
            Backend::new(
                &model::Backend { slow_start: Duration::from_secs(10), panic: 50, ..backend },
                previous,
            )
        };
        let barred =
            |backend: &Backend| -> Vec<bool> { backend.servers.iter().map(|s| s.live.is_barred()).collect() };
        let old = with([false; 3], None);
        let new = with([true, true, false], Some(&old));
        assert_eq!(barred(&new), [true, true, false], "at once, not at the next tick");
        new.tick(crate::Millis(1));
        assert_eq!((barred(&new), new.panics(), new.healthy()), (vec![true, true, false], true, (1, 3)));
        assert!(!new.servers[0].is_well() && new.servers[2].is_well());
        let back = with([false, true, false], Some(&new));
        back.tick(crate::Millis(2));
        assert_eq!(barred(&back), [false, true, false]);
        let slow: Vec<bool> = back.servers.iter().map(|s| s.live.ramp.load(Relaxed) == ramp::NEW).collect();
        assert!(slow[0] && !slow[2], "{slow:?}");
        let first = with([true, false, false], None);
        assert_eq!(barred(&first), [true, false, false]);
    }

    #[test]
    fn a_share_is_a_factor_on_every_table() {
        let mut servers = vec![server("a", 1), server("b", 2)];
        servers[0].said.share = 25;
        let backend = backend(servers, None);
        let weights: Vec<u16> = backend.servers.iter().map(|s| s.weight).collect();
        assert_eq!((weights, backend.tiers[0].weights.total()), (vec![1, 4], 5));
    }

    #[test]
    fn tiers_go_by_priority_and_backups_come_last_whatever_theirs() {
        let mut servers: Vec<_> = (1..=5).map(|port| server(&port.to_string(), port)).collect();
        for (server, (priority, backup)) in
            servers.iter_mut().zip([(7, false), (0, true), (2, false), (9, true), (2, false)])
        {
            (server.priority, server.backup) = (priority, backup);
        }
        let backend = backend(servers, None);
        let tiers: Vec<(bool, &[u32])> = backend.tiers.iter().map(|t| (t.backup, &*t.members)).collect();
        assert_eq!(tiers, [(false, &[2, 4][..]), (false, &[0]), (true, &[1, 3])]);
    }

    #[test]
    fn only_servers_that_join_others_begin_slowly() {
        let spec = |servers| {
            let backend = model::Backend::new("b", servers, model::Balance::P2c);
            model::Backend { slow_start: Duration::from_secs(10), ..backend }
        };
        let new = |backend: &Backend| -> Vec<bool> {
            backend.servers.iter().map(|s| s.live.ramp.load(Relaxed) == ramp::NEW).collect()
        };
        let first = Backend::new(&spec(vec![server("a", 1), server("b", 2)]), None);
        assert_eq!(new(&first), [false, false]);
        let more = Backend::new(&spec(vec![server("a", 1), server("c", 3)]), Some(&first));
        assert_eq!(new(&more), [false, true]);
        let others = Backend::new(&spec(vec![server("d", 4)]), Some(&more));
        assert_eq!(new(&others), [false], "there is nobody else");
    }

    #[test]
    fn a_subset_is_one_of_each_tier() {
        let mut servers: Vec<_> = (1..=40).map(|port| server(&port.to_string(), port)).collect();
        servers.iter_mut().skip(20).for_each(|s| s.priority = 1);
        let backend = model::Backend::new("b", servers, model::Balance::P2c);
        let subset = Some(model::Subset { size: 12, instance: "lb-1".into() });
        let backend = Backend::new(&model::Backend { subset, ..backend }, None);
        assert!(backend.tiers.iter().all(|tier| tier.members.len() == 12));
    }
}
