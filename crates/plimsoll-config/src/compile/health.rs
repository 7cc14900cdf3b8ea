//! A backend's health: when servers are passed over, and when all serve.

use std::time::Duration;

use super::Compiler;
use super::backend::is_target;
use crate::address::Fault;
use crate::defaults;
use crate::model::{Address, Check, Eject, How, HttpCheck, Pattern, ServerCheck};
use crate::node::{Fields, Value};
use crate::pattern::{is_field_value, is_token, parse_method};
use crate::problem::{Code, Problem};
use crate::source::At;
use crate::units::format_duration;

/// Fields that a check writes itself.
const OURS: [&str; 5] = ["connection", "content-length", "host", "transfer-encoding", "upgrade"];

impl Compiler<'_> {
    /// `None` for a backend that never ejects.
    pub(super) fn eject(&mut self, backend: &Fields) -> Option<Eject> {
        let fields = backend.table("eject")?;
        let count = |name| fields.count(name).unwrap_or_default();
        let time = |name| fields.time(name).unwrap_or_default();
        let eject = Eject {
            consecutive: count("consecutive"),
            share: count("share"),
            requests: count("requests"),
            base: time("time"),
            longest: time("longest"),
            most: count("most"),
        };
        if let Some(longest) = fields.find("longest").filter(|_| eject.longest < eject.base) {
            let message = "`longest` is shorter than `time`".to_owned();
            self.report.error(Problem::new(Code::KeyConflict, longest.node.at, message));
        }
        Some(eject)
    }

    /// `None` for a backend whose servers are not checked.
    pub(super) fn backend_check(&mut self, backend: &Fields) -> Option<Check> {
        let field = backend.find("health")?;
        let check = self.check(backend.table("health")?, field.at)?;
        let is_unix = |node: &crate::node::Node| {
            let server = node.fields().filter(|server| server.find("health").is_none());
            let address = server.and_then(|server| server.text("address"));
            address.is_some_and(|address| address.text.starts_with("unix:"))
        };
        if check.port.is_some() && backend.items("servers").iter().any(is_unix) {
            self.refuse_port(field.at);
        }
        Some(check)
    }

    pub(super) fn server_check(&mut self, server: &Fields, address: &Address) -> ServerCheck {
        let Some(field) = server.find("health") else { return ServerCheck::Backends };
        let table = match &field.node.value {
            Value::Bool(_) => return ServerCheck::Never,
            _ => server.table("health"),
        };
        let check = table.and_then(|table| self.check(table, field.at));
        if matches!(address, Address::Unix(_)) && check.as_ref().is_some_and(|check| check.port.is_some()) {
            self.refuse_port(field.at);
        }
        check.map_or(ServerCheck::Backends, |check| ServerCheck::Own(Box::new(check)))
    }

    fn refuse_port(&mut self, at: At) {
        let message = "a Unix socket has no `port` to be checked at".to_owned();
        let help = "leave `port` out, or give that server a `health` of its own".to_owned();
        self.report.error(Problem::new(Code::KeyConflict, at, message).help(help));
    }

    /// One check, whoever it is for.
    fn check(&mut self, fields: &Fields, at: At) -> Option<Check> {
        let how = self.how(fields, at);
        let every = fields.time("every").unwrap_or(defaults::CHECK_EVERY);
        let check = Check {
            how: how?,
            port: fields.number("port").and_then(|port| u16::try_from(port).ok()),
            every,
            every_down: self.within_every(fields, "every_down", defaults::CHECK_EVERY_DOWN, every),
            timeout: self.within_every(fields, "timeout", defaults::CHECK_TIMEOUT, every),
            fall: fields.count("fall").unwrap_or(defaults::CHECK_FALL as u32),
            rise: fields.count("rise").unwrap_or(defaults::CHECK_RISE as u32),
        };
        Some(check)
    }

    /// A time that `every` bounds: one that is written must keep to it, the default gives way.
    pub(super) fn within_every(
        &mut self,
        fields: &Fields,
        name: &str,
        usual: Duration,
        every: Duration,
    ) -> Duration {
        let Some(time) = fields.time(name) else { return usual.min(every) };
        if let Some(field) = fields.find(name).filter(|_| time > every) {
            let message = format!("`{name}` is longer than `every`, which is {}", format_duration(every));
            let help = match name {
                "timeout" => "a question is over before the next one begins: write less, or a longer `every`",
                _ => "write less, or a longer `every`",
            };
            self.report.error(Problem::new(Code::KeyConflict, field.node.at, message).help(help.to_owned()));
        }
        time
    }

    fn how(&mut self, fields: &Fields, at: At) -> Option<How> {
        let given: Vec<&str> = ["path", "tcp", "program"]
            .into_iter()
            .filter(|name| {
                fields.find(name).is_some_and(|field| !matches!(field.node.value, Value::Bool(false)))
            })
            .collect();
        let [kind] = given[..] else {
            let (code, message) = match &given[..] {
                [] => (Code::MissingKey, "it is not said how servers are checked".to_owned()),
                [first, second, ..] => {
                    (Code::KeyConflict, format!("`{first}` and `{second}` exclude each other"))
                }
                _ => unreachable!("one alone is taken above"),
            };
            let help = "write one of `path = \"/healthz\"`, `tcp = true` and `program = [\"/usr/bin/…\"]`"
                .to_owned();
            self.report.error(Problem::new(code, at, message).help(help));
            return None;
        };
        match kind {
            "tcp" => Some(How::Tcp),
            "program" => self.program(fields).map(How::Program),
            _ => self.http_check(fields).map(How::Http),
        }
    }

    fn program(&mut self, fields: &Fields) -> Option<Vec<String>> {
        let items = fields.items("program");
        let arguments = self.read_all(items, parse_argument);
        let first = items.first()?.text()?;
        if !first.text.starts_with('/') {
            let message = format!("`{}` is not an absolute path", first.text);
            let help = "the program comes first, such as \"/usr/lib/plimsoll/check\"; there is no shell and no search".to_owned();
            self.report.error(Problem::new(Code::BadValue, first.at, message).help(help));
        }
        (!arguments.is_empty()).then_some(arguments)
    }

    fn http_check(&mut self, fields: &Fields) -> Option<HttpCheck> {
        let path = self.read(fields.text("path"), parse_path)?;
        let method = self.read(fields.text("method"), parse_method);
        let host = self.read(fields.text("host"), parse_host);
        let mut headers = Vec::new();
        for field in fields.table("headers").map_or(&[][..], |headers| &headers.entries) {
            let name = self.accept(parse_name(&field.name), field.at);
            let value = self.read(field.node.text(), parse_value);
            headers.extend(name.zip(value));
        }
        let statuses = self.read_all(fields.items("status"), parse_statuses);
        let body_regex = self.read(fields.text("body_regex"), |text| {
            Pattern::new(text).map_err(|reason| {
                Fault::new(Code::BadValue, format!("`{text}` is not a regular expression: {reason}"))
            })
        });
        let usual = HttpCheck::new(&path);
        Some(HttpCheck {
            method: method.unwrap_or(usual.method),
            host,
            headers,
            statuses: if statuses.is_empty() { usual.statuses } else { statuses },
            body: fields.text("body").map(|body| body.text.to_owned()),
            body_regex,
            path,
        })
    }
}

fn bad(message: String, help: &str) -> Fault {
    Fault::new(Code::BadValue, message).help(help)
}

fn parse_path(text: &str) -> Result<String, Fault> {
    let fault = || {
        bad(format!("`{text}` is not a path"), "it begins with `/` and has no spaces, such as \"/healthz\"")
    };
    if is_target(text) { Ok(text.to_owned()) } else { Err(fault()) }
}

fn parse_argument(text: &str) -> Result<String, Fault> {
    if text.contains('\0') {
        return Err(bad("an argument has a zero byte in it".to_owned(), "no program can be given that"));
    }
    Ok(text.to_owned())
}

fn parse_host(text: &str) -> Result<String, Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if text.is_empty() || text.len() > 255 || !text.bytes().all(plain) {
        return Err(bad(format!("`{text}` is not a host"), "a name or an address, with a port or without"));
    }
    Ok(text.to_owned())
}

fn parse_name(name: &str) -> Result<String, Fault> {
    if !is_token(name) {
        return Err(bad(format!("`{name}` is not a field name"), "letters, digits and `-`: \"X-Check\""));
    }
    if OURS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
        let help =
            if name.eq_ignore_ascii_case("host") { "write `host = \"…\"` instead" } else { "leave it out" };
        return Err(bad(format!("`{name}` is written by itself"), help));
    }
    Ok(name.to_owned())
}

fn parse_value(value: &str) -> Result<String, Fault> {
    if !is_field_value(value) {
        return Err(bad(
            format!("no field has the value `{value}`"),
            "visible ASCII characters, with single spaces or tabs inside",
        ));
    }
    Ok(value.to_owned())
}

/// `"200"` or `"200-299"`.
fn parse_statuses(text: &str) -> Result<(u16, u16), Fault> {
    let fault = || {
        bad(
            format!("`{text}` is no status and no range of them"),
            "write \"200\" or \"200-299\", within 200 and 599",
        )
    };
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (200..=599).contains(status));
    match (number(from), number(to)) {
        (Some(from), Some(to)) if from <= to => Ok((from, to)),
        _ => Err(fault()),
    }
}
