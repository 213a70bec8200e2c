//! Conversions of a value into a request of one field, which stubs call as `into()`.

use std::collections::{BTreeMap, HashMap};

use proc_macro2::TokenStream;
use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};
use quote::quote;

use crate::{
    choices::BytesType,
    model::{
        Graph, Request, Service, Types, bytes_type, ident, is_option,
        naming::{module_path, snake},
        value_of,
    },
    target::Target,
};

/// The requests of `services` that need conversions, each once, by the module of the request.
pub(super) fn requests<'a>(
    services: &'a [Service],
    target: &Target<'_>,
) -> HashMap<Vec<String>, Vec<&'a MessageDescriptor>> {
    let mut by_module: HashMap<Vec<String>, Vec<&MessageDescriptor>> = HashMap::new();
    let called = services
        .iter()
        .filter(|service| target.parts(&service.full_name).client());
    let procedures = called.flat_map(|service| &service.procedures);
    let requests: BTreeMap<String, &MessageDescriptor> = procedures
        .filter(|procedure| matches!(procedure.request, Request::Value(_)))
        .map(|procedure| &procedure.input)
        .map(|input| (input.full_name().to_owned(), input))
        .collect();
    for request in requests.into_values() {
        let module = module_path(request.package_name());
        by_module.entry(module).or_default().push(request);
    }
    by_module
}

/// The conversions into one request.
pub(super) fn items(request: &MessageDescriptor, graph: &Graph, target: &Target<'_>) -> TokenStream {
    let types = Types::new(request.package_name(), target);
    let ty = types.message(request);
    let Some(field) = value_of(&types, request) else {
        return quote!();
    };
    let name = ident(&snake(field.name()));
    sources(&field, &types, graph, target)
        .into_iter()
        .map(|(source, value)| {
            quote! {
                impl ::core::convert::From<#source> for #ty {
                    fn from(value: #source) -> Self {
                        Self { #name: #value }
                    }
                }
            }
        })
        .collect()
}

/// The types that convert into the request, and the field's value made of `value`.
fn sources(
    field: &FieldDescriptor,
    types: &Types<'_>,
    graph: &Graph,
    target: &Target<'_>,
) -> Vec<(TokenStream, TokenStream)> {
    let runtime = target.runtime;
    if field.cardinality() == Cardinality::Repeated {
        return vec![(types.field(field), quote!(value))];
    }
    let string = quote!(::std::string::String);
    let sources = match field.kind() {
        Kind::String => texts(&string),
        Kind::Message(message) if is_text(&message, types) => texts(&string),
        Kind::Bytes => {
            let (bytes, vec) = (quote!(#runtime::Bytes), quote!(::std::vec::Vec));
            let texts = [string, quote!(&'static [u8]), quote!(&'static str)];
            let (ty, make, more) = match bytes_type(field, target) {
                BytesType::Bytes => (bytes.clone(), bytes, quote!(#vec<u8>)),
                BytesType::Vec => (quote!(#vec<u8>), vec, bytes),
            };
            let others = [more].into_iter().chain(texts);
            let others = others.map(|source| (source, quote!(#make::from(value))));
            [(ty, quote!(value))].into_iter().chain(others).collect()
        }
        Kind::Enum(proto) => {
            let ty = types.enumeration(&proto);
            vec![
                (ty.clone(), quote!(#runtime::Open::from(value).number())),
                (quote!(#runtime::Open<#ty>), quote!(value.number())),
            ]
        }
        Kind::Message(message) => {
            let value = if graph.is_boxed(field) {
                quote!(::std::boxed::Box::new(value))
            } else {
                quote!(value)
            };
            vec![(types.message(&message), value)]
        }
        _ => vec![(types.value(field), quote!(value))],
    };
    if !is_option(field) {
        return sources;
    }
    let some = |(source, value)| (source, quote!(::core::option::Option::Some(#value)));
    sources.into_iter().map(some).collect()
}

/// True if a message is a `String` in Rust.
fn is_text(message: &MessageDescriptor, types: &Types<'_>) -> bool {
    message.full_name() == "google.protobuf.StringValue" && !types.is_given(message.full_name())
}

fn texts(string: &TokenStream) -> Vec<(TokenStream, TokenStream)> {
    vec![
        (string.clone(), quote!(value)),
        (quote!(&str), quote!(#string::from(value))),
    ]
}
