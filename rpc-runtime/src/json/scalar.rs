//! Scalars: numbers, booleans, text and bytes.

use std::{fmt, marker::PhantomData};

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_core::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Unexpected, Visitor},
};

use super::mapping::Mapping;

/// Numbers, booleans and text.
///
/// Numbers of 64 bits are written as text, because JavaScript has no such numbers. Both forms are read.
#[derive(Debug)]
pub struct Scalar;

impl Mapping<bool> for Scalar {
    fn write<S: Serializer>(value: &bool, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bool(*value)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
        bool::deserialize(from)
    }
}

impl Mapping<String> for Scalar {
    fn write<S: Serializer>(value: &String, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(value)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        String::deserialize(from)
    }
}

macro_rules! numbers {
    ($($ty:ident $write:ident)*) => { $(
        impl Mapping<$ty> for Scalar {
            fn write<S: Serializer>(value: &$ty, to: S) -> Result<S::Ok, S::Error> {
                $write(value, to)
            }

            fn read<'de, D: Deserializer<'de>>(from: D) -> Result<$ty, D::Error> {
                from.deserialize_any(NumberVisitor(PhantomData))
            }
        }
    )* };
}

numbers! { i32 number u32 number i64 text u64 text f32 float f64 float }

fn number<T: Serialize, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    value.serialize(to)
}

fn text<T: fmt::Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn float<T: Number + Serialize + Copy + Into<f64>, S: Serializer>(
    value: &T,
    to: S,
) -> Result<S::Ok, S::Error> {
    let wide: f64 = (*value).into();
    if wide.is_nan() {
        to.serialize_str("NaN")
    } else if wide == f64::INFINITY {
        to.serialize_str("Infinity")
    } else if wide == f64::NEG_INFINITY {
        to.serialize_str("-Infinity")
    } else {
        value.serialize(to)
    }
}

/// A type of number, as it is read.
trait Number: Sized {
    const EXPECTED: &'static str;

    fn from_integer(value: i128) -> Option<Self>;
    fn from_float(value: f64) -> Option<Self>;
    fn from_text(text: &str) -> Option<Self>;
}

macro_rules! integers {
    ($($ty:ident)*) => { $(
        impl Number for $ty {
            const EXPECTED: &'static str = concat!("an integer in the range of ", stringify!($ty));

            fn from_integer(value: i128) -> Option<Self> {
                Self::try_from(value).ok()
            }

            fn from_float(value: f64) -> Option<Self> {
                // Beyond 2^65 no type has room, and the conversion would only pick the closest number.
                let is_whole = value.fract() == 0.0 && value.abs() < 36_893_488_147_419_103_232.0;
                is_whole.then(|| Self::from_integer(value as i128)).flatten()
            }

            fn from_text(text: &str) -> Option<Self> {
                text.parse().ok().or_else(|| Self::from_float(text.parse().ok()?))
            }
        }
    )* };
}

integers! { i32 u32 i64 u64 }

impl Number for f64 {
    const EXPECTED: &'static str = "a number";

    fn from_integer(value: i128) -> Option<Self> {
        Some(value as Self)
    }

    fn from_float(value: f64) -> Option<Self> {
        Some(value)
    }

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "NaN" => Some(Self::NAN),
            "Infinity" => Some(Self::INFINITY),
            "-Infinity" => Some(Self::NEG_INFINITY),
            _ => text.parse().ok().filter(|value: &Self| value.is_finite()),
        }
    }
}

impl Number for f32 {
    const EXPECTED: &'static str = "a number in the range of f32";

    fn from_integer(value: i128) -> Option<Self> {
        Some(value as Self)
    }

    fn from_float(value: f64) -> Option<Self> {
        let narrow = value as Self;
        (narrow.is_finite() || !value.is_finite()).then_some(narrow)
    }

    fn from_text(text: &str) -> Option<Self> {
        Self::from_float(f64::from_text(text)?)
    }
}

/// Reads a number, or text that holds one.
struct NumberVisitor<T>(PhantomData<T>);

impl<T: Number> Visitor<'_> for NumberVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        T::from_integer(value.into()).ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        T::from_integer(value.into()).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        T::from_float(value).ok_or_else(|| E::invalid_value(Unexpected::Float(value), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        // Rust reads `+1`, JSON does not.
        let value = T::from_text(text).filter(|_| !text.starts_with('+'));
        value.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// Bytes, as text in base64.
///
/// It writes the standard alphabet with padding, and reads the one for URLs, too, with and without padding.
#[derive(Debug)]
pub struct Base64;

impl<T: AsRef<[u8]> + From<Vec<u8>>> Mapping<T> for Base64 {
    fn write<S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&ENGINE.encode(value))
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        from.deserialize_str(Base64Visitor).map(T::from)
    }
}

struct Base64Visitor;

impl Visitor<'_> for Base64Visitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes in base64")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        let engine = if text.contains(['-', '_']) {
            &URL_ENGINE
        } else {
            &ENGINE
        };
        engine
            .decode(text)
            .map_err(|error| E::custom(format!("bytes are not valid base64: {error}")))
    }
}

const PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const ENGINE: GeneralPurpose = GeneralPurpose::new(&STANDARD, PADDING);
const URL_ENGINE: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, PADDING);
