//! Interim answers, `Expect`, and switches of the protocol.

use crate::stage::{LENGTH, SWITCH, Stage, WEBSOCKET, asked, closed, each, ok, send};
use crate::support::{Answer, Gate, Step, get, show};

#[test]
fn interim_answers_are_passed_on_up_to_sixteen() {
    let interim =
        "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\nConnection: x-secret\r\nX-Secret: 1\r\n\r\n";
    for count in [1, 16] {
        let stage = Stage::new(vec![vec![
            Step::Read,
            send(interim.repeat(count) + &ok(LENGTH, "hello")),
            Step::Serve,
        ]]);
        let response = stage.ask(&get("/one")).whole();
        assert_eq!((response.interims.len(), response.body.as_slice()), (count, &b"hello"[..]));
        let (status, fields) = &response.interims[0];
        assert_eq!((*status, fields.all("link").as_slice()), (103, &[&b"</style.css>"[..]][..]));
        assert!(!fields.has("x-secret"), "{fields:?}");
        assert_eq!(stage.ask_after(), 0, "interims are no reason to close");
    }
    let stage =
        Stage::new(vec![vec![Step::Read, send(interim.repeat(17) + &ok(LENGTH, "hello")), Step::Hang]]);
    assert_eq!(stage.ask(&get("/one")).status(), Some(502));
    stage.origin.wait_until("the end of the talkative connection", closed(0));
    assert_ne!(stage.ask_after(), 0);
}

#[test]
fn unasked_and_odd_interims_do_not_hide_the_answer() {
    let cases = vec![
        ("100 unasked", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("102", "HTTP/1.1 102 Processing\r\n\r\n"),
        ("199", "HTTP/1.1 199 x\r\n\r\n"),
        ("103 with a length", "HTTP/1.1 103 Hints\r\nContent-Length: 5\r\n\r\n"),
    ];
    each(cases, |interim| {
        let stage =
            Stage::new(vec![vec![Step::Read, send(interim.to_owned() + &ok(LENGTH, "hello")), Step::Serve]]);
        match stage.ask(&get("/one")) {
            Answer::Whole(response) if response.status == 200 && response.body == b"hello" => {}
            answer => return Err(format!("the client got {}", answer.describe())),
        }
        match stage.ask_after() {
            0 => Ok(()),
            _ => Err("the connection was not used again".to_owned()),
        }
    });
}

#[test]
fn a_client_that_expects_is_told_to_continue() {
    let stage = Stage::new(Vec::new());
    let mut client = stage.client();
    client.send(b"POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let invited = client.read_until(|bytes| bytes.ends_with(b"\r\n\r\n")).to_vec();
    assert!(invited.starts_with(b"HTTP/1.1 100 "), "{}", show(&invited));
    client.send(b"hello");
    let response = client.answer().whole();
    assert!(response.body.ends_with(b" POST /one\n"), "{}", show(&response.body));
    assert_eq!(stage.origin.arrived(0)[0].1.body, b"hello");
}

#[test]
fn an_asked_switch_makes_a_tunnel_that_is_never_pooled() {
    let stage = Stage::new(vec![vec![Step::Read, send(SWITCH.to_owned() + "\x01early"), Step::Hang]]);
    let mut client = stage.client();
    client.send(WEBSOCKET);
    let response = client.answer_to(asked(WEBSOCKET)).whole();
    assert_eq!(response.status, 101, "{}", show(&response.body));
    assert_eq!(response.fields.all("upgrade"), [b"websocket"]);
    assert!(response.fields.lists("connection", "upgrade"), "{:?}", response.fields);
    assert_eq!(client.read(6), b"\x01early");

    // In a tunnel a request is just bytes.
    let inside = b"GET /inside HTTP/1.1\r\n\r\n\0\xff";
    client.send(inside);
    stage
        .origin
        .wait_until("the bytes of the tunnel", |connections| connections[0].received.ends_with(inside));
    client.finish_sending();
    drop(client);
    stage.origin.wait_until("the end of the tunnel", closed(0));
    assert_ne!(stage.ask_after(), 0);
}

#[test]
fn a_tunnel_ends_for_the_client_when_the_server_ends_it() {
    let stage = Stage::new(vec![vec![Step::Read, send(SWITCH.to_owned() + "bye"), Step::Close]]);
    let mut client = stage.client();
    client.send(WEBSOCKET);
    assert_eq!(client.answer_to(asked(WEBSOCKET)).status(), Some(101));
    assert_eq!(client.read(3), b"bye");
    assert!(client.is_closed());
}

#[test]
fn bytes_behind_an_upgrade_wait_for_the_switch() {
    let gate = Gate::default();
    let stage = Stage::new(vec![vec![Step::ReadHead, Step::Wait(gate.clone()), send(SWITCH), Step::Hang]]);
    let mut client = stage.client();
    client.send(&[WEBSOCKET, b"EARLY"].concat());
    stage.origin.wait_until("the upgrade", |connections| connections.first().is_some_and(|c| c.steps >= 1));
    let received = stage.origin.connections()[0].received.clone();
    assert!(received.ends_with(b"\r\n\r\n"), "bytes went through before the switch: {}", show(&received));
    gate.open();
    assert_eq!(client.answer_to(asked(WEBSOCKET)).status(), Some(101));
    stage
        .origin
        .wait_until("the bytes after the switch", |connections| connections[0].received.ends_with(b"EARLY"));
}
