//! Listing: entries that were found, and how many more there are.

use std::{slice, vec};

/// Entries that were found, and how many were left out because a list has a bound.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    entries: Vec<T>,
    left_out: usize,
}

impl<T> Listing<T> {
    pub(super) fn new(entries: Vec<T>, left_out: usize) -> Self {
        Self { entries, left_out }
    }

    /// Returns the entries, in the order that the function which made the list describes.
    pub fn entries(&self) -> &[T] {
        &self.entries
    }

    /// Returns how many entries were left out, because the list has a bound.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Returns an iterator over the entries.
    pub fn iter(&self) -> slice::Iter<'_, T> {
        self.entries.iter()
    }
}

impl<T> IntoIterator for Listing<T> {
    type Item = T;
    type IntoIter = vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Listing<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
