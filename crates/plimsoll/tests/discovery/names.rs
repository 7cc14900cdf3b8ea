//! Real name servers: knot (authoritative, with TCP for what does not fit) and dnsmasq.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::need::need;
use crate::process::Process;
use crate::rig::{fresh_path, until};
use crate::stage::{
    before, free_port, names, servers, sites, soon, source, until_failing, until_served_by, who,
};

const A: &str = "127.0.0.21";
const B: &str = "127.0.0.22";
const C: &str = "127.0.0.23";

/// A zone, `web.internal`, and who serves it.
struct Knot {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    serial: u32,
    process: Option<Process>,
}

impl Knot {
    /// `None`, after saying so, where it cannot be had.
    fn start(zone: &str) -> Option<Knot> {
        let program = need("knotd")?;
        let folder = fresh_path("knot");
        std::fs::create_dir_all(&folder).expect("the test's own directory can be written");
        let mut knot = Knot { program, folder, port: free_port(), serial: 0, process: None };
        let at = knot.folder.display();
        let text = format!(
            "server:\n  rundir: {at}\n  listen: 127.0.0.1@{}\ndatabase:\n  storage: {at}\nlog:\n- target: stderr\n  any: info\n\
             zone:\n- domain: web.internal\n  storage: {at}\n  file: zone\n  zonefile-load: whole\n  journal-content: none\n",
            knot.port
        );
        std::fs::write(knot.folder.join("knot.conf"), text).expect("the test's own directory can be written");
        knot.write(zone);
        knot.rise();
        Some(knot)
    }

    fn write(&mut self, zone: &str) {
        self.serial += 1;
        let text =
            format!("$ORIGIN web.internal.\n$TTL 1\n@ SOA ns a {} 1 1 1 1\n@ NS ns\n{zone}\n", self.serial);
        std::fs::write(self.folder.join("zone"), text).expect("the test's own directory can be written");
    }

    fn rise(&mut self) {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.folder.join("knot.conf"));
        self.process = Some(Process::start("knotd", &mut command));
        until_listens(self.port);
    }

    fn change(&mut self, zone: &str) {
        self.write(zone);
        self.process.as_ref().expect("it runs").signal(Signal::HUP);
    }

    fn die(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    fn resolver(&self) -> String {
        format!("resolver = \"127.0.0.1:{}\"", self.port)
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        drop(self.process.take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn until_listens(port: u16) {
    until("the name server listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
}

#[test]
fn every_address_is_a_server_and_changes_death_and_return_are_followed() {
    let all = [A, B, C, "::1"];
    let port = sites(&all);
    let Some(mut knot) = Knot::start(&format!("@ A {A}\n@ AAAA ::1\nns A 127.0.0.1")) else { return };
    let resolver = knot.resolver();
    let program = before(&format!("discover = {{ dns = \"web.internal:{port}\", {resolver} }}"));
    until_served_by(&program, &[A, "::1"], port);
    knot.change(&format!("@ A {A}\n@ A {B}\n@ A {C}\nns A 127.0.0.1"));
    until_served_by(&program, &[A, B, C], port);
    knot.die();
    until_failing(&program);
    until_served_by(&program, &[A, B, C], port);
    // No address of that name, and then no such name: answers both, but not ones that empty a backend.
    knot.write("ns A 127.0.0.1");
    knot.rise();
    soon("there is an answer", || {
        let why = until_failing(&program);
        if why == "it names no server" { Ok(()) } else { Err(why) }
    });
    until_served_by(&program, &[A, B, C], port);
    knot.change(&format!("@ A {B}\nns A 127.0.0.1"));
    until_served_by(&program, &[B], port);
    assert_eq!(source(&program)["failing"], false);
    assert!(program.stderr_lines().iter().any(|line| line.contains(" answers again")));
}

#[test]
fn aliases_are_followed() {
    let port = sites(&[A]);
    let Some(knot) = Knot::start(&format!("one CNAME two\ntwo CNAME three\nthree A {A}\nns A 127.0.0.1"))
    else {
        return;
    };
    let program = before(&format!("discover = {{ dns = \"one.web.internal:{port}\", {} }}", knot.resolver()));
    until_served_by(&program, &[A], port);
}

#[test]
fn more_than_a_datagram_holds_comes_over_tcp() {
    let records: String = (1..=300).map(|n| format!("@ A 127.9.{}.{}\n", n / 200, 1 + n % 200)).collect();
    let Some(knot) = Knot::start(&format!("{records}ns A 127.0.0.1")) else { return };
    let program = before(&format!("discover = {{ dns = \"web.internal:9\", {} }}", knot.resolver()));
    assert_eq!(names(&program).len(), 300);
}

#[test]
fn records_of_a_service_have_ports_priorities_and_weights() {
    let first = sites(&[A, B]);
    let second = sites(&[C]);
    let zone = |third: &str| {
        format!(
            "_http._tcp SRV 10 30 {first} one\n_http._tcp SRV 10 10 {first} two\n_http._tcp SRV 20 0 {second} three\n\
             one A {A}\ntwo A {B}\n{third}\nns A 127.0.0.1"
        )
    };
    let Some(mut knot) = Knot::start(&zone(&format!("three A {C}"))) else { return };
    let resolver = knot.resolver();
    let program = before(&format!("discover = {{ dns_srv = \"_http._tcp.web.internal\", {resolver} }}"));
    let shown = |program: &_| -> BTreeSet<(String, u64, u64)> {
        let number = |server: &serde_json::Value, key: &str| server[key].as_u64().expect("a number");
        let of = |s: &serde_json::Value| {
            (s["name"].as_str().expect("a name").to_owned(), number(s, "priority"), number(s, "weight"))
        };
        servers(program).iter().map(of).collect()
    };
    let expected = |third: Option<(u64, u64)>| -> BTreeSet<_> {
        let two = [(format!("{A}:{first}"), 0, 30), (format!("{B}:{first}"), 0, 10)];
        two.into_iter()
            .chain(third.map(|(priority, weight)| (format!("{C}:{second}"), priority, weight)))
            .collect()
    };
    assert_eq!(shown(&program), expected(Some((1, 1))));
    let mut counts = [0; 3];
    for _ in 0..80 {
        let who = who(&program);
        let place = [A, B, C].iter().position(|&name| name == who);
        counts[place.unwrap_or_else(|| panic!("{who} serves: {:?}", program.log_lines().last()))] += 1;
    }
    assert_eq!(counts, [60, 20, 0]);
    // A target without an address is no server.
    knot.change(&zone(""));
    soon("it is gone", || if shown(&program) == expected(None) { Ok(()) } else { Err(shown(&program)) });
    knot.die();
    until_failing(&program);
    assert_eq!(shown(&program), expected(None));
}

/// Serves the addresses in `hosts` for `web.internal`.
fn dnsmasq(program: &Path, port: u16, hosts: &Path) -> Process {
    let mut command = Command::new(program);
    command
        .args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file="])
        .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--local=/internal/", "--local-ttl=1"])
        .args(["--user=root", "--log-facility=-"])
        .arg(format!("--port={port}"))
        .arg(format!("--addn-hosts={}", hosts.display()));
    let process = Process::start("dnsmasq", &mut command);
    until_listens(port);
    process
}

#[test]
fn dnsmasq_rotates_says_nothing_and_comes_back() {
    let Some(program) = need("dnsmasq") else { return };
    let port = sites(&[A, B, C]);
    let (resolver, hosts) = (free_port(), fresh_path("hosts"));
    let write = |addresses: &[&str]| {
        let text: String = addresses.iter().map(|address| format!("{address} web.internal\n")).collect();
        std::fs::write(&hosts, text).expect("the test's own directory can be written");
    };
    write(&[A, B]);
    let server = dnsmasq(&program, resolver, &hosts);
    let plimsoll = before(&format!(
        "discover = {{ dns = \"web.internal:{port}\", resolver = \"127.0.0.1:{resolver}\" }}"
    ));
    until_served_by(&plimsoll, &[A, B], port);
    let changes = source(&plimsoll)["changes"].clone();
    crate::stage::until_asked(&plimsoll, 3);
    assert_eq!(source(&plimsoll)["changes"], changes, "dnsmasq has rotated them");
    write(&[]);
    server.signal(Signal::HUP);
    soon("there is no such name", || {
        let why = until_failing(&plimsoll);
        if why == "it names no server" { Ok(()) } else { Err(why) }
    });
    until_served_by(&plimsoll, &[A, B], port);
    server.kill();
    write(&[C]);
    let _server = dnsmasq(&program, resolver, &hosts);
    until_served_by(&plimsoll, &[C], port);
}

#[test]
fn the_list_of_hosts_goes_before_the_name_server() {
    let port = sites(&["127.0.0.1", "::1"]);
    let program = before(&format!("discover = {{ dns = \"localhost:{port}\" }}"));
    // Which addresses `localhost` has is the machine's to say.
    assert!(!names(&program).is_empty(), "{}", source(&program));
    assert!(["127.0.0.1", "::1"].contains(&who(&program).as_str()));
}
