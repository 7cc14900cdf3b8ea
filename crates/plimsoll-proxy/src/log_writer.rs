//! One thread that writes access log lines, so that no request ever waits for a disk.
//!
//! Workers hand it batches through a bounded queue. Full queue, full disk, closed pipe: the lines are dropped and
//! counted; [`LogWriter::report`] tells the operator, at most once a minute, from a thread that no disk can hold up.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plimsoll_config::model::LogOutput;

use crate::notice::{leave, notice};

/// Batches that may wait, each up to 32 KiB and a line.
const QUEUE: usize = 128;
/// How soon a request to reopen is noticed when nothing is written.
const LOOK: Duration = Duration::from_millis(200);
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Lines dropped by all writers that the process has had.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines dropped since the process started.
pub(crate) fn dropped_by_all() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

/// Where workers leave their lines. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogQueue {
    sender: SyncSender<Batch>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    reopen: AtomicBool,
    dropped: AtomicU64,
    /// Why the last write failed.
    error: Mutex<Option<io::Error>>,
}

impl Shared {
    fn drop_lines(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
        DROPPED.fetch_add(lines, Ordering::Relaxed);
    }
}

/// The writing thread.
pub(crate) struct LogWriter {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    /// Dropped lines told of so far, and when last.
    told: (u64, Option<Instant>),
}

impl LogQueue {
    /// Leaves a batch, or drops and counts it if the writer is behind.
    pub(crate) fn leave(&self, bytes: Vec<u8>, lines: u64) {
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) =
            self.sender.try_send(Batch { bytes, lines })
        {
            self.shared.drop_lines(batch.lines);
        }
    }
}

impl LogWriter {
    /// Opens the output and starts the thread.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub(crate) fn start(output: &LogOutput) -> io::Result<(LogWriter, LogQueue)> {
        let sink = Sink::open(output)?;
        let (sender, receiver) = sync_channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("access-log".into()).spawn({
            let shared = Arc::clone(&shared);
            move || write_all(&receiver, sink, &shared)
        })?;
        Ok((LogWriter { shared: Arc::clone(&shared), thread, told: (0, None) }, LogQueue { sender, shared }))
    }

    /// Asks for the file to be opened anew (after it was rotated).
    pub(crate) fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Relaxed);
    }

    /// Lines dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Tells of dropped lines, if there are new ones and it was not done within the last minute.
    pub(crate) fn report(&mut self) {
        let (told, last) = self.told;
        let dropped = self.dropped();
        if dropped == told || last.is_some_and(|at| at.elapsed() < REPORT_EVERY) {
            return;
        }
        let error = self.shared.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        let cause = error.map_or_else(|| "the output is too slow".to_owned(), |e| e.to_string());
        notice(&format!("access log: {} lines dropped: {cause}; requests are not affected", dropped - told));
        self.told = (dropped, Some(Instant::now()));
    }

    /// Waits until everything left so far is written, but not longer than `limit`: a stuck disk must not keep the process.
    pub(crate) fn finish(self, limit: Duration) {
        let until = Instant::now() + limit;
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

enum Sink {
    Stdout,
    File(File, PathBuf),
}

impl Sink {
    fn open(output: &LogOutput) -> io::Result<Sink> {
        match output {
            LogOutput::Stdout => Ok(Sink::Stdout),
            LogOutput::File(path) => Ok(Sink::File(append(path)?, path.clone())),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Sink::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Sink::File(file, _) => file.write_all(bytes),
        }
    }

    fn reopen(&mut self) {
        if let Sink::File(file, path) = self {
            match append(path) {
                Ok(new) => *file = new,
                Err(e) => leave(format!(
                    "access log: cannot reopen {}: {e}; going on with the old file",
                    path.display()
                )),
            }
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Ends when the last queue handle is gone.
fn write_all(receiver: &Receiver<Batch>, mut sink: Sink, shared: &Shared) {
    loop {
        let batch = receiver.recv_timeout(LOOK);
        if shared.reopen.swap(false, Ordering::Relaxed) {
            sink.reopen();
        }
        match batch {
            Ok(batch) => {
                if let Err(e) = sink.write(&batch.bytes) {
                    shared.drop_lines(batch.lines);
                    *shared.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
