//! Whose turn it is: round robin, exact for one worker, over whichever servers can take a request.
//!
//! In goes what each server says to its turn, out comes who takes it. Servers of equal weight stand in a queue; unequal ones are served
//! by deadline, so that none is ever a whole request ahead or behind. A server that is passed over must never give
//! its turns to one fixed neighbour, nor make every pick look at it again.

use std::cell::Cell;

use crate::dice::Dice;
use crate::smooth::Smooth;

/// What a server says to its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Takes,
    /// Its share still grows, and this is one of the turns that it does not get.
    GivesAway,
    /// It is down, full, or was tried.
    Cannot,
}

/// Servers that could not take their turn and may have it later: the last ones. Each pick asks them, so they are few.
pub(crate) const KEPT: usize = 4;

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

    /// Whose turn it is, of those that take it. `None` when none was found by a few looks.
    #[inline]
    pub(crate) fn turn(&self, ask: impl FnMut(u32) -> Answer) -> Option<u32> {
        match self {
            Rotation::Queue(queue) => queue.turn(ask),
            Rotation::Smooth(smooth) => smooth.turn(ask),
        }
    }

    /// One of `eligible` (in order), in turns of their own; `None` only of none.
    pub(crate) fn among(&self, eligible: &[u32]) -> Option<u32> {
        let ask = |server: u32| match eligible.binary_search(&server) {
            Ok(_) => Answer::Takes,
            Err(_) => Answer::Cannot,
        };
        match self {
            Rotation::Queue(queue) => queue.turn(ask),
            Rotation::Smooth(smooth) => smooth.among(eligible),
        }
    }
}

/// Marks the end of the queue.
const END: u32 = u32::MAX;

/// A queue: the first that takes its turn is served and goes to the back.
///
/// Up to [`KEPT`] that can't stay in front, so whoever comes back has one turn and then waits like all others. Of more the one that
/// stood there longest goes to the back, or many that are down would make each pick a look at all of them.
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

    /// Serves the first that takes its turn. Takes as many steps as others stand in front of it: each but a few once a round.
    pub(crate) fn turn(&self, mut ask: impl FnMut(u32) -> Answer) -> Option<u32> {
        let (mut before, mut server, mut kept) = (END, self.first.get(), 0);
        let last = self.last.get();
        while server != END {
            let after = if server == last { END } else { self.next[server as usize].get() };
            match ask(server) {
                Answer::Takes => {
                    self.to_back(before, server);
                    return Some(server);
                }
                Answer::GivesAway => self.to_back(before, server),
                Answer::Cannot if kept < KEPT => {
                    kept += 1;
                    before = server;
                }
                Answer::Cannot => {
                    self.to_back(END, self.first.get());
                    before = server;
                }
            }
            server = after;
        }
        None
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

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(queue: &Queue, open: impl Fn(u32) -> bool) -> Option<u32> {
        queue.turn(|server| if open(server) { Answer::Takes } else { Answer::Cannot })
    }

    #[test]
    fn the_queue_serves_everyone_once_a_round() {
        let queue = Queue::new(&[0, 2, 3, 7], 8, &mut Dice::new(1));
        for _ in 0..5 {
            let mut round: Vec<u32> = (0..4).map(|_| turn(&queue, |_| true).unwrap()).collect();
            round.sort_unstable();
            assert_eq!(round, [0, 2, 3, 7]);
        }
    }

    #[test]
    fn a_missing_server_does_not_double_its_neighbour() {
        let queue = Queue::new(&[0, 1, 2, 3], 4, &mut Dice::new(2));
        let mut counts = [0; 4];
        (0..300).for_each(|_| counts[turn(&queue, |i| i != 1).unwrap() as usize] += 1);
        assert_eq!(counts, [100, 0, 100, 100]);
    }

    #[test]
    fn a_returning_server_gets_one_turn_and_no_burst() {
        let queue = Queue::new(&[0, 1, 2, 3], 4, &mut Dice::new(3));
        assert!((0..100).all(|_| turn(&queue, |i| i != 2).is_some()));
        let turns: Vec<u32> = (0..8).map(|_| turn(&queue, |_| true).unwrap()).collect();
        assert_eq!(turns.iter().filter(|&&t| t == 2).count(), 2, "{turns:?}");
        assert_ne!((turns[0], turns[1]), (2, 2));
    }

    #[test]
    fn the_queue_starts_at_a_random_member_and_copes_with_few() {
        let first = |seed| turn(&Queue::new(&[0, 1, 2, 3], 4, &mut Dice::new(seed)), |_| true).unwrap();
        let starts: std::collections::BTreeSet<u32> = (0..50).map(first).collect();
        assert_eq!(starts.len(), 4);
        let one = Queue::new(&[1], 2, &mut Dice::new(1));
        assert_eq!(
            [turn(&one, |_| true), turn(&one, |_| true), turn(&one, |_| false)],
            [Some(1), Some(1), None]
        );
        assert_eq!(turn(&Queue::new(&[], 0, &mut Dice::new(1)), |_| true), None);
    }

    #[test]
    fn many_that_are_down_are_asked_once_a_round_and_the_others_share_alike() {
        let all: Vec<u32> = (0..100).collect();
        let queue = Queue::new(&all, 100, &mut Dice::new(4));
        let (mut counts, mut asked) = ([0; 100], 0);
        for _ in 0..1_000 {
            let server = queue.turn(|server| {
                asked += 1;
                if server < 80 { Answer::Cannot } else { Answer::Takes }
            });
            counts[server.unwrap() as usize] += 1;
        }
        assert!(counts[..80].iter().all(|&c| c == 0) && counts[80..].iter().all(|&c| c == 50), "{counts:?}");
        // Five steps to one that is up, and the few that stay in front.
        assert!(asked < 1_000 * (5 + KEPT + 1), "{asked}");
        assert!((0..100).all(|_| turn(&queue, |_| false).is_none()), "nobody is left");
        let mut round: Vec<u32> = (0..100).map(|_| turn(&queue, |_| true).unwrap()).collect();
        round.sort_unstable();
        assert_eq!(round, all, "and none was lost");
    }

    #[test]
    fn a_turn_given_away_is_gone() {
        let queue = Queue::new(&[0, 1, 2, 3], 4, &mut Dice::new(5));
        let first = queue.first.get();
        let give = |server| if server == first { Answer::GivesAway } else { Answer::Takes };
        assert_ne!(queue.turn(give), Some(first));
        let round: Vec<u32> = (0..3).map(|_| turn(&queue, |_| true).unwrap()).collect();
        assert_eq!(round.iter().position(|&server| server == first), Some(2), "it stands at the back");
        assert_eq!(queue.turn(|_| Answer::GivesAway), None);
    }
}
