//! The program `plimsoll`: arguments in, an exit code out.
//!
//! Each verb is a module; this file only chooses one. Nothing here may panic past `main`: a defect ends with code 70,
//! so that it can be told from a wrong configuration or a taken port.

mod ask;
mod cli;
mod configuration;
mod demo;
mod exit;
mod origin;
mod pages;
mod reload;
mod run;
mod serve;
mod server;
mod sim;
mod status;
mod table;
mod terminal;
mod upgrade;
mod verify;

use std::process::ExitCode;

use clap::{FromArgMatches, error::ErrorKind};

use cli::Verb;
use exit::Exit;

/// Blocks of every size come back in the order of a stack, so that an exchange takes the room that the last one left, still in the cache.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let parsed = cli::command().try_get_matches().and_then(|matches| cli::Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Goes to standard output for `--help` and to standard error otherwise; a closed pipe is nobody's problem.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { Exit::Fine } else { Exit::Usage }.into();
        }
    };
    // The panic hook has already told what happened.
    std::panic::catch_unwind(|| act(cli.verb)).unwrap_or(Exit::Internal).into()
}

fn act(verb: Verb) -> Exit {
    match verb {
        Verb::Run(args) => run::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Reload(args) => reload::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Server(args) => server::run(&args),
        Verb::Upgrade(args) => upgrade::run(&args),
        Verb::Check(args) => configuration::check(&args),
        Verb::Config(args) => configuration::config(&args),
        Verb::Origin(args) => origin::command::run(args),
        Verb::Sim(args) => sim::run(&args),
        Verb::Verify(args) => verify::run(&args),
        Verb::Completions { shell } => terminal::print(&pages::completions(shell)),
        Verb::Man { verb } => match pages::man(verb.as_deref()) {
            Some(page) => terminal::print(&page),
            None => {
                terminal::err("plimsoll man: there is no such verb; `plimsoll help` lists them\n");
                Exit::Usage
            }
        },
    }
}
