//! Registries over TLS: a real server with certificates that are good, of another name, too old, or of somebody unknown.
//!
//! The authority is made by the test with OpenSSL and known to nobody else.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::need::{need, need_python};
use crate::process::Process;
use crate::rig::fresh_path;
use crate::stage::{before, json, sites, soon, source, until_failing, until_served_by};

const A: &str = "127.0.0.51";
const B: &str = "127.0.0.52";

/// Runs OpenSSL in the folder.
#[track_caller]
fn openssl(program: &Path, folder: &Path, arguments: &str) {
    let output = Command::new(program).current_dir(folder).args(arguments.split(' ')).output();
    let output = output.expect("it is installed");
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A folder with a key, the certificate of an authority, and certificates by it: `good`, `name` and `old`; and `stranger`, by another one.
fn certificates(program: &Path) -> PathBuf {
    let folder = fresh_path("tls");
    std::fs::create_dir(&folder).expect("the test's own directory can be written");
    std::fs::write(folder.join("good.ext"), "subjectAltName=DNS:localhost").expect("it is ours");
    std::fs::write(folder.join("name.ext"), "subjectAltName=DNS:elsewhere.example").expect("it is ours");
    let run = |arguments: &str| openssl(program, &folder, arguments);
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for authority in ["ca", "other"] {
        run(&format!(
            "req -x509 {new} -keyout {authority}.key -out {authority}.pem -subj /CN={authority} -days 2"
        ));
    }
    run(&format!("req {new} -keyout key.pem -out request.pem -subj /CN=registry"));
    let signed = "x509 -req -in request.pem -CAcreateserial";
    for (name, authority, extension, days) in [
        ("good", "ca", "good", "2"),
        ("name", "ca", "name", "2"),
        ("old", "ca", "good", "-1"),
        ("stranger", "other", "good", "2"),
    ] {
        let by = format!("-CA {authority}.pem -CAkey {authority}.key -extfile {extension}.ext -days {days}");
        run(&format!("{signed} {by} -out {name}.pem"));
    }
    folder
}

#[test]
fn only_who_proves_to_be_the_registry_is_believed() {
    let (Some(program), Some(python)) = (need("openssl"), need_python(&["ssl"])) else { return };
    let folder = certificates(&program);
    let port = sites(&[A, B]);
    let show = |certificate: &str| {
        let (from, beside) = (folder.join(format!("{certificate}.pem")), folder.join("new.pem"));
        std::fs::copy(from, &beside).expect("it was made");
        std::fs::rename(beside, folder.join("now.pem")).expect("it is the same folder");
    };
    let list = |addresses: &[&str]| {
        std::fs::write(folder.join("list.json"), json(addresses, port)).expect("it is ours");
    };
    show("good");
    list(&[A]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/discovery/tls_registry.py");
    let registry = Process::start("tls_registry.py", Command::new(python).arg(script).arg(&folder));
    let at: u16 = registry.said(|line| line.parse().ok());
    let ca = folder.join("ca.pem");
    let backend =
        |ca: &str| format!("discover = {{ http = \"https://localhost:{at}/\", every = \"1s\"{ca} }}");
    let lb = before(&backend(&format!(", ca = \"{}\"", ca.display())));
    until_served_by(&lb, &[A], port);
    list(&[B]);
    until_served_by(&lb, &[B], port);
    for (certificate, reason) in
        [("name", "not valid for name"), ("old", "xpired"), ("stranger", "UnknownIssuer")]
    {
        show(certificate);
        list(&[A]);
        let why = until_failing(&lb);
        assert!(why.contains("no TLS with localhost") && why.contains(reason), "{certificate}: {why}");
        until_served_by(&lb, &[B], port);
        // As soon as it proves itself again, it is believed again.
        list(&[B]);
        show("good");
        soon("it is believed again", || {
            let found = source(&lb);
            if found["failing"] == false { Ok(()) } else { Err(found) }
        });
    }
    list(&[A]);
    until_served_by(&lb, &[A], port);
    // The system knows nothing of this authority.
    let unknown = before(&format!("servers = [\"{B}:{port}\"]\n{}", backend("")));
    let why = until_failing(&unknown);
    assert!(why.contains("UnknownIssuer") || why.contains("ca-certificates"), "{why}");
    until_served_by(&unknown, &[B], port);
    // A file without a certificate believes nobody.
    std::fs::write(&ca, "nothing").expect("it is ours");
    let why = until_failing(&lb);
    assert!(why.contains("there is no certificate in it"), "{why}");
    until_served_by(&lb, &[A], port);
}
