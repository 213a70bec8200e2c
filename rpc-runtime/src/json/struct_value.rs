//! `Struct`, `Value` and `ListValue`: any JSON.

use std::fmt;

use prost_types::{ListValue, NullValue, Struct, Value, value::Kind};
use serde_core::{
    Deserializer, Serializer,
    de::{
        Error, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
    ser::Error as _,
};

use super::{
    collection::{List, Map},
    depth::JsonDepth,
    google::Google,
    mapping::Mapping,
};

impl Mapping<Struct> for Google {
    fn write<S: Serializer>(value: &Struct, to: S) -> Result<S::Ok, S::Error> {
        let _level = JsonDepth::enter().map_err(S::Error::custom)?;
        Map::<Self>::write(&value.fields, to)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Struct, D::Error> {
        let _level = JsonDepth::enter().map_err(D::Error::custom)?;
        Map::<Self>::read(from).map(|fields| Struct { fields })
    }
}

impl Mapping<ListValue> for Google {
    fn write<S: Serializer>(value: &ListValue, to: S) -> Result<S::Ok, S::Error> {
        let _level = JsonDepth::enter().map_err(S::Error::custom)?;
        List::<Self>::write(&value.values, to)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<ListValue, D::Error> {
        let _level = JsonDepth::enter().map_err(D::Error::custom)?;
        List::<Self>::read(from).map(|values| ListValue { values })
    }
}

impl Mapping<Value> for Google {
    fn write<S: Serializer>(value: &Value, to: S) -> Result<S::Ok, S::Error> {
        match &value.kind {
            Some(Kind::NullValue(_)) => to.serialize_unit(),
            Some(Kind::BoolValue(value)) => to.serialize_bool(*value),
            Some(Kind::NumberValue(value)) if value.is_finite() => to.serialize_f64(*value),
            Some(Kind::NumberValue(value)) => Err(S::Error::custom(format!(
                "a google.protobuf.Value holds {value}, which JSON cannot hold"
            ))),
            Some(Kind::StringValue(value)) => to.serialize_str(value),
            Some(Kind::StructValue(value)) => Self::write(value, to),
            Some(Kind::ListValue(value)) => Self::write(value, to),
            None => Err(S::Error::custom(
                "a google.protobuf.Value holds nothing: set its `kind`",
            )),
        }
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Value, D::Error> {
        from.deserialize_any(ValueVisitor)
    }

    fn null() -> Option<Value> {
        Some(value(Kind::NullValue(NullValue::NullValue.into())))
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(value(Kind::NullValue(NullValue::NullValue.into())))
    }

    fn visit_bool<E: Error>(self, found: bool) -> Result<Value, E> {
        Ok(value(Kind::BoolValue(found)))
    }

    fn visit_i64<E: Error>(self, found: i64) -> Result<Value, E> {
        Ok(value(Kind::NumberValue(found as f64)))
    }

    fn visit_u64<E: Error>(self, found: u64) -> Result<Value, E> {
        Ok(value(Kind::NumberValue(found as f64)))
    }

    fn visit_f64<E: Error>(self, found: f64) -> Result<Value, E> {
        Ok(value(Kind::NumberValue(found)))
    }

    fn visit_str<E: Error>(self, found: &str) -> Result<Value, E> {
        Ok(value(Kind::StringValue(found.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Value, A::Error> {
        let list = Google::read(SeqAccessDeserializer::new(elements))?;
        Ok(value(Kind::ListValue(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Value, A::Error> {
        let fields = Google::read(MapAccessDeserializer::new(entries))?;
        Ok(value(Kind::StructValue(fields)))
    }
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}
