//! Whose turn it is: round robin, exact for one worker, over whichever servers can take a request.
//!
//! In go the eligible servers, out comes the next. Servers of equal weight stand in a queue; unequal ones are served
//! by deadline, so that none is ever a whole request ahead or behind. A server that is passed over must never give
//! its turns to one fixed neighbour: skipping along a fixed order doubles the neighbour's share.

use std::cell::Cell;

use crate::dice::Dice;
use crate::smooth::Smooth;

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

#[cfg(test)]
mod tests {
    use super::*;

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
