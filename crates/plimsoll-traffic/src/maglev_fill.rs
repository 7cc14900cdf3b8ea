//! Fills a Maglev table: the servers take turns, each claims the first free slot in its own order of preference.
//!
//! In go the members by name and the table's size, a prime; out come the slots. A server's order is an arithmetic progression
//! modulo the size, from its name alone. Only how the next free slot is found is our own: which one it is must never
//! differ from what the paper's loop finds.
//!
//! A slot is looked at millions of times, and whether it is free cannot be foreseen: a branch on it is what the paper's loop takes its time for. So
//! many servers look ahead at once, without a branch, past what is taken already; then each claims in its turn.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::maglev::Member;

/// Weights whose greatest is at most so many times their mean are served by looking at all servers in each round.
const EVEN: u64 = 16;

/// Servers that look ahead at once: enough that those who look longest are few among them, and so few that hardly any two find the same slot.
const AHEAD: usize = 512;

/// With fewer in turn each looks for itself.
const MANY: usize = 16;

/// A member's own order of preference over all slots, and its turns.
struct Preference {
    /// The next slot to look at.
    at: u32,
    skip: u32,
    index: u32,
    turn: Turn,
    /// The modular inverse of `skip` as a part of the size, in units of 2⁻⁶⁴, once it is needed; 0 before.
    inverse: u64,
}

/// The round in which a server claims its next slot: the heaviest claims one a round, others by their part of its weight (Envoy's rule). So
/// after *n* slots it is *n* times the heaviest weight by its own, rounded up; this counts on without a division.
struct Turn {
    /// No table has more rounds than slots, so this has room for all and one step more.
    whole: u32,
    /// What the division left, in units of 1 / weight.
    rest: u32,
    weight: u32,
    /// What one slot adds to each.
    step: (u32, u32),
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

/// Servers that look ahead together.
struct Group<'a> {
    preferences: &'a mut [Preference],
    /// The rounds in which they claim their next slots.
    turns: Vec<u32>,
    /// The first of those.
    next: u32,
    /// The places of those in turn.
    in_turn: Vec<u32>,
    /// To what slot each of them has come.
    found: Vec<u32>,
    scouts: Vec<Scout>,
}

/// One that looks ahead and has found no free slot yet.
#[derive(Clone, Copy)]
struct Scout {
    at: u32,
    skip: u32,
    /// Its number among those in turn.
    number: u32,
}

pub(crate) fn fill(members: &[Member<'_>], size: usize) -> Vec<u32> {
    let Some(heaviest) = members.iter().map(|m| m.weight).max() else {
        return Vec::new();
    };
    let mut preferences: Vec<Preference> =
        members.iter().map(|m| Preference::new(m, size, heaviest)).collect();
    let total: u64 = members.iter().map(|m| u64::from(m.weight)).sum();
    let mut slots = Slots::new(size);
    if u64::from(heaviest) * members.len() as u64 <= EVEN * total {
        by_rounds(&mut preferences, &mut slots);
    } else {
        by_heap(&mut preferences, &mut slots);
    }
    slots.servers
}

/// Round after round, in each all whose turn it is, by name.
fn by_rounds(preferences: &mut [Preference], slots: &mut Slots) {
    let mut groups: Vec<Group<'_>> = preferences.chunks_mut(AHEAD).map(Group::new).collect();
    for round in 0.. {
        for group in groups.iter_mut().filter(|group| group.next <= round) {
            group.serve(round, slots);
            if slots.left == 0 {
                return;
            }
        }
    }
}

/// The same, so that a light server costs nothing in the many rounds that it sits out.
fn by_heap(preferences: &mut [Preference], slots: &mut Slots) {
    let mut turns: BinaryHeap<_> = (0..preferences.len()).map(|rank| Reverse((0, rank))).collect();
    while slots.left > 0 {
        let mut turn = turns.peek_mut().expect("one entry a member, and there is a member");
        let preference = &mut preferences[turn.0.1];
        slots.claim(preference);
        turn.0.0 = preference.turn.after_a_slot();
    }
}

impl Preference {
    fn new(member: &Member<'_>, size: usize, heaviest: u16) -> Preference {
        let hash =
            |seed, modulus: usize| (xxh3_64_with_seed(member.name.as_bytes(), seed) % modulus as u64) as u32;
        let (at, skip) = (hash(0, size), hash(1, size - 1) + 1);
        let (weight, heaviest) = (u32::from(member.weight), u32::from(heaviest));
        let turn = Turn { whole: 0, rest: 0, weight, step: (heaviest / weight, heaviest % weight) };
        Preference { at, skip, index: member.index, turn, inverse: 0 }
    }

    fn know_inverse(&mut self, size: u64) {
        if self.inverse == 0 {
            let inverse = u128::from(inverse(u64::from(self.skip), size));
            self.inverse = (inverse << 64).div_ceil(u128::from(size)) as u64;
        }
    }

    /// In how many steps it comes to a slot, as a part of the size in units of 2⁻⁶⁴, less than one step off.
    ///
    /// `inverse` is less than one unit off and a distance less than the size, of at most 23 bits; a step is 41 bits.
    fn steps_to(&self, slot: u32) -> u64 {
        u64::from(slot).wrapping_sub(u64::from(self.at)).wrapping_mul(self.inverse)
    }
}

impl Turn {
    fn after_a_slot(&mut self) -> u32 {
        self.whole += self.step.0;
        self.rest += self.step.1;
        if self.rest >= self.weight {
            self.rest -= self.weight;
            self.whole += 1;
        }
        self.whole + u32::from(self.rest > 0)
    }
}

impl Group<'_> {
    fn new(preferences: &mut [Preference]) -> Group<'_> {
        let turns = vec![0; preferences.len()];
        let (in_turn, found, scouts) = (Vec::new(), Vec::new(), Vec::new());
        Group { preferences, turns, next: 0, in_turn, found, scouts }
    }

    /// Each whose turn it is claims a slot, until none is left.
    fn serve(&mut self, round: u32, slots: &mut Slots) {
        self.in_turn.clear();
        self.next = u32::MAX;
        for (place, &turn) in (0..).zip(&self.turns) {
            if turn <= round {
                self.in_turn.push(place);
            } else {
                self.next = self.next.min(turn);
            }
        }
        self.look_ahead(slots);
        for (&place, &found) in self.in_turn.iter().zip(&self.found) {
            if slots.left == 0 {
                return;
            }
            let preference = &mut self.preferences[place as usize];
            preference.at = found;
            slots.claim(preference);
            let turn = preference.turn.after_a_slot();
            self.turns[place as usize] = turn;
            self.next = self.next.min(turn);
        }
    }

    /// Finds for each in turn the next slot that is free as things stand. A slot that is taken stays so: what is passed by is lost to nobody.
    fn look_ahead(&mut self, slots: &Slots) {
        let preferences = self.in_turn.iter().map(|&place| &self.preferences[place as usize]);
        self.found.clear();
        self.found.extend(preferences.clone().map(|preference| preference.at));
        if slots.left <= slots.few || self.in_turn.len() < MANY {
            return;
        }
        self.scouts.clear();
        self.scouts.extend((0..).zip(preferences).map(|(number, p)| Scout {
            at: p.at,
            skip: p.skip,
            number,
        }));
        if slots.left > slots.servers.len() / 3 {
            self.pass_by::<1>(slots);
        } else {
            self.pass_by::<4>(slots);
        }
    }

    /// The same for the scouts, so many slots at a time.
    fn pass_by<const SLOTS: usize>(&mut self, slots: &Slots) {
        let size = slots.servers.len() as u32;
        let mut left = self.scouts.len();
        while left > 0 {
            let looking = &mut self.scouts[..left];
            left = 0;
            for next in 0..looking.len() {
                let scout = looking[next];
                let (mut at, mut found, mut none) = (scout.at, scout.at, true);
                for _ in 0..SLOTS {
                    found = if none { at } else { found };
                    none &= slots.is_taken(at);
                    at = step(at, scout.skip, size);
                }
                self.found[scout.number as usize] = found;
                // Who found a free slot is overwritten by the next.
                looking[left] = Scout { at, ..scout };
                left += usize::from(none);
            }
        }
    }
}

impl Slots {
    fn new(size: usize) -> Slots {
        // A step costs as much as looking at a free slot; with `left` free ones the first takes size / left steps.
        let few = size.isqrt();
        Slots { servers: vec![0; size], taken: vec![0; size.div_ceil(64)], left: size, free: Vec::new(), few }
    }

    /// Gives the server the first free slot in its order.
    #[inline(always)] // half of what is left to do for a slot would be the call
    fn claim(&mut self, preference: &mut Preference) {
        let size = self.servers.len() as u32;
        if self.left > self.few {
            while self.is_taken(preference.at) {
                preference.at = step(preference.at, preference.skip, size);
            }
        } else {
            self.claim_of_few(preference);
        }
        let slot = preference.at;
        self.servers[slot as usize] = preference.index;
        self.taken[slot as usize / 64] |= 1 << (slot % 64);
        self.left -= 1;
        preference.at = step(slot, preference.skip, size);
    }

    /// The same where looking at the free slots is shorter than the way to one of them.
    #[inline(never)]
    fn claim_of_few(&mut self, preference: &mut Preference) {
        let size = self.servers.len() as u32;
        if self.free.is_empty() {
            self.free = (0..size).filter(|&slot| !self.is_taken(slot)).collect();
        }
        preference.know_inverse(u64::from(size));
        let steps = |place: &usize| preference.steps_to(self.free[*place]);
        let nearest = (0..self.free.len()).min_by_key(steps).expect("a slot is left");
        preference.at = self.free.swap_remove(nearest);
    }

    fn is_taken(&self, slot: u32) -> bool {
        self.taken[slot as usize / 64] >> (slot % 64) & 1 == 1
    }
}

/// The slot after `at` in the order of one that skips so many.
#[inline(always)]
fn step(at: u32, skip: u32, size: u32) -> u32 {
    let next = at + skip;
    next.min(next.wrapping_sub(size)) // below the size the difference wraps, and is larger
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
        let heaviest = members.iter().map(|m| m.weight).max().unwrap();
        let mut preferences: Vec<(Preference, u64)> =
            members.iter().map(|m| (Preference::new(m, size, heaviest), 0)).collect();
        let (mut slots, mut left) = (vec![u32::MAX; size], size);
        for round in 0.. {
            for (member, (preference, claimed)) in members.iter().zip(&mut preferences) {
                if left == 0 {
                    return slots;
                }
                if (*claimed * u64::from(heaviest)).div_ceil(u64::from(member.weight)) > round {
                    continue;
                }
                while slots[preference.at as usize] != u32::MAX {
                    preference.at = (preference.at + preference.skip) % size as u32;
                }
                slots[preference.at as usize] = preference.index;
                *claimed += 1;
                left -= 1;
            }
        }
        slots
    }

    #[test]
    fn the_table_is_that_of_the_papers_loop_whatever_the_weights() {
        let mut dice = Dice::new(6);
        // Also with more servers than look ahead at once.
        let many = 2 * AHEAD + 300;
        for (most, count, size) in [
            (1, 1 + dice.below(60) as usize, 10_007),
            (5, 1 + dice.below(60) as usize, 10_007),
            (200, 1 + dice.below(60) as usize, 10_007),
            (65_535, 1 + dice.below(60) as usize, 10_007),
            (1, many, 65_537),
            (9, many, 65_537),
        ] {
            let names: Vec<String> = (0..count).map(|i| format!("server-{i:03}")).collect();
            let members: Vec<Member<'_>> = (0u32..)
                .zip(&names)
                .map(|(index, name)| Member { name, index, weight: 1 + dice.below(most) as u16 })
                .collect();
            assert_eq!(fill(&members, size), plainly(&members, size), "{count} with weights up to {most}");
        }
    }

    #[test]
    fn the_nearest_of_few_slots_is_the_one_in_fewest_steps() {
        let (size, mut dice) = (5_000_011u32, Dice::new(7));
        for number in 0..300 {
            let member = Member { name: &format!("server-{number}"), index: 0, weight: 1 };
            let mut preference = Preference::new(&member, size as usize, 1);
            preference.know_inverse(u64::from(size));
            let exact = |slot: u32| {
                let distance = u64::from(slot) + u64::from(size) - u64::from(preference.at);
                distance * inverse(u64::from(preference.skip), u64::from(size)) % u64::from(size)
            };
            let mut slots: Vec<u32> = (0..20).map(|_| dice.below(size)).collect();
            // Itself, the next one, and the last one of all.
            let back = preference.at + size - preference.skip;
            slots.extend([preference.at, step(preference.at, preference.skip, size), back % size]);
            let mut by_steps = slots.clone();
            slots.sort_by_key(|&slot| exact(slot));
            by_steps.sort_by_key(|&slot| preference.steps_to(slot));
            assert_eq!(by_steps, slots);
        }
    }

    #[test]
    fn the_inverse_undoes_a_multiplication() {
        for number in [1, 2, 3, 65_536, 655_372] {
            assert_eq!(number * inverse(number, 655_373) % 655_373, 1);
        }
    }
}
