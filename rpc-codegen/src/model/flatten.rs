//! Flattening: request fields as arguments, and a reply's single field as the result.

use prost_reflect::{Cardinality, FieldDescriptor, Kind as ProtoKind, MessageDescriptor};

use super::{
    Reply, Request,
    graph::Graph,
    naming::snake,
    oneof::is_in_oneof,
    types::{Types, is_option},
};
use crate::code::Code;

/// A message field that is an argument or a result.
#[derive(Debug)]
pub(crate) struct Field {
    /// The field's identifier in the message.
    pub(crate) ident: String,
    pub(crate) kind: FieldKind,
}

/// The kind of value that a user passes or gets for a field.
#[derive(Debug)]
pub(crate) enum FieldKind {
    /// A `String`.
    Text,
    /// A `Bytes` or a `Vec<u8>`.
    Bytes(Code),
    /// An enum; the message holds its number.
    Enum(Code),
    /// An optional enum.
    OptionalEnum(Code),
    /// The field's own type.
    Plain(Code),
}

/// A request with more fields stays a message: the order of eight arguments is hard to remember.
const MOST_ARGUMENTS: usize = 7;

/// The arguments of a method for the request `message`.
pub(super) fn request(
    types: &Types<'_>,
    graph: &Graph,
    message: &MessageDescriptor,
    flatten: bool,
) -> Request {
    let ty = Code::from(types.message(message));
    if message.full_name() == "google.protobuf.Empty" && !types.is_given(message.full_name()) {
        Request::Empty
    } else if flatten && is_flat(types, graph, message) && message.fields().len() <= MOST_ARGUMENTS {
        let fields = fields(message).into_iter();
        Request::Fields(ty, fields.map(|proto| field(types, &proto)).collect())
    } else if !flatten && value_of(types, message).is_some() {
        Request::Value(ty)
    } else {
        Request::Message(ty)
    }
}

/// The result of a method for the reply `message`.
pub(super) fn reply(types: &Types<'_>, graph: &Graph, message: &MessageDescriptor, flatten: bool) -> Reply {
    let ty = Code::from(types.message(message));
    match &fields(message)[..] {
        [only] if flatten && is_flat(types, graph, message) => Reply::Field(ty, field(types, only)),
        _ => Reply::Message(ty),
    }
}

/// The field whose value converts into the whole request: its only field.
///
/// None if that conversion could contradict another one, or if the field is part of a oneof, or if the type is another
/// crate's.
pub(crate) fn value_of(types: &Types<'_>, message: &MessageDescriptor) -> Option<FieldDescriptor> {
    let mut fields = message.fields();
    let (Some(only), None) = (fields.next(), fields.next()) else {
        return None;
    };
    let is_itself = only.cardinality() != Cardinality::Repeated
        && matches!(only.kind(), ProtoKind::Message(inner) if inner == *message);
    let is_empty =
        matches!(only.kind(), ProtoKind::Message(inner) if inner.full_name() == "google.protobuf.Empty");
    let is_ours = message.package_name() != "google.protobuf" && !types.is_given(message.full_name());
    let is_plain = !is_in_oneof(&only);
    (is_ours && is_plain && !is_itself && !is_empty).then_some(only)
}

/// The warning for a message whose fields are listed in another order than its arguments.
pub(super) fn order_warning(message: &MessageDescriptor) -> Option<String> {
    let declared = message.descriptor_proto().field.iter();
    if declared.clone().is_sorted_by_key(|field| field.number()) {
        return None;
    }
    let list = |names: Vec<&str>| names.join(", ");
    let sorted = fields(message);
    Some(format!(
        "message {}: `flatten` orders arguments by field number ({}), but the file lists the fields as ({}): list them by number",
        message.full_name(),
        list(sorted.iter().map(FieldDescriptor::name).collect()),
        list(declared.map(|field| field.name()).collect()),
    ))
}

/// The fields sorted by number, which does not change when lines move.
fn fields(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_by_key(FieldDescriptor::number);
    fields
}

/// True if the fields can replace the message.
fn is_flat(types: &Types<'_>, graph: &Graph, message: &MessageDescriptor) -> bool {
    // Google's messages are values in themselves: a `Timestamp` is not two numbers. The fields of a type that exists
    // elsewhere may differ from the .proto file.
    message.package_name() != "google.protobuf"
        && !types.is_given(message.full_name())
        && message
            .fields()
            .all(|field| !is_in_oneof(&field) && !graph.is_boxed(&field))
}

fn field(types: &Types<'_>, proto: &FieldDescriptor) -> Field {
    let is_single = proto.cardinality() != Cardinality::Repeated;
    let kind = match proto.kind() {
        ProtoKind::Enum(proto_enum) if is_single && is_option(proto) => {
            FieldKind::OptionalEnum(types.enumeration(&proto_enum).into())
        }
        ProtoKind::Enum(proto_enum) if is_single => FieldKind::Enum(types.enumeration(&proto_enum).into()),
        ProtoKind::String if is_single && !is_option(proto) => FieldKind::Text,
        ProtoKind::Bytes if is_single && !is_option(proto) => FieldKind::Bytes(types.value(proto).into()),
        _ => FieldKind::Plain(types.field(proto).into()),
    };
    Field {
        ident: snake(proto.name()),
        kind,
    }
}
