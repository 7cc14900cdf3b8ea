//! Replays every input that the fuzz targets of the codec start from, and every one that once failed.
//!
//! The first are in `fuzz/corpus`, by target: what browsers and curl send, and the known attacks. The others are in
//! `corpus` beside this file, by the same names. Needs no fuzzer and no nightly toolchain.

mod oracle;
mod reading;

use std::path::{Path, PathBuf};

/// Runs a target on all its inputs; at least `least` of them, so that a moved folder cannot pass for an empty one.
fn replay(target: &str, least: usize, run: impl Fn(&[u8])) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = files(&here.join("../../fuzz/corpus").join(target));
    assert!(kept.len() >= least, "only {} inputs for {target}", kept.len());
    for path in kept.iter().chain(&files(&here.join("tests/corpus").join(target))) {
        let input = std::fs::read(path).expect("the repository can be read");
        // A failing input is named by the test's output, which is shown only then.
        eprintln!("{}", path.display());
        run(&input);
    }
}

/// The files in a folder, in order; none where there is no such folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths
}

#[test]
fn requests() {
    replay("request", 30, reading::targets::request);
}

#[test]
fn responses() {
    replay("response", 20, reading::targets::response_to);
}

#[test]
fn bodies() {
    replay("body", 15, reading::targets::body);
}

#[test]
fn round_trips() {
    replay("round_trip", 10, reading::targets::round_trip);
}

/// An input for which the codec must take so many requests: the corpus holds what it claims to hold.
#[test]
fn what_browsers_and_curl_send_is_taken_and_no_attack_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/request");
    for path in files(&folder) {
        let read = reading::requests(&std::fs::read(&path).expect("readable"), &[]);
        let name = path.file_name().expect("a file").to_string_lossy();
        let is_attack = name.starts_with("attack-");
        assert_eq!(read.is_refused(), is_attack, "{name}: {:?}", read.end);
        assert!(is_attack || !read.messages.is_empty(), "{name}: {:?}", read.end);
    }
}
