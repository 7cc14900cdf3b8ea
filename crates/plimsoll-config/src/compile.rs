//! From the checked tree to the model: what the values mean together.
//!
//! Reads strings that have a form of their own (addresses, hosts, paths), resolves names, and holds every rule that
//! needs more than one key. Reports everything and goes on; whatever could not be made is left out, which is harmless
//! because a report with an error yields no configuration.

mod adaptive;
mod admin;
mod agent;
mod backend;
mod discover;
mod health;
mod limit;
mod listener;
mod queue;
mod retry;
mod route;
mod settings;
mod sticky;
mod tracing;

use crate::address::Fault;
use crate::model::{Backend, Config};
use crate::node::{Fields, Node, Value, Written};
use crate::problem::{Code, Problem, Report};
use crate::source::{At, Source};
use crate::suggest::closest;

pub(crate) use admin::{SECRETS, as_written};

/// Makes the configuration. Only meaningful if nothing was reported.
pub(crate) fn compile(root: &Fields, sources: &[Source], report: &mut Report) -> Config {
    let mut compiler = Compiler { report, backends: Vec::new(), names: Vec::new() };
    compiler.backends(root);
    let routes = compiler.routes(root);
    let listeners = compiler.listeners(root);
    for secret in &SECRETS {
        compiler.check_is_referred_to(secret, root, sources);
    }
    let sticky_secret = compiler.sticky_secret(root, &routes);
    if !uses_unclear(root) {
        compiler.unused_backends();
    }
    Config {
        workers: settings::workers(root),
        watch: root.flag("watch"),
        trusted: compiler.trusted(root),
        listeners,
        routes,
        timeouts: settings::timeouts(root),
        limits: settings::limits(root),
        http: compiler.http(root),
        log: compiler.log(root),
        sticky_secret,
        admin: compiler.admin(root),
        tracing: compiler.tracing(root),
        backends: compiler.backends,
    }
}

/// Whether something that sends to a backend was wrong, so that nobody can say which backends are used.
fn uses_unclear(root: &Fields) -> bool {
    let wrong = |node: &Node| matches!(node.value, Value::Wrong);
    let unclear = |node: &Node| match node.fields() {
        Some(fields) => {
            fields.meant.contains(&"to") || fields.find("to").is_some_and(|field| wrong(&field.node))
        }
        None => true,
    };
    ["listen", "route"].iter().any(|name| {
        let field = root.find(name);
        root.meant.contains(name)
            || field.is_some_and(|field| wrong(&field.node) || field.node.items().iter().any(unclear))
    })
}

struct Compiler<'a> {
    report: &'a mut Report,
    backends: Vec<Backend>,
    /// The named backends, in the same order as the first of `backends`.
    names: Vec<Name>,
}

/// A backend's name, where it stands, and whether something refers to it.
struct Name {
    text: String,
    at: At,
    used: bool,
}

impl Compiler<'_> {
    /// The index of the backend of that name.
    fn resolve(&mut self, written: Written<'_>) -> Option<usize> {
        let found = self.names.iter().position(|name| name.text == written.text);
        match found {
            Some(index) => self.names[index].used = true,
            None => self.unknown_backend(written),
        }
        found
    }

    fn unknown_backend(&mut self, written: Written<'_>) {
        let problem =
            Problem::new(Code::UnknownBackend, written.at, format!("there is no backend `{}`", written.text));
        let meant =
            closest(written.text, self.names.iter().map(|name| name.text.as_str())).map(str::to_owned);
        let help = match &meant {
            Some(name) => format!("did you mean `{name}`?"),
            None if self.names.is_empty() => format!("add `[backend.{}]` with its `servers`", written.text),
            None => format!(
                "there are {}",
                self.names.iter().map(|name| format!("`{}`", name.text)).collect::<Vec<_>>().join(", ")
            ),
        };
        self.report.error(problem.help(help));
        // Its only user may be the misspelt one.
        for name in self.names.iter_mut().filter(|name| Some(&name.text) == meant.as_ref()) {
            name.used = true;
        }
    }

    fn unused_backends(&mut self) {
        for name in self.names.iter().filter(|name| !name.used) {
            let message = format!("nothing sends to the backend `{}`", name.text);
            let problem = Problem::new(Code::UnusedBackend, name.at, message);
            self.report.error(
                problem
                    .help(format!("name it in a route or listener, `to = \"{}\"`, or remove it", name.text)),
            );
        }
    }

    /// The value, or its fault reported at `at`.
    fn accept<T>(&mut self, parsed: Result<T, Fault>, at: At) -> Option<T> {
        parsed.map_err(|fault| self.report.error(fault.at(at))).ok()
    }

    /// Reads a string, or reports what is wrong with it.
    fn read<T>(&mut self, written: Option<Written<'_>>, parse: fn(&str) -> Result<T, Fault>) -> Option<T> {
        let written = written?;
        self.accept(parse(written.text), written.at)
    }

    /// Reads each string of a list.
    fn read_all<T>(&mut self, items: &[Node], parse: fn(&str) -> Result<T, Fault>) -> Vec<T> {
        items.iter().filter_map(|item| self.read(item.text(), parse)).collect()
    }
}

impl Fault {
    fn at(self, at: At) -> Problem {
        Problem::new(self.code, at, self.message).help(self.help)
    }
}
