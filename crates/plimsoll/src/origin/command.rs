//! The verb `plimsoll origin`: one origin in the foreground until a signal ends it.
//!
//! The first line on standard output says where it listens, once it does; that is what scripts wait for.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::address::{Bind, Listener};
use super::behaviour::Behaviour;
use super::{Handle, serve};
use crate::cli;
use crate::exit::Exit;
use crate::terminal;

/// How long a stop waits for requests in flight.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs `plimsoll origin`.
pub(crate) fn run(args: cli::Origin) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cannot_start(&format!("cannot start: {error}")),
    };
    runtime.block_on(run_until_signal(args))
}

async fn run_until_signal(args: cli::Origin) -> Exit {
    let (handle, control) = match start(args).await {
        Ok(started) => started,
        Err(reason) => return cannot_start(&reason),
    };
    let mut lines = format!("origin {} listening on {}\n", handle.name(), handle.address().url());
    if let Some(control) = control {
        lines.push_str(&format!("control at {}/_origin\n", control.url()));
    }
    // Signals are caught before the line is out: who has read it may send one at once.
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return cannot_start("cannot catch signals");
    };
    if let Err(error) = terminal::out(&lines) {
        return cannot_start(&format!("cannot write to standard output: {error}"));
    }
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    tokio::select! {
        all_finished = handle.stop(DRAIN) => if all_finished { Exit::Fine } else { Exit::Cut },
        // A second signal: the rest is dropped with the runtime.
        _ = interrupt.recv() => Exit::Cut,
        _ = terminate.recv() => Exit::Cut,
    }
}

/// Binds and serves; also returns the control address.
async fn start(args: cli::Origin) -> Result<(Handle, Option<Bind>), String> {
    let listener = bind(&args.listen).await?;
    let control = match &args.control {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let behaviour = Behaviour {
        delay: args.delay,
        spread: args.spread,
        error_rate: args.error_rate,
        status: args.status,
        body_size: args.body_size,
        ..Behaviour::default()
    };
    let started = || -> io::Result<_> {
        let address = control.as_ref().map(Listener::address).transpose()?;
        Ok((serve(args.name, listener, control, behaviour)?, address))
    };
    started().map_err(|error| format!("cannot serve: {error}"))
}

async fn bind(address: &Bind) -> Result<Listener, String> {
    Listener::bind(address).await.map_err(|error| {
        let next = match error.kind() {
            io::ErrorKind::AddrInUse => "; stop what listens there, or take port 0 for a free one",
            io::ErrorKind::PermissionDenied => {
                "; ports below 1024 and other users' directories need more rights"
            }
            _ => "",
        };
        format!("cannot listen on {address}: {error}{next}")
    })
}

fn cannot_start(reason: &str) -> Exit {
    terminal::err(&format!("plimsoll origin: {reason}\n"));
    Exit::Start
}
