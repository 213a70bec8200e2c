//! Shapes: the size of a message that exists elsewhere, from its .proto definition.

use proc_macro2::TokenStream;
use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};
use quote::quote;

use crate::model::{Graph, Types, is_option};

/// A tuple with the fields that prost-build would give to `message`, which takes at least as much memory.
///
/// It names no message, because only the types that our own fields have surely exist where the build script says.
pub(super) fn shape(message: &MessageDescriptor, types: &Types<'_>, graph: &Graph) -> TokenStream {
    let fields = message.fields().map(|field| field_shape(&field, types, graph));
    quote!((#(#fields,)*))
}

fn field_shape(field: &FieldDescriptor, types: &Types<'_>, graph: &Graph) -> TokenStream {
    let value = match field.kind() {
        _ if field.is_map() => return quote!(::std::collections::HashMap<(), ()>),
        _ if field.cardinality() == Cardinality::Repeated => return quote!(::std::vec::Vec<()>),
        Kind::Message(_) if graph.contains_itself(field) => quote!(::std::boxed::Box<()>),
        Kind::Message(inner) => shape(&inner, types, graph),
        _ => types.value(field),
    };
    // A oneof takes less than an option of each of its fields.
    if is_option(field) || field.containing_oneof().is_some() {
        quote!(::core::option::Option<#value>)
    } else {
        value
    }
}
