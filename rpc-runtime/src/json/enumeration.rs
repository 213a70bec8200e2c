//! Enums: written as names, read as names or numbers.

use std::{fmt, marker::PhantomData};

use serde_core::{
    Deserializer, Serializer,
    de::{Error, Unexpected, Visitor},
};

use super::mapping::Mapping;

/// The values of an enum; generated code implements it.
pub trait Names {
    /// The full name in the .proto file.
    const NAME: &'static str;
    /// The name and number of each value, in the order of the .proto file.
    const VALUES: &'static [(&'static str, i32)];
    /// The value that stands for unknown names; none if they are errors.
    const UNKNOWN: Option<i32>;
}

/// Fields of the enum `E`.
///
/// Enums are open: a number without a name is written and read as a number.
#[derive(Debug)]
pub struct Enum<E>(PhantomData<E>);

impl<E: Names> Mapping<i32> for Enum<E> {
    fn write<S: Serializer>(value: &i32, to: S) -> Result<S::Ok, S::Error> {
        match E::VALUES.iter().find(|(_, number)| number == value) {
            Some((name, _)) => to.serialize_str(name),
            None => to.serialize_i32(*value),
        }
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
        from.deserialize_any(EnumVisitor::<E>(PhantomData))
    }
}

/// Writes one value of an enum; it is the `serialize` of generated enums.
pub fn write_enum<E: Names + Into<i32> + Copy, S: Serializer>(value: &E, to: S) -> Result<S::Ok, S::Error> {
    Enum::<E>::write(&(*value).into(), to)
}

/// Reads one value of an enum; it is the `deserialize` of generated enums.
///
/// # Errors
///
/// A number without a name, too, because a Rust enum cannot hold it.
pub fn read_enum<'de, E: Names + TryFrom<i32>, D: Deserializer<'de>>(from: D) -> Result<E, D::Error> {
    let number = Enum::<E>::read(from)?;
    E::try_from(number).map_err(|_| {
        let visitor = EnumVisitor::<E>(PhantomData);
        D::Error::invalid_value(Unexpected::Signed(number.into()), &visitor)
    })
}

/// Gives serde's traits to an enum.
#[doc(hidden)]
#[macro_export]
macro_rules! __enum_traits {
    ($ty:ty) => {
        impl $crate::json::serde::Serialize for $ty {
            fn serialize<S: $crate::json::serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::core::result::Result<S::Ok, S::Error> {
                $crate::json::write_enum(self, serializer)
            }
        }

        impl<'de> $crate::json::serde::Deserialize<'de> for $ty {
            fn deserialize<D: $crate::json::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::core::result::Result<Self, D::Error> {
                $crate::json::read_enum(deserializer)
            }
        }
    };
}

struct EnumVisitor<E>(PhantomData<E>);

impl<E: Names> Visitor<'_> for EnumVisitor<E> {
    type Value = i32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = E::VALUES.iter().map(|(name, _)| *name).collect();
        write!(f, "a value of {}: {}", E::NAME, names.join(", "))
    }

    fn visit_i64<F: Error>(self, value: i64) -> Result<i32, F> {
        i32::try_from(value).map_err(|_| F::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_u64<F: Error>(self, value: u64) -> Result<i32, F> {
        i32::try_from(value).map_err(|_| F::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_f64<F: Error>(self, value: f64) -> Result<i32, F> {
        let number = value as i32;
        if f64::from(number) == value {
            Ok(number)
        } else {
            Err(F::invalid_value(Unexpected::Float(value), &self))
        }
    }

    fn visit_str<F: Error>(self, text: &str) -> Result<i32, F> {
        let value = E::VALUES.iter().find(|(name, _)| *name == text);
        value
            .map(|(_, number)| *number)
            .or(E::UNKNOWN)
            .ok_or_else(|| F::invalid_value(Unexpected::Str(text), &self))
    }
}
