//! RarePart: a part that few values have.

use std::mem::ManuallyDrop;

/// A part that few values have: an `Option` whose drop is one comparison if there is none.
///
/// Of an `Option` the compiler makes one destructor for both cases, and calls it for both if the part's own one is long.
pub(crate) struct RarePart<T>(Option<ManuallyDrop<T>>);

impl<T> RarePart<T> {
    /// No part.
    pub(crate) const NONE: Self = Self(None);

    /// Has `part`.
    #[inline]
    pub(crate) fn some(part: T) -> Self {
        Self(Some(ManuallyDrop::new(part)))
    }

    /// The part; none if there is none.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// The part, to change it; none if there is none.
    #[inline]
    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// The part, which is made if there is none.
    #[inline]
    pub(crate) fn get_or_insert_default(&mut self) -> &mut T
    where
        T: Default,
    {
        self.0.get_or_insert_default()
    }
}

impl<T> Drop for RarePart<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(part) = self.0.take() {
            drop_part(part);
        }
    }
}

#[inline(never)]
fn drop_part<T>(part: ManuallyDrop<T>) {
    drop(ManuallyDrop::into_inner(part));
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_part_is_dropped_once_when_it_is_replaced_and_with_its_owner() {
        let part = Rc::new(());
        let mut rare = RarePart::NONE;
        assert!(rare.get().is_none());
        rare = RarePart::some(Rc::clone(&part));
        assert!(rare.get().is_some());
        rare = RarePart::some(Rc::clone(&part));
        assert_eq!(Rc::strong_count(&part), 2);
        drop(rare);
        assert_eq!(Rc::strong_count(&part), 1);
    }
}
