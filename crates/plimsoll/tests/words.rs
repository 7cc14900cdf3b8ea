//! What servers say of themselves: over an agent's port and in answers, what follows, and that no agent can do harm.
//!
//! `agents`: HAProxy's text protocol. `answers`: a field of answers. `keeps`: operators, reloads and upgrades. `harm`: agents that lie, hang or never end. `load`: nobody loses a
//! request by any of it. `haproxy`: the same agent before HAProxy and us.

#[path = "words/agents.rs"]
mod agents;
#[path = "words/answers.rs"]
mod answers;
#[path = "words/haproxy.rs"]
mod haproxy;
#[path = "words/harm.rs"]
mod harm;
#[path = "words/keeps.rs"]
mod keeps;
#[path = "words/load.rs"]
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
#[path = "words/stage.rs"]
mod stage;
mod support;
