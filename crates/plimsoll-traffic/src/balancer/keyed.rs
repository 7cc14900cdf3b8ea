//! Policies that go by a key: the first in the key's own order that can take the request, within a bound on what one may have in flight.
//!
//! In go the key and who can serve, out comes the server. The order is the tables'; only who passes may depend on load.

use crate::sync::atomic::Ordering::Relaxed;

use super::{Balancer, Group, Question};
use crate::backend::Tier;
use crate::hashing::Hashing;
use crate::rendezvous;

impl Balancer {
    /// Where a key goes: by its table, then by rendezvous; within the bound if any server is.
    pub(super) fn place(
        &self,
        hashing: &Hashing,
        eligible: &[u32],
        question: &Question<'_>,
        group: Group,
        bound: Option<u32>,
    ) -> u32 {
        let (key, tier) = (question.ask.key, &self.backend.tiers[group.tier]);
        let within = |index: &u32| self.is_within(*index, tier, bound);
        let seats = &self.backend.seats;
        hashing
            .find(key, &self.notes, |index| self.open(*index, question, group) && within(index))
            .or_else(|| rendezvous::best(eligible.iter().copied().filter(within), seats, key))
            .or_else(|| hashing.find(key, &self.notes, |index| self.open(*index, question, group)))
            .or_else(|| rendezvous::best(eligible.iter().copied(), seats, key))
            .expect("the survey found one")
    }

    /// Bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2018): with this request no server has more than its part of `bound`
    /// times all requests in flight, rounded up. Workers that choose at the same instant may exceed it by one each.
    pub(super) fn is_within(&self, index: u32, tier: &Tier, bound: Option<u32>) -> bool {
        let Some(bound) = bound else { return true };
        let server = self.server(index);
        let all = self.backend.in_flight.0.load(Relaxed) + 1;
        let most = (u64::from(bound) * all * u64::from(server.weight)).div_ceil(100 * tier.weights.total());
        u64::from(server.live.in_flight()) < most
    }
}
