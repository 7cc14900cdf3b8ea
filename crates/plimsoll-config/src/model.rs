//! The checked configuration: what every other crate reads.
//!
//! Comes out of `compile`, which has already reported every problem, so a value of these types is always meaningful:
//! names refer to things that exist, numbers are in range, times are positive. Nothing here knows TOML, files or sockets.

mod adaptive;
mod address;
mod admin;
mod agent;
mod discover;
mod health;
mod limit;
mod queue;
mod reports;
mod retry;
mod state;
mod sticky;
mod tracing;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use self::adaptive::AdaptiveConcurrency;
pub use self::address::Address;
pub use self::admin::{Admin, AdminBind, Token};
pub use self::agent::{Agent, Said, ServerAgent};
pub use self::discover::{Discover, Roots, Source};
pub use self::health::{Check, Eject, How, HttpCheck, Pattern, ServerCheck};
pub use self::limit::Limit;
pub use self::queue::{Class, Priority, Queue};
pub use self::reports::{Prequal, Probe, Reported};
pub use self::retry::{Hedge, Retry, RetryOn};
pub use self::state::ServerState;
pub use self::sticky::{SameSite, Sticky, StickyCookie};
pub use self::tracing::{Endpoint, Parents, Tracing};
pub use crate::secret::Secret;
pub use crate::share::Share;

/// One whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Worker threads; `None` means one per usable core.
    pub workers: Option<NonZeroUsize>,
    /// Reload by itself when a file of the configuration changes.
    pub watch: bool,
    /// Peers whose `X-Forwarded-*` and `Forwarded` are believed and extended.
    pub trusted: Vec<IpNet>,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// In the order of the file; names are unique.
    pub backends: Vec<Backend>,
    /// In the order of the file, which has no meaning: the most specific route wins.
    pub routes: Vec<Route>,
    /// Waiting times that no route overrides.
    pub timeouts: Timeouts,
    /// Sizes and counts that peers cannot exceed.
    pub limits: Limits,
    /// Choices about HTTP itself.
    pub http: Http,
    /// The access log.
    pub log: Log,
    /// What sticky cookies are sealed with; there is one if a route sets them.
    pub sticky_secret: Option<Token>,
    /// The admin addresses, if there are any.
    pub admin: Option<Admin>,
    /// Tracing, if it is on.
    pub tracing: Option<Tracing>,
}

/// A TCP address that accepts clients.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Where to bind. `":8080"` means every address, IPv6 and IPv4 (`[::]:8080`, dual stack).
    pub bind: SocketAddr,
    /// Index into `Config::backends` that takes what no route matches; from `to`.
    pub fallback: Option<usize>,
    /// Connections at once; `None` means what the descriptor limit allows.
    pub max_connections: Option<u32>,
    /// Connections at once from one client address (an IPv6 client counts by its /64).
    pub max_connections_per_client: Option<u32>,
}

/// A named group of servers that can serve the same requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// Unique. A listener's inline server list is named after its bind text, e.g. `listen :8080`.
    pub name: String,
    /// Those of the file, then those that were discovered. At least one, unless it discovers them.
    pub servers: Vec<Server>,
    /// Requests that a server may have in flight that does not say its own number.
    pub max_requests: u32,
    /// Where further servers come from.
    pub discover: Option<Discover>,
    /// How one is chosen.
    pub balance: Balance,
    /// How long the share of a new server grows until it is what its weight says; zero: it is so from the start.
    pub slow_start: Duration,
    /// How many of the servers one instance uses; `None` is all.
    pub subset: Option<Subset>,
    /// Servers report their weights themselves; `None`: only the file says.
    pub reported: Option<Reported>,
    /// When a server that fails requests is passed over; `None` is never.
    pub eject: Option<Eject>,
    /// How servers are checked that don't say it themselves; `None`: they are not.
    pub check: Option<Check>,
    /// Who is asked for the word of servers that don't say it themselves; `None`: nobody.
    pub agent: Option<Agent>,
    /// The field of answers in which servers may say their word; lower case. It does not go on to clients.
    pub agent_header: Option<String>,
    /// When fewer than so many percent of the servers are well, all that accept connections serve; 0 is never.
    pub panic: u32,
    /// How servers' limits follow their latency; `None`: they are `max_requests`.
    pub adaptive: Option<AdaptiveConcurrency>,
    /// Where requests wait while every server is full; `None`: they are refused.
    pub queue: Option<Queue>,
}

impl Backend {
    /// A backend with nothing but these; every server has its whole share from the start, whatever becomes of it, and nobody waits.
    pub fn new(name: &str, servers: Vec<Server>, balance: Balance) -> Backend {
        let (name, slow_start) = (name.to_owned(), Duration::ZERO);
        Backend {
            name,
            servers,
            max_requests: u32::MAX,
            discover: None,
            balance,
            slow_start,
            subset: None,
            reported: None,
            eject: None,
            check: None,
            agent: None,
            agent_header: None,
            panic: 0,
            adaptive: None,
            queue: None,
        }
    }

    /// How one of its servers is checked; `None`: it is not.
    pub fn check_of<'a>(&'a self, server: &'a Server) -> Option<&'a Check> {
        match &server.check {
            ServerCheck::Backends => self.check.as_ref(),
            ServerCheck::Never => None,
            ServerCheck::Own(check) => Some(check),
        }
    }
}

/// Which servers one of several instances uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subset {
    /// How many, of each priority.
    pub size: u32,
    /// What tells this instance from the others; the same after a restart.
    pub instance: String,
}

/// One address in a backend.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// The identity, unique in its backend; the address as written unless named. Hashing goes by this.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// 0 to 65,535; 0 takes nothing new.
    pub weight: u16,
    /// 0 serves first; a higher number takes what the lower ones cannot.
    pub priority: u8,
    /// Serves only when no other can: after all priorities.
    pub backup: bool,
    /// Requests in flight at once, over all workers; at least 1.
    pub max_requests: u32,
    /// Whether and how it is checked.
    pub check: ServerCheck,
    /// Whether and how its agent is asked.
    pub agent: ServerAgent,
    /// Whether it is to get requests.
    pub state: ServerState,
    /// What it says of itself; as good as nothing in a configuration that was read.
    pub said: Said,
}

impl Server {
    /// A server with nothing but these: weight 1, priority 0, any number of requests in flight, ready.
    pub fn new(name: &str, address: Address) -> Server {
        let name = name.to_owned();
        Server {
            name,
            address,
            weight: 1,
            priority: 0,
            backup: false,
            max_requests: u32::MAX,
            check: ServerCheck::Backends,
            agent: ServerAgent::Backends,
            state: ServerState::Ready,
            said: Said::default(),
        }
    }
}

/// A balancing policy with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// Power of two choices on requests in flight.
    P2c,
    /// Smooth weighted round robin.
    RoundRobin,
    /// Fewest requests in flight by weight.
    LeastConn,
    /// Weighted random.
    Random,
    /// By a key of the request.
    Hash(Hash),
    /// The first server in the list that has room.
    First,
    /// Power of two choices on measured latency times requests in flight.
    Ewma(Ewma),
    /// The best of the servers that lately reported their load.
    Prequal(Prequal),
}

/// The parameters of `hash`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hash {
    /// What it goes by.
    pub key: HashKey,
    /// How keys are mapped to servers.
    pub method: HashMethod,
    /// The most that a server may have in flight, in hundredths of the mean: 125 is 1.25 times; at least 101.
    pub bound: Option<u32>,
}

impl Hash {
    /// Maglev without a bound.
    pub fn new(key: HashKey) -> Hash {
        Hash { key, method: HashMethod::Maglev, bound: None }
    }
}

/// How keys are mapped to servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashMethod {
    /// A table, evenly filled.
    Maglev,
    /// Ketama: 160 points a server on a ring.
    Ring,
    /// The highest of a score for each server.
    Rendezvous,
}

/// The parameters of `ewma`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ewma {
    /// How long what was measured counts: after so long without anything new it counts 1/e. At least a hundred times a
    /// usual latency.
    pub decay: Duration,
}

impl Default for Ewma {
    fn default() -> Ewma {
        Ewma { decay: crate::defaults::EWMA_DECAY }
    }
}

/// What a hash goes by. A request without the key is placed by the client's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address (after trusted proxies).
    ClientIp,
    /// A header's value; the name is lower case.
    Header(String),
    /// A cookie's value.
    Cookie(String),
    /// The path without the query.
    Path,
    /// A query parameter's value.
    Query(String),
}

impl std::fmt::Display for HashKey {
    /// As it is written.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HashKey::ClientIp => f.write_str("client_ip"),
            HashKey::Path => f.write_str("path"),
            HashKey::Header(name) => write!(f, "header:{name}"),
            HashKey::Cookie(name) => write!(f, "cookie:{name}"),
            HashKey::Query(name) => write!(f, "query:{name}"),
        }
    }
}

/// Which requests go where.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// For logs; made from host and path unless given, e.g. `api.example.com/v1/*`.
    pub name: String,
    /// What must match.
    pub matcher: Matcher,
    /// What then happens.
    pub action: Action,
    /// Overrides of `Config::timeouts`.
    pub timeouts: RouteTimeouts,
    /// Largest request body in bytes; `None` is no limit.
    pub max_body: Option<u64>,
    /// What is tried again.
    pub retry: Retry,
    /// When a second server is asked; `None`: never.
    pub hedge: Option<Hedge>,
    /// Protocols that may be upgraded to, lower case (default `["websocket"]`).
    pub upgrade: Vec<String>,
    /// How requests that belong together find the same server; only of a route that proxies.
    pub sticky: Option<Sticky>,
    /// What a request has to pass, in this order.
    pub limits: Vec<Limit>,
    /// How much its requests matter while not all can be served.
    pub priority: Priority,
}

/// The conditions of a route; all must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matcher {
    /// Host without port; `None` is any.
    pub host: Option<HostMatch>,
    /// Path; `None` is any.
    pub path: Option<PathMatch>,
    /// Methods as written (they are case-sensitive); empty is any.
    pub methods: Vec<String>,
    /// Header conditions, all of which must hold.
    pub headers: Vec<HeaderMatch>,
}

/// A host condition; lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostMatch {
    /// `example.com`.
    Exact(String),
    /// `*.example.com`, kept as `example.com`: any name with one or more labels in front.
    Wildcard(String),
}

/// A path condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// `/v1/users`.
    Exact(String),
    /// `/v1/*`, kept as `/v1`: that path itself and everything below; `/*` is kept as the empty string.
    Prefix(String),
}

/// A header condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeaderMatch {
    /// Lower case.
    pub name: String,
    /// The exact value; `None` (written `"*"`) asks only that the header is there.
    pub value: Option<String>,
}

/// What a route does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Proxy to backends (indices into `Config::backends`) by weight; at least one weight above 0.
    Proxy(Vec<(usize, u32)>),
    /// Answer by itself.
    Respond {
        /// 200 to 599.
        status: u16,
        /// The body, sent as it stands.
        body: String,
        /// `text/plain; charset=utf-8` unless given.
        content_type: String,
    },
    /// Send the client elsewhere.
    Redirect {
        /// 301, 302, 303, 307 or 308 (default 308).
        status: u16,
        /// The `Location`; `{host}`, `{path}` (with leading slash) and `{query}` (with its `?`, or empty) are filled in.
        location: String,
    },
}

/// A route's own times; `None` takes the global one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteTimeouts {
    /// Until the server's head is complete.
    pub first_byte: Option<Duration>,
    /// Between bytes of a body.
    pub idle: Option<Duration>,
    /// A tunnel without a byte in either direction.
    pub tunnel: Option<Duration>,
    /// The whole exchange, tunnels excepted; no limit unless set.
    pub total: Option<Duration>,
}

/// Waiting times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// A request's head, first byte to last, in all (10 s).
    pub header: Duration,
    /// Between bytes of a request body (30 s); after 10 s also at least 240 B/s on average.
    pub body: Duration,
    /// An idle client connection between requests (75 s).
    pub keep_alive: Duration,
    /// Connecting to a server (2 s).
    pub connect: Duration,
    /// From the request's last byte to the end of the server's head (30 s).
    pub first_byte: Duration,
    /// Between bytes of a response, from the server and towards the client (60 s).
    pub idle: Duration,
    /// A tunnel without a byte in either direction (1 h).
    pub tunnel: Duration,
    /// An idle pooled connection to a server (15 s).
    pub pool_idle: Duration,
    /// How long a graceful stop waits (30 s).
    pub drain: Duration,
}

/// Sizes and counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request target (8 KiB), then 414.
    pub target: usize,
    /// Bytes of a header section (32 KiB), then 431.
    pub header: usize,
    /// Header fields (100), then 431.
    pub fields: usize,
    /// Requests on one client connection (10,000).
    pub requests_per_connection: u32,
    /// Age of a client connection after which its next answer closes it (1 h).
    pub connection_age: Duration,
    /// Bytes of a request body kept for a retry (64 KiB).
    pub replay: usize,
    /// Idle connections kept per server and worker (1,024).
    pub pool: usize,
    /// Bytes of memory that the process may use; `None` is what its control group or the machine has.
    pub memory: Option<u64>,
}

/// Choices about HTTP itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Field names with `_`.
    pub underscores: Underscores,
    /// The pseudonym in a `Via` field, both ways; none by default.
    pub via: Option<String>,
    /// The field that a request's id goes by, as it is to be spelled; no ids by default.
    pub request_id: Option<String>,
}

/// What becomes of a field whose name contains `_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underscores {
    /// 400 (the default).
    Refuse,
    /// The field is left out.
    Drop,
    /// The field passes.
    Keep,
}

/// The access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// Where it goes.
    pub output: LogOutput,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line (the default).
    Json,
    /// The Common Log Format.
    Common,
    /// The Combined Log Format.
    Combined,
    /// No access log.
    Off,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard output (the default).
    Stdout,
    /// A file, opened for appending, reopened on USR1.
    File(PathBuf),
}
