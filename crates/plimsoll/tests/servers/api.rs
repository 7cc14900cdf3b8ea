//! What the API answers: every method, tags, and what it refuses.

use serde_json::{Value, json};

use crate::rig::{Named, fresh_path};
use crate::stage::{SERVERS, admin, api, file, raw, two, who};
use crate::support::Plimsoll;

#[test]
fn every_method_does_what_it_says_and_shows_it() {
    let (program, _a, _b) = two();
    let admin = admin(&program);
    let c = Named::start("c");
    let all = api(admin, "GET", "/v1/backends", &Value::Null);
    assert_eq!((all.status, &all.body["backends"][0]["name"]), (200, &json!("web")), "{all:?}");
    assert_eq!(who(&program, 4), ["a", "b"]);

    let body = json!({ "address": c.address().to_string(), "name": "c", "weight": 2 });
    let added = api(admin, "POST", SERVERS, &body);
    assert_eq!(added.status, 201, "{added:?}");
    let there = added.location.expect("RFC 9110, 10.2.2: where what was made is");
    assert_eq!(there, format!("{SERVERS}/c"));
    assert_eq!(api(admin, "GET", &there, &Value::Null).body["id"], "web/c");
    assert_eq!((&added.body["id"], &added.body["origin"]), (&json!("web/c"), &json!("operator")));
    assert_eq!(added.body["settings"]["max_requests"], 1024, "the backend's own");
    assert_eq!(who(&program, 8), ["a", "b", "c"], "at once, when it is answered");

    for (state, expected) in
        [("drain", vec!["b", "c"]), ("maint", vec!["b", "c"]), ("ready", vec!["a", "b", "c"])]
    {
        let said = api(admin, "PATCH", &format!("{SERVERS}/a"), &json!({ "state": state }));
        assert_eq!((said.status, &said.body["settings"]["state"]), (200, &json!(state)), "{said:?}");
        assert_eq!(who(&program, 8), expected, "{state}");
    }
    let said = api(admin, "PATCH", &format!("{SERVERS}/b"), &json!({ "weight": 0 }));
    assert_eq!((said.status, &said.body["file"]["weight"]), (200, &json!(1)), "{said:?}");
    let orders = api(admin, "GET", "/status", &Value::Null).body["orders"].take();
    let seen: Vec<[&Value; 3]> = (0..2)
        .map(|n| [&orders[n]["server"], &orders[n]["base"]["weight"], &orders[n]["wanted"]["weight"]])
        .collect();
    assert_eq!(
        seen,
        [[&json!("b"), &json!(1), &json!(0)], [&json!("c"), &Value::Null, &json!(2)]],
        "{orders}"
    );
    assert!(said.body["ordered"]["by"].as_str().is_some_and(|by| by.starts_with("127.0.0.1:")), "{said:?}");
    assert_eq!(who(&program, 8), ["a", "c"]);

    let gone = api(admin, "DELETE", &format!("{SERVERS}/c"), &Value::Null);
    assert_eq!(gone.status, 204);
    assert_eq!(who(&program, 4), ["a"]);
    let listed = api(admin, "GET", SERVERS, &Value::Null);
    assert_eq!(listed.body["servers"].as_array().map(Vec::len), Some(2), "{listed:?}");
    assert_eq!(api(admin, "GET", &format!("{SERVERS}/c"), &Value::Null).status, 404);
}

#[test]
fn of_two_operators_the_second_is_told_that_he_looked_too_early() {
    let (program, _a, _b) = two();
    let admin = admin(&program);
    let path = format!("{SERVERS}/a");
    let tags: Vec<String> =
        (0..2).map(|_| api(admin, "GET", &path, &Value::Null).tag.expect("a tag")).collect();
    let change = |tag: &str, weight: u16| {
        let fields = format!("Content-Type: application/json\r\nIf-Match: {tag}\r\n");
        raw(admin, "PATCH", &path, &fields, &json!({ "weight": weight }).to_string())
    };
    let first = change(&tags[0], 3);
    assert_eq!(first.status, 200);
    let second = change(&tags[1], 5);
    assert_eq!((second.status, second.kind.as_str()), (412, "application/problem+json"), "{second:?}");
    assert_eq!(api(admin, "GET", &path, &Value::Null).body["weight"], 3);
    // Having looked again he may; and so may who does not ask for it.
    assert_eq!(change(&first.tag.expect("a tag"), 5).status, 200);
    assert_eq!(change("*", 6).status, 200);
    assert_eq!(api(admin, "PATCH", &path, &json!({ "weight": 7 })).status, 200);
    let stale = raw(admin, "DELETE", &path, &format!("If-Match: {}\r\n", tags[0]), "");
    assert_eq!(stale.status, 412);
    // Several lines are one list, whichever of them has the tag.
    let now = api(admin, "GET", &path, &Value::Null).tag.expect("a tag");
    let lines = format!("If-Match: {}\r\nif-match: \"x\", {now}\r\n", tags[0]);
    assert_eq!(raw(admin, "DELETE", &path, &lines, "").status, 204);
    // What is not there is told as such.
    assert_eq!(raw(admin, "DELETE", &path, &lines, "").status, 404);
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let (program, a, _b) = two();
    let admin = admin(&program);
    let before = api(admin, "GET", "/v1/backends/web", &Value::Null);
    let path = format!("{SERVERS}/a");
    let json = "Content-Type: application/json\r\n";
    let large = format!("{{\"weight\":{}1}}", " ".repeat(70_000));
    let address = a.address();
    let cases = [
        ("POST", SERVERS, json, format!("{{\"address\":\"{address}\",\"name\":\"a\"}}"), 409),
        ("POST", SERVERS, json, "{\"address\":\"nonsense\"}".to_owned(), 422),
        ("POST", SERVERS, json, "{\"name\":\"x\"}".to_owned(), 422),
        ("POST", SERVERS, json, "{\"address\":\"10.0.0.1:1\",\"wieght\":1}".to_owned(), 422),
        ("POST", SERVERS, json, "{\"address\":\"10.0.0.1:1\",\"weight\":65536}".to_owned(), 422),
        ("POST", SERVERS, json, "{\"address\":\"10.0.0.1:1\",\"state\":\"off\"}".to_owned(), 422),
        (
            "POST",
            SERVERS,
            json,
            "{\"address\":\"10.0.0.1:1\",\"backup\":true,\"priority\":1}".to_owned(),
            422,
        ),
        ("POST", "/v1/backends/x/servers", json, "{\"address\":\"10.0.0.1:1\"}".to_owned(), 404),
        ("PATCH", &path, json, "{".to_owned(), 400),
        ("PATCH", &path, json, "{\"weight\":1,\"weight\":2}".to_owned(), 400),
        ("PATCH", &path, json, "[]".to_owned(), 422),
        ("PATCH", &path, json, "{}".to_owned(), 422),
        ("PATCH", &path, json, "{\"weight\":-1}".to_owned(), 422),
        ("PATCH", &path, json, "{\"address\":\"10.0.0.1:1\"}".to_owned(), 422),
        ("PATCH", "/v1/backends/web/servers/x", json, "{\"weight\":1}".to_owned(), 404),
        ("PATCH", &path, json, large, 413),
        ("PATCH", &path, "", "{\"weight\":1}".to_owned(), 415),
        ("PATCH", &path, "Content-Type: text/plain\r\n", "{\"weight\":1}".to_owned(), 415),
        ("PUT", &path, json, "{\"weight\":1}".to_owned(), 405),
        (
            "PATCH",
            &path,
            "Content-Type: application/json\r\nOrigin: null\r\n",
            "{\"weight\":2}".to_owned(),
            403,
        ),
        ("DELETE", &path, "Origin: http://evil.example\r\n", String::new(), 403),
        ("DELETE", &path, "Sec-Fetch-Site: cross-site\r\n", String::new(), 403),
        ("DELETE", "/v1/backends/web/servers/x", "", String::new(), 404),
        ("DELETE", &path, "If-Match: abc\r\n", String::new(), 400),
        ("DELETE", &path, "If-Match: \"a\"\r\nIf-Match: *\r\n", String::new(), 400),
        ("GET", "/v1/backends/%ff", "", String::new(), 400),
        ("GET", "/v1/nothing", "", String::new(), 404),
        ("POST", "/v1/openapi.json", "", String::new(), 405),
    ];
    for (method, path, fields, body, expected) in cases {
        let said = raw(admin, method, path, fields, &body);
        let shown = &body[..body.len().min(80)];
        assert_eq!(said.status, expected, "{method} {path} {fields}{shown}: {said:?}");
        assert_eq!(said.kind, "application/problem+json", "{method} {path} {shown}");
        assert_eq!(
            (&said.body["status"], said.body["detail"].is_string()),
            (&json!(expected), true),
            "{said:?}"
        );
    }
    let twice = raw(admin, "PATCH", &path, json, "{\"state\":\"maint\",\"\\u0073tate\":\"ready\"}");
    assert_eq!(twice.body["detail"], "the body says `state` twice");
    let after = api(admin, "GET", "/v1/backends/web", &Value::Null);
    assert_eq!(after.tag, before.tag);
    // The last one cannot go.
    assert_eq!(api(admin, "DELETE", &path, &Value::Null).status, 204);
    assert_eq!(api(admin, "DELETE", &format!("{SERVERS}/b"), &Value::Null).status, 409);
}

#[test]
fn every_change_is_a_line_of_the_audit_log_and_what_was_refused_is_none() {
    let (a, b, audit) = (Named::start("a"), Named::start("b"), fresh_path("audit.log"));
    let more = format!("audit = \"{}\"", audit.display());
    let program = Plimsoll::start(&file(&[a.entry(""), b.entry("")], &more));
    let admin = admin(&program);
    let path = format!("{SERVERS}/a");
    assert_eq!(api(admin, "PATCH", &path, &json!({ "weight": 4 })).status, 200);
    assert_eq!(api(admin, "PATCH", &path, &json!({ "weight": -4 })).status, 422);
    // A file that was moved away is made anew.
    let moved = audit.with_extension("1");
    std::fs::rename(&audit, &moved).expect("it is there");
    assert_eq!(api(admin, "DELETE", &path, &Value::Null).status, 204);
    let lines = |path| {
        let text = std::fs::read_to_string(path).expect("it was written");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>()
    };
    let (first, second) = (lines(&moved), lines(&audit));
    assert_eq!((first.len(), second.len()), (1, 1), "{first:?} {second:?}");
    let line = &first[0];
    assert_eq!((&line["backend"], &line["server"]), (&json!("web"), &json!("a")), "{line}");
    assert_eq!((&line["before"]["weight"], &line["after"]["weight"]), (&json!(1), &json!(4)), "{line}");
    assert!(line["by"].as_str().is_some_and(|by| by.starts_with("127.0.0.1:")), "{line}");
    assert_eq!(second[0]["after"], Value::Null);
}
