//! One process after the other: what this one takes from the one before it, and what it gives the one that comes after it.
//!
//! [`Upgrade`] is a new process that does not serve yet, [`Old`] an old one that does not know yet that this one does. Between the two moments both accept clients, for
//! some milliseconds.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use plimsoll_control::handover::{Given, GivenDoor, LARGEST};
use plimsoll_control::reload::{Outcome, Watch};
use plimsoll_proxy::{Snapshot, notice, now_micros};
use rustix::net::{Shutdown, shutdown};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::Running;
use crate::upgrade::{self, Upgrade, limits};

/// Bytes that are read at once of what an old process says last: its rate limits.
const READ: usize = 64 << 10;

/// The process before this one, until it has taken notice that this one serves.
pub(super) struct Old {
    stream: UnixStream,
    /// What it has said since.
    said: Vec<u8>,
}

impl Old {
    /// Whoever reads the stream waits beside everything else. It cannot be waited for only if there is no descriptor left to wait with.
    pub(super) fn follow(stream: std::os::unix::net::UnixStream) -> Option<Old> {
        let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream)).ok()?;
        Some(Old { stream, said: Vec::new() })
    }

    /// Waits until it has ended or handed over: it says no more. Never ready for none. May be dropped and asked again.
    pub(super) async fn end(old: Option<&mut Old>) {
        let Some(old) = old else { return std::future::pending().await };
        while old.said.len() < LARGEST {
            old.said.reserve(READ);
            if !old.stream.read_buf(&mut old.said).await.is_ok_and(|n| n > 0) {
                return;
            }
        }
    }

    /// What it has said last. It waits until the stream is shut down: closed it is not, as this process's standard input is the same socket.
    fn let_go(self) -> Value {
        let _ = shutdown(&self.stream, Shutdown::Both); // it may have ended
        serde_json::from_slice(&self.said).unwrap_or_default() // nothing, of a version that says nothing
    }
}

/// The sockets that an old process gives, after what it has learned was noted.
pub(super) fn take(
    given: Option<Given>,
    snapshot: &Snapshot,
) -> (Vec<TcpListener>, Vec<GivenDoor>, Option<Given>) {
    let Some(mut given) = given else { return (Vec::new(), Vec::new(), None) };
    snapshot.recall(&upgrade::recall(&given.learned));
    (std::mem::take(&mut given.sockets), std::mem::take(&mut given.doors), Some(given))
}

/// A snapshot whose rate limits know what those of the old process did.
pub(super) fn limited(snapshot: Snapshot, given: Option<&Given>) -> Snapshot {
    let Some(given) = given else { return snapshot };
    snapshot.limited_as(&limits::read(&given.limits), now_micros())
}

impl Running {
    /// Starts a new process; `outcome` tells later what came of it.
    pub(super) fn begin_upgrade(&mut self, path: Option<PathBuf>, answer: Option<oneshot::Sender<Outcome>>) {
        let program = match (path, &self.program) {
            (Some(path), _) => Ok(path),
            (None, Ok(path)) => Ok(path.clone()),
            (None, Err(e)) => Err(format!("cannot find this process's own program: {e}")),
        };
        let begun = match self.upgrade {
            Some(_) => Err("an upgrade is under way already".to_owned()),
            None => program.and_then(|program| self.start_upgrade(&program)),
        };
        match begun {
            Ok(mut upgrade) => {
                if let Some(answer) = answer {
                    upgrade.tell(answer);
                }
                self.upgrade = Some(upgrade);
            }
            Err(reason) => {
                notice(&format!("not upgraded: {reason}"));
                if let Some(answer) = answer {
                    let _ = answer.send(Err(format!("not upgraded: {reason}\n"))); // who asked may have gone away
                }
            }
        }
    }

    fn start_upgrade(&self, program: &Path) -> Result<Upgrade, String> {
        Upgrade::start(program, &self.proxy, &self.admin, self.listed.handed(), &self.wanted)
    }

    /// True if a new process serves now. Then this one takes no more clients, and has told it what it counted meanwhile, before anybody hears of it.
    pub(super) async fn end_upgrade(&mut self, outcome: &Outcome) -> bool {
        if let (Ok(_), Some(upgrade)) = (outcome, &mut self.upgrade) {
            self.proxy.retire();
            upgrade.tell_last(&limits::told(&self.proxy)).await;
        }
        match outcome {
            Ok(done) => notice(done),
            Err(reason) => notice(reason.trim_end()),
        }
        if let Some(upgrade) = self.upgrade.take() {
            upgrade.answer(outcome);
        }
        outcome.is_ok()
    }

    /// The old process has ended or handed over.
    pub(super) fn end_old(&mut self) {
        let Some(old) = self.old.take() else { return };
        self.proxy.snapshot().recall_limits(&limits::read(&old.let_go()), now_micros());
        // It may have taken a configuration after this process had read it.
        if self.file.as_ref().is_some_and(Watch::differs) {
            self.begin_reload(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::upgrade::say_last;

    #[tokio::test]
    async fn what_is_said_last_is_known_to_be_taken_though_standard_input_is_the_same_socket() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let theirs = theirs.into_std().unwrap();
        let _standard_input = theirs.try_clone().unwrap();
        let mut old = Old::follow(theirs);
        let last = json!({ "limits": "9".repeat(2 << 20) });
        let hear = async {
            Old::end(old.as_mut()).await;
            old.take().unwrap().let_go()
        };
        let (is_taken, heard) = tokio::join!(say_last(&mut ours, &last), hear);
        assert!(is_taken, "it waited in vain");
        assert_eq!(heard, last);
    }
}
