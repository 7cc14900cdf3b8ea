//! A route's further attempts: how often, after what, and within which budget.

use super::Compiler;
use crate::address::Fault;
use crate::model::{Retry, RetryOn, Share};
use crate::node::Fields;
use crate::problem::{Code, Problem};
use crate::share::parse_share;

impl Compiler<'_> {
    /// What a route's `retry` says.
    pub(super) fn retry(&mut self, table: Option<&Fields>) -> Retry {
        let usual = Retry::default();
        let Some(table) = table else { return usual };
        Retry {
            attempts: table.count("attempts").unwrap_or(usual.attempts),
            budget: self.read(table.text("budget"), parse_budget).unwrap_or(usual.budget),
            on: self.retry_on(table),
        }
    }

    fn retry_on(&mut self, table: &Fields) -> RetryOn {
        let mut on = RetryOn::NEVER;
        for (index, item) in table.items("on").iter().enumerate() {
            let Some(word) = item.text() else { continue };
            if table.items("on")[..index]
                .iter()
                .any(|other| other.text().is_some_and(|o| o.text == word.text))
            {
                let message = format!("`{}` stands twice", word.text);
                self.report.error(Problem::new(Code::Duplicate, word.at, message));
            }
            match word.text {
                "connect" => on.connect = true,
                "reset" => on.reset = true,
                "502" => on.bad_gateway = true,
                "503" => on.unavailable = true,
                "504" => on.gateway_timeout = true,
                _ => {}
            }
        }
        on
    }
}

fn parse_budget(text: &str) -> Result<Share, Fault> {
    parse_share(text, "budget")
}
