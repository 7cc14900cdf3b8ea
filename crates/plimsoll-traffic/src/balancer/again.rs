//! A request that has failed elsewhere: it goes where nothing speaks against.
//!
//! Servers that are dead and not ejected yet, or whose ejection is over, are idle, so policies that look at load like them best. A request that has met one of them
//! would meet the next one, until it may not be tried again. So it passes over servers whose last request failed (`survey`), and tries out a server that was
//! ejected only where nobody else is left.

use std::rc::Rc;

use super::{Balancer, NoServer, Question, RACES};
use crate::dice::Dice;
use crate::lease::Lease;

impl Balancer {
    /// Chooses among all that are eligible. A way of its own: one for both costs every first pick of `p2c` 15 % more instructions.
    #[inline(never)]
    pub(super) fn pick_again(
        self: &Rc<Self>,
        question: &Question<'_>,
        dice: &mut Dice,
    ) -> Result<Lease, NoServer> {
        for _ in 0..=RACES {
            match self.study(question, dice) {
                Ok(index) => {
                    if let Some(lease) = self.lease(index, question.ask.now) {
                        return Ok(lease);
                    }
                }
                Err(none) if self.backend.has_trials() => return self.try_out(question.ask).ok_or(none),
                Err(none) => return Err(none),
            }
        }
        self.any_eligible(question)
    }

    /// Takes out those whose last request failed, unless all did; gives whether it has. The others stay in their order. Each is asked once: meanwhile others fail.
    pub(super) fn leave_the_sound(&self, eligible: &mut Vec<u32>) -> bool {
        let mut sound = 0;
        for place in 0..eligible.len() {
            if !self.server(eligible[place]).live.fails() {
                eligible.swap(sound, place);
                sound += 1;
            }
        }
        if sound > 0 {
            eligible.truncate(sound);
        }
        sound > 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use plimsoll_config::model::{self, Address, Balance, Eject, Ewma, Hash, HashKey, HashMethod};

    use super::*;
    use crate::Backend;
    use crate::balancer::Ask;
    use crate::time::{Micros, Millis};

    const NOW: u64 = 60_000;

    fn backend(balance: Balance, servers: usize) -> Arc<Backend> {
        let server = |i: usize| model::Server::new(&format!("s{i}"), Address::Name(format!("s{i}"), 80));
        let spec = model::Backend {
            eject: Some(Eject::default()),
            ..model::Backend::new("b", (0..servers).map(server).collect(), balance)
        };
        Arc::new(Backend::new(&spec, None))
    }

    fn policies() -> [Balance; 7] {
        let hash = |method| Balance::Hash(Hash { key: HashKey::ClientIp, method, bound: None });
        let ewma = Balance::Ewma(Ewma { decay: std::time::Duration::from_secs(10) });
        [
            Balance::P2c,
            Balance::LeastConn,
            Balance::RoundRobin,
            Balance::Random,
            ewma,
            hash(HashMethod::Maglev),
            hash(HashMethod::Rendezvous),
        ]
    }

    fn pick(backend: &Arc<Backend>, tried: &[u32], dice: &mut Dice) -> Result<Lease, NoServer> {
        let balancer = Balancer::new(Arc::clone(backend), dice);
        balancer.pick(&Ask { now: Micros(NOW * 1_000), key: dice.next(), tried }, dice)
    }

    #[test]
    fn it_passes_over_those_that_fail_though_they_are_idle() {
        let mut dice = Dice::new(1);
        for balance in policies() {
            let backend = backend(balance, 6);
            // Five are dead, which was found out some time ago; the one that serves is busy.
            (0..5).for_each(|dead| backend.failed(dead, "connection refused", false, Millis(1)));
            let first: Vec<_> = (0..60)
                .filter_map(|_| pick(&backend, &[], &mut dice).ok())
                .map(|lease| lease.index())
                .collect();
            assert!(
                first.iter().any(|index| *index != 5),
                "{:?}: requests find out whether they still are",
                backend.balance
            );
            let _busy: Vec<Lease> =
                (0..20).map(|_| pick(&backend, &[0, 1, 2, 3, 4], &mut dice).unwrap()).collect();
            for dead in 0..5 {
                assert_eq!(pick(&backend, &[dead], &mut dice).unwrap().index(), 5, "{:?}", backend.balance);
            }
            // Where all fail, any of the others.
            backend.failed(5, "connection refused", false, Millis(2));
            assert_ne!(pick(&backend, &[5], &mut dice).unwrap().index(), 5);
        }
    }

    #[test]
    fn it_tries_nobody_out_while_another_is_left() {
        let (backend, mut dice) = (backend(Balance::LeastConn, 3), Dice::new(1));
        (0..5).for_each(|_| backend.failed(0, "reset", false, Millis(1)));
        backend.tick(Millis(NOW));
        assert!(backend.has_trials());
        for tried in [[1], [2]] {
            assert_eq!(pick(&backend, &tried, &mut dice).unwrap().index(), 3 - tried[0]);
        }
        assert!(backend.has_trials());
        let on_trial = pick(&backend, &[1, 2], &mut dice).unwrap();
        assert_eq!(on_trial.index(), 0, "nobody else is left");
        assert_eq!(pick(&backend, &[1, 2], &mut dice).err(), Some(NoServer::Tried));
    }
}
