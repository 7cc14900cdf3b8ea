//! Maglev hashing (Eisenbud et al., NSDI 2016): a table that maps keys to servers evenly and moves few when one goes.
//!
//! In go names and weights, out comes a table that is the same on every instance, whatever the order in the file, since
//! names take turns in sorted order and are hashed with a fixed function. The address takes no part, so a server that
//! moves to another address keeps its keys. It must never depend on anything but names and weights.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Table sizes: primes, the two of the paper and Envoy's largest. With at least 100 slots a server the fullest is within
/// 1 % of the mean; the steps are wide because a change of size moves nearly every key.
const SIZES: [usize; 3] = [65_537, 655_373, 5_000_011];
/// Slots looked at for a key before the caller should scan instead; reached only when nearly all servers are out.
const WALK: usize = 64;

/// One member: its name, its index in the backend, its weight (above 0).
pub(crate) struct Member<'a> {
    pub(crate) name: &'a str,
    pub(crate) index: u32,
    pub(crate) weight: u16,
}

/// Keys to server indices.
#[derive(Debug)]
pub(crate) struct Maglev {
    slots: Box<[u32]>,
}

/// A member's own order of preference over all slots: an arithmetic progression modulo the prime table size.
struct Preference {
    at: usize,
    skip: usize,
    index: u32,
    weight: u64,
    claimed: u64,
}

/// No server yet.
const FREE: u32 = u32::MAX;

impl Maglev {
    pub(crate) fn new(mut members: Vec<Member<'_>>) -> Maglev {
        let size = *SIZES.iter().find(|&&size| size >= 100 * members.len()).unwrap_or(&SIZES[2]);
        members.sort_unstable_by_key(|m| m.name);
        let mut preferences: Vec<Preference> = members.iter().map(|m| Preference::new(m, size)).collect();
        Maglev { slots: fill(&mut preferences, size) }
    }

    /// The servers for a key, in the order in which they should be asked, the same for the same table everywhere.
    ///
    /// The followers of a slot belong to all servers by weight, so the keys of one that is out spread evenly, and only
    /// its keys move.
    pub(crate) fn servers(&self, key: u64) -> impl Iterator<Item = u32> {
        let start = if self.slots.is_empty() { 0 } else { (key % self.slots.len() as u64) as usize };
        let (before, after) = self.slots.split_at(start);
        after.iter().chain(before).take(WALK).copied()
    }
}

impl Preference {
    fn new(member: &Member<'_>, size: usize) -> Preference {
        let hash = |seed, modulus: usize| {
            (xxh3_64_with_seed(member.name.as_bytes(), seed) % modulus as u64) as usize
        };
        let (at, skip) = (hash(0, size), hash(1, size - 1) + 1);
        Preference { at, skip, index: member.index, weight: u64::from(member.weight), claimed: 0 }
    }

    fn claim(&mut self, slots: &mut [u32]) {
        while slots[self.at] != FREE {
            self.at += self.skip;
            if self.at >= slots.len() {
                self.at -= slots.len();
            }
        }
        slots[self.at] = self.index;
        self.claimed += 1;
    }

    /// The round in which the next slot is claimed: the heaviest claims one a round, others by their part of its weight
    /// (Envoy's rule).
    fn round(&self, heaviest: u64) -> u64 {
        (self.claimed * heaviest).div_ceil(self.weight)
    }
}

fn fill(preferences: &mut [Preference], size: usize) -> Box<[u32]> {
    let Some(heaviest) = preferences.iter().map(|p| p.weight).max() else {
        return Box::default();
    };
    let mut slots = vec![FREE; size];
    // By round, then by name; a heap, so that a light server costs nothing in the rounds that it sits out.
    let mut turns: BinaryHeap<_> = (0..preferences.len()).map(|rank| Reverse((0, rank))).collect();
    for _ in 0..size {
        let mut turn = turns.peek_mut().expect("one entry a member, and there is a member");
        let preference = &mut preferences[turn.0.1];
        preference.claim(&mut slots);
        turn.0.0 = preference.round(heaviest);
    }
    slots.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(range: std::ops::Range<u32>) -> Vec<(String, u16)> {
        range.map(|i| (format!("10.0.{}.{}:3000", i / 256, i % 256), 1)).collect()
    }

    /// The table, by name instead of index.
    fn table(servers: &[(String, u16)]) -> Vec<&str> {
        let members = (0u32..)
            .zip(servers)
            .map(|(index, (name, weight))| Member { name, index, weight: *weight })
            .collect();
        Maglev::new(members).slots.iter().map(|&i| servers[i as usize].0.as_str()).collect()
    }

    fn fullest_over_mean(table: &[&str], servers: usize) -> f64 {
        let mut counts = std::collections::HashMap::new();
        table.iter().for_each(|name| *counts.entry(name).or_insert(0u32) += 1);
        f64::from(*counts.values().max().unwrap()) * servers as f64 / table.len() as f64
    }

    fn moved(a: &[&str], b: &[&str]) -> f64 {
        a.iter().zip(b).filter(|(a, b)| a != b).count() as f64 / a.len() as f64
    }

    #[test]
    fn the_fullest_server_is_within_one_percent_of_the_mean() {
        for n in [10, 100, 600, 1_000] {
            let servers = names(0..n);
            let ratio = fullest_over_mean(&table(&servers), servers.len());
            assert!(ratio <= 1.01, "n={n}: {ratio}");
        }
    }

    #[test]
    fn the_balance_check_notices_a_plain_ring() {
        // One point a server on a ring: what naive consistent hashing gives.
        let servers = names(0..100);
        let mut points: Vec<(u64, &str)> =
            servers.iter().map(|(n, _)| (xxh3_64_with_seed(n.as_bytes(), 0), n.as_str())).collect();
        points.sort_unstable();
        let owner = |slot: u64| points[points.partition_point(|p| p.0 < slot * (u64::MAX / 65_537)) % 100].1;
        let ring: Vec<&str> = (0..65_537).map(owner).collect();
        assert!(fullest_over_mean(&ring, 100) > 1.5);
    }

    #[test]
    fn removing_one_of_a_thousand_moves_less_than_one_percent() {
        let servers = names(0..1_000);
        for gone in [0, 500, 999] {
            let mut rest = servers.clone();
            let name = rest.remove(gone).0;
            let (before, after) = (table(&servers), table(&rest));
            assert!(moved(&before, &after) < 0.01, "{}", moved(&before, &after));
            assert!(!after.contains(&name.as_str()));
        }
    }

    #[test]
    fn adding_or_renaming_one_of_a_hundred_moves_little_more_than_it_must() {
        let (hundred, more) = (names(0..100), names(0..101));
        // At least 1 / 101 must move to the newcomer; Maglev disturbs about half as much again.
        assert!(moved(&table(&hundred), &table(&more)) < 0.02);
        let mut renamed = hundred.clone();
        renamed[40].0 = "somewhere-else".into();
        let moved = moved(&table(&hundred), &table(&renamed));
        assert!((0.009..0.03).contains(&moved), "{moved}");
    }

    #[test]
    fn the_order_in_the_file_does_not_matter() {
        let servers: Vec<_> = names(0..50).into_iter().zip(1..).map(|((n, _), w)| (n, w)).collect();
        let reversed: Vec<_> = servers.iter().rev().cloned().collect();
        assert_eq!(table(&servers), table(&reversed));
    }

    #[test]
    fn slots_follow_the_weights() {
        let servers: Vec<_> = names(0..20).into_iter().zip(1u16..).map(|((n, _), w)| (n, w)).collect();
        let table = table(&servers);
        for (name, weight) in &servers {
            let share = table.iter().filter(|n| n == &name).count() as f64 / table.len() as f64;
            let wanted = f64::from(*weight) / 210.0;
            assert!((share / wanted - 1.0).abs() < 0.01, "{weight}: {share} for {wanted}");
        }
    }

    #[test]
    fn the_lightest_of_all_keeps_a_slot_beside_the_heaviest() {
        let mut servers = names(0..3);
        servers[1].1 = 65_535;
        let table = table(&servers);
        assert!(servers.iter().all(|(name, _)| table.contains(&name.as_str())));
    }

    #[test]
    fn the_table_is_the_same_on_every_instance_and_in_every_release() {
        let servers = names(0..5);
        let members = (0u32..)
            .zip(&servers)
            .map(|(index, (name, weight))| Member { name, index, weight: *weight })
            .collect();
        let maglev = Maglev::new(members);
        let bytes: Vec<u8> = maglev.slots.iter().map(|&s| s as u8).collect();
        assert_eq!(
            xxh3_64_with_seed(&bytes, 0),
            16_562_978_579_510_504_382,
            "a change here moves the keys of every user"
        );
    }

    #[test]
    fn no_members_give_no_servers() {
        assert_eq!(Maglev::new(Vec::new()).servers(7).count(), 0);
    }
}
