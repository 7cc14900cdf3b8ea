//! One try at one server: a connection, the request, and the head of the answer.
//!
//! Gives the answer's head with everything needed to pass it on, or says what failed and how, and decides nothing. The
//! request's body flows while the answer is awaited; interim answers are passed on as they come.

use std::future::poll_fn;
use std::io::IoSlice;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use plimsoll_http::framing::{self, Framing};
use plimsoll_http::{Head, Kind, Limits, Reason};
use plimsoll_traffic::{Failure, Lease};

use crate::buffer::{Buffer, SIZE};
use crate::connect::connect;
use crate::error::{Error, Phase, What, Who};
use crate::exchange::Exchange;
use crate::forward;
use crate::pump::{Cut, End, Pump, READ};
use crate::snapshot::Route;
use crate::stream::Stream;

/// Interim responses to one request.
pub(crate) const INTERIM_MAX: u32 = 16;
/// A body must arrive at this rate on average, once the first seconds are over.
const RATE_PER_SECOND: u64 = 240;
const RATE_GRACE: Duration = Duration::from_secs(10);

/// A server's final head.
pub(crate) struct Answer {
    pub(crate) stream: Stream,
    pub(crate) head: Box<Head>,
    /// The head's bytes, and what came behind them.
    pub(crate) buffer: Buffer,
    pub(crate) meaning: framing::Response,
    /// The request has been sent to its end.
    pub(crate) sent: bool,
    /// Interim answers of the same server came before, and went on to the client.
    pub(crate) begun: bool,
}

/// Why there is none.
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) error: Error,
}

impl Failed {
    /// Somebody else was faster: nothing is known but that the answer takes longer than this.
    pub(crate) fn cancelled() -> Failed {
        Failed { failure: Failure::Other, error: Error::new(Who::Us, Phase::Head, What::Closed) }
    }
}

/// What stands at the front of the server's bytes.
enum Seen {
    Nothing,
    Interim,
    Final(framing::Response),
}

/// A try in progress.
struct Try<'t> {
    up: &'t mut Pump,
    stream: Stream,
    head: Box<Head>,
    buffer: Buffer,
    reused: bool,
    /// The upload is complete, or the server takes no more of it.
    sent: bool,
    broken: bool,
    interims: u32,
    /// Interim heads that the client has not taken yet.
    interim: Vec<u8>,
    interim_sent: usize,
    /// Since when the client is sending, the time left out that it had to wait.
    began: u64,
    client_waits: Option<u64>,
    progress: u64,
}

/// Tries `lease`'s server. `fresh` asks for a new connection.
pub(crate) async fn run(
    exchange: &mut Exchange<'_>,
    route: &Route,
    backend: usize,
    lease: &Lease,
    up: &mut Pump,
    fresh: bool,
) -> Result<Answer, Failed> {
    exchange.record.phase = Phase::Connect;
    let (stream, reused) = connection(exchange, backend, lease, up, fresh).await?;
    exchange.record.phase = Phase::Head;
    up.written = 0;
    let head = exchange.worker.take_head(Kind::Response);
    let began = exchange.worker.deadlines.now().0;
    let mut attempt = Try {
        up,
        stream,
        head,
        buffer: Buffer::default(),
        reused,
        sent: false,
        broken: false,
        interims: 0,
        interim: Vec::new(),
        interim_sent: 0,
        began,
        client_waits: None,
        progress: u64::MAX,
    };
    let result = poll_fn(|cx| attempt.poll(cx, exchange, route)).await;
    match result {
        Ok(meaning) => {
            exchange.record.first_byte = Some(exchange.record.elapsed());
            Ok(Answer {
                stream: attempt.stream,
                head: attempt.head,
                buffer: attempt.buffer,
                meaning,
                sent: attempt.sent,
                begun: attempt.interims > 0,
            })
        }
        Err(error) => {
            let failure = attempt.failure(&error);
            exchange.worker.buffers.release(&mut attempt.buffer);
            exchange.worker.give_head(attempt.head);
            Err(Failed { failure, error })
        }
    }
}

/// A pooled connection, or a new one.
async fn connection(
    exchange: &mut Exchange<'_>,
    backend: usize,
    lease: &Lease,
    up: &mut Pump,
    fresh: bool,
) -> Result<(Stream, bool), Failed> {
    let worker = exchange.worker;
    let timeouts = &exchange.view.shared.config.timeouts;
    let pool = &exchange.view.backends[backend].pools[lease.index() as usize];
    while !fresh && let Some(stream) = pool.take(worker.deadlines.now(), timeouts.pool_idle) {
        // A request that may not be repeated looks once more whether the server has just closed.
        if exchange.asked.idempotent || stream.is_open() {
            exchange.record.connect = Some(Duration::ZERO);
            return Ok((stream, true));
        }
    }
    up.park(&worker.buffers);
    let before = exchange.record.elapsed();
    let mut connected = connect_within(exchange, lease).await;
    if matches!(&connected, Err(error) if matches!(error.what, What::NoDescriptors)) {
        worker.close_idle();
        connected = connect_within(exchange, lease).await;
    }
    let live = &lease.server().live;
    worker.deadlines.precise();
    let now = worker.deadlines.now();
    match connected {
        Ok(stream) => {
            exchange.record.connected(exchange.record.elapsed() - before);
            lease.connected(worker.deadlines.micros());
            Ok((stream, false))
        }
        Err(_) if exchange.total_due <= now.0 => {
            let error = Error::new(Who::Us, Phase::Connect, What::TimedOut);
            Err(Failed { failure: Failure::Other, error })
        }
        Err(error) => {
            if error.who == Who::Server {
                live.refused(now);
            }
            Err(Failed { failure: Failure::Connect, error })
        }
    }
}

async fn connect_within(exchange: &Exchange<'_>, lease: &Lease) -> Result<Stream, Error> {
    let left = Duration::from_millis(exchange.total_due.saturating_sub(exchange.worker.deadlines.now().0));
    let limit = exchange.view.shared.config.timeouts.connect.min(left);
    connect(&lease.server().address, &exchange.down.timer, limit).await
}

impl Try<'_> {
    /// Ready with a final head, or an error. Interim heads go out before anything further is looked at.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<'_>,
        route: &Route,
    ) -> Poll<Result<framing::Response, Error>> {
        self.poll_upload(cx, exchange)?;
        self.arm(exchange, route);
        loop {
            ready!(self.poll_interim(cx, exchange))?;
            match self.parse(exchange)? {
                Seen::Final(meaning) => return Poll::Ready(Ok(meaning)),
                Seen::Interim => continue,
                Seen::Nothing => {}
            }
            match self.poll_server(cx, exchange)? {
                Poll::Ready(()) => {}
                Poll::Pending => break,
            }
        }
        if exchange.down.timer.poll_due(cx) {
            return Poll::Ready(Err(self.timeout(exchange)));
        }
        if self.sent
            && let Poll::Ready(e) = exchange.down.stream.poll_reset(cx)
        {
            return Poll::Ready(Err(Error::new(Who::Client, Phase::Head, What::Io(e))));
        }
        if self.sent && exchange.down.stream.is_fresh() {
            exchange.down.timer.wake_at_tick();
        }
        Poll::Pending
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>, exchange: &mut Exchange<'_>) -> Result<(), Error> {
        if self.sent || self.broken {
            return Ok(());
        }
        match self.up.poll(cx, (&mut exchange.down.stream, &mut self.stream), &exchange.worker.buffers) {
            Poll::Ready(Ok(())) => {
                self.sent = true;
                self.progress = u64::MAX;
                Ok(())
            }
            // The server may have said why before it stopped listening: its answer, or its close, is read next.
            Poll::Ready(Err(Cut::Io(End::Sink, _))) => {
                self.broken = true;
                self.progress = u64::MAX;
                Ok(())
            }
            Poll::Ready(Err(cut)) => Err(upload_error(cut)),
            Poll::Pending => Ok(()),
        }
    }

    /// Passes interim heads on to the client.
    fn poll_interim(&mut self, cx: &mut Context<'_>, exchange: &mut Exchange<'_>) -> Poll<Result<(), Error>> {
        while self.interim_sent < self.interim.len() {
            let rest = [IoSlice::new(&self.interim[self.interim_sent..])];
            match exchange.down.stream.poll_write(cx, &rest) {
                Poll::Ready(Ok(n)) => {
                    self.interim_sent += n;
                    exchange.record.sent += n as u64;
                }
                Poll::Ready(Err(e)) => {
                    return Poll::Ready(Err(Error::new(Who::Client, Phase::Head, What::Io(e))));
                }
                Poll::Pending if exchange.down.timer.poll_due(cx) => {
                    return Poll::Ready(Err(exchange.timed_out(Who::Client, Phase::Head)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        self.interim.clear();
        self.interim_sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Looks at what the server has sent so far: one head at a time.
    fn parse(&mut self, exchange: &Exchange<'_>) -> Result<Seen, Error> {
        if self.buffer.is_empty() {
            return Ok(Seen::Nothing);
        }
        let malformed = |reason| Error::new(Who::Server, Phase::Head, What::Malformed(reason));
        let limits = Limits { target: 0, ..exchange.view.shared.head_limits };
        if !self.head.parse(self.buffer.filled(), &limits).map_err(malformed)? {
            return Ok(Seen::Nothing);
        }
        let bytes = &self.buffer.filled()[..self.head.len()];
        let meaning = framing::response(&self.head, bytes, exchange.asked.to_head).map_err(malformed)?;
        match self.head.status() {
            101 => self.judge_upgrade(&meaning, exchange).map(|()| Seen::Final(meaning)),
            100..=199 => self.pass_interim(exchange).map(|()| Seen::Interim),
            _ => Ok(Seen::Final(meaning)),
        }
    }

    fn judge_upgrade(&self, meaning: &framing::Response, exchange: &Exchange<'_>) -> Result<(), Error> {
        let got = meaning.upgrade.map(|span| span.of(self.buffer.filled()));
        match (&exchange.asked.upgrade, got) {
            (Some(wanted), Some(got)) if got.eq_ignore_ascii_case(wanted.as_bytes()) => Ok(()),
            _ => Err(Error::new(Who::Server, Phase::Head, What::UnaskedUpgrade)),
        }
    }

    fn pass_interim(&mut self, exchange: &Exchange<'_>) -> Result<(), Error> {
        self.interims += 1;
        self.progress = u64::MAX;
        if self.interims > INTERIM_MAX {
            return Err(Error::new(Who::Server, Phase::Head, What::TooManyInterim));
        }
        let len = self.head.len();
        if !exchange.asked.http10 {
            exchange.worker.interims.set(exchange.worker.interims.get().wrapping_add(1));
            forward::interim(
                &mut self.interim,
                (&self.head, &self.buffer.filled()[..len]),
                None,
                (None, None),
                exchange.for_us(),
            );
        }
        self.buffer.consume(len);
        self.head.reset(Kind::Response);
        Ok(())
    }

    /// Reads from the server. `Ready` when there is something new to look at.
    fn poll_server(&mut self, cx: &mut Context<'_>, exchange: &Exchange<'_>) -> Result<Poll<()>, Error> {
        let max = exchange.view.shared.head_limits.head().max(SIZE);
        match self.stream.poll_fill(cx, &mut self.buffer, &exchange.worker.buffers, (READ, max)) {
            Poll::Ready(Ok(0)) => Err(Error::new(Who::Server, Phase::Head, What::Closed)),
            Poll::Ready(Ok(_)) => Ok(Poll::Ready(())),
            Poll::Ready(Err(e)) => Err(Error::new(Who::Server, Phase::Head, What::Io(e))),
            Poll::Pending => {
                exchange.worker.buffers.park(&mut self.buffer);
                Ok(Poll::Pending)
            }
        }
    }

    /// Sets the deadline anew when something has moved.
    fn arm(&mut self, exchange: &Exchange<'_>, route: &Route) {
        let now = exchange.worker.deadlines.now().0;
        if !self.waits_for_client(exchange) {
            self.client_waits.get_or_insert(now);
        } else if let Some(since) = self.client_waits.take() {
            self.began += now - since; // the rate counts only the time that the client had
        }
        let progress = self.up.read + self.up.written;
        if self.progress == progress {
            return;
        }
        self.progress = progress;
        if self.waits_for_client(exchange) {
            let by_rate = Duration::from_millis(self.due_by_rate().saturating_sub(now));
            exchange.arm(exchange.view.shared.config.timeouts.body.min(by_rate));
        } else if self.sent || self.broken || self.up.waits_for == End::Source {
            exchange.arm(route.first_byte);
        } else {
            exchange.arm(route.idle);
        }
    }

    /// The next step is the client's: more of the body, unless it rightly waits for a 100.
    fn waits_for_client(&self, exchange: &Exchange<'_>) -> bool {
        let invited = !exchange.asked.expects_continue || self.interims > 0 || self.up.body_bytes > 0;
        !self.sent && !self.broken && self.up.waits_for == End::Source && invited
    }

    /// When a body that has come this far falls below the minimum rate, in milliseconds.
    fn due_by_rate(&self) -> u64 {
        self.began + (RATE_GRACE.as_millis() as u64).max(self.up.body_bytes * 1000 / RATE_PER_SECOND)
    }

    fn timeout(&self, exchange: &Exchange<'_>) -> Error {
        if !self.waits_for_client(exchange) {
            return exchange.timed_out(Who::Server, Phase::Head);
        }
        match exchange.timed_out(Who::Client, Phase::Head) {
            error if error.who == Who::Client && self.due_by_rate() <= exchange.worker.deadlines.now().0 => {
                Error::new(Who::Client, Phase::Head, What::TooSlow)
            }
            error => error,
        }
    }

    /// What kind of failure an error is, for the decision whether to try again.
    fn failure(&self, error: &Error) -> Failure {
        let nothing_came = self.buffer.is_empty() && self.interims == 0;
        match (&error.what, error.who) {
            (What::Io(_) | What::Closed, Who::Server) if nothing_came && self.reused => Failure::StaleReuse,
            (What::Io(_) | What::Closed, Who::Server) if nothing_came => Failure::Reset,
            (What::TimedOut, Who::Server) if nothing_came => Failure::Timeout,
            _ => Failure::Other,
        }
    }
}

/// What a cut upload means: all but a failing server is the client's doing.
pub(crate) fn upload_error(cut: Cut) -> Error {
    let what = match cut {
        Cut::Io(End::Sink, e) => return Error::new(Who::Server, Phase::Head, What::Io(e)),
        Cut::Io(End::Source, e) => What::Io(e),
        Cut::Ended => What::Closed,
        Cut::Framing(reason) => What::Malformed(reason),
        Cut::TooLarge => What::BodyTooLarge,
    };
    Error::new(Who::Client, Phase::Head, what)
}

/// What a cut download means.
pub(crate) fn download_error(cut: Cut) -> Error {
    match cut {
        Cut::Io(End::Sink, e) => Error::new(Who::Client, Phase::Data, What::Io(e)),
        Cut::Io(End::Source, e) => Error::new(Who::Server, Phase::Data, What::Io(e)),
        Cut::Ended => Error::new(Who::Server, Phase::Data, What::Closed),
        Cut::Framing(reason) => Error::new(Who::Server, Phase::Data, What::Malformed(reason)),
        Cut::TooLarge => Error::new(Who::Server, Phase::Data, What::Malformed(Reason::ContentLength)),
    }
}

/// How a response's body leaves, given how it comes and what the client understands.
pub(crate) fn outgoing(framing: Framing, http10: bool) -> Framing {
    match (framing, http10) {
        (Framing::Chunked | Framing::UntilClose, true) => Framing::UntilClose,
        (Framing::UntilClose, false) => Framing::Chunked,
        (same, _) => same,
    }
}
