//! Chromium, without a window, as a client: the demo's page and an error page.

use std::path::Path;
use std::process::Command;

use crate::need::need;
use crate::process::{Process, scratch};
use crate::support::Plimsoll;

/// Opens a page and gives the document as the browser understood it.
fn document(chromium: &Path, url: &str) -> String {
    let profile = scratch("profile");
    let mut command = Command::new(chromium);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--no-proxy-server",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--dump-dom",
    ]);
    command.arg(format!("--user-data-dir={}", profile.display())).arg(url);
    let (status, text) = Process::start("chromium", &mut command).finish();
    let _ = std::fs::remove_dir_all(&profile);
    assert!(status.success(), "chromium ended with {status}: {text}");
    text
}

#[test]
fn chromium_opens_the_demo() {
    let Some(chromium) = need("chromium") else { return };
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    let demo = Process::start("demo", command.args(["demo", "--port", "0"]));
    let url = demo.said(|line| {
        let address = line.split(" balances ").nth(1)?.split(' ').next()?;
        Some(address.to_owned())
    });
    let page = document(&chromium, &format!("{url}/from/a/browser"));
    assert!(page.contains("\"server\":\"") && page.contains("\"target\":\"/from/a/browser\""), "{page}");
    assert!(page.contains("x-forwarded-for"), "{page}");
    let logged = demo.said(|line| line.contains("/from/a/browser").then(|| line.to_owned()));
    assert!(logged.contains("200"), "{logged}");
}

#[test]
fn chromium_gets_an_error_as_a_page() {
    let Some(chromium) = need("chromium") else { return };
    let plimsoll = Plimsoll::start(
        "[[listen]]\nbind = \"127.0.0.1:0\"\n[[route]]\nhost = \"only.test\"\nrespond = { body = \"here\" }\n",
    );
    let page = document(&chromium, &format!("http://{}/", plimsoll.address()));
    assert!(page.contains("<h1>404 Not Found</h1>") && page.contains("<code>no_route</code>"), "{page}");
    assert!(!page.contains("&lt;"), "the page is shown as text: {page}");
    let line = plimsoll.wait_for_log(|line| line["path"] == "/");
    assert_eq!((&line["status"], &line["end"]), (&404.into(), &"LC".into()));
}
