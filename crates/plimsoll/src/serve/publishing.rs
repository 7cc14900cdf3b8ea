//! Publishing what is wanted: after discovery has found other servers or operators have ordered something.
//!
//! The one way to a new snapshot besides a reload. Whoever changes `wanted` makes all changes that are at hand first and calls this once, so
//! that a storm of changes is a few snapshots.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_control::orders::{Declined, Keep, Ordered, audit};
use plimsoll_control::wanted::Wanted;
use plimsoll_proxy::{Snapshot, notice};
use serde_json::Value;
use tokio::sync::oneshot;

use super::{Failed, ORDERS, Running};

/// How long until it is tried again to serve what could not be served, for example for want of descriptors.
const AGAIN: Duration = Duration::from_secs(1);

/// Waits until it is to be tried again. Never ready for `None`.
pub(super) async fn again(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl Running {
    /// Carries out an order and those that wait behind it, with one snapshot for all of them.
    pub(super) fn carry_out(&mut self, first: Ordered) {
        let before = self.wanted.clone();
        let (mut next, mut count, mut done, mut last) = (Some(first), 0, Vec::new(), None);
        while let Some(ordered) = next {
            count += 1;
            if ordered.keep != Keep::AsOrder {
                last = Some(ordered);
                break;
            }
            // A new process has been told what is wanted: a later order would be lost with this one.
            let outcome = match self.upgrade {
                Some(_) => Err(Declined::Upgrading),
                None => ordered.carry_out(&mut self.wanted),
            };
            match outcome {
                Ok(line) => done.push((ordered.answer, line)),
                Err(declined) => drop(ordered.answer.send(Err(declined))), // who asked may have gone away
            }
            next = if count < ORDERS { self.ordered.try_recv().ok() } else { None };
        }
        if !done.is_empty() {
            self.serve_orders(done, before);
        }
        if let Some(ordered) = last {
            let outcome = self.persist(&ordered).map(|line| self.audit(&line));
            let _ = ordered.answer.send(outcome); // who asked may have gone away
        }
    }

    /// Serves what was ordered and tells everybody; or goes back to `before`.
    fn serve_orders(&mut self, done: Vec<(oneshot::Sender<Result<(), Declined>>, Value)>, before: Wanted) {
        let outcome = self.republish().map_err(|error| Declined::Unservable(error.to_string()));
        if outcome.is_err() {
            self.wanted = before;
        }
        for (answer, line) in done {
            if outcome.is_ok() {
                self.audit(&line);
            }
            let _ = answer.send(outcome.clone()); // who asked may have gone away
        }
    }

    fn audit(&self, line: &Value) {
        let admin = self.proxy.snapshot().config.admin.as_ref();
        audit(admin.and_then(|admin| admin.audit.as_deref()), line);
    }

    /// Tries again to serve what is wanted: a word is said once, a list changes once, and whoever said it is not asked again.
    pub(super) fn publish_again(&mut self) {
        let before = Arc::clone(self.proxy.snapshot());
        if self.republish().is_ok() && !Arc::ptr_eq(&before, self.proxy.snapshot()) {
            notice("what could not be served before is served now");
        }
    }

    /// Serves what is wanted from now on; what is learned about servers goes on, and whatever is in flight ends as it began. Nothing is
    /// published if it is as it was.
    ///
    /// # Errors
    /// It cannot be served; then everything is as it was, but for `wanted` itself, and it is tried again after [`AGAIN`].
    pub(super) fn republish(&mut self) -> Result<(), Failed> {
        let outcome = self.serve_wanted();
        self.again = outcome.is_err().then(|| Instant::now() + AGAIN);
        outcome
    }

    fn serve_wanted(&mut self) -> Result<(), Failed> {
        let before = Arc::clone(self.proxy.snapshot());
        let config = self.wanted.compose();
        if config == before.config {
            self.published.show(before, &self.wanted); // who ordered what may differ
            return Ok(());
        }
        let snapshot = Arc::new(Snapshot::new(config, Some(&before)).traced_as(&before));
        self.checks.prepare(&snapshot.config).map_err(Failed::Checks)?;
        self.proxy.publish(&snapshot).map_err(Failed::Start)?;
        self.checks.adopt(&snapshot);
        self.published.show(snapshot, &self.wanted);
        Ok(())
    }
}
