//! What is simulated: servers, load, clients, and what happens to them; all values are ready to use.
//!
//! Comes from a scenario (`spec`) or is built by hand in tests. Time is counted in units: one is the mean service time of one
//! core of speed 1. It says nothing about policies: the same world is run under each of them.

use std::ops::Range;
use std::sync::Arc;

use plimsoll_config::model;
use plimsoll_traffic::hash_key;

use crate::arrivals::{Arrivals, Traced};
use crate::law::Law;
use crate::machine::Discipline;

/// A world to run policies in.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// Requests that arrive in all; retries of clients don't count.
    pub requests: u64,
    /// The part of them that comes before measuring begins, for the queues to fill.
    pub warm_up: f64,
    /// Arrivals in a unit over the capacity in a unit.
    pub load: f64,
    /// How they come.
    pub arrivals: Arrivals,
    /// What `Arrivals::Trace` says.
    pub trace: Option<Arc<[Traced]>>,
    /// How much work each is.
    pub service: Law,
    /// Milliseconds in a unit, for what production counts in real time.
    pub unit_ms: f64,
    /// Load balancers that share nothing; requests reach them at random.
    pub instances: u32,
    /// Workers of each, which share what production's workers share.
    pub workers: u32,
    /// What requests are hashed by; `None` gives each a key of its own.
    pub keys: Option<Keys>,
    /// The part of the requests that is of the high class; the others are of the usual one.
    pub high: f64,
    /// How the clients behave.
    pub client: Client,
    /// What the balancers do besides choosing.
    pub proxy: Proxy,
    /// The mean delay between a balancer and a server, one way, exponential above a fixed half; in units.
    pub delay: f64,
    /// The width of the time series' bins in units; `None` makes about 120.
    pub bin: Option<f64>,
    /// The servers.
    pub servers: Vec<Server>,
    /// Names for ranges of servers; all together are all servers.
    pub groups: Vec<(String, Range<usize>)>,
    /// What happens when, in any order.
    pub timeline: Vec<Change>,
    /// The servers as a user's configuration has them; `None` takes names and addresses that mean nothing.
    pub configured: Option<Vec<model::Server>>,
}

/// A simulated server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Server {
    /// 1 does one unit of work in a unit, on each core.
    pub speed: f64,
    /// As in a configuration.
    pub weight: u16,
    /// As in a configuration.
    pub backup: bool,
    /// As in a configuration.
    pub max_requests: u32,
    /// How many.
    pub cores: u32,
    /// How requests share them.
    pub discipline: Discipline,
    /// Requests on it at once; it answers more with an error, at once.
    pub room: usize,
    /// It slows down under load: by `1 + alpha * (requests - from)`.
    pub degrade: Option<(f64, u32)>,
    /// Which part of its answers are failures.
    pub fail: Fail,
    /// Which of its answers take long, by chance of its own.
    pub hiccup: Option<Hiccup>,
    /// A neighbour that takes part of the machine at times.
    pub antagonist: Option<Antagonist>,
}

/// Failures of a server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fail {
    /// The part of requests, 0 to 1.
    pub share: f64,
    /// How many times faster those are answered.
    pub speed: f64,
}

/// Requests that take long at this server, and at another maybe not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hiccup {
    /// The part of the requests, 0 to 1.
    pub share: f64,
    /// How many times the work.
    pub times: f64,
}

impl Hiccup {
    /// The factor for a request of this luck at this server: the same under every policy, and for another server another chance.
    pub(crate) fn of(self, luck: f64, server: u32) -> f64 {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&luck.to_le_bytes());
        bytes[8..].copy_from_slice(&server.to_le_bytes());
        let unit = (hash_key(&bytes) >> 11) as f64 / (1u64 << 53) as f64;
        if unit < self.share { self.times } else { 1.0 }
    }
}

/// A neighbour that is on or off; both times are exponential.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Antagonist {
    /// The part of the time that it is on.
    pub share: f64,
    /// The mean time that it stays on, in units.
    pub length: f64,
    /// The part of the speed that it takes meanwhile.
    pub takes: f64,
}

/// The keys that requests are hashed by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Keys {
    /// How many there are.
    pub count: u32,
    /// The k-th comes in proportion to `1 / k^zipf`.
    pub zipf: f64,
}

/// How clients behave.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Client {
    /// Units until it gives up; `None` waits for ever.
    pub patience: Option<f64>,
    /// Further tries after giving up or failing.
    pub retries: u32,
    /// Units between tries.
    pub pause: f64,
    /// They keep to one budget of production's, to which each request adds so much; `None` keeps to none.
    pub budget: Option<model::Share>,
}

/// What the balancers do besides choosing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proxy {
    /// Units until the server's answer must have begun.
    pub first_byte: Option<f64>,
    /// Further attempts on other servers.
    pub retries: u32,
    /// Whether requests may be repeated after they were sent.
    pub idempotent: bool,
    /// After what.
    pub on: model::RetryOn,
    /// What each request adds to the budget of its instance.
    pub budget: model::Share,
    /// When a second server is asked.
    pub hedge: Option<model::Hedge>,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// When, in units.
    pub at: f64,
    /// To whom.
    pub servers: Range<usize>,
    /// What.
    pub what: What,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum What {
    /// They run at this speed times their own.
    Speed(f64),
    /// They fail so.
    Fail(Fail),
    /// They refuse connections, and what is on them is lost; or they are back, empty.
    Down(bool),
    /// They answer every check with an error, and requests as ever; or checks too.
    ChecksFail(bool),
    /// Requests come at another load.
    Load(f64),
    /// A reload takes them out of the configuration.
    Remove,
    /// They are in the list of servers, with the weight and state that they have there, or are not.
    Present(bool),
    /// They are told another weight.
    Weight(u16),
    /// They are told another state.
    State(model::ServerState),
}

/// Requests at least when a scenario is told with fewer servers.
const FEWEST: u64 = 50_000;

impl Server {
    /// The measure: one core of speed 1, first come first served.
    pub const STANDARD: Server = Server {
        speed: 1.0,
        weight: 1,
        backup: false,
        max_requests: u32::MAX,
        cores: 1,
        discipline: Discipline::Fifo,
        room: usize::MAX,
        degrade: None,
        fail: Fail::NEVER,
        hiccup: None,
        antagonist: None,
    };
}

impl Fail {
    /// A server that works.
    pub const NEVER: Fail = Fail { share: 0.0, speed: 1.0 };
}

impl World {
    /// `n` standard servers at `load`, one instance with one worker, Poisson arrivals, exponential service of 10 ms.
    pub fn uniform(n: usize, load: f64, requests: u64) -> World {
        World {
            requests,
            warm_up: 0.1,
            load,
            arrivals: Arrivals::Poisson,
            trace: None,
            service: Law::Exponential,
            unit_ms: 10.0,
            instances: 1,
            workers: 1,
            keys: None,
            high: 0.0,
            client: Client::default(),
            proxy: Proxy {
                first_byte: None,
                retries: 2,
                idempotent: true,
                on: model::RetryOn::USUAL,
                budget: plimsoll_config::defaults::RETRY_BUDGET,
                hedge: None,
            },
            delay: 0.0,
            bin: None,
            servers: vec![Server::STANDARD; n],
            groups: vec![("all".to_owned(), 0..n)],
            timeline: Vec::new(),
            configured: None,
        }
    }

    /// Units of work that the primaries can do in a unit.
    pub fn capacity(&self) -> f64 {
        let primaries = self.servers.iter().filter(|s| !s.backup);
        primaries.map(|s| s.speed * f64::from(s.cores)).sum()
    }

    /// The servers that `name` names; `all` always does.
    pub fn group(&self, name: &str) -> Option<Range<usize>> {
        let found = self.groups.iter().find(|(group, _)| group == name).map(|(_, range)| range.clone());
        found.or_else(|| (name == "all").then_some(0..self.servers.len()))
    }

    /// The same story with a user's servers in the parts; see `Scenario::with_servers`.
    pub(crate) fn played_by(&self, configured: &[model::Server]) -> World {
        let (n, old) = (configured.len(), self.servers.len());
        let weights: Vec<f64> = configured.iter().map(|s| f64::from(s.weight.max(1))).collect();
        let mean = weights.iter().sum::<f64>() / n as f64;
        let mut world = World { servers: Vec::new(), groups: Vec::new(), ..self.clone() };
        let mut moved: Vec<(Range<usize>, Range<usize>)> = vec![(0..old, 0..n)];
        for (index, (name, range)) in self.groups.iter().enumerate() {
            let start = world.servers.len();
            // Its part of the servers, but one at least for it and for each that follows, as far as they go.
            let left = self.groups.len() - index - 1;
            let fair = (range.end as f64 / old as f64 * n as f64).round() as usize;
            let end = if left == 0 { n } else { fair.max(start + 1).min(n.saturating_sub(left)).max(start) };
            for (server, weight) in configured[start..end].iter().zip(&weights[start..end]) {
                let pattern = self.servers[range.start];
                world.servers.push(Server {
                    speed: pattern.speed * weight / mean,
                    backup: server.backup,
                    ..pattern
                });
            }
            world.groups.push((name.clone(), start..end));
            moved.push((range.clone(), start..end));
        }
        for change in &mut world.timeline {
            let found = moved.iter().find(|(from, _)| *from == change.servers);
            change.servers = found.map_or(0..0, |(_, to)| to.clone());
        }
        let requests = self.requests as f64 * world.capacity() / self.capacity();
        world.requests = (requests as u64).clamp(FEWEST.min(self.requests), self.requests);
        world.configured = Some(configured.to_vec());
        world
    }

    /// About how long it takes until all have arrived, in units.
    pub(crate) fn span(&self) -> f64 {
        match (&self.arrivals, &self.trace) {
            (Arrivals::Closed { clients, think }, _) => {
                let rate = (f64::from(clients.0) / (think.0 + 1.0)).min(self.capacity());
                self.requests as f64 / rate
            }
            (_, Some(trace)) => {
                let last = trace.len().min(self.requests as usize).saturating_sub(1);
                trace.get(last).map_or(1.0, |t| (t.at * 1e3 / self.unit_ms).max(1.0))
            }
            _ => self.requests as f64 / (self.load * self.capacity()),
        }
    }

    /// When the last change has happened, in units.
    pub(crate) fn last_change(&self) -> f64 {
        self.timeline.iter().map(|change| change.at).fold(0.0, f64::max)
    }

    /// The servers as a backend's model, without those in `gone`; `pattern` gives what a world says nothing about.
    pub(crate) fn backend(&self, pattern: &model::Backend, gone: &[bool]) -> model::Backend {
        let mut backend = pattern.clone();
        let template = &pattern.servers[0];
        let simulated = |(index, server): (usize, &Server)| {
            if let Some(configured) = &self.configured {
                return configured[index].clone();
            }
            let mut model = template.clone();
            model.name = format!("server-{index}");
            model.address = model::Address::Name(model.name.clone(), 80);
            model.weight = server.weight;
            model.backup = server.backup;
            model.max_requests = server.max_requests;
            model
        };
        let stays = |(index, _): &(usize, &Server)| !gone.get(*index).copied().unwrap_or(false);
        backend.servers = self.servers.iter().enumerate().filter(stays).map(simulated).collect();
        backend
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(weights: &[u16]) -> Vec<model::Server> {
        let server = |(index, &weight): (usize, &u16)| model::Server {
            weight,
            name: format!("s{index}"),
            ..crate::policy::pattern().servers[0].clone()
        };
        weights.iter().enumerate().map(server).collect()
    }

    fn gray() -> World {
        let mut world = World::uniform(100, 0.7, 1_000_000);
        world.servers[..10].iter_mut().for_each(|s| s.speed = 0.1);
        world.groups = vec![("slow".to_owned(), 0..10), ("quick".to_owned(), 10..100)];
        world.timeline.push(Change { at: 1.0, servers: 0..10, what: What::Speed(0.5) });
        world
    }

    #[test]
    fn every_part_is_played_by_its_share_of_a_users_servers() {
        let world = gray().played_by(&configured(&[1; 20]));
        assert_eq!(world.groups, [("slow".to_owned(), 0..2), ("quick".to_owned(), 2..20)]);
        assert_eq!((world.servers[1].speed, world.servers[2].speed), (0.1, 1.0));
        assert_eq!(world.timeline[0].servers, 0..2);
        let few = gray().played_by(&configured(&[1, 3]));
        assert_eq!(few.groups, [("slow".to_owned(), 0..1), ("quick".to_owned(), 1..2)]);
        assert_eq!(
            (few.servers[0].speed, few.servers[1].speed),
            (0.05, 1.5),
            "weights are taken at their word"
        );
    }
}
