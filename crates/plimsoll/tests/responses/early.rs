//! Answers that come before the request has ended, and requests that come before the answer has.

use crate::stage::{LENGTH, POST, Stage, closed, ok, send};
use crate::support::{Client, Gate, Step, get, show};

/// 35 bytes that are the rest of a body, or a request if somebody has lost count.
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// What an early answer must leave behind: the client's connection closed, the server's not used again.
#[track_caller]
fn check_early(stage: &Stage, mut client: Client, status: u16) {
    let response = client.answer().whole();
    assert_eq!((response.status, response.keep_alive), (status, false));
    client.send(SMUGGLED);
    client.send(SMUGGLED);
    assert!(client.is_closed(), "left open, with {}", show(client.unread()));
    stage.origin.wait_until("the end of the early connection", closed(0));
    assert_ne!(stage.ask_after(), 0);
    assert_eq!(stage.arrivals("/smuggled"), 0);
}

#[test]
fn an_early_answer_ends_both_connections() {
    for (answer, status) in
        [(ok(LENGTH, "hello"), 200), ("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n".into(), 403)]
    {
        let stage = Stage::new(vec![vec![Step::ReadHead, send(answer), Step::Hang]]);
        let mut client = stage.client();
        client.send(b"POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\nhello");
        check_early(&stage, client, status);
    }
}

#[test]
fn an_early_answer_to_chunks_ends_both_connections() {
    let stage = Stage::new(vec![vec![Step::ReadHead, send(ok(LENGTH, "hello")), Step::Hang]]);
    let mut client = stage.client();
    client.send(b"POST /one HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    check_early(&stage, client, 200);
}

#[test]
fn an_answer_instead_of_continue_ends_both_connections() {
    let stage = Stage::new(vec![vec![Step::ReadHead, send(ok(LENGTH, "hello")), Step::Hang]]);
    let mut client = stage.client();
    client.send(b"POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\nExpect: 100-continue\r\n\r\n");
    check_early(&stage, client, 200);
}

#[test]
fn pipelined_requests_travel_one_at_a_time_and_return_in_order() {
    let gate = Gate::default();
    let script = vec![Step::Read, Step::Wait(gate.clone()), send(ok(LENGTH, "hello")), Step::Serve];
    let stage = Stage::new(vec![script]);
    let mut client = stage.client();
    client.send(&[get("/one"), get("/second"), get("/third")].concat());
    stage.origin.wait_until("the first request", |connections| {
        connections.first().is_some_and(|connection| connection.requests.len() == 1)
    });
    assert_eq!(
        (stage.origin.connections().len(), stage.origin.leftover()),
        (1, 0),
        "the second did not wait"
    );
    gate.open();
    assert_eq!(client.answer().whole().body, b"hello");
    assert!(client.answer().whole().body.ends_with(b" GET /second\n"));
    assert!(client.answer().whole().body.ends_with(b" GET /third\n"));
    assert_eq!(stage.origin.paths(), ["/one", "/second", "/third"]);
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answers() {
    let stage = Stage::new(Vec::new());
    let mut client = stage.client();
    client.send(&[POST.to_vec(), get("/second")].concat());
    client.finish_sending();
    assert!(client.answer().whole().body.ends_with(b" POST /one\n"));
    assert!(client.answer().whole().body.ends_with(b" GET /second\n"));
    assert!(client.is_closed());
}

#[test]
fn a_clean_exchange_leaves_its_connection_for_others() {
    let stage = Stage::new(Vec::new());
    stage.ask(POST).whole();
    assert_eq!(stage.ask_after(), 0);
    assert_eq!(stage.ask_after(), 0);
    assert_eq!(stage.origin.connections().len(), 1);
}
