//! Object: a message as a JSON object, field by field.

use std::{fmt, marker::PhantomData};

use serde_core::{
    Deserializer, Serializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor},
    ser::{Error as _, SerializeMap},
};

use super::{
    depth::JsonDepth,
    mapping::{As, Mapping, Nullable},
};

/// A message whose fields can be written and read; generated code implements it.
pub trait Object: Default {
    /// The full name in the .proto file.
    const NAME: &'static str;
    /// The fields; `read` gets their indices.
    const FIELDS: &'static [Field];
    /// True if fields with other names are skipped.
    const SKIPS_UNKNOWN: bool;

    /// Writes all fields that are set.
    fn write<S: SerializeMap>(&self, out: &mut ObjectWriter<S>) -> Result<(), S::Error>;

    /// Reads the value of field number `index` of `FIELDS`.
    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        index: usize,
        input: &mut ObjectReader<A>,
    ) -> Result<(), A::Error>;
}

/// The names of a field.
#[derive(Debug)]
pub struct Field {
    json: &'static str,
    proto: &'static str,
    is_required: bool,
}

impl Field {
    /// A field with its names in JSON and in the .proto file; both are read, the first one is written.
    pub const fn new(json: &'static str, proto: &'static str) -> Self {
        Self {
            json,
            proto,
            is_required: false,
        }
    }

    /// Marks a `required` field of proto2.
    pub const fn required(mut self) -> Self {
        self.is_required = true;
        self
    }
}

/// Writes `message`; it is the `serialize` of generated messages.
pub fn write<M: Object, S: Serializer>(message: &M, to: S) -> Result<S::Ok, S::Error> {
    let _level = JsonDepth::enter().map_err(S::Error::custom)?;
    let mut writer = ObjectWriter {
        map: to.serialize_map(None)?,
    };
    message.write(&mut writer)?;
    writer.map.end()
}

/// Reads a message; it is the `deserialize` of generated messages.
pub fn read<'de, M: Object, D: Deserializer<'de>>(from: D) -> Result<M, D::Error> {
    let _level = JsonDepth::enter().map_err(D::Error::custom)?;
    from.deserialize_map(ObjectVisitor(PhantomData))
}

/// Gives serde's traits to a message.
#[doc(hidden)]
#[macro_export]
macro_rules! __object_traits {
    ($ty:ty) => {
        impl $crate::json::serde::Serialize for $ty {
            fn serialize<S: $crate::json::serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::core::result::Result<S::Ok, S::Error> {
                $crate::json::write(self, serializer)
            }
        }

        impl<'de> $crate::json::serde::Deserialize<'de> for $ty {
            fn deserialize<D: $crate::json::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::core::result::Result<Self, D::Error> {
                $crate::json::read(deserializer)
            }
        }
    };
}

/// The fields of a message that is being written.
#[derive(Debug)]
pub struct ObjectWriter<S> {
    map: S,
}

impl<S: SerializeMap> ObjectWriter<S> {
    /// Writes a field.
    pub fn put<M: Mapping<T>, T>(&mut self, name: &'static str, value: &T) -> Result<(), S::Error> {
        self.map.serialize_entry(name, &As::<T, M>::new(value))
    }

    /// Writes a field unless it has its default.
    pub fn implicit<M: Mapping<T>, T: Default + PartialEq>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), S::Error> {
        if *value == T::default() {
            return Ok(());
        }
        self.put::<M, T>(name, value)
    }

    /// Writes a field if it is there.
    pub fn optional<M: Mapping<T>, T>(
        &mut self,
        name: &'static str,
        value: &Option<T>,
    ) -> Result<(), S::Error> {
        match value {
            Some(value) => self.put::<M, T>(name, value),
            None => Ok(()),
        }
    }
}

/// A message that is being read, at the value of a field.
#[derive(Debug)]
pub struct ObjectReader<A> {
    map: A,
    name: &'static str,
}

impl<'de, A: MapAccess<'de>> ObjectReader<A> {
    /// Reads the field's value; after `null` it keeps its default.
    pub fn put<M: Mapping<T>, T>(&mut self, into: &mut T) -> Result<(), A::Error> {
        if let Some(value) = self.map.next_value_seed(Nullable::<T, M>::new())? {
            *into = value;
        }
        Ok(())
    }

    /// Reads the field's value; `null` is none.
    pub fn optional<M: Mapping<T>, T>(&mut self, into: &mut Option<T>) -> Result<(), A::Error> {
        *into = self.map.next_value_seed(Nullable::<T, M>::new())?;
        Ok(())
    }

    /// Reads a field of a oneof; `make` makes the oneof's variant.
    ///
    /// # Errors
    ///
    /// A second field of the same oneof.
    pub fn member<M: Mapping<T>, T, O>(
        &mut self,
        into: &mut Option<O>,
        make: impl FnOnce(T) -> O,
    ) -> Result<(), A::Error> {
        if let Some(value) = self.map.next_value_seed(Nullable::<T, M>::new())? {
            if into.is_some() {
                let name = self.name;
                return Err(A::Error::custom(format!(
                    "`{name}` is of a oneof that already has a value: give only one of its fields"
                )));
            }
            *into = Some(make(value));
        }
        Ok(())
    }
}

struct ObjectVisitor<M>(PhantomData<M>);

impl<'de, M: Object> Visitor<'de> for ObjectVisitor<M> {
    type Value = M;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the fields of {}", M::NAME)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<M, A::Error> {
        let mut message = M::default();
        let mut seen = vec![false; M::FIELDS.len()];
        let mut reader = ObjectReader { map, name: "" };
        while let Some(index) = reader.map.next_key_seed(FieldName::<M>(PhantomData))? {
            let Some(index) = index else {
                reader.map.next_value::<IgnoredAny>()?;
                continue;
            };
            reader.name = M::FIELDS[index].json;
            if std::mem::replace(&mut seen[index], true) {
                return Err(A::Error::duplicate_field(reader.name));
            }
            message.read(index, &mut reader)?;
        }
        let missing = M::FIELDS
            .iter()
            .zip(seen)
            .find(|(field, seen)| field.is_required && !seen);
        match missing {
            Some((field, _)) => Err(A::Error::missing_field(field.json)),
            None => Ok(message),
        }
    }
}

/// Reads a field's name as its index; none if the field is skipped.
struct FieldName<M>(PhantomData<M>);

impl<'de, M: Object> DeserializeSeed<'de> for FieldName<M> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<usize>, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl<M: Object> Visitor<'_> for FieldName<M> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name of a field of {}", M::NAME)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        let fields = M::FIELDS;
        let index = fields.iter().position(|field| field.json == name);
        let index = index.or_else(|| fields.iter().position(|field| field.proto == name));
        if index.is_some() || M::SKIPS_UNKNOWN {
            return Ok(index);
        }
        let name: String = name.chars().take(64).collect();
        let known: Vec<&str> = fields.iter().map(|field| field.json).collect();
        let known = if known.is_empty() {
            "it has none".to_owned()
        } else {
            format!("its fields are {}", known.join(", "))
        };
        Err(E::custom(format!("{} has no field `{name}`: {known}", M::NAME)))
    }
}
