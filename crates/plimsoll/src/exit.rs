//! How the process ends: the exit codes, in one table that the help, the man page and `docs/CLI.md` are checked against.
//!
//! Scripts and service managers decide by these numbers, so a code never changes its meaning and no code is used
//! that is not in the table.

use std::process::ExitCode;

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Did what was asked.
    Fine,
    /// The configuration has problems, or cannot be read; or something that was expected is not so.
    Configuration,
    /// The command line makes no sense; clap's own code for it.
    Usage,
    /// An address could not be bound, or something else needed at the start is missing.
    Start,
    /// The stop did not wait for everything: requests were cut.
    Cut,
    /// A defect in this program.
    Internal,
}

impl Exit {
    /// Every way to end, in the order of the codes.
    pub(crate) const ALL: [Exit; 6] =
        [Exit::Fine, Exit::Configuration, Exit::Usage, Exit::Start, Exit::Cut, Exit::Internal];

    /// The number that the parent process sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Fine => 0,
            Exit::Configuration => 1,
            Exit::Usage => 2,
            Exit::Start => 3,
            Exit::Cut => 4,
            // EX_SOFTWARE of sysexits.h.
            Exit::Internal => 70,
        }
    }

    /// One line for the help, the man page and the documentation.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Exit::Fine => "did what was asked",
            Exit::Configuration => "problems in the configuration, or an expectation that is broken",
            Exit::Usage => "wrong use of the command line",
            Exit::Start => "could not start, for example because an address is taken",
            Exit::Cut => "stopped with requests cut: by a second signal or the drain deadline",
            Exit::Internal => "internal error",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_in_order() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
    }
}
