//! Limits that are found out.

use super::Compiler;
use crate::defaults;
use crate::model::AdaptiveConcurrency;
use crate::node::{Fields, Value};
use crate::problem::{Code, Problem};

impl Compiler<'_> {
    /// `None` where limits are what the file says.
    pub(super) fn adaptive(&mut self, backend: &Fields, max_requests: u32) -> Option<AdaptiveConcurrency> {
        let fields = backend.table("adaptive_concurrency")?;
        let adaptive = AdaptiveConcurrency {
            least: fields.count("least")?,
            start: fields.count("start")?,
            tolerance: fields.count("tolerance").unwrap_or(defaults::ADAPTIVE_TOLERANCE as u32),
            probe: fields.time("probe")?,
        };
        for (name, number, most, other) in [
            ("least", adaptive.least, max_requests, "max_requests"),
            ("least", adaptive.least, adaptive.start, "start"),
        ] {
            if number > most
                && let Some(field) = fields.find(name).filter(|field| field.node.given)
            {
                let message = format!("`{name}` is more than `{other}`, which is {most}");
                self.report.error(Problem::new(Code::KeyConflict, field.node.at, message));
                break;
            }
        }
        let no_queue = backend.find("queue").filter(|queue| matches!(queue.node.value, Value::Bool(false)));
        if let (Some(field), Some(queue)) = (backend.find("adaptive_concurrency"), no_queue) {
            let message = "what is above a limit that is found out is refused at once";
            let help = "leave `queue` out, and it waits up to a second for room; the limit is sometimes halved for a moment, to see how fast a server is without load";
            let problem = Problem::new(Code::Suspicious, field.at, message).also(queue.at, "nothing waits");
            self.report.warn(problem.help(help.to_owned()));
        }
        Some(adaptive)
    }
}
