//! A client's connection: one request after the other, until one side has had enough.
//!
//! Between requests it owns a socket, a timer and this struct, and no buffer. It waits for a whole head, within limits that no trickle
//! can stretch, hands over to `exchange`, and acts on what that says about the connection.

use std::future::poll_fn;
use std::io::{IoSlice, Read, Write};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use plimsoll_http::{Head, Kind, Reason};
use plimsoll_traffic::Millis;
use socket2::SockRef;

use crate::access_log::Record;
use crate::buffer::{Buffer, SIZE};
use crate::deadline::Timer;
use crate::error::{Error, Phase, What, Who};
use crate::exchange;
use crate::forward::Client;
use crate::listener::Places;
use crate::reply::{self, Form, Sending};
use crate::request_id;
use crate::seats::Seat;
use crate::stats::{Entrance, Open, Series};
use crate::stream::Stream;
use crate::turn::Ticket;
use crate::worker::{Busy, Worker};

/// After a last answer, what the client still sends is read and thrown away, so that the answer is not lost to a reset: so much, so long.
const LINGER_BYTES: usize = 256 * 1024;
const LINGER: Duration = Duration::from_secs(2);
/// While draining, a connection that has not asked anything yet gets this long.
const FIRST_REQUEST_WHILE_DRAINING: Duration = Duration::from_secs(1);

/// A client's connection.
pub(crate) struct Downstream {
    pub(crate) stream: Stream,
    pub(crate) buffer: Buffer,
    pub(crate) timer: Timer,
    pub(crate) client: Client,
    /// Index into the configuration's listeners.
    pub(crate) listener: usize,
    /// Requests so far, the present one included.
    pub(crate) requests: u32,
    pub(crate) born: Millis,
    /// What its listener counts.
    pub(crate) open: Rc<Open>,
    ticket: Ticket,
    _seat: Seat,
    _busy: Busy,
}

/// What becomes of the connection after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request may come.
    KeepAlive,
    /// Close, once the client has had time to read the answer.
    Linger,
    /// Close.
    Close,
}

impl Downstream {
    pub(crate) fn new(
        worker: &Rc<Worker>,
        stream: Stream,
        listener: usize,
        peer: IpAddr,
        places: Places,
    ) -> Downstream {
        let client = Client::new(peer, &worker.view().shared.config.trusted);
        Downstream {
            stream,
            buffer: Buffer::default(),
            timer: worker.deadlines.timer(),
            client,
            listener,
            requests: 0,
            born: worker.deadlines.now(),
            open: Open::new(places.entrance(), worker.number),
            ticket: Ticket::default(),
            _seat: Seat::take(worker, peer, places),
            _busy: worker.enter(),
        }
    }

    /// Waits for a whole request head. `Ok(None)` means that the client is done, or never began.
    async fn next_head(&mut self, worker: &Worker) -> Result<Option<Box<Head>>, Error> {
        let (mut head, mut crlf_seen): (Option<Box<Head>>, bool) = (None, false);
        let first = self.requests == 0;
        // Asked for each time: an idle connection must not keep an old configuration, nor be judged by it.
        let header = || worker.view().shared.config.timeouts.header;
        let keep_alive = || worker.view().shared.config.timeouts.keep_alive;
        match first || !self.buffer.is_empty() {
            true => self.timer.arm(header()),
            false => self.timer.arm_idle(keep_alive()),
        }
        loop {
            let limits = worker.view().shared.head_limits;
            // The one empty line that may stand before a request is not the beginning of one: the connection idles on.
            if !crlf_seen && self.buffer.filled() == b"\r\n" {
                crlf_seen = true;
                self.buffer.consume(2);
                head = None; // it may have seen the CR already
            }
            if !self.buffer.is_empty() {
                if crlf_seen && head.is_none() && self.buffer.filled()[0] == b'\r' {
                    return Err(Error::new(
                        Who::Client,
                        Phase::Request,
                        What::Malformed(Reason::RequestLine),
                    ));
                }
                let head = head.get_or_insert_with(|| worker.take_head(Kind::Request));
                let whole = head.parse(self.buffer.filled(), &limits);
                if whole.map_err(|reason| Error::new(Who::Client, Phase::Request, What::Malformed(reason)))? {
                    break;
                }
            }
            let was_empty = self.buffer.is_empty();
            let max = limits.head().max(SIZE);
            match poll_fn(|cx| self.poll_more(cx, worker, max)).await? {
                0 if was_empty => return Ok(None),
                0 => return Err(Error::new(Who::Client, Phase::Request, What::Closed)),
                _ if was_empty && (!first || worker.is_draining()) => self.timer.arm(header()),
                _ => {}
            }
        }
        self.requests += 1;
        Ok(head)
    }

    /// Bytes from the client; 0 when there will be none.
    fn poll_more(&mut self, cx: &mut Context<'_>, worker: &Worker, max: usize) -> Poll<Result<usize, Error>> {
        let empty = self.buffer.is_empty();
        let readable = !empty || self.stream.poll_readable(cx).is_ready();
        if empty && readable && worker.turns.poll_begin(cx, &mut self.ticket).is_pending() {
            return Poll::Pending; // its request has come, so no deadline is missed
        }
        let filled = match readable {
            true => self.stream.poll_fill(cx, &mut self.buffer, &worker.buffers, (usize::MAX, max)),
            false => Poll::Pending,
        };
        match filled {
            Poll::Ready(Ok(n)) => return Poll::Ready(Ok(n)),
            Poll::Ready(Err(_)) if empty => return Poll::Ready(Ok(0)),
            Poll::Ready(Err(e)) => {
                return Poll::Ready(Err(Error::new(Who::Client, Phase::Request, What::Io(e))));
            }
            Poll::Pending => worker.buffers.park(&mut self.buffer),
        }
        // The kernel is asked, because the runtime may not have heard of a request that has come: that one is still served.
        let leaves = worker.is_draining() || !worker.has_listener(self.listener);
        if leaves && empty && self.requests > 0 && self.stream.is_open() {
            return Poll::Ready(Ok(0));
        }
        if worker.is_draining() && empty && self.requests == 0 {
            if worker.deadlines.now().0.saturating_sub(self.born.0)
                >= FIRST_REQUEST_WHILE_DRAINING.as_millis() as u64
            {
                return Poll::Ready(Ok(0));
            }
            self.timer.arm_at(self.born.0 + FIRST_REQUEST_WHILE_DRAINING.as_millis() as u64);
        }
        match self.timer.poll_due(cx) {
            false => Poll::Pending,
            true if empty && self.requests > 0 && !self.stream.is_open() => Poll::Pending, // it has just come
            true if empty => Poll::Ready(Ok(0)),
            true => Poll::Ready(Err(Error::new(Who::Client, Phase::Request, What::TimedOut))),
        }
    }

    /// Writes all of `bytes` to the client within `limit`. Gives how much was written.
    pub(crate) async fn write_all(&mut self, bytes: &[u8], limit: Duration) -> Result<(), Error> {
        let mut sent = 0;
        self.timer.arm(limit);
        poll_fn(|cx| {
            while sent < bytes.len() {
                match self.stream.poll_write(cx, &[IoSlice::new(&bytes[sent..])]) {
                    Poll::Ready(Ok(n)) => sent += n,
                    Poll::Ready(Err(e)) => {
                        return Poll::Ready(Err(Error::new(Who::Client, Phase::Data, What::Io(e))));
                    }
                    Poll::Pending if self.timer.poll_due(cx) => {
                        return Poll::Ready(Err(Error::new(Who::Client, Phase::Data, What::TimedOut)));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Says goodbye: no more from us, and what still comes is thrown away for a while.
    async fn linger(&mut self, worker: &Worker) {
        self.timer.arm(LINGER);
        let (mut left, mut shut) = (LINGER_BYTES, false);
        poll_fn(|cx| {
            if !shut {
                match self.stream.poll_shutdown(cx) {
                    Poll::Ready(Ok(())) => shut = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            loop {
                worker.buffers.release(&mut self.buffer);
                match self.stream.poll_fill(cx, &mut self.buffer, &worker.buffers, (usize::MAX, SIZE)) {
                    Poll::Ready(Ok(n)) if n > 0 && n < left => left -= n,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending if self.timer.poll_due(cx) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }
}

/// Serves a connection to its end.
pub(crate) async fn serve(mut down: Box<Downstream>, worker: Rc<Worker>) {
    loop {
        let after = match down.next_head(&worker).await {
            // Boxed, as what is rare is: who is idle holds no room for an exchange, and the room that the last one left is still in the cache.
            // Made in that room: `Box::pin` would copy all of it there, 2.4 KB of which little is set yet.
            Ok(Some(head)) => {
                let room = Box::new_uninit();
                Box::into_pin(Box::write(room, exchange::run(&mut down, &worker, head))).await
            }
            Ok(None) => After::Close,
            Err(error) => refuse(&mut down, &worker, &error).await,
        };
        match after {
            After::KeepAlive => {}
            After::Linger => break down.linger(&worker).await,
            After::Close => break,
        }
    }
    worker.buffers.release(&mut down.buffer);
}

/// Answers a head that never became whole or is not valid; logs it.
async fn refuse(down: &mut Downstream, worker: &Rc<Worker>, error: &Error) -> After {
    let view = worker.view();
    let mut record = Record::begin(worker, &view, &down.open, down.client.address);
    record.received = down.buffer.len() as u64;
    record.failed(error);
    if view.shared.config.http.request_id.is_some() {
        record.request_id = Some(request_id::made(&mut worker.dice.borrow_mut()));
    }
    worker.buffers.release(&mut down.buffer);
    if matches!(error.what, What::Closed | What::Io(_)) {
        return After::Close;
    }
    let mut out = worker.take_text();
    let date = worker.wall.texts(std::time::SystemTime::now()).http.clone();
    let request_id = record.id_field();
    let sending = Sending {
        date: &date,
        close: true,
        keep_alive_named: false,
        to_head: false,
        request_id,
        fields: &[],
    };
    reply::write_error(&mut out, error, Form::Text, sending);
    record.status = error.status();
    record.sent = out.len() as u64;
    let written = down.write_all(&out, view.shared.config.timeouts.idle).await;
    worker.give_text(out);
    if written.is_ok() { After::Linger } else { After::Close }
}

/// Tells a client beyond its share why, in as far as its socket takes it at once, and closes.
pub(crate) fn turn_away(
    worker: &Rc<Worker>,
    mut stream: &std::net::TcpStream,
    peer: IpAddr,
    entrance: &Arc<Series<Entrance>>,
) {
    let view = worker.view();
    let open = Open::new(entrance, worker.number);
    open.refuse();
    let error = Error::new(Who::Client, Phase::Request, What::TooManyConnections);
    let mut record = Record::begin(worker, &view, &open, peer.to_canonical());
    record.failed(&error);
    record.status = error.status();
    let mut out = Vec::new();
    let date = worker.wall.texts(std::time::SystemTime::now()).http.clone();
    reply::write_error(
        &mut out,
        &error,
        Form::Text,
        Sending {
            date: &date,
            close: true,
            keep_alive_named: false,
            to_head: false,
            request_id: None,
            fields: &[],
        },
    );
    let written = stream.write(&out);
    record.sent = written.unwrap_or(0) as u64;
    // What has come already is read away, or closing would send a reset that takes the answer with it.
    let _ = SockRef::from(stream).shutdown(std::net::Shutdown::Write);
    let _ = stream.read(&mut [0; 16 * 1024]);
}
