//! Findings as a table for people and as JSON for programs.
//!
//! Findings go in, text comes out. A contract that a policy does not promise is left out of the table and told in the JSON, with why.

use plimsoll_sim::contracts::{Finding, Reading};
use serde_json::{Value, json};

use crate::table::Table;

/// A row for each that was measured, then what broke.
pub(super) fn table(findings: &[Finding], notes: &[String]) -> String {
    let heads = ["POLICY", "CONTRACT", "FIGURE", "BOUND", "", "WHAT IS PROMISED"].map(str::to_owned);
    let mut table = Table::new(&heads);
    let (mut kept, mut broken) = (0, 0);
    for finding in findings {
        let Reading::Measured { figure, bound, unit } = finding.reading else { continue };
        let holds = finding.reading.holds();
        *if holds { &mut kept } else { &mut broken } += 1;
        table.row(vec![
            finding.policy.to_owned(),
            finding.contract.to_owned(),
            number(figure),
            format!("{} {}", number(bound), unit.name()),
            if holds { "ok" } else { "BROKEN" }.to_owned(),
            finding.says.to_owned(),
        ]);
    }
    let notes: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
    let end = match broken {
        0 => format!("all {kept} contracts are kept\n"),
        _ => format!("{broken} of {} contracts are BROKEN\n", kept + broken),
    };
    format!("{}\n{notes}{end}", table.text().trim_start_matches('\n'))
}

/// `{ "ok": …, "findings": […], "notes": […] }`.
pub(super) fn json(findings: &[Finding], notes: &[String]) -> String {
    let row = |finding: &Finding| -> Value {
        let (policy, contract, says) = (finding.policy, finding.contract, finding.says);
        match finding.reading {
            // JSON has no infinity: what no bound could hold is null.
            Reading::Measured { figure, bound, unit } => json!({
                "policy": policy, "contract": contract, "says": says, "promised": true, "holds": finding.reading.holds(),
                "figure": figure.is_finite().then_some(figure), "bound": bound, "unit": unit.name(),
            }),
            Reading::Unpromised(why) => json!({
                "policy": policy, "contract": contract, "says": says, "promised": false, "why": why,
            }),
        }
    };
    let page = json!({
        "ok": findings.iter().all(|finding| finding.reading.holds()),
        "findings": findings.iter().map(row).collect::<Vec<_>>(),
        "notes": notes,
    });
    format!("{page:#}\n")
}

/// Four digits that matter, and no more zeros than needed.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "none".to_owned();
    }
    if value.fract() == 0.0 && value.abs() < 1e9 {
        return format!("{value:.0}");
    }
    let places = (3.0 - value.abs().log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.places$}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use plimsoll_sim::contracts::Unit;

    use super::*;

    fn finding(reading: Reading) -> Finding {
        Finding { policy: "p2c", contract: "x", says: "what", reading }
    }

    #[test]
    fn what_is_broken_is_said_in_the_row_and_at_the_end() {
        let measured = |figure| finding(Reading::Measured { figure, bound: 1.0, unit: Unit::Part });
        let text = table(&[measured(0.5), measured(1.5), finding(Reading::Unpromised("no"))], &[]);
        let rows: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(rows[1..3], ["p2c x 0.5 1 part ok what", "p2c x 1.5 1 part BROKEN what"], "{text}");
        assert!(text.ends_with("1 of 2 contracts are BROKEN\n"), "{text}");
        let page: Value = serde_json::from_str(&json(&[measured(f64::INFINITY)], &[])).unwrap();
        assert_eq!((&page["ok"], &page["findings"][0]["figure"]), (&json!(false), &Value::Null));
    }

    #[test]
    fn numbers_have_the_digits_that_matter() {
        for (value, text) in
            [(0.0, "0"), (4.0, "4"), (0.000_312_5, "0.000313"), (45.9696, "45.97"), (0.08, "0.08")]
        {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(f64::NAN), "none");
    }
}
