//! Weighted draws in constant time: Walker's alias method, as Vose builds it, in exact integers.
//!
//! In go the weights by server index (0 for one that takes no part), out come indices, each with the probability of
//! its weight, and the second draw of a pair without replacement. It must never return an index of weight 0.

use crate::dice::Dice;

/// A table to draw from.
#[derive(Debug)]
pub(crate) struct Weights {
    slots: Box<[Slot]>,
    /// The sum of the weights up to and including each index.
    ends: Box<[u64]>,
    total: u64,
}

/// One column of the alias table: of `total`, `keep` falls to `here` and the rest to `other`.
#[derive(Debug, Clone, Copy)]
struct Slot {
    keep: u64,
    here: u32,
    other: u32,
}

impl Weights {
    pub(crate) fn new(weights: &[u16]) -> Weights {
        let ends: Box<[u64]> = weights
            .iter()
            .scan(0, |sum, &w| {
                *sum += u64::from(w);
                Some(*sum)
            })
            .collect();
        let total = ends.last().copied().unwrap_or(0);
        Weights { slots: alias(weights, total), ends, total }
    }

    /// The sum of the weights.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// An index with the probability of its weight; `None` when all weights are 0.
    pub(crate) fn draw(&self, dice: &mut Dice) -> Option<u32> {
        // One roll serves twice: its high part names the column, its fraction the place within it.
        let roll = u128::from(dice.next()) * self.slots.len() as u128;
        let slot = self.slots.get((roll >> 64) as usize)?;
        let place = ((u128::from(roll as u64) * u128::from(self.total)) >> 64) as u64;
        Some(if place < slot.keep { slot.here } else { slot.other })
    }

    /// The same among all but `except`; `None` when no other has weight.
    ///
    /// Exact without rejection: the alias draw mostly misses `except`; when it hits, one draw over the remaining weights
    /// decides. So a heavy server cannot turn this into a long loop.
    pub(crate) fn draw_except(&self, except: u32, dice: &mut Dice) -> Option<u32> {
        let drawn = self.draw(dice)?;
        if drawn != except {
            return Some(drawn);
        }
        let end = self.ends[except as usize];
        let start = if except == 0 { 0 } else { self.ends[except as usize - 1] };
        let rest = self.total - (end - start);
        if rest == 0 {
            return None;
        }
        let place = dice.below_u64(rest);
        let place = if place >= start { place + (end - start) } else { place };
        Some(self.ends.partition_point(|&end| end <= place) as u32)
    }
}

fn alias(weights: &[u16], total: u64) -> Box<[Slot]> {
    let members = weights.iter().filter(|&&w| w > 0).count() as u64;
    let (mut light, mut heavy) = (Vec::new(), Vec::new());
    for (index, &weight) in (0u32..).zip(weights).filter(|&(_, &w)| w > 0) {
        let scaled = u64::from(weight) * members;
        let side = if scaled < total { &mut light } else { &mut heavy };
        side.push((index, scaled));
    }
    let mut slots = Vec::with_capacity(members as usize);
    while let Some((here, keep)) = light.pop() {
        let (other, left) = heavy.pop().expect("the mean is `total`, so a column below it leaves one above");
        slots.push(Slot { keep, here, other });
        let left = left - (total - keep);
        let side = if left < total { &mut light } else { &mut heavy };
        side.push((other, left));
    }
    slots.extend(heavy.into_iter().map(|(here, keep)| Slot { keep, here, other: here }));
    slots.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the alias table gives each index, in units of 1 / (members * total): exact, no dice.
    fn shares(weights: &[u16]) -> Vec<u64> {
        let table = Weights::new(weights);
        let mut shares = vec![0; weights.len()];
        for slot in &table.slots {
            shares[slot.here as usize] += slot.keep.min(table.total);
            shares[slot.other as usize] += table.total - slot.keep.min(table.total);
        }
        shares
    }

    #[test]
    fn the_table_holds_every_weight_exactly() {
        let mut dice = Dice::new(3);
        for _ in 0..500 {
            let n = 1 + dice.below(40);
            let weights: Vec<u16> = (0..n)
                .map(|_| [0, 1, 1, dice.below(100) as u16, dice.below(65_536) as u16][dice.below(5) as usize])
                .collect();
            let members = weights.iter().filter(|&&w| w > 0).count() as u64;
            let expected: Vec<u64> = weights.iter().map(|&w| u64::from(w) * members).collect();
            assert_eq!(shares(&weights), expected, "{weights:?}");
        }
    }

    #[test]
    fn the_check_of_the_table_notices_a_wrong_weight() {
        assert_ne!(shares(&[5, 1, 1]), [5 * 3, 3, 4]);
    }

    #[test]
    fn draws_nothing_when_all_weights_are_zero() {
        assert_eq!(Weights::new(&[0, 0]).draw(&mut Dice::new(1)), None);
        assert_eq!(Weights::new(&[]).draw(&mut Dice::new(1)), None);
        assert_eq!(Weights::new(&[0, 9, 0]).draw_except(1, &mut Dice::new(1)), None);
    }

    #[test]
    fn the_second_draw_follows_the_remaining_weights() {
        let weights = [60_000u16, 0, 1_000, 3_000, 0];
        let (table, mut dice) = (Weights::new(&weights), Dice::new(5));
        let mut counts = [0f64; 5];
        for _ in 0..100_000 {
            counts[table.draw_except(0, &mut dice).unwrap() as usize] += 1.0;
        }
        assert_eq!([counts[0], counts[1], counts[4]], [0.0; 3]);
        assert!((counts[3] / 1e5 - 0.75).abs() < 0.006, "{counts:?}");
    }

    #[test]
    fn the_second_draw_is_right_in_the_middle_and_at_the_end() {
        let (table, mut dice) = (Weights::new(&[1, 1, 65_535, 1]), Dice::new(6));
        let mut counts = [0f64; 4];
        for _ in 0..60_000 {
            counts[table.draw_except(2, &mut dice).unwrap() as usize] += 1.0;
        }
        assert!(
            counts[2] == 0.0 && [0, 1, 3].iter().all(|&i| (counts[i] - 20_000.0).abs() < 500.0),
            "{counts:?}"
        );
    }
}
