//! Servers of a running process, listed, added, changed and removed: over the admin API and by `plimsoll server`.
//!
//! `api`: what is answered and refused. `verb`: the same for people. `lasts`: how long an order is in force. `keeps`: what the
//! file is to keep. `load`: nobody loses a
//! request by any of it.

#[path = "servers/api.rs"]
mod api;
#[path = "upgrade/stage.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod family;
#[path = "servers/keeps.rs"]
mod keeps;
#[path = "servers/lasts.rs"]
mod lasts;
#[path = "servers/load.rs"]
mod load;
#[path = "reload/load_clients.rs"]
mod load_clients;
#[path = "reload/load_server.rs"]
mod load_server;
#[path = "peers/need.rs"]
mod need;
#[path = "peers/process.rs"]
mod process;
#[path = "support/rig.rs"]
mod rig;
#[path = "servers/stage.rs"]
mod stage;
mod support;
#[path = "servers/verb.rs"]
mod verb;
