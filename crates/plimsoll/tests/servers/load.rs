//! Changes while requests go on: what a server has it finishes, and nobody loses anything.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::load_clients::{Kind, run};
use crate::load_server;
use crate::rig::{Named, ok, text};
use crate::stage::{SERVERS, admin, api, file, who};
use crate::support::{Client, Gate, Origin, Plimsoll, Step, get};

const CHANGES: usize = 10_000;
const OPERATORS: usize = 8;
/// Above what the slowest machine takes for them.
const BOUND: Duration = Duration::from_secs(120);

#[test]
fn what_a_drained_or_removed_server_has_it_finishes() {
    for (method, body) in [
        ("PATCH", json!({ "state": "drain" })),
        ("PATCH", json!({ "state": "maint" })),
        ("DELETE", Value::Null),
    ] {
        let gate = Gate::default();
        let script = vec![Step::Read, Step::Wait(gate.clone()), Step::Send(ok("slow")), Step::Hang];
        let (slow, quick) = (Origin::scripted(vec![script]), Named::start("quick"));
        let entry = format!("{{ address = \"{}\", name = \"slow\" }}", slow.address());
        let program = Plimsoll::start(&file(&[entry, quick.entry(", weight = 0")], ""));
        let admin = admin(&program);
        let mut client = Client::connect(program.address());
        client.send(&get("/slow"));
        slow.wait_until("the request is there", |all| all.first().is_some_and(|one| one.taken > 0));
        assert_eq!(api(admin, "PATCH", &format!("{SERVERS}/quick"), &json!({ "weight": 1 })).status, 200);
        let said = api(admin, method, &format!("{SERVERS}/slow"), &body);
        assert!(said.status == 200 || said.status == 204, "{said:?}");
        assert_eq!(who(&program, 5), ["quick"], "nothing new goes there");
        gate.open();
        assert_eq!(text(&client.answer().whole()), "slow");
    }
}

#[test]
fn ten_thousand_changes_under_load_lose_nothing() {
    let servers = ["a", "b", "c"].map(load_server::start);
    let entries =
        servers.map(|address| format!("{{ address = \"{address}\", name = \"{}\" }}", address.port()));
    let more = format!(
        "audit = \"{}\"\n[log]\nformat = \"off\"\n[limits]\nrequests_per_connection = 1000000",
        crate::rig::fresh_path("audit.log").display()
    );
    let program = Plimsoll::start(&file(&entries, &more));
    let (to, admin, stop) = (program.address(), admin(&program), AtomicBool::new(false));
    let kinds = [
        Kind::KeepAlive,
        Kind::KeepAlive,
        Kind::NewConnection,
        Kind::Upload,
        Kind::SlowDownload,
        Kind::Tunnel("/tunnel"),
    ];
    let (next, began) = (AtomicUsize::new(0), Instant::now());
    let (results, refused) = std::thread::scope(|scope| {
        let (stop, next, servers) = (&stop, &next, &servers);
        let clients: Vec<_> = kinds.map(|kind| scope.spawn(move || (kind, run(kind, to, stop)))).into();
        // The first server stays as it is, so that there always is one. Each operator has a server of his own, that comes and goes.
        let operators: Vec<_> = (0..OPERATORS)
            .map(|own| {
                scope.spawn(move || {
                    let mut refused = Vec::new();
                    let (own, mut there) = (format!("own{own}"), false);
                    while began.elapsed() < BOUND {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= CHANGES {
                            break;
                        }
                        refused.extend(change(admin, (&own, &mut there), servers, number));
                    }
                    refused
                })
            })
            .collect();
        let refused: Vec<String> =
            operators.into_iter().flat_map(|operator| operator.join().expect("it does not panic")).collect();
        stop.store(true, Ordering::Relaxed);
        let results: Vec<_> =
            clients.into_iter().map(|client| client.join().expect("it does not panic")).collect();
        (results, refused)
    });
    let made = next.load(Ordering::Relaxed).min(CHANGES);
    println!("{made} changes in {:?}", began.elapsed());
    assert_eq!(made, CHANGES, "not within {BOUND:?}");
    assert!(refused.is_empty(), "{} refused, such as {}", refused.len(), refused[0]);
    for (kind, (done, failures)) in &results {
        println!("{kind:?}: {done}");
        assert!(*done > 0, "{kind:?} was never served");
        assert!(failures.is_empty(), "{} failures: {failures:#?}", failures.len());
    }
}

/// One change by an operator, whose own server is there or not; what was answered if it was not done.
fn change(
    admin: SocketAddr,
    (own, there): (&str, &mut bool),
    servers: &[SocketAddr; 3],
    number: usize,
) -> Option<String> {
    let path = format!("{SERVERS}/{own}");
    let said = match (*there, number % 4) {
        (false, _) => {
            *there = true;
            let address = servers[number % 3].to_string();
            api(admin, "POST", SERVERS, &json!({ "address": address, "name": own }))
        }
        (true, 0) => {
            *there = false;
            api(admin, "DELETE", &path, &Value::Null)
        }
        (true, 1) => api(admin, "PATCH", &path, &json!({ "state": "drain" })),
        (true, 2) => api(admin, "PATCH", &path, &json!({ "state": "ready", "weight": 1 + number % 5 })),
        (true, _) => {
            let path = format!("{SERVERS}/{}", servers[1].port());
            api(admin, "PATCH", &path, &json!({ "weight": 1 + number % 7 }))
        }
    };
    (!matches!(said.status, 200 | 201 | 204)).then(|| format!("{own} {number}: {said:?}"))
}
