//! Weighted turns without bursts, in logarithmic time.
//!
//! In go the servers' weights and what each says to its turn, out comes who takes it. The order of the turns is one for all times, whoever can
//! take his or can't; so a turn looks at a few servers only, also while some are down or full. It must never let a server be a whole
//! request ahead or behind its share while all can take theirs, and a turn must never allocate.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::dice::Dice;
use crate::rotation::{Answer, KEPT};

/// The turns of servers of different weights.
///
/// Each server has windows: its j-th turn may not come before `(j-1) * W / w` and must come before `j * W / w`, counted
/// in turns. Among those whose window is open the earliest deadline is served; on one processor that keeps every window
/// (the P-fair argument of Baruah et al., 1996), so with an unchanging set nobody is ever a whole request ahead or
/// behind. The well-known smooth weighted round robin of nginx promises only the first half: weights of 64, 64, 64, 6, 4, 4
/// and seven times 1 leave one of them 1.37 behind. For 5, 1, 1 both give `a a b a c a a` up to where it starts.
///
/// A turn that a server can't take passes, and the request goes to the next one: so the others share it by weight, each between where
/// its windows begin and end, and nobody gets two in one window. Who could not may still take it until its next window opens.
#[derive(Debug)]
pub(crate) struct Smooth {
    /// By server, without their common factor.
    weights: Box<[i64]>,
    /// The sum over the members: `W`.
    total: i64,
    turns: RefCell<Turns>,
}

/// Where the schedule is.
#[derive(Debug)]
struct Turns {
    /// Turns that were, also those that passed.
    count: i64,
    /// By server: `count * weight - paid` is how far its turns are behind its share, in requests times `W`.
    paid: Box<[i64]>,
    /// Those whose window is open.
    ready: BinaryHeap<Reverse<Deadline>>,
    /// The others, by when theirs opens.
    waiting: Calendar,
    /// The last ones that could not take their turn.
    owed: Vec<u32>,
    /// By server, for picks without a turn: see [`Smooth::among`].
    credit: Box<[i64]>,
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
/// The most turns that may pass in one pick. Of 32 some server takes one unless nearly all of the weight is out.
const PASSES: usize = 32;

impl Smooth {
    /// Turns among `members` (indices into `weights`), beginning at a random place.
    pub(crate) fn new(members: &[u32], weights: &[u16], dice: &mut Dice) -> Smooth {
        let smooth = Smooth::at_start(members, weights);
        // Only a place that the schedule reaches keeps its promise, so it is reached by running it.
        for _ in 0..dice.below_u64((smooth.total as u64).min(START_TURNS)) {
            smooth.turn(|_| Answer::Takes);
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
            owed: Vec::with_capacity(KEPT),
            credit: vec![0; weights.len()].into(),
        };
        let total = members.iter().map(|&m| weights[m as usize]).sum();
        let smooth = Smooth { weights, total, turns: RefCell::new(turns) };
        members.iter().for_each(|&member| smooth.place(&mut smooth.turns.borrow_mut(), member));
        smooth
    }

    /// Serves the first that takes its turn, or one it had to let pass. `None` when very many in a row did not.
    #[inline(never)] // keeps the way of the other policies short
    pub(crate) fn turn(&self, mut ask: impl FnMut(u32) -> Answer) -> Option<u32> {
        let turns = &mut *self.turns.borrow_mut();
        if !turns.owed.is_empty()
            && let Some(server) = self.make_up(turns, &mut ask)
        {
            return Some(server);
        }
        for _ in 0..PASSES {
            let server = self.advance(turns);
            match ask(server) {
                Answer::Takes => return Some(server),
                Answer::Cannot => turns.owe(server),
                Answer::GivesAway => {}
            }
        }
        None
    }

    /// One that could not take its turn and now can; unless its next window is open, for then the one before is over.
    #[cold]
    fn make_up(&self, turns: &mut Turns, mut ask: impl FnMut(u32) -> Answer) -> Option<u32> {
        let mut place = 0;
        while let Some(&server) = turns.owed.get(place) {
            let is_over = (turns.count + 1) * self.weights[server as usize] > turns.paid[server as usize];
            match if is_over { Answer::GivesAway } else { ask(server) } {
                Answer::Cannot => place += 1,
                Answer::GivesAway => drop(turns.owed.remove(place)),
                Answer::Takes => return Some(turns.owed.remove(place)),
            }
        }
        None
    }

    /// Whose turn is next, by the schedule.
    #[inline]
    fn advance(&self, turns: &mut Turns) -> u32 {
        let now = turns.count + 1;
        turns.waiting.visit(now, |server| {
            let (paid, weight) = (turns.paid[server as usize], self.weights[server as usize]);
            let opens = now * weight > paid;
            if opens {
                turns.ready.push(Reverse(self.deadline(server, paid)));
            }
            opens
        });
        let Reverse(first) = turns.ready.pop().expect("by their weights they are not all ahead");
        turns.count = now;
        turns.paid[first.server as usize] += self.total;
        self.place(turns, first.server);
        first.server
    }

    /// Serves one of `eligible` whosever turn it is, for when nearly all of the weight is out and turns pass by the thousand. By
    /// weight, as nginx's smooth rule has it: what it serves is a share of all picks, and so is what turns serve.
    pub(crate) fn among(&self, eligible: &[u32]) -> Option<u32> {
        let credit = &mut self.turns.borrow_mut().credit;
        let mut total = 0;
        for &server in eligible {
            credit[server as usize] += self.weights[server as usize];
            total += self.weights[server as usize];
        }
        let most = |a, b| if credit[b as usize] > credit[a as usize] { b } else { a };
        let served = eligible.iter().copied().reduce(most)?;
        credit[served as usize] -= total;
        Some(served)
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

impl Turns {
    /// Of more than a few the one that waits longest gives up.
    fn owe(&mut self, server: u32) {
        self.owed.retain(|&other| other != server);
        if self.owed.len() == KEPT {
            self.owed.remove(0);
        }
        self.owed.push(server);
    }
}

impl Calendar {
    fn new(members: usize, servers: usize) -> Calendar {
        Calendar { first: vec![END; members.next_power_of_two()].into(), next: vec![END; servers].into() }
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

    /// The turn of one that is not out.
    fn without(smooth: &Smooth, out: &[u32]) -> Option<u32> {
        smooth.turn(|server| if out.contains(&server) { Answer::Cannot } else { Answer::Takes })
    }

    fn of_all(smooth: &Smooth) -> u32 {
        without(smooth, &[]).unwrap()
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
            let turns: Vec<u32> = (0..7).map(|_| of_all(&smooth)).collect();
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
            let lag = max_lag(&weights, 2_000, || of_all(&smooth));
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
            let smooth = smooth(&weights, seed);
            for _ in 0..3 {
                let mut counts = [0; 5];
                (0..400).for_each(|_| counts[of_all(&smooth) as usize] += 1);
                assert_eq!(counts, weights);
            }
        }
    }

    #[test]
    fn a_common_factor_changes_nothing() {
        let (a, b) = (smooth(&[5, 1, 1], 4), smooth(&[65_000, 13_000, 13_000], 4));
        assert!((0..50).all(|_| of_all(&a) == of_all(&b)));
    }

    #[test]
    fn the_remaining_ones_share_exactly_while_one_is_out() {
        let weights = [5, 1, 1, 3];
        let smooth = smooth(&weights, 9);
        (0..13).for_each(|_| _ = of_all(&smooth));
        let mut counts = [0i32; 4];
        (0..500).for_each(|_| counts[without(&smooth, &[2]).unwrap() as usize] += 1);
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

    /// The same by looking at all of them, each time.
    struct Plain {
        weights: Vec<i64>,
        behind: Vec<i64>,
        owed: Vec<u32>,
    }

    impl Plain {
        fn new(weights: &[u16]) -> Plain {
            let common = weights.iter().fold(0, |g, &w| gcd(g, w)).max(1);
            let weights: Vec<i64> = weights.iter().map(|&w| i64::from(w / common)).collect();
            Plain { behind: vec![0; weights.len()], weights, owed: Vec::new() }
        }

        /// Whose turn is next: an open window first, then the earliest deadline, then the lighter one.
        fn advance(&mut self) -> u32 {
            let total: i64 = self.weights.iter().sum();
            self.behind.iter_mut().zip(&self.weights).for_each(|(behind, weight)| *behind += weight);
            let open = (0..self.weights.len()).filter(|&i| self.behind[i] > 0);
            let first = open.min_by(|&a, &b| {
                let end = |own: usize, other: usize| (total - self.behind[own]) * self.weights[other];
                end(a, b).cmp(&end(b, a)).then(self.weights[a].cmp(&self.weights[b]))
            });
            self.behind[first.unwrap()] -= total;
            first.unwrap() as u32
        }

        fn turn(&mut self, out: &[u32]) -> Option<u32> {
            // At the next turn its window would be open.
            self.owed.retain(|&i| self.behind[i as usize] + self.weights[i as usize] <= 0);
            if let Some(place) = self.owed.iter().position(|server| !out.contains(server)) {
                return Some(self.owed.remove(place));
            }
            for _ in 0..PASSES {
                let server = self.advance();
                if !out.contains(&server) {
                    return Some(server);
                }
                self.owed.retain(|&other| other != server);
                self.owed.push(server);
                let surplus = self.owed.len().saturating_sub(KEPT);
                self.owed.drain(..surplus);
            }
            None
        }
    }

    #[test]
    fn the_heap_serves_whom_a_look_at_all_would_whoever_is_out() {
        let (mut dice, mut made_up, mut none) = (Dice::new(21), 0, 0);
        for _ in 0..200 {
            let weights = any_weights(&mut dice);
            let (fast, mut slow) = (Smooth::at_start(&members(&weights), &weights), Plain::new(&weights));
            let often = dice.below(10);
            for turn in 0..1_500 {
                let out: Vec<u32> = (0..weights.len() as u32)
                    .filter(|_| dice.below(10) < often * u32::from(turn % 200 > 60))
                    .collect();
                let before = fast.turns.borrow().count;
                let served = without(&fast, &out);
                assert_eq!(served, slow.turn(&out), "{weights:?}, turn {turn}");
                made_up += u32::from(fast.turns.borrow().count == before);
                none += u32::from(served.is_none());
            }
        }
        assert!(made_up > 1_000 && none > 1_000, "{made_up} {none}");
    }

    #[test]
    fn who_is_out_changes_nothing_of_the_order_of_turns() {
        let mut dice = Dice::new(22);
        for _ in 0..100 {
            let weights = any_weights(&mut dice);
            let all = members(&weights);
            let (some, none) = (Smooth::at_start(&all, &weights), Smooth::at_start(&all, &weights));
            for _ in 0..1_000 {
                let mut asked = Vec::new();
                let before = some.turns.borrow().count;
                some.turn(|server| {
                    asked.push(server);
                    [Answer::Takes, Answer::GivesAway][dice.below(2) as usize]
                });
                assert_eq!(some.turns.borrow().count - before, asked.len() as i64);
                asked.iter().for_each(|&server| assert_eq!(of_all(&none), server));
            }
        }
    }

    #[test]
    fn while_one_is_out_no_other_is_ever_two_requests_ahead_or_behind() {
        let mut dice = Dice::new(23);
        for round in 0..200 {
            let weights: Vec<u16> = any_weights(&mut dice).into_iter().map(|w| w % 500).collect();
            let all = members(&weights);
            if all.len() < 3 {
                continue;
            }
            let out = all[dice.below(all.len() as u32) as usize];
            let smooth = Smooth::at_start(&all, &weights);
            let mut rest = weights.clone();
            rest[out as usize] = 0;
            let mut turn = || without(&smooth, &[out]).or_else(|| without(&smooth, &[out])).unwrap();
            // By the rest's weights alone, whatever the weight of the one that is out.
            let lag = max_lag(&rest, 3_000, &mut turn);
            assert!(lag < 2.0, "round {round}: {weights:?} without {out} lags by {lag}");
        }
    }

    #[test]
    fn one_that_returns_has_one_turn_at_once_and_no_burst() {
        for away in [1, 5, 40, 1_000] {
            let smooth = Smooth::at_start(&[0, 1, 2, 3], &[3, 2, 2, 1]);
            (0..away).for_each(|_| assert_ne!(without(&smooth, &[0]), Some(0)));
            let turns: Vec<u32> = (0..16).map(|_| of_all(&smooth)).collect();
            let its = turns.iter().filter(|&&server| server == 0).count();
            assert!((6..=7).contains(&its), "two periods of three, and one owed at most: {turns:?}");
            assert!(turns[..4].contains(&0), "after {away}: {turns:?}");
            assert!(turns.windows(3).all(|some| some != [0, 0, 0]), "{turns:?}");
        }
    }

    #[test]
    fn one_that_is_full_in_its_turn_has_it_as_soon_as_it_can_and_once() {
        let smooth = Smooth::at_start(&[0, 1, 2], &[1, 5, 4]);
        let mut turns = Vec::new();
        while smooth.turns.borrow().owed.is_empty() {
            turns.push(without(&smooth, &[0]).unwrap()); // until its turn was, in the first ten
        }
        assert!((4..=10).contains(&turns.len()), "{turns:?}");
        assert_eq!(of_all(&smooth), 0, "at once");
        let rest: Vec<u32> = (0..10).map(|_| of_all(&smooth)).collect();
        assert_eq!(rest.iter().filter(|&&server| server == 0).count(), 1, "{rest:?}");
    }

    #[test]
    fn when_nearly_all_is_out_the_others_share_by_weight() {
        let mut weights = [60_000; 50];
        (weights[7], weights[30]) = (3, 1);
        let smooth = smooth(&weights, 5);
        let out: Vec<u32> = (0..50).filter(|i| ![7, 30].contains(i)).collect();
        let (mut counts, mut by_turn) = ([0; 50], 0);
        for _ in 0..40_000 {
            let turn = without(&smooth, &out);
            by_turn += u32::from(turn.is_some());
            counts[turn.or_else(|| smooth.among(&[7, 30])).unwrap() as usize] += 1;
        }
        assert!(counts[7] + counts[30] == 40_000 && (counts[7] - 30_000i32).abs() <= 2, "{counts:?}");
        assert!(by_turn < 100, "{by_turn}");
        assert_eq!(smooth.among(&[]), None);
    }
}
