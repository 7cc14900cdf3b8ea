//! Trials: the first request to a server that was ejected.

use std::rc::Rc;

use super::{Ask, Balancer};
use crate::lease::Lease;

impl Balancer {
    /// The request that tries a server that was ejected.
    #[cold]
    pub(super) fn try_out(self: &Rc<Self>, ask: &Ask<'_>) -> Option<Lease> {
        let index = self.backend.take_trial(ask.tried)?;
        match self.lease(index, ask.now) {
            Some(lease) => Some(lease.on_trial()),
            None => {
                self.backend.undecided(index as usize);
                None
            }
        }
    }
}
