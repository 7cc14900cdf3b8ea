//! Policies that production does not have, to compare with: theirs are the numbers of papers and the mistakes of peers.
//!
//! They validate the simulator (join-idle-queue), set a measure (a shared board of loads, as old as its period), and show that
//! a scenario notices what it is there to notice (peak EWMA that forgets hung servers, a full scan by response time). Never a
//! second copy of a policy that production has.

use std::collections::VecDeque;

use plimsoll_traffic::Dice;

use crate::gauge::Said;

/// A policy to compare with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reference {
    /// Join-idle-queue (Lu et al., 2011): each instance has a queue of idle servers; a server that becomes idle joins the queue
    /// of one instance at random. With none idle the choice is random.
    JoinIdle,
    /// Finagle's, tower's and linkerd's peak EWMA: the estimate falls towards 0 while nothing ends. Two choices on estimate times
    /// (in flight + 1).
    PeakEwma {
        /// The time constant, in units.
        tau: f64,
    },
    /// The least average response time times (in flight + 1) of all servers (the shape of nginx's and Traefik's).
    LeastTime,
    /// Two choices on a board of all true loads, written anew once in `period` units.
    BoardTwo {
        /// In units.
        period: f64,
    },
    /// The least loaded on such a board, ties at random.
    BoardLeast {
        /// In units.
        period: f64,
    },
    /// C3's replica ranking (Suresh et al., NSDI 2015): of all servers the least *R − 1/μ + q³/μ*, *q* being one, the requests of one's own in
    /// flight times the instances, and the server's queue as it said last. Without its rate control: that is for stores that refuse nothing.
    C3 {
        /// Servers asked for each request, as Prequal asks them; 0: they say it with their answers, as C3 has it.
        probes: u32,
    },
}

impl Reference {
    /// Reads `join_idle`, `peak_ewma(TAU)`, `least_time`, `board_two(PERIOD)`, `board_least(PERIOD)`, `c3` or `c3(PROBES)`.
    ///
    /// # Errors
    /// What is not understood.
    pub fn parse(text: &str) -> Result<Reference, String> {
        let (name, number) = match text.strip_suffix(')').and_then(|t| t.split_once('(')) {
            Some((name, number)) => {
                let number = number.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
                (name, Some(number.ok_or_else(|| format!("\"{text}\" needs a number above 0"))?))
            }
            None => (text, None),
        };
        match (name, number) {
            ("join_idle", None) => Ok(Reference::JoinIdle),
            ("least_time", None) => Ok(Reference::LeastTime),
            ("peak_ewma", Some(tau)) => Ok(Reference::PeakEwma { tau }),
            ("board_two", Some(period)) => Ok(Reference::BoardTwo { period }),
            ("board_least", Some(period)) => Ok(Reference::BoardLeast { period }),
            ("c3", None) => Ok(Reference::C3 { probes: 0 }),
            ("c3", Some(probes)) if probes.fract() == 0.0 => Ok(Reference::C3 { probes: probes as u32 }),
            _ => Err(format!(
                "there is no reference policy \"{text}\"; there are join_idle, least_time, peak_ewma(TAU), board_two(PERIOD), board_least(PERIOD), c3 and c3(PROBES)"
            )),
        }
    }

    /// How often its board is written, in units.
    pub(crate) fn period(&self) -> Option<f64> {
        match *self {
            Reference::BoardTwo { period } | Reference::BoardLeast { period } => Some(period),
            _ => None,
        }
    }

    /// Whether it goes by what servers say.
    pub(crate) fn hears(&self) -> bool {
        matches!(self, Reference::C3 { .. })
    }
}

/// What the newest of C3's figures counts, as in its authors' code.
const NEWEST: f64 = 0.9;
/// Where C3 asks as Prequal does, it chooses among so many, as Prequal does.
const KEPT: usize = 16;

/// One instance's memory.
#[derive(Debug, Clone)]
struct Memory {
    in_flight: Vec<u32>,
    estimate: Vec<f64>,
    stamp: Vec<f64>,
    idle: Vec<u32>,
    /// What servers said of their queues, and of the time of a request on a core: averages, mostly of what they said last.
    queue: Vec<f64>,
    service: Vec<f64>,
    /// Whom it asked last, if it asks.
    asked: VecDeque<u32>,
}

/// A reference policy under way, on all instances. Times are in units.
#[derive(Debug)]
pub(crate) struct Referee {
    policy: Reference,
    instances: Vec<Memory>,
    board: Vec<u32>,
    least: Vec<u32>,
    /// The instance in whose queue of idle servers each server is.
    queued: Vec<Option<usize>>,
    dice: Dice,
}

impl Referee {
    pub(crate) fn new(policy: Reference, servers: usize, instances: usize, mut dice: Dice) -> Referee {
        let memory = Memory {
            in_flight: vec![0; servers],
            estimate: vec![0.0; servers],
            stamp: vec![0.0; servers],
            idle: Vec::new(),
            queue: vec![0.0; servers],
            service: vec![0.0; servers],
            asked: VecDeque::new(),
        };
        let mut instances = vec![memory; instances];
        let mut queued = vec![None; servers];
        // All are idle at the start.
        for (server, queued) in (0u32..).zip(&mut queued) {
            let at = dice.below(instances.len() as u32) as usize;
            instances[at].idle.push(server);
            *queued = Some(at);
        }
        let least = (0..servers as u32).collect();
        Referee { policy, instances, board: vec![0; servers], least, queued, dice }
    }

    pub(crate) fn policy(&self) -> Reference {
        self.policy
    }

    pub(crate) fn pick(&mut self, instance: usize, now: f64, tried: &[u32]) -> u32 {
        let n = self.board.len() as u32;
        let a = self.dice.below(n);
        let b = (a + 1 + self.dice.below(n.max(2) - 1)) % n;
        let memory = &self.instances[instance];
        let cheaper = |cost: &dyn Fn(u32) -> f64| if cost(b) < cost(a) { b } else { a };
        let mut chosen = match self.policy {
            Reference::JoinIdle => self.instances[instance].idle.first().copied().unwrap_or(a),
            Reference::PeakEwma { tau } => cheaper(&|i| memory.peak(i, now, tau)),
            Reference::LeastTime => {
                (0..n).min_by(|&x, &y| memory.average(x).total_cmp(&memory.average(y))).unwrap_or(a)
            }
            Reference::C3 { .. } => {
                let clients = self.instances.len() as f64;
                let best = |of: &mut dyn Iterator<Item = u32>| {
                    of.min_by(|&x, &y| memory.cubic(x, clients).total_cmp(&memory.cubic(y, clients)))
                };
                // Of all from a random one on: nothing is known at first, and not all shall begin with the same.
                let asked = best(&mut memory.asked.iter().copied());
                asked.or_else(|| best(&mut (0..n).map(|i| (a + i) % n))).unwrap_or(a)
            }
            Reference::BoardTwo { .. } => cheaper(&|i| f64::from(self.board[i as usize])),
            Reference::BoardLeast { .. } => self.least[self.dice.below(self.least.len() as u32) as usize],
        };
        if tried.contains(&chosen) && (tried.len() as u32) < n {
            while tried.contains(&chosen) {
                chosen = self.dice.below(n);
            }
        }
        self.instances[instance].in_flight[chosen as usize] += 1;
        if let Some(at) = self.queued[chosen as usize].take() {
            self.instances[at].idle.retain(|&server| server != chosen);
        }
        chosen
    }

    /// A request that `instance` gave to `server` at `since` has ended. `idle` says that nothing is left on the server.
    ///
    /// Peak EWMA and the least time learn from every end, whatever it was, as Finagle's `Metric.end` does: a request that was given up
    /// after 50 units has shown that an answer takes longer. C3 learns from what comes with an answer.
    pub(crate) fn end(
        &mut self,
        instance: usize,
        server: u32,
        since: f64,
        now: f64,
        answered: bool,
        idle: bool,
    ) {
        let index = server as usize;
        let memory = &mut self.instances[instance];
        memory.in_flight[index] -= 1;
        memory.learn(self.policy, index, now - since, now, answered);
        if self.policy == Reference::JoinIdle && idle {
            let at = self.dice.below(self.instances.len() as u32) as usize;
            self.instances[at].idle.push(server);
            self.queued[index] = Some(at);
        }
    }

    /// A server has said something of itself to `instance`.
    pub(crate) fn hear(&mut self, instance: usize, server: u32, said: &Said) {
        let (memory, index) = (&mut self.instances[instance], server as usize);
        memory.queue[index] += NEWEST * (f64::from(said.queue) - memory.queue[index]);
        memory.service[index] += NEWEST * (said.service - memory.service[index]);
    }

    /// Asks some servers, after a pick.
    pub(crate) fn probe(&mut self, instance: usize, says: impl Fn(u32) -> Said) {
        if let Reference::C3 { probes } = self.policy {
            for _ in 0..probes {
                let server = self.dice.below(self.board.len() as u32);
                self.hear(instance, server, &says(server));
                let asked = &mut self.instances[instance].asked;
                asked.retain(|&one| one != server);
                asked.push_back(server);
                if asked.len() > KEPT {
                    asked.pop_front();
                }
            }
        }
    }

    pub(crate) fn write_board(&mut self, loads: impl Iterator<Item = u32>) {
        self.board.clear();
        self.board.extend(loads);
        let least = self.board.iter().min().copied().unwrap_or(0);
        self.least.clear();
        self.least.extend((0u32..).zip(&self.board).filter(|&(_, &load)| load == least).map(|(i, _)| i));
    }
}

impl Memory {
    /// A request took so long.
    fn learn(&mut self, policy: Reference, server: usize, took: f64, now: f64, answered: bool) {
        let before = self.estimate[server];
        let estimate = match policy {
            Reference::PeakEwma { .. } if took > before => took,
            Reference::PeakEwma { tau } => {
                let keep = (-(now - self.stamp[server]) / tau).exp();
                before * keep + took * (1.0 - keep)
            }
            Reference::LeastTime if before == 0.0 => took,
            Reference::LeastTime => before * 0.95 + 0.05 * took,
            Reference::C3 { .. } if answered => before + NEWEST * (took - self.service[server] - before),
            _ => return,
        };
        (self.estimate[server], self.stamp[server]) = (estimate, now);
    }

    fn peak(&self, server: u32, now: f64, tau: f64) -> f64 {
        let i = server as usize;
        self.estimate[i] * (-(now - self.stamp[i]) / tau).exp() * f64::from(self.in_flight[i] + 1)
    }

    fn cubic(&self, server: u32, clients: f64) -> f64 {
        let i = server as usize;
        let queue = 1.0 + f64::from(self.in_flight[i]) * clients + self.queue[i];
        self.estimate[i] + queue.powi(3) * self.service[i]
    }

    fn average(&self, server: u32) -> f64 {
        let i = server as usize;
        self.estimate[i] * f64::from(self.in_flight[i] + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_names_and_nothing_else() {
        assert_eq!(Reference::parse("join_idle"), Ok(Reference::JoinIdle));
        assert_eq!(Reference::parse("peak_ewma(10)"), Ok(Reference::PeakEwma { tau: 10.0 }));
        assert_eq!(Reference::parse("c3(3)"), Ok(Reference::C3 { probes: 3 }));
        for wrong in ["p2c", "peak_ewma", "join_idle(1)", "board_two(0)", "board_least(x)", "c3(0.5)"] {
            assert!(Reference::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pick_is_a_server_not_tried_while_there_is_one() {
        let mut referee = Referee::new(Reference::LeastTime, 3, 1, Dice::new(1));
        for _ in 0..50 {
            assert_eq!(referee.pick(0, 0.0, &[0, 2]), 1);
        }
    }

    #[test]
    fn an_idle_server_is_taken_before_any_other() {
        let mut referee = Referee::new(Reference::JoinIdle, 4, 1, Dice::new(1));
        let mut first: Vec<u32> = (0..4).map(|_| referee.pick(0, 0.0, &[])).collect();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2, 3]);
        referee.end(0, 2, 0.0, 1.0, true, true);
        assert_eq!(referee.pick(0, 1.0, &[]), 2);
    }

    #[test]
    fn a_request_that_was_given_up_counts_for_as_long_as_it_took_except_with_c3() {
        let gives_up = |policy| {
            let mut referee = Referee::new(policy, 2, 1, Dice::new(1));
            let server = referee.pick(0, 0.0, &[]);
            referee.end(0, server, 0.0, 50.0, false, true);
            (referee.instances[0].estimate[server as usize], referee.pick(0, 50.0, &[]) == server)
        };
        assert_eq!(gives_up(Reference::PeakEwma { tau: 10.0 }), (50.0, false));
        assert_eq!(gives_up(Reference::LeastTime), (50.0, false));
        assert_eq!(gives_up(Reference::C3 { probes: 0 }).0, 0.0);
    }

    #[test]
    fn c3_goes_by_queue_and_speed_and_counts_its_own_for_every_instance() {
        let said = |queue, service| Said { report: plimsoll_traffic::Report::default(), queue, service };
        let mut referee = Referee::new(Reference::C3 { probes: 0 }, 3, 4, Dice::new(1));
        referee.hear(0, 0, &said(4, 1.0));
        referee.hear(0, 1, &said(2, 2.0));
        referee.hear(0, 2, &said(2, 1.0));
        // Cubes of 5, 3 and 3 with services of 1, 2 and 1; a request of one's own counts as four.
        let picks: Vec<u32> = (0..3).map(|_| referee.pick(0, 0.0, &[])).collect();
        assert_eq!(picks, [2, 1, 0]);
    }
}
