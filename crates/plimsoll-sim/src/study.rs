//! A scenario that is run: independent jobs, their reports put together, and the verdicts.
//!
//! In go a scenario's jobs, in any order and on any thread, out comes what came of them, always in the order of the file, so the
//! result is the same however it was computed.

use crate::measure::{Bound, Measure};
use crate::report::Report;
use crate::scenario::{Case, Expectation, Scenario};

/// One run: a case, a policy, a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    case: usize,
    policy: usize,
    run: u32,
}

/// What came of a scenario.
#[derive(Debug)]
pub struct Study {
    /// What was run.
    pub scenario: Scenario,
    /// By case and policy; nothing of a case that was skipped.
    pub reports: Vec<Vec<Report>>,
}

/// One expectation, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The case's name.
    pub case: String,
    /// The policy's.
    pub policy: String,
    /// What was measured, in words.
    pub what: String,
    /// What came out; NaN when it was not measured.
    pub value: f64,
    /// What should.
    pub bound: Bound,
    /// Where that number comes from.
    pub why: String,
    /// How it turned out.
    pub verdict: Verdict,
}

/// How an expectation turned out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Holds,
    /// Not as expected.
    Broken,
    /// Not judged, with the reason.
    Skipped(String),
}

impl Scenario {
    /// Everything that has to be run.
    pub fn jobs(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        for (index, case) in self.cases.iter().enumerate().filter(|(_, case)| case.skip.is_none()) {
            for policy in 0..case.policies.len() {
                jobs.extend((0..case.runs).map(|run| Job { case: index, policy, run }));
            }
        }
        jobs
    }

    /// Requests of a job, as a measure of how long it takes.
    pub fn size(&self, job: Job) -> u64 {
        self.cases[job.case].world.requests
    }

    /// Runs one job; `progress` hears from time to time which part of it is done.
    pub fn run(&self, job: Job, progress: &mut dyn FnMut(f64)) -> Report {
        let case = &self.cases[job.case];
        case.world.run_telling(&case.policies[job.policy], self.seed + u64::from(job.run), progress)
    }

    /// Puts the reports of all jobs together; they are in the order of [`Scenario::jobs`].
    pub fn collect(self, reports: Vec<Report>) -> Study {
        let mut by_case: Vec<Vec<Report>> = self.cases.iter().map(|_| Vec::new()).collect();
        for (job, report) in self.jobs().into_iter().zip(reports) {
            match by_case[job.case].get_mut(job.policy) {
                Some(first) => first.merge(&report),
                None => by_case[job.case].push(report),
            }
        }
        Study { scenario: self, reports: by_case }
    }

    /// Runs all jobs one after the other.
    pub fn study(self) -> Study {
        let reports = self.jobs().into_iter().map(|job| self.run(job, &mut |_| {})).collect();
        self.collect(reports)
    }
}

impl Study {
    /// Every expectation with its verdict, in the order of the file.
    pub fn judge(&self) -> Vec<Judged> {
        let cases = self.scenario.cases.iter().zip(&self.reports);
        cases
            .flat_map(|(case, reports)| {
                case.expectations.iter().flat_map(|e| self.judge_one(case, reports, e))
            })
            .collect()
    }

    /// True if nothing that was judged is broken.
    pub fn holds(&self) -> bool {
        self.judge().iter().all(|judged| judged.verdict != Verdict::Broken)
    }

    /// A `*` gives one verdict a policy.
    fn judge_one(&self, case: &Case, reports: &[Report], e: &Expectation) -> Vec<Judged> {
        let judged = |policy: &str, value, verdict| Judged {
            case: case.name.clone(),
            policy: policy.to_owned(),
            what: what(e),
            value,
            bound: e.bound,
            why: e.why.clone(),
            verdict,
        };
        if let Some(why) = case.skip.as_ref().or(e.skip.as_ref()) {
            return vec![judged(&e.policy, f64::NAN, Verdict::Skipped(why.clone()))];
        }
        let names: Vec<&str> = match e.policy.as_str() {
            "*" => case.policies.iter().map(|p| p.name.as_str()).collect(),
            name => vec![name],
        };
        let of = |name: &str| {
            let found = case.policies.iter().position(|p| p.name == name).and_then(|i| reports.get(i));
            found.map(|report| e.measure.of(report, &e.scope)).ok_or_else(|| self.why_not(name))
        };
        let verdict = |name: &&str| {
            let value = of(name).and_then(|value| match &e.over {
                Some(other) => of(other).map(|other| value / other),
                None => Ok(value),
            });
            match value {
                Ok(value) if e.bound.holds(value) => judged(name, value, Verdict::Holds),
                Ok(value) => judged(name, value, Verdict::Broken),
                Err(why) => judged(name, f64::NAN, Verdict::Skipped(why)),
            }
        };
        names.iter().map(verdict).collect()
    }

    fn why_not(&self, policy: &str) -> String {
        let pending = self.scenario.pending.iter().find(|(name, _)| name == policy);
        pending.map_or_else(|| format!("{policy} was not run"), |(name, why)| format!("{name}: {why}"))
    }
}

fn what(e: &Expectation) -> String {
    let unit = match e.measure {
        Measure::Recovery => " time",
        _ => "",
    };
    let over = e.over.as_ref().map_or(String::new(), |over| format!(" / that of {over}"));
    format!("{}{unit}{}{over}", e.measure.name(), e.scope_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study(expect: &str) -> Vec<Judged> {
        let text = format!(
            "about = \"x\"\npolicies = [\"p2c\", \"random\"]\n[[pending]]\npolicy = \"soon\"\nwhy = \"not built\"\n\
             [world]\nrequests = 5000\nservers = [{{ count = 4 }}]\n[[case]]\nname = \"c\"\nexpect = [{expect}]\n"
        );
        let scenario = Scenario::parse("x", "x.toml", &text, &|_| Err(String::new()));
        scenario.unwrap_or_else(|e| panic!("{e}")).study().judge()
    }

    #[test]
    fn says_what_holds_what_is_broken_and_what_was_not_judged() {
        let judged = study(
            "{ policy = \"p2c\", measure = \"mean\", at_most = 10, why = \"a\" }, \
             { policy = \"p2c\", measure = \"mean\", at_most = 0.5, why = \"a\" }, \
             { policy = \"soon\", measure = \"mean\", at_most = 1, why = \"a\" }, \
             { policy = \"*\", measure = \"little\", is = 1, within = 0.02, why = \"a\" }, \
             { policy = \"p2c\", over = \"random\", measure = \"mean\", at_most = 0.9, why = \"a\" }, \
             { policy = \"p2c\", measure = \"moved\", at_most = 0.9, why = \"nothing was removed\" }",
        );
        let verdicts: Vec<&Verdict> = judged.iter().map(|j| &j.verdict).collect();
        let skipped = Verdict::Skipped("soon: not built".to_owned());
        let (holds, broken) = (&Verdict::Holds, &Verdict::Broken);
        assert_eq!(verdicts, [holds, broken, &skipped, holds, holds, holds, broken]);
    }
}
