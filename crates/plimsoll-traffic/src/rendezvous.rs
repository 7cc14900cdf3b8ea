//! Rendezvous hashing (Thaler and Ravishankar, 1998) with weights: each server has a score for each key, the best one wins.
//!
//! In go a key, servers' seeds and weights, out comes the server. When one goes exactly its keys move, and they spread over all others by
//! weight. Here all servers that are given are looked at, one by one; `ranking` does the same for many at a time, and must never come to another
//! result. It must never depend on anything but names and weights.
//!
//! A score has two parts. The first 16 bits are cheap, and decide for nearly all servers that they are not the best one; what follows is looked at
//! only where they leave it open. Both together are one number, independent of who else is there.

use crate::hashing::hash_key;

/// What a server's scores are made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat {
    seed: u64,
    /// 1 / weight.
    inverse: f64,
}

/// A key as scores take it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    key: u64,
    words: [u16; 3],
}

/// A place among all scores of a key: the higher the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(u64);

impl Key {
    pub(crate) fn new(key: u64) -> Key {
        Key { key, words: [key as u16, (key >> 16) as u16, (key >> 32) as u16 ^ (key >> 48) as u16] }
    }

    /// The first part of a score: three rounds in numbers that a processor multiplies eight of at once. For any server the first one maps a word of the key one to
    /// one, and so does all that follows, hence every value is as likely as another. Multiplying by words of the key makes servers independent of each other,
    /// also those with a word in common. The last round has no shift, for the high bits, which decide, are the best mixed ones.
    #[inline(always)]
    pub(crate) fn first_part(&self, seeds: [u16; 3]) -> i16 {
        let mixed = (seeds[0] ^ self.words[0]).wrapping_mul(0x9e3d);
        let mixed = (mixed ^ mixed >> 8 ^ seeds[1]).wrapping_mul(self.words[1] | 1);
        let mixed = (mixed ^ mixed >> 7 ^ seeds[2]).wrapping_mul(self.words[2] | 1);
        mixed as i16
    }
}

impl Rank {
    fn new(first: i16, rest: u64) -> Rank {
        Rank(u64::from(first as u16 ^ 0x8000) << 48 | rest >> 16)
    }

    /// The highest that begins with `first`.
    pub(crate) fn highest(first: i16) -> Rank {
        Rank::new(first, u64::MAX)
    }

    /// A number in (0, 1).
    fn unit(self) -> f64 {
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }
}

impl Seat {
    pub(crate) fn new(name: &str, weight: u16) -> Seat {
        Seat { seed: hash_key(name.as_bytes()), inverse: 1.0 / f64::from(weight.max(1)) }
    }

    pub(crate) fn inverse(self) -> f64 {
        self.inverse
    }

    /// What the first part is made from.
    pub(crate) fn seeds(self) -> [u16; 3] {
        [self.seed as u16, (self.seed >> 16) as u16, (self.seed >> 32) as u16]
    }

    /// The whole score; `first` is its first part. The rest is two folded multiplications, as in wyhash: key and seed are good hashes themselves, so little is
    /// asked of it.
    pub(crate) fn rank(self, key: Key, first: i16) -> Rank {
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            (product >> 64) as u64 ^ product as u64
        };
        let hash = fold(fold(key.key ^ self.seed, 0x9e37_79b9_7f4a_7c15) ^ self.seed, 0xd6e8_feb8_6659_fd93);
        Rank::new(first, hash)
    }
}

/// The best of those that were shown to it: the one with the smallest `-ln(unit) / weight`, which falls to each by weight.
#[derive(Debug)]
pub(crate) struct Best {
    server: Option<u32>,
    least: f64,
}

impl Best {
    pub(crate) fn none() -> Best {
        Best { server: None, least: f64::INFINITY }
    }

    pub(crate) fn server(&self) -> Option<u32> {
        self.server
    }

    pub(crate) fn see(&mut self, server: u32, seat: Seat, key: Key) {
        let first = key.first_part(seat.seeds());
        if self.may_beat(Rank::highest(first), seat.inverse) {
            self.see_rank(server, seat.rank(key, first), seat.inverse);
        }
    }

    pub(crate) fn see_rank(&mut self, server: u32, rank: Rank, inverse: f64) {
        if self.may_beat(rank, inverse) {
            let distance = -rank.unit().ln() * inverse;
            if distance < self.least {
                (self.server, self.least) = (Some(server), distance);
            }
        }
    }

    /// A logarithm costs more than all the rest, and -ln(u) is at least 1 - u: so most need none.
    pub(crate) fn may_beat(&self, rank: Rank, inverse: f64) -> bool {
        (1.0 - rank.unit()) * inverse < self.least
    }

    /// No server of that weight, or a lighter one, is better than the best with a first part below this.
    pub(crate) fn least_first(&self, inverse: f64) -> i16 {
        // A unit is below (first + 2^15 + 1) / 2^16. Beyond the ends the conversion stops at them.
        ((1.0 - self.least / inverse) * 65_536.0 - 32_770.0).floor() as i16
    }
}

/// The best of `servers` for `key`.
pub(crate) fn best(servers: impl Iterator<Item = u32>, seats: &[Seat], key: u64) -> Option<u32> {
    let (mut best, key) = (Best::none(), Key::new(key));
    servers.for_each(|server| best.see(server, seats[server as usize], key));
    best.server()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn seats(weights: &[u16]) -> Vec<Seat> {
        weights.iter().enumerate().map(|(i, &w)| Seat::new(&format!("10.0.0.{i}:80"), w)).collect()
    }

    fn share(weights: &[u16], keys: u64) -> Vec<f64> {
        let (seats, mut dice) = (seats(weights), Dice::new(3));
        let mut counts = vec![0.0; weights.len()];
        for _ in 0..keys {
            counts[best(0..weights.len() as u32, &seats, dice.next()).unwrap() as usize] += 1.0;
        }
        counts.iter().map(|c| c / keys as f64).collect()
    }

    #[test]
    fn shares_follow_the_weights() {
        let weights = [1, 2, 3, 4, 10, 30, 50];
        let total = 100.0;
        for (share, weight) in share(&weights, 200_000).iter().zip(weights) {
            let wanted = f64::from(weight) / total;
            let noise = 4.0 * (wanted * (1.0 - wanted) / 200_000.0).sqrt();
            assert!((share - wanted).abs() < noise, "{weight}: {share}");
        }
    }

    #[test]
    fn equal_servers_are_equal_by_chi_square() {
        let chi: f64 = share(&[1; 50], 500_000).iter().map(|s| (s * 50.0 - 1.0).powi(2) * 10_000.0).sum();
        assert!(chi < 85.35, "{chi} exceeds the 0.1 % point of 49 degrees of freedom");
    }

    #[test]
    fn leaving_out_logarithms_and_second_parts_changes_no_decision() {
        let (seats, mut dice) = (seats(&[1, 7, 3, 1, 65_535, 20]), Dice::new(4));
        for _ in 0..20_000 {
            let key = dice.next();
            let distance = |&i: &u32| {
                let (seat, key) = (seats[i as usize], Key::new(key));
                -seat.rank(key, key.first_part(seat.seeds())).unit().ln() * seat.inverse
            };
            let plain = (0..6).min_by(|a, b| distance(a).total_cmp(&distance(b)));
            assert_eq!(best(0..6, &seats, key), plain);
        }
    }

    #[test]
    fn exactly_the_keys_of_a_server_that_goes_move_and_they_spread() {
        let (seats, mut dice) = (seats(&[1; 10]), Dice::new(5));
        let mut heirs = [0; 10];
        for _ in 0..50_000 {
            let key = dice.next();
            let before = best(0..10, &seats, key);
            let after = best((0..10).filter(|&i| i != 4), &seats, key);
            assert!(before == after || before == Some(4));
            heirs[after.unwrap() as usize] += i32::from(before == Some(4));
        }
        let moved: i32 = heirs.iter().sum();
        assert!(
            heirs.iter().enumerate().all(|(i, &h)| i == 4 || (h - moved / 9).abs() < moved / 40),
            "{heirs:?}"
        );
    }

    #[test]
    fn what_is_left_out_by_its_first_part_would_not_have_been_the_best() {
        let mut dice = Dice::new(6);
        for _ in 0..20_000 {
            let (mut best, inverse) = (Best::none(), 1.0 / f64::from(1 + dice.below(65_535)));
            assert_eq!(best.least_first(inverse), i16::MIN);
            best.see_rank(0, Rank::new(dice.next() as i16, dice.next()), inverse * (0.5 + dice.unit()));
            let least = best.least_first(inverse);
            assert!(least == i16::MIN || !best.may_beat(Rank::highest(least - 1), inverse));
        }
    }

    #[test]
    fn none_of_none() {
        assert_eq!(best([].into_iter(), &[], 1), None);
    }
}
