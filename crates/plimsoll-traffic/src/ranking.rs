//! Rendezvous hashing over all servers of a level, many at a time.
//!
//! In go the servers and their seats, once; then a key with a test for who can take the request, and out comes the best that can, which `rendezvous::best`
//! would find among those, and never another. First parts of scores are computed eight at a time, and only for who may be the best one the rest. The highest
//! ones are noted, so that going down to the next best computes nothing anew. Of those of equal weight the highest score wins, which needs no logarithm.

use std::ops::Range;

use crate::rendezvous::{Best, Key, Rank, Seat};

/// First parts that one instruction compares.
const LANES: usize = 8;
/// Servers that are looked at together, some in each lane.
const BLOCK: usize = 4 * LANES;
/// As many of a weight are a class of their own, and others only with some of about their weight.
const MANY: usize = 2 * BLOCK;
/// The most servers of different weights in a class, and by how much the heaviest may outweigh the lightest: the more, the more of the lighter ones are
/// looked at in vain.
const MIXED: usize = 4 * BLOCK;
const SPREAD: f64 = 2.0;
/// Servers that may be out or full before all are looked at anew.
const DOWN: usize = 16;

/// The servers of a level.
#[derive(Debug)]
pub(crate) struct Ranking {
    /// The heaviest first.
    servers: Box<[(u32, Seat)]>,
    classes: Box<[Class]>,
    /// Theirs, one after the other.
    blocks: Box<[Block]>,
}

/// Servers of about the same weight.
#[derive(Debug)]
struct Class {
    servers: Range<usize>,
    blocks: Range<usize>,
    /// Of the heaviest: 1 / weight.
    inverse: f64,
    /// All weigh the same.
    alike: bool,
}

/// The seeds of some servers, by word. Each word's on a cache line of its own. The last one of a class is filled up with one of its servers.
#[derive(Debug)]
#[repr(align(64))]
struct Block([[u16; BLOCK]; 3]);

/// First parts, one in each lane.
type Lanes = [i16; LANES];

/// What one worker's search remembers, so that it need not allocate.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// By block: in each lane the highest of those that were not passed over.
    highest: Vec<Lanes>,
    /// Places of those that were.
    passed: Vec<usize>,
}

impl Notes {
    /// For searches in any of `rankings`.
    pub(crate) fn for_all<'a>(rankings: impl Iterator<Item = &'a Ranking>) -> Notes {
        let blocks = rankings.map(|ranking| ranking.blocks.len()).max().unwrap_or(0);
        Notes { highest: Vec::with_capacity(blocks), passed: Vec::with_capacity(DOWN) }
    }
}

impl Ranking {
    pub(crate) fn new(members: &[u32], seats: &[Seat]) -> Ranking {
        let mut servers: Vec<(u32, Seat)> =
            members.iter().map(|&member| (member, seats[member as usize])).collect();
        servers.sort_by(|(_, a), (_, b)| a.inverse().total_cmp(&b.inverse()));
        let mut blocks = Vec::with_capacity(servers.len().div_ceil(BLOCK));
        let class = |servers_of: Range<usize>| {
            let (some, first) = (&servers[servers_of.clone()], blocks.len());
            blocks.extend(some.chunks(BLOCK).map(Block::new));
            let inverse = some[0].1.inverse();
            let alike = some[some.len() - 1].1.inverse() == inverse;
            Class { servers: servers_of, blocks: first..blocks.len(), inverse, alike }
        };
        let classes = ranges(&servers).into_iter().map(class).collect();
        Ranking { classes, blocks: blocks.into(), servers: servers.into() }
    }

    /// The best server for a key of those that pass. `None` when there is none, or too many of the best ones don't.
    pub(crate) fn find(
        &self,
        key: u64,
        notes: &mut Notes,
        mut passes: impl FnMut(&u32) -> bool,
    ) -> Option<u32> {
        let key = Key::new(key);
        notes.passed.clear();
        notes.highest.clear();
        notes.highest.extend(self.blocks.iter().map(|block| block.highest(key)));
        loop {
            let place = self.best(key, notes)?;
            let server = self.servers[place].0;
            if passes(&server) {
                return Some(server);
            }
            if notes.passed.len() == DOWN {
                return None;
            }
            self.pass_over(place, key, notes);
        }
    }

    /// The place of the best of those that were not passed over.
    fn best(&self, key: Key, notes: &Notes) -> Option<usize> {
        if let [class] = &*self.classes
            && class.alike
        {
            let first = highest(&notes.highest);
            return Some(self.highest(class, first, key, notes)?.0); // nobody to compare it with
        }
        let mut best = Best::none();
        for class in &self.classes {
            let first = highest(&notes.highest[class.blocks.clone()]);
            if !best.may_beat(Rank::highest(first), class.inverse) {
                continue;
            }
            if !class.alike {
                self.see_mixed(class, first, key, notes, &mut best);
            } else if let Some((place, rank)) = self.highest(class, first, key, notes) {
                best.see_rank(place as u32, rank, class.inverse);
            }
        }
        best.server().map(|place| place as usize)
    }

    /// The one with the highest score of a class in which all weigh the same, and that. `first` is the highest first part.
    fn highest(&self, class: &Class, first: i16, key: Key, notes: &Notes) -> Option<(usize, Rank)> {
        let lanes = &notes.highest[class.blocks.clone()];
        let mut found: Option<(usize, Rank)> = None;
        each_lane(lanes, first, |block, lane| {
            for place in class.lane(block, lane).filter(|place| !notes.passed.contains(place)) {
                let seat = self.servers[place].1;
                if key.first_part(seat.seeds()) == first {
                    let rank = seat.rank(key, first);
                    if found.is_none_or(|(_, most)| rank > most) {
                        found = Some((place, rank));
                    }
                }
            }
        });
        found
    }

    /// Shows those of a class that may be the best ones.
    fn see_mixed(&self, class: &Class, first: i16, key: Key, notes: &Notes, best: &mut Best) {
        let lanes = &notes.highest[class.blocks.clone()];
        let see = |best: &mut Best, block, lane| {
            for place in class.lane(block, lane).filter(|place| !notes.passed.contains(place)) {
                best.see(place as u32, self.servers[place].1, key);
            }
        };
        // Beside the highest one hardly any can win.
        each_lane(lanes, first, |block, lane| see(best, block, lane));
        each_lane(lanes, best.least_first(class.inverse), |block, lane| {
            if lanes[block][lane] != first {
                see(best, block, lane);
            }
        });
    }

    /// Leaves one out from now on.
    fn pass_over(&self, place: usize, key: Key, notes: &mut Notes) {
        notes.passed.push(place);
        let class = self.classes.iter().find(|class| class.servers.contains(&place)).expect(ALL);
        let offset = place - class.servers.start;
        // The first one of a block also fills it up.
        let filler = offset.is_multiple_of(BLOCK);
        for lane in (0..LANES).filter(|&lane| filler || lane == offset % LANES) {
            let rest = class.lane(offset / BLOCK, lane).filter(|place| !notes.passed.contains(place));
            let firsts = rest.map(|place| key.first_part(self.servers[place].1.seeds()));
            notes.highest[class.blocks.start + offset / BLOCK][lane] = firsts.max().unwrap_or(i16::MIN);
        }
    }
}

const ALL: &str = "every server is in a class";

/// Which servers make a class, the heaviest of them first.
fn ranges(servers: &[(u32, Seat)]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let (mut start, mut mixed) = (0, false);
    for alike in servers.chunk_by(|(_, a), (_, b)| a.inverse().to_bits() == b.inverse().to_bits()) {
        let range = start..start + alike.len();
        start = range.end;
        let few = alike.len() < MANY;
        let fits = |last: &Range<usize>| {
            range.end - last.start <= MIXED
                && alike[0].1.inverse() <= SPREAD * servers[last.start].1.inverse()
        };
        match ranges.last_mut() {
            Some(last) if mixed && few && fits(last) => last.end = range.end,
            _ => {
                mixed = few;
                ranges.push(range);
            }
        }
    }
    ranges
}

impl Class {
    /// The places of those in one lane of a block.
    fn lane(&self, block: usize, lane: usize) -> impl Iterator<Item = usize> {
        // What the last block is filled up with is not among them.
        self.servers.clone().skip(block * BLOCK + lane).step_by(LANES).take(BLOCK / LANES)
    }
}

/// The highest of all.
#[inline]
fn highest(lanes: &[Lanes]) -> i16 {
    let mut most = [i16::MIN; LANES];
    for lanes in lanes {
        for (most, &first) in most.iter_mut().zip(lanes) {
            *most = first.max(*most);
        }
    }
    most.into_iter().fold(i16::MIN, i16::max)
}

/// Names the lanes that have at least `first`, by their block.
#[inline]
fn each_lane(lanes: &[Lanes], first: i16, mut name: impl FnMut(usize, usize)) {
    for (block, lanes) in lanes.iter().enumerate() {
        if lanes.iter().fold(false, |has, &own| has | (own >= first)) {
            (0..LANES).filter(|&lane| lanes[lane] >= first).for_each(|lane| name(block, lane));
        }
    }
}

impl Block {
    fn new(some: &[(u32, Seat)]) -> Block {
        let seeds = |place: usize| some.get(place).unwrap_or(&some[0]).1.seeds();
        Block([0, 1, 2].map(|word| std::array::from_fn(|place| seeds(place)[word])))
    }

    /// The highest first part in each lane.
    #[inline(always)]
    fn highest(&self, key: Key) -> Lanes {
        let [a, b, c] = &self.0;
        let mut firsts = [0; BLOCK];
        for place in 0..BLOCK {
            firsts[place] = key.first_part([a[place], b[place], c[place]]);
        }
        let mut highest = [i16::MIN; LANES];
        for row in firsts.chunks_exact(LANES) {
            for (highest, &first) in highest.iter_mut().zip(row) {
                *highest = first.max(*highest);
            }
        }
        highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::rendezvous;

    fn seats(weights: &[u16]) -> Vec<Seat> {
        let name = |i: usize| format!("10.0.{}.{}:80", i / 250, i % 250 + 1);
        weights.iter().enumerate().map(|(i, &weight)| Seat::new(&name(i), weight)).collect()
    }

    fn keys(count: usize) -> Vec<u64> {
        let mut dice = Dice::new(11);
        (0..count).map(|_| dice.next()).collect()
    }

    /// The server that a key falls to.
    fn best(ranking: &Ranking, key: u64) -> Option<u32> {
        ranking.find(key, &mut Notes::default(), |_| true)
    }

    /// Keys for each server.
    fn counts(seats: &[Seat], keys: &[u64]) -> Vec<f64> {
        let members: Vec<u32> = (0..seats.len() as u32).collect();
        let ranking = Ranking::new(&members, seats);
        let mut counts = vec![0.0; seats.len()];
        keys.iter().for_each(|&key| counts[best(&ranking, key).unwrap() as usize] += 1.0);
        counts
    }

    /// How many standard deviations chi-square is above what chance gives equal parts.
    fn unevenness(counts: &[f64]) -> f64 {
        let (mean, freedom) = (counts.iter().sum::<f64>() / counts.len() as f64, counts.len() as f64 - 1.0);
        let chi: f64 = counts.iter().map(|count| (count - mean).powi(2) / mean).sum();
        (chi - freedom) / (2.0 * freedom).sqrt()
    }

    #[test]
    fn it_finds_whom_looking_at_each_finds() {
        let mut dice = Dice::new(2);
        for servers in [1, 2, 8, BLOCK, BLOCK + 1, MANY, 100, 1_000, 5_000] {
            for weights in [1, 2, 7, 200, 65_535] {
                let weights: Vec<u16> = (0..servers).map(|_| any_weight(weights, &mut dice)).collect();
                let seats = seats(&weights);
                // Some are no members.
                let members: Vec<u32> = (0..servers as u32).filter(|i| servers < 3 || i % 5 != 2).collect();
                let ranking = Ranking::new(&members, &seats);
                for key in keys(if servers > 1_000 { 60 } else { 400 }) {
                    assert_eq!(
                        best(&ranking, key),
                        rendezvous::best(members.iter().copied(), &seats, key),
                        "{servers} servers"
                    );
                }
            }
        }
        assert_eq!(best(&Ranking::new(&[], &[]), 1), None);
    }

    /// Up to `most`; of very many, of all magnitudes alike.
    fn any_weight(most: u32, dice: &mut Dice) -> u16 {
        let most = if most > 1_000 { most >> dice.below(16) } else { most };
        1 + dice.below(most) as u16
    }

    #[test]
    fn it_goes_down_to_the_best_that_passes() {
        let (mut dice, mut notes, mut given_up) = (Dice::new(7), Notes::default(), 0);
        for servers in [1, 3, 40, 300, 2_000] {
            for weights in [1, 4, 200, 65_535] {
                let weights: Vec<u16> = (0..servers).map(|_| any_weight(weights, &mut dice)).collect();
                let (seats, members) = (seats(&weights), (0..servers as u32).collect::<Vec<_>>());
                let ranking = Ranking::new(&members, &seats);
                for key in keys(100) {
                    let (seed, out) = (dice.next(), dice.below(11));
                    let passes = |server: &u32| Dice::new(seed ^ u64::from(*server)).below(10) >= out;
                    let mut asked = Vec::new();
                    let found = ranking.find(key, &mut notes, |server| {
                        asked.push(*server);
                        passes(server)
                    });
                    let rest = |not: &[u32]| -> Vec<u32> {
                        members.iter().copied().filter(|server| !not.contains(server)).collect()
                    };
                    for (place, server) in asked.iter().enumerate() {
                        let next = rendezvous::best(rest(&asked[..place]).into_iter(), &seats, key);
                        assert_eq!(next, Some(*server), "{servers} servers, {place} passed over");
                    }
                    let plain = rendezvous::best(members.iter().copied().filter(passes), &seats, key);
                    let gave_up = asked.len() == DOWN + 1 && found.is_none();
                    assert!(found == plain || gave_up, "{found:?} {plain:?}");
                    given_up += u32::from(gave_up);
                }
            }
        }
        assert!(given_up > 10, "{given_up}");
    }

    #[test]
    fn the_rest_decides_between_equal_first_parts() {
        // Among 20,000 the highest first part is shared by some for every third key or so.
        let members: Vec<u32> = (0..20_000).collect();
        let seats = seats(&vec![1; 20_000]);
        let ranking = Ranking::new(&members, &seats);
        let mut shared = 0;
        for key in keys(60) {
            let first = |seat: &Seat| Key::new(key).first_part(seat.seeds());
            let highest = seats.iter().map(first).max().unwrap();
            shared += u32::from(seats.iter().filter(|seat| first(seat) == highest).count() > 1);
            assert_eq!(best(&ranking, key), rendezvous::best(members.iter().copied(), &seats, key));
        }
        assert!(shared > 3, "{shared}");
    }

    #[test]
    fn equal_servers_get_equal_parts_whatever_their_number() {
        for (servers, count) in [(2, 200_000), (10, 500_000), (50, 1_000_000), (1_000, 1_000_000)] {
            let uneven = unevenness(&counts(&seats(&vec![1; servers]), &keys(count)));
            assert!(uneven < 4.0, "{servers}: {uneven} standard deviations");
        }
    }

    #[test]
    fn the_check_of_parts_notices_servers_of_the_same_seed() {
        // As eight pairs of a thousand would have, were a seed of 16 bits.
        let mut seats = seats(&[1; 1_000]);
        seats.copy_within(..8, 8);
        assert!(unevenness(&counts(&seats, &keys(1_000_000))) > 100.0);
    }

    #[test]
    fn the_keys_of_one_that_goes_spread_evenly_over_all_others() {
        let seats = seats(&[1; 40]);
        let with = Ranking::new(&(0..40).collect::<Vec<u32>>(), &seats);
        for gone in [0, 17, 39] {
            let rest: Vec<u32> = (0..40).filter(|&member| member != gone).collect();
            let without = Ranking::new(&rest, &seats);
            let mut heirs = vec![0.0; 40];
            for key in keys(400_000) {
                let (before, after) = (best(&with, key).unwrap(), best(&without, key).unwrap());
                assert!(before == gone || before == after);
                heirs[after as usize] += f64::from(u8::from(before == gone));
            }
            heirs.swap_remove(gone as usize);
            assert!(unevenness(&heirs) < 4.0, "{heirs:?}");
        }
    }
}
