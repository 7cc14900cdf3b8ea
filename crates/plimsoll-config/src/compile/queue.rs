//! A backend's queue and a route's priority.

use super::Compiler;
use crate::address::Fault;
use crate::model::{Class, Priority, Queue};
use crate::node::Fields;
use crate::pattern::{is_token, parse_hash_key};
use crate::problem::{Code, Problem};

impl Compiler<'_> {
    /// `None` if requests are not to wait.
    pub(super) fn queue(&mut self, backend: &Fields) -> Option<Queue> {
        let fields = backend.table("queue")?;
        let fair = self.read(fields.text("fair"), parse_hash_key);
        let (timeout, target) = (fields.time("timeout")?, fields.time("target")?);
        if let Some(field) = fields.find("target").filter(|_| target > timeout) {
            let message = "`target` is longer than `timeout`, so the backend is never overloaded";
            let help = "requests then go first in, first out until their time is up; give `target` less, or the same as `timeout` if that is meant";
            // Of a default nobody wrote anything that could be shown.
            let at = if field.node.given { field.node.at } else { fields.find("timeout")?.node.at };
            self.report.warn(Problem::new(Code::Suspicious, at, message).help(help.to_owned()));
        }
        Some(Queue { max: fields.count("max")?, timeout, target, fair })
    }

    /// What a route's `priority` says.
    pub(super) fn priority(&mut self, route: &Fields) -> Priority {
        let Some(fields) = route.table("priority") else { return Priority::default() };
        let class = fields.text("class").and_then(|written| Class::named(written.text.as_bytes()));
        let header = self.read(fields.text("header"), parse_field_name);
        Priority { class: class.unwrap_or_default(), header }
    }
}

fn parse_field_name(text: &str) -> Result<String, Fault> {
    if is_token(text) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Fault::new(Code::BadValue, format!("`{text}` is not a header's name"))
        .help("write it as \"x-priority\""))
}
