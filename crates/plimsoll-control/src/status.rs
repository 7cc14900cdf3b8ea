//! `/status`: the state of a running process as one JSON document, for `plimsoll status` and scripts.
//!
//! Says what there is (listeners, routes, backends, servers), how loaded it is, and what was counted since the start. Keys are
//! added, never renamed. Times are in milliseconds, as their names say, and null where nothing was measured.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use plimsoll_config::model::{self, ServerState};
use plimsoll_proxy::{BOUNDS, CODES, Durations, ListenerTotals, Snapshot, Stats, Totals, now};
use plimsoll_traffic::pressure::Short;
use plimsoll_traffic::{Backend, LastCheck, Millis};
use serde_json::{Map, Value, json};

use crate::admin::{InForce, Published};
use crate::collector::Collector;
use crate::discovery::Origin;
use crate::exported::{EXPORTED, Last};
use crate::orders::{settings, unix_ms};
use crate::wanted::{Order, Spoken, Wanted};

/// The document.
pub(crate) fn document(published: &Published) -> Value {
    let InForce { snapshot, wanted } = published.in_force();
    let stats = &snapshot.stats;
    let (succeeded, failed, is_last_good, last_success) = published.reloads.read();
    let loads = stats.worker_loads().into_iter();
    let routes = stats.routes().into_iter().map(|(name, totals)| {
        let own = json!({ "name": name, "in_flight": totals.in_flight() });
        merge(own, &totals)
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_seconds": published.started.elapsed().as_secs(),
        "phase": published.phase().as_str(),
        "reloads": {
            "succeeded": succeeded, "failed": failed,
            "last_successful": is_last_good, "last_success_unix_seconds": last_success,
        },
        "log_lines_dropped": stats.log_lines_dropped(),
        "pressure": stats.pressure().level() as u8,
        "pressure_by": stats.pressure().short().map(Short::as_str),
        "tracing": snapshot.config.tracing.as_ref().map(|tracing| exports(tracing, stats)),
        "duration_bounds_ms": BOUNDS.map(milliseconds),
        "workers": loads.map(|load| json!({
            "connections": load.connections, "busy_seconds": load.busy.as_secs_f64(),
        })).collect::<Vec<_>>(),
        "listeners": stats.listeners().iter().map(listener).collect::<Vec<_>>(),
        "routes": routes.collect::<Vec<_>>(),
        "backends": snapshot.backends.iter().enumerate()
            .map(|(n, b)| backend(published, &snapshot, n, b)).collect::<Vec<_>>(),
        "orders": orders(&wanted),
    })
}

/// Where spans go, and how that goes.
fn exports(tracing: &model::Tracing, stats: &Stats) -> Value {
    let Last { is_failing, error } = EXPORTED.last();
    let read = |n: &AtomicU64| n.load(Relaxed);
    json!({
        "collector": Collector::new(tracing).to_string(),
        "exported": read(&EXPORTED.taken),
        "dropped": counts(&EXPORTED.dropped(stats)),
        "failures": read(&EXPORTED.failures),
        "failing": is_failing,
        "last_error": error.as_ref().map(|(_, reason)| reason),
        "last_error_unix_seconds": error.as_ref().map(|(time, _)| unix_seconds(*time)),
    })
}

/// How servers differ from what the file or discovery says, and by whom.
fn orders(wanted: &Wanted) -> Value {
    let order = |(backend, server, order, base): (&str, &str, &Order, Option<&model::Server>)| {
        json!({
            "backend": backend,
            "server": server,
            "by": order.by,
            "since_unix_ms": order.since,
            "base": base.map(settings),
            "wanted": wanted.server(backend, server).as_ref().map(settings),
        })
    };
    wanted.orders().map(order).collect()
}

fn listener(listener: &ListenerTotals) -> Value {
    let own = json!({
        "address": listener.address,
        "connections": listener.open,
        "accepted": listener.accepted,
        "refused": listener.refused,
        "accept_pauses": listener.pauses,
        "in_flight": listener.traffic.in_flight(),
    });
    merge(own, &listener.traffic)
}

/// One backend with its servers.
pub(crate) fn backend(published: &Published, snapshot: &Snapshot, number: usize, backend: &Backend) -> Value {
    let in_flight: u64 = backend.servers.iter().map(|server| u64::from(server.live.in_flight())).sum();
    let waits = snapshot.stats.waits(number);
    let own = json!({
        "name": backend.name,
        "in_flight": in_flight,
        "queue": {
            "waiting": backend.waiting(),
            "waited": waits.count(),
            "p50_ms": quantile(&waits, 0.5),
            "p99_ms": quantile(&waits, 0.99),
        },
    });
    let mut shown = merge(own, &snapshot.stats.backend(number));
    let origins = published.origins();
    let origin = origins.iter().find(|origin| *origin.backend == *backend.name);
    let further = snapshot.stats.further(number);
    shown["retry_budget"] = backend.budget.left(now()).into();
    shown["retries_denied"] = counts(&further.denied);
    shown["hedges"] = json!({ "won": further.hedges_won, "lost": further.hedges_lost });
    shown["hedges_denied"] = counts(&further.hedges_denied);
    shown["discovery"] = origin.map(|origin| discovery(origin)).into();
    let servers = backend.servers.iter().enumerate();
    let (healthy, _) = backend.healthy();
    shown["healthy"] = healthy.into();
    shown["panic"] = backend.panics().into();
    let wanted = published.in_force().wanted;
    shown["servers"] = servers.map(|(place, _)| server(snapshot, &wanted, (number, place))).collect();
    shown
}

/// Where servers come from, and how that goes; `null` where all are in the file.
fn discovery(origin: &Origin) -> Value {
    let known = origin.known();
    let failure = known.failure.as_ref();
    json!({
        "source": origin.spec.source.to_string(),
        "servers": known.servers.as_ref().map(|servers| servers.len()),
        "failing": known.is_failing,
        "last_success_unix_seconds": known.success.map(unix_seconds),
        "age_seconds": known.success.and_then(|time| time.elapsed().ok()).map(|age| age.as_secs()),
        "last_error": failure.map(|(_, reason)| reason),
        "last_error_unix_seconds": failure.map(|(time, _)| unix_seconds(*time)),
        "successes": known.successes,
        "failures": known.failures,
        "changes": known.changes,
    })
}

/// One server, by its backend's place and its own.
pub(crate) fn server(snapshot: &Snapshot, wanted: &Wanted, (backend, place): (usize, usize)) -> Value {
    let (of, spec) = (&snapshot.backends[backend], &snapshot.config.backends[backend].servers[place]);
    let (server, totals) = (&of.servers[place], snapshot.stats.server(backend, place));
    let spoken = wanted.spoken(&of.name, &server.name);
    let condition = of.condition(place);
    let own_word = spoken.filter(|spoken| spoken.takes_out()).map(|spoken| {
        let reason =
            if spoken.reason().is_empty() { String::new() } else { format!(": {}", spoken.reason()) };
        format!("it says so itself{reason}")
    });
    let since_word = || spoken.map_or(0.0, |spoken| since(spoken.since()));
    let seconds_since = |time: Millis| match time {
        Millis(0) => 0.0, // nobody has looked at it yet
        Millis(time) => now().0.saturating_sub(time) as f64 / 1000.0,
    };
    // What it is to do goes before how it is. Once it may serve again, it has been as it is since then at the longest.
    let (state, reason, seconds) = match (server.state, own_word) {
        (ServerState::Ready, Some(reason)) if server.says_down => ("down", reason, since_word()),
        (ServerState::Ready, _) => {
            let since = condition.since.max(condition.told_since);
            (condition.state.name(), condition.reason, seconds_since(since))
        }
        (told, Some(reason)) if spoken.is_some_and(|spoken| spoken.state() == Some(told)) => {
            (told.as_str(), reason, since_word())
        }
        (told, _) => {
            let order = wanted.order(&of.name, &server.name).filter(|order| order.state == Some(told));
            let reason = order.map(|order| format!("ordered by {}", order.by));
            let reason = reason.unwrap_or_else(|| "the file says so".to_owned());
            (told.as_str(), reason, seconds_since(condition.told_since))
        }
    };
    let own = json!({
        "name": server.name,
        "address": server.address.to_string(),
        "weight": spec.weight,
        "share": f64::from(spec.said.share) / 100.0,
        "priority": server.priority,
        "backup": server.backup,
        "max_requests": server.max_requests,
        "limit": server.most(),
        "least_latency_ms": of.limit(place).filter(|known| known.least_latency > 0)
            .map(|known| milliseconds(known.least_latency)),
        "state": state,
        "state_reason": reason,
        "state_for_seconds": seconds,
        "word": spoken.map(word),
        "check": check(of.last_check(place)),
        "agent": agent(last_asked(snapshot, backend, place)),
        "failures": server.live.failures(),
        "ejections": server.live.ejections(),
        "in_flight": server.live.in_flight(),
        "assigned": server.live.assigned(),
        "refused": server.live.refusals(),
        "connections_made": totals.connections,
        "first_byte_p50_ms": quantile(&totals.first_byte, 0.5),
        "first_byte_p99_ms": quantile(&totals.first_byte, 0.99),
    });
    let mut shown = merge(own, &totals.traffic);
    // Retries belong to the requests, not to the server that was tried last.
    shown.as_object_mut().map(|shown| shown.shift_remove("retries"));
    shown
}

/// What a server says of itself; `line` is empty if all of it was not understood.
fn word(spoken: &Spoken) -> Value {
    json!({
        "line": spoken.line(),
        "reason": spoken.reason(),
        "not_understood": spoken.unknown(),
        "by": spoken.told(),
        "for_seconds": since(spoken.since()),
    })
}

/// How asking a server's agent went the last time; nothing where nobody asks it any more.
pub(crate) fn last_asked(snapshot: &Snapshot, backend: usize, place: usize) -> Option<LastCheck> {
    let spec = &snapshot.config.backends[backend];
    spec.agent_of(&spec.servers[place])?;
    snapshot.backends[backend].last_asked(place)
}

/// How asking its agent went the last time; null without one.
fn agent(last: Option<LastCheck>) -> Value {
    last.map_or(Value::Null, |last| {
        json!({
            "answers": last.result.is_ok(),
            "reason": last.result.err().unwrap_or_default(),
            "seconds_ago": now().0.saturating_sub(last.at.0) as f64 / 1000.0,
            "took_ms": milliseconds(last.took.as_micros() as u64),
            "answered": last.passed,
            "failed": last.failed,
        })
    })
}

/// Seconds since then, in milliseconds since 1970.
fn since(then: u64) -> f64 {
    unix_ms().saturating_sub(then) as f64 / 1000.0
}

/// What the last check of a server found; null without one.
fn check(last: Option<LastCheck>) -> Value {
    last.map_or(Value::Null, |last| {
        json!({
            "passes": last.result.is_ok(),
            "reason": last.result.err().unwrap_or_default(),
            "seconds_ago": now().0.saturating_sub(last.at.0) as f64 / 1000.0,
            "took_ms": milliseconds(last.took.as_micros() as u64),
            "passed": last.passed,
            "failed": last.failed,
        })
    })
}

/// `own`, and behind it what was counted.
fn merge(own: Value, totals: &Totals) -> Value {
    let Value::Object(mut all) = own else { return own };
    let codes: Vec<(&str, u64)> = CODES.iter().copied().zip(totals.codes).collect();
    all.insert("requests".to_owned(), totals.requests().into());
    all.insert("codes".to_owned(), counts(&codes));
    all.insert("errors".to_owned(), counts(&totals.errors));
    all.insert("retries".to_owned(), totals.retries.into());
    all.insert("received_bytes".to_owned(), totals.received.into());
    all.insert("sent_bytes".to_owned(), totals.sent.into());
    all.insert("p50_ms".to_owned(), quantile(&totals.took, 0.5));
    all.insert("p99_ms".to_owned(), quantile(&totals.took, 0.99));
    all.insert("durations".to_owned(), totals.took.buckets.to_vec().into());
    all.into()
}

/// Numbers by what was counted.
fn counts(all: &[(&'static str, u64)]) -> Value {
    all.iter().map(|&(what, n)| (what.to_owned(), Value::from(n))).collect::<Map<_, _>>().into()
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn quantile(durations: &Durations, share: f64) -> Value {
    durations.quantile(share).map(milliseconds).into()
}

fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Of a backend with this agent beside its only server.
    fn snapshot(agent: Option<model::Agent>, previous: Option<&Snapshot>) -> Snapshot {
        let (listen, server) = (":8080".to_owned(), "10.0.0.1:80".to_owned());
        let mut config = plimsoll_config::from_flags(&[listen], &[server]).unwrap().config;
        config.backends[0].agent = agent;
        Snapshot::new(config, previous)
    }

    #[test]
    fn an_agent_that_nobody_asks_any_more_is_not_said_to_say_nothing() {
        let (every, timeout) = (Duration::from_secs(5), Duration::from_secs(2));
        let agent = model::Agent { port: 9, address: None, every, timeout, send: String::new() };
        let asked = snapshot(Some(agent), None);
        asked.backends[0].asked(0, Err("connection refused"), Duration::ZERO, now());
        let wanted = Wanted::new(asked.config.clone(), asked.config.clone());
        let shown = |snapshot: &Snapshot| server(snapshot, &wanted, (0, 0))["agent"].clone();
        assert_eq!(shown(&asked)["reason"], "connection refused");
        let plain = snapshot(None, Some(&asked));
        assert!(plain.backends[0].last_asked(0).is_some(), "what was learned lasts");
        assert_eq!((shown(&plain), last_asked(&plain, 0, 0)), (Value::Null, None));
    }
}
