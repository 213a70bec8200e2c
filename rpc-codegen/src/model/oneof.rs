//! Oneofs: the fields that belong to one, and the name of its type.

use prost_reflect::{FieldDescriptor, MessageDescriptor, OneofDescriptor};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto};

use super::naming::camel;

/// The index of the oneof that `field` belongs to.
///
/// The hidden oneof of a proto3 `optional` field does not count: this is the one place that tells it from others.
pub(crate) fn oneof_of(field: &FieldDescriptorProto) -> Option<usize> {
    field
        .oneof_index
        .filter(|_| !field.proto3_optional.unwrap_or(false))
        .and_then(|index| usize::try_from(index).ok())
}

/// The oneofs of `message`, without the hidden ones.
pub(crate) fn oneofs(message: &MessageDescriptor) -> impl Iterator<Item = OneofDescriptor> {
    message
        .oneofs()
        .filter(|oneof| oneof.fields().any(|field| is_in_oneof(&field)))
}

/// True if `field` belongs to a oneof.
pub(crate) fn is_in_oneof(field: &FieldDescriptor) -> bool {
    oneof_of(field.field_descriptor_proto()).is_some()
}

/// The path of a field in the options of a build script: `acme.v1.Order.payment.card` if it belongs to the oneof `payment`.
pub(crate) fn path_of(field: &FieldDescriptor) -> String {
    let message = field.parent_message().full_name();
    match field.containing_oneof().filter(|_| is_in_oneof(field)) {
        Some(oneof) => format!("{message}.{}.{}", oneof.name(), field.name()),
        None => format!("{message}.{}", field.name()),
    }
}

/// The type of the oneof `name`, as prost-build names it.
pub(crate) fn oneof_type(message: &DescriptorProto, name: &str) -> String {
    let ident = camel(name);
    let nested = message.nested_type.iter().map(DescriptorProto::name);
    let enums = message.enum_type.iter().map(EnumDescriptorProto::name);
    if nested.chain(enums).any(|other| camel(other) == ident) {
        format!("{ident}OneOf")
    } else {
        ident
    }
}
