//! Policies that learn: how fast servers answer, and how new they are.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::model::{self, Balance};
use plimsoll_traffic::{Ask, Backend, Balancer, Dice, Lease, Micros, Outcome, Verdict};

use crate::fleet::{EWMA, HASH, POLICIES, balancer, server, weighted};

const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000 * MILLI;

fn pick(balancer: &Rc<Balancer>, now: u64, dice: &mut Dice) -> Lease {
    let ask = Ask { now: Micros(now), key: dice.next(), tried: &[] };
    balancer.pick(&ask, dice).expect("nobody is ever full")
}

/// One request a millisecond; each takes what `takes` says of its server, in microseconds (`u64::MAX`: for ever), and ends with
/// the verdict. Gives how many each server got.
fn serve(balancer: &Rc<Balancer>, requests: u64, takes: impl Fn(u32, u64) -> (u64, Verdict)) -> Vec<u32> {
    let mut dice = Dice::new(7);
    let mut counts = vec![0; balancer.backend().servers.len()];
    let mut busy: Vec<(u64, Verdict, Lease)> = Vec::new();
    for request in 0..requests {
        let now = request * MILLI;
        while let Some(at) = busy.iter().position(|(end, ..)| *end <= now) {
            let (end, verdict, lease) = busy.swap_remove(at);
            lease.finish(&Outcome::new(Micros(end), verdict));
        }
        let lease = pick(balancer, now, &mut dice);
        counts[lease.index() as usize] += 1;
        let (took, verdict) = takes(lease.index(), now);
        busy.push((now.saturating_add(took), verdict, lease));
    }
    counts
}

#[test]
fn ewma_prefers_the_faster_server_even_when_idle() {
    // Ten servers, one request at a time: nothing but latency tells them apart.
    let balancer = balancer(&weighted(&EWMA, &[1; 10]), 1);
    let took = |server| if server < 5 { 200 } else { 900 };
    let counts = serve(&balancer, 20_000, |server, _| (took(server), Verdict::Answered));
    let slow: u32 = counts[5..].iter().sum();
    // Two slow ones are 22 % of all pairs; those must go somewhere.
    assert!((4_200..4_800).contains(&slow), "{counts:?}");
}

#[test]
fn a_server_that_hangs_gets_a_handful_of_requests() {
    let hung = |balance: &Balance| {
        let balancer = balancer(&weighted(balance, &[1; 50]), 1);
        let took = |server: u32, now: u64| if server != 0 || now < SECOND { 20 * MILLI } else { u64::MAX };
        serve(&balancer, 20_000, |server, now| (took(server, now), Verdict::Answered))[0]
    };
    let before = 20; // its fair share of the first second
    assert!(hung(&EWMA) < before + 15, "{}", hung(&EWMA));
    let on = hung(&Balance::RoundRobin);
    assert!(on > 390, "the check must notice one that is asked all the same: {on}");
}

#[test]
fn a_server_that_fails_fast_gets_no_more_than_it_is_drawn() {
    let share = |verdict| {
        let balancer = balancer(&weighted(&EWMA, &[1; 50]), 1);
        let counts = serve(&balancer, 20_000, |server, _| match server {
            0 => (10, verdict),
            _ => (20 * MILLI, Verdict::Answered),
        });
        f64::from(counts[0]) / 20_000.0
    };
    // Errors that look like answers draw all that two choices allow and no more; those told as failures next to nothing.
    let (lies, says) = (share(Verdict::Answered), share(Verdict::Failed));
    assert!(lies > 0.03 && lies < 0.04 + 4.0 * (0.04f64 * 0.96 / 20_000.0).sqrt(), "{lies}");
    assert!(says < 0.01, "{says}");
}

#[test]
fn a_lease_is_told_once_and_gives_its_slot_back_however_it_ends() {
    let backend = weighted(&EWMA, &[1, 1]);
    let (balancer, mut dice) = (balancer(&backend, 1), Dice::new(1));
    let mut held: VecDeque<Lease> = (0..40).map(|_| pick(&balancer, 0, &mut dice)).collect();
    held.drain(..).for_each(|lease| lease.finish(&Outcome::new(Micros(10 * MILLI), Verdict::Answered)));
    let lease = pick(&balancer, SECOND, &mut dice);
    let told = lease.index();
    lease.observe(&Outcome::new(Micros(SECOND + 50 * MILLI), Verdict::Answered));
    lease.observe(&Outcome::new(Micros(SECOND), Verdict::Answered));
    drop(lease);
    // The first word counted: that server looks slower now. The dropped ones below teach nothing.
    assert!((0..50).all(|_| pick(&balancer, SECOND + 50 * MILLI, &mut dice).index() != told));
    assert!(backend.servers.iter().all(|s| s.live.in_flight() == 0));
}

fn slow_start(n: usize, balance: &Balance) -> model::Backend {
    let servers = (0..n).map(|i| server(i, 1)).collect();
    let backend = model::Backend::new("b", servers, balance.clone());
    model::Backend { slow_start: Duration::from_secs(10), ..backend }
}

/// Ten servers, the last of which joined by a reload.
fn with_a_newcomer(balance: &Balance) -> Rc<Balancer> {
    let before = Backend::new(&slow_start(9, balance), None);
    balancer(&Arc::new(Backend::new(&slow_start(10, balance), Some(&before))), 1)
}

/// The share of server 9 in 20,000 picks at `now`, each of which ends at once.
fn share_at(balancer: &Rc<Balancer>, now: u64) -> f64 {
    let mut dice = Dice::new(5);
    let count = (0..20_000).filter(|_| pick(balancer, now, &mut dice).index() == 9).count();
    count as f64 / 20_000.0
}

#[test]
fn the_share_of_a_newcomer_grows_by_time_whatever_the_policy() {
    let by_shares: Vec<_> =
        POLICIES.into_iter().filter(|b| !matches!(b, Balance::Hash(_) | Balance::First)).collect();
    assert_eq!(by_shares.len(), 5);
    for balance in by_shares {
        let balancer = with_a_newcomer(&balance);
        for (after, part) in [(0, 0.1), (5, 0.5), (10, 1.0), (60, 1.0)] {
            let share = share_at(&balancer, (100 + after) * SECOND);
            let wanted = part / (9.0 + part);
            assert!((share - wanted).abs() < 0.008, "{balance:?} after {after} s: {share} for {wanted}");
        }
    }
}

#[test]
fn keys_do_not_wait_for_a_newcomer() {
    assert!((share_at(&with_a_newcomer(&HASH), 0) - 0.1).abs() < 0.015);
}

#[test]
fn who_came_back_grows_again_and_a_connect_without_a_refusal_changes_nothing() {
    // `random`, since a lease is held and other policies look at that.
    let backend = Arc::new(Backend::new(&slow_start(10, &Balance::Random), None));
    let (balancer, mut dice) = (balancer(&backend, 1), Dice::new(1));
    assert!((share_at(&balancer, 0) - 0.1).abs() < 0.01, "all were new: nobody waits");
    let mut picks = std::iter::repeat_with(|| pick(&balancer, 0, &mut dice));
    let lease = picks.find(|lease| lease.index() == 9).expect("its turn comes");
    lease.connected(Micros(0));
    assert!((share_at(&balancer, 0) - 0.1).abs() < 0.01);
    backend.servers[9].live.refused(Micros(0).millis());
    assert!(share_at(&balancer, 0) == 0.0);
    lease.connected(Micros(SECOND));
    drop(lease);
    assert!((share_at(&balancer, SECOND) - 0.1 / 9.1).abs() < 0.005);
    assert!((share_at(&balancer, 11 * SECOND) - 0.1).abs() < 0.01);
}
