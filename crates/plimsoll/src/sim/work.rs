//! The work itself: jobs on all usable cores, and a bar that shows how far they are.
//!
//! Reports are kept in the order of the jobs, so the output doesn't depend on which thread was faster. The bar goes to standard
//! error, only to a terminal and only when it takes a while.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_sim::{Policy, Report, Scenario, Study, World};

use crate::terminal::err;

/// Before this nobody wonders.
const QUIET: Duration = Duration::from_millis(500);
/// Between two pictures of the bar.
const REDRAW: Duration = Duration::from_millis(100);
const BAR: usize = 40;

/// Runs all jobs of a scenario.
pub(crate) fn run(scenario: Scenario) -> Study {
    let jobs = scenario.jobs();
    let bar = Bar::new(&scenario.name, jobs.iter().map(|&job| scenario.size(job)).sum());
    let reports: Vec<OnceLock<Report>> = jobs.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((index, &job)) =
            Some(next.fetch_add(1, Relaxed)).and_then(|i| jobs.get(i).map(|j| (i, j)))
        {
            let size = scenario.size(job) as f64;
            let mut done = 0.0;
            let report = scenario.run(job, &mut |part| {
                bar.advance((part - done) * size);
                done = part;
            });
            bar.advance((1.0 - done) * size);
            let _ = reports[index].set(report);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    std::thread::scope(|scope| {
        (0..threads).for_each(|_| {
            scope.spawn(work);
        });
    });
    bar.clear();
    let reports = reports.into_iter().map(|cell| cell.into_inner().expect("every job was run to its end"));
    let reports = reports.collect();
    scenario.collect(reports)
}

/// How far the jobs are, in requests.
struct Bar {
    name: String,
    total: f64,
    shown: bool,
    state: Mutex<State>,
}

struct State {
    done: f64,
    drawn: Instant,
    visible: bool,
}

impl Bar {
    fn new(name: &str, total: u64) -> Bar {
        let drawn = Instant::now() + QUIET - REDRAW;
        let state = Mutex::new(State { done: 0.0, drawn, visible: false });
        Bar { name: name.to_owned(), total: total as f64, shown: std::io::stderr().is_terminal(), state }
    }

    fn advance(&self, by: f64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.done += by;
        let now = Instant::now();
        if !self.shown || now.saturating_duration_since(state.drawn) < REDRAW {
            return;
        }
        (state.drawn, state.visible) = (now, true);
        let part = (state.done / self.total).min(1.0);
        let full = (part * BAR as f64) as usize;
        let (done, left) = ("█".repeat(full), "░".repeat(BAR - full));
        err(&format!("\r{} {done}{left} {:3.0} %", self.name, part * 100.0));
    }

    fn clear(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.visible {
            err("\r\x1b[2K");
        }
    }
}

/// How many events a second one core simulates: a hundred servers at 90 %, a line a policy.
pub(crate) fn speed() -> String {
    let mut out = String::from("a hundred servers, load 0.9, two million requests, one thread\n");
    for name in ["p2c", "round_robin", "random", "least_conn", "hash"] {
        let policy = match Policy::parse(name) {
            Ok(policy) => policy,
            Err(problem) => return format!("{name}: {problem}\n"),
        };
        let begin = Instant::now();
        let report = World::uniform(100, 0.9, 2_000_000).run(&policy, 1);
        let rate = report.events as f64 / begin.elapsed().as_secs_f64() / 1e6;
        out += &format!("{name:<12} {rate:5.1} million events a second\n");
    }
    out
}
