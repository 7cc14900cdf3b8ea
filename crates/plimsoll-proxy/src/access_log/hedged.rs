//! What is noted of a second server that was asked beside the first: in the line, in the counters and in the trace.

use std::time::Duration;

use plimsoll_traffic::NoHedge;

use super::Record;
use crate::attempt::Failed;
use crate::error::Who;
use crate::race::{Begun, Tried};
use crate::trace::AttemptSpan;

impl Record {
    /// A second server may be asked: the head for it gets an id of its own if the request is recorded.
    pub(crate) fn second_begins(&self, head: &mut [u8]) -> Option<u64> {
        let recorded = self.recorded.as_ref()?;
        Some(recorded.another(head, &mut self.worker.dice.borrow_mut()))
    }

    /// No second server was asked although the request waited.
    pub(crate) fn hedge_denied(&self, backend: usize, why: NoHedge) {
        self.view.shared.stats.further_of(backend, self.worker.number).deny_hedge(why);
    }

    /// A second server was asked, with this result; `wins`: its answer is the one.
    pub(crate) fn hedged(
        &mut self,
        (backend, begun): (usize, Begun),
        span: Option<u64>,
        two: &Tried,
        wins: bool,
    ) {
        self.attempts += 1;
        self.hedge = Some(if wins { "won" } else { "lost" });
        let (stats, worker) = (&self.view.shared.stats, self.worker.number);
        stats.further_of(backend, worker).hedge(wins);
        let (status, reason) = match two {
            Ok(answer) => (answer.head.status(), ""),
            Err(Failed { error, .. }) if error.who == Who::Server => {
                stats.server_of(backend, begun.server, worker).failed(error.reason());
                (0, error.reason())
            }
            Err(_) => (0, ""),
        };
        if let Some(id) = span {
            let now = self.elapsed();
            let since = self.worker.deadlines.micros().0.saturating_sub(begun.at);
            let after = now.saturating_sub(Duration::from_micros(since));
            let server = &self.view.backends[backend].balancer.backend().servers[begun.server as usize];
            let second = AttemptSpan::new(id, server, after);
            if let Some(recorded) = &mut self.recorded {
                recorded.hedged(second, (status, reason), wins, now);
            }
        }
    }
}
