//! `/_origin`: shows how an origin behaves and what it has counted, and changes its behaviour.
//!
//! Reachable on the origin's own address and, also while that one refuses connections, on its control address. A change
//! has taken effect when its answer arrives. Only the control address can end the process.

use std::sync::Arc;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::behaviour::Change;
use super::payload::Payload;
use super::{Entrance, Origin};
use crate::exit::Exit;

/// The reserved path.
const PATH: &str = "/_origin";

/// The largest change accepted, in bytes.
const LARGEST: usize = 64 * 1024;

/// Whether a request is for this page rather than for the origin.
pub(super) fn is_for(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a request for `/_origin`.
pub(super) async fn answer(
    origin: &Arc<Origin>,
    request: Request<Incoming>,
    via: Entrance,
) -> Response<Payload> {
    if request.uri().path() != PATH {
        return problem(StatusCode::NOT_FOUND, format!("there is only {PATH} here"));
    }
    match (request.method(), via) {
        (&Method::GET | &Method::HEAD, _) => page(StatusCode::OK, &shown(origin, via)),
        (&Method::PUT, _) => match change(origin, request).await {
            Ok(()) => page(StatusCode::OK, &shown(origin, via)),
            Err((status, reason)) => problem(status, reason),
        },
        // At once means without an answer: the peer sees what it would see of a crash.
        (&Method::DELETE, Entrance::Control) => std::process::exit(Exit::Configuration.code().into()),
        (_, via) => not_allowed(via),
    }
}

async fn change(origin: &Arc<Origin>, request: Request<Incoming>) -> Result<(), (StatusCode, String)> {
    let body = Limited::new(request.into_body(), LARGEST).collect().await;
    let body = body.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?.to_bytes();
    let change = Change::from_json(&body).map_err(|reason| (StatusCode::BAD_REQUEST, reason))?;
    if change.refuses() && !origin.has_control {
        let reason = "refuse could not be taken back: start the origin with --control ADDR".to_owned();
        return Err((StatusCode::CONFLICT, reason));
    }
    origin.change(change).await.map_err(|error| (StatusCode::CONFLICT, error))
}

fn shown(origin: &Origin, via: Entrance) -> Value {
    let mut page = json!({
        "server": origin.name,
        "address": origin.address.to_string(),
        "is_control": via == Entrance::Control,
        "behaviour": origin.behaviour(),
    });
    let (Value::Object(page_fields), Value::Object(counted)) = (&mut page, origin.counters.to_json()) else {
        unreachable!("both are written as objects");
    };
    page_fields.extend(counted);
    page
}

fn page(status: StatusCode, value: &Value) -> Response<Payload> {
    let mut response = Response::new(Payload::whole(format!("{value:#}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, "application/json".parse().expect("a header value"));
    response
}

fn problem(status: StatusCode, reason: impl Into<Value>) -> Response<Payload> {
    page(status, &json!({ "error": reason.into() }))
}

fn not_allowed(via: Entrance) -> Response<Payload> {
    let methods = match via {
        Entrance::Front => "GET, HEAD, PUT",
        Entrance::Control => "GET, HEAD, PUT, DELETE",
    };
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, format!("use one of {methods}"));
    response.headers_mut().insert(ALLOW, methods.parse().expect("a header value"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserved_path_is_not_a_mere_prefix() {
        for (path, reserved) in [("/_origin", true), ("/_origin/", true), ("/_origins", false), ("/", false)]
        {
            assert_eq!(is_for(path), reserved, "{path}");
        }
    }
}
