//! Rendezvous hashing (Thaler and Ravishankar, 1998) with weights: each server has a score for each key, the best one wins.
//!
//! In go a key, servers' seeds and weights, out comes the server. When one goes exactly its keys move, and they spread over all others by
//! weight. It looks at all servers for each key, so it is for up to about a hundred (a configuration with more is warned of); the tables fall back on it
//! when nearly all of theirs are out. It must never depend on anything but names and weights.

use crate::hashing::hash_key;

/// What a server's scores are made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat {
    seed: u64,
    /// 1 / weight.
    inverse: f64,
}

impl Seat {
    pub(crate) fn new(name: &str, weight: u16) -> Seat {
        Seat { seed: hash_key(name.as_bytes()), inverse: 1.0 / f64::from(weight.max(1)) }
    }

    /// A number in (0, 1), independent for each pair of key and server: two folded multiplications, as in wyhash. Key and seed are
    /// good hashes themselves, so little is asked of it.
    fn unit(self, key: u64) -> f64 {
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            (product >> 64) as u64 ^ product as u64
        };
        let hash = fold(fold(key ^ self.seed, 0x9e37_79b9_7f4a_7c15) ^ self.seed, 0xd6e8_feb8_6659_fd93);
        ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }
}

/// The best of `servers` for `key`: the smallest `-ln(unit) / weight`, which falls to each by weight.
pub(crate) fn best(servers: impl Iterator<Item = u32>, seats: &[Seat], key: u64) -> Option<u32> {
    let (mut best, mut least) = (None, f64::INFINITY);
    for server in servers {
        let seat = seats[server as usize];
        let unit = seat.unit(key);
        // A logarithm costs more than all the rest, and -ln(u) is at least 1 - u: so most need none.
        if (1.0 - unit) * seat.inverse >= least {
            continue;
        }
        let distance = -unit.ln() * seat.inverse;
        if distance < least {
            (best, least) = (Some(server), distance);
        }
    }
    best
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
    fn leaving_the_logarithm_out_changes_no_decision() {
        let (seats, mut dice) = (seats(&[1, 7, 3, 1, 65_535, 20]), Dice::new(4));
        for _ in 0..20_000 {
            let key = dice.next();
            let distance = |&i: &u32| -seats[i as usize].unit(key).ln() * seats[i as usize].inverse;
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
    fn none_of_none() {
        assert_eq!(best([].into_iter(), &[], 1), None);
    }
}
