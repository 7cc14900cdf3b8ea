//! Contracts of priorities: what each level takes while some of its servers are down, and that backups come last.
//!
//! The expected parts are Envoy's documented rule, worked out here anew from what is up; a policy is asked only for choices.

use plimsoll_traffic::Dice;

use super::promise::Kind;
use super::small::{LARGEST, every};
use super::statistics::{RARE, chi_square, chi_square_bound};
use super::subject::{End, Maker, Stand, Subject};
use super::{Reading, Unit};

/// A second has passed, and what refused is up again.
const FORGOTTEN: u64 = 1_001_000;

/// What each level takes, in percent, of servers that are up and all there are: a level whole as long as 72 % are up, with fewer 1.4 times the
/// part that is up; scaled if all together make less than everything; whole percents, and what they leave to the first level with anybody.
fn percents(levels: &[(usize, usize)]) -> Vec<u64> {
    let health: Vec<u64> = levels
        .iter()
        .map(|&(up, all)| if all == 0 { 0 } else { (140 * up as u64 / all as u64).min(100) })
        .collect();
    let whole = health.iter().sum::<u64>().min(100);
    let mut left = 100;
    let take = |&health: &u64| {
        let part = (health * 100).checked_div(whole).unwrap_or(0).min(left);
        left -= part;
        part
    };
    let mut parts: Vec<u64> = health.iter().map(take).collect();
    if let Some(first) = parts.iter_mut().find(|part| **part > 0) {
        *first += left;
    }
    parts
}

/// How many of so many requests, which end before the next comes, each server gets; what nobody took is missing.
fn received(subject: &mut dyn Subject, servers: usize, requests: u64, dice: &mut Dice) -> Vec<u64> {
    let mut counts = vec![0; servers];
    for _ in 0..requests {
        if let Some(server) = subject.pick(dice.next(), &[]) {
            counts[server] += 1;
            subject.wait(1);
            subject.end(server, End::Answered);
        }
    }
    counts
}

/// Two levels of 25 servers, of the first of which ever fewer are up: how far its part is from the rule's, at worst.
pub(super) fn spill(_: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    const EACH: usize = 25;
    const REQUESTS: u64 = 20_000;
    let stand = |i: usize| Stand { priority: u8::from(i >= EACH), ..Stand::numbered(i) };
    let stands: Vec<Stand> = (0..2 * EACH).map(stand).collect();
    let mut subject = make(&stands, seed);
    let mut dice = Dice::new(seed ^ 7);
    let mut worst = 0.0f64;
    for up in [25, 18, 17, 12, 5, 0] {
        (up..EACH).for_each(|i| subject.refuse(i));
        let counts = received(&mut *subject, 2 * EACH, REQUESTS, &mut dice);
        let wanted = percents(&[(up, EACH), (EACH, EACH)])[0] as f64 / 100.0;
        let got = counts[..EACH].iter().sum::<u64>() as f64 / REQUESTS as f64;
        let strays = counts[up..EACH].iter().any(|&count| count > 0);
        let lost = counts.iter().sum::<u64>() < REQUESTS;
        worst = worst.max(if strays || lost { f64::INFINITY } else { (got - wanted).abs() });
        subject.wait(FORGOTTEN);
    }
    // The noise of a share of one half, the widest there is.
    Reading::Measured { figure: worst, bound: RARE * 0.5 / (REQUESTS as f64).sqrt(), unit: Unit::Part }
}

/// Where a server of a small backend stands: three levels and the backups.
const PLACES: [u8; 4] = [0, 1, 2, 3];
const BACKUP: u8 = 3;
/// For each case: enough to see who gets nothing, and parts roughly.
const REQUESTS: u64 = 100;

/// Every small backend with every number of servers down at each level. Which of a level are down is no other case.
pub(super) fn small(_: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    let mut dice = Dice::new(seed ^ 8);
    let mut broken = 0u64;
    for n in 1..=LARGEST {
        for places in every(&PLACES, n).filter(|places| places.is_sorted()) {
            let stand = |i: usize| Stand {
                priority: if places[i] == BACKUP { 0 } else { places[i] },
                backup: places[i] == BACKUP,
                ..Stand::numbered(i)
            };
            let stands: Vec<Stand> = (0..n).map(stand).collect();
            let mut subject = make(&stands, dice.next());
            // In a level the first ones are down.
            let is_case =
                |down: &Vec<bool>| (1..n).all(|i| places[i] != places[i - 1] || down[i - 1] >= down[i]);
            for down in every(&[true, false], n).filter(is_case) {
                (0..n).filter(|&i| down[i]).for_each(|i| subject.refuse(i));
                let counts = received(&mut *subject, n, REQUESTS, &mut dice);
                broken += u64::from(!is_right(&places, &down, &counts));
                subject.wait(FORGOTTEN);
            }
        }
    }
    Reading::Measured { figure: broken as f64, bound: 0.0, unit: Unit::Cases }
}

fn is_right(places: &[u8], down: &[bool], counts: &[u64]) -> bool {
    let of = |place: u8| (0..places.len()).filter(move |&i| places[i] == place);
    let up = |place: u8| of(place).filter(|&i| !down[i]).count();
    let taken: Vec<u64> = PLACES.iter().map(|&place| of(place).map(|i| counts[i]).sum()).collect();
    let nobody_is_up = down.iter().all(|&down| down);
    let strays = (0..places.len()).any(|i| down[i] && counts[i] > 0);
    if counts.iter().sum::<u64>() < REQUESTS || strays && !nobody_is_up {
        return false;
    }
    // Only levels that have servers are levels.
    let levels: Vec<u8> = PLACES[..3].iter().copied().filter(|&place| of(place).count() > 0).collect();
    let mut wanted = [0u64; PLACES.len()];
    if levels.iter().any(|&level| up(level) > 0) {
        let sizes: Vec<(usize, usize)> = levels.iter().map(|&level| (up(level), of(level).count())).collect();
        let parts = percents(&sizes);
        levels.iter().zip(parts).for_each(|(&level, part)| wanted[usize::from(level)] = part);
    } else if up(BACKUP) > 0 {
        wanted[usize::from(BACKUP)] = 100;
    } else {
        // Whoever may be tried: the first level, or the backups where there is nobody else.
        wanted[usize::from(levels.first().copied().unwrap_or(BACKUP))] = 100;
    }
    let exact = wanted.iter().zip(&taken).all(|(&wanted, &taken)| match wanted {
        0 => taken == 0,
        100 => taken == REQUESTS,
        _ => true,
    });
    let parts = wanted.iter().filter(|&&part| part > 0).count();
    let shares: Vec<f64> = wanted.iter().map(|&part| part as f64 / 100.0).collect();
    exact && (parts == 1 || chi_square(&taken, &shares) <= chi_square_bound(parts - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_those_that_envoys_documentation_prints() {
        let table = [(100, 100), (72, 100), (71, 99), (50, 70), (25, 35), (0, 0)];
        for (up, first) in table {
            assert_eq!(percents(&[(up, 100), (100, 100)]), [first, 100 - first]);
        }
        assert_eq!(
            percents(&[(25, 100), (25, 100), (20, 100)]),
            [37, 35, 28],
            "its code; its page prints 36/36/28"
        );
    }
}
