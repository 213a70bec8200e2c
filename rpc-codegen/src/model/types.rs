//! Types: the Rust types of messages and fields, as prost-build writes them.

use proc_macro2::{Ident, Span, TokenStream};
use prost_reflect::{Cardinality, FieldDescriptor, Kind as ProtoKind, MessageDescriptor, Syntax};
use quote::quote;

use super::{
    externs::{extern_path, is_given},
    naming::{camel, snake},
    oneof::path_of,
};
use crate::{choices::BytesType, target::Target};

/// The paths of types, as seen from the module of one package.
#[derive(Debug)]
pub(crate) struct Types<'a> {
    package: &'a str,
    target: &'a Target<'a>,
}

impl<'a> Types<'a> {
    /// The types as seen from the module of `package`.
    pub(crate) fn new(package: &'a str, target: &'a Target<'a>) -> Self {
        Self { package, target }
    }

    /// The type of a message.
    pub(crate) fn message(&self, message: &MessageDescriptor) -> TokenStream {
        self.named(message.package_name(), message.full_name())
    }

    /// The type of an enum.
    pub(crate) fn enumeration(&self, proto: &prost_reflect::EnumDescriptor) -> TokenStream {
        self.named(proto.package_name(), proto.full_name())
    }

    /// The type of a message's field, without the `Box` of recursive fields.
    pub(crate) fn field(&self, field: &FieldDescriptor) -> TokenStream {
        if let ProtoKind::Message(entry) = field.kind() {
            if field.is_map() {
                let key = self.value(&entry.map_entry_key_field());
                let value = self.value_of(&entry.map_entry_value_field(), field);
                return if self.is_ordered(field) {
                    quote!(::std::collections::BTreeMap<#key, #value>)
                } else {
                    quote!(::std::collections::HashMap<#key, #value>)
                };
            }
        }
        let single = self.value(field);
        match field.cardinality() {
            Cardinality::Repeated => quote!(::std::vec::Vec<#single>),
            _ if is_option(field) => quote!(::core::option::Option<#single>),
            _ => single,
        }
    }

    /// The type of one value of a field.
    pub(crate) fn value(&self, field: &FieldDescriptor) -> TokenStream {
        self.value_of(field, field)
    }

    /// The type of `value`, which is the field itself, or the value of the map `field`.
    pub(crate) fn value_of(&self, value: &FieldDescriptor, field: &FieldDescriptor) -> TokenStream {
        match value.kind() {
            ProtoKind::Double => quote!(f64),
            ProtoKind::Float => quote!(f32),
            ProtoKind::Int32 | ProtoKind::Sint32 | ProtoKind::Sfixed32 | ProtoKind::Enum(_) => quote!(i32),
            ProtoKind::Int64 | ProtoKind::Sint64 | ProtoKind::Sfixed64 => quote!(i64),
            ProtoKind::Uint32 | ProtoKind::Fixed32 => quote!(u32),
            ProtoKind::Uint64 | ProtoKind::Fixed64 => quote!(u64),
            ProtoKind::Bool => quote!(bool),
            ProtoKind::String => quote!(::std::string::String),
            ProtoKind::Bytes => match bytes_type(field, self.target) {
                BytesType::Bytes => {
                    let runtime = self.target.runtime;
                    quote!(#runtime::Bytes)
                }
                BytesType::Vec => quote!(::std::vec::Vec<u8>),
            },
            ProtoKind::Message(message) => self.message(&message),
        }
    }

    /// The path from this package's module to `full_name`, declared in `package`.
    pub(crate) fn path(&self, package: &str, full_name: &str) -> TokenStream {
        let here: Vec<&str> = self.package.split('.').filter(|part| !part.is_empty()).collect();
        let there: Vec<&str> = full_name.split('.').collect();
        let package_len = package.split('.').filter(|part| !part.is_empty()).count();
        let shared = here
            .iter()
            .zip(&there[..package_len])
            .take_while(|(a, b)| a == b)
            .count();
        let (name, modules) = there[shared..].split_last().unwrap_or((&full_name, &[]));
        let up = here[shared..].iter().map(|_| "super".to_owned());
        let parts: Vec<String> = up
            .chain(modules.iter().map(|part| snake(part)))
            .chain([camel(name)])
            .collect();
        let idents = parts.iter().map(|part| ident(part));
        // `T` or `U` alone would mean the type parameter of the server.
        if parts == ["T"] || parts == ["U"] {
            quote!(self::#(#idents)::*)
        } else {
            quote!(#(#idents)::*)
        }
    }

    /// True if the map `field` is a `BTreeMap`.
    pub(crate) fn is_ordered(&self, field: &FieldDescriptor) -> bool {
        self.target.choices.btree_maps.contains(&path_of(field))
    }

    /// True if the build script says where the type `full_name` is, so that its fields and conversions are not ours.
    pub(crate) fn is_given(&self, full_name: &str) -> bool {
        is_given(full_name, self.target)
    }

    /// The type `full_name`, generated here or elsewhere.
    fn named(&self, package: &str, full_name: &str) -> TokenStream {
        match extern_path(full_name, self.target) {
            // `options` has checked that it is a path.
            Some(path) => path.parse().unwrap_or_default(),
            None => self.path(package, full_name),
        }
    }
}

/// The type of the `bytes` in a field.
pub(crate) fn bytes_type(field: &FieldDescriptor, target: &Target<'_>) -> BytesType {
    target
        .choices
        .bytes_types
        .last(&path_of(field))
        .copied()
        .unwrap_or_default()
}

/// True if a field has bytes: one value, several, or the values of a map.
pub(crate) fn has_bytes(field: &FieldDescriptor) -> bool {
    match field.kind() {
        ProtoKind::Bytes => true,
        ProtoKind::Message(entry) if field.is_map() => {
            entry.map_entry_value_field().kind() == ProtoKind::Bytes
        }
        _ => false,
    }
}

/// True if a field has one message, which may be in a `Box`.
pub(crate) fn can_be_boxed(field: &FieldDescriptor) -> bool {
    field.cardinality() != Cardinality::Repeated && matches!(field.kind(), ProtoKind::Message(_))
}

/// True if prost-build wraps a field, which is not repeated, in an `Option`.
pub(crate) fn is_option(field: &FieldDescriptor) -> bool {
    let proto = field.field_descriptor_proto();
    if proto.proto3_optional.unwrap_or(false) {
        return true;
    }
    let is_message = matches!(field.kind(), ProtoKind::Message(_)) && !field.is_group();
    field.cardinality() == Cardinality::Optional
        && (is_message || field.parent_file().syntax() == Syntax::Proto2)
}

/// Turns `name`, which may begin with `r#`, into an identifier.
pub(crate) fn ident(name: &str) -> Ident {
    match name.strip_prefix("r#") {
        Some(raw) => Ident::new_raw(raw, Span::call_site()),
        None => Ident::new(name, Span::call_site()),
    }
}
