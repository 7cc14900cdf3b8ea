//! What has been counted, for who reads it: the workers' blocks of `stats`, added up.
//!
//! Runs on the reader's thread and disturbs no worker. The numbers of one answer need not be of the same instant, but none
//! of them ever goes back while its thing exists.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_traffic::{Denied, NoHedge};

use crate::histogram::Durations;
use crate::log_writer;
use crate::stats::{CODES, Entrance, Errors, Further, Series, Stats, Target, Traffic, reasons};
use crate::trace;

/// The exchanges of one listener, route, backend or server.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Begun so far; counted for listeners and routes only.
    pub begun: u64,
    /// Ended so far, by [`CODES`].
    pub codes: [u64; CODES.len()],
    /// Bytes from clients, heads included.
    pub received: u64,
    /// Bytes to clients, heads included.
    pub sent: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// From the request's head to the answer's end; for an upgrade, to its 101.
    pub took: Durations,
    /// Those that ended with an error, by reason; of a server, the attempts that failed by its doing.
    pub errors: Vec<(&'static str, u64)>,
}

impl Totals {
    /// How many have ended.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.codes.iter().sum()
    }

    /// How many have begun and not ended; of listeners and routes only.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        // What ended after `begun` was read counts as never begun.
        self.begun.saturating_sub(self.requests())
    }

    fn add(&mut self, traffic: &Traffic) {
        for (total, code) in self.codes.iter_mut().zip(&traffic.codes) {
            *total += code.read();
        }
        self.begun += traffic.begun.read();
        self.received += traffic.received.read();
        self.sent += traffic.sent.read();
        self.retries += traffic.retries.read();
        self.took.add(&traffic.took);
        self.add_errors(&traffic.errors);
    }

    fn add_errors(&mut self, errors: &Errors) {
        for (reason, n) in reasons().zip(errors.all()).filter(|&(_, n)| n > 0) {
            match self.errors.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, total)) => *total += n,
                None => self.errors.push((reason, n)),
            }
        }
    }

    fn of(series: &Series<Traffic>) -> Totals {
        let mut totals = Totals::default();
        series.all().for_each(|traffic| totals.add(traffic));
        totals
    }
}

/// What a listener has counted.
#[derive(Debug, Clone)]
pub struct ListenerTotals {
    /// Where it listens.
    pub address: Box<str>,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Connections at the moment.
    pub open: u64,
    /// Of the accepted, those turned away for being too many of one client.
    pub refused: u64,
    /// How often accepting paused because nothing more fitted, 20 ms at a time.
    pub pauses: u64,
    /// Its requests: one for each line of the access log.
    pub traffic: Totals,
}

/// What was counted about a server.
#[derive(Debug, Clone, Default)]
pub struct ServerTotals {
    /// The exchanges that it answered, or was the last to be tried for.
    pub traffic: Totals,
    /// From the request's head to the head of its answer.
    pub first_byte: Durations,
    /// Connections made to it.
    pub connections: u64,
    /// Answers of it that were not passed on, since another server might have had a better one.
    pub answers_retried: u64,
}

/// A backend's further attempts.
#[derive(Debug, Clone, Default)]
pub struct FurtherTotals {
    /// Retries that would have been safe and were not made, by reason.
    pub denied: [(&'static str, u64); 2],
    /// Second servers asked at once whose answer came first.
    pub hedges_won: u64,
    /// The others.
    pub hedges_lost: u64,
    /// Requests that waited and were not sent to a second server, by reason.
    pub hedges_denied: [(&'static str, u64); NoHedge::ALL.len()],
}

/// How much one worker has to do.
#[derive(Debug, Clone, Copy)]
pub struct WorkerLoad {
    /// Clients' connections at the moment.
    pub connections: u64,
    /// Time that it has not slept.
    pub busy: Duration,
}

impl Stats {
    /// Every listener that is open or has connections.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerTotals> {
        let totals = |(address, series): (Box<str>, Arc<Series<Entrance>>)| {
            let (mut traffic, mut closed) = (Totals::default(), 0);
            let (mut accepted, mut refused, mut pauses) = (0, 0, 0);
            for entrance in series.all() {
                closed += entrance.closed.read(); // before `accepted`, so that none is open less than zero times
                accepted += entrance.accepted.read();
                refused += entrance.refused.read();
                pauses += entrance.pauses.read();
                traffic.add(&entrance.traffic);
            }
            let open = accepted.saturating_sub(closed);
            ListenerTotals { address, accepted, open, refused, pauses, traffic }
        };
        self.entrances().into_iter().map(totals).collect()
    }

    /// Every route by its name, once.
    #[must_use]
    pub fn routes(&self) -> Vec<(&str, Totals)> {
        let mut seen = HashSet::new();
        let routes = self.named_routes().filter(|(name, _)| seen.insert(*name));
        routes.map(|(name, series)| (name, Totals::of(series))).collect()
    }

    /// A backend, by its place in the snapshot.
    #[must_use]
    pub fn backend(&self, backend: usize) -> Totals {
        Totals::of(self.backend_series(backend))
    }

    /// What became of a backend's further attempts, by its place in the snapshot.
    #[must_use]
    pub fn further(&self, backend: usize) -> FurtherTotals {
        let series = self.further_series(backend);
        let sum = |count: &dyn Fn(&Further) -> u64| series.all().map(count).sum();
        let denied = |why: Denied| (why.name(), sum(&|further| further.denied[why as usize].read()));
        let no_hedge =
            |why: NoHedge| (why.name(), sum(&|further| further.hedges_denied[why as usize].read()));
        FurtherTotals {
            denied: [denied(Denied::Budget), denied(Denied::Time)],
            hedges_won: sum(&|further| further.hedges[1].read()),
            hedges_lost: sum(&|further| further.hedges[0].read()),
            hedges_denied: NoHedge::ALL.map(no_hedge),
        }
    }

    /// How long requests have waited for a server of a backend, those that did and have it behind them.
    #[must_use]
    pub fn waits(&self, backend: usize) -> Durations {
        let mut waits = Durations::default();
        self.waits_series(backend).all().for_each(|own| waits.add(&own.0));
        waits
    }

    /// A server, by its place in the snapshot and in its backend.
    #[must_use]
    pub fn server(&self, backend: usize, server: usize) -> ServerTotals {
        let mut totals = ServerTotals::default();
        for Target { traffic, first_byte, connections, failures, retried } in
            self.server_series(backend, server).all()
        {
            totals.traffic.add(traffic);
            totals.traffic.add_errors(failures);
            totals.first_byte.add(first_byte);
            totals.connections += connections.read();
            totals.answers_retried += retried.read();
        }
        totals
    }

    /// The workers, in their order.
    #[must_use]
    pub fn worker_loads(&self) -> Vec<WorkerLoad> {
        let entrances = self.entrances();
        let load = |worker: usize| {
            let own = entrances.iter().filter_map(|(_, series)| series.touched(worker));
            let open = own.map(|e| {
                let closed = e.closed.read();
                e.accepted.read().saturating_sub(closed)
            });
            WorkerLoad { connections: open.sum(), busy: self.busy(worker) }
        };
        (0..self.workers()).map(load).collect()
    }

    /// Access log lines dropped since the process started.
    #[must_use]
    pub fn log_lines_dropped(&self) -> u64 {
        log_writer::dropped_by_all()
    }

    /// Spans dropped since the process started because whoever sends them was behind.
    #[must_use]
    pub fn spans_dropped(&self) -> u64 {
        trace::dropped_by_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Ended, Open, class};

    fn stats(file: &str, previous: Option<&Stats>) -> Stats {
        let config = plimsoll_config::from_flags(&[":8080".to_owned()], &[file.to_owned()]).unwrap().config;
        let config = plimsoll_config::model::Config { workers: std::num::NonZeroUsize::new(2), ..config };
        let backends: Vec<_> =
            config.backends.iter().map(|b| Arc::new(plimsoll_traffic::Backend::new(b, None))).collect();
        Stats::new(&config, ["a", "b", "a"].into_iter(), &backends, previous)
    }

    fn fine() -> Ended {
        let took = Duration::from_millis(3).into();
        Ended { class: class(204), received: 10, sent: 100, retries: 0, took, reason: "" }
    }

    #[test]
    fn workers_are_added_up() {
        let stats = stats(":1", None);
        for worker in [0, 1, 1] {
            stats.backend_of(0, worker).count(&fine());
        }
        stats.backend_of(0, 0).count(&Ended {
            class: class(502),
            retries: 2,
            reason: "server_closed",
            ..fine()
        });
        stats.backend_of(0, 1).count(&Ended { class: class(0), reason: "server_closed", ..fine() });
        let totals = stats.backend(0);
        assert_eq!((totals.codes, totals.retries), ([1, 0, 3, 0, 0, 1], 2));
        assert_eq!((totals.received, totals.sent, totals.took.count()), (50, 500, 5));
        assert_eq!(totals.errors, [("server_closed", 2)]);
    }

    #[test]
    fn routes_of_one_name_are_one() {
        let stats = stats(":1", None);
        (0..3).for_each(|route| stats.route(route, 0).count(&fine()));
        let routes: Vec<_> = stats.routes().iter().map(|(name, totals)| (*name, totals.requests())).collect();
        assert_eq!(routes, [("a", 2), ("b", 1)]);
    }

    #[test]
    fn what_keeps_its_name_keeps_its_counters() {
        let old = stats(":1", None);
        old.route(1, 0).count(&fine());
        old.server_of(0, 0, 1).count(&fine(), None);
        let same = stats(":1", Some(&old));
        assert_eq!((same.routes()[1].1.requests(), same.server(0, 0).traffic.requests()), (1, 1));
        let other = stats(":2", Some(&same));
        assert_eq!(other.server(0, 0).traffic.requests(), 0, "another server");
        old.route(1, 0).count(&fine());
        assert_eq!(other.routes()[1].1.requests(), 2, "an exchange that began before the change");
    }

    #[test]
    fn a_servers_errors_are_its_failed_attempts() {
        let stats = stats(":1", None);
        stats.server_of(0, 0, 0).failed("connect_failed");
        stats.server_of(0, 0, 0).count(&Ended { reason: "client_closed", ..fine() }, Some(fine().took));
        let server = stats.server(0, 0);
        assert_eq!(server.traffic.errors, [("connect_failed", 1)]);
        assert_eq!((server.traffic.requests(), server.first_byte.count()), (1, 1));
    }

    #[test]
    fn a_listener_goes_when_its_last_connection_has_gone() {
        let stats = stats(":1", None);
        let entrance = stats.listener("127.0.0.1:8080");
        let (open, refused) = (Open::new(&entrance, 0), Open::new(&entrance, 1));
        refused.refuse();
        drop(refused);
        drop(entrance);
        let listeners = stats.listeners();
        let listener = &listeners[0];
        assert_eq!((listener.accepted, listener.open, listener.refused), (2, 1, 1));
        assert_eq!(stats.worker_loads().iter().map(|load| load.connections).collect::<Vec<_>>(), [1, 0]);
        drop(open);
        assert!(stats.listeners().is_empty());
    }

    #[test]
    fn a_listener_that_comes_back_goes_on() {
        let stats = stats(":1", None);
        let entrance = stats.listener("127.0.0.1:8080");
        Open::new(&entrance, 0);
        Open::new(&stats.listener("127.0.0.1:8080"), 1);
        assert_eq!(stats.listeners()[0].accepted, 2);
    }
}
