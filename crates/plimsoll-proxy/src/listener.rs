//! Accepting: sockets that are bound before anything serves, and the loop that takes clients from one.
//!
//! Every worker has a socket of its own on the same address (`SO_REUSEPORT`), so the kernel spreads clients. When
//! there is no place left, the loop waits with one client in hand and the others wait in the kernel's queue, where they cost nothing. When descriptors
//! run out, accepting pauses, says so, and goes on by itself.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use plimsoll_config::model::Listener;
use plimsoll_traffic::{ClientSlot, Gate, GateSlot, PerClient};
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::downstream::{self, Downstream};
use crate::error::is_our_shortage;
use crate::notice::leave;
use crate::share::{Counted, Handed};
use crate::stats::{Entrance, Series};
use crate::stream::Stream;
use crate::worker::Worker;

/// Clients that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// How long accepting rests when there are no descriptors or no free places.
const REST: Duration = Duration::from_millis(20);
/// Under steady shortage the operator is told this often, in milliseconds.
const TELL_AGAIN: u64 = 10_000;

/// A bound listener: the sockets of all workers. It lives as long as it is configured; nothing rebinds it.
pub(crate) struct Bound {
    /// Its number, never used again for another.
    pub(crate) number: usize,
    /// The address as configured, which is its identity.
    pub(crate) configured: SocketAddr,
    /// The address as bound.
    pub(crate) local: SocketAddr,
    /// At least one for each worker; the one at `n` belongs to worker `n` modulo their number.
    pub(crate) sockets: Vec<std::net::TcpListener>,
    pub(crate) limits: Arc<DoorLimits>,
}

/// One worker's entrance through one listener, until it is closed.
pub(crate) struct Door {
    pub(crate) number: usize,
    closed: Cell<bool>,
    bell: Notify,
}

impl Door {
    pub(crate) fn new(number: usize) -> Rc<Door> {
        Rc::new(Door { number, closed: Cell::new(false), bell: Notify::new() })
    }

    /// Ends the accept loop, once it has taken who waits already.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.bell.notify_one();
    }
}

/// Limits and counters of one listener, shared by all workers.
pub(crate) struct DoorLimits {
    /// Of the whole process: what the descriptors allow.
    everywhere: Arc<Gate>,
    own: Arc<Gate>,
    per_client: Arc<PerClient>,
    /// Accepting waits, and the operator was told.
    waiting: AtomicBool,
    /// When the operator was told last, in milliseconds; 0 for never.
    told: AtomicU64,
    entrance: Arc<Series<Entrance>>,
}

impl DoorLimits {
    pub(crate) fn new(everywhere: &Arc<Gate>, entrance: Arc<Series<Entrance>>) -> DoorLimits {
        DoorLimits {
            everywhere: Arc::clone(everywhere),
            own: Arc::new(Gate::new(u32::MAX)),
            per_client: Arc::new(PerClient::new(u32::MAX)),
            waiting: AtomicBool::new(false),
            told: AtomicU64::new(0),
            entrance,
        }
    }

    /// Takes the configured limits; what is held stays counted.
    pub(crate) fn adopt(&self, listener: &Listener) {
        self.own.set_max(listener.max_connections.unwrap_or(u32::MAX));
        self.per_client.set_max(listener.max_connections_per_client.unwrap_or(u32::MAX));
    }

    /// Tells that accepting waits, but not again and again.
    fn waits(&self, worker: &Worker, why: &str) {
        self.entrance.of(worker.number).pause();
        let now = worker.deadlines.now().0.max(1);
        let told = self.told.load(Ordering::Relaxed);
        if (told == 0 || now - told.min(now) >= TELL_AGAIN) && !self.waiting.swap(true, Ordering::Relaxed) {
            self.told.store(now, Ordering::Relaxed);
            leave(format!("accepting pauses: {why}"));
        }
    }

    /// Tells that it goes on, if it was told that it waits.
    fn goes_on(&self) {
        if self.waiting.load(Ordering::Relaxed) && self.waiting.swap(false, Ordering::Relaxed) {
            leave("accepting goes on".to_owned());
        }
    }
}

/// What a connection holds for as long as it lives.
pub(crate) struct Places {
    _gates: [GateSlot; 2],
    /// `None` while connections per client are not limited.
    client: Option<ClientSlot>,
    limits: Arc<DoorLimits>,
    /// In the count of the worker that serves it.
    count: Counted,
}

impl Places {
    pub(crate) fn entrance(&self) -> &Arc<Series<Entrance>> {
        &self.limits.entrance
    }

    /// Counts a connection of this client that was there before its listener had a limit; it may be one too many, and stays.
    pub(crate) fn count_client(&mut self, peer: IpAddr) {
        if self.client.is_none() && self.limits.per_client.is_limited() {
            self.client = Some(self.limits.per_client.enter_anyway(peer));
        }
    }
}

/// True if an inherited socket listens where `address` says.
#[must_use]
pub fn is_for(socket: &std::net::TcpListener, address: SocketAddr) -> bool {
    socket.local_addr().is_ok_and(|local| {
        // A socket for `[::]` takes IPv4 as well; one for `0.0.0.0` takes nothing else.
        let both = local.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && address.ip().is_unspecified();
        (local.ip() == address.ip() || both) && local.port() == address.port()
    })
}

/// Binds `address` once for each of `workers`, as far as `inherited` sockets do not do already; at least as many as workers.
///
/// # Errors
/// The address is in use (by anybody: sharing it with another program unnoticed is no good), not ours, or not allowed.
pub(crate) fn bind(
    address: SocketAddr,
    mut inherited: Vec<std::net::TcpListener>,
    workers: usize,
) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    if let Some(first) = inherited.first() {
        let bound = first.local_addr()?;
        for socket in &inherited {
            socket.set_nonblocking(true)?;
            SockRef::from(socket).set_tcp_nodelay(true)?;
        }
        for number in inherited.len()..workers {
            // A socket that was bound without SO_REUSEPORT is shared by its workers.
            let more = listen(bound).or_else(|_| inherited[number % inherited.len()].try_clone());
            inherited.push(more?);
        }
        return Ok((bound, inherited));
    }
    // Without SO_REUSEPORT, so that a second balancer on the same port is an error and not a silent half of the traffic.
    let probe = socket(address, false)?;
    let bound = probe.local_addr()?.as_socket().unwrap_or(address);
    probe.listen(1)?;
    drop(probe);
    Ok((bound, (0..workers).map(|_| listen(bound)).collect::<io::Result<_>>()?))
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket(address, true)?;
    socket.set_tcp_nodelay(true)?; // accepted connections inherit it
    socket.listen(BACKLOG)?;
    Ok(socket.into())
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

/// Accepts until the door is closed; then takes who waits already, and closes the socket.
///
/// Places are taken after accepting, and the loop then waits with that one client: a place held by a loop that has nobody to give it
/// to would be lost to the other workers.
pub(crate) async fn accept(
    worker: Rc<Worker>,
    door: Rc<Door>,
    socket: std::net::TcpListener,
    limits: Arc<DoorLimits>,
) {
    let _busy = worker.enter();
    // Not tokio's own listener: that watches every socket which it accepts.
    #[expect(
        deprecated,
        reason = "deprecated for types whose descriptor may change; a listener keeps its own"
    )]
    let Ok(listener) = AsyncFd::with_interest(socket, Interest::READABLE) else { return };
    while !door.closed.get() {
        // Whichever loses is only a wait: an accepted client is never dropped here.
        tokio::select! {
            biased;
            Ok(mut waiting) = listener.readable() => match waiting.try_io(|listener| accept_one(listener.get_ref())) {
                Ok(Ok((stream, peer))) => admit(&worker, &limits, door.number, stream, peer).await,
                Ok(Err(e)) => rest(&worker, &limits, &e).await,
                Err(_nobody) => {}
            },
            () = door.bell.notified() => {}
        }
    }
    // The kernel is asked, not the runtime, which may not have heard of the last ones: closing would reset them.
    let listener = listener.into_inner();
    loop {
        match accept_one(&listener) {
            Ok((stream, peer)) => admit(&worker, &limits, door.number, stream, peer).await,
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {} // that one was gone before it was accepted
            Err(_) => return,
        }
    }
}

/// A client that waits in the queue, or an error if there is none. Nobody watches its socket yet: see `stream.rs`.
fn accept_one(listener: &std::net::TcpListener) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    let (socket, peer) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    Ok((socket.into(), peer.ok_or(io::ErrorKind::ConnectionAborted)?))
}

/// Waits for a place behind both gates.
async fn enter(worker: &Worker, limits: &DoorLimits) -> [GateSlot; 2] {
    loop {
        if let Some(own) = limits.own.enter()
            && let Some(everywhere) = limits.everywhere.enter()
        {
            return [own, everywhere];
        }
        limits.waits(
            worker,
            "as many connections as max_connections or the descriptor limit (ulimit -n) allow",
        );
        tokio::time::sleep(REST).await;
    }
}

async fn rest(worker: &Worker, limits: &DoorLimits, error: &io::Error) {
    if !is_our_shortage(error) {
        return; // the client was gone before it was accepted
    }
    worker.close_idle();
    limits
        .waits(worker, &format!("{error}; raise the descriptor limit (ulimit -n) or lower max_connections"));
    tokio::time::sleep(REST).await;
}

async fn admit(
    worker: &Rc<Worker>,
    limits: &Arc<DoorLimits>,
    number: usize,
    stream: std::net::TcpStream,
    peer: SocketAddr,
) {
    let mut client = None;
    if limits.per_client.is_limited() {
        match limits.per_client.enter(peer.ip()) {
            Some(slot) => client = Some(slot),
            None => return downstream::turn_away(worker, &stream, peer.ip(), &limits.entrance),
        }
    }
    let gates = enter(worker, limits).await;
    limits.goes_on();
    let whose = worker.shares.whose(worker.number);
    let count = worker.shares.count(whose);
    let places = Places { _gates: gates, client, limits: Arc::clone(limits), count };
    if whose == worker.number || worker.is_ending() {
        return begin(worker, stream, peer, number, places);
    }
    if let Err(handed) = worker.shares.hand_over(whose, Handed { stream, peer, listener: number, places }) {
        let count = handed.places.count.moves_to(worker.number);
        receive(worker, Handed { places: Places { count, ..handed.places }, ..handed });
    }
}

/// Serves a client that another worker has accepted.
pub(crate) fn receive(worker: &Rc<Worker>, handed: Handed) {
    begin(worker, handed.stream, handed.peer, handed.listener, handed.places);
}

fn begin(
    worker: &Rc<Worker>,
    stream: std::net::TcpStream,
    peer: SocketAddr,
    listener: usize,
    places: Places,
) {
    let down = Downstream::new(worker, Stream::fresh(stream), listener, peer.ip(), places);
    tokio::task::spawn_local(downstream::serve(Box::new(down), Rc::clone(worker)));
}
