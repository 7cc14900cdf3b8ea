//! How many attempts beyond the first a backend's requests may have, retries and hedges together.
//!
//! Every request deposits a part of a token, every further attempt takes a whole one, and what is older than ten seconds does not count: so there
//! is another attempt only as long as the last ten seconds had fewer than [`RESERVE`] and the given part of their requests. That is the token bucket of Finagle, linkerd and
//! tower (`tower::retry::budget::TpsBudget`). One budget for all workers; each saves its deposits up in a [`Savings`] and hands them over from
//! time to time, so that a request that succeeds at once writes nothing that is shared. Must never lend: without a token there is no attempt.

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;
use std::cell::Cell;

use plimsoll_config::model::Share;

use crate::time::Millis;

/// How long what happened counts, in seconds.
pub const WINDOW: u64 = 10;
/// Attempts beyond the first that are allowed in a window however few requests there are: ten a second.
pub const RESERVE: u64 = 10 * WINDOW;
/// Tokens are counted in thousandths.
const TOKEN: i64 = 1_000;
/// Of `Share`'s millionths in a thousandth.
const PARTS: u64 = 1_000;

/// A backend's budget. `Relaxed` throughout: each second is a fact by itself.
#[derive(Debug, Default)]
pub struct RetryBudget {
    /// By the second modulo `WINDOW`: the second's number, and below it the balance, an `i32` in thousandths of a token. Workers that withdraw
    /// at the same instant may both take the last one.
    seconds: [AtomicU64; WINDOW as usize],
}

/// What one worker has not deposited yet, in millionths of a token.
#[derive(Debug, Default)]
pub struct Savings(Cell<u64>);

impl Savings {
    /// A request has come: `share` of an attempt more is allowed.
    #[inline]
    pub fn save(&self, share: Share) {
        self.0.set(self.0.get() + u64::from(share.0));
    }

    /// Hands all of it over; what is less than a thousandth of a token waits for the next time.
    pub fn hand_over(&self, budget: &RetryBudget, now: Millis) {
        let saved = self.0.get();
        if saved >= PARTS {
            self.0.set(saved % PARTS);
            budget.add((saved / PARTS) as i64, now);
        }
    }
}

impl RetryBudget {
    /// Takes a token for one more attempt, if there is one.
    pub fn withdraw(&self, now: Millis) -> bool {
        let has_one = self.balance(now) >= TOKEN;
        if has_one {
            self.add(-TOKEN, now);
        }
        has_one
    }

    /// Whole tokens that are left.
    pub fn left(&self, now: Millis) -> u64 {
        u64::try_from(self.balance(now) / TOKEN).unwrap_or(0)
    }

    /// Whether there is a token left.
    pub fn is_empty(&self, now: Millis) -> bool {
        self.balance(now) < TOKEN
    }

    /// In thousandths of a token, the reserve included.
    fn balance(&self, now: Millis) -> i64 {
        let this = second(now);
        let counts = |packed: u64| (0..WINDOW).contains(&u64::from(this.wrapping_sub(number(packed))));
        let seconds = self.seconds.iter().map(|second| second.load(Relaxed));
        seconds.filter(|&packed| counts(packed)).map(balance).sum::<i64>() + RESERVE as i64 * TOKEN
    }

    fn add(&self, amount: i64, now: Millis) {
        let this = second(now);
        let entry = &self.seconds[this as usize % WINDOW as usize];
        let change = |packed: u64| {
            let before = if number(packed) == this { balance(packed) } else { 0 };
            let after = (before + amount).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
            Some(u64::from(this) << 32 | u64::from(after as u32))
        };
        // The closure always has an answer.
        let _ = entry.fetch_update(Relaxed, Relaxed, change);
    }
}

fn second(now: Millis) -> u32 {
    (now.0 / 1_000) as u32
}

fn number(packed: u64) -> u32 {
    (packed >> 32) as u32
}

fn balance(packed: u64) -> i64 {
    i64::from(packed as u32 as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    const FIFTH: Share = Share(Share::ALL / 5);

    fn requests(budget: &RetryBudget, count: u32, now: Millis) {
        let savings = Savings::default();
        (0..count).for_each(|_| savings.save(FIFTH));
        savings.hand_over(budget, now);
    }

    fn take_all(budget: &RetryBudget, now: Millis) -> u64 {
        (0..).take_while(|_| budget.withdraw(now)).count() as u64
    }

    #[test]
    fn without_any_request_there_are_ten_a_second() {
        let budget = RetryBudget::default();
        let start = 3_600_000;
        assert_eq!(budget.left(Millis(start)), RESERVE);
        assert_eq!(take_all(&budget, Millis(start)), RESERVE);
        assert_eq!(budget.left(Millis(start)), 0);
        assert!(budget.is_empty(Millis(start + 9_999)));
        assert_eq!(take_all(&budget, Millis(start + 10_000)), RESERVE, "all are over ten seconds old");
        let steady: u64 = (10..30).map(|s| u64::from(budget.withdraw(Millis(start + s * 1_000)))).sum();
        assert_eq!(steady, 10, "none in the ten seconds that were spent at once, all in the next");
    }

    #[test]
    fn a_fifth_of_the_requests_may_have_one_more() {
        let budget = RetryBudget::default();
        requests(&budget, 5_000, Millis(5_500));
        assert_eq!(take_all(&budget, Millis(7_000)), 1_000 + RESERVE);
        requests(&budget, 50, Millis(8_000));
        assert_eq!(take_all(&budget, Millis(8_000)), 10);
        // At 15 s the deposits of the sixth second are gone, and what was taken at 7 s still counts.
        assert_eq!(take_all(&budget, Millis(15_000)), 0);
        assert_eq!(take_all(&budget, Millis(17_000)), RESERVE, "8 s gave ten and took ten");
    }

    #[test]
    fn whenever_one_is_granted_ten_seconds_have_had_no_more_than_the_reserve_and_a_fifth_of_their_requests() {
        let (budget, mut dice) = (RetryBudget::default(), Dice::new(11));
        let (mut came, mut taken) = (vec![0u64; 200], vec![0u64; 200]);
        for second in 0..200usize {
            let now = Millis(second as u64 * 1_000 + u64::from(dice.below(1_000)));
            came[second] = u64::from(dice.below(if second % 30 < 15 { 2_000 } else { 20 }));
            requests(&budget, came[second] as u32, now);
            let wanted = u64::from(dice.below(700));
            taken[second] = (0..wanted).take_while(|_| budget.withdraw(now)).count() as u64;
            let from = (second + 1).saturating_sub(WINDOW as usize);
            let sum = |of: &[u64]| of[from..=second].iter().sum::<u64>();
            assert!(taken[second] == 0 || sum(&taken) * 5 <= RESERVE * 5 + sum(&came), "second {second}");
            let was_refused = taken[second] < wanted;
            assert!(
                !was_refused || sum(&taken) * 5 + 5 > RESERVE * 5 + sum(&came),
                "second {second}: too few"
            );
        }
    }

    #[test]
    fn nothing_is_lost_on_the_way_to_the_budget() {
        let (budget, savings) = (RetryBudget::default(), Savings::default());
        take_all(&budget, Millis(0));
        for _ in 0..1_000 {
            savings.save(Share(2_500));
            savings.hand_over(&budget, Millis(0));
        }
        assert_eq!(take_all(&budget, Millis(0)), 2, "a quarter of a percent of a thousand, whole tokens");
    }

    #[test]
    fn a_large_backend_does_not_overflow() {
        let budget = RetryBudget::default();
        let savings = Savings::default();
        (0..4_000_000).for_each(|_| savings.save(Share(Share::ALL)));
        savings.hand_over(&budget, Millis(0));
        savings.hand_over(&budget, Millis(0));
        assert!(budget.withdraw(Millis(0)));
    }
}
