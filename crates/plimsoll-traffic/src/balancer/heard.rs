//! The balancer of those that report their load, `prequal` and weights that servers tell, and of those that say a word of their own.
//!
//! In come reports, with answers or fetched by whoever sends probes; out go picks by them, and which server is to be asked next. Apart from the
//! rest so that nobody else's way is longer for it.

use crate::sync::atomic::Ordering::Relaxed;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::{Balancer, FULL_SCAN, Policy, Question};
use plimsoll_config::model;
use xxhash_rust::xxh3::xxh3_64;

use crate::backend::{Backend, Tier};
use crate::dice::Dice;
use crate::prequal::Prequal;
use crate::recent::Recent;
use crate::report::Report;
use crate::time::Micros;

/// Where servers report only with their answers, so many `prequal` picks out of a hundred are `p2c`'s: nobody hears of a server that gets nothing.
const EXPLORE: u32 = 25;

/// What a worker remembers for `prequal`.
pub(super) fn memory(backend: &Backend, spec: &model::Prequal, dice: &mut Dice) -> Prequal {
    let members = backend.tiers.first().map_or(0, |tier| tier.members.len());
    Prequal::new(spec, members, Recent::new(backend.servers.len(), dice))
}

/// What a word is told by; 0 is for none.
fn mark(word: &[u8]) -> u64 {
    xxh3_64(word) | 1
}

impl Balancer {
    /// A [`new`](Balancer::new) one in the place of `before`, whose backend had other servers or other figures: what one worker alone has heard of servers that stay goes on.
    pub fn after(before: &Balancer, backend: Arc<Backend>, dice: &mut Dice) -> Rc<Balancer> {
        let next = Balancer::new(backend, dice);
        next.remember(before);
        next
    }

    /// Whether somebody has to say what became of a request.
    #[inline]
    pub(crate) fn learns(&self) -> bool {
        self.learns
    }

    /// The best server that was heard of, or as `p2c` has it when there is none, and now and then where nobody would be heard of else.
    #[inline(never)] // keeps the way of the other policies short
    pub(super) fn heard_of(
        &self,
        prequal: &Prequal,
        tier: &Tier,
        question: &Question<'_>,
        dice: &mut Dice,
    ) -> Option<u32> {
        let group = question.group();
        prequal.tier.set(group.tier);
        if prequal.asks() || dice.below(100) >= EXPLORE {
            let admitted = RefCell::new(&mut *dice);
            let chosen = prequal.choose(question.ask.now, |index| {
                tier.members.binary_search(&index).is_ok()
                    && self.open(index, question, group)
                    && self.admits(index, question, &mut admitted.borrow_mut())
            });
            if chosen.is_some() {
                return chosen;
            }
        }
        if tier.members.len() <= FULL_SCAN + question.ask.tried.len() {
            return None;
        }
        let a = self.draw_open(tier, None, question, dice)?;
        let b = self.draw_open(tier, Some(a), question, dice)?;
        Some(prequal.recent.lighter(self.standing(a, question), self.standing(b, question)).index)
    }

    /// Of all that are eligible, as `p2c` has it.
    pub(super) fn unheard_of(
        &self,
        prequal: &Prequal,
        eligible: &[u32],
        question: &Question<'_>,
        dice: &mut Dice,
    ) -> u32 {
        if eligible.len() <= FULL_SCAN {
            return prequal.recent.lightest(eligible, |index| self.standing(index, question));
        }
        let a = self.draw(eligible, None, question, dice);
        let b = self.draw(eligible, Some(a), question, dice);
        prequal.recent.lighter(self.standing(a, question), self.standing(b, question)).index
    }

    /// Goes on with what `before` has heard of those that stay and take requests.
    fn remember(&self, before: &Balancer) {
        if let (Policy::Prequal(prequal), Policy::Prequal(old)) = (&self.policy, &before.policy) {
            let mut here = vec![None; before.backend.servers.len()];
            for (place, old) in (0..).zip(self.backend.kept(&before.backend).places()) {
                if let Some(old) = old.filter(|_| self.server(place).takes()) {
                    here[old] = Some(place);
                }
            }
            prequal.remember(old, |server| here[server as usize]);
        }
    }

    /// A server failed: what it said is void.
    pub(super) fn forget(&self, index: u32) {
        if let Policy::Prequal(prequal) = &self.policy {
            prequal.forget(index);
        }
    }

    /// The next server to be asked for its load, while one is due: for whoever sends probes, after each pick.
    pub fn next_probe(&self, dice: &mut Dice) -> Option<u32> {
        let Policy::Prequal(prequal) = &self.policy else { return None };
        prequal.is_due().then(|| self.backend.tiers.get(prequal.tier.get())?.weights.draw(dice)).flatten()
    }

    /// Whether anything that servers say with their answers is of any use: their load, or a word of their own.
    #[inline]
    pub fn hears(&self) -> bool {
        self.hears
    }

    /// Whether what servers report of their load is.
    pub fn reports(&self) -> bool {
        self.reports
    }

    /// Whether a server's word is another one than was heard of it last, by any worker. Only reads: a write for every answer would take the line
    /// away from all other cores.
    pub(crate) fn is_news(&self, index: u32, word: &[u8]) -> bool {
        self.server(index).live.heard.load(Relaxed) != mark(word)
    }

    /// The same, and from now on it is the one that was heard last.
    pub(crate) fn takes_news(&self, index: u32, word: &[u8]) -> bool {
        let mark = mark(word);
        self.server(index).live.heard.swap(mark, Relaxed) != mark
    }

    /// A server reported its load, at `now`. `took` is how long the answer took that said so, in microseconds, if it was one to a request.
    #[inline(never)]
    pub fn hear(&self, index: u32, report: &Report, took: Option<u64>, now: Micros) {
        if let Some(reported) = self.backend.ramp.reported() {
            reported.hear(&self.server(index).live, report, now.millis());
        }
        if let (Policy::Prequal(prequal), Some(in_flight)) = (&self.policy, report.in_flight) {
            let latency = report.latency.unwrap_or(took.unwrap_or(0) as f32);
            prequal.hear(index, in_flight, latency, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use plimsoll_config::model::{Address, Balance, Prequal as Rules, Probe, Server, ServerState};

    use super::*;
    use crate::balancer::Ask;

    const NOW: Micros = Micros(7_000_000);

    fn spec(ports: &[u16]) -> model::Backend {
        let server =
            |&port: &u16| Server::new(&format!("s{port}"), Address::Socket(([127, 0, 0, 1], port).into()));
        let probe = Some(Probe { path: "/load".into(), rate: 300 });
        let rules = Rules { quantile: 84, age: Duration::from_secs(1), probe };
        model::Backend::new("b", ports.iter().map(server).collect(), Balance::Prequal(rules))
    }

    /// A worker that has heard of all of ten servers: the fifth is the fastest, the third the next one.
    fn heard() -> Rc<Balancer> {
        let balancer = Balancer::new(Arc::new(Backend::new(&spec(&ALL), None)), &mut Dice::new(1));
        for index in 0..10 {
            let latency = match index {
                4 => 1.0,
                2 => 2.0,
                _ => 9.0,
            };
            let report = Report { in_flight: Some(1), latency: Some(latency), ..Report::default() };
            balancer.hear(index, &report, None, NOW);
        }
        balancer
    }

    const ALL: [u16; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

    fn next(old: &Balancer, spec: &model::Backend) -> Rc<Balancer> {
        let backend = Arc::new(Backend::new(spec, Some(old.backend())));
        Balancer::after(old, backend, &mut Dice::new(1))
    }

    fn picks(balancer: &Rc<Balancer>) -> Box<str> {
        let ask = Ask { now: NOW, key: 0, tried: &[] };
        balancer.pick(&ask, &mut Dice::new(1)).unwrap().server().name.clone()
    }

    #[test]
    fn a_servers_word_takes_nothing_away_of_what_was_heard() {
        let mut spec = spec(&ALL);
        spec.servers[7].weight = 3; // so that the backend is another one
        assert_eq!(&*picks(&next(&heard(), &spec)), "s5");
    }

    #[test]
    fn reports_follow_their_server_and_end_with_it() {
        let old = heard();
        assert_eq!(&*picks(&next(&old, &spec(&[11, 9, 5, 3, 1, 2, 4, 6]))), "s5");
        assert_eq!(&*picks(&next(&old, &spec(&[11, 9, 3, 1, 2, 4, 6, 7]))), "s3", "the fifth is gone");
        let mut moved = spec(&[11, 9, 3, 1, 2, 4, 6, 7]);
        moved.servers[2].address = Address::Socket(([127, 0, 0, 1], 99).into());
        let index = |balancer: &Rc<Balancer>, name: &str| {
            balancer.backend.servers.iter().position(|s| &*s.name == name)
        };
        let after = next(&old, &moved);
        let Policy::Prequal(prequal) = &after.policy else { panic!("it is that") };
        let third = index(&after, "s3").unwrap() as u32;
        assert_eq!(
            prequal.choose(NOW, |server| server == third),
            None,
            "at another address it is another server"
        );
        let mut drained = spec(&ALL);
        drained.servers[4].state = ServerState::Drain;
        let after = next(&old, &drained);
        assert_eq!(&*picks(&after), "s3");
        let Policy::Prequal(prequal) = &after.policy else { panic!("it is that") };
        assert_eq!(prequal.choose(NOW, |server| server == 4), None);
    }
}
