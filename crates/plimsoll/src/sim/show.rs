//! What people see of a scenario: a table of figures for each case, then every expectation with its verdict.

use plimsoll_sim::{Report, SHIPPED, Scenario, Study, Verdict, figure};

use crate::table::Table;

/// The scenarios that ship, a line each.
pub(crate) fn list() -> String {
    let about = |name: &str| Scenario::shipped(name).map_or(String::new(), |scenario| scenario.about);
    SHIPPED.iter().map(|(name, _)| format!("{name:<17} {}\n", about(name))).collect()
}

/// Everything about one scenario.
pub(crate) fn study(study: &Study) -> String {
    let scenario = &study.scenario;
    let mut out = format!("{}: {} (seed {})\n", scenario.name, scenario.about, scenario.seed);
    for (case, reports) in scenario.cases.iter().zip(&study.reports) {
        if let Some(why) = &case.skip {
            out += &format!("\n{}: SKIPPED: {why}\n", case.name);
            continue;
        }
        let requests = case.world.requests * u64::from(case.runs);
        let servers = case.world.servers.len();
        out += &format!("\n{}: {servers} servers, {requests} requests", case.name);
        out += &figures(case.policies.iter().map(|p| p.name.as_str()), reports);
    }
    out + &verdicts(study) + "\n"
}

fn figures<'a>(names: impl Iterator<Item = &'a str>, reports: &[Report]) -> String {
    let heads = ["POLICY", "MEAN", "95 % CI", "P50", "P90", "P99", "P99.9", "FULLEST", "GOOD", "LOST"];
    let mut table = Table::new(&heads.map(str::to_owned));
    for (name, report) in names.zip(reports) {
        let q = |q| figure(report.latency.quantile(q));
        let assigned: u64 = report.assigned.iter().sum();
        let most = report.assigned.iter().max().copied().unwrap_or(0);
        let fullest = most as f64 * report.assigned.len() as f64 / assigned as f64;
        let good = report.ends.good as f64 / (report.ends.all() + report.stuck).max(1) as f64;
        table.row(vec![
            name.to_owned(),
            figure(report.latency.mean()),
            format!("± {}", figure(report.confidence())),
            q(0.5),
            q(0.9),
            q(0.99),
            q(0.999),
            figure(fullest),
            format!("{:.2} %", good * 100.0),
            lost(report),
        ]);
    }
    table.text()
}

/// What did not end well, in words.
fn lost(report: &Report) -> String {
    let ends = report.ends;
    let parts = [
        (ends.failed, "failed"),
        (ends.refused, "refused"),
        (ends.timed_out, "timed out"),
        (report.stuck, "stuck"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    parts.collect::<Vec<_>>().join(", ")
}

fn verdicts(study: &Study) -> String {
    let judged = study.judge();
    if judged.is_empty() {
        return String::new();
    }
    let heads = ["", "CASE", "POLICY", "MEASURE", "IS", "EXPECTED", "WHY"].map(str::to_owned);
    let mut table = Table::new(&heads);
    let mut counts = [0; 3];
    for one in &judged {
        let (index, verdict, why) = match &one.verdict {
            Verdict::Holds => (0, "ok", one.why.clone()),
            Verdict::Broken => (1, "BROKEN", one.why.clone()),
            Verdict::Skipped(reason) => (2, "SKIPPED", reason.clone()),
        };
        counts[index] += 1;
        let (case, policy) = (one.case.clone(), one.policy.clone());
        let value = if index == 2 { "-".to_owned() } else { figure(one.value) };
        table.row(vec![
            verdict.to_owned(),
            case,
            policy,
            one.what.clone(),
            value,
            one.bound.to_string(),
            why,
        ]);
    }
    let [holds, broken, skipped] = counts;
    let mut out = format!("{}\n{holds} as expected, {broken} BROKEN", table.text());
    if skipped > 0 {
        out += &format!(", {skipped} SKIPPED");
    }
    out + "\n"
}
