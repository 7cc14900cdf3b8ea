//! Lists of servers that come from elsewhere: a file that is watched, or the answer of a registry.
//!
//! JSON goes in; servers come out, or why not, in one line. Two forms may be mixed: a server as a configuration has it (an
//! address, or an object with `address` and more), and Prometheus' `file_sd`/`http_sd` groups (`targets`, `labels`). As strict as the
//! configuration: a list that is wrong anywhere is wrong, and nobody takes half of it. Never resolves a name.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::address;
use crate::defaults::{LARGEST_LIST, MOST, MOST_DISCOVERED, MOST_PRIORITY, MOST_WEIGHT};
use crate::json::{Unsound, parse_json};
use crate::model::{Server, ServerState};

/// Labels with this in front are for us; all others of a group are about the targets, and not for us to judge.
const OURS: &str = "plimsoll_";
const LONGEST_NAME: usize = 128;
/// Of what is wrong, in characters.
const LONGEST_REASON: usize = 300;

/// Reads a list, in its order and without what stands in it twice. `max_requests` is for servers that don't say their own.
///
/// # Errors
/// It is no such list, or longer than `defaults` allows.
pub fn parse_list(text: &[u8], max_requests: u32) -> Result<Vec<Server>, String> {
    if text.len() > LARGEST_LIST {
        return Err(format!("it is larger than {LARGEST_LIST} bytes"));
    }
    let list = parse_json(text).map_err(|unsound| match unsound {
        Unsound::Syntax(error) => format!("it is not JSON: {error}"),
        Unsound::Twice(key) => line(&format!("an object has `{key}` twice")),
    })?;
    let list = list.as_array().ok_or("it is not an array")?;
    let mut found = Found::default();
    for (number, item) in list.iter().enumerate() {
        let told = |reason: String| line(&format!("item {}: {reason}", number + 1));
        item_of(item, max_requests, &mut found).map_err(told)?;
    }
    Ok(found.servers)
}

/// For logs and pages: what a list says may be megabytes long and look like several lines.
fn line(reason: &str) -> String {
    let mut shown: String =
        reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_REASON).collect();
    if reason.chars().nth(LONGEST_REASON).is_some() {
        shown.push('…');
    }
    shown
}

/// Puts together servers that several answers name.
#[derive(Debug, Default)]
struct Found {
    servers: Vec<Server>,
    places: HashMap<String, usize>,
}

impl Found {
    /// One that is there already counts once. Two that only have a name in common are an error.
    fn add(&mut self, server: Server) -> Result<(), String> {
        match self.places.get(&server.name).map(|&place| &self.servers[place]) {
            Some(first) if *first == server => return Ok(()),
            Some(_) => return Err(format!("`{}` stands twice, and not with the same values", server.name)),
            None => {}
        }
        if self.servers.len() == MOST_DISCOVERED {
            return Err(format!("there are more than {MOST_DISCOVERED} servers"));
        }
        self.places.insert(server.name.clone(), self.servers.len());
        self.servers.push(server);
        Ok(())
    }
}

fn item_of(item: &Value, max_requests: u32, found: &mut Found) -> Result<(), String> {
    match item {
        Value::String(address) => found.add(server(address, max_requests)?),
        Value::Object(group) if group.contains_key("targets") => targets(group, max_requests, found),
        Value::Object(one) => found.add(object(one, max_requests, "")?),
        _ => Err("it is neither an address nor an object".to_owned()),
    }
}

fn server(text: &str, max_requests: u32) -> Result<Server, String> {
    let parsed = address::parse_server(text).map_err(|fault| fault.message)?;
    Ok(Server { max_requests, ..Server::new(text, parsed) })
}

/// `also` are keys that were read before.
fn object(fields: &Map<String, Value>, max_requests: u32, also: &str) -> Result<Server, String> {
    let address = fields.get("address").and_then(Value::as_str);
    let mut server = server(address.ok_or("it has no `address`, or it is not a string")?, max_requests)?;
    for (key, value) in fields {
        let number = |least, most| within(key, whole(value), least, most);
        match key.as_str() {
            "address" => {}
            // Without a name it is called by its address, which may be longer than a name; what is shown of it can be said again.
            "name" if value.as_str() == Some(&server.name) => {}
            "name" => server.name = name(value.as_str())?,
            "weight" => server.weight = number(0, MOST_WEIGHT)? as u16,
            "priority" => server.priority = number(0, MOST_PRIORITY)? as u8,
            "max_requests" => server.max_requests = number(1, MOST)? as u32,
            "backup" => server.backup = value.as_bool().ok_or("`backup` is neither true nor false")?,
            other => return Err(unknown(other, also)),
        }
    }
    judge(server)
}

/// Reads one server as a configuration's table has it, in JSON and as strictly; `state` included, which is for no list.
///
/// # Errors
/// A key is unknown or missing, or a value is none that a configuration could have.
pub fn parse_server(fields: &Map<String, Value>, max_requests: u32) -> Result<Server, String> {
    with_state(fields.clone(), max_requests).map_err(|reason| line(&reason))
}

fn with_state(mut fields: Map<String, Value>, max_requests: u32) -> Result<Server, String> {
    let state = match fields.remove("state") {
        None => ServerState::Ready,
        Some(state) => state.as_str().ok_or("`state` is not a string")?.parse()?,
    };
    Ok(Server { state, ..object(&fields, max_requests, "state, ")? })
}

/// A group of Prometheus: <https://prometheus.io/docs/prometheus/latest/http_sd/>.
fn targets(group: &Map<String, Value>, max_requests: u32, found: &mut Found) -> Result<(), String> {
    if let Some(other) = group.keys().find(|key| !matches!(key.as_str(), "targets" | "labels")) {
        return Err(format!("`{other}` has no meaning beside `targets`"));
    }
    let mut about = Server { max_requests, ..Server::new("", crate::model::Address::Name(String::new(), 0)) };
    let labels = match group.get("labels") {
        None => &Map::new(),
        Some(labels) => labels.as_object().ok_or("`labels` is not an object")?,
    };
    for (label, value) in labels {
        let value = value.as_str().ok_or_else(|| format!("the label `{label}` is not a string"))?;
        let Some(key) = label.strip_prefix(OURS) else { continue };
        let number = |least, most| within(label, value.parse().ok(), least, most);
        match key {
            "weight" => about.weight = number(0, MOST_WEIGHT)? as u16,
            "priority" => about.priority = number(0, MOST_PRIORITY)? as u8,
            "max_requests" => about.max_requests = number(1, MOST)? as u32,
            "backup" => {
                about.backup = value.parse().map_err(|_| format!("`{label}` is neither true nor false"))?;
            }
            _ => return Err(unknown(label, "")),
        }
    }
    let targets = group["targets"].as_array().ok_or("`targets` is not an array")?;
    for target in targets {
        let target = target.as_str().ok_or("a target is not a string")?;
        let of = server(target, max_requests)?;
        let server = Server { name: of.name, address: of.address, ..about.clone() };
        found.add(judge(server)?)?;
    }
    Ok(())
}

fn judge(server: Server) -> Result<Server, String> {
    if server.backup && server.priority > 0 {
        return Err("`priority` has no meaning for a backup".to_owned());
    }
    Ok(server)
}

/// A whole number as JSON Schema sees it: `5.0` is one too.
#[must_use]
pub fn whole(value: &Value) -> Option<u64> {
    /// Up to here every whole number is a different `f64`.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let real = || value.as_f64().filter(|real| real.fract() == 0.0 && (0.0..EXACT).contains(real));
    value.as_u64().or_else(|| real().map(|real| real as u64))
}

fn within(key: &str, number: Option<u64>, least: u64, most: u64) -> Result<u64, String> {
    let number = number.filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("`{key}` is not a whole number from {least} to {most}"))
}

fn name(text: Option<&str>) -> Result<String, String> {
    let sound = |text: &&str| {
        (1..=LONGEST_NAME).contains(&text.len())
            && !text.chars().any(char::is_control)
            && text.trim() == *text
    };
    let problem =
        || format!("`name` is not 1 to {LONGEST_NAME} bytes without control characters and space around");
    text.filter(sound).map(str::to_owned).ok_or_else(problem)
}

fn unknown(key: &str, also: &str) -> String {
    format!("`{key}` is not known; there are {also}address, name, weight, priority, backup and max_requests")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Server>, String> {
        parse_list(text.as_bytes(), 7)
    }

    fn names(text: &str) -> Vec<String> {
        parse(text).unwrap().into_iter().map(|server| server.name).collect()
    }

    #[test]
    fn both_forms_are_read_in_their_order() {
        let text = r#"["10.0.0.1:80",
            {"address": "[::1]:80", "name": "six", "weight": 3, "priority": 2, "max_requests": 9},
            {"address": "unix:/run/a.sock", "backup": true},
            {"targets": ["web1.internal:80", "10.0.0.2:80"],
             "labels": {"env": "a", "plimsoll_weight": "5", "plimsoll_priority": "1"}},
            {"targets": []}]"#;
        assert_eq!(
            names(text),
            ["10.0.0.1:80", "six", "unix:/run/a.sock", "web1.internal:80", "10.0.0.2:80"]
        );
        let servers = parse(text).unwrap();
        let all: Vec<_> = servers.iter().map(|s| (s.weight, s.priority, s.backup, s.max_requests)).collect();
        assert_eq!(
            all,
            [(1, 0, false, 7), (3, 2, false, 9), (1, 0, true, 7), (5, 1, false, 7), (5, 1, false, 7)]
        );
        assert!(names("[]").is_empty());
    }

    #[test]
    fn what_a_server_without_a_name_is_called_can_be_said_of_it() {
        let address = format!("{}.internal:80", ["a"; 70].join("."));
        let called = names(&format!("[\"{address}\"]"));
        assert!(called[0].len() > LONGEST_NAME);
        assert_eq!(names(&format!("[{{\"address\": \"{address}\", \"name\": \"{}\"}}]", called[0])), called);
        assert_eq!(names(r#"[{"name": "unix:/a ", "address": "unix:/a "}]"#), ["unix:/a "]);
    }

    #[test]
    fn a_whole_number_may_be_written_as_a_fraction() {
        let number = |text: &str| whole(&serde_json::from_str(text).unwrap());
        for (text, expected) in [("5", 5), ("5.0", 5), ("-0.0", 0), ("1e3", 1000), ("4294967296.0", 1 << 32)]
        {
            assert_eq!(number(text), Some(expected), "{text}");
        }
        for text in ["5.5", "-1", "-1.0", "1e300", "\"5\"", "null"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn what_stands_twice_counts_once_unless_it_differs() {
        assert_eq!(names(r#"["a:1", "b:1", {"targets": ["a:1"]}]"#), ["a:1", "b:1"]);
        assert!(parse(r#"["a:1", {"address": "a:1", "weight": 2}]"#).unwrap_err().contains("twice"));
        assert!(parse(r#"[{"address": "a:1", "name": "x"}, {"address": "b:1", "name": "x"}]"#).is_err());
        assert_eq!(names(r#"["a:1", {"address": "a:1", "name": "again"}]"#), ["a:1", "again"]);
    }

    #[test]
    fn a_list_that_is_wrong_somewhere_is_wrong_and_says_where() {
        for (text, expected) in [
            ("", "not JSON"),
            ("{}", "not an array"),
            ("[1]", "item 1: it is neither"),
            (r#"["a:1", "a"]"#, "item 2: `a` has no port"),
            (r#"["http://a:1"]"#, "has no `http://`"),
            (r#"[{"weight": 1}]"#, "no `address`"),
            (r#"[{"address": "a:1", "wieght": 1}]"#, "`wieght` is not known"),
            (r#"[{"address": "a:1", "weight": 65536}]"#, "0 to 65535"),
            (r#"[{"address": "a:1", "weight": -1}]"#, "whole number"),
            (r#"[{"address": "a:1", "weight": "1"}]"#, "whole number"),
            (r#"[{"address": "a:1", "priority": 128}]"#, "0 to 127"),
            (r#"[{"address": "a:1", "max_requests": 0}]"#, "1 to"),
            (r#"[{"address": "a:1", "backup": 1}]"#, "neither true nor false"),
            (r#"[{"address": "a:1", "backup": true, "priority": 1}]"#, "no meaning for a backup"),
            (r#"[{"address": "a:1", "name": " a"}]"#, "`name`"),
            (r#"[{"address": "a:1", "name": "a\u0007"}]"#, "`name`"),
            (r#"[{"targets": "a:1"}]"#, "not an array"),
            (r#"[{"targets": [1]}]"#, "not a string"),
            (r#"[{"targets": ["a:1"], "weight": 1}]"#, "beside `targets`"),
            (r#"[{"targets": ["a:1"], "labels": {"plimsoll_wieght": "1"}}]"#, "`plimsoll_wieght` is not"),
            (r#"[{"targets": ["a:1"], "labels": {"plimsoll_weight": "x"}}]"#, "whole number"),
            (r#"[{"targets": ["a:1"], "labels": {"a": 1}}]"#, "not a string"),
            (r#"["a:1", {"address": "b:1", "weight": 1, "weight": 0}]"#, "an object has `weight` twice"),
            (r#"[{"address": "a:1", "a\nplimsoll: ready": 1}]"#, "item 1: `a plimsoll: ready` is not known"),
        ] {
            let reason = parse(text).unwrap_err();
            assert!(reason.contains(expected), "{text}: {reason}");
        }
    }

    #[test]
    fn a_server_that_is_added_may_say_its_state_and_a_list_may_not() {
        let of =
            |text: &str| parse_server(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap(), 7);
        assert_eq!(of(r#"{"address": "a:1", "state": "drain"}"#).unwrap().state, ServerState::Drain);
        let known = "address, name, weight, priority, backup and max_requests";
        let reason = of(r#"{"address": "a:1", "stat": "drain"}"#).unwrap_err();
        assert!(reason.ends_with(&format!("`stat` is not known; there are state, {known}")), "{reason}");
        let reason = parse(r#"[{"address": "a:1", "state": "drain"}]"#).unwrap_err();
        assert!(reason.ends_with(&format!("`state` is not known; there are {known}")), "{reason}");
    }

    #[test]
    fn only_what_was_cut_has_an_ellipsis() {
        // Two bytes that become one.
        assert_eq!(line("item 1: a\u{85}b"), "item 1: a b");
        let whole = "ä".repeat(LONGEST_REASON);
        assert_eq!([line(&whole), line(&format!("{whole}ä"))], [whole.clone(), format!("{whole}…")]);
    }

    #[test]
    fn lists_are_bounded() {
        let many = |count: usize| {
            let all: Vec<String> =
                (0..count).map(|n| format!("\"10.{}.{}.{}:80\"", n >> 16, (n >> 8) & 255, n & 255)).collect();
            format!("[{}]", all.join(","))
        };
        assert_eq!(parse(&many(MOST_DISCOVERED)).unwrap().len(), MOST_DISCOVERED);
        assert!(parse(&many(MOST_DISCOVERED + 1)).unwrap_err().contains("more than"));
        assert!(parse(&" ".repeat(LARGEST_LIST + 1)).unwrap_err().contains("larger"));
        assert!(parse(&"[".repeat(100_000)).is_err(), "and so is their depth");
        let endless = parse(&format!("[\"{}\"]", "a".repeat(100_000))).unwrap_err();
        assert!(endless.len() < 1_000, "and what is said of them: {} bytes", endless.len());
    }
}
