//! Which of a list's entries were in the list before, and where: what a change of a configuration starts from.
//!
//! In go two lists of identities, each unique in its list; out comes, for each of the new one, its place in the old one. Mostly one of
//! thousands changes, so what the lists begin and end with alike is not hashed. It must never depend on the order for what it finds.

use std::collections::HashMap;
use std::hash::Hash;

/// By place in `after`: the place in `before` of the same identity, if it has one.
pub(crate) fn places<K: Eq + Hash>(before: &[K], after: &[K]) -> Vec<Option<usize>> {
    let head = before.iter().zip(after).take_while(|(old, new)| old == new).count();
    let (old, new) = (&before[head..], &after[head..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    let known: HashMap<&K, usize> = old.iter().zip(head..).collect();
    let middle = new.iter().map(|identity| known.get(identity).copied());
    (0..head).map(Some).chain(middle).chain((before.len() - tail..before.len()).map(Some)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn finds_what_a_search_finds_whatever_came_went_or_moved() {
        let mut dice = Dice::new(2);
        for _ in 0..2_000 {
            let before: Vec<u32> = (0..dice.below(9)).collect();
            let mut after = before.clone();
            for new in 100..100 + dice.below(4) {
                let at = dice.below(after.len() as u32 + 1) as usize;
                match dice.below(3) {
                    0 => after.insert(at, new),
                    1 if at < after.len() => drop(after.remove(at)),
                    _ if at < after.len() => after.swap(at, 0),
                    _ => {}
                }
            }
            let searched: Vec<_> = after.iter().map(|new| before.iter().position(|old| old == new)).collect();
            assert_eq!(places(&before, &after), searched, "{before:?} {after:?}");
        }
    }
}
