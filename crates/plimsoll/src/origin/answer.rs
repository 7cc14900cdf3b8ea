//! One request to an origin: receive it, behave as told, say who answered and what came in.
//!
//! The request's body is counted as it streams and kept only up to its first KiB.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde::Serialize;

use super::Origin;
use super::payload::Payload;

/// How much of a request's body is sent back.
const EXCERPT: usize = 1024;

/// The connection ends in place of an answer.
#[derive(Debug)]
pub(super) struct Aborted;

impl std::fmt::Display for Aborted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no answer")
    }
}

impl std::error::Error for Aborted {}

/// What an answer says, in this order; padding comes last because it is cut in there.
#[derive(Serialize)]
struct Echo<'a> {
    server: &'a str,
    address: String,
    request: Received,
    served: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    padding: Option<&'static str>,
}

/// What came in. Header names are in lower case, as hyper keeps them.
#[derive(Serialize)]
struct Received {
    method: String,
    target: String,
    version: String,
    headers: Vec<(String, String)>,
    body_bytes: u64,
    body: String,
}

/// The answer to one request, or `Aborted` when there is to be none.
pub(super) async fn answer(
    origin: &Origin,
    request: Request<Incoming>,
) -> Result<Response<Payload>, Aborted> {
    let in_flight = origin.counters.begin(request.method());
    let json = wants_json(request.headers());
    let request = receive(request).await?;
    // Taken after the body, and once: a change applies to requests that are not yet being answered.
    let behaviour = origin.behaviour();
    if behaviour.hang {
        return std::future::pending().await;
    }
    tokio::time::sleep(behaviour.delay_for(origin.dice.roll())).await;
    if behaviour.abort {
        return Err(Aborted);
    }
    let status = StatusCode::from_u16(behaviour.status_for(origin.dice.roll())).expect("200 to 599");
    let mut response = Response::builder().status(status).header("x-origin", origin.name.as_str());
    let size = behaviour.body_size.0;
    let payload = if json || size == 0 {
        response = response.header(CONTENT_TYPE, "application/json");
        let served = in_flight.number;
        echo(
            Echo {
                server: &origin.name,
                address: origin.address.to_string(),
                request,
                served,
                padding: None,
            },
            size,
        )
    } else {
        response = response.header(CONTENT_TYPE, "text/plain; charset=utf-8");
        Payload::padded("", size, "")
    };
    let payload = if behaviour.truncate { payload.truncated() } else { payload };
    Ok(response.body(payload.holding(in_flight)).expect("the name was checked to be a header value"))
}

/// Whether JSON is welcome; who does not say takes anything.
fn wants_json(headers: &HeaderMap) -> bool {
    let accepts = |value: &HeaderValue| {
        let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        value.split(',').any(|range| {
            let kind = range.split(';').next().unwrap_or_default().trim();
            matches!(kind, "*/*" | "application/*" | "application/json")
        })
    };
    !headers.contains_key(ACCEPT) || headers.get_all(ACCEPT).iter().any(accepts)
}

/// Takes in a whole request.
async fn receive(request: Request<Incoming>) -> Result<Received, Aborted> {
    let (head, mut body) = request.into_parts();
    let (mut body_bytes, mut excerpt) = (0, Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Aborted)?.into_data() else {
            continue;
        };
        excerpt.extend_from_slice(&data[..data.len().min(EXCERPT - excerpt.len())]);
        body_bytes += data.len() as u64;
    }
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Ok(Received {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        version: format!("{:?}", head.version),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body_bytes,
        body: String::from_utf8_lossy(&excerpt).into_owned(),
    })
}

/// The echo as JSON, padded to `size` bytes in all if it is shorter.
fn echo(mut echo: Echo<'_>, size: u64) -> Payload {
    const END: &str = "\"}\n";
    if size == 0 {
        let mut text = serde_json::to_vec(&echo).expect("strings and numbers always serialise");
        text.push(b'\n');
        return Payload::whole(text);
    }
    echo.padding = Some("");
    let mut text = serde_json::to_vec(&echo).expect("strings and numbers always serialise");
    // Ends in `"padding":""}`: what fills goes between the two quotes.
    text.truncate(text.len() - 2);
    let fill = size.saturating_sub((text.len() + END.len()) as u64);
    Payload::padded(text, fill, END)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_goes_to_who_takes_it_and_to_who_does_not_say() {
        for (accept, json) in [
            (None, true),
            (Some("*/*"), true),
            (Some("text/html, */*;q=0.8"), true),
            (Some("Application/JSON; q=1"), true),
            (Some("text/plain"), false),
            (Some("text/html, image/*"), false),
        ] {
            let headers = accept.map(|value| (ACCEPT, HeaderValue::from_static(value))).into_iter().collect();
            assert_eq!(wants_json(&headers), json, "{accept:?}");
        }
    }
}
