//! The verb `plimsoll server`: servers of a running process, listed, added, changed and removed.
//!
//! Asks the admin API; what is shown and what is refused comes from there. Adds what a person who mistyped a name wants to know.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::ask::{self, Answer, Whom};
use crate::cli;
use crate::exit::Exit;
use crate::table::Table;
use crate::terminal;

/// What to ask of the admin API.
enum Question {
    List(Option<String>),
    Change { method: &'static str, backend: String, server: Option<String>, body: Option<Value> },
}

/// Asks, and shows what came of it.
pub(crate) fn run(args: &cli::Server) -> Exit {
    let question = match question(args) {
        Ok(question) => question,
        Err(reason) => return fails(&reason, Exit::Usage),
    };
    let whom = match ask::whom(&args.admin) {
        Ok(whom) => whom,
        Err(reason) => return fails(&reason, Exit::Start),
    };
    match question {
        Question::List(backend) => list(&whom, backend.as_deref(), args.json),
        Question::Change { method, backend, server, body } => {
            let mut path = format!("/v1/backends/{}/servers", escaped(&backend));
            server.iter().for_each(|server| path.push_str(&format!("/{}", escaped(server))));
            if args.persist {
                path.push_str("?persist=true");
            }
            match ask::ask_with(&whom, method, &path, body.as_ref()) {
                Ok(answer) => changed(&whom, &answer, (&backend, server.as_deref()), args.json),
                Err(reason) => fails(&reason, Exit::Start),
            }
        }
    }
}

fn fails(reason: &str, exit: Exit) -> Exit {
    terminal::err(&format!("plimsoll server: {}\n", reason.trim_end()));
    exit
}

fn question(args: &cli::Server) -> Result<Question, String> {
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    let is_add = words[0] == "add";
    if !is_add && (args.weight.is_some() || args.name.is_some() || args.backup) {
        return Err("--weight, --name and --backup go with `add`".to_owned());
    }
    if words[0] == "list" && args.persist {
        return Err("--persist goes with a change".to_owned());
    }
    let set = |id: &str, body: Value| {
        let (backend, server) = split(id)?;
        Ok(Question::Change { method: "PATCH", backend, server: Some(server), body: Some(body) })
    };
    match words[..] {
        ["list"] => Ok(Question::List(None)),
        ["list", backend] => Ok(Question::List(Some(backend.to_owned()))),
        ["add", backend, address] => {
            let mut body = json!({ "address": address, "backup": args.backup });
            args.weight.iter().for_each(|weight| body["weight"] = json!(weight));
            args.name.iter().for_each(|name| body["name"] = json!(name));
            let backend = backend.to_owned();
            Ok(Question::Change { method: "POST", backend, server: None, body: Some(body) })
        }
        [id, state @ ("ready" | "drain" | "maint")] => set(id, json!({ "state": state })),
        [id, "weight", weight] => match weight.parse::<u16>() {
            Ok(weight) => set(id, json!({ "weight": weight })),
            Err(_) => Err(format!("`{weight}` is no weight: it is a whole number up to 65535")),
        },
        [id, "remove"] => {
            let (backend, server) = split(id)?;
            Ok(Question::Change { method: "DELETE", backend, server: Some(server), body: None })
        }
        _ => Err("say BACKEND/SERVER ready, drain, maint, remove or weight N; list [BACKEND]; or add BACKEND ADDRESS"
            .to_owned()),
    }
}

/// A backend of a listener is named after its address, which has no slash; a server's name may have some.
fn split(id: &str) -> Result<(String, String), String> {
    let (backend, server) =
        id.split_once('/').ok_or_else(|| format!("`{id}` is no server: write BACKEND/SERVER"))?;
    Ok((backend.to_owned(), server.to_owned()))
}

fn escaped(segment: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let one = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    segment.bytes().map(one).collect()
}

fn parsed(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_default()
}

/// What is wrong, in the words of whoever answers.
fn refused(answer: &Answer) -> String {
    parsed(answer)["detail"].as_str().map_or_else(|| answer.body.clone(), str::to_owned)
}

fn changed(whom: &Whom, answer: &Answer, asked: (&str, Option<&str>), as_json: bool) -> Exit {
    match answer.status {
        200 | 201 if as_json => terminal::print(&answer.body),
        200 | 201 => terminal::print(&table(std::slice::from_ref(&parsed(answer)))),
        204 if as_json => terminal::print("null\n"),
        204 => terminal::print(&format!("{}/{} is removed\n", asked.0, asked.1.unwrap_or_default())),
        401 => fails(&answer.body, Exit::Start),
        404 => fails(&format!("{}{}", refused(answer), meant(whom, asked)), Exit::Configuration),
        _ => fails(&refused(answer), Exit::Configuration),
    }
}

fn list(whom: &Whom, backend: Option<&str>, as_json: bool) -> Exit {
    let path = match backend {
        Some(backend) => format!("/v1/backends/{}", escaped(backend)),
        None => "/v1/backends".to_owned(),
    };
    let answer = match ask::ask(whom, "GET", &path) {
        Ok(answer) => answer,
        Err(reason) => return fails(&reason, Exit::Start),
    };
    match answer.status {
        200 if as_json => terminal::print(&answer.body),
        200 => {
            let shown = parsed(&answer);
            let all = if backend.is_some() { vec![shown] } else { array(&shown["backends"]) };
            let servers: Vec<Value> = all.iter().flat_map(|backend| array(&backend["servers"])).collect();
            terminal::print(&table(&servers))
        }
        401 => fails(&answer.body, Exit::Start),
        _ => {
            let hint = backend.map_or_else(String::new, |backend| meant(whom, (backend, None)));
            fails(&format!("{}{hint}", refused(&answer)), Exit::Configuration)
        }
    }
}

fn array(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn table(servers: &[Value]) -> String {
    let heads = ["SERVER", "STATE", "WEIGHT", "IN FLIGHT", "ASSIGNED", "REFUSED", "FROM"].map(str::to_owned);
    let mut table = Table::new(&heads);
    for server in servers {
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let number = |key: &str| server[key].as_u64().map_or_else(|| "?".to_owned(), |n| n.to_string());
        let by = server["ordered"]["by"].as_str().map(|by| format!(", changed by {by}")).unwrap_or_default();
        let counts = ["weight", "in_flight", "assigned", "refused"].map(number);
        let head = [text(&server["id"]), text(&server["state"])];
        table.row(head.into_iter().chain(counts).chain([text(&server["origin"]) + &by]).collect());
    }
    table.text().trim_start().to_owned()
}

/// The name that was probably meant, as the end of a sentence.
fn meant(whom: &Whom, (backend, server): (&str, Option<&str>)) -> String {
    let Ok(answer) = ask::ask(whom, "GET", "/v1/backends") else { return String::new() };
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let all: BTreeMap<String, Vec<String>> = array(&parsed(&answer)["backends"])
        .iter()
        .map(|backend| (name(backend), array(&backend["servers"]).iter().map(name).collect()))
        .collect();
    let (wrong, names) = match (all.get(backend), server) {
        (Some(servers), Some(server)) => (server, servers.clone()),
        _ => (backend, all.keys().cloned().collect()),
    };
    match plimsoll_config::closest(wrong, names.iter().map(String::as_str)) {
        Some(name) => format!("; did you mean `{name}`?"),
        None => format!("; there are {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_path() {
        assert_eq!(escaped("unix:/run/a b.sock"), "unix%3A%2Frun%2Fa%20b.sock");
        assert_eq!(split("api/unix:/run/a").unwrap(), ("api".to_owned(), "unix:/run/a".to_owned()));
        assert!(split("api").is_err());
    }
}
