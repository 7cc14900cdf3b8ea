//! Which servers a backend took over from the one before it, worked out once, for all that workers keep by server.
//!
//! In goes what `stays` found by identity; out come places, for a worker that serves exactly the backend before. Without it every worker would look
//! all servers up itself, on the thread that requests wait for: 4 ms for 10,000 of them. One that serves another backend yet is given nothing, and has to look.

use std::sync::Arc;

/// Which backend it is, and how it came of the one before.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Another one for each backend.
    own: Arc<()>,
    before: Option<Arc<()>>,
    /// By server: its place in the one before, or [`NEW`].
    places: Box<[u32]>,
    /// Places of those that are not there any more.
    gone: Box<[u32]>,
}

/// It was not there before.
pub(crate) const NEW: u32 = u32::MAX;

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

    /// By server its place in `old`, and the places there of those that are gone; `None` if `old` is not the one before.
    pub(crate) fn of(&self, old: &Kept) -> Option<(&[u32], &[u32])> {
        let before = self.before.as_ref()?;
        Arc::ptr_eq(before, &old.own).then_some((&*self.places, &*self.gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_serves_another_backend_is_given_no_places() {
        let first = Kept::new(&[None, None, None], None);
        let second = Kept::new(&[Some(2), None, Some(0)], Some((&first, 3)));
        let third = Kept::new(&[Some(0), Some(1), Some(2)], Some((&second, 3)));
        assert_eq!(second.of(&first), Some((&[2, NEW, 0][..], &[1][..])));
        assert_eq!(third.of(&second), Some((&[0, 1, 2][..], &[][..])));
        assert_eq!((third.of(&first), first.of(&third), first.of(&first)), (None, None, None));
    }
}
