//! One simulated server: cores, a queue, and a speed that may change.
//!
//! In go jobs and changes of speed, out come the jobs that are done and the time at which the next one will be. All that run
//! on one machine progress equally fast, so a job is known by the progress at which it ends and nothing is touched when the
//! speed changes but the schedule. First come first served and processor sharing differ only in how many may run.
//! It knows nothing of balancing.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use crate::events::Token;

/// How jobs share the cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discipline {
    /// First come, first served: one job a core, the others wait.
    Fifo,
    /// Processor sharing: all run at once and share the cores equally.
    Ps,
}

/// A machine that slows down when much is on it: its speed is divided by `1 + alpha * max(0, jobs - from)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Degrade {
    pub(crate) alpha: f64,
    pub(crate) from: u32,
}

/// A piece of work on a machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Job {
    pub(crate) token: Token,
    /// What it takes at speed 1, in units.
    pub(crate) work: f64,
    /// It will end in an error.
    pub(crate) fails: bool,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    ends: f64,
    created: u64,
    job: Job,
}

/// A simulated server.
#[derive(Debug)]
pub(crate) struct Machine {
    cores: u32,
    discipline: Discipline,
    degrade: Option<Degrade>,
    /// Jobs that may wait or run at once; more are turned away.
    room: usize,
    /// Nanoseconds in a unit.
    unit: f64,
    speed: f64,
    progress: f64,
    since: u64,
    running: BinaryHeap<Running>,
    waiting: VecDeque<Job>,
    created: u64,
    /// Changes with each schedule; an older departure is void.
    pub(crate) version: u32,
}

impl Machine {
    pub(crate) fn new(
        cores: u32,
        discipline: Discipline,
        degrade: Option<Degrade>,
        room: usize,
        unit: f64,
    ) -> Machine {
        Machine {
            cores,
            discipline,
            degrade,
            room,
            unit,
            speed: 1.0,
            progress: 0.0,
            since: 0,
            running: BinaryHeap::new(),
            waiting: VecDeque::new(),
            created: 0,
            version: 0,
        }
    }

    /// Jobs on it.
    pub(crate) fn jobs(&self) -> usize {
        self.running.len() + self.waiting.len()
    }

    /// Units of work in a unit of time, of a core that is not shared.
    pub(crate) fn speed(&self) -> f64 {
        self.speed
    }

    pub(crate) fn is_full(&self) -> bool {
        self.jobs() >= self.room
    }

    /// Takes a job. `Some` is when the next one will be done, if that has changed.
    pub(crate) fn accept(&mut self, job: Job, now: u64) -> Option<u64> {
        if self.discipline == Discipline::Fifo && self.running.len() >= self.cores as usize {
            if self.degrade.is_none() {
                // One more that waits changes nothing: the way of most arrivals on a busy machine.
                self.waiting.push_back(job);
                return None;
            }
            return self.reschedule_after(now, |machine| machine.waiting.push_back(job));
        }
        self.reschedule_after(now, |machine| machine.start(job))
    }

    /// The job whose departure is due, and when the next one will be.
    pub(crate) fn finish(&mut self, now: u64) -> (Job, Option<u64>) {
        let done = self.running.pop().expect("a departure is scheduled only while a job runs");
        self.progress = done.ends;
        self.since = now;
        if let Some(next) = self.waiting.pop_front() {
            self.start(next);
        }
        (done.job, self.reschedule(now))
    }

    /// Whether it takes what comes and finishes nothing.
    pub(crate) fn hangs(&self) -> bool {
        self.speed == 0.0
    }

    /// Changes its speed; `Some` is when the next job will be done.
    pub(crate) fn set_speed(&mut self, speed: f64, now: u64) -> Option<u64> {
        self.reschedule_after(now, |machine| machine.speed = speed)
    }

    /// Gives up all jobs, those that run first.
    pub(crate) fn clear(&mut self) -> Vec<Job> {
        self.version = self.version.wrapping_add(1);
        let mut running = std::mem::take(&mut self.running).into_sorted_vec();
        running.reverse();
        running.into_iter().map(|r| r.job).chain(self.waiting.drain(..)).collect()
    }

    fn start(&mut self, job: Job) {
        self.created += 1;
        self.running.push(Running { ends: self.progress + job.work, created: self.created, job });
    }

    fn reschedule_after(&mut self, now: u64, change: impl FnOnce(&mut Machine)) -> Option<u64> {
        let before = self.running.peek().map(|r| r.created);
        let rate = self.rate();
        self.progress += (now - self.since) as f64 / self.unit * rate;
        self.since = now;
        change(self);
        let unchanged = self.rate() == rate && self.running.peek().map(|r| r.created) == before;
        if unchanged { None } else { self.reschedule(now) }
    }

    fn reschedule(&mut self, now: u64) -> Option<u64> {
        self.version = self.version.wrapping_add(1);
        let next = self.running.peek()?;
        let rate = self.rate();
        if rate <= 0.0 {
            return None;
        }
        let left = (next.ends - self.progress).max(0.0) / rate * self.unit;
        Some(now.saturating_add(rounded_up(left)))
    }

    /// Progress in a unit of each job that runs.
    fn rate(&self) -> f64 {
        let shared = match self.discipline {
            Discipline::Ps if self.running.len() > self.cores as usize => {
                f64::from(self.cores) / self.running.len() as f64
            }
            _ => 1.0,
        };
        let degraded =
            self.degrade.map_or(1.0, |d| 1.0 + d.alpha * self.jobs().saturating_sub(d.from as usize) as f64);
        self.speed * shared / degraded
    }
}

/// As `ceil`, which is a call where processors may be of any age.
fn rounded_up(value: f64) -> u64 {
    let whole = value as u64;
    whole.saturating_add(u64::from((whole as f64) < value))
}

impl Ord for Running {
    /// The greatest is the first to end, for the standard heap.
    fn cmp(&self, other: &Running) -> Ordering {
        other.ends.total_cmp(&self.ends).then_with(|| other.created.cmp(&self.created))
    }
}

impl PartialOrd for Running {
    fn partial_cmp(&self, other: &Running) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Running {
    fn eq(&self, other: &Running) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Running {}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: f64 = 1_000.0;

    fn job(work: f64) -> Job {
        Job { token: Token { request: (work * 10.0) as u32, attempt: 0 }, work, fails: false }
    }

    fn machine(cores: u32, discipline: Discipline) -> Machine {
        Machine::new(cores, discipline, None, usize::MAX, UNIT)
    }

    #[test]
    fn one_core_serves_in_order_of_arrival() {
        let mut m = machine(1, Discipline::Fifo);
        assert_eq!(m.accept(job(2.0), 0), Some(2_000));
        assert_eq!(m.accept(job(0.5), 100), None);
        assert_eq!(m.finish(2_000), (job(2.0), Some(2_500)));
        assert_eq!(m.finish(2_500), (job(0.5), None));
    }

    #[test]
    fn two_cores_let_a_short_job_pass_a_long_one() {
        let mut m = machine(2, Discipline::Fifo);
        assert_eq!(m.accept(job(2.0), 0), Some(2_000));
        assert_eq!(m.accept(job(0.5), 100), Some(600));
        assert_eq!(m.accept(job(0.1), 200), None);
        assert_eq!(m.finish(600), (job(0.5), Some(700)));
        assert_eq!(m.finish(700), (job(0.1), Some(2_000)));
    }

    #[test]
    fn processor_sharing_slows_everyone_equally() {
        let mut m = machine(1, Discipline::Ps);
        assert_eq!(m.accept(job(1.0), 0), Some(1_000));
        // Half of the first is left; both run at half speed.
        assert_eq!(m.accept(job(1.0), 500), Some(1_500));
        assert_eq!(m.finish(1_500), (job(1.0), Some(2_000)));
    }

    #[test]
    fn a_change_of_speed_stretches_what_is_left_and_a_stop_keeps_it() {
        let mut m = machine(1, Discipline::Fifo);
        m.accept(job(1.0), 0);
        assert_eq!(m.set_speed(0.1, 500), Some(5_500));
        assert_eq!(m.set_speed(0.0, 1_500), None);
        assert_eq!(m.set_speed(1.0, 9_000), Some(9_400));
        assert_eq!(m.finish(9_400), (job(1.0), None));
    }

    #[test]
    fn rounds_up_as_ceil_does() {
        for value in [0.0, 0.2, 1.0, 1.5, 4_503_599_627_370_495.5, 9_007_199_254_740_993.0, 1e18, 1e300] {
            assert_eq!(rounded_up(value), value.ceil() as u64, "{value}");
        }
    }

    #[test]
    fn a_crash_gives_back_every_job() {
        let mut m = machine(1, Discipline::Fifo);
        for work in [3.0, 2.0, 1.0] {
            m.accept(job(work), 0);
        }
        let version = m.version;
        assert_eq!(m.clear(), [job(3.0), job(2.0), job(1.0)]);
        assert_ne!(m.version, version, "its departure is void");
        assert_eq!(m.jobs(), 0);
        assert_eq!(m.accept(job(1.0), 10), Some(1_010));
    }

    #[test]
    fn a_machine_that_degrades_is_slower_with_each_job_beyond() {
        let mut m = Machine::new(1, Discipline::Fifo, Some(Degrade { alpha: 1.0, from: 1 }), 3, UNIT);
        assert_eq!(m.accept(job(1.0), 0), Some(1_000));
        assert_eq!(m.accept(job(1.0), 0), Some(2_000), "half the speed with two");
        assert!(!m.is_full());
        m.accept(job(1.0), 0);
        assert!(m.is_full());
    }
}
