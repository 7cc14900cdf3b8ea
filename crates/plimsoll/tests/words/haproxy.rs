//! The same agent before HAProxy and us: what each makes of the same lines, one after the other.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use crate::need::need;
use crate::process::{Process, scratch};
use crate::rig::until;
use crate::stage::{Speaker, Speech, Stage};

/// What a server gets: whether anything new, how much of its weight in percent, and how many requests at once.
type Gets = (bool, u32, u32);

/// HAProxy's manual counts a weight of 0 as drained, so it gets nothing there and here.
fn gets(is_open: bool, percent: u32, most: u32) -> Gets {
    (is_open && percent > 0, percent, most)
}

fn of_haproxy(socket: &Path) -> Option<Gets> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.write_all(b"show stat\n").ok()?;
    stream.shutdown(Shutdown::Write).ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    let heads: Vec<&str> = page.lines().next()?.trim_start_matches("# ").split(',').collect();
    let line: Vec<&str> = page.lines().find(|line| line.starts_with("all,a,"))?.split(',').collect();
    let cell = |name: &str| heads.iter().position(|head| *head == name).map(|at| line[at]);
    // Its limit is shown only where there is one.
    Some(gets(
        cell("status")?.starts_with("UP") || cell("status")? == "no check",
        cell("weight")?.parse().ok()?,
        cell("slim")?.parse().unwrap_or(0),
    ))
}

fn of_ours(stage: &Stage) -> Option<Gets> {
    let seen = stage.seen("a");
    let percent = (seen["share"].as_f64()? * 100.0).round() as u32;
    Some(gets(seen["state"] == "up", percent, u32::try_from(seen["max_requests"].as_u64()?).ok()?))
}

#[test]
fn haproxy_and_we_make_the_same_of_the_same_lines() {
    let Some(haproxy) = need("haproxy") else { return };
    let speaker = Speaker::start("a", Speech::line("up"));
    let place = scratch("words-haproxy");
    std::fs::create_dir_all(&place).expect("the test's own directory can be written");
    let (file, socket) = (place.join("haproxy.cfg"), place.join("stats"));
    let configuration = format!(
        "global\n  stats socket {} level admin\ndefaults\n  mode http\n  timeout client 5s\n  timeout server 5s\n  timeout connect 5s\n\
         frontend f\n  bind unix@{}\n  default_backend all\nbackend all\n  server a {} weight 100 maxconn 9 check inter 50ms agent-check agent-port {} agent-inter 50ms\n",
        socket.display(),
        place.join("front").display(),
        speaker.address,
        speaker.agent.port()
    );
    std::fs::write(&file, configuration).expect("the test's own directory can be written");
    let _haproxy = Process::start("haproxy", Command::new(haproxy).arg("-db").arg("-f").arg(&file));
    let stage = Stage::of(vec![speaker], "", "max_requests = 9");
    let lines = [
        ("up", (true, 100, 9)),
        ("75%", (true, 75, 9)),
        ("75%,maxconn:30,maint,down", (false, 75, 30)),
        ("ready", (false, 75, 30)),
        ("up 100%", (true, 100, 30)),
        ("drain # with a reason", (false, 100, 30)),
        ("READY\tmaxconn:9", (true, 100, 9)),
        ("down #up", (false, 100, 9)),
        ("hello up", (true, 100, 9)),
        ("stopped fail up", (true, 100, 9)),
        ("10% 20% 30%", (true, 30, 9)),
        ("0%", (false, 0, 9)),
        ("120% what", (true, 120, 9)),
        ("maint\rready", (false, 120, 9)),
        ("ready,100%", (true, 100, 9)),
    ];
    for (line, expected) in lines {
        stage.speakers[0].says(line);
        let asked = stage.speakers[0].asked();
        // Both have asked several times since.
        until("it is asked", || stage.speakers[0].asked() > asked + 6);
        until(&format!("HAProxy makes {expected:?} of {line:?}, and not {:?}", of_haproxy(&socket)), || {
            of_haproxy(&socket) == Some(expected)
        });
        until(&format!("we make {expected:?} of {line:?}, and not {:?}", of_ours(&stage)), || {
            of_ours(&stage) == Some(expected)
        });
    }
}
