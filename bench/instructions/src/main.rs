//! Does one piece of the request path a given number of times, for callgrind to count: `instructions PIECE COUNT`.
//!
//! In comes the name of a piece (none: all names are listed) and how often; nothing goes out but an exit status. Making
//! ready costs the same for every count, so the difference of two runs is what the piece costs. With `SLOWED` in the
//! environment each twentieth is done twice: a slowing of 5 %, which the gate has to notice. It must never draw
//! chance from anywhere but seeded dice, or two runs would not count the same.

#![forbid(unsafe_code)]

mod codec;
mod pick;

use std::io::Write;
use std::process::ExitCode;

/// A piece's name, and what makes it ready.
type Piece = (&'static str, fn() -> Box<dyn FnMut()>);

fn main() -> ExitCode {
    let pieces: Vec<Piece> = codec::PIECES.iter().chain(pick::PIECES).copied().collect();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match asked[..] {
        [] => {
            let names: String = pieces.iter().map(|(name, _)| format!("{name}\n")).collect();
            let written = std::io::stdout().write_all(names.as_bytes());
            if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        [name, count] => {
            let piece = pieces.iter().find(|(known, _)| *known == name);
            let Some(((_, ready), count)) = piece.zip(count.parse().ok()) else { return ExitCode::FAILURE };
            repeat(ready(), count);
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}

fn repeat(mut piece: Box<dyn FnMut()>, count: u32) {
    let slowed = std::env::var_os("SLOWED").is_some();
    for number in 0..count {
        piece();
        if slowed && number % 20 == 0 {
            piece();
        }
    }
}
