//! What people and pipes get to see: the one way to standard output and standard error.
//!
//! A reader that went away (`plimsoll man | head -1`) is not an error and never a panic. Colour goes to terminals only,
//! and not when `NO_COLOR` is set (no-color.org).

use std::io::{self, IsTerminal, Write};

use crate::exit::Exit;

/// Writes `text` to standard output.
pub(crate) fn out(text: &str) -> io::Result<()> {
    write_all(&mut io::stdout().lock(), text.as_bytes())
}

/// Writes `text`, all that was asked for, to standard output; how the process then ends.
pub(crate) fn print(text: &str) -> Exit {
    match out(text) {
        Ok(()) => Exit::Fine,
        Err(error) => {
            err(&format!("plimsoll: cannot write to standard output: {error}\n"));
            Exit::Internal
        }
    }
}

/// Writes `text`, one of many, to standard output; how the process then ends, once nobody reads any more.
pub(crate) fn stream(text: &str) -> Option<Exit> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => None,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Some(Exit::Fine),
        Err(error) => {
            err(&format!("plimsoll: cannot write to standard output: {error}\n"));
            Some(Exit::Internal)
        }
    }
}

/// Writes `text` to standard error. A failure has nowhere to be told, so there is none to return.
pub(crate) fn err(text: &str) {
    let _ = write_all(&mut io::stderr().lock(), text.as_bytes());
}

/// Whether messages on standard error may carry colour.
pub(crate) fn err_has_color() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && io::stderr().is_terminal()
}

fn write_all(sink: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    match sink.write_all(bytes).and_then(|()| sink.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_quiet_and_a_full_disk_is_not() {
        assert!(write_all(&mut Failing(io::ErrorKind::BrokenPipe), b"x").is_ok());
        assert!(write_all(&mut Failing(io::ErrorKind::StorageFull), b"x").is_err());
    }
}
