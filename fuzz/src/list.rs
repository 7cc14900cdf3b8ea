//! Lists of servers from any bytes: refused in one short line, or servers that a configuration could have, which read the same when written anew.
//!
//! The same list comes from a file and from a registry. A body of the admin address is one server of it, and goes the same way.

use std::collections::HashSet;

use plimsoll_config::defaults::{MOST, MOST_DISCOVERED, MOST_PRIORITY, MOST_WEIGHT};
use plimsoll_config::model::Server;
use plimsoll_config::{parse_json, parse_list, parse_server};
use serde_json::{Value, json};

/// What a server may have that does not say.
const MAX_REQUESTS: u32 = 1024;

/// Reads the input as a list and as a server.
pub fn check(input: &[u8]) {
    match parse_list(input, MAX_REQUESTS) {
        Err(reason) => is_told_well(&reason, input),
        Ok(servers) => {
            assert!(servers.len() <= MOST_DISCOVERED);
            let names: HashSet<&str> = servers.iter().map(|server| server.name.as_str()).collect();
            assert_eq!(names.len(), servers.len(), "a name stands twice: {}", input.escape_ascii());
            servers.iter().for_each(is_sound);
            if servers.iter().all(can_be_written) {
                let text = Value::from_iter(servers.iter().map(written)).to_string();
                assert_eq!(parse_list(text.as_bytes(), 7).as_ref(), Ok(&servers), "{text}");
            }
        }
    }
    let Ok(Value::Object(fields)) = parse_json(input) else { return };
    match parse_server(&fields, MAX_REQUESTS) {
        Err(reason) => is_told_well(&reason, input),
        Ok(server) if !can_be_written(&server) => is_sound(&server),
        Ok(server) => {
            is_sound(&server);
            let mut text = written(&server);
            text["state"] = server.state.as_str().into();
            let again = text.as_object().map(|fields| parse_server(fields, 7));
            assert_eq!(again, Some(Ok(server)), "{text}");
        }
    }
}

/// It goes to logs and pages.
fn is_told_well(reason: &str, input: &[u8]) {
    let is_short = (1..2_000).contains(&reason.len());
    assert!(is_short && !reason.contains(char::is_control), "{reason}\n{}", input.escape_ascii());
}

fn is_sound(server: &Server) {
    assert!(u64::from(server.weight) <= MOST_WEIGHT, "{server:?}");
    assert!(u64::from(server.priority) <= MOST_PRIORITY, "{server:?}");
    assert!((1..=MOST).contains(&u64::from(server.max_requests)), "{server:?}");
    assert!(!(server.backup && server.priority > 0), "{server:?}");
    assert!(!server.name.is_empty() && !server.name.contains(char::is_control), "{server:?}");
}

/// Its name is one, or its address as it is written. The name of a server without one is its address as it stood in the list, which may be longer than a name.
fn can_be_written(server: &Server) -> bool {
    let is_label = server.name.len() <= 128 && server.name.trim() == server.name;
    is_label || server.name == server.address.to_string()
}

fn written(server: &Server) -> Value {
    json!({
        "address": server.address.to_string(), "name": server.name, "weight": server.weight, "priority": server.priority,
        "max_requests": server.max_requests, "backup": server.backup,
    })
}
