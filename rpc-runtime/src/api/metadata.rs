//! Metadata: the few entries that travel beside a message.

use std::{fmt, iter::FusedIterator, slice, vec};

use bytes::Bytes;

/// A list of entries that travel beside a message: keys are text, values are bytes.
///
/// Keys are stored in lower case, as in HTTP/2 and gRPC: the letters A to Z become small when an entry is added, also
/// when a peer has sent them. [`Metadata::get`] takes either case.
///
/// ```
/// use rpc_runtime::Metadata;
///
/// let mut metadata = Metadata::new();
/// metadata.insert("X-Trace", "42");
/// metadata.append("tag", "a");
/// metadata.append("tag", "b");
/// assert_eq!(metadata.get_str("x-trace"), Some("42"));
/// assert_eq!(metadata.get_str("X-TRACE"), Some("42"));
/// assert_eq!(metadata.get_all("tag").count(), 2);
///
/// metadata.extend([("tenant", "acme")]);
/// for (key, value) in &metadata {
///     println!("{key}: {} bytes", value.len());
/// }
/// assert_eq!(metadata.remove("tag").as_deref(), Some(&b"a"[..]));
/// assert!(!metadata.contains_key("tag"));
/// ```
///
/// # Limits
///
/// At most [`Metadata::MAX_ENTRIES`] entries and [`Metadata::MAX_LEN`] bytes travel. A key must not be empty, contain a
/// control character, or begin with `rpc-`, in whatever case: that prefix is reserved for the runtime. A call with
/// metadata that breaks a limit fails with INVALID_ARGUMENT before anything is sent;
/// [`Context::add_reply_metadata`](crate::Context::add_reply_metadata) returns an error; what a
/// [`Status`](crate::Status) brings beyond a limit is left out. Entries with a reserved key that a peer sends are
/// dropped, so no handler and no caller sees them.
///
/// `Debug` shows the keys and hides the values, because they may be secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata(
    /// None if there are no entries: most calls have none, and then carry one pointer.
    Option<Box<Entries>>,
);

#[derive(Clone, Default, PartialEq, Eq)]
struct Entries(Vec<(String, Bytes)>);

impl Metadata {
    /// The most entries that travel in one frame: 64.
    pub const MAX_ENTRIES: usize = 64;
    /// The most bytes that all keys and values of one frame have together: 8 KiB.
    pub const MAX_LEN: usize = 8 * 1024;

    /// The key of the entry that shows who calls.
    pub(crate) const AUTHORIZATION: &str = "authorization";
    /// How the value of that entry begins, if it is a token.
    pub(crate) const BEARER: &str = "Bearer ";

    /// Creates an empty list.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Sets the value of `key`: the new entry replaces all entries with this key.
    ///
    /// Returns the first value that was replaced, if there was one. [`Metadata::append`] keeps the older entries.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Option<Bytes> {
        let key = key.into();
        let replaced = self.remove(&key);
        self.append(key, value);
        replaced
    }

    /// Adds an entry and keeps older entries with the same key.
    pub fn append(&mut self, key: impl Into<String>, value: impl Into<Bytes>) {
        let mut key = key.into();
        key.make_ascii_lowercase();
        let entries = &mut self.0.get_or_insert_default().0;
        entries.push((key, value.into()));
    }

    /// Removes all entries with `key`, and returns the first value, if there was one.
    pub fn remove(&mut self, key: &str) -> Option<Bytes> {
        if !self.contains_key(key) {
            return None;
        }
        let entries = &mut self.0.as_mut()?.0;
        let mut first = None;
        entries.retain_mut(|(own, value)| {
            let is_kept = !own.eq_ignore_ascii_case(key);
            if !is_kept && first.is_none() {
                first = Some(std::mem::take(value));
            }
            is_kept
        });
        // An empty list is always `None`.
        self.0.take_if(|entries| entries.0.is_empty());
        first
    }

    /// Removes the entries with `key` among the first `count` entries, and returns how many of these are left.
    pub(crate) fn remove_among_first(&mut self, count: usize, key: &str) -> usize {
        let Some(entries) = &mut self.0 else { return 0 };
        let (mut at, mut left) = (0, count);
        entries.0.retain(|(own, _)| {
            let is_kept = at >= count || !own.eq_ignore_ascii_case(key);
            at += 1;
            left -= usize::from(!is_kept);
            is_kept
        });
        // An empty list is always `None`.
        self.0.take_if(|entries| entries.0.is_empty());
        left
    }

    /// Returns the first value of `key`.
    pub fn get(&self, key: &str) -> Option<&Bytes> {
        self.get_all(key).next()
    }

    /// Returns the first value of `key` as text; `None` if it is not UTF-8.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Returns all values of `key`, in the order in which they were added.
    pub fn get_all(&self, key: &str) -> impl Iterator<Item = &Bytes> {
        let entries = self.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(key));
        entries.map(|(_, value)| value)
    }

    /// Returns true if there is an entry with `key`.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Returns all entries, in the order in which they were added.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.entries().iter())
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Returns true if there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The number of bytes that all keys and values have together.
    pub fn byte_len(&self) -> usize {
        self.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    /// The memory that the entries take, about, in bytes.
    #[inline]
    pub(crate) fn held_len(&self) -> u64 {
        match self.is_empty() {
            true => 0,
            false => (self.byte_len() + self.len() * ENTRY_LEN) as u64,
        }
    }

    /// Returns true if the entries fit into one frame.
    pub(crate) fn fits(&self) -> bool {
        self.len() <= Self::MAX_ENTRIES && self.byte_len() <= Self::MAX_LEN
    }

    /// Checks a key that a user gives; the error names the key and what to do.
    ///
    /// The one rule for calls, replies and statuses. Frames from a peer are only checked for [`Metadata::is_reserved`]:
    /// a key that is odd in another way concerns handlers alone.
    pub(crate) fn check_key(key: &str) -> Result<(), String> {
        let fault = if key.is_empty() {
            "is empty: give the entry a name"
        } else if Self::is_reserved(key) {
            "is reserved: give it another prefix than \"rpc-\""
        } else if key.chars().any(char::is_control) {
            "contains a control character: use letters, digits, '-', '_' and '.'"
        } else {
            return Ok(());
        };
        // A long key is cut, because the text travels in a status.
        let (key, more) = match key.char_indices().nth(SHOWN) {
            Some((end, _)) => (&key[..end], "…"),
            None => (key, ""),
        };
        Err(format!("metadata key {key:?}{more} {fault}"))
    }

    /// Checks all keys as [`Metadata::check_key`] does.
    pub(crate) fn check_keys(&self) -> Result<(), String> {
        self.iter().try_for_each(|(key, _)| Self::check_key(key))
    }

    /// Returns true if `key` belongs to the runtime: such an entry is never sent for a user, and never shown to one.
    pub(crate) fn is_reserved(key: &str) -> bool {
        let prefix = key.as_bytes().get(..RESERVED.len());
        prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(RESERVED))
    }

    fn entries(&self) -> &[(String, Bytes)] {
        self.0.as_ref().map_or(&[], |entries| &entries.0)
    }
}

/// Adds each entry as [`Metadata::append`] does.
impl<K: Into<String>, V: Into<Bytes>> Extend<(K, V)> for Metadata {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.append(key, value);
        }
    }
}

/// Adds each entry as [`Metadata::append`] does.
impl<K: Into<String>, V: Into<Bytes>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut metadata = Self::new();
        metadata.extend(entries);
        metadata
    }
}

/// Adds each entry as [`Metadata::append`] does.
impl<K: Into<String>, V: Into<Bytes>, const N: usize> From<[(K, V); N]> for Metadata {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl IntoIterator for Metadata {
    type Item = (String, Bytes);
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        let entries = self.0.map(|entries| entries.0);
        IntoIter(entries.unwrap_or_default().into_iter())
    }
}

impl<'a> IntoIterator for &'a Metadata {
    type Item = (&'a str, &'a Bytes);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (key, value) in self {
            map.entry(&key, &format_args!("[{} bytes]", value.len()));
        }
        map.finish()
    }
}

/// An iterator over the entries of a [`Metadata`]: see [`Metadata::iter`].
#[derive(Clone)]
pub struct Iter<'a>(slice::Iter<'a, (String, Bytes)>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a Bytes);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (key.as_str(), value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(key, value)| (key.as_str(), value))
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}

/// Shows how many entries are left.
impl fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// An iterator that takes the entries out of a [`Metadata`].
pub struct IntoIter(vec::IntoIter<(String, Bytes)>);

impl Iterator for IntoIter {
    type Item = (String, Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for IntoIter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back()
    }
}

impl ExactSizeIterator for IntoIter {}
impl FusedIterator for IntoIter {}

/// Shows how many entries are left.
impl fmt::Debug for IntoIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoIter")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// The prefix of the runtime's own keys.
const RESERVED: &[u8] = b"rpc-";
/// The memory that an entry takes beside its bytes: two pointers with their lengths, and the allocator's overhead of each.
const ENTRY_LEN: usize = 96;
/// The most characters of a key that an error shows.
const SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(metadata: &Metadata) -> Vec<&str> {
        metadata.iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn debug_hides_values() {
        let metadata = Metadata::from([("authorization", "secret")]);
        assert_eq!(format!("{metadata:?}"), "{\"authorization\": [6 bytes]}");
        assert_eq!(format!("{:?}", metadata.iter()), "Iter { len: 1, .. }");
        assert_eq!(format!("{:?}", metadata.into_iter()), "IntoIter { len: 1, .. }");
    }

    #[test]
    fn keys_become_lower_case() {
        let metadata = Metadata::from([("X-Trace", "1"), ("x-TRACE", "2"), ("Größe", "3")]);
        assert_eq!(keys(&metadata), ["x-trace", "x-trace", "größe"]);
        assert_eq!(metadata.get_str("X-Trace"), Some("1"));
        assert_eq!(metadata.get_str("GRöße"), Some("3"));
        assert_eq!(metadata.get("trace"), None);
    }

    #[test]
    fn insert_replaces_and_append_adds() {
        let mut metadata = Metadata::from([("a", "1"), ("b", "2"), ("A", "3")]);
        assert_eq!(metadata.get_all("a").collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!(metadata.insert("A", "4").as_deref(), Some(&b"1"[..]));
        assert_eq!(keys(&metadata), ["b", "a"]);
        assert_eq!(metadata.insert("c", "5"), None);
        assert_eq!(metadata.len(), 3);
    }

    #[test]
    fn the_last_entry_that_is_removed_leaves_an_empty_list() {
        let mut metadata = Metadata::from([("a", "1"), ("a", "2")]);
        assert_eq!(metadata.remove("b"), None);
        assert_eq!(metadata.remove("A").as_deref(), Some(&b"1"[..]));
        assert!(metadata.is_empty());
        assert_eq!(metadata, Metadata::new());
    }

    #[test]
    fn entries_are_removed_among_the_first_alone() {
        let mut metadata = Metadata::from([("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")]);
        assert_eq!(metadata.remove_among_first(3, "A"), 1);
        assert_eq!(metadata, Metadata::from([("b", "2"), ("a", "4")]));
        assert_eq!(metadata.remove_among_first(1, "a"), 1);
        assert_eq!(metadata.remove_among_first(1, "b"), 0);
        assert_eq!(metadata.remove_among_first(0, "a"), 0);
        assert_eq!(metadata, Metadata::from([("a", "4")]));
        assert_eq!(metadata.remove_among_first(1, "a"), 0);
        assert!(metadata.is_empty());
    }

    #[test]
    fn entries_are_taken_out_and_put_in() {
        let mut metadata = Metadata::from([("a", "1"), ("b", "2")]);
        let others = Metadata::from([("a", "3")]);
        metadata.extend(others.clone());
        assert_eq!(keys(&metadata), ["a", "b", "a"]);
        let (first, rest): (Metadata, Metadata) = metadata.into_iter().partition(|(_, value)| value != "3");
        assert_eq!((first.len(), rest), (2, others));
    }

    #[test]
    fn too_many_bytes_do_not_fit() {
        let metadata = Metadata::from([("k", vec![0; Metadata::MAX_LEN])]);
        assert!(!metadata.fits());
    }

    #[test]
    fn a_key_that_may_not_travel_is_named_with_the_reason() {
        for key in ["x-trace", "Größe", "rpc", "xrpc-", "a b"] {
            assert_eq!(Metadata::check_key(key), Ok(()), "{key}");
        }
        for (key, expected) in [
            ("", "metadata key \"\" is empty: give the entry a name"),
            (
                "RPC-depth",
                "metadata key \"RPC-depth\" is reserved: give it another prefix than \"rpc-\"",
            ),
            (
                "a\nb",
                "metadata key \"a\\nb\" contains a control character: use letters, digits, '-', '_' and '.'",
            ),
        ] {
            assert_eq!(Metadata::check_key(key).unwrap_err(), expected);
            assert!(Metadata::from([("ok", "1"), (key, "2")]).check_keys().is_err());
        }
        let long = Metadata::check_key(&format!("rpc-{}", "é".repeat(1000))).unwrap_err();
        assert!(long.len() < 300 && long.contains("\"… is reserved"), "{long}");
    }
}
