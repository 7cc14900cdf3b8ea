//! A ring of points (Karger et al., 1997; 160 a server, as in ketama): a key belongs to the next point's server.
//!
//! In go names and weights, out comes a table that is the same on every instance, whatever the order in the file. When a server
//! goes, exactly its keys move; that is its advantage over Maglev, bought with a worse balance (the fullest of 1,000 has about
//! 1.3 times the mean). It must never depend on anything but names and weights.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::maglev::Member;

/// Points of a server of one unit of weight: what ketama, nginx and Pingora use.
const POINTS: u64 = 160;
/// Points looked at for a key before the caller should scan instead; reached only when nearly all servers are out.
const WALK: usize = 64;

/// Keys to server indices.
#[derive(Debug)]
pub(crate) struct Ring {
    /// In the order of the points' places.
    places: Box<[u64]>,
    servers: Box<[u32]>,
    /// By the key's high bits: the first point whose place has at least those. With about as many entries as points, a
    /// lookup looks at a point or two instead of bisecting.
    first: Box<[u32]>,
}

/// Not in the new ring.
const GONE: u32 = u32::MAX;

impl Ring {
    pub(crate) fn new(members: &[Member<'_>]) -> Ring {
        let unit = unit(members);
        let mut by_name: Vec<&Member<'_>> = members.iter().collect();
        by_name.sort_unstable_by_key(|member| member.name);
        let points = points(&by_name, unit);
        let servers = points.iter().map(|&(_, rank)| by_name[rank as usize].index).collect();
        Ring::of(points.into_iter().map(|(place, _)| place).collect(), servers)
    }

    /// The same ring as `new(after)`, made from this one, that of `before`: one pass over the points instead of sorting them.
    pub(crate) fn changed(&self, before: &[Member<'_>], after: &[Member<'_>]) -> Ring {
        let known: HashMap<(&str, u16), u32> = before.iter().map(|m| ((m.name, m.weight), m.index)).collect();
        let mut renumbered = vec![GONE; before.iter().map(|m| m.index as usize + 1).max().unwrap_or(0)];
        let mut fresh: Vec<&Member<'_>> = Vec::new();
        for member in after {
            match known.get(&(member.name, member.weight)) {
                Some(&old) => renumbered[old as usize] = member.index,
                None => fresh.push(member),
            }
        }
        if unit(before) != unit(after) || fresh.len() > after.len() / 2 {
            return Ring::new(after);
        }
        fresh.sort_unstable_by_key(|member| member.name);
        let mut points = points(&fresh, unit(after)).into_iter().peekable();
        let (mut places, mut servers) =
            (Vec::with_capacity(self.places.len()), Vec::with_capacity(self.places.len()));
        let name = |index| after.iter().find(|m| m.index == index).map(|m| m.name);
        for (&place, &old) in self.places.iter().zip(&self.servers) {
            let server = renumbered[old as usize];
            if server == GONE {
                continue;
            }
            let goes_before = |&(new, rank): &(u64, u32)| {
                new < place || new == place && Some(fresh[rank as usize].name) < name(server)
            };
            while let Some((place, rank)) = points.next_if(goes_before) {
                places.push(place);
                servers.push(fresh[rank as usize].index);
            }
            places.push(place);
            servers.push(server);
        }
        for (place, rank) in points {
            places.push(place);
            servers.push(fresh[rank as usize].index);
        }
        Ring::of(places, servers)
    }

    /// Of sorted points.
    fn of(places: Vec<u64>, servers: Vec<u32>) -> Ring {
        let bits = places.len().next_power_of_two().trailing_zeros().max(1);
        let mut at = 0;
        let start = |bucket: u64| {
            at += places[at..].iter().take_while(|&&place| place >> (64 - bits) < bucket).count();
            at as u32
        };
        let mut first: Vec<u32> = Vec::with_capacity((1 << bits) + 1);
        first.extend((0..1 << bits).map(start));
        first.push(places.len() as u32);
        Ring { places: places.into(), servers: servers.into(), first: first.into() }
    }

    /// The servers for a key, in the order in which they should be asked: round the ring.
    pub(crate) fn servers(&self, key: u64) -> impl Iterator<Item = u32> {
        let bits = (self.first.len() - 1).trailing_zeros();
        let from = self.first[(key >> (64 - bits)) as usize] as usize;
        let start = from + self.places[from..].iter().take_while(|&&place| place < key).count();
        let (before, after) = self.servers.split_at(start);
        after.iter().chain(before).take(WALK).copied()
    }
}

/// In order: where they are, and whose by its place in `members`. These are sorted by name, which decides between equal places, so that
/// the order in the file never does.
fn points(members: &[&Member<'_>], unit: u64) -> Vec<(u64, u32)> {
    let mut points = Vec::new();
    for (rank, member) in (0u32..).zip(members) {
        let count = (POINTS * u64::from(member.weight) / unit).max(1);
        let place = |number| xxh3_64_with_seed(member.name.as_bytes(), number);
        points.extend((0..count).map(|number| (place(number), rank)));
    }
    points.sort_unstable();
    points
}

/// The weight that 160 points stand for: the lightest one's, unless that is below an eighth of the mean, which would make the ring
/// large for the sake of one server. That bound is a power of two, so that hardly any
/// change of the servers changes it: all keys would move a little.
fn unit(members: &[Member<'_>]) -> u64 {
    let weights = || members.iter().map(|m| u64::from(m.weight));
    let eighth = weights().sum::<u64>() / (8 * members.len() as u64).max(1);
    let least = eighth.checked_ilog2().map_or(1, |bits| 1 << bits);
    weights().min().unwrap_or(1).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn names(range: std::ops::Range<u32>) -> Vec<(String, u16)> {
        range.map(|i| (format!("10.0.{}.{}:3000", i / 256, i % 256), 1)).collect()
    }

    fn ring(servers: &[(String, u16)]) -> Ring {
        let members: Vec<_> = (0u32..)
            .zip(servers)
            .map(|(index, (name, weight))| Member { name, index, weight: *weight })
            .collect();
        Ring::new(&members)
    }

    fn homes<'a>(servers: &'a [(String, u16)], keys: &[u64]) -> Vec<&'a str> {
        let ring = ring(servers);
        keys.iter().map(|&key| &*servers[ring.servers(key).next().unwrap() as usize].0).collect()
    }

    fn keys(count: usize) -> Vec<u64> {
        let mut dice = Dice::new(1);
        (0..count).map(|_| dice.next()).collect()
    }

    #[test]
    fn a_key_belongs_to_the_next_point_as_bisection_finds_it() {
        for n in [1, 2, 3, 40] {
            let ring = ring(&names(0..n));
            let edges = [0, 1, u64::MAX, ring.places[0], ring.places[0] + 1, *ring.places.last().unwrap()];
            for key in keys(5_000).into_iter().chain(edges) {
                let at = ring.places.partition_point(|&place| place < key) % ring.places.len();
                assert_eq!(ring.servers(key).next(), Some(ring.servers[at]), "{key}");
            }
        }
    }

    #[test]
    fn exactly_the_keys_of_a_server_that_goes_move() {
        let (servers, keys) = (names(0..50), keys(50_000));
        let before = homes(&servers, &keys);
        for gone in [0, 20, 49] {
            let mut rest = servers.clone();
            let name = rest.remove(gone).0;
            let after = homes(&rest, &keys);
            assert!(before.iter().zip(&after).all(|(b, a)| b == a || *b == name));
        }
    }

    #[test]
    fn the_walk_is_where_keys_go_when_their_server_is_gone() {
        let (servers, keys) = (names(0..20), keys(2_000));
        let (full, mut rest) = (ring(&servers), servers.clone());
        rest.remove(7);
        for (key, after) in keys.iter().zip(homes(&rest, &keys)) {
            let next = full.servers(*key).find(|&server| server != 7).unwrap();
            assert_eq!(servers[next as usize].0, after);
        }
    }

    #[test]
    fn the_balance_is_that_of_160_points() {
        let servers = names(0..1_000);
        let ring = ring(&servers);
        let mut arcs = vec![0u64; 1_000];
        for (at, &place) in ring.places.iter().enumerate() {
            let before = if at == 0 { *ring.places.last().unwrap() } else { ring.places[at - 1] };
            arcs[ring.servers[at] as usize] += place.wrapping_sub(before);
        }
        let mean = u64::MAX as f64 / 1_000.0;
        let fullest = *arcs.iter().max().unwrap() as f64 / mean;
        assert!((1.2..1.4).contains(&fullest), "{fullest}");
    }

    #[test]
    fn weights_give_points_and_the_file_order_does_not_matter() {
        let servers: Vec<_> = names(0..20).into_iter().zip(1u16..).map(|((n, _), w)| (n, w)).collect();
        let reversed: Vec<_> = servers.iter().rev().cloned().collect();
        let keys = keys(20_000);
        assert_eq!(homes(&servers, &keys), homes(&reversed, &keys));
        let ring = ring(&servers);
        for index in 0..20 {
            let points = ring.servers.iter().filter(|&&s| s == index).count();
            assert_eq!(points, 160 * (index as usize + 1));
        }
    }

    #[test]
    fn a_heavy_server_does_not_make_the_ring_endless() {
        let mut servers = names(0..3);
        servers[1].1 = 65_535;
        let ring = ring(&servers);
        assert!(ring.places.len() < 10_000, "{}", ring.places.len());
        assert!((0..3).all(|server| ring.servers.contains(&server)));
    }

    #[test]
    fn the_ring_is_the_same_in_every_release_and_may_be_empty() {
        let bytes: Vec<u8> = ring(&names(0..5)).servers.iter().map(|&s| s as u8).collect();
        assert_eq!(
            xxh3_64_with_seed(&bytes, 0),
            2_299_847_730_205_446_532,
            "a change here moves the keys of every user"
        );
        assert_eq!(Ring::new(&[]).servers(7).count(), 0);
    }

    fn listed(servers: &[(String, u16)]) -> Vec<Member<'_>> {
        (0u32..).zip(servers).map(|(index, (name, weight))| Member { name, index, weight: *weight }).collect()
    }

    #[test]
    fn a_changed_ring_is_the_one_that_would_be_built_anew() {
        let mut dice = Dice::new(8);
        let mut servers: Vec<_> = names(0..40).into_iter().map(|(name, _)| (name, 3)).collect();
        for step in 0..60 {
            let before = servers.clone();
            let at = dice.below(servers.len() as u32) as usize;
            match dice.below(4) {
                0 => drop(servers.remove(at)),
                1 => servers.insert(at, (format!("new-{step}"), 1 + dice.below(5) as u16)),
                2 => servers[at].1 = 1 + dice.below(9) as u16,
                _ => servers.swap(at, 0),
            }
            let changed = ring(&before).changed(&listed(&before), &listed(&servers));
            let anew = ring(&servers);
            assert_eq!(
                (changed.places, changed.servers, changed.first),
                (anew.places, anew.servers, anew.first)
            );
        }
    }
}
