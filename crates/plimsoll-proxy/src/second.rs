//! One try at a second server, for a request without a body, beside the one that the exchange makes.
//!
//! Gives the answer's head or says what failed, as `attempt` does, but owns all that it needs and never touches the client: interim answers are read
//! and left out. It is dropped when the other one wins, which closes its connection. It decides nothing.

use std::future::poll_fn;
use std::io::IoSlice;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use plimsoll_http::{Head, Kind, Limits, framing};
use plimsoll_traffic::{Failure, Lease};

use crate::attempt::{Answer, Failed, INTERIM_MAX};
use crate::buffer::{Buffer, SIZE};
use crate::connect::connect;
use crate::deadline::Timer;
use crate::error::{Error, Phase, What, Who};
use crate::pump::READ;
use crate::snapshot::{Route, View};
use crate::stream::Stream;
use crate::worker::Worker;

/// What the second server is asked.
pub(crate) struct Question {
    pub(crate) head: Vec<u8>,
    /// It is a HEAD.
    pub(crate) to_head: bool,
    /// When the route's total time is up, in milliseconds.
    pub(crate) due: u64,
    /// The id of its span, if the request is recorded.
    pub(crate) span: Option<u64>,
}

/// What was read of an answer so far.
struct Reading {
    stream: Stream,
    head: Box<Head>,
    buffer: Buffer,
}

/// Asks `lease`'s server, over a kept connection if there is one.
pub(crate) async fn ask(
    worker: &Rc<Worker>,
    view: &View,
    (route, backend): (&Route, usize),
    lease: &Lease,
    question: &Question,
) -> Result<Answer, Failed> {
    let timer = worker.deadlines.timer();
    let timeouts = &view.shared.config.timeouts;
    let pool = &view.backends[backend].pools[lease.index() as usize];
    let mut kept = pool.take(worker.deadlines.now(), timeouts.pool_idle);
    loop {
        let is_kept = kept.is_some();
        let stream = match kept.take() {
            Some(stream) => stream,
            None => fresh(worker, &timer, timeouts.connect, (lease, question)).await?,
        };
        if !is_kept {
            view.shared.stats.server_of(backend, lease.index(), worker.number).connected();
        }
        let mut reading =
            Reading { stream, head: worker.take_head(Kind::Response), buffer: Buffer::default() };
        arm(worker, &timer, route.first_byte, question.due);
        let result = async {
            write(&mut reading.stream, &timer, &question.head).await?;
            read(worker, view, &mut reading, &timer, question.to_head).await
        };
        match result.await {
            Ok((meaning, begun)) => {
                let Reading { stream, head, buffer } = reading;
                return Ok(Answer { stream, head, buffer, meaning, sent: true, begun });
            }
            Err(what) => {
                let nothing_came = reading.buffer.is_empty();
                let is_stale = is_kept && nothing_came && matches!(what, What::Io(_) | What::Closed);
                worker.buffers.release(&mut reading.buffer);
                worker.give_head(reading.head);
                if !is_stale {
                    return Err(failed(worker, question, Phase::Head, what));
                }
            }
        }
    }
}

async fn fresh(
    worker: &Rc<Worker>,
    timer: &Timer,
    limit: Duration,
    (lease, question): (&Lease, &Question),
) -> Result<Stream, Failed> {
    let left = Duration::from_millis(question.due.saturating_sub(worker.deadlines.now().0));
    let connected = connect(&lease.server().address, timer, limit.min(left)).await;
    worker.deadlines.precise();
    match connected {
        Ok(stream) => {
            lease.connected(worker.deadlines.micros());
            Ok(stream)
        }
        Err(error) => {
            let failed = failed(worker, question, Phase::Connect, error.what);
            if error.who == Who::Server && failed.error.who == Who::Server {
                lease.server().live.refused(worker.deadlines.now());
            }
            Err(failed)
        }
    }
}

/// Sets the deadline, the route's total included.
fn arm(worker: &Worker, timer: &Timer, after: Duration, due: u64) {
    let after = worker.deadlines.now().0.saturating_add(after.as_millis() as u64);
    timer.arm_at(after.min(due));
}

/// The server's failure, unless it was only given no more time.
fn failed(worker: &Worker, question: &Question, phase: Phase, what: What) -> Failed {
    let is_ours = question.due <= worker.deadlines.now().0 || matches!(what, What::NoDescriptors);
    let error = Error::new(if is_ours { Who::Us } else { Who::Server }, phase, what);
    Failed { failure: Failure::Other, error }
}

async fn write(stream: &mut Stream, timer: &Timer, bytes: &[u8]) -> Result<(), What> {
    let mut sent = 0;
    poll_fn(|cx| {
        while sent < bytes.len() {
            match stream.poll_write(cx, &[IoSlice::new(&bytes[sent..])]) {
                Poll::Ready(Ok(n)) => sent += n,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(What::Io(e))),
                Poll::Pending if timer.poll_due(cx) => return Poll::Ready(Err(What::TimedOut)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// The final head, with whether others came before it.
async fn read(
    worker: &Worker,
    view: &View,
    reading: &mut Reading,
    timer: &Timer,
    to_head: bool,
) -> Result<(framing::Response, bool), What> {
    let limits = Limits { target: 0, ..view.shared.head_limits };
    let mut interims = 0;
    loop {
        let Reading { stream, head, buffer } = reading;
        if buffer.is_empty() || !head.parse(buffer.filled(), &limits).map_err(What::Malformed)? {
            let room = (READ, limits.head().max(SIZE));
            let read = poll_fn(|cx| match stream.poll_fill(cx, buffer, &worker.buffers, room) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending if timer.poll_due(cx) => Poll::Ready(None),
                Poll::Pending => {
                    worker.buffers.park(buffer);
                    Poll::Pending
                }
            });
            match read.await {
                Some(Ok(0)) => return Err(What::Closed),
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(What::Io(e)),
                None => return Err(What::TimedOut),
            }
            continue;
        }
        let bytes = &buffer.filled()[..head.len()];
        let meaning = framing::response(head, bytes, to_head).map_err(What::Malformed)?;
        match head.status() {
            101 => return Err(What::UnaskedUpgrade),
            100..=199 => {
                interims += 1;
                if interims > INTERIM_MAX {
                    return Err(What::TooManyInterim);
                }
                buffer.consume(head.len());
                head.reset(Kind::Response);
            }
            _ => return Ok((meaning, interims > 0)),
        }
    }
}
