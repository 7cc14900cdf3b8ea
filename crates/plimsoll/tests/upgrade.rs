//! Change of the binary without loss: a new process takes over the listening sockets, and nobody who uses them notices.
//!
//! `takes_over`: every way to ask, and what the new process may do differently. `refuses`: whatever is wrong with the new
//! process, the old one goes on. `keeps`: what the old process has, it finishes. `limits`: what clients have used, they have used. `load`: all of it under load, again and again.

#[path = "upgrade/keeps.rs"]
mod keeps;
#[path = "upgrade/limits.rs"]
mod limits;
#[path = "upgrade/load.rs"]
mod load;
#[path = "upgrade/load_clients.rs"]
mod load_clients;
#[path = "upgrade/load_server.rs"]
mod load_server;
#[path = "peers/process.rs"]
mod process;
#[path = "upgrade/refuses.rs"]
mod refuses;
#[path = "support/rig.rs"]
mod rig;
#[path = "upgrade/stage.rs"]
mod stage;
mod support;
#[path = "upgrade/takes_over.rs"]
mod takes_over;
