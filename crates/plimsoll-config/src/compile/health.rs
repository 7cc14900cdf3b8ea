//! A backend's health: when servers are passed over, and when all serve.

use super::Compiler;
use crate::model::Eject;
use crate::node::Fields;
use crate::problem::{Code, Problem};

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
}
