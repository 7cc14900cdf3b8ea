//! The verb `plimsoll status`: what a running process does, as a table for people or as JSON.
//!
//! Asks the admin address for `/status`. One look shows what was counted since the start; `--watch` looks again and again and
//! shows what has happened in between. Changes nothing.

mod attempts;

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::ask::{self, Whom};
use crate::cli;
use crate::exit::Exit;
use crate::table::Table;
use crate::terminal;

/// Servers of a backend that are told of one by one.
const UNWELL: usize = 10;

/// How long `--watch` waits between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// Home, and erase what is below.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Asks and shows, once or until interrupted.
pub(crate) fn run(args: &cli::Status) -> Exit {
    match ask::whom(&args.admin).and_then(|whom| show(&whom, args)) {
        Ok(exit) => exit,
        Err(reason) => {
            terminal::err(&format!("plimsoll status: {}\n", reason.trim_end()));
            Exit::Start
        }
    }
}

fn show(whom: &Whom, args: &cli::Status) -> Result<Exit, String> {
    let clear = if args.watch && !args.json && io::stdout().is_terminal() { CLEAR } else { "" };
    let mut last: Option<(Value, Instant)> = None;
    loop {
        let (now, text) = look(whom)?;
        let at = Instant::now();
        let shown = match (&last, args.json) {
            (_, true) => format!("{}\n", text.trim_end()),
            (None, false) => page(&now, None),
            (Some((before, then)), false) => page(&now, Some((before, at - *then))),
        };
        if !args.watch {
            return Ok(terminal::print(&shown));
        }
        if let Some(end) = terminal::stream(&format!("{clear}{shown}")) {
            return Ok(end);
        }
        last = Some((now, at));
        std::thread::sleep(EVERY);
    }
}

fn look(whom: &Whom) -> Result<(Value, String), String> {
    let answer = ask::ask(whom, "GET", "/status")?;
    let foreign = || format!("{whom} does not speak like plimsoll's admin address");
    if answer.status == 401 {
        return Err(format!("{whom}: {}", answer.body.trim_end()));
    }
    if answer.status != 200 {
        return Err(foreign());
    }
    let shown: Value = serde_json::from_str(&answer.body).map_err(|_| foreign())?;
    if shown["backends"].is_array() { Ok((shown, answer.body)) } else { Err(foreign()) }
}

/// The whole text: since the start, or since `before`, which is so long ago.
fn page(now: &Value, before: Option<(&Value, Duration)>) -> String {
    let uptime = duration(now["uptime_seconds"].as_u64().unwrap_or(0));
    let mut out = format!("plimsoll {}, {}, up {uptime}", text(&now["version"]), text(&now["phase"]));
    match before {
        None => out.push_str("; counts since the start\n"),
        Some((_, ago)) => writeln!(out, "; counts of the last {:.1} s", ago.as_secs_f64()).expect("a String"),
    }
    warnings(&mut out, now);
    let look = Look { bounds: &now["duration_bounds_ms"], before };
    for (title, list, name, first) in [
        ("LISTENER", "listeners", "address", Some(("CONNECTIONS", "connections"))),
        ("ROUTE", "routes", "name", None),
    ] {
        let mut table = Table::new(&look.heads(title, first.map(|(head, _)| head)));
        for row in array(&now[list]) {
            let old = before.and_then(|(before, _)| find(&before[list], name, &row[name]));
            table.row(look.cells(text(&row[name]), first.map(|(_, key)| number(&row[key])), row, old));
        }
        out.push_str(&table.text());
    }
    backends(&mut out, now, &look);
    out.push_str(&attempts::table(now, before.map(|(before, _)| before)));
    sources(&mut out, now);
    exports(&mut out, now);
    orders(&mut out, now);
    out
}

/// What an operator should look at first.
fn warnings(out: &mut String, now: &Value) {
    if now["reloads"]["last_successful"] == false {
        out.push_str("! the last reload failed: an older configuration is in force\n");
    }
    if let Some(dropped @ 1..) = now["log_lines_dropped"].as_u64() {
        writeln!(out, "! {dropped} access log lines were dropped").expect("a String");
    }
    if let Some(level @ 1..) = now["pressure"].as_u64() {
        let what = if level == 1 { "connections are not kept alive" } else { "new requests are refused" };
        let by = match now["pressure_by"].as_str() {
            Some("time") => ", workers are behind".to_owned(),
            Some(short) => format!(", short of {short}"),
            None => String::new(),
        };
        writeln!(out, "! under pressure (level {level}{by}): {what}").expect("a String");
    }
    for backend in array(&now["backends"]) {
        unwell(out, backend);
    }
    for backend in array(&now["backends"]).iter().filter(|backend| backend["discovery"]["failing"] == true) {
        let found = &backend["discovery"];
        let (name, source) = (text(&backend["name"]), text(&found["source"]));
        writeln!(out, "! backend {name}: {source} fails: {}", text(&found["last_error"])).expect("a String");
    }
    let tracing = &now["tracing"];
    if tracing["failing"] == true {
        let (collector, error) = (text(&tracing["collector"]), text(&tracing["last_error"]));
        writeln!(out, "! tracing: {collector} does not take spans: {error}").expect("a String");
    }
}

/// Servers that do not serve as they should, and why.
fn unwell(out: &mut String, backend: &Value) {
    let name = text(&backend["name"]);
    if backend["panic"] == true {
        writeln!(
            out,
            "! backend {name}: too few servers are well, so all that accept connections serve (panic)"
        )
        .expect("a String");
    }
    let unwell = array(&backend["servers"]).iter().filter(|server| server["state"] != "up");
    for server in unwell.take(UNWELL) {
        let since = duration(server["state_for_seconds"].as_f64().unwrap_or(0.0) as u64);
        let (server, state, reason) =
            (text(&server["name"]), text(&server["state"]), text(&server["state_reason"]));
        writeln!(out, "! server {name}/{server} is {state} for {since}: {reason}").expect("a String");
    }
    let silent = array(&backend["servers"]).iter().filter(|server| server["agent"]["answers"] == false);
    for server in silent.take(UNWELL) {
        let (server, reason) = (text(&server["name"]), text(&server["agent"]["reason"]));
        writeln!(out, "! server {name}/{server}: its agent says nothing: {reason}").expect("a String");
    }
}

/// Where servers come from, where that is not the file.
fn sources(out: &mut String, now: &Value) {
    let heads = ["DISCOVERY", "SERVERS", "LAST ANSWER", "SOURCE"].map(str::to_owned);
    let mut table = Table::new(&heads);
    let mut is_empty = true;
    for backend in array(&now["backends"]) {
        let found = &backend["discovery"];
        if !found.is_object() {
            continue;
        }
        is_empty = false;
        let age = found["age_seconds"].as_u64();
        let age = age.map_or_else(|| "none yet".to_owned(), |age| format!("{} ago", duration(age)));
        let servers = found["servers"].as_u64().map_or_else(|| "-".to_owned(), |n| n.to_string());
        table.row(vec![text(&backend["name"]), servers, age, text(&found["source"])]);
    }
    if !is_empty {
        out.push_str(&table.text());
    }
}

/// Where spans go, and what has become of them since the start.
fn exports(out: &mut String, now: &Value) {
    let tracing = &now["tracing"];
    if !tracing.is_object() {
        return;
    }
    let dropped = tracing["dropped"].as_object();
    let dropped = dropped.map_or(0, |all| all.values().filter_map(Value::as_u64).sum::<u64>());
    let heads = ["TRACING", "SPANS SENT", "DROPPED", "FAILED REQUESTS"];
    let mut table = Table::new(&heads.map(str::to_owned));
    let (sent, failures) = (number(&tracing["exported"]), number(&tracing["failures"]));
    table.row(vec![text(&tracing["collector"]), sent, dropped.to_string(), failures]);
    out.push_str(&table.text());
}

/// What operators have changed.
fn orders(out: &mut String, now: &Value) {
    let mut table = Table::new(&["ORDERED", "STATE", "WEIGHT", "BY"].map(str::to_owned));
    for order in array(&now["orders"]) {
        let (base, wanted) = (&order["base"], &order["wanted"]);
        let cells = ["state", "weight"].map(|key| {
            let shown =
                |side: &Value| side[key].as_str().map_or_else(|| side[key].to_string(), str::to_owned);
            match (base.is_object(), wanted.is_object()) {
                (false, false) => "not found".to_owned(),
                (false, true) => format!("added: {}", shown(wanted)),
                (true, false) => format!("{}, removed", shown(base)),
                (true, true) if base[key] == wanted[key] => shown(base),
                (true, true) => format!("{} to {}", shown(base), shown(wanted)),
            }
        });
        let name = format!("{}/{}", text(&order["backend"]), text(&order["server"]));
        table.row([name].into_iter().chain(cells).chain([text(&order["by"])]).collect());
    }
    out.push_str(&table.text());
}

fn backends(out: &mut String, now: &Value, look: &Look<'_>) {
    let mut table = Table::new(&look.heads("BACKEND / SERVER", Some("WEIGHT")));
    for backend in array(&now["backends"]) {
        let old = look.before.and_then(|(before, _)| find(&before["backends"], "name", &backend["name"]));
        table.row(look.cells(text(&backend["name"]), Some(String::new()), backend, old));
        for server in array(&backend["servers"]) {
            let old = old.and_then(|old| find(&old["servers"], "name", &server["name"]));
            let backup = if server["backup"] == true { " (backup)" } else { "" };
            let name = format!("  {}{backup}", text(&server["name"]));
            table.row(look.cells(name, Some(weight(server)), server, old));
        }
    }
    out.push_str(&table.text());
}

/// How rows are read: the buckets' bounds, and the look before, if there was one.
struct Look<'a> {
    bounds: &'a Value,
    before: Option<(&'a Value, Duration)>,
}

impl Look<'_> {
    fn heads(&self, title: &str, first: Option<&str>) -> Vec<String> {
        let requests = if self.before.is_some() { "REQUESTS/S" } else { "REQUESTS" };
        let all = [Some(title), first, Some("IN FLIGHT"), Some(requests), Some("4XX"), Some("5XX")];
        let all = all.into_iter().flatten().chain(["P50", "P99", "ERRORS"]);
        all.map(str::to_owned).collect()
    }

    fn cells(&self, name: String, first: Option<String>, row: &Value, old: Option<&Value>) -> Vec<String> {
        // What was counted before; nothing if it was not there, or begun anew.
        let old = old.filter(|old| old["requests"].as_u64() <= row["requests"].as_u64());
        let since = |value: fn(&Value) -> u64| value(row).saturating_sub(old.map_or(0, value));
        let requests = since(|row| row["requests"].as_u64().unwrap_or(0));
        let rate = match self.before {
            None => requests.to_string(),
            Some((_, ago)) => format!("{:.1}", requests as f64 / ago.as_secs_f64().max(0.001)),
        };
        let buckets =
            |row: &Value| array(&row["durations"]).iter().filter_map(Value::as_u64).collect::<Vec<_>>();
        let mut durations = buckets(row);
        for (n, before) in durations.iter_mut().zip(old.map(buckets).unwrap_or_default()) {
            *n = n.saturating_sub(before);
        }
        let quantile = |share| quantile(&durations, self.bounds, share);
        let counts = [since(|row| code(row, "4xx")), since(|row| code(row, "5xx"))].map(|n| n.to_string());
        let head = [Some(name), first, Some(number(&row["in_flight"])), Some(rate)];
        let tail = [quantile(0.5), quantile(0.99), errors(row, old)];
        head.into_iter().flatten().chain(counts).chain(tail).collect()
    }
}

/// As the file or an operator says, and the share that the server asks for itself.
fn weight(server: &Value) -> String {
    let weight = number(&server["weight"]);
    match server["share"].as_f64().filter(|share| (share - 1.0).abs() > 1e-6) {
        Some(share) => format!("{weight} × {:.0}%", share * 100.0),
        None => weight,
    }
}

fn code(row: &Value, class: &str) -> u64 {
    row["codes"][class].as_u64().unwrap_or(0)
}

/// The three most frequent reasons.
fn errors(row: &Value, old: Option<&Value>) -> String {
    let Some(all) = row["errors"].as_object() else { return String::new() };
    let before = |reason: &String| old.and_then(|old| old["errors"][reason].as_u64()).unwrap_or(0);
    let since = |(reason, n): (&String, &Value)| {
        (n.as_u64().unwrap_or(0).saturating_sub(before(reason)), reason.clone())
    };
    let mut counts: Vec<(u64, String)> = all.iter().map(since).filter(|(n, _)| *n > 0).collect();
    counts.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    let more = if counts.len() > 3 { ", …" } else { "" };
    counts.iter().take(3).map(|(n, reason)| format!("{n} {reason}")).collect::<Vec<_>>().join(", ") + more
}

/// The bucket of the rank, by a straight line within it; `-` if there is nothing.
fn quantile(buckets: &[u64], bounds: &Value, share: f64) -> String {
    let bounds: Vec<f64> = array(bounds).iter().filter_map(Value::as_f64).collect();
    let rank = share * buckets.iter().sum::<u64>() as f64;
    let (mut before, mut low) = (0, 0.0);
    for (&n, &bound) in buckets.iter().zip(&bounds) {
        if n > 0 && (before + n) as f64 >= rank {
            return milliseconds(low + (bound - low) * (rank - before as f64) / n as f64);
        }
        (before, low) = (before + n, bound);
    }
    if rank > 0.0 { format!("> {}", milliseconds(low)) } else { "-".to_owned() }
}

fn milliseconds(ms: f64) -> String {
    match ms {
        0.0..10.0 => format!("{ms:.1} ms"),
        10.0..1000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn find<'v>(list: &'v Value, key: &str, wanted: &Value) -> Option<&'v Value> {
    array(list).iter().find(|entry| entry[key] == *wanted)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

fn number(value: &Value) -> String {
    value.as_u64().map_or_else(|| "?".to_owned(), |n| n.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(requests: u64, durations: [u64; 3]) -> Value {
        json!({
            "name": "a", "in_flight": 2, "requests": requests, "codes": {"4xx": 1, "5xx": requests / 10},
            "errors": {"server_closed": requests / 10}, "durations": durations,
        })
    }

    fn shown(requests: u64, durations: [u64; 3]) -> Value {
        json!({
            "version": "0.1.0", "phase": "serving", "uptime_seconds": 3700, "log_lines_dropped": 0,
            "reloads": {"last_successful": true}, "duration_bounds_ms": [1.0, 10.0],
            "listeners": [], "routes": [row(requests, durations)], "backends": [],
        })
    }

    #[test]
    fn one_look_shows_what_was_counted_since_the_start() {
        let text = page(&shown(100, [50, 50, 0]), None);
        assert!(
            text.starts_with("plimsoll 0.1.0, serving, up 1 h 1 min; counts since the start\n"),
            "{text}"
        );
        let line = text.lines().find(|line| line.starts_with("a ")).unwrap();
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells, ["a", "2", "100", "1", "10", "1.0", "ms", "9.8", "ms", "10", "server_closed"]);
    }

    #[test]
    fn a_later_look_shows_what_happened_in_between() {
        let before = shown(100, [50, 50, 0]);
        let text = page(&shown(140, [50, 50, 40]), Some((&before, Duration::from_secs(4))));
        let line = text.lines().find(|line| line.starts_with("a ")).unwrap();
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            cells,
            ["a", "2", "10.0", "0", "4", ">", "10", "ms", ">", "10", "ms", "4", "server_closed"]
        );
    }

    #[test]
    fn counters_that_began_anew_are_counted_from_nothing() {
        let before = shown(100, [50, 50, 0]);
        let text = page(&shown(10, [10, 0, 0]), Some((&before, Duration::from_secs(1))));
        assert!(text.lines().any(|line| line.starts_with("a ") && line.contains(" 10.0 ")), "{text}");
    }

    #[test]
    fn trouble_stands_on_top() {
        let mut now = shown(0, [0; 3]);
        now["reloads"]["last_successful"] = json!(false);
        now["log_lines_dropped"] = json!(7);
        now["pressure"] = json!(3);
        let text = page(&now, None);
        assert_eq!(text.lines().filter(|line| line.starts_with("! ")).count(), 3, "{text}");
        for (by, shown) in [("time", "workers are behind"), ("memory", "short of memory")] {
            now["pressure_by"] = json!(by);
            let line = format!("! under pressure (level 3, {shown}): new requests are refused\n");
            assert!(page(&now, None).contains(&line), "{by}");
        }
    }

    #[test]
    fn where_servers_come_from_is_shown_and_so_is_that_it_fails() {
        let mut now = shown(0, [0; 3]);
        now["backends"] = json!([
            {"name": "plain", "discovery": null},
            {"name": "web", "discovery": {
                "source": "dns web:80", "servers": 3, "age_seconds": 61, "failing": true, "last_error": "dead",
            }},
        ]);
        let text = page(&now, None);
        assert!(text.contains("\n! backend web: dns web:80 fails: dead\n"), "{text}");
        let line = text.lines().find(|line| line.starts_with("web ") && line.contains("dns")).unwrap();
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells, ["web", "3", "1", "min", "1", "s", "ago", "dns", "web:80"]);
        assert!(!page(&shown(0, [0; 3]), None).contains("DISCOVERY"));
    }

    #[test]
    fn silent_agents_and_a_collector_that_takes_nothing_are_told_of() {
        let mut now = shown(0, [0; 3]);
        let agent = |answers, reason| json!({"name": "one", "state": "up", "agent": {"answers": answers, "reason": reason}});
        now["backends"] = json!([
            {"name": "web", "servers": [agent(false, "no connection: refused")]},
            {"name": "api", "servers": [agent(true, ""), {"name": "two", "state": "up", "agent": null}]},
        ]);
        now["tracing"] = json!({
            "collector": "http://c:4318/v1/traces", "exported": 9, "dropped": {"queue_full": 2, "not_sent": 3},
            "failures": 4, "failing": true, "last_error": "refused",
        });
        let text = page(&now, None);
        let told: Vec<&str> = text.lines().filter(|line| line.starts_with("! ")).collect();
        assert_eq!(
            told,
            [
                "! server web/one: its agent says nothing: no connection: refused",
                "! tracing: http://c:4318/v1/traces does not take spans: refused",
            ]
        );
        let line = text.lines().find(|line| line.starts_with("http://c:4318/")).unwrap();
        assert_eq!(line.split_whitespace().skip(1).collect::<Vec<_>>(), ["9", "5", "4"], "{text}");
        now["tracing"] = Value::Null;
        assert!(!page(&now, None).contains("TRACING"));
    }

    #[test]
    fn what_operators_changed_is_shown_with_what_the_file_says() {
        let (old, new) = (json!({"state": "ready", "weight": 1}), json!({"state": "drain", "weight": 1}));
        let order = |server, base: &Value, wanted: &Value| json!({"backend": "web", "server": server, "by": "me", "base": base, "wanted": wanted});
        let gone = Value::Null;
        let orders = [order("a", &old, &new), order("b", &old, &gone), order("c", &gone, &new)];
        let page = page(&json!({ "orders": orders }), None);
        let lines: Vec<Vec<&str>> = page
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect())
            .collect();
        for expected in [
            ["web/a", "ready to drain", "1", "me"],
            ["web/b", "ready, removed", "1, removed", "me"],
            ["web/c", "added: drain", "added: 1", "me"],
        ] {
            assert!(lines.iter().any(|line| line[..] == expected), "{expected:?} is not in\n{page}");
        }
    }

    #[test]
    fn a_share_that_a_server_asks_for_stands_beside_its_weight() {
        let shown = |share| weight(&json!({"weight": 3, "share": share}));
        assert_eq!([shown(json!(1.0)), shown(json!(0.29)), shown(Value::Null)], ["3", "3 × 29%", "3"]);
    }

    #[test]
    fn times_read_well() {
        assert_eq!([0.26, 99.6, 2500.0].map(milliseconds), ["0.3 ms", "100 ms", "2.5 s"]);
        assert_eq!([59, 61, 90_000].map(duration), ["59 s", "1 min 1 s", "1 d 1 h"]);
    }
}
