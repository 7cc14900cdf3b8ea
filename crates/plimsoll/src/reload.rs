//! The verb `plimsoll reload`: asks the running process to take its configuration again, and tells what came of it.

use crate::ask;
use crate::cli;
use crate::exit::Exit;
use crate::terminal;

/// Asks, and waits for the outcome.
pub(crate) fn run(args: &cli::Reload) -> Exit {
    let answer = ask::address(args.admin, args.config.as_deref())
        .and_then(|address| ask::ask(address, "POST", "/reload"));
    match answer {
        Ok(answer) if answer.status == 200 => terminal::print(&answer.body),
        Ok(answer) => {
            terminal::err(&answer.body);
            Exit::Configuration
        }
        Err(reason) => {
            terminal::err(&format!("plimsoll reload: {reason}\n"));
            Exit::Start
        }
    }
}
