//! Repeated fields as arrays, and maps as objects.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
    marker::PhantomData,
};

use serde_core::{
    Deserializer, Serializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Unexpected, Visitor},
};

use super::mapping::{As, Mapping, One};

/// A repeated field; `M` is the mapping of one element.
#[derive(Debug)]
pub struct List<M>(PhantomData<M>);

impl<T, M: Mapping<T>> Mapping<Vec<T>> for List<M> {
    fn write<S: Serializer>(value: &Vec<T>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(value.iter().map(As::<T, M>::new))
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
        from.deserialize_seq(ListVisitor::<T, M>(PhantomData))
    }
}

struct ListVisitor<T, M>(PhantomData<(T, M)>);

impl<'de, T, M: Mapping<T>> Visitor<'de> for ListVisitor<T, M> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(One::<T, M>::new())? {
            list.push(element);
        }
        Ok(list)
    }
}

/// A map field; `M` is the mapping of one value.
///
/// It is written in the order of its keys, so that equal messages give equal text.
#[derive(Debug)]
pub struct Map<M>(PhantomData<M>);

impl<K: MapKey + Ord + Hash, T, M: Mapping<T>> Mapping<HashMap<K, T>> for Map<M> {
    fn write<S: Serializer>(value: &HashMap<K, T>, to: S) -> Result<S::Ok, S::Error> {
        let mut entries: Vec<(&K, &T)> = value.iter().collect();
        entries.sort_by_key(|(key, _)| *key);
        let entries = entries.into_iter();
        to.collect_map(entries.map(|(key, value)| (key.text(), As::<T, M>::new(value))))
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<HashMap<K, T>, D::Error> {
        let entries = from.deserialize_map(MapVisitor::<K, T, M>(PhantomData))?;
        Ok(entries.into_iter().collect())
    }
}

impl<K: MapKey + Ord, T, M: Mapping<T>> Mapping<BTreeMap<K, T>> for Map<M> {
    fn write<S: Serializer>(value: &BTreeMap<K, T>, to: S) -> Result<S::Ok, S::Error> {
        let entries = value.iter();
        to.collect_map(entries.map(|(key, value)| (key.text(), As::<T, M>::new(value))))
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<K, T>, D::Error> {
        from.deserialize_map(MapVisitor::<K, T, M>(PhantomData))
    }
}

struct MapVisitor<K, T, M>(PhantomData<(K, T, M)>);

impl<'de, K: MapKey + Ord, T, M: Mapping<T>> Visitor<'de> for MapVisitor<K, T, M> {
    type Value = BTreeMap<K, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object whose keys are {}", K::EXPECTED)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<BTreeMap<K, T>, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(key) = entries.next_key_seed(KeySeed::<K>(PhantomData))? {
            let value = entries.next_value_seed(One::<T, M>::new())?;
            if map.insert(key, value).is_some() {
                return Err(A::Error::custom("a key appears twice in a map"));
            }
        }
        Ok(map)
    }
}

/// A type of map keys; JSON's keys are always text.
pub trait MapKey: Sized {
    /// What the keys are, for errors.
    const EXPECTED: &'static str;

    /// The key as text.
    fn text(&self) -> String;

    /// The key in `text`.
    fn parse(text: &str) -> Option<Self>;
}

macro_rules! keys {
    ($($ty:ident $expected:literal)*) => { $(
        impl MapKey for $ty {
            const EXPECTED: &'static str = $expected;

            fn text(&self) -> String {
                self.to_string()
            }

            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )* };
}

keys! {
    String "text" bool "true and false"
    i32 "integers in the range of i32" i64 "integers in the range of i64"
    u32 "integers in the range of u32" u64 "integers in the range of u64"
}

struct KeySeed<K>(PhantomData<K>);

impl<'de, K: MapKey> DeserializeSeed<'de> for KeySeed<K> {
    type Value = K;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<K, D::Error> {
        from.deserialize_str(self)
    }
}

impl<K: MapKey> Visitor<'_> for KeySeed<K> {
    type Value = K;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(K::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<K, E> {
        K::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}
