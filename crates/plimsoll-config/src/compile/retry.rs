//! A route's further attempts: how often, after what, within which budget, and when a second server is asked beside the first.

use super::Compiler;
use crate::address::Fault;
use crate::defaults::{LEAST_QUANTILE, LONGEST_HEDGE, SHORTEST};
use crate::model::{Hedge, Retry, RetryOn, Share};
use crate::node::Fields;
use crate::problem::{Code, Problem};
use crate::share::parse_share;
use crate::units::{format_duration, parse_duration};

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
                "timeout" => on.timeout = true,
                "502" => on.bad_gateway = true,
                "503" => on.unavailable = true,
                "504" => on.gateway_timeout = true,
                _ => {}
            }
        }
        on
    }
}

impl Compiler<'_> {
    /// What a route's `hedge` says.
    pub(super) fn hedge(&mut self, route: &Fields) -> Option<Hedge> {
        let field = route.find("hedge")?;
        if route.find("sticky").is_some() {
            let message = "`hedge` has no meaning with `sticky`";
            let help = "a second server is one where the session does not belong: leave one of the two out";
            self.report.error(Problem::new(Code::KeyConflict, field.at, message).help(help.to_owned()));
        }
        self.read(field.node.fields()?.text("after"), parse_after)
    }
}

/// `"p95"`, `"p99.9"` or a time.
fn parse_after(text: &str) -> Result<Hedge, Fault> {
    let how = |code, message: String| {
        Fault::new(code, message)
            .help("write \"p95\" up to \"p99.9\" for what most answers take, or a time such as \"50ms\"")
    };
    if let Some(percent) = text.strip_prefix('p') {
        let (whole, tenth) = percent.split_once('.').unwrap_or((percent, "0"));
        let digits =
            |text: &str, most| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole, 2) || !digits(tenth, 1) {
            return Err(how(Code::BadUnit, format!("`{text}` is not a quantile")));
        }
        let per_mille: u32 = format!("{whole}{tenth}").parse().unwrap_or(0);
        if per_mille < LEAST_QUANTILE {
            let message = format!("`{text}` would send more than one request in twenty twice");
            return Err(how(Code::OutOfRange, message));
        }
        return Ok(Hedge::Quantile(per_mille));
    }
    let time = parse_duration(text)
        .map_err(|_| how(Code::BadUnit, format!("`after` is neither a quantile nor a time: `{text}`")))?;
    if time < SHORTEST || time > LONGEST_HEDGE {
        let most = format_duration(LONGEST_HEDGE);
        return Err(Fault::new(Code::OutOfRange, format!("`after` must be from 1ms to {most}")));
    }
    Ok(Hedge::After(time))
}

fn parse_budget(text: &str) -> Result<Share, Fault> {
    parse_share(text, "budget")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn reads_when_a_second_server_is_asked() {
        for (text, expected) in [
            ("p95", Hedge::Quantile(950)),
            ("p99", Hedge::Quantile(990)),
            ("p99.9", Hedge::Quantile(999)),
            ("p97.5", Hedge::Quantile(975)),
            ("50ms", Hedge::After(Duration::from_millis(50))),
            ("1m", Hedge::After(Duration::from_secs(60))),
        ] {
            assert_eq!(parse_after(text), Ok(expected), "{text}");
        }
        for text in
            ["", "p", "p5", "p94.9", "p100", "p99.99", "p-1", "p95%", "95", "P95", "0s", "61s", "true"]
        {
            assert!(parse_after(text).is_err(), "{text}");
        }
    }
}
