//! Table: calls and requests by their ids.

use std::iter;

use super::{
    ids::IdMap,
    tuning::{RING_LEAST, RING_MOST},
};

/// Entries by id, for ids that are given one after the other: the calls of one side.
///
/// Each entry lies in a ring, at the place that its id gives. An entry that lasts longer than its neighbours moves into a map
/// when another one needs its place.
#[derive(Debug)]
pub(super) struct Table<V> {
    /// A power of two of places, or none.
    ring: Vec<Option<(u64, V)>>,
    /// How many of the places are taken.
    taken: usize,
    old: IdMap<V>,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self {
            ring: Vec::new(),
            taken: 0,
            old: IdMap::default(),
        }
    }
}

impl<V> Table<V> {
    /// Adds an entry under a free id.
    ///
    /// `make` runs only when the place is free, so that the entry is written there and nowhere else.
    #[inline(always)]
    pub(super) fn insert(&mut self, id: u64, make: impl FnOnce() -> V) {
        if let Some(place) = self.clear(id) {
            *place = Some((id, make()));
        }
    }

    /// The place of an id, with nothing in it; it counts as taken.
    #[inline(always)]
    fn clear(&mut self, id: u64) -> Option<&mut Option<(u64, V)>> {
        if 2 * self.taken >= self.ring.len() && self.ring.len() < RING_MOST {
            self.grow();
        }
        let place = self.place(id);
        let place = self.ring.get_mut(place)?;
        if place.is_some() {
            Self::keep(place, &mut self.old);
        } else {
            self.taken += 1;
        }
        Some(place)
    }

    /// What is there under `id`.
    #[inline]
    pub(super) fn get(&self, id: u64) -> Option<&V> {
        match self.ring.get(self.place(id)) {
            Some(Some((found, value))) if *found == id => Some(value),
            _ if self.old.is_empty() => None,
            _ => self.old.get(&id),
        }
    }

    /// What is there under `id`, to be changed.
    #[inline]
    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut V> {
        let place = self.place(id);
        match self.ring.get_mut(place) {
            Some(Some((found, value))) if *found == id => Some(value),
            _ if self.old.is_empty() => None,
            _ => self.old.get_mut(&id),
        }
    }

    /// Takes out what is there under `id`.
    pub(super) fn remove(&mut self, id: u64) -> Option<V> {
        let place = self.place(id);
        match self.ring.get_mut(place) {
            Some(place) if place.as_ref().is_some_and(|(found, _)| *found == id) => {
                self.taken -= 1;
                place.take().map(|(_, value)| value)
            }
            _ => self.old.remove(&id),
        }
    }

    /// Drops what is there under `id`, where it lies.
    #[inline]
    pub(super) fn discard(&mut self, id: u64) {
        let place = self.place(id);
        match self.ring.get_mut(place) {
            Some(place) if place.as_ref().is_some_and(|(found, _)| *found == id) => {
                *place = None;
                self.taken -= 1;
            }
            _ => drop(self.old.remove(&id)),
        }
    }

    /// Drops what is there under `id`, where it lies, and returns what `f` found out about it.
    #[inline]
    pub(super) fn discard_after<R>(&mut self, id: u64, f: impl FnOnce(&mut V) -> R) -> Option<R> {
        let index = self.place(id);
        if let Some(place) = self.ring.get_mut(index) {
            if let Some((_, value)) = place.as_mut().filter(|(found, _)| *found == id) {
                let found = f(value);
                *place = None;
                self.taken -= 1;
                return Some(found);
            }
        }
        self.old.remove(&id).map(|mut value| f(&mut value))
    }

    /// Everything, with its id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        let young = self.ring.iter().flatten().map(|(id, value)| (*id, value));
        let old = self.old.iter().map(|(id, value)| (*id, value));
        young.take(self.taken).chain(old)
    }

    /// Everything.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.taken + self.old.len()
    }

    /// True if there is nothing.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.taken == 0 && self.old.is_empty()
    }

    /// For how many there is memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.ring.capacity() + self.old.capacity()
    }

    /// The place of an id: neighbours of one side are two apart.
    #[inline]
    fn place(&self, id: u64) -> usize {
        (id >> 1) as usize & self.ring.len().wrapping_sub(1)
    }

    /// What is in a place goes on in the map.
    #[cold]
    fn keep(place: &mut Option<(u64, V)>, old: &mut IdMap<V>) {
        if let Some((id, value)) = place.take() {
            old.insert(id, value);
        }
    }

    /// Twice as many places: two that had different ones still do.
    #[cold]
    fn grow(&mut self) {
        let len = (2 * self.ring.len()).max(RING_LEAST);
        let places = iter::repeat_with(|| None).take(len).collect();
        for (id, value) in std::mem::replace(&mut self.ring, places).into_iter().flatten() {
            let place = self.place(id);
            self.ring[place] = Some((id, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn all(table: &Table<u64>) -> BTreeMap<u64, u64> {
        table.iter().map(|(id, &value)| (id, value)).collect()
    }

    #[test]
    fn lasting_entries_are_found_among_passing_ones() {
        // Xorshift: the same numbers each time.
        let mut state = 7_u64;
        let mut below = |end: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % end
        };
        let mut table = Table::default();
        let mut expected = BTreeMap::new();
        let mut id = 1;
        for step in 0..100_000_u64 {
            id += 2 * (1 + below(3));
            table.insert(id, || step);
            expected.insert(id, step);
            let most = [3, 40, 700][step as usize / 10_000 % 3];
            while expected.len() > most {
                // Mostly the oldest, but for some that stay.
                let skipped = below(most as u64) as usize;
                let leaves = *expected.keys().nth(skipped).unwrap();
                assert_eq!(table.get(leaves), expected.get(&leaves));
                if step % 2 == 0 {
                    table.discard(leaves);
                    expected.remove(&leaves);
                }
                assert_eq!(table.remove(leaves), expected.remove(&leaves));
                assert_eq!(table.remove(leaves), None);
                assert_eq!(table.get_mut(leaves), None);
            }
            assert_eq!(table.len(), expected.len());
            if step % 1000 == 0 {
                assert_eq!(all(&table), expected);
            }
        }
        for (id, mut value) in expected {
            assert_eq!(table.get_mut(id), Some(&mut value));
            assert_eq!(table.remove(id), Some(value));
        }
        assert!(table.is_empty());
    }

    #[test]
    fn colliding_ids_do_not_grow_the_table_beyond_their_number() {
        let mut table = Table::default();
        for n in 0..100 {
            table.insert(1 + (n << 40), || n);
        }
        assert_eq!(table.len(), 100);
        assert!(table.capacity() < 400, "{}", table.capacity());
        for n in 0..100 {
            assert_eq!(table.remove(1 + (n << 40)), Some(n));
        }
        assert!(table.is_empty());
    }

    #[test]
    fn an_empty_table_has_no_entries_and_no_memory() {
        let mut table: Table<u64> = Table::default();
        assert_eq!(table.get(1), None);
        assert_eq!(table.remove(1), None);
        assert_eq!(table.capacity(), 0);
        table.insert(1, || 1);
        assert_eq!(table.capacity(), RING_LEAST);
    }
}
