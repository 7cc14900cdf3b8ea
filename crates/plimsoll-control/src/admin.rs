//! The admin address: is the process alive, is it ready, what is it doing.
//!
//! `GET /healthz`, `/ready` and `/status`, `POST /reload`, on a thread of its own, so that a question never waits for traffic
//! nor traffic for a question. Reads what `run` has published; asks it to reload; changes nothing itself. Answers loopback names and IP addresses only, so that
//! a web page whose name was made to point here (DNS rebinding) cannot read it through somebody's browser.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use plimsoll_config::model::Address;
use plimsoll_traffic::{Backend, Server};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::reload;

/// What the admin address can see of a running process.
#[derive(Debug)]
pub struct Published {
    /// When the process started.
    pub started: Instant,
    /// Swapped whole by the loop that reloads.
    shown: Mutex<Shown>,
    /// Asks that loop to reload; `None` where there is nothing to reload.
    reloads: Option<mpsc::Sender<reload::Request>>,
    phase: AtomicU8,
}

/// The part that a reload changes.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// Where clients are accepted, with the ports that the kernel chose.
    pub listeners: Vec<SocketAddr>,
    /// The backends of the configuration in force.
    pub backends: Vec<Arc<Backend>>,
}

/// What the process as a whole does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not accepting yet.
    Starting,
    /// Accepting.
    Serving,
    /// Finishing what it has.
    Draining,
}

impl Published {
    /// In `Phase::Starting`, from now.
    pub fn new(shown: Shown, reloads: Option<mpsc::Sender<reload::Request>>) -> Published {
        Published {
            started: Instant::now(),
            shown: Mutex::new(shown),
            reloads,
            phase: AtomicU8::new(Phase::Starting as u8),
        }
    }

    /// What is in force.
    pub fn shown(&self) -> Shown {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says what is in force from now on.
    pub fn show(&self, shown: Shown) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// What the process does now.
    pub fn phase(&self) -> Phase {
        // Relaxed: a fact by itself; nothing else is read because of it.
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    /// Says what the process does from now on.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }
}

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Serving => "serving",
            Phase::Draining => "draining",
        }
    }
}

/// A running admin server; stops when dropped.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Where it listens, with the port that the kernel chose.
    pub fn address(&self) -> SocketAddr {
        self.address
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

/// Binds `address` and answers until dropped. The error is the kernel's; the caller names the address.
pub fn start(address: SocketAddr, published: Arc<Published>) -> io::Result<Admin> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _entered = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let (stop, stopped) = oneshot::channel();
    let serve = async move {
        tokio::select! {
            _ = axum::serve(listener, router(published)).into_future() => {}
            // Answers are made in one step, so what is cut here has hardly begun.
            _ = stopped => {}
        }
    };
    let thread =
        std::thread::Builder::new().name("admin".to_owned()).spawn(move || runtime.block_on(serve))?;
    Ok(Admin { address, stop: Some(stop), thread: Some(thread) })
}

fn router(published: Arc<Published>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/ready", get(ready))
        .route("/status", get(status))
        .route("/reload", post(reload_now))
        .fallback(async || (StatusCode::NOT_FOUND, "there are /healthz, /ready, /status and POST /reload\n"))
        .layer(middleware::from_fn(only_local_names))
        .with_state(published)
}

async fn ready(State(published): State<Arc<Published>>) -> Response {
    let phase = published.phase();
    let status = if phase == Phase::Serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", phase.as_str())).into_response()
}

/// 200 with what was done, 422 with why everything stays as it was.
async fn reload_now(State(published): State<Arc<Published>>, headers: HeaderMap) -> Response {
    // Only browsers send Origin: no page may make somebody's browser reload.
    if headers.contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "not for browsers\n").into_response();
    }
    let Some(reloads) = &published.reloads else {
        return (StatusCode::CONFLICT, "started without a file: there is nothing to reload\n")
            .into_response();
    };
    let (answer, outcome) = oneshot::channel();
    if reloads.send(reload::Request { answer }).await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the process is stopping\n").into_response();
    }
    match outcome.await {
        Ok(Ok(done)) => (StatusCode::OK, format!("{done}\n")).into_response(),
        Ok(Err(problems)) => (StatusCode::UNPROCESSABLE_ENTITY, problems).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the process is stopping\n").into_response(),
    }
}

async fn status(State(published): State<Arc<Published>>) -> Json<Value> {
    let backend = |backend: &Arc<Backend>| {
        let servers: Vec<Value> = backend.servers.iter().map(server_json).collect();
        json!({ "name": backend.name, "servers": servers })
    };
    let shown = published.shown();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_seconds": published.started.elapsed().as_secs(),
        "phase": published.phase().as_str(),
        "listeners": shown.listeners,
        "backends": shown.backends.iter().map(backend).collect::<Vec<Value>>(),
    }))
}

fn server_json(server: &Server) -> Value {
    let address = match &server.address {
        Address::Socket(address) => address.to_string(),
        Address::Name(host, port) => format!("{host}:{port}"),
        Address::Unix(path) => format!("unix:{}", path.display()),
    };
    json!({
        "name": server.name,
        "address": address,
        "weight": server.weight,
        "backup": server.backup,
        "max_requests": server.max_requests,
        "in_flight": server.live.in_flight(),
        "assigned": server.live.assigned(),
        "refused": server.live.refusals(),
    })
}

async fn only_local_names(request: Request, next: Next) -> Response {
    if is_local(request.headers()) {
        return next.run(request).await;
    }
    (StatusCode::MISDIRECTED_REQUEST, "use localhost or an IP address\n").into_response()
}

/// Whether the Host is `localhost` or an IP address, or missing, as in HTTP/1.0: no browser leaves it out.
fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else {
        return true;
    };
    let Ok(host) = host.to_str() else { return false };
    let is_ip = host.parse::<SocketAddr>().is_ok() || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    is_ip || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    fn published() -> Arc<Published> {
        let servers = ["127.0.0.1:3000".to_owned(), "unix:/run/a.sock".to_owned()];
        let config = plimsoll_config::from_flags(&[":8080".to_owned()], &servers).unwrap().config;
        let backends = config.backends.iter().map(|backend| Arc::new(Backend::new(backend, None))).collect();
        let shown = Shown { listeners: vec!["[::]:8080".parse().unwrap()], backends };
        Arc::new(Published::new(shown, None))
    }

    fn admin(published: &Arc<Published>) -> Admin {
        start("127.0.0.1:0".parse().unwrap(), Arc::clone(published)).unwrap()
    }

    fn get(admin: &Admin, path: &str, host: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(admin.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    #[test]
    fn ready_only_while_serving_and_healthy_always() {
        let published = published();
        let admin = admin(&published);
        for (phase, expected) in [(Phase::Starting, 503), (Phase::Serving, 200), (Phase::Draining, 503)] {
            published.enter(phase);
            assert_eq!(get(&admin, "/ready", "localhost"), (expected, format!("{}\n", phase.as_str())));
            assert_eq!(get(&admin, "/healthz", "localhost"), (200, "ok\n".to_owned()));
        }
    }

    #[test]
    fn status_shows_listeners_and_every_server() {
        let published = published();
        let (code, body) = get(&admin(&published), "/status", "127.0.0.1:9900");
        assert_eq!(code, 200);
        let shown: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(shown["phase"], "starting");
        assert_eq!(shown["listeners"], json!(["[::]:8080"]));
        let servers = shown["backends"][0]["servers"].as_array().unwrap();
        let addresses: Vec<&str> = servers.iter().map(|server| server["address"].as_str().unwrap()).collect();
        assert_eq!(addresses, ["127.0.0.1:3000", "unix:/run/a.sock"]);
        assert_eq!((&servers[0]["in_flight"], &servers[0]["assigned"]), (&json!(0), &json!(0)));
    }

    #[test]
    fn foreign_names_are_refused_and_local_ones_are_not() {
        let admin = admin(&published());
        for host in ["localhost", "LOCALHOST:9900", "127.0.0.1", "10.1.2.3:80", "[::1]", "[::1]:9900"] {
            assert_eq!(get(&admin, "/healthz", host).0, 200, "{host}");
        }
        for host in
            ["evil.example", "evil.example:9900", "localhost.evil.example", "127.0.0.1.evil.example", ""]
        {
            assert_eq!(get(&admin, "/healthz", host).0, 421, "{host}");
        }
    }

    #[test]
    fn other_paths_say_what_there_is() {
        let (code, body) = get(&admin(&published()), "/metrics", "localhost");
        assert_eq!(code, 404);
        assert!(body.contains("/status"), "{body}");
    }

    #[test]
    fn a_taken_address_is_an_error_and_dropping_frees_it() {
        let published = published();
        let first = admin(&published);
        let address = first.address();
        let error = start(address, Arc::clone(&published)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert_eq!(start(address, published).unwrap().address(), address);
    }
}
