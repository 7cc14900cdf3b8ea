//! Completion scripts and man pages, made from the command line's definitions.
//!
//! Only text comes out; installing it is the packager's or the user's part.

use std::io;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::cli;

/// The completion script for `shell`.
pub(crate) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "plimsoll", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The man page of a verb, or the overview; `None` if there is no such verb.
pub(crate) fn man(verb: Option<&str>) -> Option<String> {
    let mut command = cli::command();
    // Names the subcommands in full, as `plimsoll-run(1)`.
    command.build();
    let command = match verb {
        None => command,
        Some(verb) => command.find_subcommand(verb)?.clone(),
    };
    let page = render(command).expect("writing to memory cannot fail");
    Some(String::from_utf8_lossy(&page).into_owned())
}

/// The page, with the examples and what else follows the options in sections of their own and as they stand.
fn render(command: Command) -> io::Result<Vec<u8>> {
    let notes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let has_verbs = command.has_subcommands();
    let man = Man::new(command).source(concat!("plimsoll ", env!("CARGO_PKG_VERSION"))).manual("Plimsoll");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_verbs {
        man.render_subcommands_section(&mut page)?;
    }
    let mut sections = Roff::new();
    for paragraph in notes.split("\n\n") {
        let text = match paragraph.split_once(":\n") {
            Some((heading, text)) => {
                sections.control("SH", [heading.to_uppercase().as_str()]);
                text
            }
            None => paragraph,
        };
        sections.control("PP", []).control("nf", []).text([roman(text)]).control("fi", []);
    }
    page.extend_from_slice(sections.to_roff().as_bytes());
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_completes_every_verb() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let script = completions(shell);
            for verb in cli::command().get_subcommands() {
                assert!(script.contains(verb.get_name()), "{shell}: {}", verb.get_name());
            }
        }
    }

    #[test]
    fn every_verb_has_a_page_and_no_other_word_has() {
        let overview = man(None).unwrap();
        assert!(overview.contains("plimsoll\\-run") && overview.contains("EXIT STATUS"), "{overview}");
        for verb in cli::command().get_subcommands() {
            let page = man(Some(verb.get_name())).unwrap();
            assert!(page.contains(".SH EXAMPLES") && page.contains(".SH SYNOPSIS"), "{page}");
        }
        assert!(man(Some("teleport")).is_none());
    }
}
