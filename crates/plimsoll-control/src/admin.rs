//! The admin address: is the process alive, is it ready, what is it doing.
//!
//! `GET /healthz`, `/ready`, `/status`, `/metrics`, `/v1/openapi.json` and `/v1/backends`, `POST /reload` and `/upgrade`, on a thread of its own, so that a question never waits for traffic
//! nor traffic for a question. Reads what `run` has published; asks it to reload; changes nothing itself. With a token it answers whoever brings it;
//! without one loopback names and IP addresses only, so that a web page whose name was made to point here (DNS rebinding) cannot read it
//! through somebody's browser.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get, post};
use plimsoll_proxy::Snapshot;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::admin_server::Guard;
use crate::discovery::Origin;
use crate::exposition::CONTENT_TYPE;
use crate::metrics::{self, Reloads};
use crate::openapi;
use crate::orders::Ordered;
use crate::reload::{Request as Asked, Wish};
use crate::servers::{self, Problem};
use crate::status;
use crate::wanted::Wanted;

/// What the admin address can see of a running process.
pub struct Published {
    /// When the process started.
    pub started: Instant,
    /// Swapped by the loop that reloads.
    in_force: Mutex<InForce>,
    /// Where servers come from, beside the file.
    origins: Mutex<Vec<Arc<Origin>>>,
    pub(crate) reloads: Reloads,
    /// Asks that loop.
    ask: Option<mpsc::Sender<Asked>>,
    /// Orders of it.
    orders: Option<mpsc::Sender<Ordered>>,
    phase: AtomicU8,
}

/// What is served, as of one moment.
#[derive(Clone)]
pub(crate) struct InForce {
    /// The configuration, with everything that is counted about it.
    pub(crate) snapshot: Arc<Snapshot>,
    /// What it was composed of.
    pub(crate) wanted: Arc<Wanted>,
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
    pub fn new(snapshot: Arc<Snapshot>, ask: Option<mpsc::Sender<Asked>>) -> Published {
        Published {
            started: Instant::now(),
            in_force: Mutex::new(InForce {
                wanted: Arc::new(Wanted::new(snapshot.config.clone(), snapshot.config.clone())),
                snapshot,
            }),
            origins: Mutex::default(),
            reloads: Reloads::new(),
            ask,
            orders: None,
            phase: AtomicU8::new(Phase::Starting as u8),
        }
    }

    /// What is in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.in_force().snapshot
    }

    /// What is in force, and what it was composed of.
    pub(crate) fn in_force(&self) -> InForce {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes orders from now on.
    #[must_use]
    pub fn ordered_by(mut self, orders: mpsc::Sender<Ordered>) -> Published {
        self.orders = Some(orders);
        self
    }

    pub(crate) fn orders(&self) -> Option<&mpsc::Sender<Ordered>> {
        self.orders.as_ref()
    }

    /// Says what is in force from now on, and what it was composed of.
    pub fn show(&self, snapshot: Arc<Snapshot>, wanted: &Wanted) {
        let wanted = Arc::new(wanted.clone());
        *self.in_force.lock().unwrap_or_else(PoisonError::into_inner) = InForce { snapshot, wanted };
    }

    /// The sources of servers.
    pub fn origins(&self) -> Vec<Arc<Origin>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says which they are from now on.
    pub fn show_origins(&self, origins: Vec<Arc<Origin>>) {
        *self.origins.lock().unwrap_or_else(PoisonError::into_inner) = origins;
    }

    /// Counts a reload. For the loop that reloads.
    pub fn reloaded(&self, is_good: bool) {
        self.reloads.count(is_good);
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
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Serving => "serving",
            Phase::Draining => "draining",
        }
    }
}

/// What is answered, to whom `guard` lets in.
pub(crate) fn router(published: Arc<Published>, guard: Guard) -> Router {
    let all = routes().into_iter().fold(Router::new(), |all, (path, methods)| all.route(path, methods));
    all.fallback(async |uri: Uri| {
        let there_are = "there are /healthz, /ready, /status, /metrics, POST /reload, POST /upgrade, and /v1/backends, as \
                         /v1/openapi.json describes it all";
        refusal(&uri, StatusCode::NOT_FOUND, there_are)
    })
    .method_not_allowed_fallback(async |uri: Uri| {
        refusal(&uri, StatusCode::METHOD_NOT_ALLOWED, "this is not done here")
    })
    .layer(middleware::from_fn_with_state(guard, admit))
    .with_state(published)
}

/// Every path with what is done there. `openapi.json` describes them all.
pub(crate) fn routes() -> Vec<(&'static str, MethodRouter<Arc<Published>>)> {
    let own = [
        ("/healthz", get(async || "ok\n")),
        ("/ready", get(ready)),
        ("/status", get(status)),
        ("/metrics", get(metrics_page)),
        ("/reload", post(reload_now)),
        ("/upgrade", post(upgrade_now)),
        ("/v1/openapi.json", get(openapi::document)),
    ];
    own.into_iter().chain(servers::routes()).collect()
}

/// Below `/v1` everything that is refused is so in the words of RFC 9457; elsewhere it is a line for people.
fn refusal(uri: &Uri, status: StatusCode, detail: &str) -> Response {
    if uri.path().starts_with("/v1/") {
        return Problem(status, detail.to_owned()).into_response();
    }
    (status, format!("{detail}\n")).into_response()
}

async fn ready(State(published): State<Arc<Published>>) -> Response {
    let phase = published.phase();
    let status = if phase == Phase::Serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", phase.as_str())).into_response()
}

async fn reload_now(State(published): State<Arc<Published>>, headers: HeaderMap) -> Response {
    wish(&published, &headers, Wish::Reload).await
}

async fn upgrade_now(State(published): State<Arc<Published>>, headers: HeaderMap, uri: Uri) -> Response {
    match uri.query().map(path_of) {
        None => wish(&published, &headers, Wish::Upgrade(None)).await,
        Some(Some(path)) => wish(&published, &headers, Wish::Upgrade(Some(path))).await,
        Some(None) => (StatusCode::BAD_REQUEST, "the query is path=/ABSOLUTE/PATH\n").into_response(),
    }
}

/// `path=` and an absolute path, percent-encoded.
fn path_of(query: &str) -> Option<PathBuf> {
    let mut rest = query.strip_prefix("path=")?.as_bytes();
    let mut path = Vec::new();
    while let Some((&first, after)) = rest.split_first() {
        let byte = match first {
            b'%' => {
                let digits = std::str::from_utf8(after.get(..2)?).ok()?;
                rest = &after[2..];
                u8::from_str_radix(digits, 16).ok()?
            }
            _ => {
                rest = after;
                first
            }
        };
        path.push(byte);
    }
    let path = PathBuf::from(std::ffi::OsString::from_vec(path));
    path.is_absolute().then_some(path)
}

/// 200 with what was done, 422 with why everything stays as it was.
async fn wish(published: &Published, headers: &HeaderMap, wish: Wish) -> Response {
    // Only browsers send Origin: no page may make somebody's browser reload.
    if headers.contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "not for browsers\n").into_response();
    }
    let stopping = || (StatusCode::SERVICE_UNAVAILABLE, "the process is stopping\n").into_response();
    let Some(ask) = &published.ask else { return stopping() };
    let (answer, outcome) = oneshot::channel();
    if ask.send(Asked { wish, answer }).await.is_err() {
        return stopping();
    }
    match outcome.await {
        Ok(Ok(done)) => (StatusCode::OK, format!("{done}\n")).into_response(),
        Ok(Err(problems)) => (StatusCode::UNPROCESSABLE_ENTITY, problems).into_response(),
        Err(_) => stopping(),
    }
}

async fn status(State(published): State<Arc<Published>>) -> Json<Value> {
    Json(status::document(&published))
}

async fn metrics_page(State(published): State<Arc<Published>>) -> Response {
    let is_ready = published.phase() == Phase::Serving;
    let page = metrics::page(&published.snapshot(), &published.reloads, &published.origins(), is_ready);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response()
}

/// Whether a request may go on.
async fn admit(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let Some(token) = guard.token() else {
        if guard.is_unix || is_local(request.headers()) {
            return next.run(request).await;
        }
        return refusal(request.uri(), StatusCode::MISDIRECTED_REQUEST, "use localhost or an IP address");
    };
    // Balancers and orchestrators ask these two, have no token, and learn nothing but that.
    let is_open = matches!(request.uri().path(), "/healthz" | "/ready");
    let brought = bearer(request.headers());
    if is_open || brought.is_some_and(|brought| token.is(brought)) {
        return next.run(request).await;
    }
    let challenge = match brought {
        None => "Bearer realm=\"plimsoll\"",
        Some(_) => "Bearer realm=\"plimsoll\", error=\"invalid_token\"",
    };
    let detail = "bring the token of [admin]: `Authorization: Bearer TOKEN`";
    let refused = refusal(request.uri(), StatusCode::UNAUTHORIZED, detail);
    ([(header::WWW_AUTHENTICATE, challenge)], refused).into_response()
}

/// RFC 6750, 2.1. The scheme's name has no case (RFC 9110, 11.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
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
    use std::io::{self, Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use plimsoll_config::model::{AdminBind, Secret};

    use serde_json::json;

    use super::*;
    use crate::admin_server::{Admin, Door};

    fn published() -> Arc<Published> {
        let servers = ["127.0.0.1:3000".to_owned(), "unix:/run/a.sock".to_owned()];
        let config = plimsoll_config::from_flags(&[":8080".to_owned()], &servers).unwrap().config;
        Arc::new(Published::new(Arc::new(Snapshot::new(config, None)), None))
    }

    fn start(bind: &AdminBind, published: &Arc<Published>, token: Option<&str>) -> io::Result<Admin> {
        let token = token.map(|token| Secret::new(token).unwrap());
        Admin::start(Door::open(bind, 0o600)?, token, Arc::clone(published))
    }

    fn admin(published: &Arc<Published>) -> Admin {
        start(&"127.0.0.1:0".parse().unwrap(), published, None).unwrap()
    }

    fn get(admin: &Admin, path: &str, host: &str) -> (u16, String) {
        with(admin, path, &format!("Host: {host}\r\n"))
    }

    fn with(admin: &Admin, path: &str, fields: &str) -> (u16, String) {
        let AdminBind::Socket(address) = admin.address() else { panic!("no TCP address") };
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n").unwrap();
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
    fn status_shows_the_phase_and_every_server() {
        let published = published();
        let (code, body) = get(&admin(&published), "/status", "127.0.0.1:9900");
        assert_eq!(code, 200);
        let shown: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(shown["phase"], "starting");
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
        let (code, body) = get(&admin(&published()), "/nothing", "localhost");
        assert_eq!(code, 404);
        assert!(body.contains("/status"), "{body}");
    }

    #[test]
    fn metrics_show_every_server_before_its_first_request_and_how_reloads_ended() {
        let published = published();
        published.reloaded(false);
        let (code, page) = get(&admin(&published), "/metrics", "localhost");
        assert_eq!(code, 200);
        let server = "backend=\"listen :8080\",server=\"127.0.0.1:3000\"";
        for line in [
            format!("plimsoll_server_requests_total{{{server},code=\"2xx\"}} 0"),
            format!("plimsoll_server_first_byte_seconds_count{{{server}}} 0"),
            "plimsoll_config_reloads_total{result=\"failure\"} 1".to_owned(),
            "plimsoll_config_last_reload_successful 0".to_owned(),
            "plimsoll_ready 0".to_owned(),
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn a_taken_address_is_an_error_and_dropping_frees_it() {
        let published = published();
        let first = admin(&published);
        let address = first.address().clone();
        let error = start(&address, &published, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert_eq!(*start(&address, &published, None).unwrap().address(), address);
    }

    #[test]
    fn with_a_token_only_who_brings_it_learns_more_than_that_it_lives() {
        const TOKEN: &str = "0123456789abcdef";
        let admin = start(&"127.0.0.1:0".parse().unwrap(), &published(), Some(TOKEN)).unwrap();
        let ask = |path: &str, field: &str| with(&admin, path, &format!("Host: lb.example\r\n{field}")).0;
        for (field, expected) in [
            (String::new(), 401),
            ("Authorization: Bearer wrong-wrong-wrong\r\n".to_owned(), 401),
            (format!("Authorization: Basic {TOKEN}\r\n"), 401),
            (format!("Authorization: Bearer {TOKEN}x\r\n"), 401),
            (format!("Authorization: Bearer {TOKEN}\r\n"), 200),
            (format!("authorization: bearer {TOKEN}\r\n"), 200),
        ] {
            assert_eq!((ask("/status", &field), ask("/healthz", &field)), (expected, 200), "{field}");
        }
        assert_eq!((ask("/ready", ""), ask("/nothing", ""), ask("/metrics", "")), (503, 401, 401));
        admin.adopt(None, 0o600).unwrap();
        assert_eq!(get(&admin, "/status", "localhost").0, 200);
        assert_eq!(ask("/status", ""), 421, "without a token a foreign name is refused again");
    }
}
