//! What to write where a table was wanted and something shorter stands there: mistakes that the name of a key invites.

use super::Table;
use crate::source::RawValue;

/// For a value that cannot stand for this table.
pub(crate) fn instead(table: &Table, value: &RawValue) -> Option<String> {
    let text = match (table.id, value) {
        ("agent" | "server_agent", RawValue::Integer(Some(port @ 1..=65_535))) => {
            return Some(format!("write {{ port = {port} }}"));
        }
        ("agent", RawValue::Bool(true)) => {
            "say where servers say their word: { port = 9999 } asks an agent beside each, { header = \"X-Server-Word\" } hears it with their answers"
        }
        ("server_agent", RawValue::Bool(true)) => {
            "say where it listens: { port = 9999 }; without `agent` it is asked as the backend says"
        }
        ("agent", RawValue::Bool(false)) => {
            "leave it out: servers are asked for their word only where it is there; `agent = false` is for one server"
        }
        ("adaptive_concurrency", RawValue::Integer(Some(number @ 1..))) => {
            return Some(format!(
                "a limit that stays is `max_requests = {number}`; one that is found out and begins there is {{ start = {number} }}"
            ));
        }
        _ => return None,
    };
    Some(text.to_owned())
}
