//! Priorities: how much of the traffic each level takes, by Envoy's documented rule.
//!
//! In goes how many servers of each level are available, out come shares in percent. A level takes all of its part as long as 72 % of it
//! are there, and spills over to the next with what is missing (Envoy's overprovisioning factor of 1.4). Backups are no level
//! of this kind: they serve only when no other server can. It must never leave traffic to a level where nobody is.

use std::cell::{Cell, RefCell};

use crate::dice::Dice;
use crate::time::Millis;

/// How long a worker relies on a count, in milliseconds: counting touches every server.
const COUNT_FOR: u64 = 50;
/// Envoy's overprovisioning factor, in percent.
const OVERPROVISION: u32 = 140;

/// One worker's view of the levels of a backend.
#[derive(Debug)]
pub(crate) struct Levels {
    /// Percent by level; empty when there is only one.
    loads: RefCell<Box<[u32]>>,
    counted: Cell<Option<Millis>>,
    several: bool,
}

/// The servers of a level: available, and in all.
pub(crate) type Availability = (u32, u32);

impl Levels {
    pub(crate) fn new(levels: usize) -> Levels {
        let loads = if levels > 1 { vec![0; levels].into() } else { Box::default() };
        Levels { loads: RefCell::new(loads), counted: Cell::new(None), several: levels > 1 }
    }

    #[inline]
    pub(crate) fn are_several(&self) -> bool {
        self.several
    }

    /// The level of the next request. `count` tells a level's availability.
    pub(crate) fn choose(
        &self,
        now: Millis,
        dice: &mut Dice,
        count: impl Fn(usize) -> Availability,
    ) -> usize {
        let mut loads = self.loads.borrow_mut();
        if loads.is_empty() {
            return 0;
        }
        if self.counted.get().is_none_or(|counted| now.0.saturating_sub(counted.0) >= COUNT_FOR) {
            share_out(&mut loads, count);
            self.counted.set(Some(now));
        }
        if loads[0] == 100 {
            return 0;
        }
        let mut place = dice.below(100);
        loads
            .iter()
            .position(|&load| {
                place < load || {
                    place -= load;
                    false
                }
            })
            .unwrap_or(0)
    }
}

/// Envoy's arithmetic: whole percents, rounded down, the rest to the first level that has anybody.
fn share_out(loads: &mut [u32], count: impl Fn(usize) -> Availability) {
    let health = |level| {
        let (available, all) = count(level);
        if all == 0 {
            0
        } else {
            (u64::from(OVERPROVISION) * u64::from(available) / u64::from(all)).min(100) as u32
        }
    };
    for (level, load) in loads.iter_mut().enumerate() {
        *load = health(level);
    }
    let total = loads.iter().sum::<u32>().min(100);
    if total == 0 {
        loads[0] = 100;
        return;
    }
    let mut left = 100;
    for load in loads.iter_mut() {
        *load = left.min(*load * 100 / total);
        left -= *load;
    }
    if let Some(first) = loads.iter_mut().find(|load| **load > 0) {
        *first += left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(available: &[u32]) -> Vec<u32> {
        let mut loads = vec![0; available.len()];
        share_out(&mut loads, |level| (available[level], 100));
        loads
    }

    #[test]
    fn two_levels_share_as_envoys_documentation_has_it() {
        let table = [(100, 100), (72, 100), (71, 99), (50, 70), (25, 35), (0, 0)];
        for (available, load) in table {
            assert_eq!(loads(&[available, 100]), [load, 100 - load], "{available} %");
        }
    }

    #[test]
    fn too_few_everywhere_are_scaled_and_the_rest_goes_to_the_first() {
        // Envoy's documentation prints 36/36/28 here; its code, in whole numbers, gives this.
        assert_eq!(loads(&[25, 25, 20]), [37, 35, 28]);
        assert_eq!(loads(&[0, 25, 0]), [0, 100, 0]);
    }

    #[test]
    fn shares_are_whole_and_never_go_where_nobody_is() {
        let mut dice = Dice::new(1);
        for _ in 0..20_000 {
            let available: Vec<u32> =
                (0..1 + dice.below(5)).map(|_| [0, dice.below(101)][dice.below(2) as usize]).collect();
            let loads = loads(&available);
            assert_eq!(loads.iter().sum::<u32>(), 100, "{available:?}");
            let nobody = available.iter().all(|&a| a == 0);
            assert!(nobody || loads.iter().zip(&available).all(|(&l, &a)| l == 0 || a > 0), "{available:?}");
        }
    }

    #[test]
    fn levels_are_chosen_by_their_shares_and_counted_again_after_a_while() {
        let (levels, mut dice) = (Levels::new(2), Dice::new(2));
        let mut second = |now, available| {
            let level = |_| levels.choose(Millis(now), &mut dice, |level| ([available, 2][level], 2));
            (0..10_000).map(level).filter(|&level| level == 1).count()
        };
        assert!(second(0, 1).abs_diff(3_000) < 200, "half of the first level: 70 %");
        assert!(second(COUNT_FOR - 1, 2).abs_diff(3_000) < 200, "relies on its count");
        assert_eq!(second(COUNT_FOR, 2), 0);
    }
}
