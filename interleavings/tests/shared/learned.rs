//! What all workers find out of servers together: limits, how long answers take, how short this process is.

use plimsoll_config::model::{AdaptiveConcurrency, Class};
use plimsoll_traffic::pace::LEAST;
use plimsoll_traffic::pressure::{Level, Pressure, Reading};
use plimsoll_traffic::{Limit, Memory, Outcome, Pace, Verdict};

use super::*;

const MS: u64 = 1_000;

/// A backend with one server whose limit is found out, and is that one so far.
fn adaptive(limit: u32, change: impl Fn(&mut model::Backend)) -> Arc<Backend> {
    let rules = AdaptiveConcurrency { least: 1, start: limit, ..AdaptiveConcurrency::default() };
    let backend = backend(&[64], |spec| {
        spec.adaptive = Some(rules.clone());
        change(spec);
    });
    let known = Memory { limit: Some(Limit { limit, least_latency: 10 * MS }), ..Memory::default() };
    backend.recall([(0, &known)], Millis(NOW.millis().0 - 100)); // a moment ago, so that no probe is due
    backend
}

/// Requests that are answered after 10 ms, one after the other, the last one at that time.
fn answer(balancer: &Rc<Balancer>, times: u32, now: Micros) {
    for _ in 0..times {
        let ask = Ask { now: Micros(now.0 - 10 * MS), key: 0, tried: &[] };
        let lease = balancer.pick(&ask, &mut Dice::new(1)).expect("there is room");
        lease.finish(&Outcome::new(now, Verdict::Answered));
    }
}

fn found(backend: &Backend) -> u32 {
    backend.limit(0).expect("it is found out").limit
}

#[test]
fn no_server_has_more_than_the_limit_that_was_found() {
    under_many_schedules(|| {
        let backend = adaptive(2, |_| {});
        let held = Arc::new(AtomicU32::new(0));
        at_once(3, move |worker| {
            let balancer = balancer(&backend, worker);
            let Ok(lease) = pick(&balancer) else { return };
            assert!(held.fetch_add(1, SeqCst) < 2, "three have two slots");
            thread::yield_now();
            held.fetch_sub(1, SeqCst);
            drop(lease);
        });
    });
}

#[test]
fn a_window_is_ended_by_one_worker_and_no_answer_in_it_is_lost() {
    under_many_schedules(|| {
        let backend = adaptive(8, |_| {});
        let first = balancer(&backend, 9);
        let _held: Vec<Lease> = (0..4).map(|_| pick(&first).unwrap()).collect();
        answer(&first, 17, NOW);
        let shared = Arc::clone(&backend);
        // Twenty end it.
        at_once(3, move |worker| answer(&balancer(&shared, worker), 1, NOW));
        // 8 + sqrt(8) / 2: one step, and not another one.
        assert_eq!((found(&backend), backend.servers[0].most()), (9, 9));
    });
}

#[test]
fn the_limit_in_force_is_the_one_that_was_found_last() {
    let world = || {
        let backend = adaptive(8, |_| {});
        let first = balancer(&backend, 9);
        let _held: Vec<Lease> = (0..4).map(|_| pick(&first).unwrap()).collect();
        answer(&first, 19, NOW);
        let shared = Arc::clone(&backend);
        at_once(2, move |worker| {
            let balancer = balancer(&shared, worker);
            match worker {
                0 => answer(&balancer, 1, NOW),
                _ => answer(&balancer, 20, Micros(NOW.0 + 500 * MS)),
            }
        });
        assert_eq!(found(&backend), backend.servers[0].most());
    };
    // It takes one switch, at one of more than a thousand moments, and none besides.
    shuttle::check_pct(world, 3 * SCHEDULES, 2);
}

#[test]
fn who_waits_is_called_when_a_limit_rises() {
    under_many_schedules(|| {
        let backend = adaptive(4, |spec| spec.queue = queue());
        let first = balancer(&backend, 9);
        let _held: Vec<Lease> = (0..3).map(|_| pick(&first).unwrap()).collect();
        answer(&first, 19, NOW);
        let ask = Ask { now: Micros(NOW.0 - 10 * MS), key: 0, tried: &[] };
        let last = first.pick(&ask, &mut Dice::new(1)).unwrap();
        let shared = Arc::clone(&backend);
        let waiter = thread::spawn(move || {
            drop(shuttle::future::block_on(leased(&balancer(&shared, 0))));
        });
        // The head of the answer is there, and its body takes as long as the other one waits.
        last.observe(&Outcome::new(NOW, Verdict::Answered));
        waiter.join().unwrap();
        assert_eq!((found(&backend), backend.waiting()), (5, 0));
        drop(last);
    });
}

#[test]
fn no_duration_is_lost_while_quantiles_turn() {
    under_many_schedules(|| {
        let pace = Arc::new(Pace::new(950));
        let turn = Millis(20_500); // the half that was begun at 10 s is full
        (2..LEAST).for_each(|_| pace.observe(10 * MS, Millis(10_001)));
        let shared = Arc::clone(&pace);
        at_once(2, move |_| shared.observe(10 * MS, turn));
        let later = Millis(turn.0 + 1_000);
        let (high, median) = (pace.high(later), pace.median(later));
        assert!(high.is_some_and(|high| (10 * MS..12 * MS).contains(&high)), "just enough: {high:?}");
        assert_eq!(high, median);
    });
}

#[test]
fn every_refusal_under_pressure_is_counted() {
    under_many_schedules(|| {
        let pressure = Arc::new(Pressure::default());
        let (shared, told) = (Arc::clone(&pressure), Arc::new(AtomicU32::new(0)));
        let count = Arc::clone(&told);
        at_once(3, move |worker| match worker {
            0 => {
                let short = Reading { memory: Some(0.94), ..Reading::default() };
                shared.judge(&short, Millis(1));
            }
            _ => {
                for _ in 0..2 {
                    count.fetch_add(u32::from(shared.refuses(Class::Low)), SeqCst);
                }
            }
        });
        assert_eq!(pressure.refused(), u64::from(told.load(SeqCst)));
        assert_eq!(pressure.level(), Level::Low);
        let calm = |at| pressure.judge(&Reading { memory: Some(0.1), ..Reading::default() }, Millis(at));
        assert_eq!((calm(2), calm(1_001)), (None, None));
        assert!(calm(1_002).is_some(), "a step a second");
    });
}
