//! Google's types with a form of their own in JSON; `time` and `struct_value` have the others.

use std::{fmt, marker::PhantomData};

use prost_types::FieldMask;
use serde_core::{
    Deserializer, Serializer,
    de::{Error, Unexpected, Visitor},
    ser::Error as _,
};

use super::{
    mapping::Mapping,
    object::{self, Field, Object, ObjectReader, ObjectWriter},
};

/// Google's types that prost-types has, except `Any`.
#[derive(Debug)]
pub struct Google;

impl<T> Mapping<Box<T>> for Google
where
    Self: Mapping<T>,
{
    fn write<S: Serializer>(value: &Box<T>, to: S) -> Result<S::Ok, S::Error> {
        Self::write(&**value, to)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Box<T>, D::Error> {
        <Self as Mapping<T>>::read(from).map(Box::new)
    }

    fn null() -> Option<Box<T>> {
        <Self as Mapping<T>>::null().map(Box::new)
    }
}

impl Mapping<FieldMask> for Google {
    fn write<S: Serializer>(value: &FieldMask, to: S) -> Result<S::Ok, S::Error> {
        let paths: Result<Vec<String>, S::Error> = value
            .paths
            .iter()
            .map(|path| {
                let camel = lower_camel(path);
                if snake(&camel).as_ref() == Some(path) {
                    Ok(camel)
                } else {
                    Err(S::Error::custom(format!(
                        "the path `{path}` of a FieldMask has no form in JSON: write it in snake_case"
                    )))
                }
            })
            .collect();
        to.serialize_str(&paths?.join(","))
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<FieldMask, D::Error> {
        from.deserialize_str(Parsed::new(
            "the paths of a FieldMask in camelCase, with commas between",
            |text| {
                let paths = text.split(',').filter(|_| !text.is_empty());
                let paths: Option<Vec<String>> = paths.map(snake).collect();
                paths.map(|paths| FieldMask { paths })
            },
        ))
    }
}

/// `google.protobuf.Empty`.
#[derive(Debug)]
pub struct Empty;

impl Mapping<()> for Empty {
    fn write<S: Serializer>((): &(), to: S) -> Result<S::Ok, S::Error> {
        object::write(&NoFields, to)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<(), D::Error> {
        object::read::<NoFields, D>(from).map(|_| ())
    }
}

/// The object of `Empty`.
#[derive(Default)]
struct NoFields;

impl Object for NoFields {
    const NAME: &'static str = "google.protobuf.Empty";
    const FIELDS: &'static [Field] = &[];
    const SKIPS_UNKNOWN: bool = false;

    fn write<S: serde_core::ser::SerializeMap>(&self, _: &mut ObjectWriter<S>) -> Result<(), S::Error> {
        Ok(())
    }

    fn read<'de, A: serde_core::de::MapAccess<'de>>(
        &mut self,
        _: usize,
        _: &mut ObjectReader<A>,
    ) -> Result<(), A::Error> {
        Ok(())
    }
}

/// Fields of the enum `google.protobuf.NullValue`: always `null`.
#[derive(Debug)]
pub struct Null;

impl Mapping<i32> for Null {
    fn write<S: Serializer>(_: &i32, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_unit()
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
        from.deserialize_any(NullVisitor)
    }

    fn null() -> Option<i32> {
        Some(0)
    }
}

struct NullVisitor;

impl Visitor<'_> for NullVisitor {
    type Value = i32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null")
    }

    fn visit_unit<E: Error>(self) -> Result<i32, E> {
        Ok(0)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<i32, E> {
        match value {
            0 => Ok(0),
            _ => Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<i32, E> {
        match text {
            "NULL_VALUE" => Ok(0),
            _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

/// Reads text with a function.
pub(super) struct Parsed<T, F> {
    expected: &'static str,
    parse: F,
    value: PhantomData<T>,
}

impl<T, F: FnOnce(&str) -> Option<T>> Parsed<T, F> {
    pub(super) fn new(expected: &'static str, parse: F) -> Self {
        Self {
            expected,
            parse,
            value: PhantomData,
        }
    }
}

impl<T, F: FnOnce(&str) -> Option<T>> Visitor<'_> for Parsed<T, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self.expected))
    }
}

/// `unit_price.currency` as `unitPrice.currency`.
fn lower_camel(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut after_underscore = false;
    for c in path.chars() {
        if after_underscore {
            out.push(c.to_ascii_uppercase());
        } else if c != '_' {
            out.push(c);
        }
        after_underscore = c == '_';
    }
    out
}

/// `unitPrice.currency` as `unit_price.currency`; none if it has an underscore already.
fn snake(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len() + 4);
    for c in path.chars() {
        if c == '_' {
            return None;
        }
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    Some(out)
}
