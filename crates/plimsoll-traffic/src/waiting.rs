//! Those who wait for a backend, over all workers: the queue behind a lock, and one number that says whether there is anybody.
//!
//! In come requests that found every server full, slots that were given back, and the time; out go wake-ups. It belongs to the backend's
//! identity, so those who wait keep waiting when the configuration changes, each with the servers that it came with. Who needs no
//! queue pays one load of a number that nobody writes.
//!
//! No wake-up is lost. Somebody who comes raises `count` and then looks for a slot; a slot is given back and then `count` is looked at. All
//! four steps are `SeqCst`, so they have one order that all cores agree on, and whichever of the two comes second sees the other.
//! (With less, both could see the past: each core's store may still be on its way while it loads.) The same holds for somebody who was
//! called and lost the slot to a request that had not seen it: it goes back to its place under the lock, and then looks again.

use crate::sync::atomic::{AtomicU32, Ordering::SeqCst};
use crate::sync::{Mutex, MutexGuard};
use std::sync::{Arc, PoisonError};
use std::task::Waker;

use crate::backend::Backend;
use crate::queue::{Queue, Rank, Refusal, Rules, Stand, Ticket};
use crate::server::{Live, Server};
use crate::time::{Micros, Millis};

/// The queue of a backend, shared by all workers and all its configurations. On cache lines of its own: every pick reads `count`.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Waiting {
    /// How many wait, those included who were called. Written under the lock.
    count: AtomicU32,
    /// Held for some hundred nanoseconds, never while anybody is woken.
    queue: Mutex<Queue<Waiter>>,
}

/// Somebody who waits.
#[derive(Debug)]
struct Waiter {
    waker: Waker,
    /// As it was when the request came.
    backend: Arc<Backend>,
    /// Servers that the request has tried.
    tried: Box<[u32]>,
}

/// A server that has just got room, by its index in the backend of whoever gave it back.
#[derive(Debug, Clone, Copy)]
struct Hint<'a> {
    index: u32,
    live: &'a Arc<Live>,
}

/// Somebody's place among those who wait. Dropping it gives it up.
#[derive(Debug)]
#[must_use = "dropping a place gives it up"]
pub struct Place {
    backend: Arc<Backend>,
    ticket: Ticket,
    /// The latest time that its owner has said.
    now: Micros,
    gone: bool,
}

impl Waiting {
    /// How many wait.
    #[inline]
    pub(crate) fn count(&self) -> u32 {
        self.count.load(SeqCst) // a plain load on x86; see above
    }

    fn lock(&self) -> MutexGuard<'_, Queue<Waiter>> {
        // What panics in there panics before it has changed anything that matters to others.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the queue, says how many wait now, and wakes those who were called or refused by it.
    fn with<R>(&self, act: impl FnOnce(&mut Queue<Waiter>, &mut Vec<Waker>) -> R) -> R {
        let mut woken = Vec::new(); // allocates only where somebody is woken
        let result = {
            let mut queue = self.lock();
            let result = act(&mut queue, &mut woken);
            woken.extend(queue.refused().map(|waiter| waiter.waker.clone()));
            self.count.store(queue.waiting(), SeqCst);
            result
        };
        woken.into_iter().for_each(Waker::wake);
        result
    }

    /// A server has just got room for one: calls whoever is next and can go there.
    fn call_for(&self, hint: Hint<'_>) {
        self.with(|queue, woken| {
            let now = queue.now();
            let mut seen = None;
            let next = queue.call(now, |waiter| waiter.can_go(Some(hint), now.millis(), &mut seen));
            woken.extend(next.map(|waiter| waiter.waker.clone()));
        });
    }

    /// There is room for so many: calls those who are next, so that so many are called in all.
    fn call_up_to(&self, room: u32, now: Micros) {
        self.with(|queue, woken| {
            let mut seen = None;
            while queue.called() < room
                && let Some(next) = queue.call(now, |waiter| waiter.can_go(None, now.millis(), &mut seen))
            {
                woken.push(next.waker.clone());
            }
            queue.pass(now);
        });
    }
}

impl Waiter {
    /// `seen` remembers what was found for somebody with the same servers, of whom it has tried none.
    fn can_go(&self, hint: Option<Hint<'_>>, now: Millis, seen: &mut Option<(*const Backend, bool)>) -> bool {
        if let Some(hint) = hint
            && let Some(server) = self.backend.servers.get(hint.index as usize)
            && Arc::ptr_eq(&server.live, hint.live)
            && self.backend.serves[hint.index as usize]
            && room_on(server) > 0
            && !server.live.is_closed(now)
            && !self.tried.contains(&hint.index)
        {
            return true;
        }
        if !self.tried.is_empty() {
            return self.backend.room(&self.tried, now, 1) > 0;
        }
        let same = Arc::as_ptr(&self.backend);
        match *seen {
            Some((backend, found)) if backend == same => found,
            _ => {
                let found = self.backend.room(&[], now, 1) > 0;
                *seen = Some((same, found));
                found
            }
        }
    }
}

fn room_on(server: &Server) -> u32 {
    server.most().saturating_sub(server.live.in_flight_for_certain())
}

impl Backend {
    /// How many wait for one of its servers, those included whose turn it is.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting.count()
    }

    /// How many more requests the servers can take among which a pick would choose, as far as that can be said without dice: see the
    /// head of `balancer`. Enough is known once it is `enough`.
    fn room(&self, tried: &[u32], now: Millis, enough: u32) -> u32 {
        for (refused, backup) in [(false, false), (false, true), (true, false), (true, true)] {
            let (mut any, mut room) = (false, 0u32);
            let members = self.tiers.iter().filter(|tier| tier.backup == backup).flat_map(|t| &t.members);
            for &index in members.filter(|index| !tried.contains(index)) {
                let server = &self.servers[index as usize];
                // As in the balancer's `in_group`.
                let may = if refused { !server.live.is_barred() } else { !server.live.is_closed(now) };
                if may {
                    any = true;
                    room = room.saturating_add(room_on(server));
                    if room >= enough {
                        return room;
                    }
                }
            }
            if any {
                return room;
            }
        }
        0
    }

    /// Takes a place for a request that found no server with room.
    pub(crate) fn enter(
        self: &Arc<Backend>,
        (now, tried): (Micros, &[u32]),
        rank: Rank,
        rules: Rules,
        waker: &Waker,
    ) -> Result<Place, Refusal> {
        let waiter = Waiter { waker: waker.clone(), backend: Arc::clone(self), tried: tried.into() };
        let ticket = self.waiting.with(|queue, _| queue.offer(now, rank, rules, waiter))?;
        let place = Place { backend: Arc::clone(self), ticket, now, gone: false };
        // What was given back before the place was taken told nobody.
        self.look_again(now, tried);
        Ok(place)
    }

    /// Calls those who are next if there is room on these servers.
    fn look_again(&self, now: Micros, tried: &[u32]) {
        let count = self.waiting.count();
        let room = if count > 0 { self.room(tried, now.millis(), count) } else { 0 };
        if room > 0 {
            self.waiting.call_up_to(room, now);
        }
    }

    /// A server has room.
    #[cold]
    #[inline(never)]
    pub(crate) fn call_for(&self, index: u32) {
        if self.serves[index as usize] {
            self.waiting.call_for(Hint { index, live: &self.servers[index as usize].live });
        }
    }

    /// Time has passed: who waits too long is refused, and whoever can go is called. For what nobody tells: a server that is no longer
    /// passed over, or may have more requests since the last reload.
    pub(crate) fn poke(&self, now: Micros) {
        let count = self.waiting.count();
        if count > 0 {
            self.waiting.call_up_to(self.room(&[], now.millis(), count), now);
        }
    }
}

impl Place {
    /// How the waiting stands; `waker` is woken when that changes.
    pub fn poll(&mut self, now: Micros, waker: &Waker) -> Stand {
        self.now = now;
        let mut queue = self.backend.waiting.lock();
        if let Some(waiter) = queue.who(self.ticket)
            && !waiter.waker.will_wake(waker)
        {
            waiter.waker = waker.clone();
        }
        queue.stand(self.ticket).unwrap_or(Stand::Refused(Refusal::Late))
    }

    /// It was called, and there was no server for it: it stands where it stood before. With `look`, whoever can go now is called, which may be the same.
    pub fn put_back(&mut self, look: bool) {
        self.backend.waiting.lock().put_back(self.ticket);
        if look {
            self.backend.look_again(self.now, &[]);
        }
    }

    /// It has its server.
    pub fn go(mut self) {
        self.end(true);
    }

    fn end(&mut self, goes: bool) {
        if std::mem::replace(&mut self.gone, true) {
            return;
        }
        let (now, ticket) = (self.now, self.ticket);
        // The waiter is dropped behind the lock: it holds a backend, whose last owner it may be.
        let stand = self.backend.waiting.with(|queue, _| queue.remove(now, ticket, goes));
        // Another slot may be free, or this one is not needed.
        if matches!(stand, Some((Stand::Called, _))) {
            self.backend.look_again(now, &[]);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.end(false);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::Relaxed;
    use std::task::Wake;
    use std::thread::{self, Thread};
    use std::time::Duration;

    use plimsoll_config::model::{self, Address, Balance};

    use super::*;
    use crate::balancer::{Ask, Balancer, NoServer, Session};
    use crate::dice::Dice;
    use crate::lease::Lease;
    use crate::time::START;

    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn counted() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count(AtomicU32::new(0)));
        (Arc::clone(&count), Waker::from(count))
    }

    fn spec(rooms: &[u32]) -> model::Backend {
        let server = |(n, &max_requests): (usize, &u32)| {
            let address = Address::Socket(([127, 0, 0, 1], 1 + n as u16).into());
            model::Server { max_requests, ..model::Server::new(&format!("s{n}"), address) }
        };
        let servers = rooms.iter().enumerate().map(server).collect();
        let queue = Some(model::Queue { timeout: Duration::from_secs(60), ..model::Queue::default() });
        model::Backend { queue, ..model::Backend::new("b", servers, Balance::P2c) }
    }

    fn balancer(backend: &Arc<Backend>) -> Rc<Balancer> {
        Balancer::new(Arc::clone(backend), &mut Dice::new(1))
    }

    fn ms(ms: u64) -> Micros {
        Micros::from(Millis(START.0 + ms))
    }

    fn pick(balancer: &Rc<Balancer>, tried: &[u32]) -> Result<Lease, NoServer> {
        balancer.pick(&Ask { now: ms(1), key: 0, tried }, &mut Dice::new(2))
    }

    fn wait(balancer: &Rc<Balancer>, tried: &[u32], waker: &Waker) -> Place {
        balancer.wait(&Ask { now: ms(1), key: 0, tried }, Rank::default(), waker).expect("there is a place")
    }

    #[test]
    fn a_slot_that_is_given_back_calls_one_and_nobody_overtakes_it() {
        let backend = Arc::new(Backend::new(&spec(&[1]), None));
        let balancer = balancer(&backend);
        let held = pick(&balancer, &[]).unwrap();
        let ((first, a), (second, b)) = (counted(), counted());
        let (mut one, mut two) = (wait(&balancer, &[], &a), wait(&balancer, &[], &b));
        drop(held);
        assert_eq!((first.0.load(Relaxed), second.0.load(Relaxed)), (1, 0));
        assert_eq!((one.poll(ms(2), &a), two.poll(ms(2), &b)), (Stand::Called, Stand::Waits));
        assert!(!balancer.is_open(None), "whoever comes now waits, too");
        let lease = pick(&balancer, &[]).unwrap();
        one.go();
        assert_eq!((second.0.load(Relaxed), backend.waiting()), (0, 1));
        drop(lease);
        assert_eq!((two.poll(ms(3), &b), second.0.load(Relaxed)), (Stand::Called, 1));
        drop(two);
        assert!(balancer.is_open(None) && backend.waiting() == 0);
    }

    #[test]
    fn a_slot_that_was_given_back_before_the_place_was_taken_is_seen() {
        let backend = Arc::new(Backend::new(&spec(&[1]), None));
        let balancer = balancer(&backend);
        let (count, waker) = counted();
        let mut place = wait(&balancer, &[], &waker);
        assert_eq!((place.poll(ms(1), &waker), count.0.load(Relaxed)), (Stand::Called, 1));
    }

    #[test]
    fn who_was_called_and_leaves_passes_the_call_on() {
        let backend = Arc::new(Backend::new(&spec(&[1]), None));
        let balancer = balancer(&backend);
        let held = pick(&balancer, &[]).unwrap();
        let (_, waker) = counted();
        let (one, mut two) = (wait(&balancer, &[], &waker), wait(&balancer, &[], &waker));
        drop(held);
        drop(one);
        assert_eq!(two.poll(ms(2), &waker), Stand::Called);
    }

    #[test]
    fn who_lost_its_slot_goes_back_to_its_place() {
        let backend = Arc::new(Backend::new(&spec(&[1]), None));
        let balancer = balancer(&backend);
        let held = pick(&balancer, &[]).unwrap();
        let (_, waker) = counted();
        let (mut one, mut two) = (wait(&balancer, &[], &waker), wait(&balancer, &[], &waker));
        drop(held);
        let quicker = pick(&balancer, &[]).unwrap();
        assert_eq!(pick(&balancer, &[]).unwrap_err(), NoServer::Full);
        one.put_back(true);
        assert_eq!((one.poll(ms(2), &waker), two.poll(ms(2), &waker)), (Stand::Waits, Stand::Waits));
        drop(quicker);
        assert_eq!((one.poll(ms(2), &waker), two.poll(ms(2), &waker)), (Stand::Called, Stand::Waits));
    }

    #[test]
    fn a_slot_goes_to_the_first_who_has_not_tried_its_server() {
        let backend = Arc::new(Backend::new(&spec(&[1, 1]), None));
        let balancer = balancer(&backend);
        let held = [pick(&balancer, &[1]).unwrap(), pick(&balancer, &[0]).unwrap()];
        let (_, waker) = counted();
        let (mut one, mut two) = (wait(&balancer, &[0], &waker), wait(&balancer, &[], &waker));
        let [first, second] = held;
        drop(first);
        assert_eq!((one.poll(ms(2), &waker), two.poll(ms(2), &waker)), (Stand::Waits, Stand::Called));
        drop(second);
        assert_eq!(one.poll(ms(2), &waker), Stand::Called);
    }

    #[test]
    fn room_that_a_reload_brings_is_found_by_looking_and_goes_to_whoever_knows_of_it() {
        let old = Arc::new(Backend::new(&spec(&[1]), None));
        let (before, (_, waker)) = (balancer(&old), counted());
        let _held = pick(&before, &[]).unwrap();
        let mut early = wait(&before, &[], &waker);
        let new = Arc::new(Backend::new(&spec(&[1, 2]), Some(&old)));
        let after = balancer(&new);
        assert!(!after.is_open(None), "those who waited still do");
        let (mut late, mut later) = (wait(&after, &[], &waker), wait(&after, &[], &waker));
        assert_eq!((late.poll(ms(2), &waker), later.poll(ms(2), &waker)), (Stand::Called, Stand::Called));
        assert_eq!(early.poll(ms(2), &waker), Stand::Waits, "it came with a server that is full");
        let raised = Backend::new(&spec(&[2, 2]), Some(&new));
        raised.poke(ms(3));
        assert_eq!(early.poll(ms(3), &waker), Stand::Waits);
    }

    #[test]
    fn a_server_that_is_passed_over_no_longer_is_found_by_looking() {
        let backend = Arc::new(Backend::new(&spec(&[1, 1]), None));
        let balancer = balancer(&backend);
        let _held = pick(&balancer, &[1]).unwrap();
        backend.servers[1].live.refused(ms(1).millis());
        let (_, waker) = counted();
        let mut place = wait(&balancer, &[], &waker);
        backend.poke(ms(900));
        assert_eq!(place.poll(ms(900), &waker), Stand::Waits);
        backend.poke(ms(1_001));
        assert_eq!(place.poll(ms(1_001), &waker), Stand::Called);
    }

    #[test]
    fn a_session_at_a_server_for_nobody_else_need_not_wait() {
        let mut spec = spec(&[1, 1]);
        spec.servers[1].weight = 0;
        let backend = Arc::new(Backend::new(&spec, None));
        let balancer = balancer(&backend);
        let _held = pick(&balancer, &[]).unwrap();
        let (count, waker) = counted();
        let _place = wait(&balancer, &[], &waker);
        assert!(balancer.is_open(Some(Session::Server(1))) && !balancer.is_open(Some(Session::Server(0))));
        drop(balancer.keep(Session::Server(1), &Ask { now: ms(1), key: 0, tried: &[] }));
        assert_eq!(count.0.load(Relaxed), 0, "its slot is nothing for those who wait");
    }

    #[test]
    fn whoever_waits_too_long_is_woken_and_told() {
        let backend = Arc::new(Backend::new(&spec(&[1]), None));
        let balancer = balancer(&backend);
        let _held = pick(&balancer, &[]).unwrap();
        let (count, waker) = counted();
        let mut place = wait(&balancer, &[], &waker);
        backend.poke(ms(61_000));
        assert_eq!(count.0.load(Relaxed), 1);
        assert_eq!(place.poll(ms(61_000), &waker), Stand::Refused(Refusal::Late));
        assert_eq!(backend.waiting(), 0);
    }

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    /// Waits as a task does, and fails the test when nobody wakes it.
    fn wait_for_lease(balancer: &Rc<Balancer>, dice: &mut Dice) -> Lease {
        let ask = Ask { now: ms(1), key: 0, tried: &[] };
        if balancer.is_open(None)
            && let Ok(lease) = balancer.pick(&ask, dice)
        {
            return lease;
        }
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut place = balancer.wait(&ask, Rank::default(), &waker).expect("there are places enough");
        let began = std::time::Instant::now();
        loop {
            match place.poll(ms(1), &waker) {
                Stand::Called => match balancer.pick(&ask, dice) {
                    Ok(lease) => {
                        place.go();
                        return lease;
                    }
                    Err(_) => place.put_back(true),
                },
                Stand::Waits => {
                    thread::park_timeout(Duration::from_secs(20));
                    assert!(began.elapsed() < Duration::from_secs(20), "a wake-up was lost");
                }
                Stand::Refused(refusal) => panic!("{refusal:?}"),
            }
        }
    }

    #[test]
    fn threads_that_wait_for_each_other_lose_no_wake_up() {
        let backend = Arc::new(Backend::new(&spec(&[1, 2]), None));
        let (here, worst) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for seed in 0..8 {
                let (backend, here, worst) = (&backend, &here, &worst);
                scope.spawn(move || {
                    let mut dice = Dice::new(seed);
                    let balancer = Balancer::new(Arc::clone(backend), &mut dice);
                    for _ in 0..3_000 {
                        let lease = wait_for_lease(&balancer, &mut dice);
                        worst.fetch_max(here.fetch_add(1, Relaxed) + 1, Relaxed);
                        here.fetch_sub(1, Relaxed);
                        drop(lease);
                    }
                });
            }
        });
        assert!((1..=3).contains(&worst.load(Relaxed)), "{worst:?}");
        assert_eq!(backend.waiting(), 0);
        assert!(backend.servers.iter().all(|server| server.live.in_flight() == 0));
    }
}
