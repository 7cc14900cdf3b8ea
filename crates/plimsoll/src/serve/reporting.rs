//! Twice a second: what the process uses of what it may, what became of servers, and what the operator should know of it.

use std::time::Duration;

use plimsoll_control::resources;
use tokio::time::{Interval, MissedTickBehavior};

use super::Running;

/// How often.
const REPORT: Duration = Duration::from_millis(500);

/// When to report.
pub(super) fn interval() -> Interval {
    let mut interval = tokio::time::interval(REPORT);
    // After a standstill, several looks at once would find that nothing has happened between them, and take that for calm.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

impl Running {
    pub(super) fn report(&mut self) {
        self.look_at_staying();
        let limit = self.proxy.snapshot().config.limits.memory;
        self.proxy.report(resources::memory_in_use(limit));
        self.tell_the_rest();
    }
}
