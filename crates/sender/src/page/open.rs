//! The positions of a page's targets that have been started and not ended.
//!
//! Targets are started in the order of their positions, and end in any. So the positions are a sorted list, to whose end is added; one that ends stays in its place as its
//! negative. A tree would be touched in more places for each target, and turned over.

/// A set of positions, which are above 0.
#[derive(Default)]
pub(super) struct Open(Vec<i64>);

impl Open {
    /// Adds one, mostly behind all others.
    pub(super) fn insert(&mut self, position: i64) {
        if self.0.last().is_none_or(|last| last.abs() < position) {
            return self.0.push(position);
        }
        match self.place(position) {
            Ok(at) => self.0[at] = position,
            Err(at) => self.0.insert(at, position),
        }
    }

    /// Takes one out. Was it there?
    pub(super) fn remove(&mut self, position: i64) -> bool {
        let at = self.place(position).ok().filter(|at| self.0[*at] > 0);
        if let Some(at) = at {
            self.0[at] = -position;
        }
        at.is_some()
    }

    /// All of them, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = i64> {
        self.0.iter().copied().filter(|position| *position > 0)
    }

    fn place(&self, position: i64) -> Result<usize, usize> {
        self.0.binary_search_by_key(&position, |position| position.abs())
    }
}

impl FromIterator<i64> for Open {
    fn from_iter<T: IntoIterator<Item = i64>>(positions: T) -> Self {
        let mut open = Self::default();
        positions.into_iter().for_each(|position| open.insert(position));
        open
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(steps in proptest::collection::vec((any::<bool>(), 1..40_i64), 0..200)) {
            let (mut open, mut model) = (Open::default(), BTreeSet::new());
            for (add, position) in steps {
                if add {
                    open.insert(position);
                    model.insert(position);
                } else {
                    prop_assert_eq!(open.remove(position), model.remove(&position));
                }
                prop_assert_eq!(open.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            }
        }
    }
}
