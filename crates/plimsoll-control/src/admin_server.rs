//! One admin address: its socket, a thread that answers there, and who may ask.
//!
//! Bounded in every direction: so many connections at once, one question on each, so long for its head and so long for all of it. Further
//! clients wait in the kernel's queue. What is answered is `admin`'s.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::serve::Listener;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use plimsoll_config::defaults::{ADMIN_CONNECTION_AGE, ADMIN_CONNECTIONS, ADMIN_HEADER};
use plimsoll_config::model::{AdminBind, Secret};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::admin::{Published, router};
use crate::servers::Asker;
use crate::unix_socket::{self, SocketFile};

/// How long answers under way may take when the server stops.
const LAST_ANSWER: Duration = Duration::from_millis(500);

/// What one address gives its clients at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at once.
    connections: usize,
    /// For a whole head.
    head: Duration,
    /// For a question and its answer.
    age: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: ADMIN_CONNECTIONS, head: ADMIN_HEADER, age: ADMIN_CONNECTION_AGE }
    }
}

/// A bound admin address.
#[derive(Debug)]
pub struct Door {
    bind: AdminBind,
    /// Dropped before the socket, which keeps the file's inode from being another's.
    file: Option<SocketFile>,
    socket: OwnedFd,
}

impl Door {
    /// Binds it; `mode` is for Unix sockets. The error is the kernel's; the caller names the address.
    pub fn open(bind: &AdminBind, mode: u32) -> io::Result<Door> {
        let (socket, file) = match bind {
            AdminBind::Socket(address) => (TcpListener::bind(address)?.into(), None),
            AdminBind::Unix(path) => {
                let (socket, file) = unix_socket::listen(path, mode)?;
                (socket.into(), Some(file))
            }
        };
        Ok(Door { bind: bind.clone(), socket, file })
    }

    /// One that another process has bound and gives away, with the identity of its file if it has one.
    pub fn given(bind: AdminBind, socket: OwnedFd, identity: Option<(u64, u64)>) -> Door {
        let file = match (&bind, identity) {
            (AdminBind::Unix(path), Some(identity)) => Some(SocketFile::given(path, identity)),
            _ => None,
        };
        Door { bind, socket, file }
    }

    /// The address as configured.
    pub fn bind(&self) -> &AdminBind {
        &self.bind
    }
}

/// A running admin server; stops when dropped.
#[derive(Debug)]
pub struct Admin {
    door: Door,
    address: AdminBind,
    guard: Guard,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Answers behind `door` until dropped.
    pub fn start(door: Door, token: Option<Secret>, published: Arc<Published>) -> io::Result<Admin> {
        Admin::within(Limits::default(), door, token, published)
    }

    fn within(
        limits: Limits,
        door: Door,
        token: Option<Secret>,
        published: Arc<Published>,
    ) -> io::Result<Admin> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let socket = door.socket.try_clone()?;
        let is_unix = matches!(door.bind, AdminBind::Unix(_));
        let guard = Guard::new(token, is_unix);
        let (stop, stopped) = oneshot::channel();
        let router = router(published, guard.clone());
        let _entered = runtime.enter();
        let (address, serve): (_, std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) = match &door.bind {
            AdminBind::Socket(_) => {
                let listener = TcpListener::from(socket);
                listener.set_nonblocking(true)?;
                let address = AdminBind::Socket(listener.local_addr()?);
                let listener = tokio::net::TcpListener::from_std(listener)?;
                (address, Box::pin(serve(limits, listener, router, stopped, |_, peer| peer.to_string())))
            }
            AdminBind::Unix(_) => {
                let listener = UnixListener::from(socket);
                listener.set_nonblocking(true)?;
                let listener = tokio::net::UnixListener::from_std(listener)?;
                (
                    door.bind.clone(),
                    Box::pin(serve(limits, listener, router, stopped, |stream, _| unix_peer(stream))),
                )
            }
        };
        drop(_entered);
        let thread = std::thread::Builder::new().name("admin".to_owned());
        let thread = thread.spawn(move || runtime.block_on(serve))?;
        Ok(Admin { door, address, guard, stop: Some(stop), thread: Some(thread) })
    }

    /// The address as configured, which is its identity.
    pub fn bind(&self) -> &AdminBind {
        &self.door.bind
    }

    /// Where it listens, with the port that the kernel chose.
    pub fn address(&self) -> &AdminBind {
        &self.address
    }

    /// The listening socket, for a handover.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.door.socket.as_fd()
    }

    /// Device and inode of its file, if it has one.
    pub fn identity(&self) -> Option<(u64, u64)> {
        self.door.file.as_ref().map(|file| file.identity)
    }

    /// Takes another token, and other permissions for its file. What is asked from now on is judged by them.
    pub fn adopt(&self, token: Option<Secret>, mode: u32) -> io::Result<()> {
        *self.guard.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
        self.door.file.as_ref().map_or(Ok(()), |file| file.set_mode(mode))
    }

    /// Another process has its socket from now on: the file stays.
    pub fn leave(&mut self) {
        if let Some(file) = &mut self.door.file {
            file.leave();
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        // Its own end may have come first, by a panic that its thread has told of.
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Who may ask at one address.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    token: Arc<Mutex<Option<Secret>>>,
    /// No browser gets here.
    pub(crate) is_unix: bool,
}

impl Guard {
    pub(crate) fn new(token: Option<Secret>, is_unix: bool) -> Guard {
        Guard { token: Arc::new(Mutex::new(token)), is_unix }
    }

    /// What every request has to bring.
    pub(crate) fn token(&self) -> Option<Secret> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Who has connected to a Unix socket, as the kernel knows.
fn unix_peer(stream: &tokio::net::UnixStream) -> String {
    match stream.peer_cred() {
        Ok(peer) => format!("unix uid {} pid {}", peer.uid(), peer.pid().unwrap_or(0)),
        Err(_) => "unix".to_owned(),
    }
}

async fn serve<L: Listener>(
    limits: Limits,
    mut listener: L,
    router: Router,
    mut stopped: oneshot::Receiver<()>,
    who: fn(&L::Io, &L::Addr) -> String,
) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        // A place first: who finds none waits in the kernel's queue. The losers are only waits.
        let next = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            (place, (stream, peer)) = next => {
                let router = router.clone().layer(Extension(Asker(who(&stream, &peer))));
                connections.spawn(async move {
                    let answered = answer(limits.head, stream, TowerToHyperService::new(router));
                    let _ = tokio::time::timeout(limits.age, answered).await;
                    drop(place);
                });
            }
            _ = &mut stopped => break, // a sender that is gone is a stop as well
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    // The answer that told of the stop gets out, and whoever has connected may still ask; nothing waits longer for slow ones.
    let _ =
        tokio::time::timeout(LAST_ANSWER, async { while connections.join_next().await.is_some() {} }).await;
}

/// One question on one connection.
async fn answer<S>(head: Duration, stream: S, service: TowerToHyperService<Router>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    // Errors are the client's, who has gone away.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;
    use std::time::Instant;

    use plimsoll_proxy::Snapshot;

    use super::*;

    /// Only a broken machine takes as long.
    const PATIENCE: Duration = Duration::from_secs(20);
    /// Above what the machine takes for an answer; whether there is one sooner decides nothing but how sharp a test is.
    const A_WHILE: Duration = Duration::from_millis(300);
    const NEVER: Duration = Duration::from_secs(3600);

    fn admin(limits: Limits) -> Admin {
        let config = plimsoll_config::from_flags(&[":8080".to_owned()], &["127.0.0.1:1".to_owned()]).unwrap();
        let published = Published::new(Arc::new(Snapshot::new(config.config, None)), None);
        let door = Door::open(&"127.0.0.1:0".parse().unwrap(), 0o600).unwrap();
        Admin::within(limits, door, None, Arc::new(published)).unwrap()
    }

    fn connect(admin: &Admin, patience: Duration) -> TcpStream {
        let AdminBind::Socket(address) = admin.address() else { panic!("no TCP address") };
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(patience)).unwrap();
        stream
    }

    fn ask(stream: &mut TcpStream) {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }

    /// One that has a place, and keeps it until it sends its body: it was told to go on. That it is connected says nothing, since the kernel may hand over
    /// clients in another order than that in which they came, if several cores take them.
    fn hold(admin: &Admin) -> TcpStream {
        let mut stream = connect(admin, PATIENCE);
        let head = "POST /v1/backends/x/servers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n";
        stream.write_all(format!("{head}Expect: 100-continue\r\n\r\n").as_bytes()).unwrap();
        let mut interim = *b"HTTP/1.1 100 Continue\r\n\r\n";
        stream.read_exact(&mut interim).unwrap();
        assert!(interim.starts_with(b"HTTP/1.1 100 "), "{}", interim.escape_ascii());
        stream
    }

    fn answer(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn who_finds_no_place_waits_until_another_one_leaves() {
        let admin = admin(Limits { connections: 2, head: NEVER, age: NEVER });
        let mut held: Vec<TcpStream> = (0..2).map(|_| hold(&admin)).collect();
        let mut third = connect(&admin, A_WHILE);
        ask(&mut third);
        let early = third.read(&mut [0; 1]).unwrap_err();
        assert!(matches!(early.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{early}");
        third.set_read_timeout(Some(PATIENCE)).unwrap();
        drop(held.pop());
        assert!(answer(&mut third).starts_with("HTTP/1.1 200 "));
        // The other one had its place all the time.
        held[0].write_all(b"[]").unwrap();
        assert!(answer(&mut held[0]).starts_with("HTTP/1.1 422 "));
    }

    #[test]
    fn a_head_that_trickles_is_given_up_and_frees_its_place() {
        let admin = admin(Limits { connections: 1, head: Duration::from_millis(200), age: NEVER });
        let mut slow = connect(&admin, Duration::from_millis(10));
        let start = Instant::now();
        slow.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
        // Each byte comes long before the limit is over: what counts is all of them.
        let is_open = |slow: &mut TcpStream| match slow.read(&mut [0; 64]) {
            Ok(0) => false,
            Ok(_) => true,
            Err(e) => matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        while is_open(&mut slow) {
            assert!(start.elapsed() < PATIENCE, "a trickle is waited for without end");
            let _ = slow.write_all(b"a"); // fails once it is closed
        }
        assert!(start.elapsed() >= Duration::from_millis(200), "it was given up too early");
        let mut next = connect(&admin, PATIENCE);
        assert_eq!(answer(&mut next), "", "the next one has a place, and the same limit");
    }

    #[test]
    fn nobody_holds_a_place_for_ever() {
        let admin = admin(Limits { connections: 1, head: NEVER, age: Duration::from_millis(50) });
        // The second is given up as well, so the first has left its place.
        let mut idle = [connect(&admin, PATIENCE), connect(&admin, PATIENCE)];
        idle.iter_mut().for_each(|stream| assert_eq!(answer(stream), ""));
    }

    #[test]
    fn whoever_has_connected_is_answered_though_it_stops() {
        let admin = admin(Limits::default());
        let mut early = connect(&admin, PATIENCE);
        let mut later = connect(&admin, PATIENCE);
        ask(&mut later);
        // Those who connect are taken in order: so is the first by now.
        assert!(answer(&mut later).starts_with("HTTP/1.1 200 "));
        let stops = std::thread::spawn(|| drop(admin));
        ask(&mut early);
        assert!(answer(&mut early).starts_with("HTTP/1.1 200 "));
        stops.join().unwrap();
    }

    #[test]
    fn the_limits_in_force_are_the_documented_ones() {
        let Limits { connections, head, age } = Limits::default();
        assert_eq!((connections, head, age), (64, Duration::from_secs(10), Duration::from_secs(120)));
    }
}
