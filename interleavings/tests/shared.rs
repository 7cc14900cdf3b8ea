//! What workers share holds under many schedules of their steps.
//!
//! Each test is one small world that `shuttle` runs again and again, choosing after every step on an atomic or a lock who goes on: at random, and by
//! its PCT scheduler, which finds what needs few but unlikely switches. A failure prints the schedule, and `shuttle::replay` runs just that one.
//! Every step counts as sequentially consistent, so what a weaker ordering would let through is not seen here: orderings are
//! argued where they stand. `learned`: what workers find out of servers together. `told`: what servers say of themselves.
#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "shared/learned.rs"]
mod learned;
#[path = "shared/told.rs"]
mod told;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32; // not a step: for what the tests themselves count
use std::sync::atomic::Ordering::SeqCst;
use std::task::Poll;
use std::time::Duration;

use plimsoll_config::model::{self, Address, Balance};
use plimsoll_traffic::{
    Ask, Backend, Balancer, Dice, Lease, Micros, Millis, NoServer, Rank, RateLimit, RateMemory, RetryBudget,
    Stand,
};
use shuttle::thread;

/// Schedules of each kind.
const SCHEDULES: usize = 10_000;
const NOW: Micros = Micros(3_600_000_000);

fn under_many_schedules(world: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(world.clone(), SCHEDULES);
    shuttle::check_pct(world, SCHEDULES, 3);
}

fn at_once(workers: u32, work: impl Fn(u32) + Send + Sync + 'static) {
    let work = Arc::new(work);
    let start = |worker| {
        let work = Arc::clone(&work);
        thread::spawn(move || work(worker))
    };
    let started: Vec<_> = (0..workers).map(start).collect();
    started.into_iter().for_each(|worker| worker.join().unwrap());
}

/// A backend with room for so many at each server.
fn backend(rooms: &[u32], change: impl Fn(&mut model::Backend)) -> Arc<Backend> {
    let server = |(n, &max_requests): (usize, &u32)| {
        let address = Address::Socket(([127, 0, 0, 1], 1 + n as u16).into());
        model::Server { max_requests, ..model::Server::new(&format!("s{n}"), address) }
    };
    let servers = rooms.iter().enumerate().map(server).collect();
    let mut spec = model::Backend::new("b", servers, Balance::P2c);
    change(&mut spec);
    Arc::new(Backend::new(&spec, None))
}

fn balancer(backend: &Arc<Backend>, worker: u32) -> Rc<Balancer> {
    Balancer::new(Arc::clone(backend), &mut Dice::new(u64::from(worker)))
}

fn pick(balancer: &Rc<Balancer>) -> Result<Lease, NoServer> {
    balancer.pick(&Ask { now: NOW, key: 0, tried: &[] }, &mut Dice::new(1))
}

#[test]
fn no_server_ever_has_more_than_it_may_and_every_slot_comes_back() {
    under_many_schedules(|| {
        let backend = backend(&[1, 1], |_| {});
        let held = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let shared = Arc::clone(&backend);
        at_once(3, move |worker| {
            let balancer = balancer(&shared, worker);
            for _ in 0..2 {
                if let Ok(lease) = pick(&balancer) {
                    let held = &held[lease.index() as usize];
                    assert_eq!(held.fetch_add(1, SeqCst), 0, "two have the only slot");
                    thread::yield_now();
                    held.fetch_sub(1, SeqCst);
                }
            }
        });
        let left: Vec<u32> = backend.servers.iter().map(|server| server.live.in_flight()).collect();
        assert_eq!(left, [0, 0]);
    });
}

#[test]
fn a_refusal_that_one_worker_meets_is_not_shortened_or_ended_by_what_another_knew_before() {
    under_many_schedules(|| {
        let backend = backend(&[8], |_| {});
        let shared = Arc::clone(&backend);
        at_once(3, move |worker| {
            let live = &shared.servers[0].live;
            match worker {
                0 => live.refused(Millis(100)),
                1 => live.refused(Millis(900)),
                _ => live.refused(Millis(500)),
            }
        });
        assert!(backend.servers[0].live.is_refused(Millis(1_899)), "the last one counts");
        assert_eq!(backend.servers[0].live.refusals(), 3);
    });
}

#[test]
fn the_only_server_is_found_also_while_its_refusal_ends() {
    under_many_schedules(|| {
        let backend = backend(&[8], |_| {});
        backend.servers[0].live.refused(NOW.millis());
        at_once(2, move |worker| {
            let balancer = balancer(&backend, worker);
            let lease = pick(&balancer).expect("no other is left, so it is asked");
            lease.connected(NOW);
        });
    });
}

#[test]
fn a_server_that_is_ejected_stays_out_whoever_connects_or_is_refused_meanwhile() {
    under_many_schedules(|| {
        let eject = model::Eject { consecutive: 2, share: 0, most: 100, ..model::Eject::default() };
        let backend = backend(&[8, 8], |spec| (spec.eject, spec.panic) = (Some(eject.clone()), 0));
        let shared = Arc::clone(&backend);
        at_once(3, move |worker| {
            let balancer = balancer(&shared, worker);
            let ask = Ask { now: NOW, key: 0, tried: &[1] };
            let lease = balancer.pick(&ask, &mut Dice::new(1));
            match (worker, lease) {
                (0, Ok(lease)) => lease.connected(NOW),
                (1 | 2, Ok(lease)) => {
                    lease.server().live.refused(NOW.millis());
                    lease.failed("refused", NOW);
                }
                // Ejected before this one came.
                (_, Err(why)) => assert_eq!((worker, why), (0, NoServer::Tried)),
                (_, Ok(_)) => unreachable!("there are three"),
            }
        });
        let live = &backend.servers[0].live;
        assert!(live.is_barred(), "two failed in a row");
        assert_eq!((live.ejections(), live.failures(), live.refusals()), (1, 2, 2));
    });
}

#[test]
fn an_ejection_and_a_refusal_at_once_are_both_known() {
    under_many_schedules(|| {
        let eject = model::Eject { consecutive: 1, share: 0, most: 100, ..model::Eject::default() };
        let backend = backend(&[8, 8], |spec| (spec.eject, spec.panic) = (Some(eject.clone()), 0));
        let shared = Arc::clone(&backend);
        let first = balancer(&backend, 9);
        let lease = first.pick(&Ask { now: NOW, key: 0, tried: &[1] }, &mut Dice::new(1)).unwrap();
        let other = thread::spawn(move || shared.servers[0].live.refused(NOW.millis()));
        lease.failed("no answer", NOW);
        other.join().unwrap();
        let live = &backend.servers[0].live;
        assert!(live.is_barred() && live.is_refused(NOW.millis()));
    });
}

#[test]
fn a_server_on_trial_gets_one_request() {
    under_many_schedules(|| {
        let eject = model::Eject { consecutive: 1, share: 0, most: 100, ..model::Eject::default() };
        let backend = backend(&[8, 8], |spec| (spec.eject, spec.panic) = (Some(eject.clone()), 0));
        let first = balancer(&backend, 9);
        first.pick(&Ask { now: NOW, key: 0, tried: &[1] }, &mut Dice::new(1)).unwrap().failed("no", NOW);
        let later = Micros(NOW.0 + 3_600_000_000);
        backend.tick(later.millis());
        let tries = Arc::new(AtomicU32::new(0));
        let (shared, count) = (Arc::clone(&backend), Arc::clone(&tries));
        at_once(3, move |worker| {
            let balancer = balancer(&shared, worker);
            let ask = Ask { now: later, key: 0, tried: &[] };
            let lease = balancer.pick(&ask, &mut Dice::new(1)).unwrap();
            if lease.index() == 0 {
                count.fetch_add(1, SeqCst);
                lease.failed("still not", later);
            }
        });
        assert_eq!((tries.load(SeqCst), backend.servers[0].live.ejections()), (1, 2));
    });
}

fn queue() -> Option<model::Queue> {
    Some(model::Queue { timeout: Duration::from_secs(60), ..model::Queue::default() })
}

#[test]
fn whoever_waits_for_a_slot_is_called() {
    under_many_schedules(|| {
        let backend = backend(&[1], |spec| spec.queue = queue());
        let served = Arc::new(AtomicU32::new(0));
        let (shared, count) = (Arc::clone(&backend), Arc::clone(&served));
        // Who is not called waits forever, which shuttle tells as a deadlock.
        at_once(3, move |worker| {
            let balancer = balancer(&shared, worker);
            shuttle::future::block_on(serve(&balancer));
            count.fetch_add(1, SeqCst);
        });
        assert_eq!((served.load(SeqCst), backend.waiting(), backend.servers[0].live.in_flight()), (3, 0, 0));
    });
}

#[test]
fn whoever_goes_away_when_called_leaves_the_slot_to_the_next() {
    under_many_schedules(|| {
        let backend = backend(&[1], |spec| spec.queue = queue());
        let first = balancer(&backend, 9);
        let held = pick(&first).unwrap();
        let shared = Arc::clone(&backend);
        let waiters = thread::spawn(move || {
            at_once(2, move |worker| {
                let balancer = balancer(&shared, worker);
                let client =
                    async { if worker == 0 { turn(&balancer).await } else { serve(&balancer).await } };
                shuttle::future::block_on(client);
            });
        });
        drop(held);
        waiters.join().unwrap();
        assert_eq!((backend.waiting(), backend.servers[0].live.in_flight()), (0, 0));
    });
}

/// Waits for its turn, and goes away.
async fn turn(balancer: &Rc<Balancer>) {
    let mut place = None;
    std::future::poll_fn(|context| {
        // Nobody is called where nothing is taken, so it waits only for a slot that is held.
        if place.is_none() && balancer.backend().servers[0].live.in_flight() == 0 {
            return Poll::Ready(());
        }
        let ask = Ask { now: NOW, key: 0, tried: &[] };
        let place = place.get_or_insert_with(|| {
            balancer.wait(&ask, Rank::default(), context.waker()).expect("the queue is long enough")
        });
        if place.poll(NOW, context.waker()) == Stand::Called { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// A request as the data plane makes it: picks, waits if all are full, and gives its slot back.
async fn serve(balancer: &Rc<Balancer>) {
    if balancer.is_open(None)
        && let Ok(lease) = pick(balancer)
    {
        return drop(lease);
    }
    drop(leased(balancer).await);
}

/// Waits for a slot.
async fn leased(balancer: &Rc<Balancer>) -> Lease {
    let mut place = None;
    let lease = std::future::poll_fn(|context| {
        let ask = Ask { now: NOW, key: 0, tried: &[] };
        let place = place.get_or_insert_with(|| {
            balancer.wait(&ask, Rank::default(), context.waker()).expect("the queue is long enough")
        });
        loop {
            match place.poll(NOW, context.waker()) {
                Stand::Waits => return Poll::Pending,
                Stand::Called => match pick(balancer) {
                    Ok(lease) => return Poll::Ready(lease),
                    Err(_) => place.put_back(true),
                },
                Stand::Refused(why) => panic!("refused: {why:?}"),
            }
        }
    })
    .await;
    place.take().expect("it waited").go();
    lease
}

#[test]
fn no_deposit_and_no_withdrawal_of_the_retry_budget_is_lost() {
    under_many_schedules(|| {
        let budget = Arc::new(RetryBudget::default());
        let (shared, now) = (Arc::clone(&budget), Millis(5_000));
        let taken = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&taken);
        at_once(3, move |_| {
            for _ in 0..2 {
                count.fetch_add(u32::from(shared.withdraw(now)), SeqCst);
            }
        });
        let left = (0..).take_while(|_| budget.withdraw(now)).count() as u32;
        assert_eq!((taken.load(SeqCst), left), (6, plimsoll_traffic::budget::RESERVE as u32 - 6));
    });
}

#[test]
fn a_rate_limit_is_one_for_all_workers() {
    under_many_schedules(|| {
        let limit = Arc::new(RateLimit::new(1, Duration::from_secs(1), 3));
        let passed = Arc::new(AtomicU32::new(0));
        let (shared, count) = (Arc::clone(&limit), Arc::clone(&passed));
        at_once(3, move |_| {
            for _ in 0..2 {
                count.fetch_add(u32::from(shared.ask(b"key", NOW).passes), SeqCst);
            }
        });
        assert_eq!((passed.load(SeqCst), limit.refused()), (3, 3));
    });
}

#[test]
fn what_a_rate_limit_is_told_of_another_process_is_owed_whoever_asks_meanwhile() {
    under_many_schedules(|| {
        let before = RateLimit::new(1, Duration::from_secs(1), 3);
        assert!(before.ask(b"key", NOW).passes && before.ask(b"key", NOW).passes);
        let memory = before.memory(NOW, 8);
        let none = RateMemory { debts: Vec::new(), ..memory.clone() };
        let limit = Arc::new(RateLimit::after(1, Duration::from_secs(1), 3, &none, NOW));
        let passed = Arc::new(AtomicU32::new(0));
        let (shared, count) = (Arc::clone(&limit), Arc::clone(&passed));
        at_once(3, move |worker| match worker {
            0 => shared.recall(&memory, NOW),
            _ => {
                for _ in 0..2 {
                    count.fetch_add(u32::from(shared.ask(b"key", NOW).passes), SeqCst);
                }
            }
        });
        let left = (0..3).filter(|_| limit.ask(b"key", NOW).passes).count();
        assert!(left <= 1, "two of three were used before");
        assert!(passed.load(SeqCst) as usize + left <= 3);
    });
}
