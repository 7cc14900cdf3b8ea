//! A client of the balancer: one keep-alive connection, one request at a time, each with a limit on its time.
//!
//! What comes back says who answered (`x-origin`) and whether it was a failure. A connection that the balancer has closed is opened
//! anew before a request is written, never after, so a request that was lost is seen.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::place::Place;

/// A page of an origin or of a balancer; more is an error.
const LARGEST: usize = 1 << 20;

/// What a request goes by, where the balancer hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    Header(String),
    Query(String),
    Path,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Absent when the balancer answered by itself.
    pub(super) origin: Option<String>,
    pub(super) body: Bytes,
}

/// Why there was none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody accepts, or the connection ended.
    Broken(String),
    /// Not in time.
    Late,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Client {
    place: Place,
    key: Option<Key>,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl std::str::FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Key, String> {
        match text.split_once(':') {
            Some(("header", name)) if hyper::header::HeaderName::from_bytes(name.as_bytes()).is_ok() => {
                Ok(Key::Header(name.to_owned()))
            }
            Some(("query", name)) if name.bytes().all(|b| b.is_ascii_alphanumeric()) && !name.is_empty() => {
                Ok(Key::Query(name.to_owned()))
            }
            _ if text == "path" => Ok(Key::Path),
            _ => Err(format!("\"{text}\" is not a key: write header:NAME, query:NAME or path")),
        }
    }
}

impl Client {
    pub(super) fn new(place: Place, key: Option<Key>) -> Client {
        Client { place, key, connection: None }
    }

    /// Sends a GET for the key `number`.
    pub(super) async fn ask(&mut self, number: u64, patience: Duration) -> Result<Answer, Trouble> {
        let word = format!("key-{number}");
        let path = match &self.key {
            Some(Key::Path) => format!("/{word}"),
            Some(Key::Query(name)) => format!("{}?{name}={word}", self.place.path),
            _ => self.place.path.clone(),
        };
        let mut request = self.request(Method::GET, &path);
        if let Some(Key::Header(name)) = &self.key {
            let name: hyper::header::HeaderName = name.parse().expect("it was checked when it was read");
            request.headers_mut().insert(name, word.parse().expect("letters and digits"));
        }
        match tokio::time::timeout(patience, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.connection = None;
                Err(Trouble::Late)
            }
        }
    }

    fn request(&self, method: Method, path: &str) -> Request<Empty<Bytes>> {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.place.host)
            .body(Empty::new())
            .expect("the place was checked when it was read")
    }

    async fn exchange(&mut self, request: Request<Empty<Bytes>>) -> Result<Answer, Trouble> {
        let broken = |error: hyper::Error| Trouble::Broken(error.to_string());
        let mut connection = self.connection().await?;
        let response = connection.send_request(request).await.map_err(broken)?;
        let status = response.status().as_u16();
        let origin = response.headers().get("x-origin").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| Trouble::Broken(error.to_string()))?.to_bytes();
        self.connection = Some(connection);
        Ok(Answer { status, origin, body })
    }

    /// The one that is open, unless the balancer has closed it meanwhile.
    async fn connection(&mut self) -> Result<SendRequest<Empty<Bytes>>, Trouble> {
        if let Some(mut open) = self.connection.take()
            && open.ready().await.is_ok()
        {
            return Ok(open);
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, Trouble> {
        let stream = TcpStream::connect(self.place.address).await;
        let stream = stream.map_err(|error| Trouble::Broken(error.to_string()))?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| Trouble::Broken(error.to_string()))?;
        // Ends with the connection, which ends with its sender; what it ends by, the sender tells.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_nonsense_is_refused() {
        assert_eq!("header:x-user".parse(), Ok(Key::Header("x-user".to_owned())));
        assert_eq!("query:user".parse(), Ok(Key::Query("user".to_owned())));
        assert_eq!("path".parse(), Ok(Key::Path));
        for wrong in ["", "header:", "header:a b", "query:", "cookie:a"] {
            assert!(wrong.parse::<Key>().is_err(), "{wrong}");
        }
    }
}
