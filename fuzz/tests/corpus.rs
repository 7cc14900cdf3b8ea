//! Replays the kept inputs of the targets for configuration, routing, lists of servers and their words; the codec's own tests replay the others.

use std::path::Path;

/// Runs a target on all its inputs; at least `least` of them, so that a moved folder cannot pass for an empty one.
fn replay(target: &str, least: usize, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = std::fs::read_dir(&folder).expect("each target has a corpus");
    let mut count = 0;
    for entry in entries {
        let path = entry.expect("readable").path();
        eprintln!("{}", path.display());
        run(&std::fs::read(&path).expect("readable"));
        count += 1;
    }
    assert!(count >= least, "only {count} inputs for {target}");
}

#[test]
fn configurations() {
    replay("config", 15, plimsoll_fuzz::config::check);
}

#[test]
fn trace_contexts() {
    replay("trace_context", 12, plimsoll_fuzz::trace_context::check);
}

#[test]
fn routes() {
    replay("route", 10, plimsoll_fuzz::route::check);
}

#[test]
fn lists_of_servers() {
    replay("list", 25, plimsoll_fuzz::list::check);
}

#[test]
fn load_reports() {
    replay("load_report", 2, plimsoll_fuzz::load_report::check);
}

#[test]
fn words_of_servers() {
    replay("word", 15, plimsoll_fuzz::word::check);
}

#[test]
fn every_seed_finds_the_same_route_as_a_look_at_all() {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    for _ in 0..20_000 {
        let input: Vec<u8> = (0..120).map(|_| next()).collect();
        plimsoll_fuzz::route::check(&input);
    }
}
