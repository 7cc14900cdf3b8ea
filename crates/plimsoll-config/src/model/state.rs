//! Whether a server is to get requests: what the file or an operator says, as opposed to how it is.

/// What a server is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ServerState {
    /// Takes requests.
    #[default]
    Ready,
    /// Takes nothing new, also of sessions that belong to it; what it has ends in its own time.
    Drain,
    /// As `Drain`, and it is not expected to work; it begins slowly when it comes back.
    Maint,
}

impl ServerState {
    /// All of them, in the order of the words.
    pub const ALL: [ServerState; 3] = [ServerState::Ready, ServerState::Drain, ServerState::Maint];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            ServerState::Ready => "ready",
            ServerState::Drain => "drain",
            ServerState::Maint => "maint",
        }
    }
}

impl std::str::FromStr for ServerState {
    type Err = String;

    fn from_str(text: &str) -> Result<ServerState, String> {
        let found = ServerState::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is no state: a server is `ready`, in `drain` or in `maint`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_read_as_it_is_written() {
        for state in ServerState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!("READY".parse::<ServerState>().is_err());
    }
}
