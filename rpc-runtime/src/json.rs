//! Feature `json`: messages as JSON, in protobuf's canonical mapping.
//!
//! Generated code names, for each field, the [`Mapping`] of its type. It does not use serde's traits for the values of fields,
//! because one Rust type has several forms in JSON: an `i32` may be a number or an enum, a `Timestamp` is Google's.

mod any;
mod collection;
mod depth;
mod enumeration;
mod google;
mod mapping;
mod object;
mod scalar;
mod struct_value;
mod time;

pub use serde_core as serde;

#[doc(hidden)]
pub use crate::{__enum_traits as enum_traits, __object_traits as object_traits};

pub use self::{
    any::{Any, AnyType, AnyTypes},
    collection::{List, Map, MapKey},
    enumeration::{Enum, Names, read_enum, write_enum},
    google::{Empty, Google, Null},
    mapping::{Mapping, Message},
    object::{Field, Object, ObjectReader, ObjectWriter, read, write},
    scalar::{Base64, Scalar},
};
