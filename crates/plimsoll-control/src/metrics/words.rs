//! What servers are to get, and what they say of themselves: a part of the metrics page.

use plimsoll_config::model::{Server, ServerState};
use plimsoll_proxy::Snapshot;

use super::{Row, each, row};
use crate::exposition::{Kind, Page, label};
use crate::status::last_asked;

/// Weights, shares and states.
pub(super) fn wishes(page: &mut Page, snapshot: &Snapshot) {
    let rows: Vec<Row<&Server>> = snapshot
        .config
        .backends
        .iter()
        .flat_map(|backend| {
            backend.servers.iter().map(|server| row(labels(&backend.name, &server.name), server))
        })
        .collect();
    let help = "The server's part of the traffic, as the file, discovery or an operator says.";
    each(page, ("plimsoll_server_weight", Kind::Gauge, help), &rows, |server| server.weight);
    let help = "The part of its weight that the server asks for itself; 1 unless it says otherwise.";
    let share = |server: &&Server| f64::from(server.said.share) / 100.0;
    each(page, ("plimsoll_server_share", Kind::Gauge, help), &rows, share);
    let help =
        "1 if the server may get requests; 0 in drain or maint, whoever says so, or down by its own word.";
    let is_ready = |server: &&Server| u8::from(server.state == ServerState::Ready && !server.said.down);
    each(page, ("plimsoll_server_ready", Kind::Gauge, help), &rows, is_ready);
}

/// Only of servers whose agents are asked, from the first time on and for as long as they are.
pub(super) fn agents(page: &mut Page, snapshot: &Snapshot) {
    let help = "Questions to the server's agent, by result.";
    let mut family = page.family("plimsoll_server_agent_questions_total", Kind::Counter, help);
    for (number, backend) in snapshot.backends.iter().enumerate() {
        for (place, server) in backend.servers.iter().enumerate() {
            let Some(last) = last_asked(snapshot, number, place) else { continue };
            for (result, count) in [("answered", last.passed), ("failed", last.failed)] {
                let labels = format!("{},{}", labels(&backend.name, &server.name), label("result", result));
                family.sample(&labels, count);
            }
        }
    }
}

fn labels(backend: &str, server: &str) -> String {
    format!("{},{}", label("backend", backend), label("server", server))
}
