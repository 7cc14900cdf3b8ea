//! The table of further attempts: what backends' requests needed beyond their first try, and what they were not given.
//!
//! Only backends where anything of it has happened; a denied retry is an error that a client saw.

use serde_json::Value;

use super::{array, find, number, text};
use crate::table::Table;

/// Since the start, or since `before`.
pub(super) fn table(now: &Value, before: Option<&Value>) -> String {
    let heads = ["FURTHER ATTEMPTS", "RETRIES", "DENIED", "HEDGES", "WON", "DENIED", "BUDGET"];
    let mut table = Table::new(&heads.map(str::to_owned));
    for backend in array(&now["backends"]) {
        let old = before.and_then(|before| find(&before["backends"], "name", &backend["name"]));
        let counts = counts(backend);
        let old = old.map_or([0; 5], self::counts);
        // Less than before was counted anew.
        let since = |n: usize| if counts[n] < old[n] { counts[n] } else { counts[n] - old[n] };
        let since = [0, 1, 2, 3, 4].map(since);
        if since == [0; 5] {
            continue;
        }
        let budget = format!("{} left", number(&backend["retry_budget"]));
        let cells = since.map(|n| n.to_string()).into_iter();
        table.row([text(&backend["name"])].into_iter().chain(cells).chain([budget]).collect());
    }
    table.text()
}

/// Retries, and those denied; hedges, those that won, and those denied.
fn counts(backend: &Value) -> [u64; 5] {
    let sum = |counts: &Value| -> u64 {
        counts.as_object().map_or(0, |counts| counts.values().filter_map(Value::as_u64).sum())
    };
    let (hedges, won) = (&backend["hedges"], backend["hedges"]["won"].as_u64());
    [
        backend["retries"].as_u64().unwrap_or(0),
        sum(&backend["retries_denied"]),
        sum(hedges),
        won.unwrap_or(0),
        sum(&backend["hedges_denied"]),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(retries: u64) -> Value {
        json!({ "backends": [
            {"name": "calm", "retries": 0, "retry_budget": 100},
            {
                "name": "busy", "retries": retries, "retry_budget": 3, "retries_denied": {"budget": 2, "time": 1},
                "hedges": {"won": 4, "lost": 5}, "hedges_denied": {"budget": 0, "load": 6, "no_server": 0},
            },
        ]})
    }

    fn cells(text: &str) -> Vec<&str> {
        text.lines().nth(2).into_iter().flat_map(str::split_whitespace).collect()
    }

    #[test]
    fn backends_that_needed_more_than_one_attempt_are_shown() {
        let text = table(&shown(7), None);
        assert_eq!(cells(&text), ["busy", "7", "3", "9", "4", "6", "3", "left"], "{text}");
        assert!(!text.contains("calm"), "{text}");
    }

    #[test]
    fn a_later_look_shows_what_happened_in_between() {
        let text = table(&shown(9), Some(&shown(7)));
        assert_eq!(cells(&text), ["busy", "2", "0", "0", "0", "0", "3", "left"], "{text}");
        assert_eq!(table(&shown(7), Some(&shown(7))), "", "nothing has happened");
    }
}
