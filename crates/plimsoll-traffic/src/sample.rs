//! Which requests are traced.
//!
//! The parent's decision first, so that a trace is whole or not there at all; without a parent, a share of the requests. A parent that may
//! be anybody is followed within a [`Budget`] only, so that no client can have everything recorded. Chance and time are arguments. The trace's
//! id plays no part: whoever makes ids would make some that are always recorded.

use plimsoll_config::model::{Parents, Share};

use crate::dice::Dice;
use crate::time::Millis;

/// Requests that clients who are not trusted may have recorded, per second and worker: plenty to look at, little to store.
pub const BUDGET: u32 = 10;

/// What a request's `traceparent` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Its sampled flag.
    pub sampled: bool,
    /// It comes from a peer that may speak for others.
    pub trusted: bool,
}

/// What is left to clients who are not trusted, in the second that runs.
#[derive(Debug, Default)]
pub struct Budget {
    second: u64,
    spent: u32,
}

impl Budget {
    /// Takes one, if there is one left in this second.
    fn take(&mut self, now: Millis) -> bool {
        let second = now.0 / 1000;
        if self.second != second {
            *self = Budget { second, spent: 0 };
        }
        let left = self.spent < BUDGET;
        self.spent += u32::from(left);
        left
    }
}

/// Whether to go on with the trace that a client names; otherwise a new one begins.
#[must_use]
pub fn continues(parents: Parents, trusted: bool) -> bool {
    trusted || parents != Parents::Trusted
}

/// Whether a request is recorded. `parent` is one that [`continues`].
#[must_use]
pub fn sampled(
    parent: Option<Parent>,
    parents: Parents,
    share: Share,
    budget: &mut Budget,
    now: Millis,
    dice: &mut Dice,
) -> bool {
    match parent {
        Some(Parent { sampled: false, .. }) => false,
        Some(Parent { trusted: true, .. }) => true,
        Some(_) if parents == Parents::All || budget.take(now) => true,
        _ => share.0 > 0 && dice.below(Share::ALL) < share.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Share = Share(0);
    const ALWAYS: Share = Share(Share::ALL);

    fn asked(parent: Option<(bool, bool)>, parents: Parents, share: Share) -> bool {
        let parent = parent.map(|(sampled, trusted)| Parent { sampled, trusted });
        sampled(parent, parents, share, &mut Budget::default(), Millis(0), &mut Dice::new(1))
    }

    #[test]
    fn a_parent_decides_both_ways() {
        for parents in [Parents::Limited, Parents::All, Parents::Trusted] {
            assert!(asked(Some((true, true)), parents, NEVER));
            assert!(!asked(Some((false, true)), parents, ALWAYS));
        }
        assert!(asked(Some((true, false)), Parents::All, NEVER));
        assert!(!asked(Some((false, false)), Parents::All, ALWAYS));
    }

    #[test]
    fn without_a_parent_the_share_decides() {
        assert!(!asked(None, Parents::Limited, NEVER));
        assert!(asked(None, Parents::Limited, ALWAYS));
        let (mut dice, mut budget, one_percent) = (Dice::new(5), Budget::default(), Share(Share::ALL / 100));
        let n = (0..100_000)
            .filter(|_| sampled(None, Parents::Limited, one_percent, &mut budget, Millis(0), &mut dice))
            .count();
        assert!((880..1120).contains(&n), "{n} of 100,000, more than 3.8 deviations from 1,000");
    }

    #[test]
    fn strangers_cannot_have_everything_recorded() {
        let (mut budget, mut dice) = (Budget::default(), Dice::new(5));
        let stranger = Some(Parent { sampled: true, trusted: false });
        let mut recorded = |parents, at| {
            let one = |_: &u32| sampled(stranger, parents, NEVER, &mut budget, Millis(at), &mut dice);
            (0..100).filter(one).count() as u32
        };
        assert_eq!(recorded(Parents::Limited, 1_000), BUDGET);
        assert_eq!(recorded(Parents::Limited, 1_999), 0);
        assert_eq!(recorded(Parents::Limited, 2_000), BUDGET);
        assert_eq!(recorded(Parents::All, 2_000), 100);
    }

    #[test]
    fn a_stranger_beyond_the_budget_is_one_of_the_share() {
        let mut budget = Budget { second: 0, spent: BUDGET };
        let stranger = Some(Parent { sampled: true, trusted: false });
        assert!(sampled(stranger, Parents::Limited, ALWAYS, &mut budget, Millis(1), &mut Dice::new(1)));
    }

    #[test]
    fn who_may_name_a_trace_is_configured() {
        assert!(!continues(Parents::Trusted, false));
        for (parents, trusted) in [(Parents::Trusted, true), (Parents::Limited, false), (Parents::All, false)]
        {
            assert!(continues(parents, trusted));
        }
    }
}
