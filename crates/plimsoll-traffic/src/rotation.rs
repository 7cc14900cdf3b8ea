//! Whose turn it is: round robin, exact for one worker, over whichever servers can take a request.
//!
//! In go the eligible servers, out comes the next. Servers of equal weight stand in a queue; unequal ones are served
//! by deadline, so that none is ever a whole request ahead or behind. A server that is passed over must never give
//! its turns to one fixed neighbour: skipping along a fixed order doubles the neighbour's share.

use std::cell::Cell;

use crate::dice::Dice;

/// The turns of one tier of servers.
#[derive(Debug)]
pub(crate) enum Rotation {
    /// All weights are equal.
    Queue(Queue),
    /// They differ.
    Smooth(Smooth),
}

impl Rotation {
    /// Turns among `members` (indices into `weights`), beginning at a random one.
    pub(crate) fn new(members: &[u32], weights: &[u16], dice: &mut Dice) -> Rotation {
        let mut of_members = members.iter().map(|&m| weights[m as usize]);
        let first = of_members.next();
        if of_members.all(|w| Some(w) == first) {
            Rotation::Queue(Queue::new(members, weights.len(), dice))
        } else {
            Rotation::Smooth(Smooth::new(members, weights, dice))
        }
    }
}

/// Marks the end of the queue.
const END: u32 = u32::MAX;

/// A queue: the first that is open is served and goes to the back.
///
/// Those passed over stay in front, so whoever comes back has one turn and then waits like all others.
#[derive(Debug)]
pub(crate) struct Queue {
    next: Box<[Cell<u32>]>,
    first: Cell<u32>,
    last: Cell<u32>,
}

impl Queue {
    fn new(members: &[u32], servers: usize, dice: &mut Dice) -> Queue {
        let mut order = members.to_vec();
        order.rotate_left(dice.below(members.len() as u32) as usize);
        let next: Box<[Cell<u32>]> = vec![Cell::new(END); servers].into();
        for pair in order.windows(2) {
            next[pair[0] as usize].set(pair[1]);
        }
        let end = |server: Option<&u32>| Cell::new(server.copied().unwrap_or(END));
        Queue { next, first: end(order.first()), last: end(order.last()) }
    }

    /// Serves the first that is open. Takes as many steps as there are closed ones in front of it.
    pub(crate) fn turn(&self, open: impl Fn(u32) -> bool) -> Option<u32> {
        let (mut before, mut server) = (END, self.first.get());
        while server != END && !open(server) {
            (before, server) = (server, self.next[server as usize].get());
        }
        if server == END {
            return None;
        }
        self.to_back(before, server);
        Some(server)
    }

    fn to_back(&self, before: u32, server: u32) {
        if server == self.last.get() {
            return;
        }
        let after = self.next[server as usize].replace(END);
        let link = if before == END { &self.first } else { &self.next[before as usize] };
        link.set(after);
        self.next[self.last.replace(server) as usize].set(server);
    }
}

/// Weighted turns without bursts.
///
/// Each server has windows: its j-th turn may not come before `(j-1) * W / w` and must come before `j * W / w`, counted
/// in picks. Among those whose window is open the earliest deadline is served; on one processor that keeps every window
/// (the P-fair argument of Baruah et al., 1996), so with an unchanging set nobody is ever a whole request ahead or
/// behind. The well-known smooth weighted round robin of nginx promises only the first half: weights of 64, 64, 64, 6, 4, 4
/// and seven times 1 leave one of them 1.37 behind. For 5, 1, 1 both give `a a b a c a a` up to where it starts.
#[derive(Debug)]
pub(crate) struct Smooth {
    weights: Box<[i64]>,
    /// How far each is behind its share, in requests times the sum of the weights.
    behind: Box<[Cell<i64>]>,
}

/// The most additions spent on beginning at a random place, per worker and backend.
const START_COST: u64 = 100_000;

impl Smooth {
    fn new(members: &[u32], weights: &[u16], dice: &mut Dice) -> Smooth {
        let common = members.iter().fold(0, |g, &m| gcd(g, weights[m as usize])).max(1);
        let weights: Box<[i64]> = weights.iter().map(|&w| i64::from(w / common)).collect();
        let behind = vec![Cell::new(0); weights.len()].into();
        let smooth = Smooth { weights, behind };
        // Only a place that the schedule reaches keeps its promise, so it is reached by running it.
        let period: u64 = members.iter().map(|&m| smooth.weights[m as usize] as u64).sum();
        for _ in 0..dice.below_u64(period.min(START_COST / members.len().max(1) as u64)) {
            smooth.turn(members);
        }
        smooth
    }

    /// Serves one of `eligible`; only they move forward. `None` when there is none.
    pub(crate) fn turn(&self, eligible: &[u32]) -> Option<u32> {
        let mut total = 0;
        for &server in eligible {
            let server = server as usize;
            self.behind[server].set(self.behind[server].get() + self.weights[server]);
            total += self.weights[server];
        }
        let served = eligible.iter().copied().reduce(|a, b| if self.sooner(b, a, total) { b } else { a })?;
        let behind = &self.behind[served as usize];
        behind.set(behind.get() - total);
        Some(served)
    }

    /// Whether `a` goes before `b`: an open window first, then the earlier deadline, then the one further behind.
    fn sooner(&self, a: u32, b: u32, total: i64) -> bool {
        let of = |server: u32| (self.behind[server as usize].get(), self.weights[server as usize]);
        let ((behind_a, weight_a), (behind_b, weight_b)) = (of(a), of(b));
        let deadlines = ((total - behind_a) * weight_b).cmp(&((total - behind_b) * weight_a));
        (behind_b > 0).cmp(&(behind_a > 0)).then(deadlines).then(behind_b.cmp(&behind_a)).is_lt()
    }
}

fn gcd(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(weights: &[u16]) -> Vec<u32> {
        (0..weights.len() as u32).filter(|&i| weights[i as usize] > 0).collect()
    }

    fn smooth(weights: &[u16], seed: u64) -> Smooth {
        Smooth::new(&members(weights), weights, &mut Dice::new(seed))
    }

    /// The largest distance of any server from its share, in requests, over `picks`.
    fn max_lag(weights: &[u16], picks: usize, mut turn: impl FnMut() -> u32) -> f64 {
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        let (mut counts, mut lag) = (vec![0.0; weights.len()], 0f64);
        for k in 1..=picks {
            counts[turn() as usize] += 1.0;
            for (count, &w) in counts.iter().zip(weights) {
                lag = lag.max((count - k as f64 * f64::from(w) / total).abs());
            }
        }
        lag
    }

    #[test]
    fn five_one_one_is_served_smoothly_from_any_start() {
        for seed in 0..20 {
            let smooth = smooth(&[5, 1, 1], seed);
            let turns: Vec<u32> = (0..7).map(|_| smooth.turn(&[0, 1, 2]).unwrap()).collect();
            let wanted = [0, 0, 1, 0, 2, 0, 0];
            assert!((0..7).any(|by| (0..7).all(|i| turns[i] == wanted[(i + by) % 7])), "{turns:?}");
        }
    }

    #[test]
    fn no_server_is_ever_a_whole_request_ahead_or_behind() {
        let mut dice = Dice::new(11);
        for _ in 0..200 {
            let n = 2 + dice.below(13) as usize;
            let weights: Vec<u16> = (0..n)
                .map(|_| {
                    [1, 1 + dice.below(10), 1 + dice.below(100), 1 << dice.below(7)][dice.below(4) as usize]
                        as u16
                })
                .collect();
            let all = members(&weights);
            // From the beginning of the schedule, where the lag is counted from.
            let smooth = Smooth {
                weights: weights.iter().map(|&w| i64::from(w)).collect(),
                behind: vec![Cell::new(0); n].into(),
            };
            let lag = max_lag(&weights, 2_000, || smooth.turn(&all).unwrap());
            assert!(lag < 1.0, "{weights:?} lags by {lag}");
        }
    }

    #[test]
    fn the_lag_check_notices_bursts() {
        let burst = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        let weights = [10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
        let mut turns = burst.iter().cycle();
        assert!(max_lag(&weights, 20, || *turns.next().unwrap()) > 4.9);
    }

    #[test]
    fn every_period_gives_exactly_the_weights() {
        for seed in 0..20 {
            let weights = [7, 0, 3, 300, 90];
            let (smooth, all) = (smooth(&weights, seed), members(&weights));
            for _ in 0..3 {
                let mut counts = [0; 5];
                (0..400).for_each(|_| counts[smooth.turn(&all).unwrap() as usize] += 1);
                assert_eq!(counts, weights);
            }
        }
    }

    #[test]
    fn a_common_factor_changes_nothing() {
        let (a, b) = (smooth(&[5, 1, 1], 4), smooth(&[65_000, 13_000, 13_000], 4));
        assert!((0..50).all(|_| a.turn(&[0, 1, 2]) == b.turn(&[0, 1, 2])));
    }

    #[test]
    fn the_remaining_ones_share_exactly_while_one_is_out() {
        let weights = [5, 1, 1, 3];
        let smooth = smooth(&weights, 9);
        assert!((0..13).all(|_| smooth.turn(&[0, 1, 2, 3]).is_some()));
        let mut counts = [0i32; 4];
        (0..500).for_each(|_| counts[smooth.turn(&[0, 1, 3]).unwrap() as usize] += 1);
        // 500 picks over 5, 1, 3; what was owed from before can shift it by a request or two.
        assert!(
            (counts[0] - 278).abs() <= 2 && (counts[1] - 56).abs() <= 2 && (counts[3] - 167).abs() <= 2,
            "{counts:?}"
        );
    }

    #[test]
    fn the_queue_serves_everyone_once_a_round() {
        let queue = Queue::new(&[0, 2, 3, 7], 8, &mut Dice::new(1));
        for _ in 0..5 {
            let mut round: Vec<u32> = (0..4).map(|_| queue.turn(|_| true).unwrap()).collect();
            round.sort_unstable();
            assert_eq!(round, [0, 2, 3, 7]);
        }
    }

    #[test]
    fn a_missing_server_does_not_double_its_neighbour() {
        let queue = Queue::new(&[0, 1, 2, 3], 4, &mut Dice::new(2));
        let mut counts = [0; 4];
        (0..300).for_each(|_| counts[queue.turn(|i| i != 1).unwrap() as usize] += 1);
        assert_eq!(counts, [100, 0, 100, 100]);
    }

    #[test]
    fn a_returning_server_gets_one_turn_and_no_burst() {
        let queue = Queue::new(&[0, 1, 2, 3], 4, &mut Dice::new(3));
        assert!((0..100).all(|_| queue.turn(|i| i != 2).is_some()));
        let turns: Vec<u32> = (0..8).map(|_| queue.turn(|_| true).unwrap()).collect();
        assert_eq!(turns.iter().filter(|&&t| t == 2).count(), 2, "{turns:?}");
        assert_ne!((turns[0], turns[1]), (2, 2));
    }

    #[test]
    fn the_queue_starts_at_a_random_member_and_copes_with_few() {
        let first = |seed| Queue::new(&[0, 1, 2, 3], 4, &mut Dice::new(seed)).turn(|_| true).unwrap();
        let starts: std::collections::BTreeSet<u32> = (0..50).map(first).collect();
        assert_eq!(starts.len(), 4);
        let one = Queue::new(&[1], 2, &mut Dice::new(1));
        assert_eq!([one.turn(|_| true), one.turn(|_| true), one.turn(|_| false)], [Some(1), Some(1), None]);
        assert_eq!(Queue::new(&[], 0, &mut Dice::new(1)).turn(|_| true), None);
    }
}
