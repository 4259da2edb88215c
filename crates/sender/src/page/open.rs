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

    /// Positions lie about as evenly as the devices of an app do, so that a position tells where it is found: a search of the whole list would touch it in ten places.
    fn place(&self, position: i64) -> Result<usize, usize> {
        let guess = self.guess(position);
        let at = |place: usize| self.0[place].abs();
        if self.0.get(guess).is_some_and(|found| found.abs() == position) {
            return Ok(guess);
        }
        let mut width = 8;
        loop {
            let (low, high) = (guess.saturating_sub(width), self.0.len().min(guess + width));
            if (low == 0 || at(low) <= position) && (high == self.0.len() || at(high) > position) {
                let found = self.0[low..high].binary_search_by_key(&position, |position| position.abs());
                return found.map(|place| low + place).map_err(|place| low + place);
            }
            width *= 4;
        }
    }

    /// Where a position would be if all lay evenly between the first and the last.
    fn guess(&self, position: i64) -> usize {
        let (Some(first), Some(last)) = (self.0.first(), self.0.last()) else {
            return 0;
        };
        let (first, last) = (first.abs(), last.abs());
        if position <= first || last <= first {
            return 0;
        }
        let (part, whole) = (position.min(last).abs_diff(first), last.abs_diff(first));
        let steps = self.0.len() - 1;
        let guess = u128::from(part) * steps as u128 / u128::from(whole);
        usize::try_from(guess).unwrap_or(steps)
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

    /// Close together, far apart, and both.
    fn positions() -> impl Strategy<Value = i64> {
        prop_oneof![1..40_i64, 1..2_000_i64, 1..i64::MAX, i64::MAX - 40..i64::MAX]
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in proptest::collection::vec((any::<bool>(), positions()), 0..300)) {
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
            for position in model {
                prop_assert!(open.remove(position));
            }
            prop_assert_eq!(open.iter().count(), 0);
        }
    }
}
