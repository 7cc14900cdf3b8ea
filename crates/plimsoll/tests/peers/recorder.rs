//! A server in a process of its own that writes down every request the moment its head has arrived.
//!
//! It is this test program, started once more and told where to listen and where to write. What it has written stays
//! when it is killed, so that a request that reached two servers, or one server twice, is found afterwards.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::process::{Port, Process};
use crate::support::answer;
use crate::support::oracle::{self, Rules};

const ADDRESS: &str = "PLIMSOLL_RECORDER_ADDRESS";
const RECORD: &str = "PLIMSOLL_RECORDER_RECORD";
/// What the work for a request takes, so that a kill meets requests in flight.
const WORK: Duration = Duration::from_millis(2);

/// A running recorder.
pub(crate) struct Recorder {
    process: Process,
    record: PathBuf,
    /// What was recorded before it started.
    before: usize,
}

impl Recorder {
    /// Listens on `port` and appends to `record`.
    pub(crate) fn start(port: &Port, record: &Path) -> Self {
        let before = recorded(record).len();
        let mut command = Command::new(std::env::current_exe().expect("this program has a file"));
        command
            .args(["recorder::serves_where_it_is_told_to", "--exact", "--ignored", "--nocapture"])
            .env(ADDRESS, port.address().to_string())
            .env(RECORD, record);
        let process = Process::start("recorder", &mut command);
        // The test runner writes the test's name before it on the same line.
        process.said(|line| line.ends_with("listening").then_some(()));
        Self { process, record: record.to_owned(), before }
    }

    /// Requests since it started.
    pub(crate) fn served(&self) -> usize {
        recorded(&self.record).len() - self.before
    }

    /// KILL, and waits until it is gone.
    pub(crate) fn kill(self) {
        self.process.kill();
    }
}

/// The request lines written down, without the version.
pub(crate) fn recorded(record: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(record).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "no test: the server that other tests start and kill"]
fn serves_where_it_is_told_to() {
    let (Ok(address), Some(record)) = (std::env::var(ADDRESS), std::env::var_os(RECORD)) else {
        return;
    };
    let listener = TcpListener::bind(address).expect("the port is reserved for it");
    let record = OpenOptions::new().create(true).append(true).open(record).expect("it can be written");
    let record = Arc::new(record);
    println!("listening");
    for stream in listener.incoming().map_while(Result::ok) {
        let record = Arc::clone(&record);
        std::thread::spawn(move || serve(stream, &record));
    }
}

/// Serves a connection until it ends.
fn serve(mut stream: TcpStream, record: &File) {
    stream.set_nodelay(true).expect("TCP has it");
    let (mut unread, mut noted, mut number) = (Vec::new(), false, 0);
    let mut buffer = [0; 16 * 1024];
    loop {
        if !noted && unread.windows(4).any(|four| four == b"\r\n\r\n") {
            note(&unread, record);
            noted = true;
        }
        if let Some(request) = oracle::request(&unread, &Rules::behind()).message() {
            unread.drain(..request.consumed);
            noted = false;
            number += 1;
            std::thread::sleep(WORK);
            if stream.write_all(&answer(number, &request)).is_err() {
                return;
            }
            continue;
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => unread.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
}

/// Writes down method and target, in one write, so that lines of several threads don't mix and none is half there.
fn note(head: &[u8], mut record: &File) {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let line = line.rsplit_once(' ').map_or(&*line, |(request, _)| request);
    record.write_all(format!("{line}\n").as_bytes()).expect("it can be written");
}
