//! Which servers a backend took over from the one before it, worked out once, for all that workers keep by server.
//!
//! In goes what `stays` found by identity; out come places, for a worker that serves exactly the backend before. Without it every worker would look
//! all servers up itself, on the thread that requests wait for: 4 ms for 10,000 of them. For one that serves an older backend yet, another is made.

use std::sync::Arc;

/// Which backend it is, and how it came of the one before.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Another one for each backend.
    own: Arc<()>,
    before: Option<Arc<()>>,
    /// By server: its place in the one before, or [`NEW`].
    places: Box<[u32]>,
    /// Places of those that are not there any more.
    gone: Box<[u32]>,
}

/// It was not there before.
const NEW: u32 = u32::MAX;

impl Kept {
    /// `before` is how the backend before stands, and how many servers it has.
    pub(crate) fn new(places: &[Option<usize>], before: Option<(&Kept, usize)>) -> Kept {
        let mut is_gone = vec![true; before.map_or(0, |(_, servers)| servers)];
        places.iter().flatten().for_each(|&place| is_gone[place] = false);
        Kept {
            own: Arc::default(),
            before: before.map(|(before, _)| Arc::clone(&before.own)),
            places: places.iter().map(|place| place.map_or(NEW, |place| place as u32)).collect(),
            gone: (0u32..).zip(is_gone).filter_map(|(place, is_gone)| is_gone.then_some(place)).collect(),
        }
    }

    /// Whether it tells of servers of that backend.
    pub(crate) fn is_of(&self, old: &Kept) -> bool {
        self.before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &old.own))
    }

    /// By server: its place in the backend before; `None` of one that was not there.
    pub fn places(&self) -> impl Iterator<Item = Option<usize>> {
        self.places.iter().map(|&place| (place != NEW).then_some(place as usize))
    }

    /// The places there of those that are gone.
    pub fn gone(&self) -> impl Iterator<Item = usize> {
        self.gone.iter().map(|&place| place as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_of_the_backend_before_alone() {
        let first = Kept::new(&[None, None, None], None);
        let second = Kept::new(&[Some(2), None, Some(0)], Some((&first, 3)));
        let third = Kept::new(&[Some(0), Some(1), Some(2)], Some((&second, 3)));
        assert!(second.places().eq([Some(2), None, Some(0)]) && second.gone().eq([1]));
        assert!(third.places().eq([Some(0), Some(1), Some(2)]) && third.gone().count() == 0);
        assert!(second.is_of(&first) && third.is_of(&second));
        assert!(!third.is_of(&first) && !first.is_of(&third) && !first.is_of(&first));
    }
}
