//! Recent: a table of the callers that called last, of a bounded size.

use std::collections::{BTreeMap, HashMap};

use super::key_of::Key;

/// A table of values of the keys that were used last, of a bounded size.
///
/// If it is full, a new key takes the place and also the value of the key that was not used for longest. So many keys
/// together have never more than a full table of values: a caller gains nothing by changing its name.
#[derive(Debug)]
pub(super) struct Recent<V> {
    max: usize,
    /// How often the table was used.
    uses: u64,
    entries: HashMap<Key, RecentEntry<V>>,
    /// The keys by when they were used.
    by_use: BTreeMap<u64, Key>,
}

#[derive(Debug)]
struct RecentEntry<V> {
    value: V,
    used: u64,
}

impl<V: Default> Recent<V> {
    /// Makes a table of at most `max` keys, at least 1.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            uses: 0,
            entries: HashMap::new(),
            by_use: BTreeMap::new(),
        }
    }

    /// Returns the value of `key`, which now was used last.
    pub(super) fn value(&mut self, key: Key) -> &mut V {
        self.uses += 1;
        let used = self.uses;
        let value = match self.entries.remove(&key) {
            Some(entry) => {
                self.by_use.remove(&entry.used);
                entry.value
            }
            None => self.take_oldest().unwrap_or_default(),
        };
        self.by_use.insert(used, key);
        &mut self
            .entries
            .entry(key)
            .insert_entry(RecentEntry { value, used })
            .into_mut()
            .value
    }

    /// Removes the key that was not used for longest, if the table is full. Returns its value.
    fn take_oldest(&mut self) -> Option<V> {
        if self.entries.len() < self.max {
            return None;
        }
        let (_, key) = self.by_use.pop_first()?;
        self.entries.remove(&key).map(|entry| entry.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_takes_the_place_and_the_value_of_the_oldest() {
        let mut table = Recent::<u64>::new(3);
        for key in [1, 2, 3] {
            *table.value(key) = key as u64 * 10;
        }
        assert_eq!(*table.value(1), 10, "1 is used again, so 2 is the oldest");
        assert_eq!(*table.value(4), 20);
        assert_eq!(*table.value(1), 10);
        assert_eq!(*table.value(2), 30, "2 was forgotten, and takes the place of 3");
    }

    #[test]
    fn no_number_of_keys_makes_it_longer() {
        let mut table = Recent::<u64>::new(100);
        for key in 0..100_000 {
            *table.value(key) += 1;
        }
        assert_eq!((table.entries.len(), table.by_use.len()), (100, 100));
        let values: u64 = table.entries.values().map(|entry| entry.value).sum();
        assert_eq!(values, 100_000, "nothing that was used is forgotten");
        assert_eq!(Recent::<u64>::new(0).max, 1);
    }
}
