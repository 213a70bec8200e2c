//! The descriptors that prost-build reads: those of the files, changed where it would write code that does not compile.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, field_descriptor_proto::Type};

use crate::{
    model::{is_given, is_newer, without_accessors},
    source::is_google,
    target::Target,
};

/// A file as prost-build reads it.
pub(super) fn changed(file: &FileDescriptor, target: &Target<'_>) -> FileDescriptorProto {
    let mut proto = file.file_descriptor_proto().clone();
    for (message, descriptor) in proto.message_type.iter_mut().zip(file.messages()) {
        change(message, &descriptor, target);
    }
    proto
}

/// The files of Google's types that prost-types lacks and that the files of `pool` use.
pub(super) fn newer(pool: &DescriptorPool, target: &Target<'_>) -> impl Iterator<Item = FileDescriptorProto> {
    let mut newer = Newer {
        target,
        files: BTreeMap::new(),
        seen: BTreeSet::new(),
    };
    for file in pool.files().filter(|file| !is_google(file.name())) {
        newer.add_all(file.file_descriptor_proto(), pool);
    }
    newer.files.into_values()
}

/// The name in the pool of the type that prost-build knows as `name`.
pub(super) fn name_in_pool(name: &str) -> Cow<'_, str> {
    match name.strip_prefix(PACKAGE) {
        Some(rest) => Cow::Owned(format!("google.protobuf{rest}")),
        None => Cow::Borrowed(name),
    }
}

/// Changes a message and the messages inside it.
fn change(proto: &mut DescriptorProto, message: &MessageDescriptor, target: &Target<'_>) {
    for (inner, descriptor) in proto.nested_type.iter_mut().zip(message.child_messages()) {
        change(inner, &descriptor, target);
    }
    let numbers: BTreeSet<u32> = without_accessors(message)
        .iter()
        .map(|(field, _)| field.number())
        .collect();
    let fields: Vec<FieldDescriptor> = message.fields().collect();
    for proto in &mut proto.field {
        let Some(field) = fields.iter().find(|field| field.name() == proto.name()) else {
            continue;
        };
        if let Kind::Enum(values) = field.kind() {
            not_by_an_alias(proto, &values);
            if numbers.contains(&field.number()) {
                as_number(proto, &values);
            }
        }
        rename(proto, target);
    }
    // A map's values are the second field of its entries.
    for field in fields.iter().filter(|field| numbers.contains(&field.number())) {
        let Kind::Message(entry) = field.kind() else {
            continue;
        };
        let entry = proto
            .nested_type
            .iter_mut()
            .find(|inner| inner.name() == entry.name());
        if let Some(value) = entry.and_then(|entry| entry.field.get_mut(1)) {
            value.r#type = Some(Type::Int32.into());
            value.type_name = None;
        }
    }
}

/// Names the default value as prost-build does: of several names of a number, only the first becomes a variant.
fn not_by_an_alias(field: &mut FieldDescriptorProto, values: &EnumDescriptor) {
    let number = field
        .default_value
        .as_deref()
        .and_then(|name| number(values, name));
    let mut protos = values.enum_descriptor_proto().value.iter();
    let first = number.and_then(|number| protos.find(|value| value.number() == number));
    if let Some(first) = first {
        field.default_value = Some(first.name().to_owned());
    }
}

/// Turns an enum field into one of numbers, for which prost derives no accessors.
fn as_number(field: &mut FieldDescriptorProto, values: &EnumDescriptor) {
    let default = field
        .default_value
        .as_deref()
        .and_then(|name| number(values, name));
    field.default_value = default.map(|number| number.to_string());
    field.r#type = Some(Type::Int32.into());
    field.type_name = None;
}

fn number(values: &EnumDescriptor, name: &str) -> Option<i32> {
    values.get_value_by_name(name).map(|value| value.number())
}

/// The package of [`Newer`] types, for prost-build.
///
/// It takes every type of package `google.protobuf` for one of prost-types. To it, this is another package, but it has the same
/// module in Rust.
const PACKAGE: &str = "google.Protobuf";

/// Lets the field name a newer type by its name in [`PACKAGE`].
fn rename(field: &mut FieldDescriptorProto, target: &Target<'_>) {
    if let Some(name) = field.type_name.as_mut() {
        if let Some(rest) = newer_name(name, target) {
            *name = format!(".{PACKAGE}.{rest}");
        }
    }
}

/// The name of a newer type below its package, unless it exists elsewhere; `type_name` begins with a dot.
fn newer_name<'a>(type_name: &'a str, target: &Target<'_>) -> Option<&'a str> {
    let full_name = type_name.strip_prefix('.')?;
    let is_generated = is_newer(full_name) && !is_given(full_name, target);
    is_generated.then(|| full_name.strip_prefix("google.protobuf."))?
}

/// The types of Google that prost-types lacks and that the files use.
struct Newer<'a> {
    target: &'a Target<'a>,
    /// The files by package; a type inside of a message of prost-types has the package of that message.
    files: BTreeMap<String, FileDescriptorProto>,
    seen: BTreeSet<String>,
}

impl Newer<'_> {
    /// Adds all types that a file names.
    fn add_all(&mut self, file: &FileDescriptorProto, pool: &DescriptorPool) {
        let methods = file.service.iter().flat_map(|service| &service.method);
        for method in methods {
            self.add(method.input_type(), pool);
            self.add(method.output_type(), pool);
        }
        for message in &file.message_type {
            self.add_fields(message, pool);
        }
    }

    fn add_fields(&mut self, message: &DescriptorProto, pool: &DescriptorPool) {
        for field in &message.field {
            self.add(field.type_name(), pool);
        }
        for inner in &message.nested_type {
            self.add_fields(inner, pool);
        }
    }

    /// Adds the type `type_name` if prost-types lacks it.
    fn add(&mut self, type_name: &str, pool: &DescriptorPool) {
        let Some(name) = newer_name(type_name, self.target) else {
            return;
        };
        // A type inside of another newer one comes with it.
        let outer = outermost(name);
        if !self.seen.insert(outer.to_owned()) {
            return;
        }
        let full_name = format!("google.protobuf.{outer}");
        let package = match outer.rsplit_once('.') {
            Some((message, _)) => format!("{PACKAGE}.{message}"),
            None => PACKAGE.to_owned(),
        };
        let file = self
            .files
            .entry(package.clone())
            .or_insert_with(|| FileDescriptorProto {
                name: Some(package.clone()),
                package: Some(package),
                ..FileDescriptorProto::default()
            });
        if let Some(message) = pool.get_message_by_name(&full_name) {
            let proto = message.descriptor_proto();
            let mut renamed = proto.clone();
            rename_all(&mut renamed, self.target);
            file.message_type.push(renamed);
            self.add_fields(proto, pool);
        } else if let Some(proto) = pool.get_enum_by_name(&full_name) {
            file.enum_type.push(proto.enum_descriptor_proto().clone());
        }
    }
}

/// The outermost newer type around the type `name`, or `name` itself.
fn outermost(name: &str) -> &str {
    let ends = name.match_indices('.').map(|(end, _)| &name[..end]);
    let mut outer = ends.filter(|outer| is_newer(&format!("google.protobuf.{outer}")));
    outer.next().unwrap_or(name)
}

fn rename_all(message: &mut DescriptorProto, target: &Target<'_>) {
    for field in &mut message.field {
        rename(field, target);
    }
    for inner in &mut message.nested_type {
        rename_all(inner, target);
    }
}
