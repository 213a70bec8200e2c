//! `option (rpc.service) = { flatten: true };`: fields as arguments, a single field as the value.

use proc_macro2::TokenStream;
use prost_reflect::{Cardinality, FieldDescriptor, Kind as ProtoKind, MessageDescriptor};

use super::{
    Reply, Request,
    types::{Types, is_option},
};
use crate::{naming::snake, scope::oneof_of};

/// A field of a message that is an argument or a result.
#[derive(Debug)]
pub(crate) struct Field {
    /// The identifier in the message.
    pub(crate) ident: String,
    /// The name, as the .proto spells it.
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// What a user gives or gets for a field.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A `String`.
    Text,
    /// A `Bytes`.
    Bytes,
    /// An enum, where the message has a number.
    Enum(TokenStream),
    /// An enum or nothing.
    OptionalEnum(TokenStream),
    /// The field's own type.
    Plain(TokenStream),
}

/// With more fields than this a request stays a message: nobody remembers the order of eight arguments.
const MOST_ARGUMENTS: usize = 7;

/// What a method takes for the request `message`.
pub(super) fn request(types: &Types<'_>, message: &MessageDescriptor, flatten: bool) -> Request {
    let ty = types.message(message);
    if message.full_name() == "google.protobuf.Empty" {
        Request::Empty
    } else if flatten && is_flat(message) && message.fields().len() <= MOST_ARGUMENTS {
        Request::Fields(ty, fields(message).map(|proto| field(types, &proto)).collect())
    } else {
        Request::Message(ty)
    }
}

/// What a method returns for the reply `message`.
pub(super) fn reply(types: &Types<'_>, message: &MessageDescriptor, flatten: bool) -> Reply {
    let ty = types.message(message);
    match (fields(message).next(), message.fields().len()) {
        (Some(only), 1) if flatten && is_flat(message) => Reply::Field(ty, field(types, &only)),
        _ => Reply::Message(ty),
    }
}

/// The fields in the order in which the .proto lists them.
fn fields(message: &MessageDescriptor) -> impl Iterator<Item = FieldDescriptor> {
    let numbers: Vec<i32> = message
        .descriptor_proto()
        .field
        .iter()
        .map(|field| field.number())
        .collect();
    let message = message.clone();
    numbers
        .into_iter()
        .filter_map(move |number| message.get_field(u32::try_from(number).ok()?))
}

/// Whether the fields can stand for the message.
fn is_flat(message: &MessageDescriptor) -> bool {
    // Google's messages are values in themselves: a `Timestamp` is not two numbers.
    message.package_name() != "google.protobuf"
        && message
            .fields()
            .all(|field| oneof_of(field.field_descriptor_proto()).is_none() && !is_boxed(&field))
}

/// Whether prost-build puts the field into a `Box`, for its type contains the field's message.
fn is_boxed(field: &FieldDescriptor) -> bool {
    let outer = field.parent_message();
    let mut seen = Vec::new();
    let mut open: Vec<MessageDescriptor> = held(field).into_iter().collect();
    while let Some(message) = open.pop() {
        if message == *outer {
            return true;
        }
        if !seen.contains(&message) {
            open.extend(message.fields().filter_map(|field| held(&field)));
            seen.push(message);
        }
    }
    false
}

/// The message that the field's own value contains; what is repeated stands elsewhere.
fn held(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        ProtoKind::Message(message) if field.cardinality() != Cardinality::Repeated => Some(message),
        _ => None,
    }
}

fn field(types: &Types<'_>, proto: &FieldDescriptor) -> Field {
    let is_single = proto.cardinality() != Cardinality::Repeated;
    let kind = match proto.kind() {
        ProtoKind::Enum(proto_enum) if is_single && is_option(proto) => {
            Kind::OptionalEnum(types.enumeration(&proto_enum))
        }
        ProtoKind::Enum(proto_enum) if is_single => Kind::Enum(types.enumeration(&proto_enum)),
        ProtoKind::String if is_single && !is_option(proto) => Kind::Text,
        ProtoKind::Bytes if is_single && !is_option(proto) => Kind::Bytes,
        _ => Kind::Plain(types.field(proto)),
    };
    Field {
        ident: snake(proto.name()),
        name: proto.name().to_owned(),
        kind,
    }
}
