//! Rendezvous hashing over all servers of a level, many at a time.
//!
//! In go the servers and their seats, once; then for each key the server that `rendezvous::best` finds among all of them comes out, and never another.
//! Servers of equal weight stand together, since among them the highest score wins, which needs no logarithm: their first parts are
//! computed eight at a time, and only for who has the highest one the rest. Where hardly two weights are equal, each is looked at by itself.

use crate::rendezvous::{Best, Key, Rank, Seat};

/// First parts that one instruction compares.
const LANES: usize = 8;
/// Servers that are looked at together, some in each lane.
const BLOCK: usize = 4 * LANES;
/// Blocks whose highest parts are noted before one is looked at again.
const SPAN: usize = 32;
/// Of fewer servers of a weight each is looked at by itself.
const FEW: usize = 8;

/// The servers of a level.
#[derive(Debug)]
pub(crate) struct Ranking {
    classes: Box<[Class]>,
    others: Box<[(u32, Seat)]>,
}

/// Those of one weight.
#[derive(Debug)]
struct Class {
    servers: Box<[(u32, Seat)]>,
    /// The same ones; the last block is filled up with one of them.
    blocks: Box<[Block]>,
}

/// The seeds of some servers, by word. Each word's on a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Block([[u16; BLOCK]; 3]);

impl Ranking {
    pub(crate) fn new(members: &[u32], seats: &[Seat]) -> Ranking {
        let mut all: Vec<(u32, Seat)> =
            members.iter().map(|&member| (member, seats[member as usize])).collect();
        all.sort_by(|(_, a), (_, b)| a.inverse().total_cmp(&b.inverse()));
        let (mut classes, mut others) = (Vec::new(), Vec::new());
        for alike in all.chunk_by(|(_, a), (_, b)| a.inverse().to_bits() == b.inverse().to_bits()) {
            if alike.len() > FEW {
                classes.push(Class::new(alike));
            } else {
                others.extend_from_slice(alike);
            }
        }
        Ranking { classes: classes.into(), others: others.into() }
    }

    /// The server that a key falls to; `None` of none.
    pub(crate) fn best(&self, key: u64) -> Option<u32> {
        let key = Key::new(key);
        if let ([class], []) = (&*self.classes, &*self.others) {
            return Some(class.highest(key).0); // nobody to compare it with
        }
        let mut best = Best::none();
        for class in &self.classes {
            let (server, rank) = class.highest(key);
            best.see_rank(server, rank, class.servers[0].1.inverse());
        }
        self.others.iter().for_each(|&(server, seat)| best.see(server, seat, key));
        best.server()
    }
}

impl Class {
    fn new(servers: &[(u32, Seat)]) -> Class {
        let blocks = servers.chunks(BLOCK).map(|some| {
            let seeds = |place: usize| some.get(place).unwrap_or(&some[0]).1.seeds();
            Block([0, 1, 2].map(|word| std::array::from_fn(|place| seeds(place)[word])))
        });
        Class { blocks: blocks.collect(), servers: servers.into() }
    }

    /// The one with the highest score, and that.
    fn highest(&self, key: Key) -> (u32, Rank) {
        let mut highest: Option<(u32, Rank)> = None;
        for (span, blocks) in self.blocks.chunks(SPAN).enumerate() {
            let mut noted = [[i16::MIN; LANES]; SPAN];
            let mut most = [i16::MIN; LANES];
            for (lanes, block) in noted.iter_mut().zip(blocks) {
                *lanes = block.highest(key);
                for (most, &first) in most.iter_mut().zip(&*lanes) {
                    *most = first.max(*most);
                }
            }
            let first = most.into_iter().fold(i16::MIN, i16::max);
            if highest.is_some_and(|(_, rank)| rank > Rank::highest(first)) {
                continue;
            }
            let has_it = |lanes: &[i16; LANES]| lanes.iter().fold(false, |has, &own| has | (own == first));
            for place in (0..blocks.len()).filter(|&place| has_it(&noted[place])) {
                for lane in (0..LANES).filter(|&lane| noted[place][lane] == first) {
                    let offset = (span * SPAN + place) * BLOCK + lane;
                    self.see(key, first, offset, &mut highest);
                }
            }
        }
        highest.expect("a class has servers, and one has the highest part")
    }

    /// Shows those of a lane of a block whose first part is the highest one.
    fn see(&self, key: Key, first: i16, offset: usize, highest: &mut Option<(u32, Rank)>) {
        // What the last block is filled up with is not among them.
        let lane = self.servers.iter().skip(offset).step_by(LANES).take(BLOCK / LANES);
        for &(server, seat) in lane.filter(|(_, seat)| key.first_part(seat.seeds()) == first) {
            let rank = seat.rank(key, first);
            if highest.is_none_or(|(_, most)| rank > most) {
                *highest = Some((server, rank));
            }
        }
    }
}

impl Block {
    /// The highest first part in each lane.
    #[inline(always)]
    fn highest(&self, key: Key) -> [i16; LANES] {
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

    /// Keys for each server.
    fn counts(seats: &[Seat], keys: &[u64]) -> Vec<f64> {
        let members: Vec<u32> = (0..seats.len() as u32).collect();
        let ranking = Ranking::new(&members, seats);
        let mut counts = vec![0.0; seats.len()];
        keys.iter().for_each(|&key| counts[ranking.best(key).unwrap() as usize] += 1.0);
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
        for servers in [1, 2, FEW, FEW + 1, BLOCK, BLOCK + 1, 100, 1_000, BLOCK * SPAN + 5, 5_000] {
            for weights in [1, 2, 7, 200] {
                let weights: Vec<u16> = (0..servers).map(|_| 1 + dice.below(weights) as u16).collect();
                let seats = seats(&weights);
                // Some are no members.
                let members: Vec<u32> = (0..servers as u32).filter(|i| servers < 3 || i % 5 != 2).collect();
                let ranking = Ranking::new(&members, &seats);
                for key in keys(if servers > 1_000 { 60 } else { 400 }) {
                    assert_eq!(
                        ranking.best(key),
                        rendezvous::best(members.iter().copied(), &seats, key),
                        "{servers} servers"
                    );
                }
            }
        }
        assert_eq!(Ranking::new(&[], &[]).best(1), None);
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
            assert_eq!(ranking.best(key), rendezvous::best(members.iter().copied(), &seats, key));
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
                let (before, after) = (with.best(key).unwrap(), without.best(key).unwrap());
                assert!(before == gone || before == after);
                heirs[after as usize] += f64::from(u8::from(before == gone));
            }
            heirs.swap_remove(gone as usize);
            assert!(unevenness(&heirs) < 4.0, "{heirs:?}");
        }
    }
}
