//! What the clients of a run have in common: the budget for trying again, if they keep to one.
//!
//! It is production's, as it would be in a balancer or a library between them and ours. In go requests and wishes, out comes leave.

use plimsoll_config::model::Share;
use plimsoll_traffic::{Micros, RetryBudget, Savings};

use crate::world::World;

/// The clients' budget.
#[derive(Debug)]
pub(crate) struct Clients {
    share: Option<Share>,
    savings: Savings,
    budget: RetryBudget,
}

impl Clients {
    pub(crate) fn new(world: &World) -> Clients {
        Clients { share: world.client.budget, savings: Savings::default(), budget: RetryBudget::default() }
    }

    /// A client has a new request.
    pub(crate) fn save(&self) {
        if let Some(share) = self.share {
            self.savings.save(share);
        }
    }

    /// Whether one whose request has failed tries again; `now` in nanoseconds.
    pub(crate) fn may_try_again(&self, now: u64) -> bool {
        let now = Micros(now / 1_000).millis();
        self.share.is_none() || {
            self.savings.hand_over(&self.budget, now);
            self.budget.withdraw(now)
        }
    }
}
