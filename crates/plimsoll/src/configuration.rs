//! The verbs `plimsoll check` and `plimsoll config`: what a configuration says and what is wrong with it.
//!
//! Reads the file named, or the first of the usual ones. Problems go to standard error for people and, with `--json`, to
//! standard output for machines. Opens no socket and asks no name server; `check` also reads
//! the certificates that are named.

use std::path::{Path, PathBuf};

use plimsoll_config::model::Config;
use plimsoll_config::{Loaded, Problems};
use plimsoll_control::discovery::look_at_authority;
use plimsoll_control::files::{self, LoadError};
use serde_json::{Value, json};

use crate::cli;
use crate::exit::Exit;
use crate::terminal::{self, print};

/// Loads `file`, or the first of the usual paths; also returns the path that was taken.
pub(crate) fn load(file: Option<&Path>) -> Result<(PathBuf, Loaded), LoadError> {
    let path = path(file)?;
    let loaded = files::load_file(&path)?;
    Ok((path, loaded))
}

/// `file`, or the first of the usual paths.
pub(crate) fn path(file: Option<&Path>) -> Result<PathBuf, LoadError> {
    file.map_or_else(files::default_path, |path| Ok(path.to_owned()))
}

/// Shows why there is no configuration.
pub(crate) fn show_error(error: &LoadError) -> Exit {
    terminal::err(&error.render(terminal::err_has_color()));
    if let LoadError::Problems(problems) = error {
        terminal::err(&format!("\n{}\n", count(problems.len(), "problem")));
    }
    Exit::Configuration
}

/// Shows what is allowed but hardly meant.
pub(crate) fn show_warnings(warnings: &Problems) {
    terminal::err(&warnings.render(terminal::err_has_color()));
}

/// Runs `plimsoll check`.
pub(crate) fn check(args: &cli::Check) -> Exit {
    let loaded = load(args.file.as_deref()).map(|(path, mut loaded)| {
        look_at_authorities(&mut loaded);
        (path, loaded)
    });
    if args.json {
        let printed = print(&format!("{:#}\n", report(&loaded)));
        return if loaded.is_ok() { printed } else { Exit::Configuration };
    }
    match loaded {
        Ok((path, loaded)) => {
            show_warnings(&loaded.warnings);
            print(&format!("{}: fine, {}\n", path.display(), summary(&loaded.config)))
        }
        Err(error) => show_error(&error),
    }
}

/// Warns of files with certificates that cannot be used as they are. They are read while the process runs, so that one may still be missing.
fn look_at_authorities(loaded: &mut Loaded) {
    for authority in std::mem::take(&mut loaded.authorities) {
        if let Err(reason) = look_at_authority(&authority.path) {
            let help =
                "it is read for each question to the source, and until it is mended none of them succeeds";
            loaded.warn_about(&authority, &reason, help);
        }
    }
}

/// Runs `plimsoll config`.
pub(crate) fn config(args: &cli::Config) -> Exit {
    if args.schema {
        return print(&format!("{:#}\n", plimsoll_config::schema()));
    }
    match load(args.file.as_deref()) {
        Ok((_, loaded)) => {
            show_warnings(&loaded.warnings);
            print(&loaded.effective)
        }
        Err(error) => show_error(&error),
    }
}

/// What `check --json` prints: always an object with the same keys.
fn report(loaded: &Result<(PathBuf, Loaded), LoadError>) -> Value {
    match loaded {
        Ok((_, loaded)) => json!({ "ok": true, "problems": [], "warnings": loaded.warnings.to_json() }),
        Err(error) => json!({ "ok": false, "problems": error.to_json(), "warnings": [] }),
    }
}

/// How much there is in a configuration.
pub(crate) fn summary(config: &Config) -> String {
    let counts = [
        count(config.listeners.len(), "listener"),
        count(config.backends.len(), "backend"),
        count(config.routes.len(), "route"),
    ];
    counts.join(", ")
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
