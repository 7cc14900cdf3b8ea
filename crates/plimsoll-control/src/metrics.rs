//! The metrics page: everything that is counted, by the names that `docs/METRICS.md` lists.
//!
//! Made anew for every question from what the data plane has counted and what is published. The values of labels are names from the
//! configuration and words of closed lists, never anything that a client sent, so their number is bounded.

mod words;

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use plimsoll_proxy::{CODES, ListenerTotals, ServerTotals, Snapshot, Stats, Totals, WorkerLoad};
use plimsoll_traffic::{Backend, LastCheck, Server};

use crate::discovery::{Known, Origin};
use crate::exported::EXPORTED;
use crate::exposition::{Kind, Page, label};
use crate::process::Process;

/// Reloads so far; the start counts as the first success.
#[derive(Debug)]
pub(crate) struct Reloads {
    succeeded: AtomicU64,
    failed: AtomicU64,
    is_last_good: AtomicBool,
    /// In seconds since 1970.
    last_success: AtomicU64,
}

impl Reloads {
    pub(crate) fn new() -> Reloads {
        Reloads {
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            is_last_good: AtomicBool::new(true),
            last_success: AtomicU64::new(now()),
        }
    }

    /// Counts one. Called by the one loop that reloads.
    pub(crate) fn count(&self, is_good: bool) {
        let counter = if is_good { &self.succeeded } else { &self.failed };
        counter.fetch_add(1, Relaxed);
        self.is_last_good.store(is_good, Relaxed);
        if is_good {
            self.last_success.store(now(), Relaxed);
        }
    }

    /// Succeeded, failed, whether the last one was good, and when the last good one was, in seconds since 1970.
    pub(crate) fn read(&self) -> (u64, u64, bool, u64) {
        let read = |n: &AtomicU64| n.load(Relaxed);
        (read(&self.succeeded), read(&self.failed), self.is_last_good.load(Relaxed), read(&self.last_success))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Something that has samples, under its labels.
struct Row<T> {
    labels: String,
    of: T,
}

fn row<T>(labels: String, of: T) -> Row<T> {
    Row { labels, of }
}

/// The exchanges of something, and how many it has in flight.
type Exchanges<'t> = (&'t Totals, u64);

/// A family with one number a row.
fn each<T, V: Display>(
    page: &mut Page,
    (name, kind, help): (&str, Kind, &str),
    rows: &[Row<T>],
    value: impl Fn(&T) -> V,
) {
    let mut family = page.family(name, kind, help);
    rows.iter().for_each(|row| family.sample(&row.labels, value(&row.of)));
}

/// The whole page.
pub(crate) fn page(
    snapshot: &Snapshot,
    reloads: &Reloads,
    origins: &[Arc<Origin>],
    is_ready: bool,
) -> String {
    let mut page = Page::default();
    let stats = &snapshot.stats;
    let listeners = stats.listeners();
    process(&mut page, is_ready);
    configuration(&mut page, reloads);
    workers(&mut page, stats);
    tracing(&mut page, stats);
    limits(&mut page, &listeners);
    connections(&mut page, &listeners);
    let rows =
        listeners.iter().map(|l| row(label("listener", &l.address), (&l.traffic, l.traffic.in_flight())));
    traffic(&mut page, "listener", "on the listener", &rows.collect::<Vec<_>>());
    // A route appears with its first request: most of ten thousand never have one.
    let routes: Vec<_> = stats.routes().into_iter().filter(|(_, totals)| totals.begun > 0).collect();
    let rows = routes.iter().map(|(name, totals)| row(label("route", name), (totals, totals.in_flight())));
    traffic(&mut page, "route", "that matched the route", &rows.collect::<Vec<_>>());
    rates(&mut page, snapshot);
    backends(&mut page, snapshot);
    servers(&mut page, snapshot);
    checks(&mut page, snapshot);
    words::wishes(&mut page, snapshot);
    words::agents(&mut page, snapshot);
    discovery(&mut page, origins);
    page.finish()
}

fn process(page: &mut Page, is_ready: bool) {
    let version = label("version", env!("CARGO_PKG_VERSION"));
    page.family("plimsoll_build_info", Kind::Gauge, "Which Plimsoll this is; always 1.").sample(&version, 1);
    let help = "Whether it accepts clients: 1, or 0 while it starts or drains.";
    page.single("plimsoll_ready", Kind::Gauge, help, Some(u8::from(is_ready)));
    let p = Process::look();
    let help = "CPU time of the process, in programs and in the kernel.";
    page.single("process_cpu_seconds_total", Kind::Counter, help, p.cpu_seconds);
    let help = "When the process started, in seconds since 1970.";
    page.single("process_start_time_seconds", Kind::Gauge, help, p.start_time_seconds);
    let help = "Memory of the process that is in RAM.";
    page.single("process_resident_memory_bytes", Kind::Gauge, help, p.resident_memory_bytes);
    let help = "Address space of the process.";
    page.single("process_virtual_memory_bytes", Kind::Gauge, help, p.virtual_memory_bytes);
    page.single("process_open_fds", Kind::Gauge, "Open file descriptors.", p.open_fds);
    page.single("process_max_fds", Kind::Gauge, "File descriptors that may be open.", p.max_fds);
    page.single("process_threads", Kind::Gauge, "Threads of the process.", p.threads);
}

fn configuration(page: &mut Page, reloads: &Reloads) {
    let (succeeded, failed, is_last_good, last_success) = reloads.read();
    let help = "Reloads of the configuration since the start, by result.";
    let mut family = page.family("plimsoll_config_reloads_total", Kind::Counter, help);
    family.sample(&label("result", "success"), succeeded);
    family.sample(&label("result", "failure"), failed);
    let help = "Whether the last reload succeeded: 1, or 0 while an older configuration stays in force.";
    page.single("plimsoll_config_last_reload_successful", Kind::Gauge, help, Some(u8::from(is_last_good)));
    let help = "When the configuration in force was taken, in seconds since 1970.";
    page.single(
        "plimsoll_config_last_reload_success_timestamp_seconds",
        Kind::Gauge,
        help,
        Some(last_success),
    );
}

fn workers(page: &mut Page, stats: &Stats) {
    let loads = stats.worker_loads().into_iter().enumerate();
    let rows: Vec<Row<WorkerLoad>> =
        loads.map(|(n, load)| row(label("worker", &n.to_string()), load)).collect();
    let help = "Clients' connections that the worker has.";
    each(page, ("plimsoll_worker_connections", Kind::Gauge, help), &rows, |load| load.connections);
    let help = "Time that the worker has not slept.";
    let busy = |load: &WorkerLoad| load.busy.as_secs_f64();
    each(page, ("plimsoll_worker_busy_seconds_total", Kind::Counter, help), &rows, busy);
    let help = "Access log lines dropped because their output was slow, full or closed.";
    page.single("plimsoll_log_lines_dropped_total", Kind::Counter, help, Some(stats.log_lines_dropped()));
    let help = "What is given up for want of memory, connections or time: 0 nothing, 1 keeping connections alive, 2 new requests of the low class, 3 those of the normal class, 4 all new requests.";
    page.single("plimsoll_pressure_level", Kind::Gauge, help, Some(stats.pressure().level() as u8));
    let help = "New requests refused under pressure.";
    page.single("plimsoll_pressure_refused_total", Kind::Counter, help, Some(stats.pressure().refused()));
}

/// What became of spans. Of requests that are not recorded there is nothing to count.
fn tracing(page: &mut Page, stats: &Stats) {
    let read = |n: &AtomicU64| n.load(Relaxed);
    let help = "Spans that the collector has taken.";
    page.single("plimsoll_tracing_spans_exported_total", Kind::Counter, help, Some(read(&EXPORTED.taken)));
    let help = "Spans that were recorded and not taken by the collector, by reason.";
    let mut family = page.family("plimsoll_tracing_spans_dropped_total", Kind::Counter, help);
    for (reason, n) in EXPORTED.dropped(stats) {
        family.sample(&label("reason", reason), n);
    }
    let help = "Requests to the collector that failed, those included that were tried again.";
    page.single(
        "plimsoll_tracing_export_failures_total",
        Kind::Counter,
        help,
        Some(read(&EXPORTED.failures)),
    );
}

fn limits(page: &mut Page, listeners: &[ListenerTotals]) {
    let errors = |reasons: &[&str]| -> u64 {
        let all = listeners.iter().flat_map(|l| &l.traffic.errors);
        all.filter(|(reason, _)| reasons.contains(reason)).map(|(_, n)| n).sum()
    };
    let help = "How often a limit made a client wait or was the reason for an error.";
    let mut family = page.family("plimsoll_limits_reached_total", Kind::Counter, help);
    for (limit, n) in [
        ("connections", listeners.iter().map(|l| l.pauses).sum()),
        ("connections_per_client", listeners.iter().map(|l| l.refused).sum()),
        ("descriptors", errors(&["no_descriptors"])),
        ("max_requests", errors(&["servers_full"])),
        ("overload", errors(&["overloaded"])),
        ("rate", errors(&["rate_limited"])),
        ("queue", errors(&["queue_full", "queue_timeout", "queue_overload"])),
        ("body", errors(&["body_too_large"])),
        ("head", errors(&["header_too_large", "too_many_fields", "target_too_long"])),
    ] {
        family.sample(&label("limit", limit), n);
    }
}

fn connections(page: &mut Page, listeners: &[ListenerTotals]) {
    let rows: Vec<Row<&ListenerTotals>> =
        listeners.iter().map(|l| row(label("listener", &l.address), l)).collect();
    let help = "Connections accepted, those that were turned away included.";
    each(page, ("plimsoll_listener_connections_total", Kind::Counter, help), &rows, |l| l.accepted);
    each(page, ("plimsoll_listener_connections", Kind::Gauge, "Open connections."), &rows, |l| l.open);
    let help = "Connections turned away because their client had too many.";
    each(page, ("plimsoll_listener_connections_refused_total", Kind::Counter, help), &rows, |l| l.refused);
    let help = "How often accepting rested for 20 ms because no more connections fitted.";
    each(page, ("plimsoll_listener_accept_pauses_total", Kind::Counter, help), &rows, |l| l.pauses);
}

/// The families that listeners, routes, backends and servers have alike; `which` tells the requests that are meant.
fn traffic(page: &mut Page, level: &str, which: &str, rows: &[Row<Exchanges<'_>>]) {
    let name = |rest: &str| format!("plimsoll_{level}_{rest}");
    let help = format!("Requests {which} that have ended, by class of the status that the client was sent.");
    let requests = name("requests_total");
    let mut family = page.family(&requests, Kind::Counter, &help);
    for Row { labels, of: (totals, _) } in rows {
        for (code, n) in CODES.iter().zip(totals.codes) {
            family.sample(&format!("{labels},{}", label("code", code)), n);
        }
    }
    let help = format!("Requests {which} that have not ended.");
    each(page, (&name("requests_in_flight"), Kind::Gauge, &help), rows, |(_, in_flight)| *in_flight);
    let help =
        format!("Time of requests {which}, from the head to the answer's end, or to the 101 of an upgrade.");
    let durations = name("request_duration_seconds");
    let mut family = page.family(&durations, Kind::Histogram, &help);
    rows.iter().for_each(|row| family.histogram(&row.labels, &row.of.0.took));
    let help = format!("Bytes from clients, heads included, of requests {which}.");
    each(page, (&name("received_bytes_total"), Kind::Counter, &help), rows, |(totals, _)| totals.received);
    let help = format!("Bytes to clients, heads included, of requests {which}.");
    each(page, (&name("sent_bytes_total"), Kind::Counter, &help), rows, |(totals, _)| totals.sent);
    if level != "server" {
        let help = format!("Attempts beyond the first of requests {which}.");
        each(page, (&name("retries_total"), Kind::Counter, &help), rows, |(totals, _)| totals.retries);
    }
    let help = match level {
        "server" => {
            "Attempts that failed by the server's doing, retried ones included, by reason.".to_owned()
        }
        _ => format!("Requests {which} that ended with an error, by reason."),
    };
    let errors = name("errors_total");
    let mut family = page.family(&errors, Kind::Counter, &help);
    for Row { labels, of: (totals, _) } in rows {
        for (reason, n) in &totals.errors {
            family.sample(&format!("{labels},{}", label("reason", reason)), n);
        }
    }
}

fn backends(page: &mut Page, snapshot: &Snapshot) {
    let totals: Vec<Totals> = (0..snapshot.backends.len()).map(|n| snapshot.stats.backend(n)).collect();
    let rows = snapshot.backends.iter().zip(&totals).map(|(backend, totals)| {
        let in_flight = backend.servers.iter().map(|server| u64::from(server.live.in_flight())).sum();
        row(label("backend", &backend.name), (totals, in_flight))
    });
    traffic(page, "backend", "for the backend", &rows.collect::<Vec<_>>());
    let rows: Vec<Row<&Backend>> =
        snapshot.backends.iter().map(|b| row(label("backend", &b.name), &**b)).collect();
    let help = "Servers of the backend that could serve: those with a weight.";
    each(page, ("plimsoll_backend_servers", Kind::Gauge, help), &rows, |b| b.healthy().1);
    let help = "Servers of the backend that are well.";
    each(page, ("plimsoll_backend_servers_healthy", Kind::Gauge, help), &rows, |b| b.healthy().0);
    let help = "1 while so few servers are well that all that accept connections serve.";
    each(page, ("plimsoll_backend_panic", Kind::Gauge, help), &rows, |b| u8::from(b.panics()));
    queues(page, snapshot);
    let help =
        "Attempts beyond the first that the backend's requests could have now, retries and hedges together.";
    let left = |backend: &&Backend| backend.budget.left(plimsoll_proxy::now());
    each(page, ("plimsoll_backend_retry_budget", Kind::Gauge, help), &rows, left);
    further(page, snapshot);
}

fn rates(page: &mut Page, snapshot: &Snapshot) {
    let help = "Requests that a rate limit refused, or would have refused but for a dry run.";
    let mut family = page.family("plimsoll_route_limited_total", Kind::Counter, help);
    for (route, limit) in snapshot.limits() {
        let mode = if limit.dry_run { "dry_run" } else { "enforced" };
        let labels = [label("route", route), label("key", &limit.key), label("mode", mode)].join(",");
        family.sample(&labels, limit.refused);
    }
    let help = "Keys that a rate limit gave a fresh start for want of memory.";
    let mut family = page.family("plimsoll_route_limit_keys_forgotten_total", Kind::Counter, help);
    for (route, limit) in snapshot.limits() {
        family.sample(&[label("route", route), label("key", &limit.key)].join(","), limit.forgotten);
    }
}

/// Those who wait for a server.
fn queues(page: &mut Page, snapshot: &Snapshot) {
    let named = || snapshot.backends.iter().map(|backend| (label("backend", &backend.name), backend));
    let rows: Vec<Row<u32>> = named().map(|(labels, backend)| row(labels, backend.waiting())).collect();
    let help = "Requests that wait for a server that has room.";
    each(page, ("plimsoll_backend_queue_length", Kind::Gauge, help), &rows, |&waiting| waiting);
    let help = "Time that requests have waited for a server that has room, those that did.";
    let mut family = page.family("plimsoll_backend_queue_wait_seconds", Kind::Histogram, help);
    named().enumerate().for_each(|(n, (labels, _))| family.histogram(&labels, &snapshot.stats.waits(n)));
}

fn further(page: &mut Page, snapshot: &Snapshot) {
    let help = "Retries that would have been safe and were not made, by reason.";
    let mut family = page.family("plimsoll_backend_retries_denied_total", Kind::Counter, help);
    for (n, backend) in snapshot.backends.iter().enumerate() {
        for (reason, count) in snapshot.stats.further(n).denied {
            let labels = format!("{},{}", label("backend", &backend.name), label("reason", reason));
            family.sample(&labels, count);
        }
    }
    let help = "Requests that were sent to a second server as well, by whether its answer came first.";
    let mut family = page.family("plimsoll_backend_hedges_total", Kind::Counter, help);
    for (n, backend) in snapshot.backends.iter().enumerate() {
        let further = snapshot.stats.further(n);
        for (result, count) in [("won", further.hedges_won), ("lost", further.hedges_lost)] {
            family.sample(&format!("{},{}", label("backend", &backend.name), label("result", result)), count);
        }
    }
    let help = "Requests that waited and were not sent to a second server, by reason.";
    let mut family = page.family("plimsoll_backend_hedges_denied_total", Kind::Counter, help);
    for (n, backend) in snapshot.backends.iter().enumerate() {
        for (reason, count) in snapshot.stats.further(n).hedges_denied {
            family.sample(&format!("{},{}", label("backend", &backend.name), label("reason", reason)), count);
        }
    }
}

fn servers(page: &mut Page, snapshot: &Snapshot) {
    let mut rows: Vec<Row<(&Server, ServerTotals)>> = Vec::new();
    for (n, backend) in snapshot.backends.iter().enumerate() {
        for (place, server) in backend.servers.iter().enumerate() {
            let labels = format!("{},{}", label("backend", &backend.name), label("server", &server.name));
            rows.push(row(labels, (server, snapshot.stats.server(n, place))));
        }
    }
    let exchanges = rows.iter().map(|Row { labels, of: (server, totals) }| {
        row(labels.clone(), (&totals.traffic, u64::from(server.live.in_flight())))
    });
    let which = "that the server answered or was the last to be tried for";
    traffic(page, "server", which, &exchanges.collect::<Vec<_>>());
    let help = "Time from a request's head to the head of the server's answer.";
    let mut family = page.family("plimsoll_server_first_byte_seconds", Kind::Histogram, help);
    rows.iter().for_each(|row| family.histogram(&row.labels, &row.of.1.first_byte));
    let help = "Requests that the server may have in flight.";
    each(page, ("plimsoll_server_max_requests", Kind::Gauge, help), &rows, |(s, _)| s.max_requests);
    let help = "Requests that the server may have in flight now: `max_requests`, or less where a limit was found out.";
    each(page, ("plimsoll_server_limit", Kind::Gauge, help), &rows, |(s, _)| s.most());
    let help = "Answers of the server that were not passed on, because another server was asked.";
    let name = "plimsoll_server_answers_retried_total";
    each(page, (name, Kind::Counter, help), &rows, |(_, t)| t.answers_retried);
    let help = "1 if the server is well; 0 while it is starting, down, ejected or on trial.";
    each(page, ("plimsoll_server_up", Kind::Gauge, help), &rows, |(s, _)| u8::from(s.is_well()));
    let help = "Requests that failed by the server's fault, as ejection counts them.";
    each(page, ("plimsoll_server_failures_total", Kind::Counter, help), &rows, |(s, _)| s.live.failures());
    let help = "How often the server was ejected.";
    each(page, ("plimsoll_server_ejections_total", Kind::Counter, help), &rows, |(s, _)| s.live.ejections());
    let help = "Connections made to the server.";
    each(page, ("plimsoll_server_connections_total", Kind::Counter, help), &rows, |(_, t)| t.connections);
    let help = "Connections that the server refused, or that were not made in time.";
    let name = "plimsoll_server_connections_refused_total";
    each(page, (name, Kind::Counter, help), &rows, |(s, _)| s.live.refusals());
}

/// Only of servers that are checked, from the first result on.
fn checks(page: &mut Page, snapshot: &Snapshot) {
    let mut rows: Vec<Row<LastCheck>> = Vec::new();
    for backend in &snapshot.backends {
        for (place, server) in backend.servers.iter().enumerate() {
            let labels = format!("{},{}", label("backend", &backend.name), label("server", &server.name));
            rows.extend(backend.last_check(place).map(|last| row(labels, last)));
        }
    }
    let help = "Health checks of the server, by result.";
    let mut family = page.family("plimsoll_server_checks_total", Kind::Counter, help);
    for Row { labels, of } in &rows {
        family.sample(&format!("{labels},{}", label("result", "passed")), of.passed);
        family.sample(&format!("{labels},{}", label("result", "failed")), of.failed);
    }
    let help = "How long the last health check of the server took.";
    let took = |last: &LastCheck| last.took.as_secs_f64();
    each(page, ("plimsoll_server_check_duration_seconds", Kind::Gauge, help), &rows, took);
    let help = "Time since the last health check of the server ended.";
    let age = |last: &LastCheck| plimsoll_proxy::now().0.saturating_sub(last.at.0) as f64 / 1_000.0;
    each(page, ("plimsoll_server_check_age_seconds", Kind::Gauge, help), &rows, age);
}

fn discovery(page: &mut Page, origins: &[Arc<Origin>]) {
    let rows: Vec<Row<Known>> =
        origins.iter().map(|origin| row(label("backend", &origin.backend), origin.known())).collect();
    let help = "Servers in the last good list of the backend's source.";
    let count = |known: &Known| known.servers.as_ref().map_or(0, |servers| servers.len());
    each(page, ("plimsoll_discovery_servers", Kind::Gauge, help), &rows, count);
    let help = "Whether the last question to the backend's source failed: 1, or 0.";
    let name = "plimsoll_discovery_failing";
    each(page, (name, Kind::Gauge, help), &rows, |known| u8::from(known.is_failing));
    let help = "Questions to the backend's source, by result.";
    let mut family = page.family("plimsoll_discovery_questions_total", Kind::Counter, help);
    for Row { labels, of: known } in &rows {
        family.sample(&format!("{labels},{}", label("result", "success")), known.successes);
        family.sample(&format!("{labels},{}", label("result", "failure")), known.failures);
    }
    let help = "Lists of the backend's source that differed from the one before.";
    each(page, ("plimsoll_discovery_changes_total", Kind::Counter, help), &rows, |known| known.changes);
    let help =
        "When the backend's source last gave a good answer, in seconds since 1970; 0 before the first.";
    let name = "plimsoll_discovery_last_success_timestamp_seconds";
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    each(page, (name, Kind::Gauge, help), &rows, |known| known.success.map_or(0, since));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_reload_leaves_the_time_of_the_last_good_one() {
        let reloads = Reloads::new();
        let (_, _, is_good, started) = reloads.read();
        assert!(is_good && started > 0, "the start counts");
        reloads.count(false);
        assert_eq!(reloads.read(), (0, 1, false, started));
        reloads.count(true);
        assert_eq!((reloads.read().0, reloads.read().2), (1, true));
    }
}
