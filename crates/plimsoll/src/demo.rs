//! The verb `plimsoll demo`: three origins and a balancer in front of them, in one process on loopback.
//!
//! Nothing to configure and nothing left behind: taken ports are stepped over, every request is a line on standard
//! output, and Ctrl-C ends it all.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use plimsoll_config::Source;
use plimsoll_proxy::{StartError, notice};

use crate::cli;
use crate::exit::Exit;
use crate::origin::address::{Bind, Listener};
use crate::origin::behaviour::Behaviour;
use crate::origin::{self, Handle};
use crate::serve::{self, Failed, Running, Signals};
use crate::terminal;

const ORIGIN_PORT: u16 = 8000;
/// How many ports after the wanted one are tried.
const PORTS: u16 = 200;

/// Runs until Ctrl-C.
pub(crate) fn run(args: &cli::Demo) -> Exit {
    match serve::runtime() {
        Ok(runtime) => runtime.block_on(demo(args.port)),
        Err(error) => serve::cannot_start(&error),
    }
}

async fn demo(port: u16) -> Exit {
    let started = async { Ok((Signals::catch()?, origins().await?)) }.await;
    let (signals, origins) = match started {
        Ok(started) => started,
        Err(error) => return serve::cannot_start(&error),
    };
    let running = match balancer(port, &origins).await {
        Ok(running) => running,
        Err(failed) => return failed.show(),
    };
    if terminal::out(&welcome(running.listeners()[0], &origins)).is_err() {
        return Exit::Internal;
    }
    let exit = running.until_stopped(signals).await;
    for origin in origins {
        origin.stop(Duration::from_millis(500)).await;
    }
    notice("the demo has ended");
    exit
}

/// Origins a, b and c on the next free ports, each a little slower than the one before.
async fn origins() -> io::Result<Vec<Handle>> {
    let mut origins = Vec::new();
    let mut ports = ORIGIN_PORT..ORIGIN_PORT + PORTS;
    for name in ["a", "b", "c"] {
        let listener = loop {
            let port = ports
                .next()
                .ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "no free port from 8000 on"))?;
            match Listener::bind(&Bind::Tcp((Ipv4Addr::LOCALHOST, port).into())).await {
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
                bound => break bound?,
            }
        };
        origins.push(origin::serve(Some(name.to_owned()), listener, None, Behaviour::default())?);
    }
    Ok(origins)
}

/// The balancer, on the wanted port or the next free one.
async fn balancer(port: u16, origins: &[Handle]) -> Result<Running, Failed> {
    let mut tried = port;
    loop {
        let text = configuration(tried, origins);
        let sources = [Source { path: "demo".to_owned(), text }];
        let loaded = plimsoll_config::load(&sources, &|_| None).expect("the demo's configuration is valid");
        match serve::start(loaded.config, None, None).await {
            Err(Failed::Start(StartError::Bind(_, e)))
                if e.kind() == io::ErrorKind::AddrInUse && tried < port.saturating_add(PORTS) =>
            {
                tried += 1;
            }
            result => return result,
        }
    }
}

fn configuration(port: u16, origins: &[Handle]) -> String {
    let servers: Vec<String> = origins
        .iter()
        .map(|origin| format!("{{ name = \"{}\", address = \"{}\" }}", origin.name(), address(origin)))
        .collect();
    format!(
        "[[listen]]\nbind = \"127.0.0.1:{port}\"\nto = \"demo\"\n\n[backend.demo]\nservers = [{}]\n",
        servers.join(", ")
    )
}

fn address(origin: &Handle) -> String {
    match origin.address() {
        Bind::Tcp(address) => address.to_string(),
        Bind::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn welcome(balancer: SocketAddr, origins: &[Handle]) -> String {
    let servers: Vec<String> =
        origins.iter().map(|o| format!("{} on http://{}", o.name(), address(o))).collect();
    format!(
        "Plimsoll balances http://{balancer} over {}.\n\
         Open http://{balancer} or run `curl {balancer}` a few times: \"server\" says who answered.\n\
         Every request is a line below. Ctrl-C ends the demo.\n",
        servers.join(", ")
    )
}
