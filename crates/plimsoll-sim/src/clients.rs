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
    pub(crate) fn save(&self, now: u64) {
        if let Some(share) = self.share {
            self.savings.save(share);
            self.savings.hand_over(&self.budget, Micros(now / 1_000).millis());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_earned_more_than_ten_seconds_ago_does_not_count() {
        let mut world = World::uniform(1, 0.5, 1);
        world.client.budget = Some(Share(Share::ALL / 10));
        let clients = Clients::new(&world);
        // A hundred a second for a minute: a hundred tokens in ten seconds, and the reserve of a hundred.
        let second = 1_000_000_000;
        (0..6_000).for_each(|i| clients.save(i * second / 100));
        let leave = (0..1_000).filter(|_| clients.may_try_again(60 * second - 1)).count();
        assert_eq!(leave, 200);
    }
}
