//! Stand-ins: messages that tell prost-build which traits it can derive.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

use super::prost_input::name_in_pool;
use crate::model::{Derives, full_name};

/// A second definition of each message in `files` and of each message that they name, with scalar fields that allow the same
/// derives.
///
/// prost-build visits all paths into a message to see whether it is `Copy` and `Eq`. Their number doubles with each level of
/// messages that have two fields of the next one. Of two definitions with one name it asks the last one, and the answer of a
/// stand-in takes one step. So prost-build needs no other file to write the code of these files: a message that contains itself
/// does so within one file, because imports form no circle.
pub(super) fn files<'a>(
    files: impl Iterator<Item = &'a FileDescriptorProto>,
    derives: &HashMap<&str, Derives>,
) -> Vec<FileDescriptorProto> {
    let mut names = BTreeSet::new();
    for file in files {
        for message in &file.message_type {
            add_names(&mut names, file.package(), message);
        }
    }
    // To prost-build, what a message is declared in may be a package.
    let mut messages: BTreeMap<&str, Vec<DescriptorProto>> = BTreeMap::new();
    for name in &names {
        let (outer, inner) = name.rsplit_once('.').unwrap_or(("", name));
        let derives = derives.get(&*name_in_pool(name)).copied().unwrap_or_default();
        messages.entry(outer).or_default().push(of(inner, derives));
    }
    let files = messages
        .into_iter()
        .map(|(outer, message_type)| FileDescriptorProto {
            name: Some(outer.to_owned()),
            package: (!outer.is_empty()).then(|| outer.to_owned()),
            message_type,
            ..FileDescriptorProto::default()
        });
    files.collect()
}

/// Adds the names of a message, of the messages inside it, and of the types of their fields.
fn add_names(names: &mut BTreeSet<String>, outer: &str, message: &DescriptorProto) {
    let name = full_name(outer, message.name());
    let types = message
        .field
        .iter()
        .filter(|field| field.r#type() == Type::Message);
    for ty in types {
        let ty = ty.type_name().trim_start_matches('.');
        if !names.contains(ty) {
            names.insert(ty.to_owned());
        }
    }
    for nested in &message.nested_type {
        add_names(names, &name, nested);
    }
    names.insert(name);
}

fn of(name: &str, derives: Derives) -> DescriptorProto {
    // A `float` is not `Eq`, and a `string` is not `Copy`.
    let types = match derives {
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
    DescriptorProto {
        name: Some(name.to_owned()),
        field: types.iter().map(|one| field(*one)).collect(),
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
