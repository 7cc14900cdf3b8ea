//! The verb `plimsoll reload`: asks the running process to take its configuration again, and tells what came of it.

use crate::ask;
use crate::cli;
use crate::exit::Exit;

/// Asks, and waits for the outcome.
pub(crate) fn run(args: &cli::Reload) -> Exit {
    ask::tell("reload", &args.admin, "/reload")
}
