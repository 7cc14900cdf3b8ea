//! Rate limits of routes.

use std::time::Duration;

use super::Compiler;
use crate::address::Fault;
use crate::model::{HashKey, Limit};
use crate::node::{Fields, Node};
use crate::pattern::parse_hash_key;
use crate::problem::{Code, Problem};

impl Compiler<'_> {
    /// In the order of the file: a request has to pass all of them.
    pub(super) fn limits(&mut self, items: &[Node]) -> Vec<Limit> {
        let mut limits: Vec<Limit> = Vec::new();
        for item in items {
            let Some(limit) = item.fields().and_then(|fields| self.limit(fields)) else { continue };
            if limits.iter().any(|other| other.key == limit.key && other.per == limit.per) {
                let message = "two limits count the same requests in the same time".to_owned();
                self.report.error(Problem::new(Code::Duplicate, item.at, message));
            }
            limits.push(limit);
        }
        limits
    }

    fn limit(&mut self, fields: &Fields) -> Option<Limit> {
        let rate = self.read(fields.text("rate"), parse_rate);
        let key = self.read(fields.text("key"), parse_hash_key).unwrap_or(HashKey::ClientIp);
        let (requests, per) = rate?;
        let in_a_second = (u64::from(requests) * 1_000 / per.as_millis() as u64).max(1);
        let burst = fields.count("burst").unwrap_or(u32::try_from(in_a_second).unwrap_or(u32::MAX));
        Some(Limit { requests, per, burst, key, dry_run: fields.flag("dry_run") })
    }
}

/// Reads `"100/s"`, `"30/m"`, `"1000/h"`.
fn parse_rate(text: &str) -> Result<(u32, Duration), Fault> {
    let how = || {
        Fault::new(Code::BadUnit, format!("`rate` is not a rate: `{text}`"))
            .help("write requests in a second, a minute or an hour: \"100/s\", \"30/m\" or \"1000/h\"")
    };
    let (requests, unit) = text.split_once('/').ok_or_else(how)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(how()),
    };
    if requests.is_empty() || !requests.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(how());
    }
    let requests: u32 = requests.parse().map_err(|_| how())?;
    if !(1..=1_000_000).contains(&requests) {
        return Err(Fault::new(Code::OutOfRange, "`rate` must be from 1 to 1000000 requests"));
    }
    Ok((requests, Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_unit() {
        assert_eq!(parse_rate("100/s").ok(), Some((100, Duration::from_secs(1))));
        assert_eq!(parse_rate("30/m").ok(), Some((30, Duration::from_secs(60))));
        assert_eq!(parse_rate("1000/h").ok(), Some((1_000, Duration::from_secs(3_600))));
        for text in
            ["", "100", "100/", "/s", "100/d", "-1/s", "1.5/s", "0/s", "1000001/s", "99999999999/s", "1 /s"]
        {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
