//! `/v1/backends`: the admin API for servers. Shows them with their live state, adds, changes and removes them.
//!
//! Reads what is published; changes go to the one loop as [`Ordered`] and are answered once they are served. Bodies are bounded JSON and strict;
//! errors are RFC 9457's problem details. Never lets a browser's page change anything.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use plimsoll_config::defaults::{ADMIN_BODY, MOST_WEIGHT};
use plimsoll_config::model::{Address, Backend, Config, Server, ServerState};
use plimsoll_config::{Unsound, parse_json};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use crate::admin::{InForce, Published};
use crate::asked::{Named, Persist, details, if_match, location};
use crate::orders::{Declined, Keep, Ordered, settings, tag};
use crate::persist::Unkept;
use crate::resolve::Resolution;
use crate::status;
use crate::wanted::{Change, Origin, Refused, Wanted};

/// Who is at the other end of a connection, for the audit log.
#[derive(Debug, Clone)]
pub(crate) struct Asker(pub(crate) String);

type Shared = State<Arc<Published>>;
type Answer = Result<Response, Problem>;

/// A status and what is wrong, in a sentence.
pub(crate) struct Problem(pub(crate) StatusCode, pub(crate) String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Problem(status, detail) = self;
        let body = details(status, &detail);
        (status, [(header::CONTENT_TYPE, "application/problem+json")], format!("{body}\n")).into_response()
    }
}

impl From<Declined> for Problem {
    fn from(declined: Declined) -> Problem {
        let status = match &declined {
            Declined::Refused(Refused::NoBackend(_) | Refused::NoServer(..)) => StatusCode::NOT_FOUND,
            Declined::Refused(Refused::Exists(..) | Refused::Last(..)) => StatusCode::CONFLICT,
            Declined::Refused(Refused::TooMany) => StatusCode::INSUFFICIENT_STORAGE,
            Declined::Upgrading => StatusCode::SERVICE_UNAVAILABLE,
            Declined::Unkept(Unkept::Impossible(_)) => StatusCode::CONFLICT,
            Declined::Unservable(_) | Declined::Unkept(Unkept::Unwritten(_)) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Declined::Stale => StatusCode::PRECONDITION_FAILED,
        };
        Problem(status, declined.to_string())
    }
}

/// The paths below `/v1/backends`.
pub(crate) fn routes() -> [(&'static str, MethodRouter<Arc<Published>>); 4] {
    [
        ("/v1/backends", get(backends)),
        ("/v1/backends/{backend}", get(backend)),
        ("/v1/backends/{backend}/servers", get(servers).post(add)),
        ("/v1/backends/{backend}/servers/{server}", get(server).patch(change).delete(remove)),
    ]
}

async fn backends(State(published): Shared) -> Response {
    let now = published.in_force();
    let all = now.snapshot.config.backends.iter();
    let shown: Vec<Value> = all.filter_map(|spec| show(&published, &now, &spec.name).ok()).collect();
    tagged(StatusCode::OK, None, &json!({ "backends": shown }))
}

async fn backend(State(published): Shared, Named(name): Named<String>) -> Answer {
    let now = published.in_force();
    let shown = show(&published, &now, &name)?;
    Ok(tagged(StatusCode::OK, Some(backend_tag(&now, &name)?), &shown))
}

async fn servers(State(published): Shared, Named(name): Named<String>) -> Answer {
    let now = published.in_force();
    let mut shown = show(&published, &now, &name)?;
    let servers = json!({ "servers": shown["servers"].take() });
    Ok(tagged(StatusCode::OK, Some(backend_tag(&now, &name)?), &servers))
}

async fn server(State(published): Shared, Named((backend, name)): Named<(String, String)>) -> Answer {
    show_server(&published, StatusCode::OK, &backend, &name)
}

async fn add(
    State(published): Shared,
    Named(backend): Named<String>,
    Extension(asker): Extension<Asker>,
    Persist(is_kept): Persist,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let said = object(&headers, body).await?;
    let max_requests = spec(&published.snapshot().config, &backend)?.max_requests;
    let server = plimsoll_config::parse_server(&said, max_requests).map_err(|reason| unsound(&reason))?;
    let keep = if is_kept { Keep::InFile(Some(server.clone())) } else { Keep::AsOrder };
    let server = resolve(&published, &backend, server).await?;
    let name = server.name.clone();
    order(&published, &backend, Change::Add(server), keep, &headers, asker).await?;
    let mut shown = show_server(&published, StatusCode::CREATED, &backend, &name)?;
    let location = header::HeaderValue::try_from(location(&backend, &name)).expect("it is percent-encoded");
    shown.headers_mut().insert(header::LOCATION, location);
    Ok(shown)
}

async fn change(
    State(published): Shared,
    Named((backend, name)): Named<(String, String)>,
    Extension(asker): Extension<Asker>,
    Persist(is_kept): Persist,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let said = object(&headers, body).await?;
    only(&said, &["state", "weight"])?;
    let (state, weight) = (read_state(&said)?, read(&said, "weight", MOST_WEIGHT)?);
    if said.is_empty() {
        return Err(unsound("say `state`, `weight`, or both"));
    }
    let change = Change::Set { server: name.clone(), state, weight: weight.map(|weight| weight as u16) };
    order(&published, &backend, change, keep(is_kept), &headers, asker).await?;
    show_server(&published, StatusCode::OK, &backend, &name)
}

async fn remove(
    State(published): Shared,
    Named((backend, name)): Named<(String, String)>,
    Extension(asker): Extension<Asker>,
    Persist(is_kept): Persist,
    headers: HeaderMap,
) -> Answer {
    not_a_page(&headers)?;
    order(&published, &backend, Change::Remove(name), keep(is_kept), &headers, asker).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// For what is no new server.
fn keep(is_kept: bool) -> Keep {
    if is_kept { Keep::InFile(None) } else { Keep::AsOrder }
}

/// Has the loop do it, and waits until it is served.
async fn order(
    published: &Published,
    backend: &str,
    change: Change,
    keep: Keep,
    headers: &HeaderMap,
    Asker(by): Asker,
) -> Result<(), Problem> {
    let stopping = || Problem(StatusCode::SERVICE_UNAVAILABLE, "the process is stopping".to_owned());
    let only_if = if_match(headers)?;
    let (answer, outcome) = oneshot::channel();
    let ordered = Ordered { backend: backend.to_owned(), change, only_if, keep, by, answer };
    published.orders().ok_or_else(stopping)?.send(ordered).await.map_err(|_| stopping())?;
    outcome.await.map_err(|_| stopping())?.map_err(Problem::from)
}

/// RFC 9110: a page cannot send JSON elsewhere without asking first, and browsers say who they are.
fn not_a_page(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
        return Err(Problem(StatusCode::FORBIDDEN, "not for browsers".to_owned()));
    }
    Ok(())
}

async fn object(headers: &HeaderMap, body: Body) -> Result<Map<String, Value>, Problem> {
    not_a_page(headers)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        let detail = "send JSON, and say so: `Content-Type: application/json`".to_owned();
        return Err(Problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let too_large = |_| Problem(StatusCode::PAYLOAD_TOO_LARGE, format!("at most {ADMIN_BODY} bytes, whole"));
    let bytes = to_bytes(body, ADMIN_BODY).await.map_err(too_large)?;
    let said = parse_json(&bytes).map_err(|unsound| {
        let detail = match unsound {
            Unsound::Syntax(error) => format!("the body is no JSON: {error}"),
            Unsound::Twice(key) => format!("the body says `{key}` twice"),
        };
        Problem(StatusCode::BAD_REQUEST, detail)
    })?;
    match said {
        Value::Object(said) => Ok(said),
        _ => Err(unsound("the body is a JSON object")),
    }
}

fn unsound(detail: &str) -> Problem {
    Problem(StatusCode::UNPROCESSABLE_ENTITY, detail.to_owned())
}

fn only(said: &Map<String, Value>, keys: &[&str]) -> Result<(), Problem> {
    match said.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => Err(unsound(&format!("unknown key `{key}`: there are {}", keys.join(", ")))),
        None => Ok(()),
    }
}

fn read(said: &Map<String, Value>, key: &str, most: u64) -> Result<Option<u64>, Problem> {
    let Some(value) = said.get(key) else { return Ok(None) };
    let number = plimsoll_config::whole(value).filter(|number| *number <= most);
    number.map(Some).ok_or_else(|| unsound(&format!("`{key}` is a whole number up to {most}")))
}

fn read_state(said: &Map<String, Value>) -> Result<Option<ServerState>, Problem> {
    let Some(value) = said.get("state") else { return Ok(None) };
    let state = value.as_str().ok_or_else(|| unsound("`state` is a string"))?;
    state.parse().map(Some).map_err(|reason: String| unsound(&reason))
}

/// A host name to its address, as at the start and with the same patience.
async fn resolve(published: &Published, backend: &str, server: Server) -> Result<Server, Problem> {
    if !matches!(server.address, Address::Name(..)) {
        return Ok(server);
    }
    let unresolved = |reason: String| Problem(StatusCode::UNPROCESSABLE_ENTITY, reason);
    let mut config = published.snapshot().config.clone();
    config.backends.retain(|spec| spec.name == backend);
    config.backends.iter_mut().for_each(|spec| spec.servers = vec![server.clone()]);
    let mut resolution = Resolution::begin(config).map_err(|e| unresolved(e.to_string()))?;
    let resolved = resolution.outcome().await;
    let resolved = resolved.map_err(|all| unresolved(all.iter().map(ToString::to_string).collect()))?;
    Ok(resolved.backends.into_iter().flat_map(|spec| spec.servers).next().unwrap_or(server))
}

fn spec<'c>(config: &'c Config, backend: &str) -> Result<&'c Backend, Problem> {
    let found = config.backends.iter().find(|spec| spec.name == backend);
    Ok(found.ok_or_else(|| Declined::Refused(Refused::NoBackend(backend.to_owned())))?)
}

fn backend_tag(now: &InForce, backend: &str) -> Result<String, Problem> {
    Ok(tag(&spec(&now.snapshot.config, backend)?.servers))
}

fn show(published: &Published, now: &InForce, backend: &str) -> Result<Value, Problem> {
    let InForce { snapshot, wanted } = now;
    let number = number(&snapshot.config, backend)?;
    let in_file = wanted.in_file();
    let mut shown = status::backend(published, snapshot, number, &snapshot.backends[number]);
    let servers = &snapshot.config.backends[number].servers;
    for (live, server) in shown["servers"].as_array_mut().into_iter().flatten().zip(servers) {
        add_told(live, wanted, (backend, server), in_file.get(&(backend, server.name.as_str())).copied());
    }
    Ok(shown)
}

fn number(config: &Config, backend: &str) -> Result<usize, Problem> {
    let number = config.backends.iter().position(|spec| spec.name == backend);
    Ok(number.ok_or_else(|| Declined::Refused(Refused::NoBackend(backend.to_owned())))?)
}

/// What a server is told, beside how it is; `filed` is what the file says of it.
fn add_told(live: &mut Value, wanted: &Wanted, (backend, server): (&str, &Server), filed: Option<&Server>) {
    let order = wanted.order(backend, &server.name);
    live["id"] = format!("{backend}/{}", server.name).into();
    live["origin"] = Origin::of(order, filed.is_some()).as_str().into();
    live["settings"] = settings(server);
    live["file"] = filed.map(settings).into();
    live["ordered"] = order.map(|order| json!({ "by": order.by, "since_unix_ms": order.since })).into();
}

/// Only this one: of ten thousand, all would take a tenth of a second.
fn show_server(published: &Published, status: StatusCode, backend: &str, name: &str) -> Answer {
    let InForce { snapshot, wanted } = published.in_force();
    let number = number(&snapshot.config, backend)?;
    let servers = &snapshot.config.backends[number].servers;
    let missing = || Problem::from(Declined::Refused(Refused::NoServer(backend.to_owned(), name.to_owned())));
    let place = servers.iter().position(|server| server.name == name).ok_or_else(missing)?;
    let mut shown = status::server(&snapshot, &wanted, (number, place));
    add_told(&mut shown, &wanted, (backend, &servers[place]), wanted.filed(backend, name));
    Ok(tagged(status, Some(tag(std::slice::from_ref(&servers[place]))), &shown))
}

fn tagged(status: StatusCode, tag: Option<String>, body: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    let tag = tag.map(|tag| [(header::ETAG, tag)]);
    match tag {
        Some(tag) => (status, kind, tag, format!("{body}\n")).into_response(),
        None => (status, kind, format!("{body}\n")).into_response(),
    }
}
