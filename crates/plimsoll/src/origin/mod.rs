//! A small backend server to try things against: it says who it is and what it received, and misbehaves when told to.
//!
//! `serve` runs one on a bound listener inside the caller's tokio runtime; `command` is the verb `plimsoll origin`. It
//! stands behind a balancer and is no part of its request path, so hyper does the protocol.

pub(crate) mod address;
mod answer;
pub(crate) mod behaviour;
pub(crate) mod command;
mod control;
mod counters;
mod payload;
pub(crate) mod quantity;

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use address::{Bind, Listener, Stream};
use answer::Aborted;
use behaviour::{Behaviour, Change, Dice};
use counters::Counters;
use payload::Payload;

/// How long a connection may take to send a head or stay idle. Longer than a balancer keeps a pooled connection, so that
/// the balancer is the one who closes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// A pause after a failed accept: without file descriptors, accepting fails at once, again and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One running origin, as its connections see it.
#[derive(Debug)]
struct Origin {
    name: String,
    address: Bind,
    has_control: bool,
    /// Written by `change` only.
    behaviour: Mutex<Behaviour>,
    counters: Arc<Counters>,
    dice: Dice,
    /// The accept loop; `None` while refusing. Its lock makes changes happen one after the other, and is therefore held
    /// while one waits for the socket to close or open.
    accepting: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    /// A new value tells all connections to finish what they do and close. Every connection holds a receiver, so that
    /// the sender knows when the last one is gone.
    leave: watch::Sender<()>,
}

/// Through which listener a connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entrance {
    Front,
    Control,
}

/// A running origin, as its owner sees it.
#[derive(Debug)]
pub(crate) struct Handle {
    origin: Arc<Origin>,
    control: Option<JoinHandle<()>>,
}

/// Serves `listener`, and `/_origin` alone on `control`, until `Handle::stop`. Without a name it is named after its port.
pub(crate) fn serve(
    name: Option<String>,
    listener: Listener,
    control: Option<Listener>,
    behaviour: Behaviour,
) -> io::Result<Handle> {
    let address = listener.address()?;
    let origin = Arc::new(Origin {
        name: name.unwrap_or_else(|| default_name(&address)),
        address,
        has_control: control.is_some(),
        behaviour: Mutex::new(behaviour),
        counters: Arc::default(),
        dice: Dice::new(),
        accepting: tokio::sync::Mutex::const_new(None),
        leave: watch::Sender::new(()),
    });
    let control = control.map(|listener| open(&origin, listener, Entrance::Control));
    let front = open(&origin, listener, Entrance::Front);
    *origin.accepting.try_lock().expect("nobody else has it yet") = Some(front);
    Ok(Handle { origin, control })
}

fn default_name(address: &Bind) -> String {
    match address {
        Bind::Tcp(address) => format!("origin-{}", address.port()),
        Bind::Unix(_) => "origin".to_owned(),
    }
}

impl Handle {
    /// Who it says it is.
    pub(crate) fn name(&self) -> &str {
        &self.origin.name
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &Bind {
        &self.origin.address
    }

    /// Stops accepting, lets requests finish for at most `deadline`; whether all have.
    pub(crate) async fn stop(self, deadline: Duration) -> bool {
        if let Some(control) = self.control {
            control.abort();
        }
        self.origin.close(&mut *self.origin.accepting.lock().await).await;
        tokio::time::timeout(deadline, self.origin.leave.closed()).await.is_ok()
    }
}

impl Origin {
    fn behaviour(&self) -> Behaviour {
        self.behaviour.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Applies a change; it has taken effect when this returns. On an error nothing has changed.
    async fn change(self: &Arc<Self>, change: Change) -> Result<(), String> {
        let mut accepting = self.accepting.lock().await;
        let after = change.applied_to(&self.behaviour());
        if after.refuse {
            self.close(&mut accepting).await;
        } else if accepting.is_none() {
            let bound = Listener::bind(&self.address).await;
            let listener =
                bound.map_err(|error| format!("cannot listen on {} again: {error}", self.address))?;
            *accepting = Some(open(self, listener, Entrance::Front));
        }
        *self.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = after;
        Ok(())
    }

    /// Closes the listener and tells connections to finish.
    async fn close(&self, accepting: &mut Option<JoinHandle<()>>) {
        let Some(task) = accepting.take() else { return };
        task.abort();
        // The listener is closed when the task is gone, not when it is told to go.
        let _ = task.await;
        self.address.clean_up();
        self.leave.send_replace(());
    }
}

/// Starts to accept. A plain function, because a connection may ask for this, and a future cannot contain itself.
fn open(origin: &Arc<Origin>, listener: Listener, via: Entrance) -> JoinHandle<()> {
    tokio::spawn(accept(Arc::clone(origin), listener, via))
}

/// Accepts until aborted.
async fn accept(origin: Arc<Origin>, listener: Listener, via: Entrance) {
    loop {
        let Ok(stream) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (origin, leave) = (Arc::clone(&origin), origin.leave.subscribe());
        match stream {
            Stream::Tcp(stream) => tokio::spawn(connection(origin, stream, via, leave)),
            Stream::Unix(stream) => tokio::spawn(connection(origin, stream, via, leave)),
        };
    }
}

/// Serves one connection to its end.
async fn connection<S>(origin: Arc<Origin>, stream: S, via: Entrance, mut leave: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _open = (via == Entrance::Front).then(|| origin.counters.open());
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let service = service_fn(|request| exchange(&origin, request, via));
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // Whatever ended it, the peer knows better than anybody here.
        _ = connection.as_mut() => return,
        // The loser goes on below.
        _ = leave.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn exchange(
    origin: &Arc<Origin>,
    request: Request<Incoming>,
    via: Entrance,
) -> Result<Response<Payload>, Aborted> {
    if via == Entrance::Control || control::is_for(request.uri().path()) {
        return Ok(control::answer(origin, request, via).await);
    }
    answer::answer(origin, request).await
}
