//! Taking what servers say of themselves: when, and what follows.
//!
//! Words that come close together are taken together, and there is a least time between two looks, so that a server that changes its mind with every
//! answer costs no more than one that does so now and then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_control::orders::unix_ms;
use plimsoll_proxy::{Words, notice};

use super::Running;
use super::telling::Telling;

/// How long further words are waited for.
const TOGETHER: Duration = Duration::from_millis(20);
/// The least time between two publications because of words: each costs every worker new tables.
const APART: Duration = Duration::from_millis(250);

/// Whom to listen to, and when next.
pub(super) struct Hearing {
    words: Arc<Words>,
    due: Option<Instant>,
    last: Option<Instant>,
    telling: Telling,
}

impl Hearing {
    pub(super) fn new(words: Arc<Words>) -> Hearing {
        Hearing { words, due: None, last: None, telling: Telling::default() }
    }

    /// Waits until words are to be taken. May be dropped and asked again.
    pub(super) async fn due(&mut self) {
        let due = match self.due {
            Some(due) => due,
            None => {
                self.words.spoken().await;
                let soon = Instant::now() + TOGETHER;
                *self.due.insert(self.last.map_or(soon, |last| soon.max(last + APART)))
            }
        };
        tokio::time::sleep_until(due.into()).await;
    }
}

impl Running {
    /// Tells what was left untold of servers that say too much.
    pub(super) fn tell_the_rest(&mut self) {
        self.hearing.telling.over(Instant::now()).iter().for_each(|line| notice(line));
    }

    /// Goes over to what servers say of themselves now.
    pub(super) fn take_words(&mut self) {
        self.hearing.due = None;
        let now = unix_ms();
        let mut changes = false;
        for heard in self.hearing.words.take() {
            let effect = self.wanted.hear(&heard, now);
            let lines = self.hearing.telling.say((heard.backend, heard.server), effect.lines, Instant::now());
            lines.iter().for_each(|line| notice(line));
            changes |= effect.changes;
        }
        if !changes {
            return;
        }
        self.hearing.last = Some(Instant::now());
        if let Err(error) = self.republish() {
            notice(&format!("what servers say of themselves is not served: {error}"));
        }
    }
}
