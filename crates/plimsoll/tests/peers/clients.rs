//! `curl` and the HTTP clients of Python and Node before Plimsoll, `plimsoll origin` behind it.
//!
//! The scripts beside this file talk to the address they are given and print what they found; what is right is said here.

use serde_json::json;

use crate::curl;
use crate::need::{need, need_ipv6, need_python, script};
use crate::process::{Server, scratch};
use crate::support::{Client, Plimsoll};

/// Three origins under `/` and one with answers of 4 MiB under `/big`.
struct Stage {
    plimsoll: Plimsoll,
    servers: Vec<Server>,
}

impl Stage {
    fn set() -> Self {
        Self::at("127.0.0.1:0")
    }

    fn at(bind: &str) -> Self {
        let mut servers: Vec<Server> = ["a", "b", "c"].map(Server::start).into();
        servers.push(Server::with("big", "127.0.0.1:0", &["--body-size", "4MiB"]));
        let [a, b, c, big] = [0, 1, 2, 3].map(|n| servers[n].address());
        let plimsoll = Plimsoll::start(&format!(
            "[[listen]]\nbind = \"{bind}\"\nto = [\"{a}\", \"{b}\", \"{c}\"]\n\
             [backend.big]\nservers = [\"{big}\"]\n[[route]]\npath = \"/big\"\nto = \"big\"\n"
        ));
        Self { plimsoll, servers }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.plimsoll.address())
    }
}

#[test]
fn curl_keeps_its_connection_over_many_requests() {
    let Some(curl) = need("curl") else { return };
    let stage = Stage::set();
    let urls: Vec<String> = (0..30).map(|n| stage.url(&format!("/{n}"))).collect();
    let answers = curl::run(&curl, &urls.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(answers.exit, 0);
    assert_eq!((answers.heads.len(), answers.connects()), (30, 1));
    assert!(answers.heads.iter().all(|head| head.status == 200));
    let mut from: Vec<&str> = answers.heads.iter().filter_map(|head| head.field("x-origin")).collect();
    from.sort_unstable();
    from.dedup();
    assert_eq!(from, ["a", "b", "c"], "all servers take part");
}

#[test]
fn curl_with_http10_gets_whole_answers() {
    let Some(curl) = need("curl") else { return };
    let stage = Stage::set();
    let answer = curl::run(&curl, &["--http1.0", &stage.url("/old")]);
    assert_eq!((answer.exit, answer.last().status), (0, 200));
    assert_eq!(answer.last().field("connection"), Some("close"));
    assert_eq!(answer.json()["request"]["version"], "HTTP/1.1", "towards the server it is 1.1");
    let kept =
        curl::run(&curl, &["--http1.0", "-H", "Connection: keep-alive", &stage.url("/1"), &stage.url("/2")]);
    assert_eq!((kept.exit, kept.heads.len()), (0, 2));
    assert_eq!((kept.last().field("connection"), kept.connects()), (Some("keep-alive"), 1));
}

#[test]
fn curl_uploads_in_chunks_and_waits_for_continue() {
    let Some(curl) = need("curl") else { return };
    let stage = Stage::set();
    let file = scratch("upload");
    let content: String = (0..300_000).map(|n| format!("{n:06} ")).collect();
    std::fs::write(&file, &content).expect("the tests' own directory can be written");
    let path = file.to_str().expect("a path in UTF-8");
    let chunked =
        ["-X", "POST", "-T", path, "-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"];
    for options in [&chunked[..], &["-T", path], &["--data-binary", &format!("@{path}")]] {
        let answer = curl::run(&curl, &[options, &[&stage.url("/upload")]].concat());
        let statuses: Vec<u16> = answer.heads.iter().map(|head| head.status).collect();
        assert_eq!((answer.exit, statuses), (0, vec![100, 200]), "{options:?}");
        let request = &answer.json()["request"];
        assert_eq!(request["body_bytes"], content.len(), "{options:?}");
        assert_eq!(request["body"], content[..1024], "{options:?}");
    }
    std::fs::remove_file(&file).expect("it is there");
}

#[test]
fn curl_downloads_much_and_a_head_has_no_body() {
    let Some(curl) = need("curl") else { return };
    let stage = Stage::set();
    let answer = curl::run(&curl, &["-H", "Accept: text/plain", &stage.url("/big")]);
    assert_eq!((answer.exit, answer.last().field("content-length")), (0, Some("4194304")));
    assert!(answer.body.len() == 4 * 1024 * 1024 && answer.body.iter().all(|&byte| byte == b'x'));
    let head = curl::run(&curl, &["-I", &stage.url("/big"), &stage.url("/after")]);
    assert_eq!((head.exit, head.heads.len(), head.connects()), (0, 2, 1));
    assert_eq!(head.heads[0].field("content-length"), Some("4194304"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    const REQUESTS: usize = 40;
    let stage = Stage::set();
    let mut client = Client::connect(stage.plimsoll.address());
    let body = "0123456789";
    let requests: String = (0..REQUESTS)
        .map(|n| match n % 2 {
            0 => format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"),
            _ => format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{body}"),
        })
        .collect();
    client.send(requests.as_bytes());
    for n in 0..REQUESTS {
        let answer = client.answer().whole();
        let seen: serde_json::Value = serde_json::from_slice(&answer.body).expect("origins answer JSON");
        assert_eq!(seen["request"]["target"], format!("/{n}"));
        assert_eq!(seen["request"]["body_bytes"], if n % 2 == 0 { 0 } else { 10 });
    }
}

#[test]
fn curl_is_served_over_ipv6() {
    let Some(curl) = need("curl") else { return };
    if !need_ipv6() {
        return;
    }
    let stage = Stage::at("[::1]:0");
    let answer = curl::run(&curl, &["-g", &stage.url("/six"), &stage.url("/seven")]);
    assert_eq!((answer.exit, answer.heads.len(), answer.connects()), (0, 2, 1));
    let answer = curl::run(&curl, &["-g", &stage.url("/six")]);
    let fields = answer.json()["request"]["headers"].clone();
    let pairs: Vec<(String, String)> = serde_json::from_value(fields).expect("pairs of texts");
    let value = |name: &str| pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    assert_eq!(value("x-forwarded-for"), Some("::1"));
    assert_eq!(value("host"), Some(stage.plimsoll.address().to_string().as_str()));
    stage.plimsoll.wait_for_log(|line| line["path"] == "/six" && line["client"] == "::1");
}

#[test]
fn httpx_is_served_in_both_its_forms() {
    let Some(python) = need_python(&["httpx"]) else {
        return;
    };
    let stage = Stage::set();
    let result = script(&python, "httpx_client.py", &[&stage.url("")]).result();
    let expected = json!({
        "right": 40,
        "uploaded": 1_048_576,
        "framing": "chunked",
        "downloaded": 4_194_304,
        "clean": true,
    });
    assert_eq!(result, json!({ "sync": expected, "async": expected }));
}

#[test]
fn httpx_is_told_the_reason_of_a_refusal_as_json() {
    let Some(python) = need_python(&["httpx"]) else {
        return;
    };
    let plimsoll = Plimsoll::start(
        "[[listen]]\nbind = \"127.0.0.1:0\"\n[[route]]\nhost = \"only.test\"\nrespond = { body = \"here\" }\n",
    );
    let url = format!("http://{}", plimsoll.address());
    let result = script(&python, "httpx_refused.py", &[&url]).result();
    assert_eq!(result, json!([404, "no_route"]));
}

#[test]
fn aiohttp_keeps_fifty_connections_busy() {
    let Some(python) = need_python(&["aiohttp"]) else {
        return;
    };
    let stage = Stage::set();
    let result = script(&python, "aiohttp_client.py", &[&stage.url("")]).result();
    assert_eq!(result["right"], 500, "{result}");
    assert_eq!(result["servers"], json!(["a", "b", "c"]));
    assert!(result["connections"].as_u64().is_some_and(|count| count <= 50), "{result}");
    let served: u64 =
        stage.servers[..3].iter().filter_map(|server| server.shown()["requests"].as_u64()).sum();
    assert_eq!(served, 500, "none was sent twice");
}

#[test]
fn node_reuses_its_agents_socket_and_fetches() {
    let Some(node) = need("node") else { return };
    let stage = Stage::set();
    let result = script(&node, "node_client.js", &[&stage.url("")]).result();
    assert_eq!(result["agent"], json!({ "right": 20, "sockets": 1 }), "{result}");
    assert_eq!(result["fetched"], 20);
    let posted = json!({ "bytes": 524_288, "framing": "chunked" });
    assert_eq!(result["posted"], posted, "a stream's length is not known");
    assert_eq!(result["downloaded"], 4_194_304);
}
