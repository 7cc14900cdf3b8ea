//! Maglev hashing (Eisenbud et al., NSDI 2016): a table that maps keys to servers evenly and moves few when one goes.
//!
//! In go names and weights, out comes a table that is the same on every instance, whatever the order in the file, since
//! names take turns in sorted order and are hashed with a fixed function. The address takes no part, so a server that
//! moves to another address keeps its keys. It must never depend on anything but names and weights.

use crate::maglev_fill;

/// Table sizes, primes, each with the most servers it is for: the smaller one of the paper, eight times that (the paper has ten; with 2^19 - 1 a change of one of
/// 10,000 servers takes a fifth less), and Envoy's largest. The fullest server has at most one slot more than the mean, so 1 % more up to 5,242 servers and 2 % up
/// to 10,240. The steps are wide because a change of size moves nearly every key.
const SIZES: [(usize, usize); 3] = [(655, 65_537), (10_240, 524_287), (usize::MAX, 5_000_011)];
/// Slots looked at for a key before the caller should scan instead; reached only when nearly all servers are out.
const WALK: usize = 64;

/// One member: its name, its index in the backend, its weight (above 0).
#[derive(PartialEq, Eq)]
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

impl Maglev {
    pub(crate) fn new(members: Vec<Member<'_>>) -> Maglev {
        let sizes = SIZES.iter().find(|(most, _)| members.len() <= *most);
        let size = sizes.map_or(SIZES[0].1, |&(_, size)| size);
        Maglev { slots: maglev_fill::fill(&by_name(members), size).into() }
    }

    /// The servers for a key, in the order in which they should be asked, the same for the same table everywhere.
    ///
    /// Each is that of a slot drawn anew from the key. The slots behind the first one would not do: who follows whom in the table is not left to
    /// chance, so the keys of one that is out would spread unevenly, and bounded loads would pile up beside full servers.
    pub(crate) fn servers(&self, key: u64) -> impl Iterator<Item = u32> {
        let slots = &self.slots;
        let draws = if slots.is_empty() { 0 } else { WALK };
        (0..draws as u64).map(move |draw| {
            let drawn = if draw == 0 { key } else { mix(key, draw) };
            slots[(drawn % slots.len() as u64) as usize]
        })
    }
}

/// In the order of their names. Most names begin alike, so what follows that decides, as a number: names are all over the memory.
fn by_name(members: Vec<Member<'_>>) -> Vec<Member<'_>> {
    let Some(first) = members.first().map(|m| m.name.as_bytes()) else {
        return members;
    };
    let alike = |m: &Member<'_>| first.iter().zip(m.name.as_bytes()).take_while(|(a, b)| a == b).count();
    let shared = members.iter().map(alike).min().unwrap_or(0);
    let number = |name: &str| {
        let rest = &name.as_bytes()[shared..];
        let mut bytes = [0; 8];
        let known = rest.len().min(8);
        bytes[..known].copy_from_slice(&rest[..known]);
        u64::from_be_bytes(bytes)
    };
    let mut sorted: Vec<(u64, Member<'_>)> = members.into_iter().map(|m| (number(m.name), m)).collect();
    sorted.sort_unstable_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.name.cmp(other.name)));
    sorted.into_iter().map(|(_, member)| member).collect()
}

/// The `draw`-th number of a key: a step of splitmix64 (Steele, Lea and Flood, 2014).
fn mix(key: u64, draw: u64) -> u64 {
    let mut z = key.wrapping_add(draw.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_64_with_seed;

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
    fn names_are_sorted_as_text_is() {
        let sets: [&[&str]; 4] = [
            &["a10", "a1", "a", "a\0", "a2", "a100000009", "a100000008", "a10000000"],
            &["é", "e", "ê", "z", ""],
            &["10.0.0.1:80", "10.0.0.10:80", "10.0.0.2:80", "10.0.0.1:8080"],
            &[],
        ];
        for names in sets {
            let members = names.iter().map(|name| Member { name, index: 0, weight: 1 }).collect();
            let sorted: Vec<&str> = by_name(members).iter().map(|member| member.name).collect();
            let mut plainly = names.to_vec();
            plainly.sort_unstable();
            assert_eq!(sorted, plainly);
        }
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
