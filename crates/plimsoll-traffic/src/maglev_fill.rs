//! Fills a Maglev table: the servers take turns, each claims the first free slot in its own order of preference.
//!
//! In go the members by name and the table's size, a prime; out come the slots. A server's order is an arithmetic progression
//! modulo the size, from its name alone. Only how the next free slot is found is our own: which one it is must never
//! differ from what the paper's loop finds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::maglev::Member;

/// Weights whose greatest is at most so many times their mean are served by looking at all servers in each round.
const EVEN: u64 = 16;

/// A member's own order of preference over all slots.
struct Preference {
    at: u32,
    skip: u32,
    index: u32,
    weight: u64,
    claimed: u64,
    /// The modular inverse of `skip`, once it is needed; 0 before.
    inverse: u64,
}

/// The table while it is filled.
struct Slots {
    servers: Vec<u32>,
    /// A bit each: the table itself is too large for a core's cache.
    taken: Vec<u64>,
    left: usize,
    /// The free ones, listed once they are few.
    free: Vec<u32>,
    /// From how few on they are listed.
    few: usize,
}

pub(crate) fn fill(members: &[Member<'_>], size: usize) -> Vec<u32> {
    let mut preferences: Vec<Preference> = members.iter().map(|m| Preference::new(m, size)).collect();
    let Some(heaviest) = preferences.iter().map(|p| p.weight).max() else {
        return Vec::new();
    };
    let total: u64 = preferences.iter().map(|p| p.weight).sum();
    let mut slots = Slots::new(size);
    if heaviest * preferences.len() as u64 <= EVEN * total {
        by_rounds(&mut preferences, &mut slots, heaviest);
    } else {
        by_heap(&mut preferences, &mut slots, heaviest);
    }
    slots.servers
}

/// Round after round, in each all whose turn it is, by name.
fn by_rounds(preferences: &mut [Preference], slots: &mut Slots, heaviest: u64) {
    let mut turns = vec![0; preferences.len()];
    for round in 0.. {
        for (preference, turn) in preferences.iter_mut().zip(&mut turns) {
            if *turn > round {
                continue;
            }
            if slots.left == 0 {
                return;
            }
            slots.claim(preference);
            *turn = preference.round(heaviest);
        }
    }
}

/// The same, so that a light server costs nothing in the many rounds that it sits out.
fn by_heap(preferences: &mut [Preference], slots: &mut Slots, heaviest: u64) {
    let mut turns: BinaryHeap<_> = (0..preferences.len()).map(|rank| Reverse((0, rank))).collect();
    while slots.left > 0 {
        let mut turn = turns.peek_mut().expect("one entry a member, and there is a member");
        let preference = &mut preferences[turn.0.1];
        slots.claim(preference);
        turn.0.0 = preference.round(heaviest);
    }
}

impl Preference {
    fn new(member: &Member<'_>, size: usize) -> Preference {
        let hash =
            |seed, modulus: usize| (xxh3_64_with_seed(member.name.as_bytes(), seed) % modulus as u64) as u32;
        let (at, skip) = (hash(0, size), hash(1, size - 1) + 1);
        Preference { at, skip, index: member.index, weight: u64::from(member.weight), claimed: 0, inverse: 0 }
    }

    /// The round in which the next slot is claimed: the heaviest claims one a round, others by their part of its weight
    /// (Envoy's rule).
    fn round(&self, heaviest: u64) -> u64 {
        (self.claimed * heaviest).div_ceil(self.weight)
    }

    /// In how many steps it comes to a slot.
    fn steps_to(&mut self, slot: u32, size: u64) -> u64 {
        if self.inverse == 0 {
            self.inverse = inverse(u64::from(self.skip), size);
        }
        (u64::from(slot) + size - u64::from(self.at)) * self.inverse % size
    }
}

impl Slots {
    fn new(size: usize) -> Slots {
        // A step costs as much as looking at a free slot; with `left` free ones the first takes size / left steps.
        let few = size.isqrt();
        Slots { servers: vec![0; size], taken: vec![0; size.div_ceil(64)], left: size, free: Vec::new(), few }
    }

    /// Gives the server the first free slot in its order.
    fn claim(&mut self, preference: &mut Preference) {
        let size = self.servers.len() as u32;
        if self.left > self.few {
            while self.is_taken(preference.at) {
                preference.at += preference.skip;
                if preference.at >= size {
                    preference.at -= size;
                }
            }
        } else {
            if self.free.is_empty() {
                self.free = (0..size).filter(|&slot| !self.is_taken(slot)).collect();
            }
            let steps = |place: &usize| preference.steps_to(self.free[*place], u64::from(size));
            let nearest = (0..self.free.len()).min_by_key(steps).expect("a slot is left");
            preference.at = self.free.swap_remove(nearest);
        }
        self.servers[preference.at as usize] = preference.index;
        self.taken[preference.at as usize / 64] |= 1 << (preference.at % 64);
        self.left -= 1;
        preference.claimed += 1;
    }

    fn is_taken(&self, slot: u32) -> bool {
        self.taken[slot as usize / 64] >> (slot % 64) & 1 == 1
    }
}

/// Of `number`, modulo the prime `size`: Euclid's algorithm.
fn inverse(number: u64, size: u64) -> u64 {
    let (mut rest, mut factor) = ((size as i64, number as i64), (0i64, 1i64));
    while rest.1 != 0 {
        let times = rest.0 / rest.1;
        rest = (rest.1, rest.0 - times * rest.1);
        factor = (factor.1, factor.0 - times * factor.1);
    }
    factor.0.rem_euclid(size as i64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    /// The paper's loop, with Envoy's rule for weights: round by round, step by step.
    fn plainly(members: &[Member<'_>], size: usize) -> Vec<u32> {
        let mut preferences: Vec<Preference> = members.iter().map(|m| Preference::new(m, size)).collect();
        let heaviest = members.iter().map(|m| u64::from(m.weight)).max().unwrap();
        let (mut slots, mut left) = (vec![u32::MAX; size], size);
        for round in 0.. {
            for preference in &mut preferences {
                if left == 0 {
                    return slots;
                }
                if preference.round(heaviest) > round {
                    continue;
                }
                while slots[preference.at as usize] != u32::MAX {
                    preference.at = (preference.at + preference.skip) % size as u32;
                }
                slots[preference.at as usize] = preference.index;
                preference.claimed += 1;
                left -= 1;
            }
        }
        slots
    }

    #[test]
    fn the_table_is_that_of_the_papers_loop_whatever_the_weights() {
        let mut dice = Dice::new(6);
        for most in [1, 5, 200, 65_535] {
            let names: Vec<String> = (0..1 + dice.below(60)).map(|i| format!("server-{i:03}")).collect();
            let members: Vec<Member<'_>> = (0u32..)
                .zip(&names)
                .map(|(index, name)| Member { name, index, weight: 1 + dice.below(most) as u16 })
                .collect();
            assert_eq!(fill(&members, 10_007), plainly(&members, 10_007), "weights up to {most}");
        }
    }

    #[test]
    fn the_inverse_undoes_a_multiplication() {
        for number in [1, 2, 3, 65_536, 655_372] {
            assert_eq!(number * inverse(number, 655_373) % 655_373, 1);
        }
    }
}
