//! Weighted turns without bursts, in logarithmic time.
//!
//! In go the servers' weights and who can take a request, out comes whose turn it is. As long as all can, a turn looks at
//! a few servers only; while some can't it looks at all. It must never let a server be a whole request ahead or behind
//! its share while the set stays the same, and a turn must never allocate.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::dice::Dice;

/// The turns of servers of different weights.
///
/// Each server has windows: its j-th turn may not come before `(j-1) * W / w` and must come before `j * W / w`, counted
/// in picks. Among those whose window is open the earliest deadline is served; on one processor that keeps every window
/// (the P-fair argument of Baruah et al., 1996), so with an unchanging set nobody is ever a whole request ahead or
/// behind. The well-known smooth weighted round robin of nginx promises only the first half: weights of 64, 64, 64, 6, 4, 4
/// and seven times 1 leave one of them 1.37 behind. For 5, 1, 1 both give `a a b a c a a` up to where it starts.
#[derive(Debug)]
pub(crate) struct Smooth {
    members: Box<[u32]>,
    /// By server, without their common factor.
    weights: Box<[i64]>,
    /// The sum over the members: `W`.
    total: i64,
    turns: RefCell<Turns>,
}

/// Where the schedule is.
#[derive(Debug)]
struct Turns {
    /// Turns for which every member could be chosen.
    count: i64,
    /// By server: `count * weight - paid` is how far it is behind its share, in requests times `W`.
    paid: Box<[i64]>,
    /// Those whose window is open.
    ready: BinaryHeap<Reverse<Deadline>>,
    /// The others, by when theirs opens.
    waiting: Calendar,
    /// `ready` and `waiting` hold every member, by what `paid` says.
    indexed: bool,
}

/// When the open window of a server ends; of equal ones the lighter server goes first, then the first in the file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Deadline {
    /// In turns.
    whole: i64,
    /// In 2^-32 turns: two different fractions of denominators below 2^16 are further apart, so the order is exact.
    fraction: u32,
    weight: u32,
    server: u32,
}

/// Lists of servers by the turn at which their window opens, modulo the number of lists. With as many lists as servers a turn
/// meets at most one server on average that must wait for a later lap.
#[derive(Debug)]
struct Calendar {
    first: Box<[u32]>,
    next: Box<[u32]>,
}

/// Marks the end of a list.
const END: u32 = u32::MAX;
/// The most turns spent on beginning at a random place, per worker and backend: a fraction of a millisecond.
const START_TURNS: u64 = 2_000;

impl Smooth {
    /// Turns among `members` (indices into `weights`), beginning at a random place.
    pub(crate) fn new(members: &[u32], weights: &[u16], dice: &mut Dice) -> Smooth {
        let smooth = Smooth::at_start(members, weights);
        // Only a place that the schedule reaches keeps its promise, so it is reached by running it.
        for _ in 0..dice.below_u64((smooth.total as u64).min(START_TURNS)) {
            smooth.turn(|_| true);
        }
        smooth
    }

    fn at_start(members: &[u32], weights: &[u16]) -> Smooth {
        let common = members.iter().fold(0, |g, &m| gcd(g, weights[m as usize])).max(1);
        let weights: Box<[i64]> = weights.iter().map(|&w| i64::from(w / common)).collect();
        let turns = Turns {
            count: 0,
            paid: vec![0; weights.len()].into(),
            ready: BinaryHeap::with_capacity(members.len()),
            waiting: Calendar::new(members.len(), weights.len()),
            indexed: false,
        };
        let total = members.iter().map(|&m| weights[m as usize]).sum();
        let smooth = Smooth { members: members.into(), weights, total, turns: RefCell::new(turns) };
        smooth.index(&mut smooth.turns.borrow_mut());
        smooth
    }

    /// Serves the one whose turn it is, if all could be chosen last time and it is open. Else `None`, and the caller has
    /// to say who is eligible.
    #[inline(never)] // keeps the way of the other policies short
    pub(crate) fn turn(&self, open: impl Fn(u32) -> bool) -> Option<u32> {
        let turns = &mut *self.turns.borrow_mut();
        if !turns.indexed {
            return None;
        }
        let now = turns.count + 1;
        turns.waiting.visit(now, |server| {
            let (paid, weight) = (turns.paid[server as usize], self.weights[server as usize]);
            let opens = now * weight > paid;
            if opens {
                turns.ready.push(Reverse(self.deadline(server, paid)));
            }
            opens
        });
        let first = turns.ready.peek().map(|first| first.0.server).filter(|&first| open(first));
        let Some(server) = first else {
            turns.indexed = false;
            return None;
        };
        turns.ready.pop();
        turns.count = now;
        turns.paid[server as usize] += self.total;
        self.place(turns, server);
        Some(server)
    }

    /// Serves one of `eligible` (members, in order); only they move forward. `None` when there is none.
    pub(crate) fn turn_among(&self, eligible: &[u32]) -> Option<u32> {
        if eligible.len() == self.members.len() {
            let turns = &mut *self.turns.borrow_mut();
            if !turns.indexed {
                self.index(turns);
            }
        }
        let among_all = if eligible.len() == self.members.len() { self.turn(|_| true) } else { None };
        among_all.or_else(|| self.scan(eligible))
    }

    /// The same by looking at all of them.
    fn scan(&self, eligible: &[u32]) -> Option<u32> {
        let turns = &mut *self.turns.borrow_mut();
        turns.indexed = false;
        let mut total = 0;
        for &server in eligible {
            turns.paid[server as usize] -= self.weights[server as usize];
            total += self.weights[server as usize];
        }
        let sooner = |a, b| if self.is_sooner(turns, b, a, total) { b } else { a };
        let served = eligible.iter().copied().reduce(sooner)?;
        turns.paid[served as usize] += total;
        Some(served)
    }

    /// Whether `a` goes before `b`: an open window first, then the earlier deadline, then the lighter one.
    fn is_sooner(&self, turns: &Turns, a: u32, b: u32, total: i64) -> bool {
        let of = |server: u32| {
            let weight = self.weights[server as usize];
            (turns.count * weight - turns.paid[server as usize], weight)
        };
        let ((behind_a, weight_a), (behind_b, weight_b)) = (of(a), of(b));
        let deadlines = ((total - behind_a) * weight_b).cmp(&((total - behind_b) * weight_a));
        (behind_b > 0).cmp(&(behind_a > 0)).then(deadlines).then(weight_a.cmp(&weight_b)).is_lt()
    }

    /// Puts every member where it belongs.
    fn index(&self, turns: &mut Turns) {
        turns.ready.clear();
        turns.waiting.clear();
        self.members.iter().for_each(|&member| self.place(turns, member));
        turns.indexed = true;
    }

    /// Among the ready ones or those that wait. One that opens at the next turn is as good as ready.
    #[inline]
    fn place(&self, turns: &mut Turns, server: u32) {
        let paid = turns.paid[server as usize];
        let opens = paid.div_euclid(self.weights[server as usize]) + 1;
        if opens <= turns.count + 1 {
            turns.ready.push(Reverse(self.deadline(server, paid)));
        } else {
            turns.waiting.add(server, opens);
        }
    }

    fn deadline(&self, server: u32, paid: i64) -> Deadline {
        let (weight, end) = (self.weights[server as usize], paid + self.total);
        let fraction = ((end.rem_euclid(weight) as u64) << 32) / weight as u64;
        Deadline { whole: end.div_euclid(weight), fraction: fraction as u32, weight: weight as u32, server }
    }
}

impl Calendar {
    fn new(members: usize, servers: usize) -> Calendar {
        Calendar { first: vec![END; members.next_power_of_two()].into(), next: vec![END; servers].into() }
    }

    fn clear(&mut self) {
        self.first.fill(END);
    }

    fn add(&mut self, server: u32, turn: i64) {
        let list = turn as usize & (self.first.len() - 1);
        self.next[server as usize] = std::mem::replace(&mut self.first[list], server);
    }

    /// Takes out those listed for `turn` that `leaves` says yes to. The others come round again.
    #[inline]
    fn visit(&mut self, turn: i64, mut leaves: impl FnMut(u32) -> bool) {
        let list = turn as usize & (self.first.len() - 1);
        let mut server = std::mem::replace(&mut self.first[list], END);
        while server != END {
            let next = self.next[server as usize];
            if !leaves(server) {
                self.add(server, turn);
            }
            server = next;
        }
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
            let turns: Vec<u32> = (0..7).map(|_| smooth.turn_among(&[0, 1, 2]).unwrap()).collect();
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
            let smooth = Smooth::at_start(&all, &weights);
            let lag = max_lag(&weights, 2_000, || smooth.turn_among(&all).unwrap());
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
                (0..400).for_each(|_| counts[smooth.turn_among(&all).unwrap() as usize] += 1);
                assert_eq!(counts, weights);
            }
        }
    }

    #[test]
    fn a_common_factor_changes_nothing() {
        let (a, b) = (smooth(&[5, 1, 1], 4), smooth(&[65_000, 13_000, 13_000], 4));
        assert!((0..50).all(|_| a.turn_among(&[0, 1, 2]) == b.turn_among(&[0, 1, 2])));
    }

    #[test]
    fn the_remaining_ones_share_exactly_while_one_is_out() {
        let weights = [5, 1, 1, 3];
        let smooth = smooth(&weights, 9);
        assert!((0..13).all(|_| smooth.turn_among(&[0, 1, 2, 3]).is_some()));
        let mut counts = [0i32; 4];
        (0..500).for_each(|_| counts[smooth.turn_among(&[0, 1, 3]).unwrap() as usize] += 1);
        // 500 picks over 5, 1, 3; what was owed from before can shift it by a request or two.
        assert!(
            (counts[0] - 278).abs() <= 2 && (counts[1] - 56).abs() <= 2 && (counts[3] - 167).abs() <= 2,
            "{counts:?}"
        );
    }

    /// Weights of all kinds, some 0.
    fn any_weights(dice: &mut Dice) -> Vec<u16> {
        let any = |dice: &mut Dice| [0, 1, 1 + dice.below(9), 1 + dice.below(65_535)][dice.below(4) as usize];
        let mut weights: Vec<u16> = (0..2 + dice.below(30)).map(|_| any(dice) as u16).collect();
        weights[0] = 3;
        weights
    }

    #[test]
    fn the_heap_serves_whom_a_look_at_all_would() {
        let mut dice = Dice::new(21);
        for _ in 0..200 {
            let weights = any_weights(&mut dice);
            let all = members(&weights);
            let (fast, slow) = (Smooth::at_start(&all, &weights), Smooth::at_start(&all, &weights));
            for turn in 0..3_000 {
                assert_eq!(fast.turn(|_| true), slow.scan(&all), "{weights:?}, turn {turn}");
            }
        }
    }

    #[test]
    fn the_two_ways_go_on_from_one_another_while_servers_come_and_go() {
        let mut dice = Dice::new(22);
        for _ in 0..200 {
            let weights = any_weights(&mut dice);
            let all = members(&weights);
            let (fast, slow) = (Smooth::at_start(&all, &weights), Smooth::at_start(&all, &weights));
            for _ in 0..100 {
                let some: Vec<u32> = all.iter().copied().filter(|_| dice.below(4) > 0).collect();
                for _ in 0..dice.below(5) {
                    assert_eq!(fast.turn_among(&some), slow.scan(&some), "{weights:?}");
                }
                for _ in 0..dice.below(30) {
                    assert_eq!(fast.turn_among(&all), slow.scan(&all), "{weights:?}");
                }
            }
        }
    }

    #[test]
    fn one_that_is_closed_in_its_turn_asks_for_a_look_at_all_and_loses_nothing() {
        let smooth = Smooth::at_start(&[0, 1, 2], &[5, 1, 1]);
        assert_eq!(smooth.turn(|server| server != 0), None);
        assert_eq!(smooth.turn(|_| true), None, "nothing is known of the others yet");
        assert_eq!(smooth.turn_among(&[0, 1, 2]), Some(0));
        assert_eq!(smooth.turn(|_| true), Some(0));
    }
}
