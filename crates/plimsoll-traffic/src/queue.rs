//! Who waits for a server, who goes next, and who is told that there is no use in waiting.
//!
//! In come those who wait (`T`), each with a class, a client and the rules of its configuration, and the time; out comes who goes next, and
//! who is refused and why. Within a class clients take turns where that is asked for, and a client's requests go first in, first out. A class
//! whose oldest request has waited longer than `target` for a tenth of a second is overloaded, which is CoDel's measure (RFC 8289) of a queue
//! that only costs time: then the newest goes first, because its client is the one that still waits ("adaptive LIFO", Maurer, "Fail at
//! Scale", 2015), and those that could not be reached any more are refused before their time. Bounded by `max`; nothing here may wait,
//! look at a clock, or forget somebody: each place ends by `remove`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use plimsoll_config::model::Class;

use crate::queue_rate::Rate;
use crate::time::Micros;

/// How long the oldest must have waited too long until a class is overloaded: CoDel's interval, in microseconds.
const INTERVAL: u64 = 100_000;
/// While overloaded, so many may wait although nobody can say that they are reached.
const SPARE: u64 = 4;
/// The classes, the most important first.
const CLASSES: [Class; 3] = [Class::High, Class::Normal, Class::Low];

/// What the configuration that a request came with says, times in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Who wait at once.
    pub max: u32,
    /// How long one waits at most.
    pub timeout: u64,
    /// How long the oldest may wait while a class is not overloaded.
    pub target: u64,
}

/// Who wants to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rank {
    /// How much it matters.
    pub class: Class,
    /// Whose turn it is; the same for all where there are no fair shares.
    pub client: u64,
}

/// Why a request waits no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Too many wait, and none that matters less.
    Full,
    /// It has waited as long as it may.
    Late,
    /// The backend is overloaded, and it could not be reached in time.
    Overloaded,
}

/// How somebody's waiting stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// In line.
    Waits,
    /// It is its turn.
    Called,
    /// Not any more.
    Refused(Refusal),
}

/// A place in the queue; good until `remove`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u32);

/// The queue.
#[derive(Debug)]
pub struct Queue<T> {
    places: Vec<Option<Entry<T>>>,
    free: Vec<u32>,
    /// As `CLASSES`.
    lines: [Line; 3],
    /// Those in line and those who were called.
    waiting: u32,
    called: u32,
    /// The number of the next who comes.
    next: u64,
    now: Micros,
    rate: Rate,
    /// Refused since they were last asked for.
    refused: Vec<Ticket>,
}

#[derive(Debug)]
struct Entry<T> {
    who: T,
    /// By order of coming.
    number: u64,
    rank: Rank,
    since: Micros,
    due: Micros,
    target: u64,
    stand: Stand,
}

/// Those of one class, without those who were called.
#[derive(Debug, Default)]
struct Line {
    /// All, by number.
    all: BTreeMap<u64, Ticket>,
    /// By client and number.
    flows: BTreeMap<u64, BTreeMap<u64, Ticket>>,
    /// Clients in the order of their turns.
    turns: VecDeque<u64>,
    /// Clients by how many requests they have here.
    sizes: BTreeSet<(usize, u64)>,
    /// Until when the oldest had waited no longer than it should.
    fine: Micros,
    overloaded: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue {
            places: Vec::new(),
            free: Vec::new(),
            lines: Default::default(),
            waiting: 0,
            called: 0,
            next: 0,
            now: Micros(0),
            rate: Rate::default(),
            refused: Vec::new(),
        }
    }
}

impl<T> Queue<T> {
    /// Takes a place for `who`.
    ///
    /// # Errors
    /// There is none, and nobody is refused for it.
    pub fn offer(&mut self, now: Micros, rank: Rank, rules: Rules, who: T) -> Result<Ticket, Refusal> {
        self.pass(now);
        if self.waiting >= rules.max && !self.make_room(rank) {
            return Err(Refusal::Full);
        }
        let due = Micros(self.now.0.saturating_add(rules.timeout));
        let (number, since) = (self.next, self.now);
        let place = Entry { who, number, rank, since, due, target: rules.target, stand: Stand::Waits };
        self.next += 1;
        self.waiting += 1;
        let ticket = match self.free.pop() {
            Some(free) => Ticket(free),
            None => {
                self.places.push(None);
                Ticket(self.places.len() as u32 - 1)
            }
        };
        self.places[ticket.0 as usize] = Some(place);
        let line = &mut self.lines[line_of(rank)];
        if line.all.is_empty() {
            (line.fine, line.overloaded) = (since, false);
        }
        line.add(rank.client, number, ticket);
        Ok(ticket)
    }

    /// Calls the next of those who `can` go now.
    pub fn call(&mut self, now: Micros, mut can: impl FnMut(&T) -> bool) -> Option<&T> {
        self.pass(now);
        self.shed();
        let places = &self.places;
        let mut fits = |ticket: &Ticket| places[ticket.0 as usize].as_ref().is_some_and(|p| can(&p.who));
        let ticket = self.lines.iter_mut().find_map(|line| line.take_next(&mut fits))?;
        self.called += 1;
        let place = self.places[ticket.0 as usize].as_mut()?;
        place.stand = Stand::Called;
        Some(&place.who)
    }

    /// Somebody who was called could not go: it has its place again, and its client the next turn.
    pub fn put_back(&mut self, ticket: Ticket) {
        let Some(place) = self.places[ticket.0 as usize].as_mut() else { return };
        if place.stand == Stand::Called {
            place.stand = Stand::Waits;
            self.called -= 1;
            let (rank, number) = (place.rank, place.number);
            let line = &mut self.lines[line_of(rank)];
            line.add(rank.client, number, ticket);
            line.turn_first(rank.client);
        }
    }

    /// Ends a place; gives back who had it, and how it stood. `goes`: it has its server, which tells how fast the queue moves.
    pub fn remove(&mut self, now: Micros, ticket: Ticket, goes: bool) -> Option<(Stand, T)> {
        self.now = self.now.max(now);
        let place = self.places[ticket.0 as usize].take()?;
        self.free.push(ticket.0);
        match place.stand {
            Stand::Waits => self.lines[line_of(place.rank)].remove(place.rank.client, place.number),
            Stand::Called => self.called -= 1,
            Stand::Refused(_) => return Some((place.stand, place.who)),
        }
        self.waiting -= 1;
        if goes {
            self.rate.count(self.now);
        }
        Some((place.stand, place.who))
    }

    /// How a place stands.
    pub fn stand(&self, ticket: Ticket) -> Option<Stand> {
        self.places[ticket.0 as usize].as_ref().map(|place| place.stand)
    }

    /// Who has that place.
    pub fn who(&mut self, ticket: Ticket) -> Option<&mut T> {
        self.places[ticket.0 as usize].as_mut().map(|place| &mut place.who)
    }

    /// Those who were refused since this was last asked.
    pub fn refused(&mut self) -> impl Iterator<Item = &T> {
        let places = &self.places;
        self.refused.drain(..).filter_map(|ticket| places[ticket.0 as usize].as_ref().map(|place| &place.who))
    }

    /// How many wait, those included who were called.
    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    /// How many were called and have not gone yet.
    pub fn called(&self) -> u32 {
        self.called
    }

    /// The latest time that it has heard of.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// Time has passed: refuses those whose time is up, and finds out which classes are overloaded.
    pub fn pass(&mut self, now: Micros) {
        self.now = self.now.max(now);
        for line in 0..self.lines.len() {
            while let Some(oldest) = self.lines[line].oldest()
                && self.places[oldest.0 as usize].as_ref().is_some_and(|place| place.due <= self.now)
            {
                self.refuse(oldest, Refusal::Late);
            }
            let place = self.lines[line].oldest().and_then(|oldest| self.places[oldest.0 as usize].as_ref());
            let fine = place.map_or(self.now, |place| Micros(place.since.0.saturating_add(place.target)));
            let line = &mut self.lines[line];
            line.fine = line.fine.max(fine.min(self.now));
            line.overloaded = self.now.since(line.fine) >= INTERVAL;
        }
    }

    /// Refuses those who could not be reached in two intervals even if nobody else came: the least important and oldest first, of classes that are overloaded.
    fn shed(&mut self) {
        let Some(peak) = self.rate.peak(self.now) else { return };
        let reach = 2 * peak + SPARE;
        let mut inline = u64::from(self.waiting - self.called);
        for line in
            (0..self.lines.len()).rev().filter(|&line| self.lines[line].overloaded).collect::<Vec<_>>()
        {
            while inline > reach
                && let Some(oldest) = self.lines[line].oldest()
                && let Some(place) = &self.places[oldest.0 as usize]
                && self.now.since(place.since) > place.target
            {
                self.refuse(oldest, Refusal::Overloaded);
                inline -= 1;
            }
        }
    }

    /// Refuses somebody so that one of `rank` has room; false if that one matters least of all itself.
    fn make_room(&mut self, rank: Rank) -> bool {
        let own = line_of(rank);
        let Some(last) = (own..self.lines.len()).rev().find(|&line| !self.lines[line].all.is_empty()) else {
            return false;
        };
        let line = &self.lines[last];
        let Some(&(most, biggest)) = line.sizes.last() else { return false };
        // Of the same class: whoever's client has more than this one's would be.
        let mine = if last == own { line.flows.get(&rank.client).map_or(0, BTreeMap::len) } else { 0 };
        let same = last == own && mine + 1 > most;
        let client = if same { rank.client } else { biggest };
        let Some(flow) = line.flows.get(&client) else { return false };
        let victim = if line.overloaded { flow.first_key_value() } else { flow.last_key_value() };
        match victim {
            // First in, first out: the newcomer is the newest itself.
            Some(_) if same && !line.overloaded => false,
            Some((_, &ticket)) => {
                self.refuse(ticket, Refusal::Full);
                true
            }
            None => false,
        }
    }

    /// For somebody in line.
    fn refuse(&mut self, ticket: Ticket, why: Refusal) {
        if let Some(place) = self.places[ticket.0 as usize].as_mut() {
            place.stand = Stand::Refused(why);
            self.lines[line_of(place.rank)].remove(place.rank.client, place.number);
            self.waiting -= 1;
            self.refused.push(ticket);
        }
    }
}

fn line_of(rank: Rank) -> usize {
    CLASSES.iter().position(|&class| class == rank.class).expect("the list has all classes")
}

impl Line {
    fn oldest(&self) -> Option<Ticket> {
        self.all.first_key_value().map(|(_, &ticket)| ticket)
    }

    fn add(&mut self, client: u64, number: u64, ticket: Ticket) {
        self.all.insert(number, ticket);
        let flow = self.flows.entry(client).or_default();
        if flow.is_empty() {
            self.turns.push_back(client);
        }
        self.sizes.remove(&(flow.len(), client));
        flow.insert(number, ticket);
        self.sizes.insert((flow.len(), client));
    }

    fn remove(&mut self, client: u64, number: u64) {
        self.all.remove(&number);
        let Some(flow) = self.flows.get_mut(&client) else { return };
        self.sizes.remove(&(flow.len(), client));
        flow.remove(&number);
        if flow.is_empty() {
            self.flows.remove(&client);
            // Mostly the first: it has just had its turn.
            if let Some(at) = self.turns.iter().position(|&turn| turn == client) {
                self.turns.remove(at);
            }
        } else {
            self.sizes.insert((flow.len(), client));
        }
    }

    fn turn_first(&mut self, client: u64) {
        if let Some(at) = self.turns.iter().position(|&turn| turn == client) {
            self.turns.remove(at);
            self.turns.push_front(client);
        }
    }

    /// Takes out who goes next of those that fit; its client's next turn comes after all others'.
    fn take_next(&mut self, fits: &mut impl FnMut(&Ticket) -> bool) -> Option<Ticket> {
        let found = self.turns.iter().enumerate().find_map(|(at, client)| {
            let flow = self.flows.get(client)?;
            let mut found = if self.overloaded {
                flow.iter().rev().find(|(_, ticket)| fits(ticket))
            } else {
                flow.iter().find(|(_, ticket)| fits(ticket))
            };
            found.take().map(|(&number, &ticket)| (at, *client, number, ticket))
        });
        let (at, client, number, ticket) = found?;
        self.turns.remove(at);
        self.turns.push_back(client);
        self.remove(client, number);
        Some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { max: 8, timeout: 1_000_000, target: 20_000 };

    fn ms(ms: u64) -> Micros {
        Micros(3_600_000_000 + ms * 1_000)
    }

    fn rank(class: Class, client: u64) -> Rank {
        Rank { class, client }
    }

    const NORMAL: Rank = Rank { class: Class::Normal, client: 0 };

    struct Test(Queue<u32>);

    impl Test {
        fn offer(&mut self, at: u64, rank: Rank, who: u32) -> Ticket {
            self.0.offer(ms(at), rank, RULES, who).expect("there is room")
        }

        fn come(&mut self, at: u64, rank: Rank, who: u32) {
            self.offer(at, rank, who);
        }

        /// Calls the next and lets it go.
        fn go(&mut self, at: u64) -> Option<u32> {
            let who = *self.0.call(ms(at), |_| true)?;
            let place = (0..self.0.places.len() as u32).map(Ticket).find(|&ticket| {
                self.0.stand(ticket) == Some(Stand::Called) && self.0.who(ticket).copied() == Some(who)
            });
            self.0.remove(ms(at), place.expect("it has a place"), true);
            Some(who)
        }

        fn refused(&mut self) -> Vec<u32> {
            self.0.refused().copied().collect()
        }
    }

    fn test() -> Test {
        Test(Queue::default())
    }

    #[test]
    fn first_in_first_out_until_overloaded_and_then_newest_first() {
        let mut queue = test();
        (0..3).for_each(|who| queue.come(0, NORMAL, who));
        assert_eq!([queue.go(1), queue.go(119)], [Some(0), Some(1)], "99 ms after the target was missed");
        (3..6).for_each(|who| queue.come(121, NORMAL, who));
        assert_eq!([queue.go(121), queue.go(122)], [Some(5), Some(4)], "the oldest has waited too long");
        assert_eq!([queue.go(123), queue.go(124), queue.go(125)], [Some(3), Some(2), None]);
        (6..8).for_each(|who| queue.come(126, NORMAL, who));
        assert_eq!(queue.go(127), Some(6), "an empty queue ends it");
    }

    #[test]
    fn who_waits_a_little_too_long_once_in_a_while_is_no_overload() {
        let mut queue = test();
        for burst in 0..20 {
            let at = burst * 90;
            (0..4).for_each(|who| queue.come(at, NORMAL, who));
            assert_eq!((0..4).map(|_| queue.go(at + 80)).collect::<Vec<_>>(), [0, 1, 2, 3].map(Some));
        }
    }

    #[test]
    fn nobody_waits_longer_than_its_time() {
        let mut queue = test();
        let first = queue.offer(0, NORMAL, 1);
        queue.offer(1, NORMAL, 2);
        queue.0.pass(ms(999));
        assert!(queue.refused().is_empty());
        queue.0.pass(ms(1_000));
        assert_eq!(queue.refused(), [1]);
        assert_eq!((queue.0.stand(first), queue.0.waiting()), (Some(Stand::Refused(Refusal::Late)), 1));
        assert_eq!(queue.go(1_001), None, "the second one's time is up, too");
    }

    #[test]
    fn a_higher_class_goes_first_and_takes_the_place_of_the_least_important() {
        let mut queue = test();
        (0..4).for_each(|who| queue.come(0, rank(Class::Low, 0), who));
        (4..8).for_each(|who| queue.come(0, NORMAL, who));
        let full = |queue: &mut Test, rank| queue.0.offer(ms(1), rank, RULES, 99);
        assert_eq!(full(&mut queue, rank(Class::Low, 0)), Err(Refusal::Full));
        (10..12).for_each(|who| queue.come(1, rank(Class::High, 0), who));
        assert_eq!(queue.refused(), [3, 2], "the newest of the lowest");
        (12..14).for_each(|who| queue.come(1, NORMAL, who));
        assert_eq!(full(&mut queue, NORMAL), Err(Refusal::Full));
        let order: Vec<_> = (0..8).map_while(|_| queue.go(2)).collect();
        assert_eq!(order, [10, 11, 4, 5, 6, 7, 12, 13]);
    }

    #[test]
    fn when_overloaded_a_full_queue_pushes_the_oldest_out() {
        let mut queue = test();
        (0..8).for_each(|who| queue.come(u64::from(who), NORMAL, who));
        queue.offer(150, NORMAL, 8);
        assert_eq!(queue.refused(), [0]);
        assert_eq!(queue.go(150), Some(8));
    }

    #[test]
    fn clients_take_turns_and_the_greedy_one_makes_room() {
        let mut queue = test();
        (0..7).for_each(|who| queue.come(0, rank(Class::Normal, 1), who));
        queue.offer(0, rank(Class::Normal, 2), 20);
        queue.offer(1, rank(Class::Normal, 3), 30);
        assert_eq!(queue.refused(), [6], "the newest of who has most");
        assert_eq!(queue.0.offer(ms(1), rank(Class::Normal, 1), RULES, 7), Err(Refusal::Full));
        let order: Vec<_> = (0..9).map_while(|_| queue.go(2)).collect();
        assert_eq!(order, [0, 20, 30, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn who_was_called_and_could_not_go_is_next_again() {
        let mut queue = test();
        let tickets: Vec<_> =
            (0..3).map(|who| queue.offer(0, rank(Class::Normal, u64::from(who % 2)), who)).collect();
        assert_eq!(queue.0.call(ms(1), |_| true), Some(&0));
        assert_eq!((queue.0.waiting(), queue.0.called()), (3, 1));
        queue.0.put_back(tickets[0]);
        assert_eq!((queue.0.waiting(), queue.0.called()), (3, 0));
        assert_eq!([queue.go(2), queue.go(2), queue.go(2)], [0, 1, 2].map(Some));
    }

    #[test]
    fn who_cannot_go_is_passed_over_and_keeps_its_place() {
        let mut queue = test();
        (0..3).for_each(|who| queue.come(0, NORMAL, who));
        assert_eq!(queue.0.call(ms(1), |&who| who == 1), Some(&1));
        assert_eq!([queue.go(2), queue.go(2), queue.go(2)], [Some(0), Some(2), None]);
    }

    #[test]
    fn whoever_leaves_gives_its_place_up() {
        let mut queue = test();
        let tickets: Vec<_> = (0..8).map(|who| queue.offer(0, NORMAL, who)).collect();
        assert_eq!(queue.0.remove(ms(1), tickets[3], false), Some((Stand::Waits, 3)));
        assert_eq!(queue.0.remove(ms(1), tickets[0], false), Some((Stand::Waits, 0)));
        queue.offer(1, NORMAL, 8);
        let order: Vec<_> = (0..9).map_while(|_| queue.go(2)).collect();
        assert_eq!((order, queue.0.waiting()), (vec![1, 2, 4, 5, 6, 7, 8], 0));
    }

    /// 1,000 a second go and 2,000 come, each of whom may wait for a second.
    #[test]
    fn in_lasting_overload_who_cannot_be_reached_hears_of_it_early() {
        let mut queue = test();
        let rules = Rules { max: 100_000, ..RULES };
        let mut waited = 0;
        for at in 0..5_000 {
            for n in 0..2 {
                let _ = queue.0.offer(ms(at), NORMAL, rules, at as u32 * 2 + n);
            }
            assert!(queue.go(at).is_some(), "no server is ever without work");
            for who in queue.refused() {
                waited = waited.max(if at > 2_500 { at - u64::from(who / 2) } else { 0 });
            }
        }
        assert!((100..350).contains(&waited), "{waited} ms");
        assert!(queue.0.waiting() < 250, "{}", queue.0.waiting());
    }

    #[test]
    fn a_place_that_was_refused_stays_until_its_owner_has_seen_it() {
        let mut queue = test();
        let ticket = queue.offer(0, NORMAL, 1);
        queue.0.pass(ms(5_000));
        let other = queue.offer(5_000, NORMAL, 2);
        assert_ne!(ticket, other);
        assert_eq!(queue.0.remove(ms(5_000), ticket, false), Some((Stand::Refused(Refusal::Late), 1)));
        assert_eq!((queue.0.stand(other), queue.0.waiting()), (Some(Stand::Waits), 1));
    }

    /// Everything that can happen, at random: the counts are right, and nobody is lost or seen twice.
    #[test]
    fn whatever_happens_everybody_is_accounted_for() {
        let mut dice = crate::dice::Dice::new(7);
        for _ in 0..50 {
            let mut queue: Queue<u32> = Queue::default();
            let mut held: Vec<Ticket> = Vec::new();
            let mut at = 0;
            for who in 0..600 {
                at += u64::from(dice.below(12));
                let class = CLASSES[dice.below(3) as usize];
                match dice.below(8) {
                    0..=3 => {
                        let rank = rank(class, u64::from(dice.below(4)));
                        held.extend(queue.offer(ms(at), rank, RULES, who));
                    }
                    4..=5 => {
                        queue.call(ms(at), |who| who % 5 > 0);
                    }
                    6 if !held.is_empty() => {
                        let ticket = held.swap_remove(dice.below(held.len() as u32) as usize);
                        assert!(queue.remove(ms(at), ticket, true).is_some());
                    }
                    _ => held.iter().for_each(|&ticket| queue.put_back(ticket)),
                }
                let stands = held.iter().filter_map(|&ticket| queue.stand(ticket)).collect::<Vec<_>>();
                let count = |stand: Stand| stands.iter().filter(|&&s| s == stand).count() as u32;
                assert_eq!(stands.len(), held.len());
                assert_eq!(queue.called(), count(Stand::Called));
                assert_eq!(queue.waiting(), count(Stand::Called) + count(Stand::Waits));
                for line in &queue.lines {
                    assert_eq!(line.all.len(), line.flows.values().map(BTreeMap::len).sum::<usize>());
                    assert_eq!((line.flows.len(), line.flows.len()), (line.turns.len(), line.sizes.len()));
                }
                assert!(queue.waiting() <= RULES.max);
            }
        }
    }
}
