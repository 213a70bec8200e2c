//! Mapping: how values of one type are written as JSON and read from it.

use std::{fmt, marker::PhantomData};

use serde_core::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error, Visitor},
};

/// How values of type `T` are written and read; implemented by types without values.
pub trait Mapping<T> {
    /// Writes `value`.
    fn write<S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error>;

    /// Reads a value.
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<T, D::Error>;

    /// The value that `null` stands for in a field; none if it means that the field is absent.
    fn null() -> Option<T> {
        None
    }
}

/// Generated messages, and other types with serde's traits.
#[derive(Debug)]
pub struct Message;

impl<T: Serialize + for<'de> Deserialize<'de>> Mapping<T> for Message {
    fn write<S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        value.serialize(to)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        T::deserialize(from)
    }
}

/// A value that serde writes with the mapping `M`.
pub(super) struct As<'a, T, M>(&'a T, PhantomData<M>);

impl<'a, T, M: Mapping<T>> As<'a, T, M> {
    pub(super) fn new(value: &'a T) -> Self {
        Self(value, PhantomData)
    }
}

impl<T, M: Mapping<T>> Serialize for As<'_, T, M> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        M::write(self.0, to)
    }
}

/// Reads a value with the mapping `M`; `null` is no value.
pub(super) struct One<T, M>(PhantomData<(T, M)>);

impl<T, M: Mapping<T>> One<T, M> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, T, M: Mapping<T>> DeserializeSeed<'de> for One<T, M> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        M::read(from)
    }
}

/// Reads the value of a field with the mapping `M`; `null` is what the mapping says.
pub(super) struct Nullable<T, M>(PhantomData<(T, M)>);

impl<T, M: Mapping<T>> Nullable<T, M> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, T, M: Mapping<T>> DeserializeSeed<'de> for Nullable<T, M> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<T>, D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de, T, M: Mapping<T>> Visitor<'de> for Nullable<T, M> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_none<E: Error>(self) -> Result<Option<T>, E> {
        Ok(M::null())
    }

    fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
        Ok(M::null())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Option<T>, D::Error> {
        M::read(from).map(Some)
    }
}
