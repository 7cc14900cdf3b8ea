//! Change without loss: a running program takes another configuration, and nobody who uses it notices.
//!
//! `takes`: every way to ask for a reload, and everything that one can change. `refuses`: whatever is wrong, everything
//! stays in force. `keeps`: what keeps its identity keeps everything. `resolves`: a silent name server holds up nothing else. `load`: all of it ten times a second under load.

#[path = "reload/keeps.rs"]
mod keeps;
#[path = "reload/load.rs"]
mod load;
#[path = "reload/load_clients.rs"]
mod load_clients;
#[path = "reload/load_server.rs"]
mod load_server;
#[path = "reload/refuses.rs"]
mod refuses;
#[path = "reload/resolves.rs"]
mod resolves;
#[path = "support/rig.rs"]
mod rig;
#[path = "reload/stage.rs"]
mod stage;
mod support;
#[path = "reload/takes.rs"]
mod takes;
