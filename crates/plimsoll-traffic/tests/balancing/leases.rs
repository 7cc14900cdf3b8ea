//! Slots come back: after an end, a panic, a cancelled task, and from many threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Waker};

use plimsoll_traffic::{Dice, NoServer};

use crate::fleet::{POLICIES, ask, backend, balancer, server, weighted};

#[test]
fn a_lease_holds_one_slot_until_it_is_dropped() {
    let backend = weighted(&POLICIES[0], &[1]);
    let lease = balancer(&backend, 1).pick(&ask(0), &mut Dice::new(1)).unwrap();
    assert_eq!((lease.index(), &*lease.server().name, backend.servers[0].live.in_flight()), (0, "s0", 1));
    drop(lease);
    assert_eq!((backend.servers[0].live.in_flight(), backend.servers[0].live.assigned()), (0, 1));
}

#[test]
fn a_panic_gives_the_slot_back() {
    let backend = weighted(&POLICIES[0], &[1]);
    let balancer = balancer(&backend, 1);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _lease = balancer.pick(&ask(0), &mut Dice::new(1)).unwrap();
        assert_eq!(backend.servers[0].live.in_flight(), 2, "this request dies");
    }));
    assert!(panicked.is_err());
    assert_eq!(backend.servers[0].live.in_flight(), 0);
}

#[test]
fn a_cancelled_task_gives_the_slot_back() {
    let backend = weighted(&POLICIES[0], &[1]);
    let balancer = balancer(&backend, 1);
    {
        let mut exchange = pin!(async {
            let _lease = balancer.pick(&ask(0), &mut Dice::new(1)).unwrap();
            std::future::pending::<()>().await;
        });
        assert!(exchange.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(backend.servers[0].live.in_flight(), 1);
    }
    assert_eq!(backend.servers[0].live.in_flight(), 0);
}

#[test]
fn many_threads_never_exceed_the_maximum_and_end_at_none() {
    for balance in &POLICIES {
        let servers = (0..6).map(|i| {
            let mut server = server(i, 1 + i as u16);
            server.max_requests = 3;
            server
        });
        let backend = backend(balance, servers.collect());
        let (worst, served, full) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for seed in 0..8 {
                let (backend, worst, served, full) = (&backend, &worst, &served, &full);
                scope.spawn(move || {
                    let (balancer, mut dice) = (balancer(backend, seed), Dice::new(seed));
                    let mut held = Vec::new();
                    for _ in 0..1_500 {
                        match balancer.pick(&ask(dice.next()), &mut dice) {
                            Ok(lease) => {
                                worst.fetch_max(lease.server().live.in_flight(), Relaxed);
                                served.fetch_add(1, Relaxed);
                                held.push(lease);
                            }
                            Err(reason) => {
                                assert_eq!(reason, NoServer::Full);
                                full.fetch_add(1, Relaxed);
                                held.clear();
                            }
                        }
                        // Some go early; the rest pile up until nothing is free.
                        if dice.below(4) == 0 && !held.is_empty() {
                            drop(held.swap_remove(dice.below(held.len() as u32) as usize));
                        }
                    }
                });
            }
        });
        assert_eq!(worst.load(Relaxed), 3, "{balance:?}");
        assert!(full.load(Relaxed) > 0, "{balance:?} was never short of slots");
        assert_eq!(served.load(Relaxed) + full.load(Relaxed), 8 * 1_500);
        let assigned: u64 = backend.servers.iter().map(|s| s.live.assigned()).sum();
        assert_eq!(assigned, u64::from(served.load(Relaxed)));
        assert!(backend.servers.iter().all(|s| s.live.in_flight() == 0), "{balance:?} leaked a slot");
    }
}

#[test]
fn a_single_slot_is_found_by_every_policy_among_many_full_servers() {
    for balance in &POLICIES {
        let servers = (0..200).map(|i| {
            let mut server = server(i, 1);
            server.max_requests = 1;
            server
        });
        let balancer = balancer(&backend(balance, servers.collect()), 1);
        let mut dice = Dice::new(1);
        let mut held: Vec<_> = (0..200).map(|key| balancer.pick(&ask(key), &mut dice).unwrap()).collect();
        assert_eq!(balancer.pick(&ask(0), &mut dice).unwrap_err(), NoServer::Full);
        let free = held.swap_remove(77).index();
        assert_eq!(balancer.pick(&ask(0), &mut dice).unwrap().index(), free, "{balance:?}");
    }
}
