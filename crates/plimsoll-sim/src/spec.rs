//! What a scenario file may say: its keys with their types, and how they become a world.
//!
//! In goes TOML, strictly: an unknown key, a wrong type or a number out of range is a problem with its place. A case says only in
//! what it differs from the file's own `[world]`. Nothing is looked up here but names of groups.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::model::{self, RetryOn};
use serde::Deserialize;
use toml::Spanned;

use crate::arrivals::{Arrivals, Traced};
use crate::law::Law;
use crate::machine::Discipline;
use crate::quantity::{Count, NotNegative, Positive, Share};
use crate::world::{Antagonist, Change, Client, Fail, Hiccup, Keys, Proxy, Server, What, World};

/// A problem at a place in the text, in bytes.
pub(crate) type Problem = (Range<usize>, String);

/// `[world]`: every key may be missing; a case's take the place of the file's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorldSpec {
    requests: Option<Count>,
    warm_up: Option<Share>,
    load: Option<Positive>,
    arrivals: Option<Spanned<Arrivals>>,
    service: Option<Law>,
    unit_ms: Option<Positive>,
    instances: Option<Count>,
    workers: Option<Count>,
    keys: Option<KeysSpec>,
    high: Option<Share>,
    client: Option<ClientSpec>,
    proxy: Option<ProxySpec>,
    delay: Option<NotNegative>,
    bin: Option<Positive>,
    servers: Option<Vec<GroupSpec>>,
    events: Option<Vec<EventSpec>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysSpec {
    count: Count,
    zipf: NotNegative,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientSpec {
    patience: Positive,
    #[serde(default)]
    retries: u32,
    pause: Option<NotNegative>,
    budget: Option<Share>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProxySpec {
    first_byte: Option<Positive>,
    retries: Option<u32>,
    idempotent: Option<bool>,
    /// Whether a request that was not answered in `first_byte` is tried again.
    retry_timeouts: Option<bool>,
    budget: Option<Share>,
    hedge: Option<HedgeSpec>,
}

/// As in a configuration, but for times, which are in units here.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum HedgeSpec {
    /// In hundredths: 95 is p95.
    Quantile(Positive),
    After(Positive),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupSpec {
    name: Option<String>,
    count: Count,
    speed: Option<Positive>,
    weight: Option<u16>,
    cores: Option<Count>,
    discipline: Option<Discipline>,
    #[serde(default)]
    backup: bool,
    max_requests: Option<Count>,
    room: Option<Count>,
    degrade: Option<DegradeSpec>,
    fail: Option<FailSpec>,
    hiccup: Option<HiccupSpec>,
    antagonist: Option<AntagonistSpec>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct HiccupSpec {
    share: Share,
    times: Positive,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct DegradeSpec {
    by: Positive,
    from: Count,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct FailSpec {
    share: Share,
    faster: Option<Positive>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AntagonistSpec {
    share: Share,
    length: Positive,
    takes: Share,
}

/// One thing that happens; `until` undoes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventSpec {
    at: Spanned<NotNegative>,
    until: Option<Spanned<Positive>>,
    servers: Option<Spanned<String>>,
    speed: Option<NotNegative>,
    /// With `speed`: begins at this and grows evenly over `over` units.
    from: Option<NotNegative>,
    over: Option<Positive>,
    fail: Option<FailSpec>,
    down: Option<bool>,
    checks_fail: Option<bool>,
    load: Option<Positive>,
    remove: Option<bool>,
    /// The groups that there are from then on.
    list: Option<Vec<Spanned<String>>>,
    /// Units from one change of the list to the next, until `until`.
    churn: Option<Positive>,
}

/// Steps of a speed that grows.
const STEPS: u32 = 20;

impl WorldSpec {
    /// This one's keys where it has them, else those of `base`.
    pub(crate) fn over(self, base: &WorldSpec) -> WorldSpec {
        let base = base.clone();
        WorldSpec {
            requests: self.requests.or(base.requests),
            warm_up: self.warm_up.or(base.warm_up),
            load: self.load.or(base.load),
            arrivals: self.arrivals.or(base.arrivals),
            service: self.service.or(base.service),
            unit_ms: self.unit_ms.or(base.unit_ms),
            instances: self.instances.or(base.instances),
            workers: self.workers.or(base.workers),
            keys: self.keys.or(base.keys),
            high: self.high.or(base.high),
            client: self.client.or(base.client),
            proxy: self.proxy.or(base.proxy),
            delay: self.delay.or(base.delay),
            bin: self.bin.or(base.bin),
            servers: self.servers.or(base.servers),
            events: self.events.or(base.events),
        }
    }

    /// The world; `trace` gives the requests of a trace file. `at` is the place to point to when nothing better is known.
    pub(crate) fn world(
        &self,
        at: &Range<usize>,
        trace: &dyn Fn(&str) -> Result<Vec<Traced>, String>,
    ) -> Result<World, Problem> {
        let usual = World::uniform(1, 0.7, 200_000);
        let groups = self.servers.as_deref().unwrap_or_default();
        if groups.is_empty() {
            return Err((at.clone(), "a world needs servers".to_owned()));
        }
        let traced = match self.arrivals.as_ref().map(|arrivals| (arrivals.as_ref(), arrivals.span())) {
            Some((Arrivals::Trace { file }, named)) => {
                Some(Arc::from(trace(file).map_err(|problem| (named, problem))?))
            }
            _ => None,
        };
        let mut world = World {
            requests: self.requests.map_or(usual.requests, |n| u64::from(n.0)),
            warm_up: self.warm_up.map_or(usual.warm_up, |share| share.0.min(0.9)),
            load: self.load.map_or(usual.load, |load| load.0),
            arrivals: self.arrivals()?,
            trace: traced,
            service: self.service.unwrap_or(usual.service),
            unit_ms: self.unit_ms.map_or(usual.unit_ms, |ms| ms.0),
            instances: self.instances.map_or(1, |n| n.0),
            workers: self.workers.map_or(1, |n| n.0),
            keys: self.keys.as_ref().map(|k| Keys { count: k.count.0, zipf: k.zipf.0 }),
            high: self.high.map_or(0.0, |share| share.0),
            client: self.client.as_ref().map_or(usual.client, |c| Client {
                patience: Some(c.patience.0),
                retries: c.retries,
                pause: c.pause.map_or(0.0, |pause| pause.0),
                budget: c.budget.map(millionths),
            }),
            proxy: self.proxy.as_ref().map_or(usual.proxy, |p| Proxy {
                first_byte: p.first_byte.map(|t| t.0),
                retries: p.retries.unwrap_or(usual.proxy.retries),
                idempotent: p.idempotent.unwrap_or(usual.proxy.idempotent),
                on: RetryOn { timeout: p.retry_timeouts.unwrap_or(false), ..usual.proxy.on },
                budget: p.budget.map_or(usual.proxy.budget, millionths),
                hedge: p.hedge.map(|hedge| hedge.model(self.unit_ms.map_or(usual.unit_ms, |ms| ms.0))),
            }),
            delay: self.delay.map_or(0.0, |delay| delay.0),
            bin: self.bin.map(|bin| bin.0),
            servers: Vec::new(),
            groups: Vec::new(),
            timeline: Vec::new(),
            configured: None,
        };
        for (index, group) in groups.iter().enumerate() {
            let start = world.servers.len();
            world.servers.extend(std::iter::repeat_n(group.server(), group.count.0 as usize));
            let name = group.name.clone().unwrap_or_else(|| format!("group {}", index + 1));
            world.groups.push((name, start..world.servers.len()));
        }
        for event in self.events.as_deref().unwrap_or_default() {
            event.happen(&mut world)?;
        }
        Ok(world)
    }

    fn arrivals(&self) -> Result<Arrivals, Problem> {
        let Some(arrivals) = &self.arrivals else { return Ok(Arrivals::Poisson) };
        match arrivals.as_ref() {
            Arrivals::Bursts { times, share, .. } if times.0 * share.0 > 1.0 || share.0 == 0.0 => {
                let why = "`share` times `times` has to be above 0 and at most 1: bursts alone would exceed the mean";
                Err((arrivals.span(), why.to_owned()))
            }
            arrivals => Ok(arrivals.clone()),
        }
    }
}

impl HedgeSpec {
    fn model(self, unit_ms: f64) -> model::Hedge {
        match self {
            HedgeSpec::Quantile(hundredths) => model::Hedge::Quantile((hundredths.0 * 10.0).round() as u32),
            HedgeSpec::After(units) => model::Hedge::After(Duration::from_secs_f64(units.0 * unit_ms / 1e3)),
        }
    }
}

fn millionths(share: Share) -> model::Share {
    model::Share((share.0 * f64::from(model::Share::ALL)).round() as u32)
}

impl GroupSpec {
    fn server(&self) -> Server {
        let usual = Server::STANDARD;
        Server {
            speed: self.speed.map_or(usual.speed, |speed| speed.0),
            weight: self.weight.unwrap_or(usual.weight),
            backup: self.backup,
            max_requests: self.max_requests.map_or(usual.max_requests, |n| n.0),
            cores: self.cores.map_or(usual.cores, |n| n.0),
            discipline: self.discipline.unwrap_or(usual.discipline),
            room: self.room.map_or(usual.room, |n| n.0 as usize),
            degrade: self.degrade.as_ref().map(|d| (d.by.0, d.from.0)),
            fail: self.fail.map_or(usual.fail, FailSpec::fail),
            hiccup: self.hiccup.map(|h| Hiccup { share: h.share.0, times: h.times.0 }),
            antagonist: self.antagonist.as_ref().map(|a| Antagonist {
                share: a.share.0,
                length: a.length.0,
                takes: a.takes.0,
            }),
        }
    }
}

impl FailSpec {
    fn fail(self) -> Fail {
        Fail { share: self.share.0, speed: self.faster.map_or(1.0, |faster| faster.0) }
    }
}

impl EventSpec {
    /// Adds what happens, and its end, to the world's timeline.
    fn happen(&self, world: &mut World) -> Result<(), Problem> {
        let at = self.at.as_ref().0;
        let until = match &self.until {
            Some(until) if until.as_ref().0 <= at => {
                return Err((until.span(), "it has to be later than `at`".to_owned()));
            }
            until => until.as_ref().map(|until| until.as_ref().0),
        };
        let servers = match &self.servers {
            None => 0..world.servers.len(),
            Some(name) => group(world, name)?,
        };
        if let Some(list) = &self.list {
            let listed = list.iter().map(|name| group(world, name)).collect::<Result<Vec<_>, _>>()?;
            world.list(at, &listed);
            return Ok(());
        }
        if let Some(every) = &self.churn {
            let until = until.ok_or_else(|| (self.at.span(), "`churn` needs `until`".to_owned()))?;
            world.churn((at, until), every.0, &servers);
            return Ok(());
        }
        let whats = [
            self.speed.map(|s| (What::Speed(s.0), What::Speed(1.0))),
            self.fail.map(|f| (What::Fail(f.fail()), What::Fail(Fail::NEVER))),
            self.down.map(|d| (What::Down(d), What::Down(!d))),
            self.checks_fail.map(|f| (What::ChecksFail(f), What::ChecksFail(!f))),
            self.load.map(|l| (What::Load(l.0), What::Load(world.load))),
            self.remove.filter(|&r| r).map(|_| (What::Remove, What::Remove)),
        ];
        let mut whats = whats.into_iter().flatten();
        let (Some((what, undo)), None) = (whats.next(), whats.next()) else {
            let why = "an event has exactly one of `speed`, `fail`, `down`, `checks_fail`, `load`, `remove = true`, `list` and `churn`";
            return Err((self.at.span(), why.to_owned()));
        };
        if what == What::Remove && until.is_some() {
            return Err((self.at.span(), "a server that is removed does not come back".to_owned()));
        }
        let mut add = |at, what| world.timeline.push(Change { at, servers: servers.clone(), what });
        match (self.from, self.over, what) {
            (None, None, _) => add(at, what),
            (Some(from), Some(over), What::Speed(to)) => (0..=STEPS).for_each(|step| {
                let part = f64::from(step) / f64::from(STEPS);
                add(at + over.0 * part, What::Speed(from.0 + (to - from.0) * part));
            }),
            _ => return Err((self.at.span(), "`from` and `over` come together, with `speed`".to_owned())),
        }
        if let Some(until) = until {
            add(until, undo);
        }
        Ok(())
    }
}

/// The servers of the group of that name.
fn group(world: &World, name: &Spanned<String>) -> Result<Range<usize>, Problem> {
    world.group(name.as_ref()).ok_or_else(|| {
        let names: Vec<&str> = world.groups.iter().map(|(name, _)| name.as_str()).collect();
        (name.span(), format!("there is no group \"{}\"; there are {}", name.as_ref(), names.join(", ")))
    })
}
