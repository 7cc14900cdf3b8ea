//! The command line: every verb and option with its help, as clap definitions.
//!
//! Help, completions and man pages all come from here. Nothing is done here but turning arguments into values; a value
//! that makes no sense is refused with clap's message and exit code 2.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use plimsoll_config::model::AdminBind;

use crate::exit::Exit;
use crate::origin::address::Bind;
use crate::origin::quantity::{Delay, Share, Size};

/// A load balancer that chooses right, never gets in the way, and tells why.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Balance requests over servers, in the foreground
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Start three demo servers and a balancer in front of them
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(Demo),
    /// Start a small backend server to try things against
    #[command(after_help = ORIGIN_EXAMPLES)]
    Origin(Origin),
    /// Make the running process take its configuration again, without losing anything
    #[command(after_help = RELOAD_EXAMPLES)]
    Reload(Reload),
    /// Show what the running process does: its listeners, routes, backends and servers
    #[command(after_help = STATUS_EXAMPLES)]
    Status(Status),
    /// Show, add, drain, weight and remove servers of the running process
    #[command(after_help = SERVER_EXAMPLES)]
    Server(Server),
    /// Hand over to a new process of a new binary, without losing anything
    #[command(after_help = UPGRADE_EXAMPLES)]
    Upgrade(Upgrade),
    /// Check a configuration and report every problem at once
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Print the effective configuration, with where each value comes from
    #[command(after_help = CONFIG_EXAMPLES)]
    Config(Config),
    /// Run balancing policies in simulated worlds, compare them, and judge what comes out
    #[command(after_help = SIM_EXAMPLES)]
    Sim(Sim),
    /// Hold the policies, or any balancer in front of origins, against what they promise
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Verify),
    /// Print the completion script for a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell to complete in
        shell: Shell,
    },
    /// Print the man page
    #[command(after_help = MAN_EXAMPLES)]
    Man {
        /// The verb whose page to print, in place of the overview
        verb: Option<String>,
    },
}

/// `plimsoll run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The configuration [default: ./plimsoll.toml, then /etc/plimsoll/plimsoll.toml]
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["listen", "to"])]
    pub(crate) config: Option<PathBuf>,
    /// Where to accept clients, with no file; ":8080" is that port on every address
    #[arg(long, value_name = "ADDR", value_delimiter = ',', requires = "to")]
    pub(crate) listen: Vec<String>,
    /// The servers to balance over, with no file; ":8000" is that port on this machine
    #[arg(long, value_name = "ADDR", value_delimiter = ',', requires = "listen")]
    pub(crate) to: Vec<String>,
    /// Worker threads [default: one for each usable core]
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<std::num::NonZeroUsize>,
}

/// `plimsoll demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The balancer's port on 127.0.0.1; if it is taken, the next free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub(crate) port: u16,
}

/// `plimsoll origin`.
#[derive(Debug, Args)]
pub(crate) struct Origin {
    /// Where to listen: HOST:PORT, :PORT on 127.0.0.1, or unix:/PATH; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = ":8000")]
    pub(crate) listen: Bind,
    /// Who it says it is [default: origin- and the port]
    #[arg(long, value_name = "NAME", value_parser = origin_name)]
    pub(crate) name: Option<String>,
    /// How long each answer takes, for example 20ms
    #[arg(long, value_name = "TIME", default_value_t)]
    pub(crate) delay: Delay,
    /// How far the delay varies: evenly, up to this much less or more
    #[arg(long, value_name = "TIME", default_value_t)]
    pub(crate) spread: Delay,
    /// The share of requests answered with 500, for example 5%
    #[arg(long, value_name = "SHARE", default_value_t)]
    pub(crate) error_rate: Share,
    /// Pad answers to this size, for example 1KiB
    #[arg(long, value_name = "SIZE", default_value_t)]
    pub(crate) body_size: Size,
    /// The status of answers
    #[arg(long, value_name = "CODE", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub(crate) status: u16,
    /// A second address that answers only /_origin, also while the first refuses connections
    #[arg(long, value_name = "ADDR")]
    pub(crate) control: Option<Bind>,
}

/// How the verbs that ask a running process find it.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// The configuration that names the admin address [default: ./plimsoll.toml, then /etc/plimsoll/plimsoll.toml]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The admin address of the running process, IP:PORT or unix:/PATH, in place of the one in the configuration
    #[arg(long, value_name = "ADDR", conflicts_with = "config")]
    pub(crate) admin: Option<AdminBind>,
    /// A file with the admin token [default: the token of the configuration, or $PLIMSOLL_ADMIN_TOKEN with --admin]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// `plimsoll reload`.
#[derive(Debug, Args)]
pub(crate) struct Reload {
    /// Whom to ask.
    #[command(flatten)]
    pub(crate) admin: Asked,
}

/// `plimsoll status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Whom to ask.
    #[command(flatten)]
    pub(crate) admin: Asked,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Look again every two seconds, and show what has happened in between
    #[arg(long)]
    pub(crate) watch: bool,
}

/// `plimsoll server`.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// BACKEND/SERVER and ready, drain, maint, remove or weight N; or list [BACKEND]; or add BACKEND ADDRESS
    #[arg(required = true, num_args = 1..=3, value_name = "WHAT")]
    pub(crate) words: Vec<String>,
    /// With add: its share, relative to the others
    #[arg(long, value_name = "N")]
    pub(crate) weight: Option<u16>,
    /// With add: its name, in place of the address
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// With add: serves only when no other can
    #[arg(long)]
    pub(crate) backup: bool,
    /// Write it into the configuration's file too, so that it stays
    #[arg(long)]
    pub(crate) persist: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub(crate) admin: Asked,
}

/// `plimsoll upgrade`.
#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    /// The new program [default: the one that the running process was started from, as it is now]
    pub(crate) path: Option<PathBuf>,
    /// Whom to ask.
    #[command(flatten)]
    pub(crate) admin: Asked,
}

/// `plimsoll check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The configuration [default: ./plimsoll.toml, then /etc/plimsoll/plimsoll.toml]
    pub(crate) file: Option<PathBuf>,
    /// Report as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// `plimsoll config`.
#[derive(Debug, Args)]
pub(crate) struct Config {
    /// The configuration [default: ./plimsoll.toml, then /etc/plimsoll/plimsoll.toml]
    pub(crate) file: Option<PathBuf>,
    /// Print the JSON Schema of configurations
    #[arg(long, conflicts_with = "file")]
    pub(crate) schema: bool,
}

/// `plimsoll sim`.
#[derive(Debug, Args)]
pub(crate) struct Sim {
    /// What to run: names of scenarios that ship, files that end with .toml, or "all"
    #[arg(value_name = "SCENARIO")]
    pub(crate) names: Vec<String>,
    /// The same as an option
    #[arg(long = "scenario", value_name = "SCENARIO", value_delimiter = ',')]
    pub(crate) scenarios: Vec<String>,
    /// List the scenarios that ship
    #[arg(long, conflicts_with_all = ["names", "scenarios", "config", "compare", "plot", "speed"])]
    pub(crate) list: bool,
    /// Let the servers of this configuration's backends play the scenario, balanced as it says
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Only this backend of the configuration
    #[arg(long, value_name = "NAME", requires = "config")]
    pub(crate) backend: Option<String>,
    /// Policies to run in place of the scenario's, or beside the configuration's
    #[arg(long, value_name = "POLICY", value_delimiter = ',')]
    pub(crate) compare: Vec<String>,
    /// What chance begins with, in place of the scenario's
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw latencies and loads: to a FILE.svg, or to a folder with a file a scenario
    #[arg(long, value_name = "PATH")]
    pub(crate) plot: Option<PathBuf>,
    /// Measure how many events a second one core simulates
    #[arg(long, conflicts_with_all = ["names", "scenarios", "config", "compare", "plot", "seed"])]
    pub(crate) speed: bool,
}

/// `plimsoll verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The policies to hold against their contracts [default: all]; with --url the one that the balancer is set to
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) policy: Vec<String>,
    /// The contracts to look at [default: all that the policy promises]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) contract: Vec<String>,
    /// What all chance comes from; the same seed gives the same figures
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "url")]
    pub(crate) seed: u64,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Check whoever answers here, in front of origins, instead of the policies in this program
    #[arg(long, value_name = "URL", requires = "control", requires = "policy")]
    pub(crate) url: Option<String>,
    /// The control addresses of all the origins behind it
    #[arg(long, value_name = "ADDR", value_delimiter = ',', requires = "url")]
    pub(crate) control: Vec<String>,
    /// The weights that the balancer is set to, in the order of --control [default: all equal]
    #[arg(long, value_name = "N", value_delimiter = ',', requires = "url")]
    pub(crate) weights: Vec<u16>,
    /// What the balancer hashes by: header:NAME, query:NAME or path
    #[arg(long, value_name = "KEY", requires = "url")]
    pub(crate) key: Option<crate::verify::Key>,
    /// Let --url and --control be on other machines
    #[arg(long, requires = "url")]
    pub(crate) remote: bool,
}

/// The name goes into a header field, so it has to be one that fits there.
fn origin_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 64 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a name is 1 to 64 visible ASCII characters without spaces".to_owned());
    }
    Ok(text.to_owned())
}

/// The definitions as a clap command, for help, completions and man pages.
pub(crate) fn command() -> clap::Command {
    let codes = Exit::ALL.map(|exit| format!("  {:>2}  {}", exit.code(), exit.meaning())).join("\n");
    Cli::command().after_help(format!("{TOP_EXAMPLES}\n\nExit status:\n{codes}"))
}

const TOP_EXAMPLES: &str = "\
Examples:
  plimsoll demo                                     see it work
  plimsoll run --listen :8080 --to :8000,:8001      balance with no file
  plimsoll run -c plimsoll.toml                     balance as the file says
  plimsoll check                                    find every problem in ./plimsoll.toml

`plimsoll help VERB` tells more about a verb.";

const RUN_EXAMPLES: &str = "\
Examples:
  plimsoll run --listen :8080 --to :8000,:8001,:8002
  plimsoll run --listen 127.0.0.1:8080 --to 10.0.0.1:3000,unix:/run/app.sock
  plimsoll run -c /etc/plimsoll/plimsoll.toml

Signals:
  TERM, INT  finish what is in flight, for at most 30 s (timeout.drain); again: end at once
  QUIT       finish what is in flight, however long it takes
  HUP        take the configuration again (as `plimsoll reload`, and by itself with watch = true)
  USR1       reopen the access log
  USR2       hand over to a new process of the binary (as `plimsoll upgrade`)";

const DEMO_EXAMPLES: &str = "\
Examples:
  plimsoll demo
  plimsoll demo --port 9000

Everything listens on 127.0.0.1 only. Ctrl-C ends it.";

const ORIGIN_EXAMPLES: &str = "\
Examples:
  plimsoll origin --listen :8000 --name a
  plimsoll origin --listen :8001 --name b --delay 20ms --spread 10ms
  plimsoll origin --listen unix:/tmp/c.sock --name c --body-size 64KiB
  curl localhost:8000/_origin                               see it
  curl -X PUT -d '{\"delay\":\"2s\"}' localhost:8000/_origin    make it slow

Each answer says who it is and what it received, as JSON.

Behaviour:
  These keys of PUT /_origin change it while it runs:
  delay, spread, error_rate, status, body_size   as the options
  hang       true: take requests and never answer
  abort      true: close the connection in place of an answer
  truncate   true: promise a body and close half-way through
  refuse     true: do not listen; needs --control
  DELETE /_origin on the control address ends the process at once, with code 1.";

const RELOAD_EXAMPLES: &str = "\
Examples:
  plimsoll reload
  plimsoll reload --admin 127.0.0.1:9900
  plimsoll reload --admin unix:/run/plimsoll/admin.sock --token-file ~/admin.token

With any problem everything stays as it was, the problem is told here and by the running process, and the exit status is 1.";

const STATUS_EXAMPLES: &str = "\
Examples:
  plimsoll status
  plimsoll status --watch
  plimsoll status --json --admin 127.0.0.1:9900 | jq '.backends[].servers[] | {name, in_flight, p99_ms}'

Latencies are estimated from counts in fixed buckets.

Exit status:
  0  shown
  3  no admin address is known, or nothing answers there";

const SERVER_EXAMPLES: &str = "\
Examples:
  plimsoll server list
  plimsoll server api/10.0.0.1:3000 drain
  plimsoll server api/10.0.0.1:3000 weight 5
  plimsoll server add api 10.0.0.4:3000 --weight 2
  plimsoll server api/10.0.0.4:3000 remove
  plimsoll server api/10.0.0.1:3000 weight 5 --persist

A change lasts until the file says otherwise, through reloads and upgrades, and not through a restart;
with --persist the file says it too.

Exit status:
  0  done, and served
  1  refused
  3  no admin address is known, or nothing answers there";

const UPGRADE_EXAMPLES: &str = "\
Examples:
  plimsoll upgrade                               after the binary was replaced
  plimsoll upgrade /opt/plimsoll-2/plimsoll

The new process takes over the listening sockets; the old one ends when its last connection does.
If the new one does not come to serve, the old one goes on, and the exit status is 1.";

const CHECK_EXAMPLES: &str = "\
Examples:
  plimsoll check
  plimsoll check /etc/plimsoll/plimsoll.toml
  plimsoll check --json | jq .problems

Exit status:
  0  fine
  1  problems";

const CONFIG_EXAMPLES: &str = "\
Examples:
  plimsoll config
  plimsoll config --schema > plimsoll.schema.json";

const SIM_EXAMPLES: &str = "\
Examples:
  plimsoll sim --list
  plimsoll sim gray-failure --plot gray-failure.svg
  plimsoll sim hang black-hole --compare p2c,round_robin
  plimsoll sim --config plimsoll.toml --scenario gray-failure
  plimsoll sim my-scenario.toml --json | jq '.[].expectations[]'
  plimsoll sim all --plot plots/

Time is counted in mean service times. The same seed gives the same output.

Exit status:
  0  everything that was judged is as expected
  1  an expectation is broken, or the scenario or the configuration has problems";
const VERIFY_EXAMPLES: &str = "\
Examples:
  plimsoll verify
  plimsoll verify --policy p2c,round_robin --seed 7 --json
  plimsoll verify --policy hash --contract outage,return
  plimsoll verify --url http://127.0.0.1:8080 --policy round_robin --control 127.0.0.1:9001,127.0.0.1:9002,127.0.0.1:9003

With --url, requests go through the balancer at that address, whatever it is, to `plimsoll origin` servers, which are
made slow, failing and dead meanwhile by their --control addresses, and are put back as they were, also when INT, TERM
or HUP ends it early.

Exit status:
  0  every contract is kept
  1  one is broken
  2  wrong use, or --contract names nothing that the policy promises
  3  the balancer or an origin cannot be reached, an origin was not named, or a signal came";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  plimsoll completions bash > /etc/bash_completion.d/plimsoll
  plimsoll completions zsh > ~/.zfunc/_plimsoll
  plimsoll completions fish > ~/.config/fish/completions/plimsoll.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  plimsoll man | man -l -
  plimsoll man run > /usr/local/share/man/man1/plimsoll-run.1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn lists_split_at_commas_and_repeat() {
        let cli =
            Cli::try_parse_from(["plimsoll", "run", "--listen", ":1,:2", "--listen", ":3", "--to", ":4"]);
        let Verb::Run(run) = cli.unwrap().verb else { panic!("not run") };
        assert_eq!(run.listen, [":1", ":2", ":3"]);
        assert_eq!(run.to, [":4"]);
    }

    #[test]
    fn a_file_and_flags_exclude_each_other_and_listen_needs_to() {
        for wrong in [
            vec!["plimsoll", "run", "-c", "x", "--listen", ":1", "--to", ":2"],
            vec!["plimsoll", "run", "--listen", ":1"],
            vec!["plimsoll", "run", "--to", ":1"],
            vec!["plimsoll", "run", "--workers", "0"],
            vec!["plimsoll", "config", "x", "--schema"],
        ] {
            let error = Cli::try_parse_from(&wrong).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_a_header_value_is_refused() {
        assert!(origin_name("a").is_ok());
        for wrong in ["", "a b", "ä", "a\r\nb"] {
            assert!(origin_name(wrong).is_err(), "{wrong:?}");
        }
    }
}
