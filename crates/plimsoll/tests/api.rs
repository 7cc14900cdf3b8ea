//! The admin address against its own description: schemathesis makes up requests from `/v1/openapi.json` and judges every answer.
//!
//! The real program on loopback. The document is taken more strictly than it is served: a key that it does not describe is a failure here,
//! and a server's address is one of a few, so that no name server is asked.

#[path = "peers/need.rs"]
mod need;
#[path = "peers/process.rs"]
mod process;
#[path = "support/rig.rs"]
mod rig;
#[path = "servers/stage.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod stage;
mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use need::need_python;
use process::Process;
use rig::{Named, fresh_path};
use serde_json::{Value, json};
use stage::{SERVERS, admin, api, file};
use support::Plimsoll;

/// One run makes hundreds of requests, each with a bound of its own; the three runs together took four seconds on a busy machine. Patiences for one of them.
const RUN_PATIENCES: usize = 18;

const TOKEN: &str = "correct-horse-battery-staple";

/// Somebody who says of a server, to whoever asks, that it is busy.
fn agent() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(b"up 75% # busy\n"); // who asked may have gone away
        }
    });
    port
}

/// The program before two servers that are checked and speak for themselves; `more` is for `[admin]`.
fn start(more: &str) -> (Plimsoll, [Named; 2]) {
    let servers = ["a", "b"].map(Named::start);
    let entries = [servers[0].entry(""), servers[1].entry(", weight = 2")];
    let rest = format!("audit = \"{}\"\n{more}\n[log]\nformat = \"off\"", fresh_path("audit.log").display());
    let text = file(&entries, &rest) + "health = { tcp = true, every = \"1s\" }\n";
    let text = text + &format!("agent = {{ port = {}, every = \"1s\" }}\n", agent());
    (Plimsoll::start(&text), servers)
}

/// Names of the schemas that are parts of others.
fn parts(value: &Value, found: &mut BTreeSet<String>) {
    for part in value["allOf"].as_array().into_iter().flatten() {
        let name = part["$ref"].as_str().and_then(|target| target.rsplit('/').next());
        found.extend(name.map(str::to_owned));
    }
    each(value, |inner| parts(inner, found));
}

fn each(value: &Value, mut visit: impl FnMut(&Value)) {
    match value {
        Value::Object(all) => all.values().for_each(visit),
        Value::Array(all) => all.iter().for_each(&mut visit),
        _ => {}
    }
}

/// Has an object have no other keys than those described; `is_part` leaves the others to what it is a part of.
fn close(schema: &mut Value, is_part: bool) {
    let (whole, kind) = (schema.get("allOf").is_some(), schema["type"].clone());
    if !is_part && (whole || kind == "object" && schema.get("properties").is_some()) {
        let key = if whole { "unevaluatedProperties" } else { "additionalProperties" };
        schema[key] = false.into();
    }
    match schema {
        Value::Object(all) => all.values_mut().for_each(|inner| close(inner, false)),
        Value::Array(all) => all.iter_mut().for_each(|inner| close(inner, false)),
        _ => {}
    }
}

/// The document that the program serves, made strict, as a file.
fn strict(admin: SocketAddr) -> PathBuf {
    let served = api(admin, "GET", "/v1/openapi.json", &Value::Null);
    assert_eq!((served.status, served.kind.as_str()), (200, "application/json"));
    let mut document = served.body;
    let addresses: Vec<String> = (1..20).map(|last| format!("127.0.0.{last}:9")).collect();
    document["components"]["schemas"]["NewServer"]["properties"]["address"] = json!({ "enum": addresses });
    let mut of_others = BTreeSet::new();
    parts(&document, &mut of_others);
    assert!(!of_others.is_empty());
    for (name, schema) in document["components"]["schemas"].as_object_mut().expect("schemas") {
        close(schema, of_others.contains(name));
    }
    let path = fresh_path("openapi.json");
    std::fs::write(&path, document.to_string()).expect("the test's own directory can be written");
    path
}

/// Runs schemathesis; what it says, and whether it is content.
fn hold(python: &Path, admin: SocketAddr, document: &Path, arguments: &[&str]) -> (bool, String) {
    let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/api.toml");
    let folder = fresh_path("schemathesis");
    std::fs::create_dir(&folder).expect("the test's own directory can be written");
    let mut command = Command::new(python);
    // It keeps examples of earlier runs where it runs.
    let main = "from schemathesis.cli import schemathesis; schemathesis()";
    command.current_dir(&folder).args(["-c", main, "--config-file"]).arg(configuration);
    command.arg("run").arg(document).args(["--url", &format!("http://{admin}"), "--no-color"]);
    command.args([
        "--seed",
        "1",
        "--request-timeout",
        "20",
        "--continue-on-failure",
        "--output-truncate",
        "false",
    ]);
    // A new process would not be the test's to end: `tests/upgrade.rs` has it.
    command.args(["--exclude-path", "/upgrade", "--suppress-health-check", "all"]).args(arguments);
    let (status, said) = Process::start("schemathesis", &mut command).finish_within(RUN_PATIENCES);
    let _ = std::fs::remove_dir_all(folder);
    (status.success(), said)
}

#[test]
fn every_answer_is_as_the_document_says() {
    let Some(python) = need_python(&["schemathesis"]) else { return };
    let (program, _servers) = start("");
    let admin = admin(&program);
    let document = strict(admin);
    rig::until("both have said something and were checked", || {
        let servers = api(admin, "GET", SERVERS, &Value::Null).body["servers"].take();
        (0..2).all(|n| servers[n]["word"].is_object() && servers[n]["check"].is_object())
    });
    // Without a token nobody has to bring one.
    let (content, said) =
        hold(&python, admin, &document, &["--max-examples", "25", "--exclude-checks", "ignored_auth"]);
    assert!(content, "{said}");
    let served = api(admin, "GET", "/v1/openapi.json", &Value::Null).body;
    let methods = |item: &Value| {
        item.as_object().map_or(0, |item| item.keys().filter(|key| *key != "parameters").count())
    };
    let all: usize = served["paths"].as_object().expect("paths").values().map(methods).sum();
    assert!(said.contains(&format!("{} selected / {all} total", all - 1)), "{said}");
    // It has come through, and the program goes on.
    let status = api(admin, "GET", "/status", &Value::Null).body;
    assert_eq!(status["phase"], "serving");
    assert!(
        status["orders"].as_array().is_some_and(|orders| !orders.is_empty()),
        "nothing was changed: {status}"
    );
}

#[test]
fn with_a_token_nothing_is_told_without_it() {
    let Some(python) = need_python(&["schemathesis"]) else { return };
    let (program, _servers) = start(&format!("token = {{ file = \"{}\" }}", {
        let path = fresh_path("token");
        std::fs::write(&path, TOKEN).expect("the test's own directory can be written");
        path.display().to_string()
    }));
    let admin = admin(&program);
    let with = format!("Authorization: Bearer {TOKEN}\r\n");
    let served = stage::raw(admin, "GET", "/v1/openapi.json", &with, "");
    let mut document = served.body;
    // Here it is no choice.
    document["security"] = json!([{ "token": [] }]);
    let path = fresh_path("openapi.json");
    std::fs::write(&path, document.to_string()).expect("the test's own directory can be written");
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let only =
        ["--checks", "ignored_auth,status_code_conformance,content_type_conformance", "--mode", "positive"];
    let more = ["--phases", "examples,coverage", "--header", &bearer];
    let (content, said) = hold(&python, admin, &path, &[only, more].concat());
    assert!(content, "{said}");
    let refused = api(admin, "GET", "/v1/backends", &Value::Null);
    assert_eq!((refused.status, refused.kind.as_str()), (401, "application/problem+json"), "{refused:?}");
}

#[test]
fn a_document_that_is_wrong_is_noticed() {
    let Some(python) = need_python(&["schemathesis"]) else { return };
    let (program, _servers) = start("");
    let admin = admin(&program);
    let path = strict(admin);
    let text = std::fs::read_to_string(&path).expect("it was written");
    let mut document: Value = serde_json::from_str(&text).expect("JSON");
    let server =
        document.pointer_mut("/components/schemas/ServerCounts/properties").and_then(Value::as_object_mut);
    server.expect("it is there").remove("assigned");
    std::fs::write(&path, document.to_string()).expect("it is ours");
    let (content, said) = hold(&python, admin, &path, &["--include-path", "/status", "--phases", "coverage"]);
    assert!(!content && said.contains("assigned"), "{said}");
}
