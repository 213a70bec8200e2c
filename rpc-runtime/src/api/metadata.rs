//! Metadata: the few entries that travel beside a message.

use std::fmt;

use bytes::Bytes;

/// A list of entries beside a message: keys are text, values are bytes.
///
/// Keys have no capitals, as in HTTP/2 and gRPC: the letters A to Z become small ones when an entry is inserted, also when a
/// peer has sent them, and [`Metadata::get`] takes either.
///
/// ```
/// let mut metadata = rpc_runtime::Metadata::new();
/// metadata.insert("X-Trace", "42");
/// assert_eq!(metadata.get_str("x-trace"), Some("42"));
/// assert_eq!(metadata.get_str("X-TRACE"), Some("42"));
/// assert_eq!(metadata.iter().next().unwrap().0, "x-trace");
/// ```
///
/// At most [`Metadata::MAX_ENTRIES`] entries and [`Metadata::MAX_LEN`] bytes travel; a call with more fails before
/// it is sent. `Debug` shows the keys and hides the values, for they may be secret.
#[derive(Clone, Default, PartialEq)]
pub struct Metadata(
    /// None if there are none: most calls have none, and carry no more than a pointer for them.
    Option<Box<Entries>>,
);

#[derive(Clone, Default, PartialEq)]
struct Entries(Vec<(String, Bytes)>);

impl Metadata {
    /// How many entries may travel in one frame.
    pub const MAX_ENTRIES: usize = 64;
    /// How many bytes all keys and values of one frame may have together.
    pub const MAX_LEN: usize = 8 * 1024;

    /// No entries.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Appends an entry; a key may stand several times, and its capitals become small letters.
    ///
    /// Keys that begin with `rpc-` are reserved for the runtime, whatever the case of their letters: nothing is sent with one.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Bytes>) {
        let mut key = key.into();
        key.make_ascii_lowercase();
        let entries = &mut self.0.get_or_insert_default().0;
        entries.push((key, value.into()));
    }

    /// The first value of `key`, however it is capitalised.
    pub fn get(&self, key: &str) -> Option<&Bytes> {
        let mut entries = self.iter();
        entries
            .find(|(k, _)| k.eq_ignore_ascii_case(key))
            .map(|(_, value)| value)
    }

    /// The first value of `key`, if it is text.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All entries, in the order in which they were inserted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.entries().iter().map(|(key, value)| (key.as_str(), value))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many bytes all keys and values have together.
    pub fn byte_len(&self) -> usize {
        self.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    /// How much memory they take, about.
    #[inline]
    pub(crate) fn held_len(&self) -> u64 {
        match self.is_empty() {
            true => 0,
            false => (self.byte_len() + self.len() * ENTRY_LEN) as u64,
        }
    }

    /// Whether `key` is none that users may give.
    pub(crate) fn is_reserved(key: &str) -> bool {
        let prefix = key.as_bytes().get(..RESERVED.len());
        prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(RESERVED))
    }

    /// The first key that no user may give.
    pub(crate) fn reserved_key(&self) -> Option<&str> {
        self.iter().map(|(key, _)| key).find(|key| Self::is_reserved(key))
    }

    /// What is said of a key that no user may give.
    pub(crate) fn reserved_text(key: &str) -> String {
        format!("metadata key {key:?} is reserved: give it another prefix than \"rpc-\"")
    }

    /// Whether the entries may travel in one frame.
    pub(crate) fn fits(&self) -> bool {
        self.len() <= Self::MAX_ENTRIES && self.byte_len() <= Self::MAX_LEN
    }

    fn entries(&self) -> &[(String, Bytes)] {
        self.0.as_ref().map_or(&[], |entries| &entries.0)
    }
}

impl<K: Into<String>, V: Into<Bytes>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut metadata = Self::new();
        for (key, value) in entries {
            metadata.insert(key, value);
        }
        metadata
    }
}

/// What the keys begin with that are the runtime's own.
const RESERVED: &[u8] = b"rpc-";
/// What an entry takes beside its bytes: two pointers with their lengths, and what the allocator adds to each.
const ENTRY_LEN: usize = 96;

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (key, value) in self.iter() {
            map.entry(&key, &format_args!("[{} bytes]", value.len()));
        }
        map.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_values() {
        let metadata: Metadata = [("authorization", "secret")].into_iter().collect();
        assert_eq!(format!("{metadata:?}"), "{\"authorization\": [6 bytes]}");
    }

    #[test]
    fn keys_have_no_capitals_whoever_makes_them() {
        let metadata: Metadata = [("X-Trace", "1"), ("x-TRACE", "2"), ("Größe", "3")]
            .into_iter()
            .collect();
        let keys: Vec<_> = metadata.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["x-trace", "x-trace", "größe"]);
        assert_eq!(metadata.get_str("X-Trace"), Some("1"));
        assert_eq!(metadata.get_str("GRöße"), Some("3"));
        assert_eq!(metadata.get("trace"), None);
    }

    #[test]
    fn too_many_bytes_do_not_fit() {
        let metadata: Metadata = [("k", vec![0; Metadata::MAX_LEN])].into_iter().collect();
        assert!(!metadata.fits());
    }
}
