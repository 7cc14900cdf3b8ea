//! Every default and every bound, each with its reason.
//!
//! The vocabulary refers to these, so the reference, the schema and the effective configuration show the same values.
//! Never computed from the machine: what depends on it (workers, descriptors) is left unset here.

use std::time::Duration;

use crate::model::Share;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A whole request head, first byte to last. A total, so that a client that trickles bytes cannot stretch it.
pub const HEADER_TIMEOUT: Duration = seconds(10);
/// Between bytes of a request body. No total: totals break large uploads.
pub const BODY_TIMEOUT: Duration = seconds(30);
/// An idle client connection: above the 60 s after which many clients and balancers in front close theirs.
pub const KEEP_ALIVE: Duration = seconds(75);
/// Connecting to a server: covers one retransmission of the SYN (1 s).
pub const CONNECT: Duration = seconds(2);
/// Until the server's head is complete; a slower answer is rarely still awaited.
pub const FIRST_BYTE: Duration = seconds(30);
/// Between bytes of a response, either side.
pub const IDLE: Duration = seconds(60);
/// A silent tunnel: WebSocket applications that ping do so far more often.
pub const TUNNEL: Duration = seconds(3_600);
/// An idle pooled connection: shorter than most servers' own keep-alive, so that they rarely close first.
pub const POOL_IDLE: Duration = seconds(15);
/// How long a graceful stop waits: what service managers allow before they kill.
pub const DRAIN: Duration = seconds(30);

/// A request target, then 414: what browsers and caches handle.
pub const TARGET_SIZE: u64 = 8 << 10;
/// A header section, then 431: room for large cookies, too little to fill memory with.
pub const HEADER_SIZE: u64 = 32 << 10;
/// Fields of a head, then 431: browsers send about 20.
pub const FIELDS: u64 = 100;
/// Requests on one client connection: lets balancers in front spread anew.
pub const REQUESTS_PER_CONNECTION: u64 = 10_000;
/// Age of a client connection: the same, for the slow ones.
pub const CONNECTION_AGE: Duration = seconds(3_600);
/// Bytes of a request body kept for a retry: most API calls fit, and 1,000 of them cost 64 MiB.
pub const REPLAY: u64 = 64 << 10;
/// Idle connections kept per server and worker: finite, and rarely reached.
pub const POOL: u64 = 1_024;

/// Requests in flight per server: finite, and above what most servers can do at once.
pub const MAX_REQUESTS: u64 = 1_024;
/// Requests that wait for a server of a backend: some tenths of a second of work for most, and a bound on what waiting costs.
pub const QUEUE_MAX: u64 = 1_024;
/// Most of them: each has a connection anyway.
pub const MOST_QUEUED: u64 = 100_000;
/// How long one waits: after a second a person has noticed, and many programs have given up.
pub const QUEUE_TIMEOUT: Duration = seconds(1);
/// Above this for a tenth of a second, what waits is no burst but too much: four times CoDel's 5 ms for packets, as requests come in larger pieces.
pub const QUEUE_TARGET: Duration = Duration::from_millis(20);
/// Longest wait for a server.
pub const LONGEST_QUEUE: Duration = seconds(600);
/// A server's share.
pub const WEIGHT: u64 = 1;
/// Two choices: near the best possible with little to know (`p2c`).
pub const POLICY: &str = "p2c";
/// How long `ewma` remembers a latency: Finagle's and linkerd's value, and a hundred times most requests' latency.
pub const EWMA_DECAY: Duration = seconds(10);
/// Whose requests a limit counts together.
pub const LIMIT_KEY: &str = "client_ip";
/// Failures in a row that eject a server: one is too nervous, ten is slow.
pub const EJECT_CONSECUTIVE: u64 = 5;
/// Percent of failures that eject it.
pub const EJECT_SHARE: u64 = 50;
/// Requests within ten seconds without which that says nothing.
pub const EJECT_REQUESTS: u64 = 20;
/// How long for the first time.
pub const EJECT_BASE: Duration = seconds(10);
/// How long at most.
pub const EJECT_LONGEST: Duration = seconds(300);
/// Shortest ejection that can be asked for.
pub const SHORTEST_EJECTION: Duration = Duration::from_millis(100);
/// Longest one.
pub const LONGEST_EJECTION: Duration = seconds(24 * 3_600);
/// Percent of the servers that may be out after an ejection: more would leave too few for the load.
pub const EJECT_MOST: u64 = 50;
/// Percent of servers that are well below which all serve: Envoy's value.
pub const PANIC: u64 = 50;
/// How long the share of a new server grows: caches and compilers are warm after some seconds.
pub const SLOW_START: Duration = seconds(10);
/// Longest growth of a share and longest memory of `ewma`.
pub const LONGEST_RAMP: Duration = seconds(3_600);
/// One check of a server every five seconds: 15 s to see that it is down, at a load that nobody notices.
pub const CHECK_EVERY: Duration = seconds(5);
/// The same for a server that is new or down, as long as it may come back any moment.
pub const CHECK_EVERY_DOWN: Duration = seconds(1);
/// A whole check: what takes longer would not serve users either.
pub const CHECK_TIMEOUT: Duration = seconds(2);
/// Failures in a row, and passes in a row: HAProxy's.
pub const CHECK_FALL: u64 = 3;
/// See [`CHECK_FALL`].
pub const CHECK_RISE: u64 = 2;
/// The least that an adaptive limit becomes: Envoy's.
pub const ADAPTIVE_LEAST: u64 = 3;
/// What it begins with: Netflix's.
pub const ADAPTIVE_START: u64 = 20;
/// How many times the unloaded latency is no load yet, in hundredths. Capacity is `tolerance` times too high, or latency so much above its least; less than this is noise.
pub const ADAPTIVE_TOLERANCE: u64 = 120;
/// See [`ADAPTIVE_TOLERANCE`].
pub const ADAPTIVE_TOLERANCES: (u64, u64) = (100, 500);
/// How long an unloaded latency is believed; Envoy measures it each minute.
pub const ADAPTIVE_PROBE: Duration = seconds(30);
/// Shortest: what is measured all the time costs capacity all the time.
pub const SHORTEST_PROBE: Duration = seconds(1);
/// An agent is asked as often as a server is checked.
pub const AGENT_EVERY: Duration = CHECK_EVERY;
/// Checks over connections at once: those of a thousand servers of which half hang.
pub const CHECKS_AT_ONCE: usize = 256;
/// Programs at once: each is a process, and a machine that runs more is busy with nothing else.
pub const PROGRAMS_AT_ONCE: usize = 16;
/// Agents that are asked at once; fewer than checks, since nothing depends on an answer that comes late.
pub const AGENTS_AT_ONCE: usize = CHECKS_AT_ONCE / 2;
/// The longest line of an agent, in bytes: the longest that says something has some forty and a reason.
pub const AGENT_LINE: usize = 4 << 10;
/// Of that, what is read at once: a line with a reason.
pub const AGENT_READ: usize = 512;
/// Statuses that pass, unless told.
pub const CHECK_STATUSES: (u16, u16) = (200, 399);
/// Shortest time between two checks of a server; they are never less than some thousands of a second apart anyway.
pub const SHORTEST_CHECK: Duration = Duration::from_millis(50);
/// Longest: what is asked less often is not known.
pub const LONGEST_CHECK: Duration = seconds(3_600);
/// Shortest and longest time that a check may take.
pub const SHORTEST_CHECK_TIMEOUT: Duration = Duration::from_millis(10);
/// See [`SHORTEST_CHECK_TIMEOUT`].
pub const LONGEST_CHECK_TIMEOUT: Duration = seconds(60);
/// Of a check's answer, in bytes: what is longer is no answer to the question.
pub const CHECK_BODY: usize = 64 << 10;
/// A regular expression, compiled, in bytes: a megabyte holds any that a person would write.
pub const REGEX_SIZE: usize = 1 << 20;
/// Shortest memory of `ewma`: below that, what was measured is forgotten while a slow answer is awaited.
pub const SHORTEST_DECAY: Duration = Duration::from_millis(100);
/// Which servers are hot for `prequal`: above the paper's baseline, 2^-0.25, of what was reported.
pub const PREQUAL_QUANTILE: u64 = 84;
/// How long a report counts for `prequal`: the paper's value.
pub const PREQUAL_AGE: Duration = seconds(1);
/// Probes for each request: the paper's value; fewer than one is too few.
pub const PREQUAL_PROBES: u64 = 300;
/// Fewest and most probes for each request, in hundredths.
pub const PROBES: (u64, u64) = (1, 1_000);
/// Servers below which `prequal` is no better than `p2c`: of so few, sixteen reports are of all.
pub const PREQUAL_SERVERS: usize = 20;
/// Servers report their weights so long before they count: gRPC's value; the first figures of a server that has just started are odd.
pub const REPORT_BLACKOUT: Duration = seconds(10);
/// How long a reported weight counts: gRPC's value.
pub const REPORT_EXPIRATION: Duration = seconds(180);
/// How much errors weigh in a reported weight, in hundredths: gRPC's value.
pub const ERROR_PENALTY: u64 = 100;
/// Greatest of these.
pub const MOST_PENALTY: u64 = 1_000;
/// How `hash` maps keys to servers: the most even of the three.
pub const HASH_METHOD: &str = "maglev";
/// Least and greatest `bound`, in hundredths: below, nearly every key moves; above, it bounds nothing.
pub const BOUND: (u64, u64) = (101, 1_000);
/// Smallest subset: with fewer, it is not unlikely that all of them are down (Finagle's minimum).
pub const SMALLEST_SUBSET: u64 = 12;
/// Highest priority.
pub const MOST_PRIORITY: u64 = 127;
/// What `hash` goes by unless told.
pub const HASH_KEY: &str = "client_ip";
/// Further tries after the first: with two, a request fails only if three servers fail it.
pub const RETRIES: u64 = 2;
/// Requests that may have another try: a fifth more work is what most servers can take while they are in trouble; Finagle's and linkerd's value.
pub const RETRY_BUDGET: Share = Share(Share::ALL / 5);
/// The same as it is written.
pub const RETRY_BUDGET_TEXT: &str = "20%";
/// Least quantile for a hedge, in thousandths: at most one request in twenty is sent twice.
pub const LEAST_QUANTILE: u32 = 950;
/// Longest time before a hedge: who waits longer has mostly left.
pub const LONGEST_HEDGE: Duration = seconds(60);
/// Upgrades that pass unless told; `h2c` is never one of them.
pub const UPGRADE: &[&str] = &["websocket"];
/// Shortest life of a sticky cookie: `Max-Age` counts whole seconds, and 0 takes it away.
pub const SHORTEST_COOKIE: Duration = seconds(1);
/// Name of a sticky cookie, before the backend's.
pub const COOKIE_NAME: &str = "plimsoll-";
/// Status of a `respond`.
pub const RESPOND_STATUS: u64 = 200;
/// Type of a `respond`'s body.
pub const CONTENT_TYPE: &str = "text/plain; charset=utf-8";
/// Permanent, and keeps the method.
pub const REDIRECT_STATUS: u64 = 308;
/// A `_` in a field name is how headers are smuggled past checks, since many servers read it as `-`.
pub const UNDERSCORES: &str = "refuse";
/// One JSON object a line.
pub const LOG_FORMAT: &str = "json";
/// Standard output: what containers and service managers collect.
pub const LOG_OUTPUT: &str = "stdout";
/// One request in a hundred: enough to see where time goes, little to store.
pub const SAMPLE: &str = "1%";
/// Traces go on through us as through others, and no stranger can have everything recorded.
pub const PARENTS: &str = "limited";
/// `service.name`, as others name themselves.
pub const SERVICE: &str = "plimsoll";

/// No time may be longer: a month is a typo or means "never", and never is not on offer.
pub const LONGEST: Duration = seconds(30 * 24 * 3_600);
/// Longest wait for a head and for a connection: beyond this, idle clients and dead servers hold resources.
pub const LONGEST_HEADER: Duration = seconds(600);
/// No time may be shorter, unless 0 has a meaning.
pub const SHORTEST: Duration = Duration::from_millis(1);
/// Greatest size of a head or target: they are held in memory whole.
pub const LARGEST_HEAD: u64 = 1 << 20;
/// Greatest replay buffer and `respond` body: likewise.
pub const LARGEST_BUFFER: u64 = 16 << 20;
/// Greatest count of connections or requests at once.
pub const MOST: u64 = 1_000_000;
/// Worker threads: more than any machine has cores.
pub const MOST_WORKERS: u64 = 1_024;
/// Further tries: more would multiply an outage.
pub const MOST_RETRIES: u64 = 10;
/// Greatest weight.
pub const MOST_WEIGHT: u64 = 65_535;
/// Servers above which `method = "rendezvous"` is warned of: a pick looks at all of them, a thousand in a fifth of a microsecond where weights are
/// equal, and in two where hardly two are.
pub const RENDEZVOUS_SERVERS: usize = 1_000;

/// Unix sockets of the admin address are for the user that runs it, as nothing else asks who is there.
pub const ADMIN_MODE: &str = "0600";
/// Connections at once per admin address; more wait. Scrapers, probes and people are few, and each costs a descriptor of traffic's.
pub const ADMIN_CONNECTIONS: usize = 64;
/// A whole request head at the admin address: whoever asks sends it at once.
pub const ADMIN_HEADER: Duration = seconds(10);
/// One question to the admin address, answer included: above an upgrade, which may take a minute, and a reload.
pub const ADMIN_CONNECTION_AGE: Duration = seconds(120);
/// Bytes of a body at the admin address: a server is a hundred.
pub const ADMIN_BODY: usize = 64 << 10;
/// Orders about servers that are in force at once: more than anybody gives by hand, and a few MB.
pub const MOST_ORDERS: usize = 65_536;
/// A token that can be tried out is none: 16 characters of base64 are 96 bits.
pub const SHORTEST_TOKEN: usize = 16;
/// Longest token: it has to fit a request head.
pub const LONGEST_TOKEN: usize = 1_024;
/// Reloads that may wait for a silent name server at once, abandoned ones included: each costs a thread.
pub const MOST_RESOLUTIONS: usize = 8;
/// All names of a reload or a start together: three name servers, twice asked for five seconds, may not answer for one name.
pub const RESOLVE: Duration = seconds(30);

/// Servers that a source may name: more are a mistake or an attack, and tables of so many are built in some milliseconds.
pub const MOST_DISCOVERED: usize = 10_000;
/// Bytes of a list: so many servers with all they can say.
pub const LARGEST_LIST: usize = 4 << 20;
/// Names that one source may lead to, as targets of SRV records or in a list: each is asked for by itself.
pub const MOST_NAMES: usize = 1_000;
/// Names that one source asks for at once.
pub const NAMES_AT_ONCE: usize = 16;
/// How often a list is asked for at most, and at least.
pub const SHORTEST_POLL: Duration = seconds(1);
/// The other end.
pub const LONGEST_POLL: Duration = seconds(3_600);
/// How often a file is looked at: reading it costs microseconds.
pub const FILE_POLL: Duration = seconds(1);
/// How often a URL is asked: a change is there within seconds, and a thousand balancers are a hundred questions a second.
pub const HTTP_POLL: Duration = seconds(10);
/// Least life of a DNS answer: a TTL of 0 is no reason to ask without end.
pub const SHORTEST_TTL: Duration = seconds(1);
/// Greatest life of a DNS answer: a server that is gone is noticed within a minute, whatever its TTL was.
pub const LONGEST_TTL: Duration = seconds(60);
/// Life of a DNS answer that does not say: that there is none of a kind often comes without a TTL, and so does what stands in /etc/hosts.
pub const UNKNOWN_TTL: Duration = seconds(10);
/// Longest wait between two questions to a source that fails; the first wait is a second, each further one twice as long.
pub const LONGEST_SOURCE_RETRY: Duration = seconds(30);
/// One question to a source in all: above what a name server that is silent takes with its retries.
pub const SOURCE_PATIENCE: Duration = seconds(15);
/// How long a start and a reload wait for the first answers: nothing serves before, so that a start is no storm of 503.
pub const FIRST_ANSWER: Duration = seconds(5);

/// Keys of rate limits that an upgrade hands over: all that sixteen limits remember, in a text of 32 MB (three times that while it is made). Of more limits each hands over its part, those keys first that owe most.
pub const HANDED_KEYS: usize = 1 << 20;
