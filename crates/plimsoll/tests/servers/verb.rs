//! `plimsoll server`: what a person sees of it.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::rig::{Named, PROGRAM};
use crate::stage::{admin, two, who};

/// Exit code and both outputs.
fn server(admin: SocketAddr, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(PROGRAM);
    command.arg("server").args(arguments).args(["--admin", &admin.to_string()]).stdin(Stdio::null());
    let output = command.output().expect("the program is built");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_verb_does_what_it_says() {
    let (program, _a, _b) = two();
    let admin = admin(&program);
    let c = Named::start("c");
    let c = c.address().to_string();
    let steps: [(&[&str], &[&str]); 7] = [
        (&["add", "web", &c, "--name", "c", "--weight", "2"], &["a", "b", "c"]),
        (&["web/a", "drain"], &["b", "c"]),
        (&["web/b", "maint"], &["c"]),
        (&["web/a", "ready"], &["a", "c"]),
        (&["web/c", "weight", "0"], &["a"]),
        (&["web/c", "remove"], &["a"]),
        (&["web/b", "ready"], &["a", "b"]),
    ];
    for (arguments, expected) in steps {
        let (code, out, err) = server(admin, arguments);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}: {out}");
        assert!(!out.is_empty(), "{arguments:?}");
        assert_eq!(who(&program, 8), expected, "{arguments:?}");
    }
    let (code, out, _) = server(admin, &["list"]);
    assert_eq!(code, Some(0));
    for name in ["web/a", "web/b"] {
        assert!(out.lines().any(|line| line.starts_with(name) && line.contains("file")), "{out}");
    }
    let (_, out, _) = server(admin, &["list", "web", "--json"]);
    let shown: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(shown["servers"].as_array().map(Vec::len), Some(2), "{out}");
}

#[test]
fn a_mistake_is_told_with_what_was_probably_meant() {
    let (program, ..) = two();
    let admin = admin(&program);
    for (arguments, expected, words) in [
        (&["wbe/a", "drain"][..], Some(1), "did you mean `web`?"),
        (&["web/zebra", "drain"], Some(1), "there are a, b"),
        (&["web/a", "weight", "70000"], Some(2), "no weight"),
        (&["web/a", "explode"], Some(2), "say BACKEND/SERVER"),
        (&["a", "drain"], Some(2), "BACKEND/SERVER"),
        (&["web/a", "drain", "--weight", "2"], Some(2), "go with `add`"),
        (&["add", "web", "nonsense"], Some(1), "nonsense"),
        (&["list", "wbe"], Some(1), "did you mean `web`?"),
    ] {
        let (code, out, err) = server(admin, arguments);
        assert_eq!((code, out.as_str()), (expected, ""), "{arguments:?}: {err}");
        assert!(err.contains(words), "{arguments:?}: {err}");
    }
    assert_eq!(who(&program, 4), ["a", "b"]);
    drop(program);
    let (code, _, err) = server(admin, &["list"]);
    assert_eq!(code, Some(3), "{err}");
}
