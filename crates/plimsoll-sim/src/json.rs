//! What came of a scenario, for machines.
//!
//! One object a scenario; keys never change their meaning. A number that does not exist (no request was answered) is `null`.

use serde_json::{Value, json};

use crate::report::Report;
use crate::scenario::Case;
use crate::study::{Judged, Study, Verdict};

impl Study {
    /// The figures of every case and policy, and every verdict.
    pub fn to_json(&self) -> Value {
        let cases = self.scenario.cases.iter().zip(&self.reports);
        json!({
            "scenario": self.scenario.name,
            "about": self.scenario.about,
            "seed": self.scenario.seed,
            "holds": self.holds(),
            "cases": cases.map(|(case, reports)| of_case(case, reports)).collect::<Vec<_>>(),
            "expectations": self.judge().iter().map(of_judged).collect::<Vec<_>>(),
            "pending": self.scenario.pending.iter().map(|(policy, why)| json!({ "policy": policy, "why": why })).collect::<Vec<_>>(),
        })
    }
}

fn of_case(case: &Case, reports: &[Report]) -> Value {
    let policies = case.policies.iter().zip(reports).map(|(policy, report)| of_report(&policy.name, report));
    json!({ "case": case.name, "skipped": case.skip, "policies": policies.collect::<Vec<_>>() })
}

fn of_report(policy: &str, report: &Report) -> Value {
    let q = |q| number(report.latency.quantile(q));
    json!({
        "policy": policy,
        "mean": number(report.latency.mean()),
        "mean_confidence": number(report.confidence()),
        "p50": q(0.5),
        "p90": q(0.9),
        "p99": q(0.99),
        "p999": q(0.999),
        "good": report.ends.good,
        "failed": report.ends.failed,
        "refused": report.ends.refused,
        "timed_out": report.ends.timed_out,
        "stuck": report.stuck,
        "assigned": report.assigned,
        "mean_in_system": number(report.mean_in_system),
        "wasted_work": number(report.wasted),
        "span": number(report.span),
        "events": report.events,
    })
}

fn of_judged(judged: &Judged) -> Value {
    let (verdict, reason) = match &judged.verdict {
        Verdict::Holds => ("holds", None),
        Verdict::Broken => ("broken", None),
        Verdict::Skipped(why) => ("skipped", Some(why)),
    };
    json!({
        "case": judged.case,
        "policy": judged.policy,
        "measure": judged.what,
        "value": number(judged.value),
        "expected": judged.bound.to_string(),
        "why": judged.why,
        "verdict": verdict,
        "reason": reason,
    })
}

/// JSON has no infinity: what never happens is `null`, as what does not exist.
fn number(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { Value::Null }
}
