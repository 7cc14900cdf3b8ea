//! Servers that come and go by themselves: the real program before files, real name servers, name servers that lie, and registries.
//!
//! `files`, `names` (knot and dnsmasq, where they can be had), `lies` (a name server of the tests that says what it is told to) and
//! `registries`: each source, its changes, its death and its return. `keeps`: what reloads and upgrades keep. `load`: changes under load.

#[path = "discovery/files.rs"]
mod files;
#[path = "discovery/keeps.rs"]
mod keeps;
#[path = "discovery/liar.rs"]
mod liar;
#[path = "discovery/lies.rs"]
mod lies;
#[path = "discovery/load.rs"]
mod load;
#[path = "reload/load_clients.rs"]
mod load_clients;
#[path = "reload/load_server.rs"]
mod load_server;
#[path = "discovery/names.rs"]
mod names;
#[path = "peers/need.rs"]
mod need;
#[path = "peers/process.rs"]
mod process;
#[path = "discovery/registries.rs"]
mod registries;
#[path = "support/rig.rs"]
mod rig;
#[path = "discovery/stage.rs"]
mod stage;
mod support;
#[path = "discovery/tls.rs"]
mod tls;
