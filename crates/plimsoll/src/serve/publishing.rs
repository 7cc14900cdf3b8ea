//! Publishing what is wanted: after discovery has found other servers or operators have ordered something.
//!
//! The one way to a new snapshot besides a reload. Whoever changes `wanted` makes all changes that are at hand first and calls this once, so
//! that a storm of changes is a few snapshots.

use std::sync::Arc;

use plimsoll_proxy::Snapshot;

use super::{Failed, Running};

impl Running {
    /// Serves what is wanted from now on; what is learned about servers goes on, and whatever is in flight ends as it began. Nothing is
    /// published if it is as it was.
    ///
    /// # Errors
    /// It cannot be served; then everything is as it was, but for `wanted` itself.
    pub(super) fn republish(&mut self) -> Result<(), Failed> {
        let before = Arc::clone(self.proxy.snapshot());
        let config = self.wanted.compose();
        if config == before.config {
            return Ok(());
        }
        let snapshot = Arc::new(Snapshot::new(config, Some(&before)).traced_as(&before));
        self.checks.prepare(&snapshot.config).map_err(Failed::Checks)?;
        self.proxy.publish(&snapshot).map_err(Failed::Start)?;
        self.checks.adopt(&snapshot);
        self.published.show(snapshot);
        Ok(())
    }
}
