//! Servers behind Plimsoll that are neither nginx nor on 127.0.0.1: Node, WebSockets, a Unix socket, IPv6.

use std::path::Path;

use serde_json::{Value, json};

use crate::need::{need, need_ipv6, need_python, script};
use crate::process::{Process, Server};
use crate::support::{Client, Plimsoll, get};

/// Starts a script that prints the port it listens on; gives its address too.
fn server(interpreter: &Path, name: &str) -> (Process, String) {
    let process = script(interpreter, name, &[]);
    let port = process.said(|line| serde_json::from_str::<Value>(line).ok()?["port"].as_u64());
    (process, format!("127.0.0.1:{port}"))
}

fn before(server: &str) -> Plimsoll {
    Plimsoll::start(&format!("[[listen]]\nbind = \"127.0.0.1:0\"\nto = [\"{server}\"]\n"))
}

#[test]
fn nodes_streams_hints_trailers_and_expectations_pass_as_they_should() {
    let Some(node) = need("node") else { return };
    let (_server, address) = server(&node, "node_server.js");
    let plimsoll = before(&address);
    let result = script(&node, "node_streams.js", &[&format!("http://{}", plimsoll.address())]).result();
    let streamed = json!({
        "bytes": 2_097_152, "clean": true, "framing": "chunked", "trailers": {}, "announced": null,
    });
    assert_eq!(result["streamed"], streamed, "whole, and without its trailers");
    let hint = json!([103, "</style.css>; rel=preload; as=style"]);
    assert_eq!(result["hinted"], json!({ "status": 200, "interim": [hint], "body": "a page" }));
    assert_eq!(result["mirrored"], true);
    assert_eq!(result["uploadTrailers"], json!({ "bytes": 5, "trailers": {}, "announced": null }));
    assert_eq!(result["accepted"]["bytes"], 300_000, "{result}");
    assert_eq!(result["accepted"]["interim"], json!(["continue", [100, null]]));
    assert_eq!(
        result["refused"],
        json!({ "status": 403, "interim": [], "bytes": 8 }),
        "its body was never asked for"
    );
}

#[test]
fn an_answer_that_begins_before_the_upload_has_ended_does_not_stop_it() {
    let Some(node) = need("node") else { return };
    let (_server, address) = server(&node, "node_server.js");
    let plimsoll = before(&address);
    let url = format!("http://{}", plimsoll.address());
    assert_eq!(script(&node, "node_duplex.js", &[&url]).result(), json!({ "echoed": true }));
    let line = plimsoll.wait_for_log(|line| line["path"] == "/echo");
    assert_eq!((&line["status"], &line["end"]), (&json!(200), &json!("--")));
}

#[test]
fn websockets_pass_in_both_directions() {
    const SOCKETS: usize = 105;
    let Some(python) = need_python(&["websockets"]) else {
        return;
    };
    let (_server, address) = server(&python, "ws_server.py");
    let plimsoll = before(&address);
    let result = script(&python, "ws_client.py", &[&format!("ws://{}", plimsoll.address())]).result();
    let expected = json!({
        "extension": true, "text": true, "binary": true, "empty": true, "large": true, "uncompressed": true,
        "client_ping": true, "server_ping": true,
        "server_close": [4001, "bye"], "client_close": [[4002, "done"]],
        "crowd": 100,
    });
    for (key, value) in expected.as_object().expect("it is one") {
        assert_eq!(result[key], *value, "{key}");
    }
    let tunnels =
        || plimsoll.log_lines().into_iter().filter(|line| line["status"] == 101).collect::<Vec<_>>();
    crate::process::until("a log line for each socket", || tunnels().len() >= SOCKETS);
    let tunnels = tunnels();
    assert_eq!(tunnels.len(), SOCKETS);
    let odd: Vec<_> = tunnels.iter().filter(|line| line["end"] != "--").collect();
    assert!(odd.is_empty(), "not ended by both sides: {odd:?}");
    let basics = tunnels.iter().find(|line| line["path"] == "/basics").expect("it is logged");
    assert!(
        ["received_bytes", "sent_bytes"].iter().all(|key| basics[key].as_u64() > Some(1_048_576)),
        "{basics}"
    );
}

#[test]
fn a_server_on_a_unix_socket_is_served_like_any_other() {
    // Not in the target directory: the path of a socket must be short.
    let path = std::env::temp_dir().join(format!("plimsoll-peers-{}.sock", std::process::id()));
    let address = format!("unix:{}", path.display());
    let server = Server::with("u", &address, &[]);
    assert_eq!(server.address(), address);
    let plimsoll =
        Plimsoll::start(&format!("workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = [\"{address}\"]\n"));
    serves(&plimsoll, &server);
    drop(server);
    std::fs::remove_file(&path).expect("a killed server leaves its socket");
    let mut client = Client::connect(plimsoll.address());
    client.send(&get("/gone"));
    assert_eq!(client.answer().whole().status, 502);
    let line = plimsoll.wait_for_log(|line| line["path"] == "/gone");
    assert_eq!((&line["end"], &line["reason"]), (&json!("SC"), &json!("connect_failed")));
}

#[test]
fn a_server_on_ipv6_is_served_like_any_other() {
    if !need_ipv6() {
        return;
    }
    let server = Server::with("six", "[::1]:0", &[]);
    assert!(server.address().starts_with("[::1]:"));
    let address = server.address();
    let plimsoll =
        Plimsoll::start(&format!("workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = [\"{address}\"]\n"));
    serves(&plimsoll, &server);
}

/// Requests with and without bodies reach it over one connection.
fn serves(plimsoll: &Plimsoll, server: &Server) {
    let mut client = Client::connect(plimsoll.address());
    for n in 0..10 {
        let body = "b".repeat(n * 1000);
        client.send(
            format!("PUT /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                .as_bytes(),
        );
        let answer = client.answer().whole();
        let seen: Value = serde_json::from_slice(&answer.body).expect("origins answer JSON");
        assert_eq!(seen["request"]["target"], format!("/{n}"));
        assert_eq!(seen["request"]["body_bytes"], body.len());
    }
    let shown = server.shown();
    assert_eq!((&shown["requests"], &shown["connections"]["accepted"]), (&json!(10), &json!(1)));
}
