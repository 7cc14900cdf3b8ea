//! Active checks: asks servers regularly whether they are well, and tells their backends; and asks their agents for their own word.
//!
//! In come snapshots, out go results to `plimsoll-traffic`, which decides what they mean. One thread with a runtime of its own for all checks of the
//! process, so that none ever waits for traffic nor traffic for one. How many go on at once is bounded, and each is bounded in time and in what
//! it reads. A server keeps its rhythm through a reload. Never counts as a server's failure what this process lacks itself.

mod agent;
mod due;
mod http;
mod prober;
mod program;
mod question;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plimsoll_config::model::Config;
use plimsoll_proxy::Snapshot;
use tokio::sync::watch;

use self::prober::Prober;

/// How often it is looked whether the first results are there.
const LOOK: Duration = Duration::from_millis(2);

/// The checks of a process. They end when it is dropped.
#[derive(Default)]
pub struct Checks(Option<Running>);

struct Running {
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    thread: JoinHandle<()>,
}

impl Checks {
    /// Makes what the checks of `config` need, if it has any.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn prepare(&mut self, config: &Config) -> io::Result<()> {
        let any = config.backends.iter().any(|b| {
            b.servers.iter().any(|server| b.check_of(server).is_some() || b.agent_of(server).is_some())
        });
        if any && self.0.is_none() {
            let (snapshots, changes) = watch::channel(None);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new().name("checks".to_owned());
            // As a task, since waking what `block_on` itself waits for costs a system call, and every check that ends wakes the prober.
            let thread = thread.spawn(move || {
                runtime.block_on(async { drop(tokio::spawn(Prober::new().run(changes)).await) });
            })?;
            self.0 = Some(Running { snapshots, thread });
        }
        Ok(())
    }

    /// From now on these servers are checked, and no others.
    pub fn adopt(&self, snapshot: &Arc<Snapshot>) {
        if let Some(running) = &self.0 {
            running.snapshots.send_replace(Some(Arc::clone(snapshot)));
        }
    }

    /// Waits until every server has been checked once, so that the first requests don't go to servers of which nothing is known; no longer
    /// than the longest check may take, nor than `limit`.
    pub async fn first_results(&self, snapshot: &Snapshot, limit: Duration) {
        let began = Instant::now();
        let longest = |backend: &plimsoll_config::model::Backend| {
            let checks = backend.servers.iter().filter_map(|server| backend.check_of(server));
            checks.map(|check| check.timeout).max()
        };
        let limit = snapshot.config.backends.iter().filter_map(longest).max().unwrap_or_default().min(limit);
        let waits = || {
            let mut backends = snapshot.backends.iter();
            backends.any(|backend| (0..backend.servers.len()).any(|server| backend.awaits_check(server)))
        };
        while began.elapsed() < limit && waits() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        if let Some(Running { snapshots, thread }) = self.0.take() {
            drop(snapshots);
            let _ = thread.join(); // it ends at once: nothing in it blocks
        }
    }
}
