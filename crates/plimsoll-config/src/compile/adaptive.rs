//! Limits that are found out.

use super::Compiler;
use crate::defaults;
use crate::model::AdaptiveConcurrency;
use crate::node::Fields;
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
        Some(adaptive)
    }
}
