//! `option (rpc.service) = { flatten: true };`: fields as arguments, a single field as the value.

use proc_macro2::TokenStream;
use prost_reflect::{Cardinality, FieldDescriptor, Kind as ProtoKind, MessageDescriptor};

use super::{
    Reply, Request,
    naming::snake,
    oneof::oneof_of,
    types::{Types, is_option},
};

/// A field of a message that is an argument or a result.
#[derive(Debug)]
pub(crate) struct Field {
    /// The identifier in the message.
    pub(crate) ident: String,
    pub(crate) kind: FieldKind,
}

/// What a user gives or gets for a field.
#[derive(Debug)]
pub(crate) enum FieldKind {
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
        let fields = fields(message).into_iter();
        Request::Fields(ty, fields.map(|proto| field(types, &proto)).collect())
    } else if !flatten && value_of(message).is_some() {
        Request::Value(ty)
    } else {
        Request::Message(ty)
    }
}

/// What a method returns for the reply `message`.
pub(super) fn reply(types: &Types<'_>, message: &MessageDescriptor, flatten: bool) -> Reply {
    let ty = types.message(message);
    match &fields(message)[..] {
        [only] if flatten && is_flat(message) => Reply::Field(ty, field(types, only)),
        _ => Reply::Message(ty),
    }
}

/// The field whose value can stand for the whole request: its only one, unless a conversion from it could contradict
/// another one.
pub(crate) fn value_of(message: &MessageDescriptor) -> Option<FieldDescriptor> {
    let mut fields = message.fields();
    let (Some(only), None) = (fields.next(), fields.next()) else {
        return None;
    };
    let is_itself = only.cardinality() != Cardinality::Repeated
        && matches!(only.kind(), ProtoKind::Message(inner) if inner == *message);
    let is_empty =
        matches!(only.kind(), ProtoKind::Message(inner) if inner.full_name() == "google.protobuf.Empty");
    let is_ours = message.package_name() != "google.protobuf";
    let is_plain = oneof_of(only.field_descriptor_proto()).is_none();
    (is_ours && is_plain && !is_itself && !is_empty).then_some(only)
}

/// What is said to who lists the fields of a message, which become arguments, in another order than that of the arguments.
pub(super) fn order_warning(message: &MessageDescriptor) -> Option<String> {
    let declared = message.descriptor_proto().field.iter();
    if declared.clone().is_sorted_by_key(|field| field.number()) {
        return None;
    }
    let list = |names: Vec<&str>| names.join(", ");
    let sorted = fields(message);
    Some(format!(
        "message {}: `flatten` makes arguments of its fields in the order of their numbers ({}), not of their lines ({}): \
         list them by number",
        message.full_name(),
        list(sorted.iter().map(FieldDescriptor::name).collect()),
        list(declared.map(|field| field.name()).collect()),
    ))
}

/// The fields in the order of their numbers, which stays as it is when somebody moves lines.
fn fields(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_by_key(FieldDescriptor::number);
    fields
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
pub(crate) fn is_boxed(field: &FieldDescriptor) -> bool {
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
            FieldKind::OptionalEnum(types.enumeration(&proto_enum))
        }
        ProtoKind::Enum(proto_enum) if is_single => FieldKind::Enum(types.enumeration(&proto_enum)),
        ProtoKind::String if is_single && !is_option(proto) => FieldKind::Text,
        ProtoKind::Bytes if is_single && !is_option(proto) => FieldKind::Bytes,
        _ => FieldKind::Plain(types.field(proto)),
    };
    Field {
        ident: snake(proto.name()),
        kind,
    }
}
