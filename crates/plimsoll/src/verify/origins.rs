//! The origins behind a balancer, through their control addresses: who they are, what they count, how they are to behave.
//!
//! A change has taken effect when it returns. Whatever is changed is put back by `restore`, also when a check failed.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::place::Place;

const PATIENCE: Duration = Duration::from_secs(5);
const LARGEST: usize = 1 << 20;

/// One `plimsoll origin`.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) name: String,
    control: Place,
    /// As it was found.
    behaviour: Value,
}

/// All of them, in the order of `--control`.
#[derive(Debug)]
pub(super) struct Origins(pub(super) Vec<Origin>);

impl Origins {
    /// Asks each who it is.
    pub(super) async fn find(controls: &[Place]) -> Result<Origins, String> {
        let mut origins = Vec::new();
        for control in controls {
            let page = ask(control, "GET", None).await?;
            let name = page["server"].as_str().ok_or_else(|| stranger(control))?.to_owned();
            // An origin that was told there to stop listening could not be told to listen again.
            if page["is_control"] != true {
                return Err(format!(
                    "{} is where {name} or a balancer serves clients; --control takes what {name} was given as its --control",
                    control.address
                ));
            }
            if origins.iter().any(|o: &Origin| o.name == name) {
                return Err(format!("two origins are called {name}: give them names with --name"));
            }
            origins.push(Origin { name, control: control.clone(), behaviour: page["behaviour"].clone() });
        }
        Ok(Origins(origins))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The place in the list of who answered.
    pub(super) fn place(&self, name: Option<&str>) -> Option<usize> {
        self.0.iter().position(|origin| Some(origin.name.as_str()) == name)
    }

    /// Changes how one behaves.
    pub(super) async fn change(&self, origin: usize, change: &Value) -> Result<(), String> {
        ask(&self.0[origin].control, "PUT", Some(change)).await.map(|_| ())
    }

    /// No faults, no delay.
    pub(super) async fn calm(&self) -> Result<(), String> {
        let calm = json!({
            "delay": "0s", "spread": "0s", "error_rate": "0%", "status": 200, "body_size": "0B",
            "hang": false, "abort": false, "truncate": false, "refuse": false,
        });
        self.change_all(&calm).await
    }

    pub(super) async fn change_all(&self, change: &Value) -> Result<(), String> {
        for origin in 0..self.len() {
            self.change(origin, change).await?;
        }
        Ok(())
    }

    /// As they were found. Tries each, and tells the first failure.
    pub(super) async fn restore(&self) -> Result<(), String> {
        let mut outcome = Ok(());
        for (number, origin) in self.0.iter().enumerate() {
            outcome = outcome.and(self.change(number, &origin.behaviour).await);
        }
        outcome
    }

    /// Requests that each has received since its start.
    pub(super) async fn received(&self) -> Result<Vec<u64>, String> {
        let mut received = Vec::new();
        for origin in &self.0 {
            let page = ask(&origin.control, "GET", None).await?;
            received.push(page["requests"].as_u64().ok_or_else(|| stranger(&origin.control))?);
        }
        Ok(received)
    }
}

fn stranger(control: &Place) -> String {
    format!("{} does not speak like a plimsoll origin", control.address)
}

async fn ask(control: &Place, method: &str, body: Option<&Value>) -> Result<Value, String> {
    let unreachable = |reason: String| format!("no origin answers at {}: {reason}", control.address);
    let talk = async {
        let stream = TcpStream::connect(control.address).await.map_err(|e| unreachable(e.to_string()))?;
        let (mut sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(e.to_string()))?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let text = body.map_or(String::new(), Value::to_string);
        let request = Request::builder()
            .method(method)
            .uri("/_origin")
            .header("host", &control.host)
            .body(Full::new(Bytes::from(text)))
            .map_err(|e| unreachable(e.to_string()))?;
        let response = sender.send_request(request).await.map_err(|e| unreachable(e.to_string()))?;
        let is_fine = response.status().is_success();
        let page = Limited::new(response.into_body(), LARGEST).collect().await;
        let page = page.map_err(|e| unreachable(e.to_string()))?.to_bytes();
        let page: Value = serde_json::from_slice(&page).map_err(|_| stranger(control))?;
        if is_fine {
            Ok(page)
        } else {
            Err(format!("the origin at {} refused: {}", control.address, page["error"]))
        }
    };
    let late = |_| unreachable("no answer in time".to_owned());
    tokio::time::timeout(PATIENCE, talk).await.map_err(late)?
}
