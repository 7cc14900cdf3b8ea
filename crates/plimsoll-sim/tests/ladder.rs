//! The validation ladder: the simulator against queueing theory, rung by rung. Only who climbs it may judge policies.
//!
//! Seeds are fixed, so a test that passes once passes always; tolerances are a few times the spread over seeds. What is
//! measured here and what theory says stands side by side in `docs/SIMULATION.md`.

// A test fails by panicking, its helpers as well; what it measures is printed for `--nocapture`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod theory;

use plimsoll_sim::{
    AboveOne, Arrivals, Count, Discipline, Law, NotNegative, Policy, Positive, Report, Share, World,
};

fn policy(name: &str) -> Policy {
    Policy::parse(name).unwrap()
}

/// Tells the rung, for `cargo test -- --nocapture`, and holds it.
#[track_caller]
fn near(what: &str, measured: f64, theory: f64, tolerance: f64) {
    let off = measured / theory - 1.0;
    println!("{what:55} theory {theory:9.4}  measured {measured:9.4}  off {:+.2} %", off * 100.0);
    assert!(off.abs() <= tolerance, "{what}: {measured} is not within {tolerance} of {theory}");
}

fn run(world: &World, policy_name: &str, seed: u64) -> Report {
    let report = world.run(&policy(policy_name), seed);
    assert_eq!(
        (report.ends.all(), report.stuck),
        (world.requests - (world.requests as f64 * world.warm_up) as u64, 0)
    );
    report
}

fn one_server(load: f64, service: Law) -> World {
    World { service, ..World::uniform(1, load, 1_000_000) }
}

#[test]
fn littles_law_holds_in_every_world() {
    let mut uniform = World::uniform(10, 0.8, 200_000);
    // Only so that `first` has a reason to look at a second server.
    uniform.servers.iter_mut().for_each(|s| s.max_requests = 20);
    let mut sharing = uniform.clone();
    sharing.servers.iter_mut().for_each(|s| s.discipline = Discipline::Ps);
    let bursts = Arrivals::Bursts { times: AboveOne(4.0), share: Share(0.1), length: Positive(50.0) };
    let bursty = World { arrivals: bursts, delay: 0.3, ..uniform.clone() };
    let closed = Arrivals::Closed { clients: Count(30), think: NotNegative(2.0) };
    let worlds = [
        ("uniform", uniform.clone()),
        ("processor sharing", sharing),
        ("bursts and delay", bursty),
        ("closed loop", World { arrivals: closed, ..uniform }),
    ];
    for (name, world) in worlds {
        for policy in ["p2c", "round_robin", "random", "least_conn", "hash", "first", "reference:join_idle"] {
            near(&format!("Little's law, {name}, {policy}"), run(&world, policy, 2).little(), 1.0, 0.01);
        }
    }
}

#[test]
fn one_server_is_the_mm1_of_the_textbook() {
    for load in [0.5, 0.7, 0.9] {
        let report = run(&World::uniform(1, load, 3_000_000), "p2c", 1);
        near(&format!("M/M/1 mean sojourn, load {load}"), report.latency.mean(), theory::mm1(load), 0.04);
        // The sojourn is exponential.
        let p99 = 100f64.ln() * theory::mm1(load);
        near(&format!("M/M/1 p99, load {load}"), report.latency.quantile(0.99), p99, 0.06);
        near(&format!("M/M/1 P(N >= 3), load {load}"), report.tail(3), load.powi(3), 0.12);
    }
}

#[test]
fn equal_jobs_wait_half_as_long() {
    for load in [0.5, 0.8] {
        let t = run(&one_server(load, Law::Deterministic), "p2c", 3).latency.mean();
        near(&format!("M/D/1 mean sojourn, load {load}"), t, theory::mg1(load, 1.0), 0.02);
    }
}

#[test]
fn pollaczek_and_khinchine_are_right_for_every_law() {
    let laws = [
        ("exponential", Law::Exponential, 0.03),
        ("lognormal cv 1.5", Law::Lognormal { cv: Positive(1.5) }, 0.05),
        ("bounded Pareto 1.5, 1:50", Law::BoundedPareto { alpha: AboveOne(1.5), span: AboveOne(50.0) }, 0.05),
        ("bimodal 10 % of 10", Law::Bimodal { share: Share(0.1), times: AboveOne(10.0) }, 0.04),
        ("normal cv 1", Law::Normal { cv: Positive(1.0) }, 0.03),
    ];
    for (name, law, tolerance) in laws {
        let t = run(&one_server(0.7, law), "p2c", 4).latency.mean();
        near(&format!("M/G/1, {name}"), t, theory::mg1(0.7, law.second_moment()), tolerance);
    }
}

#[test]
fn many_cores_with_one_queue_are_erlang_c() {
    for (cores, load) in [(2, 0.8), (10, 0.9)] {
        let mut world = World::uniform(1, load, 3_000_000);
        world.servers[0].cores = cores;
        near(
            &format!("M/M/{cores}, load {load}"),
            run(&world, "p2c", 5).latency.mean(),
            theory::mmc(cores, load),
            0.02,
        );
    }
}

#[test]
fn a_limit_in_the_balancer_blocks_as_erlang_b_says() {
    // Ten cores, ten requests in flight at most: production's own limit turns away what theory says.
    for offered in [7.0, 10.0] {
        let mut world = World::uniform(1, offered / 10.0, 800_000);
        (world.servers[0].cores, world.servers[0].max_requests) = (10, 10);
        // Whoever finds no room is gone at once.
        let ends = world.run(&Policy::with("p2c", "queue = false").unwrap(), 6).ends;
        let blocked = ends.refused as f64 / ends.all() as f64;
        near(
            &format!("Erlang B, 10 servers, {offered} offered"),
            blocked,
            theory::erlang_b(10, offered),
            0.02,
        );
    }
}

#[test]
fn processor_sharing_does_not_care_about_the_law() {
    let laws = [
        ("deterministic", Law::Deterministic),
        ("exponential", Law::Exponential),
        ("lognormal cv 2", Law::Lognormal { cv: Positive(2.0) }),
        ("bimodal 10 % of 10", Law::Bimodal { share: Share(0.1), times: AboveOne(10.0) }),
    ];
    for (name, law) in laws {
        let mut world = one_server(0.7, law);
        world.servers[0].discipline = Discipline::Ps;
        near(
            &format!("M/G/1 processor sharing, {name}"),
            run(&world, "p2c", 7).latency.mean(),
            theory::mm1(0.7),
            0.03,
        );
    }
}

#[test]
fn random_makes_queues_that_know_nothing_of_each_other() {
    near(
        "random, n = 10, load 0.9",
        run(&World::uniform(10, 0.9, 1_000_000), "random", 7).latency.mean(),
        10.0,
        0.05,
    );
}

#[test]
fn round_robin_deals_erlang_arrivals() {
    for (n, load) in [(10, 0.9), (10, 0.7), (100, 0.8)] {
        let t = run(&World::uniform(n as usize, load, 1_000_000), "round_robin", 8).latency.mean();
        near(&format!("round robin as E_{n}/M/1, load {load}"), t, theory::round_robin(n, load), 0.03);
    }
}

#[test]
fn two_choices_come_to_the_mean_field() {
    for load in [0.7, 0.9] {
        let report = run(&World::uniform(400, load, 1_000_000), "p2c", 9);
        near(
            &format!("P2C mean field, n = 400, load {load}"),
            report.latency.mean(),
            theory::mean_field(load, 2),
            0.03,
        );
        for level in 1..=4 {
            let tail = theory::mean_field_tail(load, 2, level);
            let what = format!("P2C P(N >= {level}), n = 400, load {load}");
            near(&what, report.tail(level as usize), tail, if tail < 0.05 { 0.15 } else { 0.05 });
        }
    }
}

#[test]
fn idle_servers_that_queue_up_give_what_lu_says() {
    // Forty dispatchers of ten servers each, and ten of forty.
    for (dispatchers, tolerance) in [(40, 0.05), (10, 0.05)] {
        let world = World { instances: dispatchers, ..World::uniform(400, 0.9, 1_000_000) };
        let t = run(&world, "reference:join_idle", 10).latency.mean();
        let r = 400.0 / f64::from(dispatchers);
        near(&format!("join-idle-queue, r = {r}, load 0.9"), t, theory::join_idle(0.9, r), tolerance);
    }
}

#[test]
fn a_closed_loop_of_one_machine_is_the_repairman() {
    // Machine interference: N clients think 1/a and share one server: throughput is (1 - p0) per unit.
    let (clients, think) = (5u32, 4.0f64);
    let ratio = 1.0 / think;
    let weights = (0..=clients).scan(1.0, |w, k| {
        let here = *w;
        *w *= f64::from(clients - k) * ratio;
        Some(here)
    });
    let idle = 1.0 / weights.sum::<f64>();
    let arrivals = Arrivals::Closed { clients: Count(clients), think: NotNegative(think) };
    let world = World { arrivals, ..World::uniform(1, 0.5, 400_000) };
    let report = run(&world, "p2c", 11);
    near("machine repairman, throughput", report.ends.all() as f64 / report.span, 1.0 - idle, 0.01);
}
