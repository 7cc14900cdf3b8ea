//! A collector that is dead, slow, failing or changed: requests do not notice, spans are sent when they can be, and what is lost is counted.

use std::time::{Duration, Instant};

use crate::process::{Port, until};
use crate::spans::spans;
use crate::stage::{Stage, admin, ask, ask_often, file};
use crate::support::{Gate, Origin, Plimsoll, Step};
use crate::{ALL, page::Page};

fn answering(answer: &str) -> Vec<Step> {
    vec![Step::Read, Step::Send(answer.as_bytes().to_vec()), Step::Close]
}

#[test]
fn a_dead_collector_hurts_nobody() {
    let dead = Port::reserve();
    let origin = Origin::serve();
    let program = Plimsoll::start(&file(&[origin.address()], "", Some(dead.address()), ALL));
    ask_often(program.address(), 200, "");
    until("a failure", || Page::of(admin(&program)).sum("plimsoll_tracing_export_failures_total", &[]) > 0);
    let before = Instant::now();
    assert!(program.stop().success());
    assert!(before.elapsed() < Duration::from_secs(4), "it took {:?}", before.elapsed());
}

#[test]
fn a_collector_that_does_not_answer_costs_spans_and_nothing_else() {
    let stage = Stage::before(Origin::scripted(vec![vec![Step::Hang]; 4]), "", ALL);
    stage.ask("");
    stage.collector.wait_until("a message", |connections| !connections.is_empty());
    // One batch hangs; the queue holds 4,096 requests and drops the others.
    ask_often(stage.program.address(), 5000, "");
    until("drops", || stage.dropped("queue_full") == (5000 - 4096) * 2);
    assert_eq!(stage.page().sum("plimsoll_tracing_spans_exported_total", &[]), 0);
    let before = Instant::now();
    let Stage { program, .. } = stage;
    assert!(program.stop().success());
    assert!(before.elapsed() < Duration::from_secs(4), "it took {:?}", before.elapsed());
}

#[test]
fn what_a_collector_refuses_is_dropped_and_counted() {
    let refusal = answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let stage = Stage::before(Origin::scripted(vec![refusal]), "", ALL);
    stage.ask("");
    until("the drop", || stage.dropped("not_sent") == 2);
    stage.program.wait_for_line(0, |line| line.contains("2 spans dropped") && line.contains("400"));
    stage.ask("");
    until("the next ones", || stage.page().sum("plimsoll_tracing_spans_exported_total", &[]) == 2);
    stage.program.wait_for_line(0, |line| line.contains("takes spans again"));
    assert_eq!(stage.page().sum("plimsoll_tracing_export_failures_total", &[]), 1);
}

#[test]
fn a_collector_that_is_busy_is_asked_again() {
    let busy = answering("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n");
    let cut = vec![Step::Read, Step::Reset];
    let stage = Stage::before(Origin::scripted(vec![busy, cut]), "", ALL);
    stage.ask("");
    until("success", || stage.page().sum("plimsoll_tracing_spans_exported_total", &[]) == 2);
    assert_eq!(stage.page().sum("plimsoll_tracing_export_failures_total", &[]), 2);
    let bodies: Vec<_> = stage.collector.arrived(0).into_iter().map(|(_, request)| request.body).collect();
    assert!(bodies.len() == 3 && bodies.iter().all(|body| *body == bodies[0]), "the same message each time");
}

#[test]
fn spans_that_a_collector_rejects_are_counted_apart() {
    // partial_success { rejected_spans: 1, error_message: "no" }
    let partial = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n\x0a\x06\x08\x01\x12\x02no";
    let stage = Stage::before(Origin::scripted(vec![answering(partial)]), "", ALL);
    stage.ask("");
    until("the rejection", || stage.dropped("rejected") == 1);
    assert_eq!(stage.page().sum("plimsoll_tracing_spans_exported_total", &[]), 1);
    stage.program.wait_for_line(0, |line| line.contains("rejects spans: no"));
}

#[test]
fn a_stop_sends_what_there_is() {
    let stage = Stage::with("", ALL);
    ask_often(stage.program.address(), 1500, "");
    let Stage { program, collector, origin: _origin } = stage;
    assert!(program.stop().success());
    assert_eq!(spans(&collector).len(), 3000);
}

#[test]
fn a_reload_changes_the_collector_and_loses_nothing() {
    let gate = Gate::default();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec();
    let origin =
        Origin::scripted(vec![vec![Step::Read, Step::Wait(gate.clone()), Step::Send(answer), Step::Serve]]);
    let (first, second) = (Origin::serve(), Origin::serve());
    let text = |collector: Option<&Origin>| {
        file(
            &[origin.address()],
            "",
            collector.map(Origin::address),
            if collector.is_some() { ALL } else { "" },
        )
    };
    let program = Plimsoll::start(&text(Some(&first)));
    let reload = |text: &str| {
        let said = program.stderr_lines().len();
        program.configure(text);
        program.signal(rustix::process::Signal::HUP);
        program.wait_for_line(said, |line| line.contains("reloaded"));
    };
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ask(program.address(), ""));
        origin.wait_until("the request", |connections| connections.iter().any(|c| c.requests.len() == 1));
        reload(&text(Some(&second)));
        assert_eq!(ask(program.address(), "").status, 200);
        until("the spans of the new one", || spans(&second).len() == 2);
        assert!(spans(&first).is_empty());
        gate.open();
        assert_eq!(waiting.join().expect("no panic").status, 200);
    });
    until("the spans of what began before", || spans(&first).len() == 2);
    reload(&text(None));
    assert_eq!(ask(program.address(), "").status, 200);
    reload(&text(Some(&second)));
    assert_eq!(ask(program.address(), "").status, 200);
    assert!(program.stop().success());
    assert_eq!((spans(&first).len(), spans(&second).len()), (2, 4), "nothing while it was off, nothing lost");
}
