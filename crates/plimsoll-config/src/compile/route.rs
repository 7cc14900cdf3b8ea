//! Routes: conditions, action, overrides.
//!
//! Exactly one of `to`, `respond` and `redirect`. Two routes with the same conditions are an error, since order has no
//! meaning and one of them could never match.

use super::Compiler;
use crate::model::{Action, HeaderMatch, HostMatch, Matcher, PathMatch, Route, RouteTimeouts};
use crate::node::{Field, Fields, Node, Value, Written};
use crate::pattern::{
    is_field_value, is_token, parse_header, parse_host, parse_location, parse_method, parse_path,
};
use crate::problem::{Code, Problem};
use crate::source::At;

const ACTIONS: [&str; 3] = ["to", "respond", "redirect"];

impl Compiler<'_> {
    /// All `[[route]]`.
    pub(super) fn routes(&mut self, root: &Fields) -> Vec<Route> {
        let mut seen: Vec<(Matcher, At)> = Vec::new();
        let mut names: Vec<(String, At)> = Vec::new();
        let mut routes = Vec::new();
        for node in root.items("route") {
            let Some(fields) = node.fields() else { continue };
            let known = self.matcher(fields);
            if let Some(matcher) = &known {
                self.check_distinct(matcher, node.at, &mut seen);
            }
            let name = self.route_name(fields, known.as_ref(), &mut names);
            let action = self.action(fields, node.at);
            if let (Some(matcher), Some(action)) = (known, action) {
                routes.push(self.route(name, matcher, action, fields));
            }
        }
        routes
    }

    fn route(&mut self, name: String, matcher: Matcher, action: Action, fields: &Fields) -> Route {
        let sticky = fields.table("sticky").and_then(|table| self.sticky(table, &action));
        Route {
            name,
            matcher,
            action,
            timeouts: timeouts(fields.table("timeout")),
            max_body: fields.number("max_body"),
            retry: self.retry(fields.table("retry")),
            hedge: self.hedge(fields),
            upgrade: self.upgrade(fields.items("upgrade")),
            sticky,
            limits: self.limits(fields.items("limit")),
            priority: self.priority(fields),
        }
    }

    /// `None` if a condition was wrong: such a route is compared with no other.
    fn matcher(&mut self, fields: &Fields) -> Option<Matcher> {
        let written = |name: &str| fields.find(name).map(|field| field.node.text());
        let host = written("host").map(|text| self.read(text, parse_host));
        let path = written("path").map(|text| self.read(text, parse_path));
        let methods = fields.find("method").map_or(Some(Vec::new()), |field| self.methods(field));
        let headers = fields.find("header").map_or(Some(Vec::new()), |field| self.headers(field));
        Some(Matcher { host: whole(host)?, path: whole(path)?, methods: methods?, headers: headers? })
    }

    fn methods(&mut self, field: &Field) -> Option<Vec<String>> {
        let items = field.node.items();
        let methods = self.read_all(items, parse_method);
        if items.is_empty() && matches!(field.node.value, Value::List(_)) {
            let problem =
                Problem::new(Code::OutOfRange, field.at, "`method` is empty, so nothing could match");
            self.report.error(problem.help("leave it out to match any".to_owned()));
            return None;
        }
        for (index, item) in items.iter().enumerate() {
            if let Some(written) = item.text()
                && items[..index]
                    .iter()
                    .any(|other| other.text().is_some_and(|text| text.text == written.text))
            {
                let message = format!("the method `{}` stands twice", written.text);
                self.report.error(Problem::new(Code::Duplicate, written.at, message));
            }
        }
        (methods.len() == items.len() && !items.is_empty()).then_some(methods)
    }

    fn headers(&mut self, field: &Field) -> Option<Vec<HeaderMatch>> {
        let entries = &field.node.fields()?.entries;
        let mut headers: Vec<HeaderMatch> = Vec::with_capacity(entries.len());
        for entry in entries {
            let Some(value) = entry.node.text() else { continue };
            let Some(header) = self.accept(parse_header(&entry.name, value.text), entry.at) else {
                continue;
            };
            if headers.iter().any(|other| other.name == header.name) {
                let message = format!("the header `{}` stands twice; case has no meaning", entry.name);
                self.report.error(Problem::new(Code::Duplicate, entry.at, message));
            }
            headers.push(header);
        }
        (headers.len() == entries.len()).then_some(headers)
    }

    fn check_distinct(&mut self, matcher: &Matcher, at: At, seen: &mut Vec<(Matcher, At)>) {
        let canonical = canonical(matcher);
        match seen.iter().find(|(other, _)| *other == canonical) {
            Some((_, first)) => self.report.error(
                Problem::new(
                    Code::DuplicateRoute,
                    at,
                    format!("two routes match the same requests: {}", describe(matcher)),
                )
                .also(*first, "the first of them")
                .help("order has no meaning, so change one's conditions or remove it".to_owned()),
            ),
            None => seen.push((canonical, at)),
        }
    }

    fn route_name(
        &mut self,
        fields: &Fields,
        matcher: Option<&Matcher>,
        names: &mut Vec<(String, At)>,
    ) -> String {
        let written = fields.text("name");
        let Some(name) = self.label(written) else {
            return matcher.map(describe).unwrap_or_default();
        };
        let at = written.map_or(At { file: 0, start: 0, end: 0 }, |written| written.at);
        match names.iter().find(|(other, _)| *other == name) {
            Some((_, first)) => self.report.error(
                Problem::new(Code::Duplicate, at, format!("the route name `{name}` stands twice"))
                    .also(*first, "first here"),
            ),
            None => names.push((name.clone(), at)),
        }
        name
    }

    fn action(&mut self, fields: &Fields, at: At) -> Option<Action> {
        let given: Vec<&Field> = ACTIONS.iter().filter_map(|name| fields.find(name)).collect();
        match given[..] {
            [] if ACTIONS.iter().any(|name| fields.probably_has(name)) => None,
            [] => {
                let problem = Problem::new(Code::MissingKey, at, "the route does nothing");
                self.report.error(problem.help("add one of `to`, `respond` and `redirect`".to_owned()));
                None
            }
            [field] => match field.name.as_str() {
                "to" => self.proxy(&field.node),
                "respond" => self.respond(field.node.fields()?),
                _ => self.redirect(field.node.fields()?),
            },
            [first, second, ..] => {
                let message = format!("a route has either `{}` or `{}`, not both", first.name, second.name);
                let problem = Problem::new(Code::KeyConflict, second.at, message).also(first.at, "the other");
                self.report.error(problem.help("make two routes of it, or leave one out".to_owned()));
                self.mark_used(fields);
                None
            }
        }
    }

    /// A route that is refused for another reason still uses its backends.
    fn mark_used(&mut self, fields: &Fields) {
        if let Some(to) = fields.find("to") {
            let _ = self.proxy(&to.node);
        }
    }

    fn proxy(&mut self, to: &Node) -> Option<Action> {
        if let Some(written) = to.text() {
            return Some(Action::Proxy(vec![(self.resolve(written)?, 1)]));
        }
        let entries = &to.fields()?.entries;
        let mut split = Vec::with_capacity(entries.len());
        for entry in entries {
            let index = self.resolve(Written { text: &entry.name, at: entry.at });
            let weight = entry.node.number().and_then(|weight| u32::try_from(weight).ok());
            split.extend(index.zip(weight));
        }
        if split.len() == entries.len() && split.iter().all(|(_, weight)| *weight == 0) {
            let problem = Problem::new(Code::OutOfRange, to.at, "`to` has no backend with a weight above 0");
            self.report.error(problem.help("write `to = { web = 95, canary = 5 }`".to_owned()));
        }
        Some(Action::Proxy(split))
    }

    fn respond(&mut self, fields: &Fields) -> Option<Action> {
        let status = u16::try_from(fields.number("status")?).ok()?;
        let body = fields.text("body")?;
        let content_type = fields.text("content_type")?;
        if [204, 205, 304].contains(&status) && !body.text.is_empty() {
            let message = format!("an answer with status {status} has no body");
            self.report.error(Problem::new(Code::KeyConflict, body.at, message));
        }
        if body.text.len() as u64 > crate::defaults::LARGEST_BUFFER {
            let message = "`body` has more than 16 MiB, and would be held in memory";
            self.report.error(Problem::new(Code::OutOfRange, body.at, message));
        }
        if !is_field_value(content_type.text) || !content_type.text.contains('/') {
            let message = format!("`{}` is not a media type", content_type.text);
            let problem = Problem::new(Code::BadValue, content_type.at, message);
            self.report.error(problem.help("write it as \"application/json\"".to_owned()));
        }
        Some(Action::Respond {
            status,
            body: body.text.to_owned(),
            content_type: content_type.text.to_owned(),
        })
    }

    fn redirect(&mut self, fields: &Fields) -> Option<Action> {
        let location = self.read(fields.text("to"), parse_location);
        let status = u16::try_from(fields.number("status")?).ok()?;
        Some(Action::Redirect { status, location: location? })
    }

    fn upgrade(&mut self, items: &[Node]) -> Vec<String> {
        let mut protocols = Vec::with_capacity(items.len());
        for written in items.iter().filter_map(Node::text) {
            let protocol = written.text.to_ascii_lowercase();
            let problem = |code, message: String| Problem::new(code, written.at, message);
            if protocol == "h2c" {
                let help = "it would carry requests past every route and limit";
                self.report.error(
                    problem(Code::BadValue, "an upgrade to h2c is never allowed".to_owned())
                        .help(help.to_owned()),
                );
            } else if !protocol.split('/').all(is_token) {
                self.report
                    .error(problem(Code::BadValue, format!("`{}` is not a protocol's name", written.text)));
            } else if protocols.contains(&protocol) {
                self.report.error(problem(Code::Duplicate, format!("`{}` stands twice", written.text)));
            }
            protocols.push(protocol);
        }
        protocols
    }
}

/// Absent is fine, wrong is not.
#[allow(clippy::option_option, reason = "absent and wrong are different things here")]
fn whole<T>(condition: Option<Option<T>>) -> Option<Option<T>> {
    match condition {
        None => Some(None),
        Some(read) => read.map(Some),
    }
}

fn timeouts(fields: Option<&Fields>) -> RouteTimeouts {
    let time = |name| fields.and_then(|fields| fields.time(name));
    RouteTimeouts {
        first_byte: time("first_byte"),
        idle: time("idle"),
        tunnel: time("tunnel"),
        total: time("total"),
    }
}

/// Equal for conditions that match the same requests: `/*` is any path, and sets have no order.
fn canonical(matcher: &Matcher) -> Matcher {
    let mut canonical = matcher.clone();
    canonical.path = canonical.path.filter(|path| *path != PathMatch::Prefix(String::new()));
    canonical.methods.sort();
    canonical.headers.sort_by(|a, b| a.name.cmp(&b.name));
    canonical
}

/// The conditions in short, e.g. `GET api.example.com/v1/*`.
fn describe(matcher: &Matcher) -> String {
    let host = match &matcher.host {
        None => String::new(),
        Some(HostMatch::Exact(host)) => host.clone(),
        Some(HostMatch::Wildcard(host)) => format!("*.{host}"),
    };
    let path = match &matcher.path {
        None => "/*".to_owned(),
        Some(PathMatch::Exact(path)) => path.clone(),
        Some(PathMatch::Prefix(path)) => format!("{path}/*"),
    };
    let headers = matcher.headers.iter().map(|header| match &header.value {
        Some(value) => format!("[{}: {value}]", header.name),
        None => format!("[{}]", header.name),
    });
    let methods = (!matcher.methods.is_empty()).then(|| matcher.methods.join(","));
    methods.into_iter().chain([format!("{host}{path}")]).chain(headers).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_named_after_its_conditions() {
        let matcher = Matcher {
            host: Some(HostMatch::Wildcard("example.com".to_owned())),
            path: Some(PathMatch::Prefix("/v1".to_owned())),
            methods: vec!["GET".to_owned(), "HEAD".to_owned()],
            headers: vec![HeaderMatch { name: "x-beta".to_owned(), value: None }],
        };
        assert_eq!(describe(&matcher), "GET,HEAD *.example.com/v1/* [x-beta]");
        assert_eq!(describe(&Matcher::default()), "/*");
    }

    #[test]
    fn every_path_is_no_condition() {
        let every = Matcher { path: Some(PathMatch::Prefix(String::new())), ..Matcher::default() };
        assert_eq!(canonical(&every), Matcher::default());
    }
}
