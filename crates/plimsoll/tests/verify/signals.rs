//! Whatever ends a verification early, origins are as they were found.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::balancer::{Balancer, Defect, Rule};
use crate::judge::{Origin, controls};
use crate::support::{PATIENCE, exchange};

fn behaviour(origin: &Origin) -> Value {
    let request = b"GET /_origin HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = exchange(origin.control.parse().expect("an address"), request);
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("a head");
    let page: Value = serde_json::from_slice(&answer[head + 4..]).expect("JSON");
    page["behaviour"].clone()
}

/// Started by a shell, so that it may be told what to ignore before.
fn begin(before: &str, url: &str, controls: &str) -> Child {
    let program = env!("CARGO_BIN_EXE_plimsoll");
    let script = format!(
        "{before} exec {program} verify --url {url} --control {controls} --policy p2c --contract busy"
    );
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("there is a shell")
}

/// The longest that the busy server is looked for, and then some.
const LONGEST: Duration = Duration::from_secs(60);

fn end(child: &mut Child) -> Option<i32> {
    let begin = Instant::now();
    while begin.elapsed() < LONGEST {
        if let Some(status) = child.try_wait().expect("it is ours") {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    panic!("it did not end");
}

/// Sends signals while an origin is slow; the exit code, and whether all is as it was.
fn interrupted(before: &str, signals: &[Signal]) -> (Option<i32>, bool) {
    let origins = ["a", "b", "c"].map(|name| Origin::with(name, &["--delay", "1ms", "--error-rate", "1%"]));
    let servers: Vec<(String, u16)> = origins.iter().map(|origin| (origin.address.clone(), 1)).collect();
    let balancer = Balancer::start(Rule::BestOfTwo, Defect::None, &servers);
    let found: Vec<Value> = origins.iter().map(behaviour).collect();
    let mut child = begin(before, &format!("http://{}", balancer.address), &controls(&origins));
    let begun = Instant::now();
    while behaviour(&origins[0])["delay"] != "4s" {
        assert!(begun.elapsed() < PATIENCE, "no origin was made slow");
        std::thread::sleep(Duration::from_millis(20));
    }
    signals.iter().for_each(|&signal| kill_process(Pid::from_child(&child), signal).expect("it runs"));
    let code = end(&mut child);
    (code, origins.iter().map(behaviour).eq(found))
}

#[test]
fn a_signal_ends_it_and_origins_are_put_back() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        assert_eq!(interrupted("", &[signal]), (Some(3), true), "{signal:?}");
    }
}

#[test]
fn a_second_signal_does_not_keep_origins_broken() {
    assert_eq!(interrupted("", &[Signal::TERM, Signal::TERM, Signal::INT]), (Some(3), true));
}

#[test]
fn a_hang_up_that_is_ignored_stays_ignored() {
    assert_eq!(interrupted("trap '' HUP;", &[Signal::HUP]), (Some(0), true), "it goes on to the end");
}
