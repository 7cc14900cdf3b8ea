//! `--persist`: the file says it, nothing else in it has changed, and with any failure nothing has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::need::need;
use crate::rig::{Named, PROGRAM, fresh_path, until};
use crate::stage::{SERVERS, admin, api, file, raw, two, who};
use crate::support::Plimsoll;

fn kept(path: &str) -> String {
    format!("{path}?persist=true")
}

fn text(program: &Plimsoll) -> String {
    fs::read_to_string(program.configuration()).expect("it is there")
}

fn orders(program: &Plimsoll) -> usize {
    api(admin(program), "GET", "/status", &Value::Null).body["orders"].as_array().expect("a list").len()
}

#[track_caller]
fn reload(program: &Plimsoll) {
    let said = program.stderr_lines().len();
    program.signal(Signal::HUP);
    let lines = program.wait_for_line(said, |line| line.contains("reloaded"));
    assert!(lines.last().is_some_and(|line| line.starts_with("plimsoll: reloaded ")), "{lines:?}");
}

#[test]
fn every_change_is_in_the_file_in_force_and_no_order() {
    let (program, a, b) = two();
    let admin = admin(&program);
    let before = text(&program);
    let c = Named::start("c");
    let add = json!({ "address": c.address().to_string(), "name": "c" });
    assert_eq!(api(admin, "POST", &kept(SERVERS), &add).status, 201);
    let entry = format!("{{ address = \"{}\", name = \"c\" }}", c.address());
    let with = format!("{}, {entry}]", b.entry(""));
    let expected = before.replace(&format!("{}]", b.entry("")), &with);
    assert_eq!(text(&program), expected);
    let said = api(admin, "PATCH", &kept(&format!("{SERVERS}/a")), &json!({ "weight": 0 }));
    assert_eq!(
        (said.status, &said.body["file"]["weight"], &said.body["ordered"]),
        (200, &json!(0), &Value::Null)
    );
    assert_eq!(text(&program), expected.replace(&a.entry(""), &a.entry(", weight = 0")));
    assert_eq!(api(admin, "DELETE", &kept(&format!("{SERVERS}/b")), &Value::Null).status, 204);
    assert!(!text(&program).contains(&b.address().to_string()));
    assert_eq!((who(&program, 6), orders(&program)), (vec!["c".to_owned()], 0));
    reload(&program);
    assert_eq!(who(&program, 6), ["c"]);
    let found = api(admin, "GET", SERVERS, &Value::Null).body["servers"].take();
    assert_eq!((&found[1]["origin"], found.as_array().map(Vec::len)), (&json!("file"), Some(2)));
}

#[test]
fn the_verb_keeps_comments_and_finds_the_included_file() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let folder = fresh_path("conf.d");
    fs::create_dir(&folder).expect("the test's own directory can be written");
    let included = folder.join("web.toml");
    let lines = format!(
        "# our servers\n[backend.web]\nbalance = \"round_robin\"\nslow_start = \"0s\"\n\n# the first\n[[backend.web.servers]]\naddress = \"{}\" # rack 1\nname = \"a\"\n\n[[backend.web.servers]]\naddress = \"{}\"\nname = \"b\"\n",
        a.address(),
        b.address()
    );
    fs::write(&included, &lines).expect("it is ours");
    let main = format!(
        "workers = 1\nwatch = true\ninclude = [\"{}/*.toml\"]\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"web\"\n[admin]\nbind = \"127.0.0.1:0\"\n",
        folder.display()
    );
    let program = Plimsoll::start(&main);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.arg("server").args(arguments).args(["--admin", &admin(&program).to_string()]);
        let output = command.stdin(Stdio::null()).output().expect("the program is built");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(run(&["web/a", "drain", "--persist"]), (Some(0), String::new()));
    let expected = lines.replace("# rack 1\n", "# rack 1\nstate = \"drain\"\n");
    assert_eq!(fs::read_to_string(&included).expect("it is there"), expected);
    assert_eq!(text(&program), main);
    assert_eq!((who(&program, 4), orders(&program)), (vec!["b".to_owned()], 0));
    // A change of the file by hand is taken by the watch, and it is the first that is: ours was none to take.
    let (code, err) = run(&["list", "--persist"]);
    assert!(code == Some(2) && err.contains("goes with a change"), "{err}");
    fs::write(&included, expected.replace("state = \"drain\"", "weight = 2")).expect("it is ours");
    let said = program.wait_for_line(0, |line| line.contains("reloaded"));
    assert_eq!(said.iter().filter(|line| line.contains("reloaded")).count(), 1, "{said:?}");
    until("both are asked", || who(&program, 6) == ["a", "b"]);
    fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn of_two_operators_the_second_changes_neither_file_nor_process() {
    let (program, ..) = two();
    let admin = admin(&program);
    let path = format!("{SERVERS}/a");
    let tag = api(admin, "GET", &path, &Value::Null).tag.expect("a tag");
    let change = |weight: u16| {
        let fields = format!("Content-Type: application/json\r\nIf-Match: {tag}\r\n");
        raw(admin, "PATCH", &kept(&path), &fields, &json!({ "weight": weight }).to_string()).status
    };
    assert_eq!(change(3), 200);
    let after = text(&program);
    assert_eq!((change(5), text(&program)), (412, after));
    assert_eq!(api(admin, "GET", &path, &Value::Null).body["weight"], 3);
}

/// A user whom file permissions hold, also where the tests are root's.
const NOBODY: &str = "65534";

#[test]
fn what_cannot_be_written_changes_nothing() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let folder = fresh_path("locked");
    fs::create_dir(&folder).expect("the test's own directory can be written");
    let path = folder.join("plimsoll.toml");
    let lines = file(&[a.entry(""), b.entry("")], "");
    fs::write(&path, &lines).expect("it is ours");
    let main = format!("include = [\"{}\"]\n", path.display());
    // The main file has the rest, so that the one in the locked folder is what has to be written.
    let (head, backend) = lines.split_once("[backend.web]").expect("it has one");
    fs::write(&path, format!("[backend.web]{backend}")).expect("it is ours");
    let is_root = rustix::process::geteuid().is_root();
    let command = if is_root {
        let Some(setpriv) = need("setpriv") else { return };
        let mut command = Command::new(setpriv);
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", PROGRAM]);
        command
    } else {
        Command::new(PROGRAM)
    };
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("it is ours");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).expect("it is ours");
    let program = Plimsoll::start_by(command, &format!("{main}{head}"), Stdio::piped());
    let admin = admin(&program);
    let said = api(admin, "PATCH", &kept(&format!("{SERVERS}/a")), &json!({ "state": "drain" }));
    let detail = said.body["detail"].as_str().unwrap_or_default();
    assert!(said.status == 500 && detail.contains("cannot write"), "{said:?}");
    assert_eq!((who(&program, 6), orders(&program)), (vec!["a".to_owned(), "b".to_owned()], 0));
    assert_eq!(fs::read_to_string(&path).expect("it is there"), format!("[backend.web]{backend}"));
    assert_eq!(fs::read_dir(&folder).expect("it is there").count(), 1);
    // Without the file it is done.
    assert_eq!(api(admin, "PATCH", &format!("{SERVERS}/a"), &json!({ "state": "drain" })).status, 200);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn what_the_file_cannot_say_is_told() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let list: PathBuf = fresh_path("list.json");
    fs::write(&list, format!("[{{\"address\":\"{}\",\"name\":\"b\"}}]", b.address())).expect("it is ours");
    let discover = format!("discover = {{ file = \"{}\", every = \"1s\" }}\n", list.display());
    let program = Plimsoll::start(&(file(&[a.entry("")], "") + &discover));
    let admin = admin(&program);
    let before = text(&program);
    let drain = json!({ "state": "drain" });
    let said = api(admin, "PATCH", &kept(&format!("{SERVERS}/b")), &drain);
    assert!(
        said.status == 409 && said.body["detail"].as_str().is_some_and(|it| it.contains("discovery")),
        "{said:?}"
    );
    assert_eq!(api(admin, "PATCH", &format!("{SERVERS}/b?persist=yes"), &drain).status, 400);
    // A file with a problem is not made worse.
    program.configure(&format!("{before}nonsense = 1\n"));
    let said = api(admin, "PATCH", &kept(&format!("{SERVERS}/a")), &drain);
    assert!(
        said.status == 409 && said.body["detail"].as_str().is_some_and(|it| it.contains("nonsense")),
        "{said:?}"
    );
    assert_eq!((who(&program, 6), orders(&program)), (vec!["a".to_owned(), "b".to_owned()], 0));
    // What was changed by hand and not taken yet stays to be taken.
    program.configure(&before.replace("slow_start = \"0s\"", "slow_start = \"1s\""));
    assert_eq!(api(admin, "PATCH", &kept(&format!("{SERVERS}/a")), &drain).status, 200);
    assert!(text(&program).contains("slow_start = \"1s\"") && text(&program).contains("state = \"drain\""));
    reload(&program);
    assert_eq!((who(&program, 4), orders(&program)), (vec!["b".to_owned()], 0));
}

#[test]
fn no_persisted_change_is_lost_among_reloads() {
    let (program, ..) = two();
    let admin = admin(&program);
    for weight in 2..40 {
        // It may be read before the change and taken after it.
        program.signal(Signal::HUP);
        let said = api(admin, "PATCH", &kept(&format!("{SERVERS}/a")), &json!({ "weight": weight }));
        assert_eq!((said.status, &said.body["weight"]), (200, &json!(weight)), "{said:?}");
    }
    reload(&program);
    let one = api(admin, "GET", &format!("{SERVERS}/a"), &Value::Null).body;
    assert_eq!((&one["weight"], &one["file"]["weight"], orders(&program)), (&json!(39), &json!(39), 0));
    assert!(text(&program).contains("weight = 39"));
}

#[test]
fn a_reload_under_way_takes_the_change_too() {
    let (program, ..) = two();
    let admin = admin(&program);
    // A source that never answers: the reload waits for it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("it is bound");
    let more = format!(
        "[backend.more]\nservers = [\"127.0.0.1:9\"]\ndiscover = {{ http = \"http://{address}/\" }}\n[[route]]\npath = \"/more\"\nto = \"more\"\n"
    );
    program.configure(&(text(&program) + &more));
    let said = program.stderr_lines().len();
    program.signal(Signal::HUP);
    silent.set_nonblocking(true).expect("it is a socket");
    let mut asked = None;
    until("the source is asked", || {
        asked = silent.accept().ok();
        asked.is_some()
    });
    assert_eq!(api(admin, "PATCH", &kept(&format!("{SERVERS}/a")), &json!({ "weight": 0 })).status, 200);
    let lines = program.wait_for_line(said, |line| line.contains("reloaded"));
    assert!(lines.last().is_some_and(|line| line.starts_with("plimsoll: reloaded ")), "{lines:?}");
    assert_eq!((who(&program, 4), orders(&program)), (vec!["b".to_owned()], 0));
    assert_eq!(api(admin, "GET", "/v1/backends/more", &Value::Null).status, 200);
}
