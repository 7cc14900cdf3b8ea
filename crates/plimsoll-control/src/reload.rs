//! Reloading and upgrading: what may ask for it, and when a watched file has changed.
//!
//! One loop in the program does both, and is the only writer of snapshots. The admin address asks it through a [`Request`]; a
//! [`Watch`] tells it when the texts of the configuration differ from those it has taken. Nothing here applies a configuration.

use std::path::{Path, PathBuf};

use plimsoll_config::Source;
use tokio::sync::oneshot;

use crate::files;

/// What came of a reload: a line for the operator, or why everything stays as it was.
pub type Outcome = Result<String, String>;

/// What the loop is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Take the configuration again.
    Reload,
    /// Hand over to a new process, running this program or the same one.
    Upgrade(Option<PathBuf>),
}

/// Somebody waits for an outcome.
#[derive(Debug)]
pub struct Request {
    /// What for.
    pub wish: Wish,
    /// Where to answer. Whoever asked may have gone away.
    pub answer: oneshot::Sender<Outcome>,
}

/// The texts of a configuration, looked at now and then.
///
/// Contents are compared, not times or events: it works for any file system, for editors that replace the file, and for mounted
/// volumes that swap a symbolic link.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    /// What was last taken, or tried. Unreadable is a state too: it is tried once.
    taken: Option<Vec<Source>>,
    /// What the last look saw; a file that is being written looks different each time.
    seen: Option<Vec<Source>>,
}

impl Watch {
    /// Watches the configuration at `path`, whose present texts count as taken. To be made before they are taken: a change in between is
    /// then seen, and at worst one text is taken twice.
    #[must_use]
    pub fn new(path: &Path) -> Watch {
        let now = files::read_all(path).ok();
        Watch { path: path.to_owned(), taken: now.clone(), seen: now }
    }

    /// Where the configuration is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True if the texts are others than those that were taken, settled or not.
    #[must_use]
    pub fn differs(&self) -> bool {
        files::read_all(&self.path).ok() != self.taken
    }

    /// The texts were changed from `before` to `after` by this process, which has taken the change. Where `before` is not what was taken, the
    /// rest of the difference is still to be.
    pub fn wrote(&mut self, before: &[Source], after: &[Source]) {
        if self.taken.as_deref() == Some(before) {
            self.taken = Some(after.to_vec());
            self.seen.clone_from(&self.taken);
        }
    }

    /// Looks. True when the texts have changed and are the same as at the last look; they then count as taken.
    pub fn look(&mut self) -> bool {
        let now = files::read_all(&self.path).ok();
        let settled = now == self.seen;
        let changed = now != self.taken;
        self.seen.clone_from(&now);
        if settled && changed {
            self.taken = now;
        }
        settled && changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_it_has_settled() {
        let folder = std::env::temp_dir().join(format!("plimsoll-watch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.toml");
        std::fs::write(&path, "workers = 1\n").unwrap();
        let mut watch = Watch::new(&path);
        assert!(!watch.look());
        std::fs::write(&path, "workers = 2\n").unwrap();
        assert!(!watch.look(), "it may still be being written");
        assert!(watch.look());
        assert!(!watch.look(), "it is taken");
        std::fs::remove_file(&path).unwrap();
        assert!(!watch.look());
        assert!(watch.look(), "a file that is gone is a change, which a reload reports");
        assert!(!watch.look());
        std::fs::remove_dir(&folder).unwrap();
    }
}
