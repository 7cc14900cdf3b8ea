//! Orders that the file is to keep: made, written, served, and only then told of; with any failure all is as it was.
//!
//! One at a time and apart from other orders, since each is a file of its own to write. The loop waits for the disk meanwhile, so that nothing
//! comes between the text that was judged and the one that is replaced. What can fail comes before the rename, which is the last
//! step.

use plimsoll_control::orders::{Declined, Keep, Ordered};
use plimsoll_control::persist::{self, Unkept};
use plimsoll_control::wanted::Lasting;
use plimsoll_proxy::notice;
use serde_json::Value;

use super::Running;

impl Running {
    /// Carries out an order and has the file say so; gives the line for the audit log.
    pub(super) fn persist(&mut self, ordered: &Ordered) -> Result<Value, Declined> {
        if self.upgrade.is_some() {
            return Err(Declined::Upgrading);
        }
        let impossible = |reason: &str| Declined::Unkept(Unkept::Impossible(reason.to_owned()));
        let main = self.file.as_ref().map(|file| file.path().to_owned());
        let main = main.ok_or_else(|| impossible("started without a file: there is none to keep it"))?;
        let (backend, change) = (&ordered.backend, &ordered.change);
        let mut wanted = self.wanted.clone();
        let line = ordered.carry_out(&mut wanted)?;
        let lasting = wanted.lasting(backend, change).map_err(|reason| impossible(&reason))?;
        let written = match (&lasting, &ordered.keep) {
            (Lasting::Put(_), Keep::InFile(Some(written))) => Lasting::Put(written.clone()),
            _ => lasting.clone(),
        };
        let prepared = persist::prepare(&main, backend, &written).map_err(Declined::Unkept)?;
        let file = wanted.file_with(backend, &lasting);
        let filed = std::mem::replace(&mut self.listed.filed, file.clone());
        let (base, staying) = self.based(&self.listed);
        self.listed.staying = staying;
        wanted.persisted(file, base, backend, change);
        let before = std::mem::replace(&mut self.wanted, wanted);
        let served = self.republish().map_err(|error| Declined::Unservable(error.to_string()));
        let is_served = served.is_ok();
        match served.and_then(|()| prepared.commit().map_err(Declined::Unkept)) {
            Ok((old, new)) => {
                if let Some(file) = &mut self.file {
                    file.wrote(&old, &new);
                }
                // What is being reloaded was read before.
                if self.reloading.is_some() {
                    self.begin_reload(None);
                }
                Ok(line)
            }
            Err(declined) => {
                (self.wanted, self.listed.filed) = (before, filed);
                if is_served && let Err(error) = self.republish() {
                    notice(&format!("cannot go back to the servers as they were: {error}"));
                }
                Err(declined)
            }
        }
    }
}
