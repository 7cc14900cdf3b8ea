//! Asking servers for their load, beside the traffic: the probes of `prequal`.
//!
//! The balancer says which server is to be asked and hears what it reports; a probe is a task of its own, so no request ever waits for one. Their
//! number is bounded: one that would be too many is not sent, and what is not heard in time is not heard. It never retries and never tells more than the report,
//! but that a server refuses connections.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::IoSlice;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use plimsoll_config::model::{Address, Balance};
use plimsoll_http::framing::{self, Framing};
use plimsoll_http::{Head, Kind, Limits};

use crate::buffer::{Buffer, SIZE};
use crate::connect::connect;
use crate::deadline::Timer;
use crate::error::{What, Who};
use crate::load_report;
use crate::pump::READ;
use crate::snapshot::View;
use crate::stream::Stream;
use crate::worker::Worker;

/// Probes of one worker on their way at once: some times what a worker needs, and few enough not to matter in descriptors.
const MOST: usize = 128;
/// What is older does not count any more by then (the paper's age of a report).
const PATIENCE: Duration = Duration::from_secs(1);

/// The probes of one worker that are on their way.
#[derive(Default)]
pub(crate) struct Probes(Cell<usize>);

/// One of them.
struct OnItsWay(Rc<Worker>);

impl OnItsWay {
    fn begin(worker: &Rc<Worker>) -> Option<OnItsWay> {
        let count = &worker.probes.0;
        (count.get() < MOST).then(|| {
            count.set(count.get() + 1);
            OnItsWay(Rc::clone(worker))
        })
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let count = &self.0.probes.0;
        count.set(count.get() - 1);
    }
}

/// Sends the probes that are due.
#[inline(never)]
pub(crate) fn send_due(worker: &Rc<Worker>, view: &Rc<View>, backend: usize) {
    let balancer = &view.backends[backend].balancer;
    let next = || balancer.next_probe(&mut worker.dice.borrow_mut());
    while let Some(server) = next() {
        let Some(on_its_way) = OnItsWay::begin(worker) else { continue };
        let view = Rc::clone(view);
        tokio::task::spawn_local(async move {
            let worker = &on_its_way.0;
            let (mut buffer, mut head) = (Buffer::default(), worker.take_head(Kind::Response));
            ask(worker, &view, (backend, server), &mut buffer, &mut head).await;
            worker.buffers.release(&mut buffer);
            worker.give_head(head);
        });
    }
}

/// Asks one server and tells the balancer what it reports. `None` if it reports nothing.
async fn ask(
    worker: &Rc<Worker>,
    view: &View,
    (backend, index): (usize, u32),
    buffer: &mut Buffer,
    head: &mut Head,
) -> Option<()> {
    let upstream = &view.backends[backend];
    let known = upstream.balancer.backend();
    let Balance::Prequal(parameters) = &known.balance else { return None };
    let (server, pool) = (&known.servers[index as usize], &upstream.pools[index as usize]);
    let timer = worker.deadlines.timer();
    let idle = view.shared.config.timeouts.pool_idle;
    let mut stream = match pool.take(worker.deadlines.now(), idle) {
        Some(stream) => stream,
        None => match connect(&server.address, &timer, PATIENCE).await {
            Ok(stream) => stream,
            Err(error) => {
                if error.who == Who::Server && matches!(error.what, What::Io(_)) {
                    worker.deadlines.precise();
                    server.live.refused(worker.deadlines.now());
                }
                return None;
            }
        },
    };
    timer.arm(PATIENCE);
    write(&mut stream, &timer, &request(&parameters.probe.as_ref()?.path, &server.address)).await?;
    let limits = Limits { target: 0, ..view.shared.head_limits };
    while !head.parse(buffer.filled(), &limits).ok()? {
        let max = limits.head().max(SIZE);
        let read = poll_fn(|cx| match stream.poll_fill(cx, buffer, &worker.buffers, (READ, max)) {
            Poll::Pending if timer.poll_due(cx) => Poll::Ready(Ok(0)),
            other => other,
        });
        if read.await.ok()? == 0 {
            return None;
        }
    }
    let meaning = framing::response(head, &buffer.filled()[..head.len()], false).ok()?;
    if !(200..300).contains(&head.status()) {
        return None;
    }
    let report = load_report::read(head, buffer.filled())?;
    worker.deadlines.precise();
    upstream.balancer.hear(index, &report, None, worker.deadlines.micros());
    // Only an answer that is here as a whole leaves a connection that can be used again.
    let body = match meaning.framing {
        Framing::None => 0,
        Framing::Length(length) => usize::try_from(length).ok()?,
        Framing::Chunked | Framing::UntilClose => return Some(()),
    };
    if meaning.keep_alive && buffer.len() == head.len() + body && stream.is_quiet() {
        pool.put(stream, worker.deadlines.now(), view.shared.config.limits.pool);
    }
    Some(())
}

fn request(path: &str, address: &Address) -> Vec<u8> {
    let host = match address {
        Address::Socket(address) => address.to_string(),
        Address::Name(name, port) => format!("{name}:{port}"),
        Address::Unix(_) => "localhost".to_owned(),
    };
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: plimsoll-probe\r\n\r\n").into_bytes()
}

async fn write(stream: &mut Stream, timer: &Timer, bytes: &[u8]) -> Option<()> {
    let mut sent = 0;
    poll_fn(|cx| {
        while sent < bytes.len() {
            match stream.poll_write(cx, &[IoSlice::new(&bytes[sent..])]) {
                Poll::Ready(Ok(n)) => sent += n,
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending if timer.poll_due(cx) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Some(()))
    })
    .await
}
