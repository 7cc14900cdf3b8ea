//! Figures from answers: how even they are, who ran ahead, which keys moved.
//!
//! Replies go in, numbers come out, and no network is touched. A request without a good answer from an origin makes every figure infinite,
//! since no share is right of what was never served: a balancer must not pass by refusing.

use plimsoll_sim::contracts::{Kind, Spread, chi_square, chi_square_bound};

use super::stage::Reply;

/// How many got no good answer from an origin.
pub(super) fn lost(replies: &[Reply]) -> usize {
    replies.iter().filter(|reply| !reply.fine()).count()
}

/// Whether there is anything to judge, and nothing of it was lost.
fn is_whole(replies: &[Reply]) -> bool {
    !replies.is_empty() && lost(replies) == 0
}

/// Chi-square of those that are up by their weights, and its bound.
pub(super) fn evenness(kind: Kind, weights: &[u16], replies: &[Reply], up: &[bool]) -> (f64, f64) {
    let mut counts = vec![0u64; up.len()];
    replies.iter().filter_map(|reply| reply.origin).for_each(|origin| counts[origin] += 1);
    let weight = |i: usize| if up[i] { f64::from(weights[i]) } else { 0.0 };
    let total: f64 = (0..up.len()).map(weight).sum();
    let parts: Vec<f64> = (0..up.len()).map(|i| weight(i) / total).collect();
    let left = up.iter().filter(|&&up| up).count();
    let strays: u64 = (0..up.len()).filter(|&i| !up[i]).map(|i| counts[i]).sum();
    let by_chance = if left == 1 { 0.0 } else { chi_square_bound(left - 1) };
    let bound = match kind {
        Kind::Keys(Spread { error, outage, .. }) => {
            let error = if left == up.len() { error } else { outage };
            by_chance + replies.len() as f64 * error * error * 5.0
        }
        _ => by_chance,
    };
    let figure = match (is_whole(replies) && strays == 0, left) {
        (false, _) => f64::INFINITY,
        (true, 1) => 0.0,
        (true, _) => chi_square(&counts, &parts),
    };
    (figure, bound)
}

/// The widest range of a server's lead over its share.
pub(super) fn widest_lead(weights: &[u16], replies: &[Reply]) -> f64 {
    if !is_whole(replies) {
        return f64::INFINITY;
    }
    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    let range = |(origin, &weight): (usize, &u16)| {
        let (mut lead, mut least, mut most) = (0.0f64, 0.0f64, 0.0f64);
        for reply in replies {
            lead += f64::from(u8::from(reply.origin == Some(origin))) - f64::from(weight) / total;
            (least, most) = (least.min(lead), most.max(lead));
        }
        most - least
    };
    weights.iter().enumerate().map(range).fold(0.0, f64::max)
}

/// The part of the keys, but for those that were at `without`, that are elsewhere now.
pub(super) fn moved(before: &[Reply], now: &[Reply], without: Option<usize>) -> f64 {
    let others =
        || before.iter().zip(now).filter(|(before, _)| without.is_none() || before.origin != without);
    if !is_whole(before) || !is_whole(now) || others().count() == 0 {
        return f64::INFINITY;
    }
    others().filter(|(before, now)| before.origin != now.origin).count() as f64 / others().count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: Kind = Kind::Keys(Spread { error: 0.0, outage: 0.0, moved: 0.0, bound: None });

    fn by(origins: impl IntoIterator<Item = usize>) -> Vec<Reply> {
        origins.into_iter().map(|origin| Reply { origin: Some(origin), status: 200 }).collect()
    }

    /// An answer of the balancer itself.
    fn refused() -> Reply {
        Reply { origin: None, status: 503 }
    }

    fn is_even(kind: Kind, weights: &[u16], replies: &[Reply], up: &[bool]) -> bool {
        let (figure, bound) = evenness(kind, weights, replies, up);
        figure <= bound
    }

    #[test]
    fn shares_go_by_weight_and_only_by_weight() {
        let by_weight = by((0..500).map(|i| [0, 0, 0, 1, 2][i % 5]));
        assert!(is_even(Kind::Turns, &[3, 1, 1], &by_weight, &[true; 3]));
        assert!(!is_even(Kind::Turns, &[1, 1, 1], &by_weight, &[true; 3]));
        assert!(!is_even(KEYS, &[1, 1, 1], &by_weight, &[true; 3]));
    }

    #[test]
    fn who_is_down_has_no_share_and_must_give_no_answer() {
        let of_two = by((0..300).map(|i| i % 2));
        assert!(is_even(Kind::Turns, &[1, 1, 1], &of_two, &[true, true, false]));
        assert!(!is_even(Kind::Turns, &[1, 1, 1], &of_two, &[true, false, true]));
        assert!(!is_even(Kind::Turns, &[1, 1, 1], &by((0..300).map(|i| i % 3)), &[true, true, false]));
    }

    #[test]
    fn a_refusal_breaks_shares_however_many_servers_are_left() {
        for left in 1..=3 {
            let up: Vec<bool> = (0..3).map(|i| i < left).collect();
            let mut replies = by((0..300).map(|i| i % left));
            assert!(is_even(Kind::Turns, &[1, 1, 1], &replies, &up), "{left} left");
            replies[7] = refused();
            assert!(!is_even(Kind::Turns, &[1, 1, 1], &replies, &up), "{left} left, one refused");
            let failed = Reply { origin: Some(0), status: 500 };
            replies[7] = failed;
            assert!(!is_even(Kind::Turns, &[1, 1, 1], &replies, &up), "{left} left, one failed");
            assert!(
                !is_even(Kind::Turns, &[1, 1, 1], &vec![refused(); 300], &up),
                "{left} left, all refused"
            );
            assert!(!is_even(Kind::Turns, &[1, 1, 1], &[], &up), "{left} left, nothing asked");
        }
    }

    #[test]
    fn turns_are_smooth_and_bursts_and_refusals_are_not() {
        let turns = by((0..300).map(|i| [0, 1, 0, 2, 0][i % 5]));
        assert!(widest_lead(&[3, 1, 1], &turns) <= 2.0);
        let bursts = by((0..300).map(|i| i / 10 % 3));
        assert!(widest_lead(&[1, 1, 1], &bursts) > 2.0);
        let mut with_a_gap = turns.clone();
        with_a_gap[7] = refused();
        for replies in [with_a_gap, vec![refused(); 300], vec![]] {
            assert_eq!(widest_lead(&[3, 1, 1], &replies), f64::INFINITY);
        }
    }

    #[test]
    fn keys_that_move_are_counted_and_refusals_break() {
        let (before, during) = (by([0, 1, 2, 2]), by([0, 2, 2, 0]));
        assert_eq!(moved(&before, &before, None), 0.0);
        assert_eq!(moved(&before, &during, Some(1)), 1.0 / 3.0);
        assert_eq!(moved(&before, &during, None), 0.5);
        let mut gap = during.clone();
        gap[1] = refused();
        let all_refused = vec![refused(); 4];
        for (before, now) in [(&before, &gap), (&gap, &before), (&all_refused, &all_refused)] {
            assert_eq!(moved(before, now, Some(1)), f64::INFINITY);
        }
        assert_eq!(moved(&by([1, 1]), &by([0, 2]), Some(1)), f64::INFINITY, "nobody else has a key");
    }
}
