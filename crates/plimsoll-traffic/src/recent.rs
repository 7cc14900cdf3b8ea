//! Recent picks of one worker by server: what breaks ties between equally loaded servers.
//!
//! In go the picks and the time, out goes who had fewer of late for its weight. Without it a mostly idle backend is a
//! coin toss: over 1,600 idle servers HAProxy measured 300 to 780 requests around a mean of 625, and 580 to 628 with this
//! rule (its commit b6bdb2553). It must never outweigh load: only equals are compared. And what load took from a server must not be
//! made up for: who is passed over for its load has had its turn, or ties would send a slow server all that its load kept away. Nor does one
//! that is new or comes back make up for the time before, where all are looked at (where few are drawn, it wins no more than it is drawn).

use std::cell::Cell;
use std::cmp::Ordering;

use crate::dice::Dice;
use crate::time::Millis;

/// One pick. The fraction below it keeps a trace of slow traffic through eight halvings.
const PICK: u64 = 256;
/// Counts halve once in so many milliseconds, as the one-second rates of the peers forget.
const HALVE_AFTER: u64 = 1_000;

/// Counts by server index, fading.
#[derive(Debug)]
pub(crate) struct Recent {
    picks: Box<[Cell<u64>]>,
    halved: Cell<Millis>,
}

/// What servers are compared by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) index: u32,
    pub(crate) in_flight: u64,
    pub(crate) weight: u64,
}

impl Recent {
    /// All start at a random fraction of one pick, so that the workers of a new process don't all begin with the same
    /// server.
    pub(crate) fn new(servers: usize, dice: &mut Dice) -> Recent {
        let picks = (0..servers).map(|_| Cell::new(dice.below_u64(PICK))).collect();
        Recent { picks, halved: Cell::new(Millis(0)) }
    }

    pub(crate) fn count(&self, server: u32, now: Millis) {
        self.fade(now);
        let picks = &self.picks[server as usize];
        picks.set(picks.get() + PICK);
    }

    /// Of two that were drawn the one with less in flight for its weight; of equals the one with fewer picks for its weight;
    /// else `a`. Who is passed over for its load has had a turn.
    #[inline]
    pub(crate) fn lighter(&self, a: Standing, b: Standing) -> Standing {
        let (taken, passed) = match a.by_load(&b) {
            Ordering::Less => (a, b),
            Ordering::Greater => (b, a),
            Ordering::Equal if self.compare(a.share(), b.share()).is_gt() => return b,
            Ordering::Equal => return a,
        };
        let picks = &self.picks[passed.index as usize];
        picks.set(picks.get() + PICK);
        taken
    }

    /// The same of all: of at least one. Who is passed over for its load is only raised to the picks of who is taken. (If it counted
    /// as a pick each time, one that is never busy, since it fails at once, would be last in picks by far, and win all ties.)
    pub(crate) fn lightest(&self, all: &[u32], standing: impl Fn(u32) -> Standing) -> u32 {
        let mut second: Option<Standing> = None; // in picks, of those with the same load as the best
        let (mut heaviest, mut differ) = (0, false);
        let lighter = |best: Standing, next: Standing| match best.by_load(&next) {
            Ordering::Less => {
                differ = true;
                best
            }
            Ordering::Greater => {
                (second, differ) = (None, true);
                next
            }
            Ordering::Equal => {
                let next_wins = self.compare(best.share(), next.share()).is_gt();
                let (fewer, more) = if next_wins { (next, best) } else { (best, next) };
                let fewest = second.filter(|s| self.compare(s.share(), more.share()).is_lt());
                second = Some(fewest.unwrap_or(more));
                fewer
            }
        };
        let weighed = |index: &u32| {
            let standing = standing(*index);
            heaviest = standing.weight.max(heaviest);
            standing
        };
        let best = all.iter().map(weighed).reduce(lighter).expect("there is at least one");
        if differ {
            self.level(all, &best, heaviest, standing);
        }
        if let Some(second) = second {
            self.catch_up(&best, &second);
        }
        best.index
    }

    /// Where all are looked at, who wins a tie is at most one pick behind the next, or it was away or is new, and all idle
    /// traffic would rush to it until it had as many picks. So it begins one pick behind.
    #[inline]
    fn catch_up(&self, best: &Standing, second: &Standing) {
        let picks = &self.picks[best.index as usize];
        let of_second = self.picks[second.index as usize].get().saturating_mul(best.weight);
        let least = of_second.saturating_sub(PICK * best.weight.max(second.weight));
        if picks.get().saturating_mul(second.weight) < least {
            picks.set(least / second.weight);
        }
    }

    /// Nobody had fewer picks than the one taken, each for its weight. Of those with the same load nobody had, so this is about those passed
    /// over; and only when all were compared it is known who is taken. Nearly all are past the threshold, and nothing more is asked of them.
    #[inline]
    fn level(&self, all: &[u32], taken: &Standing, heaviest: u64, standing: impl Fn(u32) -> Standing) {
        let picks = self.picks[taken.index as usize].get();
        let least = |weight: u64| {
            if weight == taken.weight { picks } else { picks.saturating_mul(weight) / taken.weight.max(1) }
        };
        let threshold = least(heaviest);
        for &index in all {
            let own = &self.picks[index as usize];
            if own.get() < threshold {
                own.set(own.get().max(least(standing(index).weight)));
            }
        }
    }

    /// Picks for the weight: `Less` when `a` had fewer than `b`.
    #[inline]
    pub(crate) fn compare(&self, (a, weight_a): (u32, u64), (b, weight_b): (u32, u64)) -> Ordering {
        let of = |server: u32| self.picks[server as usize].get();
        of(a).saturating_mul(weight_b).cmp(&of(b).saturating_mul(weight_a))
    }

    /// One sweep over all servers a second, so that a pick itself costs nothing.
    fn fade(&self, now: Millis) {
        let periods = now.0.saturating_sub(self.halved.get().0) / HALVE_AFTER;
        if periods == 0 {
            return;
        }
        self.halved.set(Millis(self.halved.get().0 + periods * HALVE_AFTER));
        for picks in &self.picks {
            picks.set(picks.get() >> periods.min(63));
        }
    }
}

impl Standing {
    #[inline]
    fn by_load(&self, other: &Standing) -> Ordering {
        (self.in_flight * other.weight).cmp(&(other.in_flight * self.weight))
    }

    #[inline]
    fn share(&self) -> (u32, u64) {
        (self.index, self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent() -> Recent {
        Recent { picks: [0; 2].map(Cell::new).into(), halved: Cell::new(Millis(0)) }
    }

    #[test]
    fn counts_by_weight() {
        let recent = recent();
        recent.count(0, Millis(0));
        recent.count(0, Millis(0));
        recent.count(1, Millis(0));
        assert_eq!(recent.compare((0, 1), (1, 1)), Ordering::Greater);
        assert_eq!(recent.compare((0, 2), (1, 1)), Ordering::Equal);
        assert_eq!(recent.compare((0, 3), (1, 1)), Ordering::Less);
    }

    #[test]
    fn who_is_passed_over_has_had_its_turn() {
        let recent = recent();
        let standing = |index| Standing { index, in_flight: u64::from(index), weight: 1 };
        recent.count(0, Millis(0));
        assert_eq!(recent.lighter(standing(1), standing(0)).index, 0);
        assert_eq!(recent.compare((0, 1), (1, 1)), Ordering::Equal);
        recent.count(0, Millis(0));
        let light = Standing { index: 0, in_flight: 0, weight: 1 };
        let heavy = Standing { index: 1, in_flight: 9, weight: 3 };
        assert_eq!(recent.lightest(&[0, 1], |index| if index == 0 { light } else { heavy }), 0);
        assert_eq!(recent.compare((1, 3), (0, 1)), Ordering::Equal);
        recent.level(&[0, 1], &Standing { weight: 9, ..heavy }, 9, |_| light);
        assert_eq!(recent.picks[0].get(), 2 * PICK, "never fewer than before");
    }

    #[test]
    fn who_is_passed_over_is_raised_to_the_picks_of_who_is_taken_wherever_both_stand() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let picks = [9 * PICK, PICK, 5 * PICK].map(Cell::new).into();
            let recent = Recent { picks, halved: Cell::new(Millis(0)) };
            // The second is busy.
            let standing = |index| Standing { index, in_flight: u64::from(index == 1), weight: 1 };
            assert_eq!(recent.lightest(&order, standing), 2);
            // And who is taken is one pick behind the next of the same load at most: see `catch_up`.
            let picks: Vec<u64> = recent.picks.iter().map(|p| p.get() / PICK).collect();
            assert_eq!(picks, [9, 5, 8], "{order:?}");
        }
    }

    #[test]
    fn one_that_was_away_takes_one_turn_more_and_then_its_share() {
        for weight in [1, 3] {
            let recent = recent();
            (0..1_000).for_each(|_| recent.count(0, Millis(0)));
            let standing =
                |index| Standing { index, in_flight: 0, weight: if index == 0 { 1 } else { weight } };
            let mut picks = [0; 2];
            for _ in 0..400 {
                let index = recent.lightest(&[0, 1], standing);
                recent.count(index, Millis(0));
                picks[index as usize] += 1;
            }
            let share = 400 * weight / (1 + weight);
            assert!((share..=share + weight).contains(&picks[1]), "weight {weight}: {picks:?}");
        }
    }

    #[test]
    fn halves_once_a_second_and_survives_a_long_silence() {
        let recent = recent();
        recent.count(0, Millis(0));
        recent.count(0, Millis(999));
        assert_eq!(recent.picks[0].get(), 2 * PICK);
        recent.count(1, Millis(2_500));
        assert_eq!((recent.picks[0].get(), recent.picks[1].get()), (PICK / 2, PICK));
        recent.count(1, Millis(u64::MAX));
        assert_eq!((recent.picks[0].get(), recent.picks[1].get()), (0, PICK));
    }

    #[test]
    fn a_clock_that_steps_back_changes_nothing() {
        let recent = recent();
        recent.count(0, Millis(5_000));
        recent.count(0, Millis(10));
        assert_eq!(recent.picks[0].get(), 2 * PICK);
    }

    #[test]
    fn begins_with_a_random_order_of_less_than_one_pick() {
        let begin =
            |seed| Recent::new(4, &mut Dice::new(seed)).picks.iter().map(Cell::get).collect::<Vec<_>>();
        assert!(begin(1).iter().all(|&p| p < PICK));
        assert_ne!(begin(1), begin(2));
    }
}
