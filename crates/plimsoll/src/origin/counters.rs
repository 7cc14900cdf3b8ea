//! What an origin counts: connections, requests in flight, requests by method.
//!
//! Counts are taken by guards that give back on drop, so that no way for a request or connection to end leaks one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::Method;
use serde_json::{Map, Value, json};

/// The methods counted by name; others count together, since names come from the peer and would have no bound.
const METHODS: [Method; 8] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
];

/// Counts since the start; requests to `/_origin` are not among them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    in_flight: AtomicU64,
    accepted: AtomicU64,
    open: AtomicU64,
    methods: [AtomicU64; METHODS.len()],
    other_methods: AtomicU64,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Open(Arc<Counters>);

/// A request in flight, to the end of its answer.
#[derive(Debug)]
pub(super) struct InFlight {
    counters: Arc<Counters>,
    /// This is the how-many-th request, from 1.
    pub(super) number: u64,
}

impl Counters {
    pub(super) fn open(self: &Arc<Self>) -> Open {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    pub(super) fn begin(self: &Arc<Self>, method: &Method) -> InFlight {
        let known = METHODS.iter().position(|known| known == method);
        known.map_or(&self.other_methods, |index| &self.methods[index]).fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        InFlight { counters: Arc::clone(self), number }
    }

    pub(super) fn to_json(&self) -> Value {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut methods: Map<String, Value> = METHODS
            .iter()
            .zip(&self.methods)
            .map(|(name, count)| (name.to_string(), read(count).into()))
            .collect();
        methods.insert("other".to_owned(), read(&self.other_methods).into());
        methods.retain(|_, count| *count != 0);
        json!({
            "requests": read(&self.requests),
            "in_flight": read(&self.in_flight),
            "methods": methods,
            "connections": { "accepted": read(&self.accepted), "open": read(&self.open) },
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_gives_back_and_totals_stay() {
        let counters = Arc::new(Counters::default());
        let held = (counters.open(), counters.begin(&Method::GET));
        assert_eq!(counters.begin(&Method::from_bytes(b"BREW").unwrap()).number, 2);
        assert_eq!(counters.to_json()["in_flight"], 1);
        drop(held);
        let shown = counters.to_json();
        assert_eq!(shown["requests"], 2);
        assert_eq!(shown["in_flight"], 0);
        assert_eq!(shown["methods"], json!({ "GET": 1, "other": 1 }));
        assert_eq!(shown["connections"], json!({ "accepted": 1, "open": 0 }));
    }
}
