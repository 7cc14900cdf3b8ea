//! Servers from a registry: one GET, with the tag of what was taken last, so that an unchanged list costs a few bytes.
//!
//! A connection for each question, bounded in time by whoever asks and in bytes here. Follows no redirect: where servers come from is
//! what the configuration says.

use std::collections::HashSet;
use std::net::IpAddr;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use plimsoll_config::defaults::LARGEST_LIST;
use plimsoll_config::model::Roots;
use plimsoll_config::parse_list;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Found;
use super::list::resolve;
use super::names::Names;
use super::tls;

/// One URL and what it last said.
#[derive(Debug)]
pub(super) struct Registry {
    tls: Option<Roots>,
    host: String,
    port: u16,
    target: String,
    /// Of the list in force.
    taken: Option<HeaderValue>,
    /// Of the last list.
    seen: Option<HeaderValue>,
}

impl Registry {
    pub(super) fn new(tls: Option<Roots>, host: &str, port: u16, target: &str) -> Registry {
        Registry { tls, host: host.to_owned(), port, target: target.to_owned(), taken: None, seen: None }
    }

    /// Asks; `None` is what was taken already. `own` finds the registry, `names` what stands in its list.
    pub(super) async fn ask(
        &mut self,
        max_requests: u32,
        own: &mut Names,
        names: &mut Names,
    ) -> Result<Option<Found>, String> {
        let Some(text) = self.fetch(own).await? else { return Ok(None) };
        resolve(parse_list(&text, max_requests)?, names).await.map(Some)
    }

    /// What was asked for last is in force.
    pub(super) fn take(&mut self) {
        self.taken.clone_from(&self.seen);
    }

    async fn fetch(&mut self, names: &mut Names) -> Result<Option<Bytes>, String> {
        let stream = self.connect(names).await?;
        match &self.tls {
            None => self.exchange(stream).await,
            Some(roots) => {
                let stream = tls::connect(roots, &self.host, stream).await?;
                self.exchange(stream).await
            }
        }
    }

    async fn exchange<S>(&mut self, stream: S) -> Result<Option<Bytes>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let request = self.request().map_err(|e| e.to_string())?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let mut tasks = JoinSet::new(); // aborted when dropped
        tasks.spawn(connection);
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        match answer.status() {
            StatusCode::OK => {
                self.seen = answer.headers().get(header::ETAG).cloned();
                let body = Limited::new(answer.into_body(), LARGEST_LIST).collect().await;
                body.map(|body| Some(body.to_bytes())).map_err(|e| format!("its answer: {e}"))
            }
            StatusCode::NOT_MODIFIED if self.taken.is_some() => Ok(None),
            status => Err(format!("it answers {status}")),
        }
    }

    async fn connect(&self, names: &mut Names) -> Result<TcpStream, String> {
        let ips = match self.host.parse::<IpAddr>() {
            Ok(ip) => vec![ip],
            Err(_) => {
                let resolved = names.resolve(HashSet::from([self.host.clone()])).await?;
                let none =
                    || resolved.trouble.clone().unwrap_or_else(|| format!("{} has no address", self.host));
                resolved.addresses.get(&self.host).filter(|ips| !ips.is_empty()).cloned().ok_or_else(none)?
            }
        };
        let mut failed = String::new();
        for ip in ips {
            match TcpStream::connect((ip, self.port)).await {
                Ok(stream) => return Ok(stream),
                Err(e) => failed = format!("cannot connect to {ip}: {e}"),
            }
        }
        Err(failed)
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
        let Registry { host, port, .. } = self;
        let host = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut request = Request::get(&self.target)
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("plimsoll/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close");
        if let Some(tag) = &self.taken {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        request.body(Empty::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_with_the_tag_of_what_was_taken() {
        let mut registry = Registry::new(None, "::1", 8500, "/servers?a=b");
        let request = registry.request().unwrap();
        assert_eq!((request.method().as_str(), request.uri().to_string().as_str()), ("GET", "/servers?a=b"));
        assert_eq!(request.headers()["host"], "[::1]:8500");
        registry.seen = Some(HeaderValue::from_static("\"1\""));
        assert!(!registry.request().unwrap().headers().contains_key("if-none-match"));
        registry.take();
        assert_eq!(registry.request().unwrap().headers()["if-none-match"], "\"1\"");
    }
}
