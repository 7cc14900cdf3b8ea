//! Accepting: sockets that are bound before anything serves, and the loop that takes clients from one.
//!
//! Every worker has a socket of its own on the same address (`SO_REUSEPORT`), so the kernel spreads clients. Limits are
//! taken before a connection is accepted, so that whoever waits, waits in the kernel's queue and costs nothing here. When descriptors
//! run out, accepting pauses, says so, and goes on by itself.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use plimsoll_traffic::{ClientSlot, Gate, GateSlot, PerClient};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::downstream::{self, Downstream};
use crate::error::is_our_shortage;
use crate::notice::notice;
use crate::stream::Stream;
use crate::worker::{Order, Worker};

/// Clients that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// How long accepting rests when there are no descriptors or no free places.
const REST: Duration = Duration::from_millis(20);

/// One worker's entrance for one listener.
pub(crate) struct Doors {
    /// Index into the configuration's listeners.
    pub(crate) index: usize,
    pub(crate) socket: std::net::TcpListener,
    pub(crate) limits: Arc<DoorLimits>,
}

/// Limits of one listener, shared by all workers.
pub(crate) struct DoorLimits {
    pub(crate) gates: Vec<Arc<Gate>>,
    pub(crate) per_client: Option<Arc<PerClient>>,
    /// Accepting pauses for want of descriptors, and the operator was told.
    pub(crate) paused: AtomicBool,
}

/// What a connection holds for as long as it lives.
pub(crate) struct Places {
    _gates: Vec<GateSlot>,
    _client: Option<ClientSlot>,
}

/// Binds `address` once for each of `workers`.
///
/// # Errors
/// The address is in use (by anybody: sharing it with another program unnoticed is no good), not ours, or not allowed.
pub(crate) fn bind(
    address: SocketAddr,
    workers: usize,
) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    // Without SO_REUSEPORT, so that a second balancer on the same port is an error and not a silent half of the traffic.
    let probe = socket(address, false)?;
    let bound = probe.local_addr()?.as_socket().unwrap_or(address);
    probe.listen(1)?;
    drop(probe);
    let sockets = (0..workers).map(|_| {
        let socket = socket(bound, true)?;
        socket.listen(BACKLOG)?;
        Ok(std::net::TcpListener::from(socket))
    });
    Ok((bound, sockets.collect::<io::Result<_>>()?))
}

fn socket(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?; // connections of a process that ended may still be in TIME_WAIT
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?; // `[::]` takes IPv4 too
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Accepts until the worker drains; then takes what already waits, and closes the socket.
pub(crate) async fn accept(worker: Rc<Worker>, door: Doors, mut orders: watch::Receiver<Order>) {
    let _busy = worker.enter();
    let Ok(listener) = TcpListener::from_std(door.socket) else {
        return;
    };
    loop {
        let gates = match enter(&door.limits) {
            Some(gates) => gates,
            None if *orders.borrow() != Order::Serve => return,
            None => {
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        // Whichever loses is only a wait: an accepted client is never dropped here.
        tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => admit(&worker, &door.limits, door.index, gates, stream, peer),
                Err(e) => rest(&door.limits, &e).await,
            },
            changed = orders.changed() => if changed.is_err() || *orders.borrow_and_update() != Order::Serve { break },
        }
    }
    while let (Some(gates), Ok((stream, peer))) = (enter(&door.limits), accept_waiting(&listener).await) {
        admit(&worker, &door.limits, door.index, gates, stream, peer);
    }
}

/// A client that already waits in the queue, or an error if there is none.
async fn accept_waiting(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    std::future::poll_fn(|cx| match listener.poll_accept(cx) {
        std::task::Poll::Pending => std::task::Poll::Ready(Err(io::ErrorKind::WouldBlock.into())),
        ready => ready,
    })
    .await
}

fn enter(limits: &DoorLimits) -> Option<Vec<GateSlot>> {
    limits.gates.iter().map(Gate::enter).collect()
}

async fn rest(limits: &DoorLimits, error: &io::Error) {
    if !is_our_shortage(error) {
        return; // the client was gone before it was accepted
    }
    if !limits.paused.swap(true, Ordering::Relaxed) {
        notice(&format!(
            "accepting pauses: {error}; raise the descriptor limit (ulimit -n) or lower max_connections"
        ));
    }
    tokio::time::sleep(REST).await;
}

fn admit(
    worker: &Rc<Worker>,
    limits: &DoorLimits,
    index: usize,
    gates: Vec<GateSlot>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    if limits.paused.load(Ordering::Relaxed) && limits.paused.swap(false, Ordering::Relaxed) {
        notice("accepting goes on");
    }
    let Ok(local) = stream.local_addr() else { return }; // reset in the meantime
    let client = match &limits.per_client {
        None => None,
        Some(per_client) => match per_client.enter(peer.ip()) {
            Some(slot) => Some(slot),
            None => return downstream::turn_away(worker, &stream, peer.ip()),
        },
    };
    let _ = SockRef::from(&stream).set_tcp_nodelay(true); // fails only on a socket that is gone
    let places = Places { _gates: gates, _client: client };
    let down = Downstream::new(worker, Stream::Tcp(stream), index, (peer.ip(), local), places);
    tokio::task::spawn_local(downstream::serve(down, Rc::clone(worker)));
}
