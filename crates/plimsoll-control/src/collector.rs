//! One POST to an OpenTelemetry collector, and what its answer means.
//!
//! OTLP over HTTP (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>), binary, a connection for each message: there is one a second at most while
//! little is recorded. Bounded in time and in what it reads. Never decides whether to try again.

use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use plimsoll_config::model::{Endpoint, Tracing};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// One request in all, from the name to the answer's end: what the specification has as default.
const LIMIT: Duration = Duration::from_secs(10);
/// An answer is read this far.
const ANSWER: usize = 64 * 1024;
/// The longest wait that a collector can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Where messages go.
pub(crate) struct Collector {
    endpoint: Endpoint,
    headers: Vec<(String, String)>,
}

/// Why a message was not taken.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The same message may be taken later.
    pub(crate) is_passing: bool,
    /// The collector says when.
    pub(crate) after: Option<Duration>,
    pub(crate) reason: String,
}

impl Failure {
    /// It will never be taken.
    pub(crate) fn lasting(reason: String) -> Failure {
        Failure { is_passing: false, after: None, reason }
    }

    fn passing(reason: String) -> Failure {
        Failure { is_passing: true, after: None, reason }
    }
}

/// The URL as it is asked for.
impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}/v1/traces", self.authority(), self.endpoint.base)
    }
}

impl Collector {
    pub(crate) fn new(settings: &Tracing) -> Collector {
        Collector { endpoint: settings.otlp.clone(), headers: settings.headers.clone() }
    }

    fn authority(&self) -> String {
        let Endpoint { host, port, .. } = &self.endpoint;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Sends a message; gives the answer's body if it was taken.
    pub(crate) async fn post(&self, message: &[u8]) -> Result<Bytes, Failure> {
        let answered = tokio::time::timeout(LIMIT, self.exchange(message)).await;
        answered.unwrap_or_else(|_| {
            Err(Failure::passing(format!("no answer within {} seconds", LIMIT.as_secs())))
        })
    }

    async fn exchange(&self, message: &[u8]) -> Result<Bytes, Failure> {
        let failed = |e: &dyn fmt::Display| Failure::passing(e.to_string());
        let request = self.request(message).map_err(|e| Failure::lasting(e.to_string()))?;
        let stream = TcpStream::connect((&*self.endpoint.host, self.endpoint.port)).await;
        let stream = TokioIo::new(stream.map_err(|e| failed(&e))?);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(stream).await.map_err(|e| failed(&e))?;
        let mut tasks = JoinSet::new(); // aborted when dropped
        tasks.spawn(connection);
        let answer = sender.send_request(request).await.map_err(|e| failed(&e))?;
        let (status, after) = (answer.status(), retry_after(answer.headers()));
        let body = Limited::new(answer.into_body(), ANSWER).collect().await;
        match status {
            // Whatever else it has to say: it has taken them.
            status if status.is_success() => Ok(body.map(|body| body.to_bytes()).unwrap_or_default()),
            // Those that the specification calls retryable.
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                Err(Failure { is_passing: true, after, reason: format!("it answers {status}") })
            }
            status => Err(Failure::lasting(format!("it answers {status}"))),
        }
    }

    fn request(&self, message: &[u8]) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let mut request = Request::post(format!("{}/v1/traces", self.endpoint.base))
            .header(header::HOST, self.authority())
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::CONNECTION, "close");
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
            request = request.header(header::USER_AGENT, concat!("plimsoll/", env!("CARGO_PKG_VERSION")));
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(Bytes::copy_from_slice(message)))
    }
}

/// `Retry-After` in seconds, within reason; a date is not waited for.
fn retry_after(headers: &hyper::HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_config::model::{Parents, Share};

    fn collector(host: &str, base: &str, headers: &[(&str, &str)]) -> Collector {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Collector::new(&Tracing {
            otlp: Endpoint { host: host.to_owned(), port: 4318, base: base.to_owned() },
            sample: Share(1),
            parents: Parents::All,
            service: "a".to_owned(),
            headers,
        })
    }

    #[test]
    fn asks_as_the_specification_has_it() {
        let collector = collector("::1", "/otlp", &[("X-Tenant", "a"), ("User-Agent", "mine")]);
        assert_eq!(collector.to_string(), "http://[::1]:4318/otlp/v1/traces");
        let request = collector.request(b"message").unwrap();
        assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/otlp/v1/traces"));
        let of = |name: &str| request.headers().get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(of("host"), ["[::1]:4318"]);
        assert_eq!(of("content-type"), ["application/x-protobuf"]);
        assert_eq!(of("x-tenant"), ["a"]);
        assert_eq!(of("user-agent"), ["mine"]);
    }

    #[test]
    fn waits_as_long_as_it_is_told_within_reason() {
        let of = |value: &str| {
            let mut headers = hyper::HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(of("3"), Some(Duration::from_secs(3)));
        assert_eq!(of("86400"), Some(LONGEST_WAIT));
        assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), None);
        assert_eq!(retry_after(&hyper::HeaderMap::new()), None);
    }
}
