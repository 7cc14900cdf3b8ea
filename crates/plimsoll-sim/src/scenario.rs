//! A scenario: worlds, policies to compare in them, and what is expected.
//!
//! In goes the text of a scenario file, out comes something to run or a problem with file, line and column. Those that ship
//! are in `shipped`. What cannot be judged yet says why, and is shown as skipped.

use std::ops::Range;

use plimsoll_config::model;
use serde::Deserialize;
use toml::Spanned;

use crate::arrivals::{Traced, parse_trace};
use crate::measure::{Bound, Measure, Scope};
use crate::policy::Policy;
use crate::quantity::Count;
use crate::spec::{Problem, WorldSpec};
use crate::world::{Proxy, World};

/// Worlds, policies and expectations.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// As it is asked for.
    pub name: String,
    /// What it is about, in a sentence.
    pub about: String,
    /// What its chance begins with.
    pub seed: u64,
    /// At least one.
    pub cases: Vec<Case>,
    /// Policies that are left out, with the reason.
    pub pending: Vec<(String, String)>,
}

/// One world with its policies and expectations.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Unique in the scenario.
    pub name: String,
    /// The world.
    pub world: World,
    /// What is compared in it.
    pub policies: Vec<Policy>,
    /// Runs with seeds of their own, added up.
    pub runs: u32,
    /// Why it is not run.
    pub skip: Option<String>,
    /// What should come out.
    pub expectations: Vec<Expectation>,
}

/// What should come out.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// Of which policy; `*` is each of the case.
    pub policy: String,
    /// What is measured.
    pub measure: Measure,
    /// How its scope reads: ` of slow`, ` from 10 to 20`.
    pub scope_text: String,
    pub(crate) scope: Scope,
    /// Divided by the same of this policy.
    pub over: Option<String>,
    /// What it should be.
    pub bound: Bound,
    /// Where the number comes from.
    pub why: String,
    /// Why it is not judged.
    pub skip: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    about: String,
    seed: Option<u64>,
    policies: Vec<Spanned<PolicySpec>>,
    #[serde(default)]
    pending: Vec<Pending>,
    #[serde(default)]
    world: WorldSpec,
    case: Vec<Spanned<CaseSpec>>,
}

/// A `balance` by name, or with a name and further keys of the backend.
#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum PolicySpec {
    Name(String),
    Named(Named),
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    balance: toml::Value,
    #[serde(default)]
    keys: toml::Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    policy: String,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseSpec {
    name: String,
    policies: Option<Vec<Spanned<PolicySpec>>>,
    runs: Option<Count>,
    skip: Option<String>,
    #[serde(default)]
    world: WorldSpec,
    #[serde(default)]
    expect: Vec<Spanned<ExpectSpec>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectSpec {
    policy: Spanned<String>,
    measure: Measure,
    of: Option<Spanned<String>>,
    level: Option<usize>,
    window: Option<[f64; 2]>,
    over: Option<Spanned<String>>,
    is: Option<f64>,
    within: Option<f64>,
    between: Option<[f64; 2]>,
    at_least: Option<f64>,
    at_most: Option<f64>,
    why: String,
    skip: Option<String>,
}

impl Scenario {
    /// Reads a scenario. `path` is for problems, `name` for what is shown; `trace` gives the text of a file that it names.
    ///
    /// # Errors
    /// The first problem, as `path:line:column: what`, with the line.
    pub fn parse(
        name: &str,
        path: &str,
        text: &str,
        trace: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<Scenario, String> {
        let file: File = toml::from_str(text).map_err(|error| {
            placed(path, text, &(error.span().unwrap_or(0..0), error.message().to_owned()))
        })?;
        let traced = |name: &str| parse_trace(&trace(name)?).map_err(|error| format!("{name}: {error}"));
        file.scenario(name, &traced).map_err(|problem| placed(path, text, &problem))
    }

    /// The same cases with other policies in all of them.
    pub fn comparing(mut self, policies: &[Policy]) -> Scenario {
        self.cases.iter_mut().for_each(|case| case.policies = policies.to_vec());
        self
    }

    /// The same story told to a user's servers: every group is played by its part of them, in the order of the file. A server's
    /// speed is taken to be as its weight says; `config` is where the backend stands, at `index`, and tells of retries and timeouts. What was expected of the scenario's own servers is not expected of these.
    ///
    /// # Errors
    /// When there are fewer servers than parts.
    pub fn with_servers(
        mut self,
        backend: &model::Backend,
        config: &model::Config,
        index: usize,
    ) -> Result<Scenario, String> {
        for case in &mut self.cases {
            let (parts, servers) = (case.world.groups.len(), backend.servers.len());
            if servers < parts {
                let names: Vec<&str> = case.world.groups.iter().map(|(name, _)| name.as_str()).collect();
                return Err(format!(
                    "{} has {parts} parts ({}), and {} has only {servers} to play them",
                    self.name,
                    names.join(", "),
                    backend.name
                ));
            }
            case.world = case.world.played_by(&backend.servers);
            case.world.proxy = route_of(config, index, case.world.unit_ms).unwrap_or(case.world.proxy);
            case.expectations.clear();
        }
        Ok(self)
    }
}

/// What the first route to a backend says about retries and the first byte; `None` where no route leads there.
fn route_of(config: &model::Config, backend: usize, unit_ms: f64) -> Option<Proxy> {
    let leads = |route: &&model::Route| match &route.action {
        model::Action::Proxy(backends) => backends.iter().any(|&(index, _)| index == backend),
        _ => false,
    };
    let route = config.routes.iter().find(leads)?;
    let first_byte = route.timeouts.first_byte.unwrap_or(config.timeouts.first_byte);
    let first_byte = Some(first_byte.as_secs_f64() * 1e3 / unit_ms);
    Some(Proxy {
        first_byte,
        retries: route.retry.attempts,
        idempotent: true,
        on: route.retry.on,
        budget: route.retry.budget,
        hedge: route.hedge,
    })
}

impl File {
    fn scenario(
        self,
        name: &str,
        trace: &dyn Fn(&str) -> Result<Vec<Traced>, String>,
    ) -> Result<Scenario, Problem> {
        let pending: Vec<(String, String)> = self.pending.into_iter().map(|p| (p.policy, p.why)).collect();
        let policies = |specs: &[Spanned<PolicySpec>]| {
            let wanted =
                specs.iter().filter(|spec| !pending.iter().any(|(name, _)| name == spec.as_ref().name()));
            wanted.map(|s| s.as_ref().policy().map_err(|e| (s.span(), e))).collect::<Result<Vec<_>, _>>()
        };
        let usual = policies(&self.policies)?;
        let mut cases: Vec<Case> = Vec::new();
        for spec in self.case {
            let (at, spec) = (spec.span(), spec.into_inner());
            if cases.iter().any(|case| case.name == spec.name) {
                return Err((at, format!("there are two cases \"{}\"", spec.name)));
            }
            let case = Case {
                world: spec.world.over(&self.world).world(&at, trace)?,
                policies: spec.policies.as_deref().map_or_else(|| Ok(usual.clone()), policies)?,
                name: spec.name,
                runs: spec.runs.map_or(1, |n| n.0),
                skip: spec.skip,
                expectations: Vec::new(),
            };
            let known = |name: &str| {
                name == "*"
                    || case.policies.iter().any(|p| p.name == name)
                    || pending.iter().any(|(policy, _)| policy == name)
            };
            let judge = |e: Spanned<ExpectSpec>| e.as_ref().expectation(&e.span(), &case.world, &known);
            let expectations = spec.expect.into_iter().map(judge).collect::<Result<Vec<_>, _>>()?;
            cases.push(Case { expectations, ..case });
        }
        if cases.is_empty() {
            return Err((0..0, "a scenario needs a [[case]]".to_owned()));
        }
        Ok(Scenario {
            name: name.to_owned(),
            about: self.about,
            seed: self.seed.unwrap_or(1),
            cases,
            pending,
        })
    }
}

impl PolicySpec {
    fn name(&self) -> &str {
        match self {
            PolicySpec::Name(name) => name,
            PolicySpec::Named(named) => &named.name,
        }
    }

    fn policy(&self) -> Result<Policy, String> {
        match self {
            PolicySpec::Name(name) => Policy::parse(name),
            PolicySpec::Named(named) => {
                let balance = match &named.balance {
                    toml::Value::String(name) => name.clone(),
                    other => other.to_string(),
                };
                let keys: Vec<String> =
                    named.keys.iter().map(|(key, value)| format!("{key} = {value}")).collect();
                Ok(Policy { name: named.name.clone(), ..Policy::with(&balance, &keys.join("\n"))? })
            }
        }
    }
}

impl ExpectSpec {
    fn expectation(
        &self,
        at: &Range<usize>,
        world: &World,
        known: &dyn Fn(&str) -> bool,
    ) -> Result<Expectation, Problem> {
        for policy in [Some(&self.policy), self.over.as_ref()].into_iter().flatten() {
            if !known(policy.as_ref()) {
                return Err((policy.span(), format!("the case has no policy \"{}\"", policy.as_ref())));
            }
        }
        let servers = match &self.of {
            None => 0..world.servers.len(),
            Some(name) => {
                let group = world.group(name.as_ref());
                group.ok_or_else(|| (name.span(), format!("there is no group \"{}\"", name.as_ref())))?
            }
        };
        let bounds = [
            self.is.map(|is| Bound::Near(is, self.within.unwrap_or(0.0))),
            self.between.map(|[low, high]| Bound::Between(low, high)),
            self.at_least.map(Bound::AtLeast),
            self.at_most.map(Bound::AtMost),
        ];
        let mut bounds = bounds.into_iter().flatten();
        let (Some(bound), None) = (bounds.next(), bounds.next()) else {
            let why =
                "an expectation has exactly one of `is` (with `within`), `between`, `at_least` and `at_most`";
            return Err((at.clone(), why.to_owned()));
        };
        if self.within.is_some() != self.is.is_some() {
            return Err((at.clone(), "`is` and `within` come together".to_owned()));
        }
        if self.level.is_some() != (self.measure == Measure::Tail) {
            return Err((at.clone(), "`level` comes with the measure `tail`, and only with it".to_owned()));
        }
        let of = self.of.as_ref().map_or(String::new(), |name| format!(" of {}", name.as_ref()));
        let level = self.level.map_or(String::new(), |level| format!(" from {level}"));
        let window = self.window.map_or(String::new(), |[from, to]| format!(", {from} to {to}"));
        Ok(Expectation {
            policy: self.policy.as_ref().clone(),
            measure: self.measure,
            scope_text: format!("{of}{level}{window}"),
            scope: Scope { servers, level: self.level.unwrap_or(0), window: self.window },
            over: self.over.as_ref().map(|over| over.as_ref().clone()),
            bound,
            why: self.why.clone(),
            skip: self.skip.clone(),
        })
    }
}

/// A problem as people read it.
fn placed(path: &str, text: &str, (at, what): &Problem) -> String {
    let before = &text[..at.start.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let begin = before.rfind('\n').map_or(0, |i| i + 1);
    let column = before[begin..].chars().count() + 1;
    let shown = text[begin..].lines().next().unwrap_or_default();
    format!("{path}:{line}:{column}: {what}\n  | {shown}\n  | {:>column$}", "^")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
about = "x"
policies = ["p2c", { name = "by path", balance = { policy = "hash", key = "path" } }]
[world]
requests = 1000
servers = [{ name = "quick", count = 2 }, { name = "slow", count = 1, speed = 0.1 }]
[[case]]
name = "one"
world.load = 0.5
world.events = [{ at = 5, until = 9, servers = "slow", speed = 0 }]
expect = [{ policy = "p2c", measure = "share", of = "slow", at_most = 0.5, why = "y" }]
"#;

    fn parse(text: &str) -> Result<Scenario, String> {
        Scenario::parse("small", "small.toml", text, &|_| Err("no file".to_owned()))
    }

    #[test]
    fn a_case_differs_from_the_world_in_what_it_says() {
        let scenario = parse(SMALL).unwrap();
        let case = &scenario.cases[0];
        assert_eq!((case.world.load, case.world.requests, case.world.servers.len()), (0.5, 1000, 3));
        assert_eq!(case.world.timeline.len(), 2);
        assert_eq!(case.policies[1].name, "by path");
        assert_eq!(case.expectations[0].scope.servers, 2..3);
    }

    #[test]
    fn every_mistake_has_its_place() {
        let wrong = [
            ("load = 0.5", "laod = 0.5", "9:7: unknown field `laod`"),
            ("load = 0.5", "load = -1", "9:14: -1 is not a number above 0"),
            ("speed = 0.1", "speed = \"x\"", "6:79: invalid type"),
            ("servers = \"slow\", speed", "servers = \"slwo\", speed", "there is no group \"slwo\""),
            ("until = 9", "until = 4", "later than `at`"),
            ("\"p2c\", {", "\"p2d\", {", "3:13: "),
            ("policy = \"p2c\", m", "policy = \"p2d\", m", "11:22: the case has no policy \"p2d\""),
            ("at_most = 0.5", "within = 0.5", "exactly one of"),
            ("measure = \"share\"", "measure = \"tail\"", "`level` comes with"),
            ("speed = 0 }", "speed = 0, down = true }", "exactly one of `speed`"),
            ("requests = 1000", "arrivals = { trace = { file = \"a\" } }", "5:12: no file"),
        ];
        for (from, to, says) in wrong {
            assert!(SMALL.contains(from), "{from}");
            let problem = parse(&SMALL.replace(from, to)).unwrap_err();
            assert!(problem.starts_with("small.toml:") && problem.contains(says), "{to}: {problem}");
        }
    }

    #[test]
    fn a_pending_policy_is_left_out_and_known() {
        let text = SMALL
            .replace("[\"p2c\"", "[\"not yet\", \"p2c\"")
            .replace("[world]", "[[pending]]\npolicy = \"not yet\"\nwhy = \"z\"\n[world]");
        let scenario = parse(&text.replace("policy = \"p2c\", m", "policy = \"not yet\", m")).unwrap();
        assert_eq!((scenario.cases[0].policies.len(), scenario.pending.len()), (2, 1));
    }
}
