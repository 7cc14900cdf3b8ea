//! The verb `plimsoll run`: balances as a file or two options say, in the foreground.

use plimsoll_config::{Loaded, from_flags};
use plimsoll_control::files::{self, LoadError};
use plimsoll_control::handover;
use plimsoll_control::reload::Watch;

use crate::cli;
use crate::configuration;
use crate::exit::Exit;
use crate::serve::{self, Signals};

/// Runs until a signal ends it.
pub(crate) fn run(args: &cli::Run) -> Exit {
    let (file, loaded) = match load(args) {
        Ok(loaded) => loaded,
        Err(error) => return configuration::show_error(&error),
    };
    configuration::show_warnings(&loaded.warnings);
    let mut config = loaded.config;
    config.workers = args.workers.or(config.workers);
    let runtime = match serve::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return serve::cannot_start(&error),
    };
    runtime.block_on(async {
        let mut signals = match Signals::catch() {
            Ok(signals) => signals,
            Err(error) => return serve::cannot_start(&error),
        };
        let given = match handover::take() {
            Ok(given) => given,
            Err(error) => return serve::cannot_start(&error),
        };
        let started = tokio::select! {
            started = serve::start(config, file, given) => started,
            () = signals.end() => return Exit::Fine, // nothing serves yet: a name server is silent
        };
        match started {
            Ok(running) => {
                running.announce();
                running.until_stopped(signals).await
            }
            Err(failed) => failed.show(),
        }
    })
}

/// The configuration, and the file that it came from.
fn load(args: &cli::Run) -> Result<(Option<Watch>, Loaded), LoadError> {
    if args.listen.is_empty() {
        let file = Watch::new(&configuration::path(args.config.as_deref())?);
        let loaded = files::load_file(file.path())?;
        return Ok((Some(file), loaded));
    }
    from_flags(&args.listen, &args.to).map(|loaded| (None, loaded)).map_err(LoadError::Problems)
}
