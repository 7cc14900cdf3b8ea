//! Rate limits go on from one process to the next: whoever has used up a burst does not get another one.

use std::os::unix::fs::PermissionsExt;
use std::thread;

use rustix::process::Signal;

use crate::rig::{PROGRAM, ask, fresh_path, until};
use crate::stage::Family;
use crate::support::{Client, Origin};

/// A program whose route `/limited/*` has this limit.
struct Limited {
    family: Family,
    origin: Origin,
}

impl Limited {
    fn start(limit: &str) -> Limited {
        let origin = Origin::serve();
        let family = Family::start(2, &[origin.address()]);
        let limited = Limited { family, origin };
        limited.configure(limit);
        let said = limited.family.program().stderr_lines().len();
        limited.family.signal(Signal::HUP);
        limited.family.program().wait_for_line(said, |line| line.contains("reloaded "));
        limited
    }

    fn configure(&self, limit: &str) {
        let (bind, admin, server) = (self.family.address(), self.family.admin(), self.origin.address());
        self.family.program().configure(&format!(
            "workers = 2\n[[listen]]\nbind = \"{bind}\"\nto = \"b\"\n[admin]\nbind = \"{admin}\"\n[backend.b]\nservers = [\"{server}\"]\n\
             [[route]]\nname = \"limited\"\npath = \"/limited/*\"\nto = \"b\"\nlimit = {limit}\n"
        ));
    }

    fn statuses<const N: usize>(&self, key: &str) -> [u16; N] {
        [(); N].map(|()| ask(self.family.address(), request(key)).whole().status)
    }
}

fn request(key: &str) -> Vec<u8> {
    format!("GET /limited/ HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n").into_bytes()
}

#[test]
fn a_burst_that_was_used_before_an_upgrade_does_not_come_again() {
    let limited = Limited::start("{ rate = \"1/h\", burst = 3, key = \"header:x-key\" }");
    assert_eq!(limited.statuses("used up"), [200, 200, 200, 429]);
    assert_eq!(limited.statuses("begun"), [200]);
    let mut kept = Client::connect(limited.family.address());
    kept.send(&request("kept"));
    assert_eq!(kept.answer().whole().status, 200);
    for _ in 0..2 {
        limited.family.upgrade();
        assert_eq!(limited.statuses("used up"), [429]);
    }
    assert_eq!(limited.statuses("begun"), [200, 200, 429]);
    assert_eq!(limited.statuses("new"), [200, 200, 200, 429]);
    kept.send(&request("used up"));
    assert_eq!(kept.answer().whole().status, 429, "the old process has forgotten nothing either");
}

#[test]
fn what_is_used_while_the_new_process_starts_is_used() {
    let limited = Limited::start("{ rate = \"1/h\", burst = 3, key = \"header:x-key\" }");
    let (slow, go) = (fresh_path("slow-plimsoll"), fresh_path("go"));
    let script =
        format!("#!/bin/sh\nwhile [ ! -e {} ]; do sleep 0.01; done\nexec {PROGRAM} \"$@\"\n", go.display());
    std::fs::write(&slow, script).expect("the test's own directory can be written");
    std::fs::set_permissions(&slow, PermissionsExt::from_mode(0o755)).expect("it is ours");
    assert_eq!(limited.statuses("a"), [200]);
    let old = limited.family.pid();
    thread::scope(|scope| {
        let asked = scope.spawn(|| limited.family.upgrade_by_verb(&[slow.to_str().expect("plain text")]));
        limited.family.newcomer(&[old]);
        // The old process has told what it had counted, and serves on.
        assert_eq!(limited.statuses("a"), [200, 200, 429]);
        assert_eq!(limited.statuses("b"), [200, 200]);
        std::fs::write(&go, "").expect("the test's own directory can be written");
        assert_eq!(asked.join().expect("it is upgraded"), old);
    });
    limited.family.until_ended(old);
    assert_eq!(limited.statuses("a"), [429]);
    assert_eq!(limited.statuses("b"), [200, 429]);
    [slow, go].into_iter().for_each(|path| drop(std::fs::remove_file(path)));
}

#[test]
fn a_limit_that_has_changed_counts_the_requests_of_before() {
    let limited = Limited::start("{ rate = \"1/h\", burst = 3, key = \"header:x-key\" }");
    assert_eq!(limited.statuses("a"), [200, 200, 200, 429]);
    assert_eq!(limited.statuses("b"), [200]);
    limited.configure("{ rate = \"2/h\", burst = 5, key = \"header:x-key\" }");
    limited.family.upgrade();
    assert_eq!(limited.statuses("a"), [200, 200, 429]);
    limited.configure("{ rate = \"2/h\", burst = 2, key = \"header:x-key\" }");
    limited.family.upgrade();
    assert_eq!(limited.statuses("b"), [200, 429]);
    limited.configure("{ rate = \"2/h\", burst = 2, key = \"query:x\" }");
    limited.family.upgrade();
    assert_eq!(limited.statuses("b"), [200, 200, 429], "by another key it is another limit");
    until("one process is left", || limited.family.living() == [limited.family.pid()]);
}
