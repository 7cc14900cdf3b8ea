//! Prometheus' own programs: promtool finds nothing to complain about, and a server scrapes the numbers.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::need::need;
use crate::process::{Process, scratch, until};
use crate::support::{Client, get};
use crate::{ask, busy, root};

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let Some(promtool) = need("promtool") else { return };
    let (counted, _origins, _dead) = busy();
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let page = counted.page().text;
    child.stdin.take().expect("piped").write_all(page.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && said.concat().trim().is_empty(), "{}\n{page}", said.concat());
}

#[test]
fn promtool_takes_the_alert_rules_and_the_scrape_configuration() {
    let Some(promtool) = need("promtool") else { return };
    for arguments in [["check", "rules", "alerts.yml"], ["check", "config", "scrape.yml"]] {
        let folder = root().join("packaging/prometheus");
        let output = Command::new(&promtool).args(arguments).current_dir(folder).output().expect("it runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn alerts_fire_when_they_should_and_not_before() {
    let Some(promtool) = need("promtool") else { return };
    let folder = root().join("crates/plimsoll/tests/metrics");
    let mut command = Command::new(promtool);
    let output = command.args(["test", "rules", "alerts.yml"]).current_dir(folder).output().expect("it runs");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && said[0].contains("SUCCESS"), "{}", said.concat());
}

/// The one value that a query gives, if there is one.
fn query(prometheus: SocketAddr, query: &str) -> Option<f64> {
    let mut client = Client::connect(prometheus);
    client.send(&get(&format!("/api/v1/query?query={query}")));
    let answer: Value = serde_json::from_slice(&client.answer().whole().body).ok()?;
    answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

#[test]
fn a_real_prometheus_scrapes_the_numbers() {
    let Some(prometheus) = need("prometheus") else { return };
    let (counted, _origins, _dead) = busy();
    let folder = scratch("prometheus");
    std::fs::create_dir_all(&folder).expect("the test's own directory can be written");
    let file = folder.join("prometheus.yml");
    let configuration = format!(
        "global: {{ scrape_interval: 200ms }}\nscrape_configs:\n  - job_name: plimsoll\n    static_configs:\n      - targets: [\"{}\"]\n",
        counted.admin
    );
    std::fs::write(&file, configuration).expect("the test's own directory can be written");
    // It cannot choose a port by itself and say which: this one was free a moment ago.
    let address =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("loopback has ports");
    let process = Process::start(
        "prometheus",
        Command::new(prometheus)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}")),
    );
    until("it listens", || std::net::TcpStream::connect(address).is_ok());
    until("it has scraped", || query(address, "up{job=\"plimsoll\"}") == Some(1.0));
    let requests = "sum(plimsoll_listener_requests_total)";
    until("the counter arrives", || query(address, requests) == Some(6.0));
    assert_eq!(ask(counted.plimsoll.address(), &get("/")), 200);
    until("the counter goes up", || query(address, requests) == Some(7.0));
    let p99 = "histogram_quantile(0.99,sum(plimsoll_backend_request_duration_seconds_bucket)by(le))";
    assert!(query(address, p99).is_some_and(|seconds| seconds > 0.0), "the buckets make a histogram");
    drop(process);
    let _ = std::fs::remove_dir_all(folder);
}
