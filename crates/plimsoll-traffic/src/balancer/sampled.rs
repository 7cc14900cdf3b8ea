//! `least_conn` among many: the least loaded of some that are drawn.

use super::{Balancer, Question};
use crate::backend::Tier;
use crate::dice::Dice;
use crate::recent::Recent;

/// How many are drawn.
const SAMPLE: usize = 8;

impl Balancer {
    /// The least loaded of `SAMPLE` drawn by weight. All are drawn before two are compared: so their cache lines come together, not each
    /// after a branch nobody foresees.
    #[inline(never)] // draws in a loop; elsewhere each draw stands where it is made
    pub(super) fn least_of_some(
        &self,
        recent: &Recent,
        tier: &Tier,
        question: &Question<'_>,
        dice: &mut Dice,
    ) -> Option<u32> {
        let drawn: [_; SAMPLE] = std::array::from_fn(|_| self.draw_open(tier, None, question, dice));
        let standings = drawn.map(|index| Some(self.standing(index?, question)));
        let best = standings.into_iter().reduce(|best, next| Some(recent.lighter(best?, next?)));
        best?.map(|best| best.index)
    }
}
