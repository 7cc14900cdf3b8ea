//! How servers say themselves how much they want: an agent that is asked, and a field of their answers.

use std::net::IpAddr;
use std::time::Duration;

use super::{Backend, Server};

/// An agent beside a server that is asked for the server's word, as HAProxy's `agent-check` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its TCP port; at least 1.
    pub port: u16,
    /// Where it listens, if not at the server's own address.
    pub address: Option<IpAddr>,
    /// The time between two questions.
    pub every: Duration,
    /// How long an answer may take, from connecting to its line's end; not longer than `every`.
    pub timeout: Duration,
    /// What is sent to it first, as it stands; nothing if it is empty.
    pub send: String,
}

/// Whether and how one server's agent is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ServerAgent {
    /// As its backend says.
    #[default]
    Backends,
    /// Not at all.
    Never,
    /// In its own way.
    Own(Box<Agent>),
}

impl Backend {
    /// Who is asked for the word of one of its servers; `None`: nobody.
    pub fn agent_of<'a>(&'a self, server: &'a Server) -> Option<&'a Agent> {
        match &server.agent {
            ServerAgent::Backends => self.agent.as_ref(),
            ServerAgent::Never => None,
            ServerAgent::Own(agent) => Some(agent),
        }
    }
}

/// What a server has said of itself that is in force. Never in a file: it is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Percent of its weight that it wants; 100 unless it says otherwise.
    pub share: u32,
    /// It says that it cannot serve.
    pub down: bool,
}

impl Default for Said {
    fn default() -> Said {
        Said { share: 100, down: false }
    }
}
