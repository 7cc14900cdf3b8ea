//! The documents are true: links lead somewhere, commands exist, the README shows what the program prints.
//!
//! Reads the Markdown files of the workspace and runs the real program. What a document says in prose nobody can check here; what it
//! says in code font, links and examples is checked as far as a program can.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every Markdown file of the root, `docs/` and what is below it.
fn documents() -> Vec<PathBuf> {
    fn below(folder: &Path, deep: bool, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(root().join(folder)).expect("it is readable") {
            let entry = entry.expect("it is readable");
            let path = folder.join(entry.file_name());
            if deep && root().join(&path).is_dir() {
                below(&path, deep, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    below(Path::new(""), false, &mut found);
    below(Path::new("docs"), true, &mut found);
    found.sort();
    assert!(found.len() >= 10, "{found:?}");
    found
}

#[track_caller]
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

// Markdown, as far as it is needed.

/// The contents of fenced blocks.
fn blocks(text: &str) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), None::<String>);
    for line in text.lines() {
        match (line.trim_start().starts_with("```"), &mut open) {
            (true, Some(_)) => found.extend(open.take()),
            (true, None) => open = Some(String::new()),
            (false, Some(block)) => *block += &format!("{line}\n"),
            (false, None) => {}
        }
    }
    found
}

/// The text without fenced blocks.
fn prose(text: &str) -> String {
    let mut inside = false;
    let keep = |line: &&str| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    };
    text.lines().filter(keep).map(|line| format!("{line}\n")).collect()
}

/// What stands in code font.
fn code_words(text: &str) -> Vec<String> {
    prose(text).split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The targets of `[text](target)`.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let after = prose.split("](").skip(1);
    after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// The anchors of headings, as the usual renderers make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    let slug = |heading: &str| -> String {
        let lower = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = lower.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(slug).collect()
}

/// What is wrong with the links of the document at `path`, in `root`.
fn broken_links(root: &Path, path: &Path, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for link in links(text).into_iter().filter(|link| !link.contains("://")) {
        let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
        let target =
            if file.is_empty() { root.join(path) } else { root.join(path).with_file_name("").join(file) };
        if !target.exists() {
            wrong.push(format!("{}: {link}: there is no such file", path.display()));
        } else if !anchor.is_empty() {
            let heads = std::fs::read_to_string(&target).map_or(BTreeSet::new(), |text| anchors(&text));
            if !heads.contains(anchor) {
                wrong.push(format!("{}: {link}: there is no such heading", path.display()));
            }
        }
    }
    wrong
}

#[test]
fn links_between_documents_lead_somewhere() {
    let broken = documents().into_iter().flat_map(|path| broken_links(&root(), &path, &read(&path)));
    assert_none(&broken.collect::<Vec<_>>());
}

#[test]
fn a_broken_link_is_caught() {
    let page = Path::new("docs/decisions/README.md");
    let broken = |text: &str| broken_links(&root(), page, text).len();
    assert_eq!(broken("[a](nothing.md) and [b](../TESTING.md#nothing), [c](#neither)"), 3);
    assert_eq!(broken("[a](../TESTING.md#adding-a-case) [b](https://a.example/x) ```\n"), 0);
    assert_eq!(broken("```\n[a](nothing.md)\n```\n"), 0);
}

// Commands.

/// The arguments of a line that runs the program, without what belongs to the shell.
fn arguments(line: &str) -> Option<Vec<String>> {
    let line = line.trim_start_matches("$ "); // an indented line is part of a drawing or an output
    let line = line.strip_prefix("plimsoll ")?;
    let words = line.split_whitespace().take_while(|word| !word.starts_with(['#', '|', '>', '<', '&', ';']));
    Some(words.map(|word| word.trim_matches(['\'', '"']).to_owned()).collect())
}

/// Why the program does not understand these arguments. `--help` at the end makes it parse them and do nothing.
fn misunderstood(arguments: &[String]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_plimsoll")).args(arguments).arg("--help").output();
    let output = output.expect("the program is built");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn commands_in_documents_are_understood() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for path in documents() {
        let text = read(&path);
        for arguments in blocks(&text).iter().flat_map(|block| block.lines()).filter_map(arguments) {
            count += 1;
            if let Some(why) = misunderstood(&arguments) {
                wrong.push(format!("{}: plimsoll {}\n{why}", path.display(), arguments.join(" ")));
            }
        }
    }
    assert!(count >= 6, "only {count} commands were found");
    assert_none(&wrong);
}

#[test]
fn a_wrong_command_is_caught() {
    for line in [
        "plimsoll teleport",
        "$ plimsoll run --lissten :80",
        "plimsoll origin --delay soon # slow",
        "plimsoll check a b",
    ] {
        let arguments = arguments(line).expect("it is a command");
        assert!(misunderstood(&arguments).is_some(), "{line}");
    }
    assert_eq!(arguments("curl localhost:8080"), None);
    assert_eq!(
        arguments("plimsoll check x.toml | less"),
        Some(vec!["check".to_owned(), "x.toml".to_owned()])
    );
}

#[test]
fn configurations_in_the_readme_are_fine() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("readme-{}.toml", std::process::id()));
    let readme = read("README.md");
    let examples: Vec<String> =
        blocks(&readme).into_iter().filter(|block| block.starts_with("[[listen]]")).collect();
    assert!(!examples.is_empty());
    for example in examples {
        std::fs::write(&file, &example).expect("the test's own directory can be written");
        let output = Command::new(env!("CARGO_BIN_EXE_plimsoll")).arg("check").arg(&file).output();
        let output = output.expect("the program is built");
        assert!(output.status.success(), "{example}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    std::fs::remove_file(file).expect("it was written");
}

// What pages say about the code.

/// Source files of the data plane and of the pure crates below it.
fn module(name: &str) -> Option<String> {
    let crates = ["plimsoll-proxy", "plimsoll-http", "plimsoll-traffic", "plimsoll-config"];
    let files = crates.iter().map(|krate| root().join(format!("crates/{krate}/src/{name}.rs")));
    files.into_iter().find_map(|file| std::fs::read_to_string(file).ok())
}

/// Files and functions named in code font that do not exist: `name.rs`, `module::function`.
fn unknown_names(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for word in code_words(text) {
        let is_name =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if let Some(file) = word.strip_suffix(".rs").filter(|file| is_name(file)) {
            if module(file).is_none() {
                wrong.push(format!("{word}: there is no such file"));
            }
        } else if let Some((file, function)) = word.split_once("::").filter(|(a, b)| is_name(a) && is_name(b))
        {
            let found = module(file).is_some_and(|text| text.contains(&format!("fn {function}(")));
            if !found {
                wrong.push(format!("{word}: there is no such function"));
            }
        }
    }
    wrong
}

#[test]
fn the_life_of_a_request_names_real_files_and_functions_and_every_file() {
    let page = read("docs/LIFE_OF_A_REQUEST.md");
    let mut wrong = unknown_names(&page);
    for entry in std::fs::read_dir(root().join("crates/plimsoll-proxy/src")).expect("it is readable") {
        let name = entry.expect("it is readable").file_name().to_string_lossy().into_owned();
        if !page.contains(&format!("`{name}`")) {
            wrong.push(format!("{name} is not named"));
        }
    }
    assert_none(&wrong);
    assert_eq!(
        unknown_names(
            "`nothing.rs` and `exchange::nothing`, `exchange::run`, `exchange.rs`, `Type::function`"
        )
        .len(),
        2
    );
}

/// Paths in code font that lead nowhere.
fn missing_paths(root: &Path, text: &str) -> Vec<String> {
    let folders = ["crates/", "docs/", "examples/", "bench/", "fuzz/", "tools/"];
    let is_path =
        |word: &String| folders.iter().any(|f| word.starts_with(f)) && !word.contains(['*', '{', ' ']);
    code_words(text).into_iter().filter(is_path).filter(|word| !root.join(word).exists()).collect()
}

#[test]
fn paths_in_code_font_exist() {
    let mut missing = Vec::new();
    for path in documents() {
        let words = missing_paths(&root(), &read(&path));
        missing.extend(words.into_iter().map(|word| format!("{}: {word}", path.display())));
    }
    assert_none(&missing);
    assert_eq!(
        missing_paths(&root(), "`crates/nothing` `docs/CLI.md` `crates/*/tests` `target/x`"),
        ["crates/nothing"]
    );
}

#[test]
fn every_dependency_has_its_line() {
    let manifest = read("Cargo.toml");
    let section = manifest.split("[workspace.dependencies]").nth(1).expect("there is one");
    let section = section.split("\n[").next().unwrap_or_default();
    let names = section.lines().filter_map(|line| line.split([' ', '.', '=']).next());
    let wanted: BTreeSet<&str> = names
        .filter(|name| !name.is_empty() && !name.starts_with("plimsoll") && !name.starts_with('#'))
        .collect();
    let page = read("docs/decisions/0005-dependencies.md");
    let noted: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(noted, wanted, "left: has a line; right: is in the manifest");
}

// The README's demo.

/// A demo that runs; killed when dropped.
struct Demo {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Demo {
    fn start(port: u16) -> Demo {
        let mut child = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
            .args(["demo", "--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program is built");
        let (sender, lines) = std::sync::mpsc::channel();
        let stdout = child.stdout.take().expect("piped");
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line))); // nobody listens after a failure
        });
        Demo { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the demo prints another line")
    }

    /// INT, as Ctrl-C sends it; the exit code, and what was said on standard error.
    fn interrupt(mut self) -> (Option<i32>, String) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it has not been waited for");
        let (mut said, mut stderr) = (String::new(), self.child.stderr.take().expect("piped"));
        stderr.read_to_string(&mut said).expect("it ends with the process");
        (self.child.wait().expect("it is our child").code(), said)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Both fail where it has ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The answer's body to the request that `curl` sends.
fn curl(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the demo listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    let request =
        format!("GET / HTTP/1.1\r\nHost: {address}\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is taken");
    let mut answer = String::new();
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    while !answer.ends_with("\r\n\r\n") {
        let from = answer.len();
        assert!(reader.read_line(&mut answer).expect("text") > 0, "cut: {answer}");
        if let Some((name, value)) = answer[from..].split_once(':') {
            length = if name.eq_ignore_ascii_case("content-length") {
                value.trim().parse().expect("a number")
            } else {
                length
            };
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the whole body");
    String::from_utf8(body).expect("text")
}

/// With ports replaced, which differ from run to run.
fn mask_ports(line: &str) -> String {
    let mut pieces = line.split("127.0.0.1:");
    let mut masked = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        masked += "127.0.0.1:PORT";
        masked += piece.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    masked
}

/// Names in their order, the values' types, and the values that do not differ from run to run.
fn shape(line: &str) -> Vec<(String, String)> {
    // The server by chance, times by nature, sizes with the length of ports.
    let varies = [
        "time",
        "server",
        "received_bytes",
        "sent_bytes",
        "connect_ms",
        "first_byte_ms",
        "total_ms",
        "served",
        "address",
    ];
    let object: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let object = object.as_object().unwrap_or_else(|| panic!("no object: {line}"));
    let kind = |value: &Value| match value {
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        _ => "something else",
    };
    let shown = |(name, value): (&String, &Value)| {
        let value = if varies.contains(&name.as_str()) {
            kind(value).to_owned()
        } else {
            mask_ports(&value.to_string())
        };
        (name.clone(), value)
    };
    object.iter().map(shown).collect()
}

#[test]
fn the_readme_shows_what_the_demo_prints() {
    let readme = read("README.md");
    let block = |start: &str| {
        blocks(&readme).into_iter().find(|b| b.starts_with(start)).expect("the README shows it")
    };
    let (printed, answered) = (block("Plimsoll balances"), block("{\"server\":"));
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let demo = Demo::start(port);
    let (welcome, log): (Vec<&str>, Vec<&str>) = printed.lines().partition(|line| !line.starts_with('{'));
    let mut address = String::new();
    for expected in welcome {
        let line = demo.line();
        assert_eq!(mask_ports(&line), mask_ports(expected));
        if let Some((_, rest)) = line.split_once("balances http://") {
            address = rest.split(' ').next().unwrap_or_default().to_owned();
        }
    }
    assert!(!log.is_empty(), "the README shows requests");
    for expected in log {
        let body = curl(&address);
        assert_eq!(shape(&body), shape(answered.trim()));
        assert_eq!(shape(&demo.line()), shape(expected));
    }
    let (code, said) = demo.interrupt();
    assert_eq!((code, said.as_str()), (Some(0), "plimsoll: the demo has ended\n"));
}
