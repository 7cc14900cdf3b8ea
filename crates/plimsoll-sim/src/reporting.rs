//! What servers say of their load, where somebody listens: with their answers, and when they are asked.
//!
//! In go the ends of work, out come reports to the balancers, in the form in which production reads them. Everywhere else it costs nothing.

use crate::engine::Run;
use crate::events::Token;
use crate::gauge::Work;
use crate::machine::Job;

/// Units after which a server's own answers say nothing of its latency any more.
const STALE: f64 = 100.0;

impl Run<'_> {
    /// When a server's latest answer that still counts was given.
    fn oldest(&self) -> u64 {
        self.now.saturating_sub((STALE * self.unit) as u64)
    }

    /// Asks servers for their load where the balancer wants to know it.
    pub(crate) fn probe(&mut self, worker: usize) {
        if !self.gauges.is_empty() {
            let (oldest, world) = (self.oldest(), self.world);
            let (machines, gauges) = (&self.machines, &self.gauges);
            self.front.probe(worker, self.now, |server| {
                let index = server as usize;
                gauges[index].say(machines[index].jobs() as u32, world.servers[index].cores, oldest)
            });
        }
    }

    /// A server has done a job, whether or not somebody still waits for it.
    pub(crate) fn note_work(&mut self, server: u32, job: &Job) {
        let index = server as usize;
        if let Some(gauge) = self.gauges.get_mut(index) {
            let own = self.world.servers[index].speed * self.surroundings.factor[index];
            let work = Work {
                busy: job.work / own * self.unit,
                service: job.work / self.machines[index].speed(),
                failed: job.fails,
            };
            gauge.done(work, self.now);
        }
    }

    /// A server has answered: it knows more of its load, and says it with the answer.
    pub(crate) fn report_load(&mut self, token: Token, server: u32) {
        let (oldest, index) = (self.oldest(), server as usize);
        if let Some(gauge) = self.gauges.get_mut(index) {
            let request = self.requests.at(token.request);
            gauge.note(request.met, self.now - request.came, self.now);
            let jobs = self.machines[index].jobs() as u32;
            let said = gauge.say(jobs, self.world.servers[index].cores, oldest);
            if let Some(held) = request.held_by(token) {
                self.front.hear(request.arrived.worker as usize, held, &said, self.now);
            }
        }
    }
}
