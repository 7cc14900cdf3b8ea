//! A ring of points (Karger et al., 1997; 160 a server, as in ketama): a key belongs to the next point's server.
//!
//! In go names and weights, out comes a table that is the same on every instance, whatever the order in the file. When a server
//! goes, exactly its keys move; that is its advantage over Maglev, bought with a worse balance (the fullest of 1,000 has about
//! 1.3 times the mean). It must never depend on anything but names and weights.

use std::collections::HashMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::maglev::Member;
use crate::stays;

/// Points of a server of one unit of weight: what ketama, nginx and Pingora use.
const POINTS: u64 = 160;
/// Points looked at for a key before the caller should scan instead; reached only when nearly all servers are out.
const WALK: usize = 64;

/// Points that a segment has at least on average, when a ring is built anew.
const SEGMENT: usize = 64;
/// Up to one in so many servers may change at once before building the ring anew is cheaper.
const FEW: usize = 8;

/// Keys to server indices.
#[derive(Debug)]
pub(crate) struct Ring {
    /// The points in order, cut by the high bits of their places. A segment in which nothing changes is shared with the ring before, so a
    /// change of one server copies only those where it has points.
    segments: Box<[Arc<[Point]>]>,
    /// By a point's owner: the server's index, or `GONE`. So points stay what they are when indices shift.
    servers: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    place: u64,
    owner: u32,
}

/// In place of an index: no server.
const GONE: u32 = u32::MAX;

impl Ring {
    pub(crate) fn new(members: &[Member<'_>]) -> Ring {
        let unit = unit(members);
        let mut by_name: Vec<&Member<'_>> = members.iter().collect();
        by_name.sort_unstable_by_key(|member| member.name);
        let mut all: Vec<Point> =
            (0..).zip(&by_name).flat_map(|(owner, m)| points(m.name, m.weight, owner, unit)).collect();
        // Owners are numbered by name, so names decide between equal places, and the order in the file never does.
        all.sort_unstable();
        let bits = bits_for(all.len());
        let mut rest = &all[..];
        let cut = |number| {
            let within = rest.partition_point(|point| segment_of(point.place, bits) <= number);
            let segment;
            (segment, rest) = rest.split_at(within);
            segment.into()
        };
        let segments = (0..1 << bits).map(cut).collect();
        Ring { segments, servers: by_name.iter().map(|member| member.index).collect() }
    }

    /// The same ring as `new(after)`, made from this one, that of `before`: only segments with points of a server that changes are made anew.
    pub(crate) fn changed<'a>(&self, before: &[Member<'a>], after: &[Member<'a>]) -> Ring {
        let mut owner_of = vec![GONE; before.iter().map(|m| m.index as usize + 1).max().unwrap_or(0)];
        let present = (0..).zip(&self.servers).filter(|(_, server)| **server != GONE);
        present.for_each(|(owner, &server)| owner_of[server as usize] = owner);
        let identities =
            |members: &[Member<'a>]| members.iter().map(|m| (m.name, m.weight)).collect::<Vec<_>>();
        let (mut servers, mut names) = (vec![GONE; self.servers.len()], vec![""; self.servers.len()]);
        let mut fresh = Vec::new();
        for (member, place) in after.iter().zip(stays::places(&identities(before), &identities(after))) {
            match place.map(|place| owner_of[before[place].index as usize] as usize) {
                Some(owner) => (servers[owner], names[owner]) = (member.index, member.name),
                None => fresh.push(member),
            }
        }
        let owner = |member: &Member<'_>| owner_of[member.index as usize];
        let gone: Vec<&Member<'_>> = before.iter().filter(|m| servers[owner(m) as usize] == GONE).collect();
        let unit = unit(after);
        if unit != self::unit(before) || gone.len() + fresh.len() > after.len().div_ceil(FEW) {
            return Ring::new(after);
        }
        let gone: Vec<Point> = gone.iter().flat_map(|m| points(m.name, m.weight, owner(m), unit)).collect();
        let free: Vec<u32> =
            (0..).zip(&servers).filter(|(_, server)| **server == GONE).map(|(owner, _)| owner).collect();
        let owners = free.into_iter().chain(servers.len() as u32..);
        let mut added = Vec::new();
        for (member, owner) in fresh.into_iter().zip(owners) {
            if owner as usize == servers.len() {
                servers.push(GONE);
                names.push("");
            }
            (servers[owner as usize], names[owner as usize]) = (member.index, member.name);
            added.extend(points(member.name, member.weight, owner, unit));
        }
        let segments = self.edited(&gone, &added, &names);
        let count = segments.iter().map(|segment| segment.len()).sum();
        if bits_for(count).abs_diff(bits(&segments)) > 1 {
            return Ring::new(after);
        }
        Ring { segments, servers }
    }

    /// The segments without some points and with others; `names` by owner.
    fn edited(&self, gone: &[Point], added: &[Point], names: &[&str]) -> Box<[Arc<[Point]>]> {
        let bits = bits(&self.segments);
        let mut edits: HashMap<usize, Vec<Point>> = HashMap::new();
        let mut edit = |point: &Point, act: &dyn Fn(&mut Vec<Point>)| {
            let number = segment_of(point.place, bits);
            act(edits.entry(number).or_insert_with(|| self.segments[number].to_vec()));
        };
        for point in gone {
            edit(point, &|segment| segment.retain(|other| other != point));
        }
        let key = |point: &Point| (point.place, names[point.owner as usize]);
        for point in added {
            edit(point, &|segment| {
                segment.insert(segment.partition_point(|other| key(other) < key(point)), *point);
            });
        }
        let mut segments = self.segments.clone();
        edits.into_iter().for_each(|(number, points)| segments[number] = points.into());
        segments
    }

    /// The servers for a key, in the order in which they should be asked: round the ring.
    pub(crate) fn servers(&self, key: u64) -> impl Iterator<Item = u32> {
        let first = segment_of(key, bits(&self.segments));
        let points = &self.segments[first];
        // Places are hashes, so the next point is near where it would be if all were equally far apart.
        let part = u128::from(key << bits(&self.segments)) * points.len() as u128;
        let mut start = (part >> 64) as usize;
        while start > 0 && points[start - 1].place >= key {
            start -= 1;
        }
        while start < points.len() && points[start].place < key {
            start += 1;
        }
        let (before, after) = points.split_at(start);
        let (earlier, later) = (&self.segments[..first], &self.segments[first + 1..]);
        let others = later.iter().chain(earlier).flat_map(|segment| segment.iter());
        after.iter().chain(others).chain(before).take(WALK).map(|point| self.servers[point.owner as usize])
    }
}

/// The points of a server, in no order.
fn points(name: &str, weight: u16, owner: u32, unit: u64) -> impl Iterator<Item = Point> {
    let count = (POINTS * u64::from(weight) / unit).max(1);
    (0..count).map(move |number| Point { place: xxh3_64_with_seed(name.as_bytes(), number), owner })
}

/// By how many bits a ring of so many points is cut; at least one, since a shift by all bits is none.
fn bits_for(points: usize) -> u32 {
    (points / SEGMENT).checked_ilog2().unwrap_or(0).max(1)
}

fn bits(segments: &[Arc<[Point]>]) -> u32 {
    segments.len().trailing_zeros()
}

fn segment_of(place: u64, bits: u32) -> usize {
    (place >> (64 - bits)) as usize
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

    /// All points: the place and the server's index.
    fn flat(ring: &Ring) -> Vec<(u64, u32)> {
        let points = ring.segments.iter().flat_map(|segment| segment.iter());
        points.map(|point| (point.place, ring.servers[point.owner as usize])).collect()
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
            let points = flat(&ring);
            let edges = [0, 1, u64::MAX, points[0].0, points[0].0 + 1, points.last().unwrap().0];
            for key in keys(5_000).into_iter().chain(edges) {
                let at = points.partition_point(|&(place, _)| place < key);
                let round = points[at..].iter().chain(&points[..at]).take(WALK).map(|&(_, server)| server);
                assert!(ring.servers(key).eq(round), "{key}");
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
        let points = flat(&ring(&servers));
        let mut arcs = vec![0u64; 1_000];
        let mut before = points.last().unwrap().0;
        for (place, server) in points {
            arcs[server as usize] += place.wrapping_sub(before);
            before = place;
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
        let points = flat(&ring(&servers));
        for index in 0..20 {
            let own = points.iter().filter(|&&(_, server)| server == index).count();
            assert_eq!(own, 160 * (index as usize + 1));
        }
    }

    #[test]
    fn a_heavy_server_does_not_make_the_ring_endless() {
        let mut servers = names(0..3);
        servers[1].1 = 65_535;
        let points = flat(&ring(&servers));
        assert!(points.len() < 10_000, "{}", points.len());
        assert!((0..3).all(|server| points.iter().any(|&(_, owner)| owner == server)));
    }

    #[test]
    fn the_ring_is_the_same_in_every_release_and_may_be_empty() {
        let bytes: Vec<u8> = flat(&ring(&names(0..5))).iter().map(|&(_, server)| server as u8).collect();
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

    /// Each change is made of the ring that came of the one before.
    #[test]
    fn a_changed_ring_is_the_one_that_would_be_built_anew() {
        let mut dice = Dice::new(8);
        let mut servers: Vec<_> = names(0..40).into_iter().map(|(name, _)| (name, 3)).collect();
        let (mut changed, mut kept) = (ring(&servers), 0);
        for step in 0..200 {
            let before = servers.clone();
            for _ in 0..1 + dice.below(3) {
                let at = dice.below(servers.len() as u32) as usize;
                // Grows to some two hundred, then shrinks: the number of segments changes both ways.
                match dice.below(4) {
                    0 => servers[at].1 = 1 + dice.below(9) as u16,
                    1 => servers.swap(at, 0),
                    _ if step < 100 => {
                        servers.insert(at, (format!("new-{step}-{}", dice.next()), 1 + dice.below(5) as u16));
                    }
                    _ if servers.len() > 1 => drop(servers.remove(at)),
                    _ => {}
                }
            }
            let next = changed.changed(&listed(&before), &listed(&servers));
            let shared =
                changed.segments.iter().zip(&next.segments).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
            kept += usize::from(shared > 0);
            assert_eq!(flat(&next), flat(&ring(&servers)), "step {step}");
            assert!(next.servers.len() <= 3 * servers.len(), "numbers of owners are used again");
            changed = next;
        }
        assert!(kept > 100, "{kept} of 200 were made from the ring before");
    }

    #[test]
    fn names_decide_between_equal_places_in_a_changed_ring_too() {
        // No two of our hashes are equal, so the points are put in by hand.
        let ring = Ring { segments: [Arc::from([]), Arc::from([])].into(), servers: vec![0, 1, 2] };
        let point = |owner| Point { place: 7, owner };
        let segments = ring.edited(&[], &[point(0), point(1), point(2)], &["b", "c", "a"]);
        assert_eq!(*segments[0], [point(2), point(0), point(1)]);
        assert!(segments[1].is_empty());
    }
}
