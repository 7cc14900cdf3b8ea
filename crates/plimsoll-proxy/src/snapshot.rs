//! The runtime form of one configuration: frozen, shared by all workers, swapped whole.
//!
//! A request takes a worker's [`View`] once and keeps it to the end, so it never sees two configurations. What is learned about
//! servers lives in `plimsoll-traffic`'s shared cells and goes on from one snapshot to the next by identity.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::model::{Action, Config, Hedge, Priority, Retry, RouteTimeouts, Timeouts};
use plimsoll_http::Limits;
use plimsoll_traffic::time::START;
use plimsoll_traffic::{Backend, Balancer, Dice, Memory, Millis, Pace, Router, Savings};

use crate::limits::{LimitTotals, Limiter};
use crate::pool::Pool;
use crate::proxy;
use crate::stats::Stats;
use crate::sticky::{self, Sticky};
use crate::trace::{SpanQueue, Tracer};
use crate::words::Words;

/// One configuration, ready to serve.
pub struct Snapshot {
    /// What it was made from; host names of servers are resolved.
    pub config: Config,
    /// In the order of `config.backends`.
    pub backends: Vec<Arc<Backend>>,
    /// The routes of the file, then one for each listener that has a fallback.
    pub(crate) routes: Vec<Route>,
    pub(crate) router: Router,
    /// By listener of the configuration: the route that takes what no other does.
    fallbacks: Vec<Option<usize>>,
    pub(crate) head_limits: Limits,
    /// If requests are traced.
    pub(crate) tracer: Option<Tracer>,
    /// What is counted about all of it.
    pub stats: Stats,
    /// Where servers' own words go; the same for all snapshots of a process.
    pub words: Arc<Words>,
}

/// A route with every default filled in.
pub(crate) struct Route {
    pub(crate) name: Box<str>,
    pub(crate) action: Action,
    pub(crate) first_byte: Duration,
    pub(crate) idle: Duration,
    pub(crate) tunnel: Duration,
    pub(crate) total: Option<Duration>,
    pub(crate) body_max: u64,
    pub(crate) retry: Retry,
    pub(crate) hedge: Option<Hedge>,
    /// How long answers take, where that decides something.
    pub(crate) pace: Option<Arc<Pace>>,
    pub(crate) upgrade: Vec<String>,
    pub(crate) sticky: Option<Sticky>,
    pub(crate) limits: Box<[Limiter]>,
    pub(crate) priority: Priority,
}

/// What one process tells the next one about a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// The backend's name.
    pub backend: String,
    /// The server's name in it.
    pub server: String,
    /// What is known.
    pub memory: Memory,
}

impl Snapshot {
    /// Builds the runtime form of a configuration whose names are resolved and whose sticky secret has been read; servers that `previous` has too keep what was learned about them.
    #[must_use]
    pub fn new(config: Config, previous: Option<&Snapshot>) -> Snapshot {
        let backends: Vec<Arc<Backend>> = config
            .backends
            .iter()
            .map(|spec| match previous.and_then(|p| p.backend(&spec.name)) {
                // What did not change is the same object, with everything that workers remember about it.
                Some((old_spec, old)) if old_spec == spec => Arc::clone(old),
                old => Arc::new(Backend::new(spec, old.map(|(_, backend)| &**backend))),
            })
            .collect();
        let router = Router::new(&config.routes.iter().map(|r| r.matcher.clone()).collect::<Vec<_>>());
        let stickies = config.routes.iter().zip(sticky::of_routes(&config));
        let mut routes: Vec<Route> =
            stickies.map(|(route, sticky)| Route::new(route, &config.timeouts, sticky, previous)).collect();
        let mut fallbacks = Vec::new();
        for listener in &config.listeners {
            fallbacks.push(listener.fallback.map(|backend| {
                routes.push(Route::fallback(&config, backend));
                routes.len() - 1
            }));
        }
        let limits = &config.limits;
        let head_limits = Limits { target: limits.target, section: limits.header, fields: limits.fields };
        let names = routes.iter().map(|route| &*route.name);
        let stats = Stats::new(&config, names, &backends, previous.map(|p| &p.stats));
        let words = previous.map_or_else(Arc::default, |p| Arc::clone(&p.words));
        Snapshot { backends, routes, router, fallbacks, head_limits, tracer: None, stats, words, config }
    }

    /// Traces requests as the configuration says, if it says so, and leaves those that are recorded in `queue`.
    #[must_use]
    pub fn traced(mut self, queue: Option<SpanQueue>) -> Snapshot {
        let settings = self.config.tracing.clone();
        self.tracer = settings.zip(queue).map(|(settings, queue)| Tracer { settings, queue });
        self
    }

    /// What rate limits have refused, by route.
    #[must_use]
    pub fn limits(&self) -> Vec<(&str, LimitTotals)> {
        let of = |route: &'_ Route| route.limits.iter().map(Limiter::totals).collect::<Vec<_>>();
        self.routes
            .iter()
            .flat_map(|route| of(route).into_iter().map(|totals| (&*route.name, totals)))
            .collect()
    }

    /// Traces requests as `previous` does.
    #[must_use]
    pub fn traced_as(mut self, previous: &Snapshot) -> Snapshot {
        let tracer = previous.tracer.as_ref();
        let copy =
            |tracer: &Tracer| Tracer { settings: tracer.settings.clone(), queue: tracer.queue.clone() };
        self.tracer = tracer.map(copy);
        self
    }

    /// What was learned about servers, as of `now`: what another process should know from the start.
    #[must_use]
    pub fn learned(&self, now: Millis) -> Vec<Learned> {
        let servers = self.backends.iter().flat_map(|b| b.servers.iter().map(move |s| (b, s)));
        servers
            .filter_map(|(b, s)| {
                let memory = s.memory(now)?;
                Some(Learned { backend: b.name.to_string(), server: s.name.to_string(), memory })
            })
            .collect()
    }

    /// Takes what another process knew, as of the start. What it knew of others is forgotten.
    pub fn recall(&self, learned: &[Learned]) {
        let mut by_backend: HashMap<&str, Vec<&Learned>> = HashMap::new();
        learned.iter().for_each(|one| by_backend.entry(&one.backend).or_default().push(one));
        for backend in &self.backends {
            let Some(known) = by_backend.get(&*backend.name) else { continue };
            let places: HashMap<&str, usize> = backend.servers.iter().map(|s| &*s.name).zip(0..).collect();
            let known = known.iter().filter_map(|one| Some((*places.get(one.server.as_str())?, &one.memory)));
            backend.recall(known, START);
        }
    }

    fn backend(&self, name: &str) -> Option<(&plimsoll_config::model::Backend, &Arc<Backend>)> {
        self.config.backends.iter().zip(&self.backends).find(|(spec, _)| spec.name == name)
    }
}

impl Route {
    fn new(
        route: &plimsoll_config::model::Route,
        timeouts: &Timeouts,
        sticky: Option<Sticky>,
        previous: Option<&Snapshot>,
    ) -> Route {
        let before = previous.and_then(|p| p.routes.iter().find(|old| *old.name == route.name));
        let RouteTimeouts { first_byte, idle, tunnel, total } = route.timeouts.clone();
        Route {
            name: route.name.clone().into(),
            action: route.action.clone(),
            first_byte: first_byte.unwrap_or(timeouts.first_byte),
            idle: idle.unwrap_or(timeouts.idle),
            tunnel: tunnel.unwrap_or(timeouts.tunnel),
            total,
            body_max: route.max_body.unwrap_or(u64::MAX),
            retry: route.retry,
            hedge: route.hedge,
            pace: pace(route, previous),
            upgrade: route.upgrade.clone(),
            sticky,
            limits: {
                let earlier = before.iter().flat_map(|old| &old.limits).map(Limiter::earlier).collect();
                Limiter::of(&route.limits, earlier, proxy::now_micros())
            },
            priority: route.priority.clone(),
        }
    }

    /// What a listener's own `to` means: everything to one backend, by the defaults.
    fn fallback(config: &Config, backend: usize) -> Route {
        let timeouts = &config.timeouts;
        Route {
            name: config.backends[backend].name.clone().into(),
            action: Action::Proxy(vec![(backend, 1)]),
            first_byte: timeouts.first_byte,
            idle: timeouts.idle,
            tunnel: timeouts.tunnel,
            total: None,
            body_max: u64::MAX,
            retry: Retry::default(),
            hedge: None,
            pace: None,
            upgrade: vec!["websocket".into()],
            sticky: None,
            limits: Box::default(),
            priority: Priority::default(),
        }
    }
}

/// What a route measures of its answers: what it measured before, if it has that name and quantile already.
fn pace(route: &plimsoll_config::model::Route, previous: Option<&Snapshot>) -> Option<Arc<Pace>> {
    let per_mille = match route.hedge {
        Some(Hedge::Quantile(per_mille)) => per_mille,
        None if route.timeouts.total.is_none() => return None,
        Some(Hedge::After(_)) | None => plimsoll_config::defaults::LEAST_QUANTILE,
    };
    let before = previous.and_then(|p| p.routes.iter().find(|known| *known.name == *route.name));
    let before = before.and_then(|known| known.pace.as_ref()).filter(|pace| pace.per_mille() == per_mille);
    Some(before.map_or_else(|| Arc::new(Pace::new(per_mille)), Arc::clone))
}

/// One worker's side of a snapshot: its balancers and its idle connections.
pub(crate) struct View {
    pub(crate) shared: Arc<Snapshot>,
    /// In the order of the snapshot's backends.
    pub(crate) backends: Vec<Upstream>,
    /// By listener number: its fallback; `None` for one that is not listened on any more.
    listeners: Vec<Option<Option<usize>>>,
}

/// One worker's side of a backend.
pub(crate) struct Upstream {
    pub(crate) balancer: Rc<Balancer>,
    /// In the order of the backend's servers. Shared with earlier views, whose exchanges may still bring connections back.
    pub(crate) pools: Vec<Rc<Pool>>,
    /// What this worker's requests have not added to the backend's budget yet.
    pub(crate) savings: Rc<Savings>,
}

impl View {
    /// Takes over from `old` what keeps its identity. `listeners` gives each listener's number and its place in the configuration.
    pub(crate) fn new(
        shared: Arc<Snapshot>,
        listeners: impl Iterator<Item = (usize, usize)>,
        old: Option<&View>,
        dice: &mut Dice,
    ) -> View {
        let backends = shared.backends.iter().map(|backend| Upstream::new(backend, old, dice)).collect();
        let mut by_number = Vec::new();
        for (number, place) in listeners {
            by_number.resize(by_number.len().max(number + 1), None);
            by_number[number] = Some(shared.fallbacks[place]);
        }
        View { shared, backends, listeners: by_number }
    }

    /// Closes the idle connections to servers that `next` does not have.
    pub(crate) fn retire_pools(&self, next: &View) {
        for upstream in &self.backends {
            let name = &upstream.balancer.backend().name;
            match next.backends.iter().find(|other| other.balancer.backend().name == *name) {
                Some(next) => upstream.retire_pools(next),
                None => upstream.pools.iter().for_each(|pool| pool.retire()),
            }
        }
    }

    /// The route that takes what no other does.
    pub(crate) fn fallback(&self, listener: usize) -> Option<usize> {
        self.listeners.get(listener).copied().flatten().flatten()
    }

    /// True while the listener is part of the configuration.
    pub(crate) fn has_listener(&self, listener: usize) -> bool {
        self.listeners.get(listener).is_some_and(Option::is_some)
    }
}

impl Upstream {
    fn new(backend: &Arc<Backend>, old: Option<&View>, dice: &mut Dice) -> Upstream {
        let old =
            old.and_then(|view| view.backends.iter().find(|u| u.balancer.backend().name == backend.name));
        if let Some(old) = old.filter(|old| std::ptr::eq(old.balancer.backend(), &raw const **backend)) {
            let (balancer, savings) = (Rc::clone(&old.balancer), Rc::clone(&old.savings));
            return Upstream { balancer, pools: old.pools.clone(), savings };
        }
        let savings = old.map_or_else(Rc::default, |old| Rc::clone(&old.savings));
        let pools = old.map_or_else(
            || backend.servers.iter().map(|_| Rc::default()).collect(),
            |old| old.pools_of(backend),
        );
        let balancer = match old {
            Some(old) => Balancer::after(&old.balancer, Arc::clone(backend), dice),
            None => Balancer::new(Arc::clone(backend), dice),
        };
        Upstream { balancer, pools, savings }
    }

    /// The pools of these servers, with those of servers that it has itself.
    fn pools_of(&self, backend: &Backend) -> Vec<Rc<Pool>> {
        let pool =
            |place: Option<usize>| place.map_or_else(Rc::default, |place| Rc::clone(&self.pools[place]));
        backend.kept(self.balancer.backend()).places().map(pool).collect()
    }

    /// Closes the idle connections to servers that `next`, of the same name, does not have.
    fn retire_pools(&self, next: &Upstream) {
        let (old, new) = (self.balancer.backend(), next.balancer.backend());
        if std::ptr::eq(old, new) {
            return; // nothing is gone
        }
        new.kept(old).gone().for_each(|place| self.pools[place].retire());
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn config(servers: &[u32]) -> Config {
        let servers: Vec<String> = servers.iter().map(|n| format!("10.0.0.{n}:80")).collect();
        plimsoll_config::from_flags(&[":8080".to_owned()], &servers).unwrap().config
    }

    /// Servers that come, go and move; never none.
    fn changed(servers: &[u32], dice: &mut Dice) -> Vec<u32> {
        let mut servers = servers.to_vec();
        for _ in 0..=dice.below(3) {
            let (place, server) = (dice.below(servers.len() as u32) as usize, 1 + dice.below(12));
            match dice.below(3) {
                0 if !servers.contains(&server) => servers.insert(place, server),
                1 if servers.len() > 1 => drop(servers.remove(place)),
                _ => servers.swap(place, 0),
            }
        }
        servers
    }

    #[test]
    fn pools_go_with_their_servers_whatever_a_worker_has_missed() {
        let mut dice = Dice::new(4);
        for _ in 0..200 {
            let mut servers = vec![1, 2, 3, 4];
            let mut snapshot = Arc::new(Snapshot::new(config(&servers), None));
            let mut view = View::new(Arc::clone(&snapshot), std::iter::empty(), None, &mut dice);
            let mut pools: HashMap<u32, Rc<Pool>> =
                servers.iter().copied().zip(view.backends[0].pools.iter().cloned()).collect();
            for _ in 0..6 {
                servers = changed(&servers, &mut dice);
                snapshot = Arc::new(Snapshot::new(config(&servers), Some(&snapshot)));
                if dice.below(3) == 0 {
                    continue; // this worker is late, and takes the next one
                }
                let next = View::new(Arc::clone(&snapshot), std::iter::empty(), Some(&view), &mut dice);
                view.retire_pools(&next);
                let now: HashMap<u32, Rc<Pool>> =
                    servers.iter().copied().zip(next.backends[0].pools.iter().cloned()).collect();
                for (server, pool) in &pools {
                    let kept = now.get(server);
                    assert_eq!(pool.is_retired(), kept.is_none(), "{server} in {servers:?}");
                    assert!(kept.is_none_or(|kept| Rc::ptr_eq(kept, pool)), "{server} in {servers:?}");
                }
                assert!(now.values().all(|pool| !pool.is_retired()), "{servers:?}");
                (view, pools) = (next, now);
            }
        }
    }

    #[test]
    fn who_serves_the_configuration_before_looks_no_server_up() {
        let mut dice = Dice::new(5);
        let first = Arc::new(Snapshot::new(config(&[1, 2, 3]), None));
        let second = Snapshot::new(config(&[3, 4, 1]), Some(&first));
        let third = Snapshot::new(config(&[3, 1]), Some(&second));
        let view = View::new(Arc::clone(&first), std::iter::empty(), None, &mut dice);
        let before = &first.backends[0];
        let (known, found) = (second.backends[0].kept(before), third.backends[0].kept(before));
        assert!(matches!(known, Cow::Borrowed(_)));
        assert!(known.places().eq([Some(2), None, Some(0)]) && known.gone().eq([1]));
        assert!(matches!(found, Cow::Owned(_)), "who has missed one has to look");
        assert!(found.places().eq([Some(2), Some(0)]) && found.gone().eq([1]), "and finds the same");
        let pools = |next: &Snapshot| view.backends[0].pools_of(&next.backends[0]);
        let (in_turn, late) = (pools(&second), pools(&third));
        let mine = &view.backends[0].pools;
        for [pool, expected] in [[&in_turn[0], &mine[2]], [&in_turn[2], &mine[0]]] {
            assert!(Rc::ptr_eq(pool, expected));
        }
        assert!(
            Rc::ptr_eq(&late[0], &in_turn[0]) && Rc::ptr_eq(&late[1], &in_turn[2]),
            "the same either way"
        );
        assert!(!mine.iter().any(|pool| Rc::ptr_eq(pool, &in_turn[1])), "a new server has a pool of its own");
    }
}
