//! Stand-ins: messages that tell prost-build which traits it can derive.

use std::collections::HashMap;

use prost_reflect::DescriptorPool;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

use crate::{
    model::{Derives, Graph},
    source::is_google,
};

/// A second definition of each message, with scalar fields that allow the same derives.
///
/// prost-build visits all paths into a message to see whether it is `Copy` and `Eq`. Their number doubles with each level of
/// messages that have two fields of the next one. Of two definitions with one name it asks the last one, and the answer of a
/// stand-in takes one step.
pub(super) fn files(pool: &DescriptorPool, graph: &Graph) -> impl Iterator<Item = FileDescriptorProto> {
    let derives = graph.derives();
    let files = pool.files().filter(|file| !is_google(file.name()));
    files.map(move |file| {
        let file = file.file_descriptor_proto();
        let messages = file.message_type.iter();
        FileDescriptorProto {
            name: file.name.clone(),
            package: file.package.clone(),
            message_type: messages
                .map(|message| of(message, file.package(), &derives))
                .collect(),
            ..FileDescriptorProto::default()
        }
    })
}

fn of(message: &DescriptorProto, outer: &str, derives: &HashMap<&str, Derives>) -> DescriptorProto {
    let name = [outer, message.name()].join(".");
    let name = name.trim_start_matches('.');
    // A `float` is not `Eq`, and a `string` is not `Copy`.
    let types = match derives.get(name).copied().unwrap_or_default() {
        Derives { copy: true, eq: true } => &[][..],
        Derives {
            copy: true,
            eq: false,
        } => &[Type::Float][..],
        Derives {
            copy: false,
            eq: true,
        } => &[Type::String][..],
        Derives {
            copy: false,
            eq: false,
        } => &[Type::Float, Type::String][..],
    };
    let nested = message.nested_type.iter();
    DescriptorProto {
        name: message.name.clone(),
        field: types.iter().map(|one| field(*one)).collect(),
        nested_type: nested.map(|nested| of(nested, name, derives)).collect(),
        ..DescriptorProto::default()
    }
}

fn field(of: Type) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(of.as_str_name().to_owned()),
        number: Some(1),
        label: Some(Label::Optional.into()),
        r#type: Some(of.into()),
        ..FieldDescriptorProto::default()
    }
}
