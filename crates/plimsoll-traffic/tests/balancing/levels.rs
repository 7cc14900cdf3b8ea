//! Priorities: who takes over, and how much.

use std::rc::Rc;
use std::sync::Arc;

use plimsoll_config::model::Balance;
use plimsoll_traffic::{Ask, Backend, Balancer, Dice, Micros, Millis, NoServer};

use crate::fleet::{POLICIES, backend, balancer, server};

/// Ten servers of priority 0, ten of 1, one backup.
fn two_levels(balance: &Balance) -> (Arc<Backend>, Rc<Balancer>) {
    let mut servers: Vec<_> = (0..21).map(|i| server(i, 1)).collect();
    servers.iter_mut().skip(10).for_each(|s| s.priority = 1);
    servers[20].backup = true;
    let backend = backend(balance, servers);
    let balancer = balancer(&backend, 1);
    (backend, balancer)
}

/// How many of 5,000 picks at `now` go to each level: 0, 1, backup.
fn shares(balancer: &Rc<Balancer>, now: Millis, tried: &[u32]) -> [usize; 3] {
    let mut dice = Dice::new(2);
    let mut counts = [0; 3];
    for _ in 0..5_000 {
        let ask = Ask { now: now.into(), key: dice.next(), tried };
        let index = balancer.pick(&ask, &mut dice).expect("some server can").index();
        counts[(index / 10) as usize] += 1;
    }
    counts
}

#[test]
fn a_level_spills_over_what_it_cannot_take() {
    // Available of ten, percent of the first level: Envoy's table.
    for (available, percent) in [(10, 100), (8, 100), (7, 98), (5, 70), (2, 28), (0, 0)] {
        for balance in &POLICIES {
            let (backend, balancer) = two_levels(balance);
            (available..10).for_each(|i: usize| backend.servers[i].live.refused(Millis(500)));
            let shares = shares(&balancer, Millis(500), &[]);
            let error = shares[0].abs_diff(percent * 50);
            assert!(error < 130 && shares[2] == 0, "{balance:?} with {available}: {shares:?}");
        }
    }
}

#[test]
fn a_worker_notices_within_fifty_milliseconds() {
    let (backend, balancer) = two_levels(&Balance::P2c);
    assert_eq!(shares(&balancer, Millis(500), &[]), [5_000, 0, 0]);
    (0..10).for_each(|i: usize| backend.servers[i].live.refused(Millis(500)));
    // Its count is old, but no server that refused is chosen all the same.
    assert_eq!(shares(&balancer, Millis(501), &[]), [0, 5_000, 0]);
    for server in &backend.servers[5..10] {
        assert!(server.live.connected());
    }
    assert!(shares(&balancer, Millis(550), &[])[0].abs_diff(3_500) < 130);
}

#[test]
fn who_was_tried_everywhere_gets_the_next_level_and_then_the_backup() {
    for balance in &POLICIES {
        let (_, balancer) = two_levels(balance);
        let all: Vec<u32> = (0..21).collect();
        assert_eq!(shares(&balancer, Millis(0), &all[..10]), [0, 5_000, 0], "{balance:?}");
        assert_eq!(shares(&balancer, Millis(0), &all[..20]), [0, 0, 5_000], "{balance:?}");
        let ask = Ask { now: Micros(0), key: 1, tried: &all };
        assert_eq!(balancer.pick(&ask, &mut Dice::new(1)).unwrap_err(), NoServer::Tried);
    }
}

#[test]
fn the_backup_waits_until_no_level_has_anybody() {
    let (backend, balancer) = two_levels(&Balance::P2c);
    (0..19).for_each(|i: usize| backend.servers[i].live.refused(Millis(0)));
    assert_eq!(shares(&balancer, Millis(0), &[]), [0, 5_000, 0]);
    backend.servers[19].live.refused(Millis(0));
    assert_eq!(shares(&balancer, Millis(0), &[]), [0, 0, 5_000]);
    backend.servers[20].live.refused(Millis(0));
    assert_eq!(shares(&balancer, Millis(0), &[])[2], 0, "all refuse: priority counts again");
}
