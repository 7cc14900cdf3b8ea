//! Passing a server's answer on to the client, and deciding what becomes of both connections.
//!
//! The server's connection goes back to its pool only after a complete, unsurprising exchange. A body that the server cuts is
//! cut for the client too, never ended as if it were whole.

use std::future::poll_fn;
use std::task::Poll;

use plimsoll_http::framing::Framing;
use plimsoll_traffic::Lease;

use crate::attempt::{Answer, download_error, outgoing};
use crate::buffer::Buffer;
use crate::downstream::After;
use crate::error::{Error, Phase, What, Who};
use crate::exchange::Exchange;
use crate::forward::{self, Ours, Persistence};
use crate::pump::{End, Pump};
use crate::reply::Form;
use crate::snapshot::Route;
use crate::sticky::Placed;
use crate::stream::Stream;
use crate::tunnel;

/// Passes `answer` on. The lease is held until the body has ended.
pub(crate) async fn pass_on(
    exchange: &mut Exchange<'_>,
    route: &Route,
    backend: usize,
    lease: Lease,
    answer: Answer,
    mut up: Box<Pump>,
) -> After {
    let worker = exchange.worker;
    exchange.record.status = answer.head.status();
    let placed = route.sticky.as_ref().and_then(|sticky| {
        let asked = &exchange.asked;
        sticky.cookie()?.placed((backend, lease.index()), asked.session, asked.over_tls)
    });
    if answer.head.status() == 101 {
        exchange.record.received += up.read;
        exchange.record.received -= up.surplus.len() as u64;
        worker.give_text(std::mem::take(&mut up.head));
        drop(up);
        return Box::pin(tunnel::open(exchange, route, answer, placed)).await;
    }
    // An answer before the request's end. The rest of the request still flows while the answer does, for servers that answer as they
    // read; but neither connection is used again, whatever becomes of that rest.
    let early = !answer.sent;
    if !early && !up.surplus.is_empty() {
        exchange.down.buffer = Buffer::holding(&up.surplus);
    }
    let (mut stream, meaning) = (answer.stream, answer.meaning);
    let out = outgoing(meaning.framing, exchange.asked.http10);
    let close = early || !exchange.asked.keep_alive || exchange.is_last() || out == Framing::UntilClose;
    let stated = meaning.stated_length;
    let mut down =
        dress(exchange, (&answer.head, stated), answer.buffer, (meaning.framing, out), close, placed);
    worker.give_head(answer.head);
    let moved = move_body(exchange, route, &mut stream, &mut down, early.then_some(&mut *up)).await;
    up.release(&worker.buffers);
    exchange.record.received += up.read;
    exchange.record.received -= up.surplus.len() as u64;
    exchange.record.sent += down.written;
    worker.give_text(std::mem::take(&mut up.head));
    worker.give_text(std::mem::take(&mut down.head));
    if let Err(error) = moved {
        down.release(&worker.buffers);
        return Box::pin(cut(exchange, &error, (down.written > 0, early), out)).await;
    }
    exchange.record.done();
    if meaning.keep_alive && !early && down.surplus.is_empty() && stream.is_quiet() {
        let max = exchange.view.shared.config.limits.pool;
        exchange.view.backends[backend].pools[lease.index() as usize].put(
            stream,
            worker.deadlines.now(),
            max,
        );
    }
    // Closing with bytes unread makes the kernel send a reset, which can take the answer's end with it.
    let may_send_more =
        exchange.asked.keep_alive || !exchange.down.buffer.is_empty() || exchange.down.stream.has_more();
    match close {
        true if early || may_send_more => After::Linger,
        true => After::Close,
        false => After::KeepAlive,
    }
}

/// The pump that carries the answer: its head written anew, its body behind it.
fn dress(
    exchange: &Exchange<'_>,
    (head, stated): (&plimsoll_http::Head, Option<u64>),
    mut buffer: Buffer,
    (from, to): (Framing, Framing),
    close: bool,
    placed: Option<Placed<'_>>,
) -> Pump {
    let persistence = match (close, exchange.asked.http10) {
        (true, _) => Persistence::Close,
        (false, true) => Persistence::KeepAlive,
        (false, false) => Persistence::Default,
    };
    let via = exchange.view.shared.config.http.via.as_deref();
    let mut out = exchange.worker.take_text();
    let len = head.len();
    let id = exchange.record.id_field();
    let ours = Ours { via, id, for_us: exchange.for_us(), placed, fields: &exchange.asked.fields };
    forward::response(&mut out, (head, &buffer.filled()[..len]), to, stated, persistence, &ours);
    buffer.consume(len);
    Pump::new(out, from, to, buffer, None)
}

/// Moves the body, within the route's idle time; beside it `up`, the rest of a request that was answered early.
async fn move_body(
    exchange: &mut Exchange<'_>,
    route: &Route,
    stream: &mut Stream,
    down: &mut Pump,
    mut up: Option<&mut Pump>,
) -> Result<(), Error> {
    exchange.record.phase = Phase::Data;
    down.begin().map_err(download_error)?;
    down.join(&exchange.worker.buffers);
    let mut progress = u64::MAX;
    poll_fn(|cx| {
        let (client, buffers) = (&mut exchange.down.stream, &exchange.worker.buffers);
        // A server may stop listening once it has answered, and a client stop sending: that is not the answer's failure.
        if up.as_mut().is_some_and(|up| up.poll(cx, (client, stream), buffers).is_ready()) {
            up = None;
        }
        if let Poll::Ready(result) =
            down.poll(cx, (stream, &mut exchange.down.stream), &exchange.worker.buffers)
        {
            return Poll::Ready(result.map_err(download_error));
        }
        let now = down.read + down.written + up.as_ref().map_or(0, |up| up.read + up.written);
        if progress != now {
            progress = now;
            exchange.arm(route.idle);
        }
        if exchange.down.timer.poll_due(cx) {
            let who = if down.waits_for == End::Source { Who::Server } else { Who::Client };
            return Poll::Ready(Err(exchange.timed_out(who, Phase::Data)));
        }
        Poll::Pending
    })
    .await
}

/// An answer that cannot be completed. What the client has of it must not look whole.
async fn cut(
    exchange: &mut Exchange<'_>,
    error: &Error,
    (begun, early): (bool, bool),
    out: Framing,
) -> After {
    exchange.record.attempt_failed(error);
    if !begun && error.who == Who::Server && matches!(error.what, What::Malformed(_)) {
        return exchange.tell(error, !early, Form::Text).await;
    }
    exchange.record.failed(error);
    match (out, error.who) {
        // Here an orderly close would be the body's end.
        (Framing::UntilClose, _) => {
            exchange.down.stream.reset_on_close();
            After::Close
        }
        (_, Who::Client) => After::Close,
        // A reset could take back answers that came before.
        _ => After::Linger,
    }
}
