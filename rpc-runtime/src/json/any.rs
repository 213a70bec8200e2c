//! `google.protobuf.Any`: a message of any type, with the name of its type.

use std::marker::PhantomData;

use bytes::Bytes;
use prost::Message as ProstMessage;
use prost_types::{Duration, FieldMask, ListValue, Struct, Timestamp, Value};
use serde_core::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::{Map, Value as Json};

use super::{
    depth::JsonDepth,
    google::{Empty, Google},
    mapping::{As, Mapping, Message},
    scalar::{Base64, Scalar},
};

/// The types that an `Any` may hold; generated code implements it.
pub trait AnyTypes {
    /// The types, sorted by name.
    const TYPES: &'static [AnyType];
}

/// A type that an `Any` may hold.
#[derive(Clone, Copy, Debug)]
pub struct AnyType {
    name: &'static str,
    /// True if the type's own JSON is no object with its fields; it stands under the key `value` then.
    is_value: bool,
    to_json: fn(&[u8]) -> Result<Json, String>,
    from_json: fn(Json) -> Result<Vec<u8>, String>,
}

impl AnyType {
    /// The generated message `M`, called `name` in the .proto file.
    pub const fn new<M>(name: &'static str) -> Self
    where
        M: ProstMessage + Default + Serialize + for<'de> Deserialize<'de>,
    {
        Self {
            name,
            is_value: false,
            to_json: to_json::<M, Message>,
            from_json: from_json::<M, Message>,
        }
    }

    /// One of Google's types.
    const fn google<T: ProstMessage + Default, M: Mapping<T>>(name: &'static str) -> Self {
        Self {
            name,
            is_value: true,
            to_json: to_json::<T, M>,
            from_json: from_json::<T, M>,
        }
    }

    /// The text of `error`, with the name of this type before it.
    fn blamed(&self, error: &str) -> String {
        // Of an `Any` in an `Any`, the innermost says enough.
        if error.starts_with(BLAMED) {
            error.to_owned()
        } else {
            format!("{BLAMED}{}: {error}", self.name)
        }
    }
}

fn to_json<T: ProstMessage + Default, M: Mapping<T>>(bytes: &[u8]) -> Result<Json, String> {
    let message = T::decode(bytes).map_err(|error| error.to_string())?;
    serde_json::to_value(As::<T, M>::new(&message)).map_err(|error| error.to_string())
}

fn from_json<T: ProstMessage, M: Mapping<T>>(json: Json) -> Result<Vec<u8>, String> {
    let message = M::read(json).map_err(|error| error.to_string())?;
    Ok(message.encode_to_vec())
}

/// `google.protobuf.Any` with a message of one of the types `A`, or of Google's.
#[derive(Debug)]
pub struct Any<A>(PhantomData<A>);

impl<A: AnyTypes> Any<A> {
    /// The type that `url` ends with.
    fn find(url: &str) -> Result<AnyType, String> {
        let name = url.rsplit('/').next().unwrap_or_default();
        if name == "google.protobuf.Any" {
            return Ok(AnyType::google::<prost_types::Any, Self>("google.protobuf.Any"));
        }
        if let Ok(index) = A::TYPES.binary_search_by(|ty| ty.name.cmp(name)) {
            return Ok(A::TYPES[index]);
        }
        let google = GOOGLE.iter().find(|ty| ty.name == name);
        google.copied().ok_or_else(|| {
            let url: String = url.chars().take(200).collect();
            format!(
                "an Any holds the type `{url}`, which is none of the messages that were generated together with JSON"
            )
        })
    }
}

impl<A: AnyTypes> Mapping<prost_types::Any> for Any<A> {
    fn write<S: Serializer>(any: &prost_types::Any, to: S) -> Result<S::Ok, S::Error> {
        let _level = JsonDepth::enter().map_err(S::Error::custom)?;
        let mut object = Map::new();
        if !any.type_url.is_empty() || !any.value.is_empty() {
            let ty = Self::find(&any.type_url).map_err(S::Error::custom)?;
            let json = (ty.to_json)(&any.value).map_err(|error| S::Error::custom(ty.blamed(&error)))?;
            object = match json {
                Json::Object(fields) if !ty.is_value => fields,
                other => Map::from_iter([(VALUE.to_owned(), other)]),
            };
            // `@` comes before all letters, so this is the first key.
            object.insert(TYPE.to_owned(), Json::String(any.type_url.clone()));
        }
        object.serialize(to)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<prost_types::Any, D::Error> {
        let _level = JsonDepth::enter().map_err(D::Error::custom)?;
        let mut object = Map::deserialize(from)?;
        let type_url = match object.remove(TYPE) {
            Some(Json::String(url)) => url,
            None if object.is_empty() => return Ok(prost_types::Any::default()),
            _ => {
                return Err(D::Error::custom(
                    "an Any has no text under `@type`: write the URL of its type there",
                ));
            }
        };
        let ty = Self::find(&type_url).map_err(D::Error::custom)?;
        let json = if ty.is_value {
            let value = object.remove(VALUE);
            if !object.is_empty() {
                return Err(D::Error::custom(format!(
                    "an Any that holds {} has other keys than `@type` and `value`",
                    ty.name
                )));
            }
            value.ok_or_else(|| D::Error::missing_field(VALUE))?
        } else {
            Json::Object(object)
        };
        let value = (ty.from_json)(json).map_err(|error| D::Error::custom(ty.blamed(&error)))?;
        Ok(prost_types::Any { type_url, value })
    }
}

const BLAMED: &str = "an Any that holds ";
const TYPE: &str = "@type";
const VALUE: &str = "value";

/// Google's types, which are no objects of their fields.
static GOOGLE: [AnyType; 16] = [
    AnyType {
        is_value: false,
        ..AnyType::google::<(), Empty>("google.protobuf.Empty")
    },
    AnyType::google::<Timestamp, Google>("google.protobuf.Timestamp"),
    AnyType::google::<Duration, Google>("google.protobuf.Duration"),
    AnyType::google::<FieldMask, Google>("google.protobuf.FieldMask"),
    AnyType::google::<Struct, Google>("google.protobuf.Struct"),
    AnyType::google::<Value, Google>("google.protobuf.Value"),
    AnyType::google::<ListValue, Google>("google.protobuf.ListValue"),
    AnyType::google::<bool, Scalar>("google.protobuf.BoolValue"),
    AnyType::google::<Bytes, Base64>("google.protobuf.BytesValue"),
    AnyType::google::<f64, Scalar>("google.protobuf.DoubleValue"),
    AnyType::google::<f32, Scalar>("google.protobuf.FloatValue"),
    AnyType::google::<i32, Scalar>("google.protobuf.Int32Value"),
    AnyType::google::<i64, Scalar>("google.protobuf.Int64Value"),
    AnyType::google::<String, Scalar>("google.protobuf.StringValue"),
    AnyType::google::<u32, Scalar>("google.protobuf.UInt32Value"),
    AnyType::google::<u64, Scalar>("google.protobuf.UInt64Value"),
];
