//! Connections to servers: what is left on them reaches nobody else, and what a dead one costs.

use crate::stage::{LENGTH, POST, Stage, closed, ok, send};
use crate::support::{Gate, Step, get, show};

#[test]
fn an_idle_connection_that_receives_bytes_is_closed() {
    for poison in
        ["HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", "x", "\r\n", "HTTP/1.1 408 Timeout\r\n\r\n"]
    {
        let gate = Gate::default();
        let script =
            vec![Step::Read, send(ok(LENGTH, "hello")), Step::Wait(gate.clone()), send(poison), Step::Hang];
        let stage = Stage::new(vec![script]);
        assert_eq!(stage.ask(&get("/one")).whole().body, b"hello");
        gate.open();
        stage.origin.wait_until("the poison leave", |connections| connections[0].steps >= 4);
        assert_ne!(stage.ask_after(), 0, "the poisoned connection was used");
        stage.origin.wait_until("the end of the poisoned connection", closed(0));
    }
}

#[test]
fn an_idle_connection_that_the_server_closed_is_not_used() {
    for end in [Step::Close, Step::Reset] {
        let gate = Gate::default();
        let script = vec![Step::Read, send(ok(LENGTH, "hello")), Step::Wait(gate.clone()), end];
        let stage = Stage::new(vec![script]);
        assert_eq!(stage.ask(&get("/one")).whole().body, b"hello");
        gate.open();
        stage.origin.wait_until("the end of the idle connection", closed(0));
        let response = stage.ask(POST).whole();
        assert!(response.body.ends_with(b" POST /one\n"), "the POST got {}", show(&response.body));
        assert_eq!(stage.arrivals("/one"), 2);
    }
}

#[test]
fn a_get_on_a_dead_pooled_connection_is_tried_once_more() {
    for end in [Step::Close, Step::Reset] {
        let stage = Stage::new(vec![vec![Step::Read, send(ok(LENGTH, "hello")), Step::Read, end]]);
        assert_eq!(stage.ask(&get("/one")).whole().body, b"hello");
        assert_eq!(stage.ask_after(), 1);
        assert_eq!(stage.arrivals("/two"), 2, "it arrives on the dying connection and on the fresh one");
    }
}

#[test]
fn a_get_is_not_tried_for_ever() {
    let first = vec![Step::Read, send(ok(LENGTH, "hello")), Step::Read, Step::Close];
    let dying = vec![Step::Read, Step::Close];
    let stage = Stage::new(vec![first, dying.clone(), dying.clone(), dying.clone(), dying.clone(), dying]);
    assert_eq!(stage.ask(&get("/one")).whole().body, b"hello");
    assert_eq!(stage.ask(&get("/two")).status(), Some(502));
    assert!(stage.arrivals("/two") <= 4, "{} arrivals", stage.arrivals("/two"));
}

#[test]
fn a_post_on_a_dead_pooled_connection_is_a_502_and_never_delivered_twice() {
    for end in [Step::Close, Step::Reset] {
        let stage = Stage::new(vec![vec![Step::Read, send(ok(LENGTH, "hello")), Step::Read, end]]);
        assert_eq!(stage.ask(&get("/before")).whole().body, b"hello");
        assert_eq!(stage.ask(POST).status(), Some(502));
        stage.ask_after();
        assert_eq!(stage.arrivals("/one"), 1);
    }
}

#[test]
fn nothing_is_tried_again_once_the_answer_has_begun() {
    let script =
        vec![Step::Read, send(ok(LENGTH, "hello")), Step::Read, send("HTTP/1.1 200 OK\r\nX"), Step::Close];
    let stage = Stage::new(vec![script]);
    assert_eq!(stage.ask(&get("/before")).whole().body, b"hello");
    assert_eq!(stage.ask(&get("/one")).status(), Some(502));
    assert_ne!(stage.ask_after(), 0);
    assert_eq!(stage.arrivals("/one"), 1);
}
