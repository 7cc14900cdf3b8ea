//! Policies that learn: how fast servers answer, and how new they are.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::model::{self, Balance};
use plimsoll_traffic::{Ask, Backend, Balancer, Dice, Lease, Micros, Outcome, Report, Verdict};

use crate::fleet::{EWMA, HASH, POLICIES, PREQUAL, balancer, server, weighted};

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
    assert_eq!(by_shares.len(), 6);
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

fn load(in_flight: u32, latency: f32) -> Report {
    Report { in_flight: Some(in_flight), latency: Some(latency), ..Report::default() }
}

#[test]
fn prequal_takes_the_fast_ones_that_reported_and_is_p2c_when_reports_are_old() {
    let balancer = balancer(&weighted(&PREQUAL, &[1; 40]), 1);
    let mut dice = Dice::new(2);
    let tell = |now: u64| {
        for server in 0..8 {
            let latency = if server < 2 { 10.0 } else { 500.0 };
            balancer.hear(server, &load(3, latency), None, Micros(now));
        }
    };
    let mut fast = 0;
    for request in 0..1_000 {
        let now = SECOND + request * MILLI;
        tell(now);
        fast += u32::from(pick(&balancer, now, &mut dice).index() < 2);
    }
    // Three in four by reports, the others as p2c has it, where two servers of forty get their part.
    assert!((700..=830).contains(&fast), "{fast}");
    let later = 10 * SECOND;
    let fast = (0..1_000).filter(|_| pick(&balancer, later, &mut dice).index() < 2).count();
    assert!((30..=70).contains(&fast), "reports are old: {fast}");
}

#[test]
fn prequal_asks_three_servers_for_each_request_and_nobody_else_asks() {
    let probe = Some(model::Probe { path: "/load".into(), rate: 300 });
    let asks = Balance::Prequal(model::Prequal { quantile: 84, age: Duration::from_secs(1), probe });
    let balancers = [balancer(&weighted(&asks, &[1; 40]), 1), balancer(&weighted(&PREQUAL, &[1; 40]), 1)];
    let mut dice = Dice::new(2);
    let mut asked = [0; 2];
    for (balancer, asked) in balancers.iter().zip(&mut asked) {
        for now in 0..1_000 {
            drop(pick(balancer, now, &mut dice));
            *asked += std::iter::from_fn(|| balancer.next_probe(&mut dice)).count();
        }
    }
    assert_eq!(asked, [3_000, 0]);
}

#[test]
fn a_server_that_failed_is_not_taken_for_what_it_said_before() {
    let balancer = balancer(&weighted(&PREQUAL, &[1; 40]), 1);
    let mut dice = Dice::new(2);
    let mut bad = 0;
    for request in 0..10_000 {
        let now = request * MILLI;
        let lease = pick(&balancer, now, &mut dice);
        let failed = lease.index() == 0;
        bad += u32::from(failed);
        lease.hear(&load(0, if failed { 1.0 } else { 900.0 }), Micros(now));
        lease.finish(&Outcome::new(Micros(now), if failed { Verdict::Failed } else { Verdict::Answered }));
    }
    assert!(bad <= 300, "its quick errors drew {bad} of 10,000");
}

#[test]
fn reported_weights_give_each_server_what_it_can_do_and_do_not_swing() {
    for balance in [Balance::P2c, EWMA, Balance::RoundRobin, Balance::Random, Balance::LeastConn] {
        let reported = model::Reported {
            blackout: Duration::from_secs(10),
            expiration: Duration::from_secs(180),
            penalty: 100,
        };
        let spec = model::Backend::new("b", vec![server(0, 1), server(1, 1)], balance.clone());
        let spec = model::Backend { reported: Some(reported), ..spec };
        let balancer = balancer(&Arc::new(Backend::new(&spec, None)), 1);
        let (mut dice, capacities) = (Dice::new(3), [2_000.0, 6_000.0]);
        let mut counts = [1f64; 2];
        for second in 0..60 {
            let rates = std::mem::replace(&mut counts, [0.0; 2]);
            for request in 0..1_000 {
                let lease = pick(&balancer, second * SECOND + request * MILLI, &mut dice);
                let index = lease.index() as usize;
                counts[index] += 1.0;
                let cpu = rates[index] / capacities[index];
                lease.hear(
                    &Report { cpu, requests: rates[index], ..Report::default() },
                    Micros(second * SECOND),
                );
            }
            let share = counts[0] / 1_000.0;
            let wanted = if second < 10 { 0.5 } else { 0.25 };
            // Drawn by chance: four times the deviation of 1,000 draws.
            assert!(
                second == 10 || (share - wanted).abs() < 0.055,
                "{balance:?}: {share} in second {second}"
            );
        }
    }
}
