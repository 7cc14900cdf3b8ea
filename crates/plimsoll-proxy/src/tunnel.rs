//! After an upgrade: bytes both ways, unread, until both sides have ended.
//!
//! Opened only by a 101 that was asked for. One side's end is passed to the other, which may still finish what it has to say.

use std::future::poll_fn;
use std::task::{Context, Poll};

use plimsoll_http::framing::Framing;

use crate::attempt::Answer;
use crate::buffer::Buffer;
use crate::downstream::After;
use crate::error::{Error, Phase, What, Who};
use crate::exchange::Exchange;
use crate::forward;
use crate::pump::{Cut, End, Pump};
use crate::snapshot::Route;
use crate::sticky::Placed;
use crate::stream::Stream;

/// Sends the 101 and tunnels.
pub(crate) async fn open(
    exchange: &mut Exchange<'_>,
    route: &Route,
    answer: Answer,
    placed: Option<Placed<'_>>,
) -> After {
    let worker = exchange.worker;
    exchange.record.phase = Phase::Tunnel;
    exchange.total_due = u64::MAX;
    let Answer { mut stream, head, mut buffer, .. } = answer;
    let mut out = worker.take_text();
    forward::interim(
        &mut out,
        (&head, &buffer.filled()[..head.len()]),
        exchange.asked.upgrade.as_deref().map(str::as_bytes),
        (exchange.record.id_field(), placed),
        exchange.for_us(),
    );
    buffer.consume(head.len());
    worker.give_head(head);
    let early = std::mem::take(&mut exchange.down.buffer);
    let mut tunnel =
        Tunnel { up: Half::new(Vec::new(), early), down: Half::new(out, buffer), progress: u64::MAX };
    let ended = poll_fn(|cx| tunnel.poll(cx, exchange, route, &mut stream)).await;
    exchange.record.received += tunnel.up.pump.read;
    exchange.record.sent += tunnel.down.pump.written;
    match ended {
        Ok(()) => exchange.record.done(),
        Err(error) => {
            exchange.record.attempt_failed(&error);
            exchange.record.failed(&error);
        }
    }
    for half in [&mut tunnel.up, &mut tunnel.down] {
        half.pump.release(&worker.buffers);
    }
    worker.give_text(tunnel.down.pump.head);
    After::Close
}

struct Tunnel {
    up: Half,
    down: Half,
    progress: u64,
}

impl Tunnel {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<'_>,
        route: &Route,
        server: &mut Stream,
    ) -> Poll<Result<(), Error>> {
        let client = &mut exchange.down.stream;
        let buffers = &exchange.worker.buffers;
        let failed = |who, what| Poll::Ready(Err(Error::new(who, Phase::Tunnel, what)));
        match self.up.poll(cx, (client, server), buffers) {
            Err((End::Source, what)) => return failed(Who::Client, what),
            Err((End::Sink, what)) => return failed(Who::Server, what),
            Ok(()) => {}
        }
        match self.down.poll(cx, (server, client), buffers) {
            Err((End::Source, what)) => return failed(Who::Server, what),
            Err((End::Sink, what)) => return failed(Who::Client, what),
            Ok(()) => {}
        }
        if self.up.ended && self.down.ended {
            return Poll::Ready(Ok(()));
        }
        let progress = [&self.up.pump, &self.down.pump].iter().map(|p| p.read + p.written).sum();
        if self.progress != progress {
            self.progress = progress;
            exchange.arm(route.tunnel);
        }
        if exchange.down.timer.poll_due(cx) {
            return Poll::Ready(Err(exchange.timed_out(Who::Client, Phase::Tunnel)));
        }
        Poll::Pending
    }
}

/// One direction.
struct Half {
    pump: Pump,
    /// Everything is written; the end is to be passed on.
    drained: bool,
    /// The end has been passed on.
    ended: bool,
}

impl Half {
    fn new(head: Vec<u8>, buffer: Buffer) -> Half {
        let mut pump = Pump::new(head, Framing::UntilClose, Framing::UntilClose, buffer, None);
        // Raw bytes have no framing that could be broken.
        let begun = pump.begin();
        debug_assert!(begun.is_ok());
        Half { pump, drained: false, ended: false }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (source, sink): (&mut Stream, &mut Stream),
        buffers: &crate::buffer::Buffers,
    ) -> Result<(), (End, What)> {
        if !self.drained {
            match self.pump.poll(cx, (source, sink), buffers) {
                Poll::Ready(Ok(())) => self.drained = true,
                Poll::Ready(Err(Cut::Io(end, e))) => return Err((end, What::Io(e))),
                Poll::Ready(Err(_)) => return Err((End::Source, What::Closed)),
                Poll::Pending => return Ok(()),
            }
        }
        if !self.ended && sink.poll_shutdown(cx).is_ready() {
            // An error means that the other side is gone already, which its own direction reports.
            self.ended = true;
        }
        Ok(())
    }
}
