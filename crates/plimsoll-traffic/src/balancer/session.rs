//! Sessions: a request that belongs to a server goes there as long as that one can serve it.
//!
//! In goes where the session belongs: a server that was chosen before and that the client remembers, or a key that falls to a server
//! by itself; out comes a lease on that server, or nothing, and then `pick` decides as for any request. No memory, so a restart
//! or another instance answers the same. It must never take a server that refuses, is full, or was tried by this request.

use std::rc::Rc;

use plimsoll_config::model::ServerState;

use super::{Ask, Balancer};
use crate::dice::Dice;
use crate::lease::Lease;
use crate::rendezvous::{self, Seat};

/// Where a request belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// At this server, by its index. Its weight has no say: one of weight 0 takes nothing new and keeps what it has. One that drains, or is in
    /// maintenance, gives its sessions up.
    Server(u32),
    /// At the server that this key falls to, from [`hash_key`](crate::hash_key): by rendezvous, so when a server cannot serve, exactly
    /// its keys move, each to a server of its own, and they come back with it. By weight; one of weight 0 has no keys.
    Key(u64),
}

impl Balancer {
    /// One of the slots of the server where a request belongs; `None` if that one cannot take it, and `pick` is to choose.
    ///
    /// With a key it costs a look at every server's seat, not its counters: where weights are equal a nanosecond for six.
    pub fn keep(self: &Rc<Self>, session: Session, ask: &Ask<'_>) -> Option<Lease> {
        match session {
            Session::Server(index) => {
                let server = self.backend.servers.get(index as usize)?;
                let stays = server.state == ServerState::Ready
                    && !server.live.is_closed(ask.now.millis())
                    && !ask.tried.contains(&index);
                if stays { self.lease(index, ask.now) } else { None }
            }
            Session::Key(key) => self.keep_by_key(key, ask),
        }
    }

    fn keep_by_key(self: &Rc<Self>, key: u64, ask: &Ask<'_>) -> Option<Lease> {
        // The dice that may decide on a level fall by the key: a session changes levels only when their shares do.
        let question = self.question(ask, &mut Dice::new(key));
        let tier = self.backend.tiers.get(question.level)?;
        let group = question.group();
        let own =
            tier.ranking.find(key, &mut self.notes.borrow_mut(), |&own| self.open(own, &question, group));
        if let Some(own) = own
            && let Some(lease) = self.lease(own, ask.now)
        {
            return Some(lease);
        }
        self.survey(&question).ok()?;
        let eligible = self.eligible.borrow();
        let next = rendezvous::best(eligible.iter().copied(), &self.backend.seats, key)?;
        self.lease(next, ask.now)
    }
}

/// A route's backends, for sessions that go by a key: the same key goes to the same one.
///
/// By weight, and by rendezvous of the backends' names: a change of weights moves no more keys than it must.
#[derive(Debug)]
pub struct Split {
    backends: Box<[usize]>,
    seats: Box<[Seat]>,
}

impl Split {
    /// From the index, name and weight of each; those of weight 0 have no keys.
    pub fn new<'a>(backends: impl Iterator<Item = (usize, &'a str, u32)>) -> Split {
        let with_weight = backends.filter(|&(_, _, weight)| weight > 0);
        let seat =
            |(index, name, weight)| (index, Seat::new(name, u16::try_from(weight).unwrap_or(u16::MAX)));
        let (backends, seats): (Vec<usize>, Vec<Seat>) = with_weight.map(seat).unzip();
        Split { backends: backends.into(), seats: seats.into() }
    }

    /// The backend of a key; `None` of none.
    pub fn of(&self, key: u64) -> Option<usize> {
        let best = rendezvous::best(0..self.seats.len() as u32, &self.seats, key)?;
        Some(self.backends[best as usize])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use plimsoll_config::model::{self, Address, Balance};

    use super::*;
    use crate::backend::Backend;
    use crate::time::{Micros, Millis};

    const ASK: Ask<'static> = Ask { now: Micros(5_000_000), key: 0, tried: &[] };

    fn balancer(change: impl Fn(usize, &mut model::Server)) -> Rc<Balancer> {
        let server = |i: usize| {
            let address = Address::Socket(([127, 0, 0, 1], 1 + i as u16).into());
            let mut server =
                model::Server { max_requests: 2, ..model::Server::new(&format!("s{i}"), address) };
            change(i, &mut server);
            server
        };
        let spec = model::Backend::new("b", (0..6).map(server).collect(), Balance::P2c);
        Balancer::new(Arc::new(Backend::new(&spec, None)), &mut Dice::new(1))
    }

    fn at(balancer: &Rc<Balancer>, session: Session, ask: &Ask<'_>) -> Option<u32> {
        balancer.keep(session, ask).map(|lease| lease.index())
    }

    #[test]
    fn a_session_stays_at_its_server_also_at_a_backup_and_one_of_weight_zero() {
        let balancer = balancer(|i, server| {
            server.weight = u16::from(i != 2);
            server.backup = i == 3;
        });
        for server in 0..6 {
            assert_eq!(at(&balancer, Session::Server(server), &ASK), Some(server));
        }
    }

    #[test]
    fn a_server_that_is_full_refuses_was_tried_or_is_gone_is_not_taken() {
        let balancer = balancer(|_, _| {});
        let session = Session::Server(1);
        let held: Vec<_> = (0..2).map(|_| balancer.keep(session, &ASK).unwrap()).collect();
        assert_eq!(at(&balancer, session, &ASK), None, "full");
        drop(held);
        assert_eq!(at(&balancer, session, &Ask { tried: &[1], ..ASK }), None, "tried");
        assert_eq!(at(&balancer, Session::Server(6), &ASK), None, "gone");
        balancer.server(1).live.refused(Millis(4_500));
        assert_eq!(at(&balancer, session, &ASK), None, "refused");
        assert_eq!(at(&balancer, session, &Ask { now: Micros(5_500_000), ..ASK }), Some(1));
    }

    #[test]
    fn a_server_that_is_not_ready_gives_its_sessions_up() {
        let states = [ServerState::Drain, ServerState::Maint, ServerState::Ready];
        let balancer = balancer(|i, server| server.state = states[i.min(2)]);
        let kept = [0, 1, 2].map(|server| at(&balancer, Session::Server(server), &ASK));
        assert_eq!(kept, [None, None, Some(2)]);
        for key in 0..50 {
            assert!(at(&balancer, Session::Key(crate::hash_key(&[key])), &ASK) >= Some(2));
        }
    }

    #[test]
    fn a_kept_session_counts_and_is_given_back() {
        let balancer = balancer(|_, _| {});
        let lease = balancer.keep(Session::Server(4), &ASK).unwrap();
        assert_eq!((lease.index(), balancer.server(4).live.in_flight()), (4, 1));
        drop(lease);
        assert_eq!((balancer.server(4).live.in_flight(), balancer.server(4).live.assigned()), (0, 1));
    }

    #[test]
    fn a_key_has_one_server_whatever_the_dice_and_only_its_keys_move_and_return() {
        let (one, other) = (balancer(|_, _| {}), balancer(|_, _| {}));
        let of = |balancer: &_, key| at(balancer, Session::Key(key), &ASK).unwrap();
        let before: Vec<u32> = (0..600).map(|key| of(&one, crate::hash_key(&[key as u8, 1]))).collect();
        let again: Vec<u32> = (0..600).map(|key| of(&other, crate::hash_key(&[key as u8, 1]))).collect();
        assert_eq!(before, again);
        one.server(3).live.refused(Millis(4_900));
        let mut heirs = std::collections::BTreeSet::new();
        for (key, &before) in before.iter().enumerate() {
            let now = of(&one, crate::hash_key(&[key as u8, 1]));
            assert!(if before == 3 { now != 3 } else { now == before }, "{key}: {before} {now}");
            heirs.extend((before == 3).then_some(now));
        }
        assert!(heirs.len() > 2, "they spread: {heirs:?}");
        let later = Ask { now: Micros(6_000_000), ..ASK };
        for (key, &before) in before.iter().enumerate() {
            assert_eq!(at(&one, Session::Key(crate::hash_key(&[key as u8, 1])), &later), Some(before));
        }
    }

    #[test]
    fn a_key_moves_on_when_its_server_is_full_or_tried_and_never_to_weight_zero() {
        let balancer = balancer(|i, server| server.weight = u16::from(i < 3));
        let session = Session::Key(77);
        let own = at(&balancer, session, &ASK).unwrap();
        let held: Vec<_> = (0..2).map(|_| balancer.keep(session, &ASK).unwrap()).collect();
        let next = at(&balancer, session, &ASK).unwrap();
        assert!(held.iter().all(|lease| lease.index() == own) && next != own && next < 3);
        drop(held);
        assert_eq!(at(&balancer, session, &Ask { tried: &[own], ..ASK }), Some(next), "always the same");
        assert_eq!(at(&balancer, session, &Ask { tried: &[0, 1, 2], ..ASK }), None);
    }

    #[test]
    fn a_key_keeps_its_level_while_the_shares_of_levels_stay() {
        let balancer = balancer(|i, server| server.priority = u8::from(i >= 3));
        balancer.server(0).live.refused(Millis(4_900));
        balancer.server(1).live.refused(Millis(4_900));
        let mut seconds = 0;
        for key in 0..200 {
            let session = Session::Key(crate::hash_key(&[key]));
            let first = at(&balancer, session, &ASK);
            assert!((0..5).all(|_| at(&balancer, session, &ASK) == first));
            seconds += u32::from(first >= Some(3));
        }
        assert!((60..150).contains(&seconds), "about 54 % spill over: {seconds} of 200");
    }

    #[test]
    fn a_split_goes_by_weight_and_a_change_moves_only_what_it_must() {
        let split =
            |canary| Split::new([(7, "web", 100 - canary), (9, "canary", canary), (3, "old", 0)].into_iter());
        let mut dice = Dice::new(5);
        let keys: Vec<u64> = (0..10_000).map(|_| dice.next()).collect();
        let of = |canary| keys.iter().map(|&key| split(canary).of(key).unwrap()).collect::<Vec<_>>();
        let (five, twenty) = (of(5), of(20));
        let share = |of: &[usize]| of.iter().filter(|&&backend| backend == 9).count();
        assert!(share(&five).abs_diff(500) < 90 && share(&twenty).abs_diff(2_000) < 160);
        assert!(
            five.iter().zip(&twenty).all(|(&a, &b)| a == b || (a, b) == (7, 9)),
            "only towards the canary"
        );
        assert!(five.iter().all(|&backend| backend != 3));
        assert_eq!(Split::new(std::iter::empty()).of(1), None);
    }
}
