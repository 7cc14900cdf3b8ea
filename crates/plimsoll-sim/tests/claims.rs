//! The policies of production against what theory and measurement say of them, in worlds too small for a scenario.
//!
//! Seeds are fixed. Where a number is not theory's it is of the measurements that the scenarios repeat at length.

// A test fails by panicking, its helpers as well.
#![allow(clippy::unwrap_used)]

#[path = "theory/choices.rs"]
mod choices;

use plimsoll_sim::{Change, Fail, Policy, Report, Server, What, World};

fn policy(name: &str) -> Policy {
    Policy::parse(name).unwrap()
}

#[track_caller]
fn near(value: f64, expected: f64, tolerance: f64) {
    assert!(
        (value / expected - 1.0).abs() <= tolerance,
        "{value:.3} is not within {tolerance} of {expected}"
    );
}

#[test]
fn least_conn_comes_near_the_shared_queue() {
    // A single shared queue (Erlang C) has 1.669; 1.94 was measured for the shortest of ten.
    near(World::uniform(10, 0.9, 400_000).run(&policy("least_conn"), 7).latency.mean(), 1.94, 0.06);
}

/// Fifty servers of which the first hangs from the start; a fair share is 700 requests.
fn with_a_hanging_server(name: &str) -> Report {
    let mut world = World::uniform(50, 0.7, 35_000);
    world.timeline.push(Change { at: 0.0, servers: 0..1, what: What::Speed(0.0) });
    world.run(&policy(name), 3)
}

#[test]
fn a_hanging_server_gets_at_most_ten_of_seven_hundred_from_p2c() {
    let p2c = with_a_hanging_server("p2c");
    assert!(p2c.assigned[0] <= 10 && p2c.share(0..1) <= 2.0 / 50.0, "{}", p2c.assigned[0]);
    assert_eq!(p2c.stuck, p2c.assigned[0], "they wait for ever");
    let round_robin = with_a_hanging_server("round_robin");
    assert_eq!(round_robin.assigned[0], 700, "the measure must notice a policy that does not look at load");
}

#[test]
fn a_server_that_hangs_is_ejected_before_it_has_twelve() {
    let eject = Policy::with("p2c", "eject = true").unwrap();
    for seed in 1..=40 {
        let mut world = World::uniform(50, 0.7, 60_000);
        world.proxy.first_byte = Some(50.0);
        world.bin = Some(10.0);
        world.timeline.push(Change { at: 500.0, servers: 0..1, what: What::Speed(0.0) });
        let report = world.run(&eject, seed);
        let stuck: u32 = report.series.bins[50..150].iter().map(|bin| bin.assigned[0]).sum();
        // Five that time out, and by then five more at most: a sixth would need another server with five, and they are one in
        // 60,000 (0.7^31). Its first trial may come within these ten seconds, the second can't.
        assert!((1..=11).contains(&stuck), "seed {seed}: {stuck}");
    }
}

#[test]
fn a_slow_server_gets_little_from_p2c_and_ruins_round_robin() {
    let run = |name| {
        let mut world = World::uniform(20, 0.6, 100_000);
        world.servers[0].speed = 0.1;
        world.run(&policy(name), 4)
    };
    let (p2c, round_robin) = (run("p2c"), run("round_robin"));
    assert!(p2c.share(0..1) < 0.016, "{}", p2c.share(0..1));
    let (quick, ruined) = (p2c.latency.quantile(0.99), round_robin.latency.quantile(0.99));
    assert!(quick * 10.0 < ruined, "{quick} {ruined}");
}

#[test]
fn weights_let_unequal_machines_work_equally() {
    let mut world = World::uniform(20, 0.5, 100_000);
    let fast = Server { speed: 3.0, weight: 3, ..Server::STANDARD };
    world.servers[..10].fill(fast);
    // Three quarters by weight, and a little more to the fast ones: of two that have as much in flight, theirs is less for their weight.
    let theory = choices::share_of_fast(10, 3, 0.5);
    near(theory, 0.783, 0.001);
    near(world.run(&policy("p2c"), 5).share(0..10), theory, 0.01);
}

#[test]
fn a_black_hole_under_least_conn_takes_one_turn_a_round_wherever_it_stands() {
    let theory = choices::share_of_hole(49.0, 0.7 * 49.0);
    near(theory, 0.0254, 0.005);
    for hole in [0, 25, 49] {
        let mut world = World::uniform(50, 0.7 * 49.0 / 50.0, 200_000);
        world.servers[hole].fail = Fail { share: 1.0, speed: 100.0 };
        let share = world.run(&policy("least_conn"), 3).share(hole..hole + 1);
        // The formula has nobody wait who comes back late; the rule's chain, run apart, has 2.8 %. With ties at random it would be 7 %.
        assert!((theory..1.15 * theory).contains(&share), "{hole}: {share}");
    }
}

#[test]
fn workers_share_what_is_in_flight_and_instances_do_not() {
    // Private counters cost 2.09 -> 3.40 here; shared ones cost nothing.
    let mut world = World::uniform(10, 0.8, 300_000);
    let run = |world: &World| world.run(&policy("p2c"), 6).latency.mean();
    let one = run(&world);
    world.workers = 16;
    near(run(&world), one, 0.05);
    (world.workers, world.instances) = (1, 16);
    near(run(&world), 3.4, 0.05);
}

#[test]
fn weights_that_servers_report_follow_what_they_can_do_and_stay_there() {
    let mut world = World::uniform(2, 0.5, 100_000);
    world.servers[1].speed = 3.0;
    let report = world.run(&Policy::with("round_robin", "weights = \"orca\"").unwrap(), 12);
    // A bin is four seconds; the first reports count after twenty.
    let bins = &report.series.bins[10..100];
    let slow: Vec<(u32, u32)> = bins.iter().map(|bin| (bin.assigned[0], bin.assigned.iter().sum())).collect();
    let (part, all) = slow.iter().fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    near(f64::from(part) / f64::from(all), 0.25, 0.02);
    // Ten seconds are five hundred requests of the slow one: 4.5 % of noise, and three deviations.
    assert!(
        slow.iter().all(|&(part, all)| (f64::from(part) / f64::from(all) - 0.25).abs() < 0.04),
        "{slow:?}"
    );
}

#[test]
fn a_neighbour_does_not_show_in_what_a_server_reports_of_its_processor() {
    let mut world = World::uniform(10, 0.4, 100_000);
    let neighbour = plimsoll_sim::Antagonist { share: 1.0, length: 1e9, takes: 0.5 };
    world.servers[..5].iter_mut().for_each(|server| server.antagonist = Some(neighbour));
    let report = world.run(&Policy::with("round_robin", "weights = \"orca\"").unwrap(), 13);
    // Each request takes as much processor time as elsewhere: that is why the paper's baseline fails where there is less of it.
    near(report.share(0..5), 0.5, 0.01);
}

#[test]
fn a_crashed_server_costs_an_attempt_and_no_request() {
    let mut world = World::uniform(10, 0.5, 50_000);
    let change = |at, down| Change { at, servers: 0..1, what: What::Down(down) };
    world.timeline = vec![change(2_000.0, true), change(4_000.0, false)];
    let report = world.run(&policy("round_robin"), 7);
    assert_eq!(
        (report.ends.good, report.ends.failed),
        (45_000, 0),
        "what was on it and what it refuses is tried again"
    );
    let attempts: u64 = report.assigned.iter().sum();
    // One refusal a second of 20 that it is down, for one worker; and what was on it.
    assert!((50_001..50_060).contains(&attempts), "{attempts}");
}

#[test]
fn what_may_not_be_repeated_fails_when_its_server_dies() {
    let mut world = World::uniform(10, 0.5, 50_000);
    world.proxy.idempotent = false;
    let down = |at, down| Change { at, servers: 0..10, what: What::Down(down) };
    world.timeline = vec![down(2_000.0, true), down(2_000.001, false)];
    let report = world.run(&policy("p2c"), 8);
    assert!((1..100).contains(&report.ends.failed), "{:?}", report.ends);
}

#[test]
fn clients_that_give_up_leave_dead_work_behind() {
    let mut world = World::uniform(1, 1.5, 20_000);
    world.client.patience = Some(5.0);
    let report = world.run(&policy("p2c"), 9);
    assert!(report.ends.timed_out > report.ends.good && report.wasted > 10_000.0, "{:?}", report.ends);
    assert!(report.latency.quantile(1.0) < 5.05, "nobody waits for longer than his patience");
    world.client.retries = 1;
    assert!(world.run(&policy("p2c"), 9).assigned[0] > report.assigned[0], "a retry is another attempt");
}

#[test]
fn requests_are_the_same_under_every_policy() {
    let mut world = World::uniform(10, 0.5, 1);
    world.warm_up = 0.0;
    // The last request's sojourn is its demand alone as long as it meets an empty server.
    let last =
        |n, name| World { requests: n, load: 0.001, ..world.clone() }.run(&policy(name), 10).latency.mean();
    for n in [1, 2, 10, 100] {
        near(last(n, "p2c"), last(n, "random"), 1e-6);
    }
}

#[test]
fn one_seed_gives_one_result_and_another_seed_another() {
    let mut world = World::uniform(10, 0.9, 20_000);
    (world.workers, world.instances, world.delay) = (4, 2, 0.5);
    let run = |seed| world.run(&policy("p2c"), seed);
    assert!(run(1) == run(1));
    assert!(run(1) != run(2));
}
