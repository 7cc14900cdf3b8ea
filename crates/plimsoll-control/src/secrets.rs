//! Secrets that stand in files: read at the start and at every reload, named in messages, never shown.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use plimsoll_config::model::{Config, Secret, Token};

/// Bytes of a secret's file that are looked at.
const LARGEST_FILE: u64 = 64 << 10;

/// Reads the admin token, if there is to be one. The error names the file and never the token.
pub fn read_token(token: Option<&Token>) -> Result<Option<Secret>, String> {
    token.map(|token| read(token, "the admin token")).transpose()
}

/// Reads the admin token from a file; one line end at its end is none of it.
pub fn read_token_file(path: &Path) -> Result<Secret, String> {
    read_file(path, "the admin token")
}

/// Puts the text of the sticky secret in the place of its file, if there is to be one. Then the configuration can be served.
pub fn read_sticky_secret(config: &mut Config) -> Result<(), String> {
    if let Some(token) = &mut config.sticky_secret {
        *token = Token::Text(read(token, "the sticky secret")?);
    }
    Ok(())
}

fn read(token: &Token, called: &str) -> Result<Secret, String> {
    match token {
        Token::Text(secret) => Ok(secret.clone()),
        Token::File(path) => read_file(path, called),
    }
}

fn read_file(path: &Path, called: &str) -> Result<Secret, String> {
    let failed = |reason: String| format!("{called} in {} {reason}", path.display());
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST_FILE).read_to_string(&mut text));
    read.map_err(|e| failed(format!("cannot be read: {e}")))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Secret::new(line.strip_suffix('\r').unwrap_or(line))
        .map_err(|reason| failed(format!("{reason}; make one with `openssl rand -hex 32`")))
}
