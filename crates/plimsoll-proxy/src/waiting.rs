//! Waiting for a server while every one that could serve has `max_requests` in flight.
//!
//! In comes a request that found no room, out comes a lease, or why it waits no longer. Who goes next and who is refused is decided by
//! `plimsoll-traffic`; here are the sockets and the clock: a client that resets gives its place up at once, the deadline is one of the coarse
//! ones, and whoever waits owns no buffer. Dropping the wait gives the place up, too.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use plimsoll_config::model::Class;
use plimsoll_http::Head;
use plimsoll_traffic::{Ask, Lease, NoServer, Place, Rank, Refusal, Stand};

use crate::error::{Error, Phase, What, Who};
use crate::exchange::Exchange;
use crate::forward::Client;
use crate::plan::place;
use crate::pump::Pump;
use crate::snapshot::{Route, View};

/// Turns in a row that may find no server after all; then the next tick or slot decides.
const TURNS: u32 = 3;

/// How much a request matters, and whose it is.
#[inline]
pub(crate) fn rank(
    view: &View,
    (route, backend): (&Route, usize),
    (head, bytes, target): (&Head, &[u8], &[u8]),
    client: &Client,
) -> Rank {
    let fair = view.shared.config.backends[backend].queue.as_ref().and_then(|queue| queue.fair.as_ref());
    let client_key = fair.map_or(0, |key| place(key, head, bytes, target, subscriber(client.address)));
    Rank { class: class(route, (head, bytes), client), client: client_key }
}

/// How much a request matters while not all can be served.
pub(crate) fn class(route: &Route, (head, bytes): (&Head, &[u8]), client: &Client) -> Class {
    let class = route.priority.class;
    let said = route.priority.header.as_ref().and_then(|name| head.value(bytes, name)).and_then(Class::named);
    // A stranger that could raise itself would leave nothing to the others.
    said.filter(|said| client.trusted || *said < class).unwrap_or(class)
}

/// An IPv6 client has a whole /64 to choose its address from.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// Waits until the request has a server.
///
/// # Errors
/// It does not get one: it is refused, its time is up, or its client is gone.
pub(crate) async fn wait(
    exchange: &mut Exchange<'_>,
    backend: usize,
    tried: &[u32],
    up: &mut Pump,
) -> Result<Lease, Error> {
    up.park(&exchange.worker.buffers);
    exchange.record.phase = Phase::Queue;
    let began = exchange.record.elapsed();
    let mut place: Option<Place> = None;
    let result = poll_fn(|cx| match &mut place {
        Some(place) => poll(cx, exchange, backend, tried, place),
        None => match enter(cx, exchange, backend, tried) {
            Ok(entered) => poll(cx, exchange, backend, tried, place.insert(entered)),
            Err(refusal) => Poll::Ready(Err(refused(refusal))),
        },
    })
    .await;
    if let Some(place) = place {
        exchange.record.waited(began);
        if result.is_ok() {
            place.go();
        }
    }
    result
}

fn enter(cx: &Context<'_>, exchange: &Exchange<'_>, backend: usize, tried: &[u32]) -> Result<Place, Refusal> {
    let deadlines = &exchange.worker.deadlines;
    let ask = Ask { now: deadlines.micros(), key: exchange.asked.key, tried };
    let place = exchange.view.backends[backend].balancer.wait(&ask, exchange.asked.rank, cx.waker())?;
    let queue = exchange.view.shared.config.backends[backend].queue.as_ref();
    exchange.arm(queue.map_or(Duration::ZERO, |queue| queue.timeout));
    Ok(place)
}

fn poll(
    cx: &mut Context<'_>,
    exchange: &mut Exchange<'_>,
    backend: usize,
    tried: &[u32],
    place: &mut Place,
) -> Poll<Result<Lease, Error>> {
    let deadlines = Rc::clone(&exchange.worker.deadlines);
    deadlines.precise();
    for turn in 1.. {
        match place.poll(deadlines.micros(), cx.waker()) {
            Stand::Waits => break,
            Stand::Refused(refusal) => return Poll::Ready(Err(refused(refusal))),
            Stand::Called => match exchange.pick(backend, tried) {
                Ok(lease) => return Poll::Ready(Ok(lease)),
                // Somebody who came when nobody waited was quicker.
                Err(NoServer::Full) => place.put_back(turn < TURNS),
                Err(NoServer::Tried | NoServer::None) => {
                    return Poll::Ready(Err(Error::new(Who::Us, Phase::Queue, What::NoServer)));
                }
            },
        }
        if turn == TURNS {
            break;
        }
    }
    if exchange.down.timer.poll_due(cx) {
        let total = exchange.timed_out(Who::Server, Phase::Queue);
        let error = if total.who == Who::Us { total } else { refused(Refusal::Late) };
        return Poll::Ready(Err(error));
    }
    if let Poll::Ready(e) = exchange.down.stream.poll_reset(cx) {
        return Poll::Ready(Err(Error::new(Who::Client, Phase::Queue, What::Io(e))));
    }
    if exchange.down.stream.is_fresh() {
        exchange.down.timer.wake_at_tick();
    }
    Poll::Pending
}

fn refused(refusal: Refusal) -> Error {
    let what = match refusal {
        Refusal::Full => What::QueueFull,
        Refusal::Late => What::QueueTimeout,
        Refusal::Overloaded => What::QueueOverload,
    };
    Error::new(Who::Us, Phase::Queue, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_client_is_its_64_and_a_mapped_one_is_ipv4() {
        let is =
            |text: &str, other: &str| subscriber(text.parse().unwrap()) == subscriber(other.parse().unwrap());
        assert!(is("2001:db8:0:1::1", "2001:db8:0:1:ffff::2") && !is("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(is("::ffff:192.0.2.1", "192.0.2.1") && !is("192.0.2.1", "192.0.2.2"));
    }
}
