//! Going on to another server: whether, after how long, and what becomes of the answer that was not good enough.
//!
//! What is safe and what the budget allows is decided by `plimsoll-traffic`; here stands what it has to be told and how one waits. An answer
//! is kept until another server has been found, so that the client can still have it when there is none.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use plimsoll_http::Body;
use plimsoll_traffic::{Again, Attempt, Failure, Lease, Wish, again, permit, retry_after};

use crate::attempt::{Answer, Failed};
use crate::error::{Error, Phase, What, Who};
use crate::exchange::Exchange;
use crate::pump::Pump;
use crate::snapshot::Route;

/// What the client is told if no other server can be tried.
pub(crate) enum Kept {
    /// The server's own words, and the slot that is still held for them.
    Answer(Lease, Answer),
    Failure(Error),
}

impl Exchange<'_> {
    /// What `again` needs to know.
    pub(crate) fn chance(&self, route: &Route, up: &Pump, tried: usize, fresh_used: bool) -> Attempt {
        Attempt {
            idempotent: self.asked.idempotent,
            anything_sent: up.written > 0,
            replayable: up.can_restart(),
            left: route.retry.attempts.saturating_sub(tried as u32),
            fresh_used,
            on: route.retry.on,
        }
    }

    /// Whether another server is to be tried after this, and after how many milliseconds.
    #[inline]
    pub(crate) fn goes_on(
        &mut self,
        (route, backend): (&Route, usize),
        (lease, tried): (&Lease, &[u32]),
        up: &Pump,
        result: &Result<Answer, Failed>,
    ) -> Option<u64> {
        match result {
            // Nearly every answer.
            Ok(answer) if !route.retry.on.has(answer.head.status()) => None,
            _ => self.may_go_on((route, backend), (lease, tried), up, result),
        }
    }

    #[inline(never)]
    fn may_go_on(
        &mut self,
        (route, backend): (&Route, usize),
        (lease, tried): (&Lease, &[u32]),
        up: &Pump,
        result: &Result<Answer, Failed>,
    ) -> Option<u64> {
        let (failure, asked) = match result {
            Ok(answer) if answer.begun => (Failure::Other, None),
            Ok(answer) => (Failure::Answer(answer.head.status()), asked(answer)),
            Err(failed) => (failed.failure, None),
        };
        let upstream = &self.view.backends[backend];
        let known = upstream.balancer.backend();
        let chance = self.chance(route, up, tried.len(), true);
        if again(failure, &chance) != Again::OtherServer || !known.has_another(lease.index(), tried) {
            return None;
        }
        self.worker.deadlines.precise();
        let now = self.worker.deadlines.now();
        upstream.savings.hand_over(&known.budget, now);
        let time_left = (self.total_due != u64::MAX).then(|| self.total_due.saturating_sub(now.0));
        let usual = route.pace.as_ref().and_then(|pace| pace.median(now)).map(|micros| micros / 1_000);
        let wish = Wish { number: tried.len() as u32 + 1, asked, time_left, usual };
        match permit(&wish, &known.budget, now, &mut self.worker.dice.borrow_mut()) {
            Ok(pause) => Some(pause),
            Err(denied) => {
                self.record.retry_denied(backend, denied);
                None
            }
        }
    }

    /// Keeps what the client will be told if nothing better comes.
    pub(crate) fn keep(&mut self, lease: Lease, result: Result<Answer, Failed>) -> Box<Kept> {
        Box::new(match result {
            Ok(mut answer) => {
                self.worker.buffers.park(&mut answer.buffer);
                Kept::Answer(lease, answer)
            }
            Err(failed) => Kept::Failure(failed.error),
        })
    }

    /// Waits so many milliseconds, as far as the client waits with us.
    pub(crate) async fn pause(&mut self, millis: u64) -> Result<(), Error> {
        if millis == 0 {
            return Ok(());
        }
        self.record.phase = Phase::Head;
        self.arm(Duration::from_millis(millis));
        poll_fn(|cx| match self.poll_left(cx) {
            Poll::Ready(left) => Poll::Ready(Err(left)),
            Poll::Pending if self.down.timer.poll_due(cx) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Ready when the client has reset its connection.
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let down = &mut *self.down;
        if let Poll::Ready(e) = down.stream.poll_reset(cx) {
            return Poll::Ready(Error::new(Who::Client, Phase::Head, What::Io(e)));
        }
        if down.stream.is_fresh() {
            down.timer.poll_due(cx); // so that it knows whom to wake
            down.timer.wake_at_tick();
        }
        Poll::Pending
    }

    /// Another server has been found: the answer is not needed any more. Its connection is, if nothing of the answer is left to be read.
    pub(crate) fn let_go(&mut self, backend: usize, kept: Kept) {
        let Kept::Answer(lease, answer) = kept else { return };
        let Answer { stream, head, mut buffer, meaning, sent, .. } = answer;
        self.record.answer_dropped(head.status());
        let mut body = Body::new(meaning.framing);
        let unread = &mut buffer.filled_mut()[head.len()..];
        let is_whole = body.is_end() && unread.is_empty()
            || body.decode(unread).is_ok_and(|read| read.end && read.consumed == unread.len());
        let worker = self.worker;
        if is_whole && sent && meaning.keep_alive && stream.is_quiet() {
            let max = self.view.shared.config.limits.pool;
            let pool = &self.view.backends[backend].pools[lease.index() as usize];
            pool.put(stream, worker.deadlines.now(), max);
        }
        worker.buffers.release(&mut buffer);
        worker.give_head(head);
    }
}

/// What its `Retry-After` asks for, in milliseconds.
fn asked(answer: &Answer) -> Option<u64> {
    answer.head.value(answer.buffer.filled(), "retry-after").and_then(retry_after)
}
