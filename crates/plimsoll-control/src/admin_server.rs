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
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use crate::admin::{Published, router};
use crate::servers::Asker;
use crate::unix_socket::{self, SocketFile};

/// How long answers under way may take when the server stops.
const LAST_ANSWER: Duration = Duration::from_millis(500);

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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let socket = door.socket.try_clone()?;
        let is_unix = matches!(door.bind, AdminBind::Unix(_));
        let guard = Guard { token: Arc::new(Mutex::new(token)), is_unix };
        let (stop, stopped) = oneshot::channel();
        let router = router(published, guard.clone());
        let _entered = runtime.enter();
        let (address, serve): (_, std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) = match &door.bind {
            AdminBind::Socket(_) => {
                let listener = TcpListener::from(socket);
                listener.set_nonblocking(true)?;
                let address = AdminBind::Socket(listener.local_addr()?);
                let listener = tokio::net::TcpListener::from_std(listener)?;
                (address, Box::pin(serve(listener, router, stopped, |_, peer| peer.to_string())))
            }
            AdminBind::Unix(_) => {
                let listener = UnixListener::from(socket);
                listener.set_nonblocking(true)?;
                let listener = tokio::net::UnixListener::from_std(listener)?;
                (door.bind.clone(), Box::pin(serve(listener, router, stopped, |stream, _| unix_peer(stream))))
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
    mut listener: L,
    router: Router,
    mut stopped: oneshot::Receiver<()>,
    who: fn(&L::Io, &L::Addr) -> String,
) {
    let room = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
    let (stop, stopping) = watch::channel(());
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
                let (service, stopping) = (TowerToHyperService::new(router), stopping.clone());
                connections.spawn(async move {
                    let _ = tokio::time::timeout(ADMIN_CONNECTION_AGE, answer(stream, service, stopping)).await;
                    drop(place);
                });
            }
            _ = &mut stopped => break, // a sender that is gone is a stop as well
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    drop(stop);
    // The answer that told of the stop gets out; nothing waits longer for slow readers.
    let _ =
        tokio::time::timeout(LAST_ANSWER, async { while connections.join_next().await.is_some() {} }).await;
}

/// One question on one connection.
async fn answer<S>(stream: S, service: TowerToHyperService<Router>, mut stopping: watch::Receiver<()>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ADMIN_HEADER)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // Errors are the client's, who has gone away.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopping.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
