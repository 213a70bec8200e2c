//! Debug of messages with a `BTreeMap`. The `Debug` of prost-derive names the crate `prost`, which users need not have.

use proc_macro2::TokenStream;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use quote::quote;
use syn::parse_quote;

use crate::{
    model::{
        Types, ident, is_generated, is_in_oneof, is_option,
        naming::{camel, snake},
        oneofs,
    },
    target::Target,
};

/// Replaces prost-derive's `Debug` of those of `messages` that have such a map; `file` has their code.
pub(super) fn items(
    file: &mut syn::File,
    messages: &[MessageDescriptor],
    target: &Target<'_>,
) -> TokenStream {
    if target.choices.btree_maps.is_empty() {
        return quote!();
    }
    let concerned = messages.iter().filter(|message| {
        let types = Types::new(message.package_name(), target);
        is_generated(message.full_name(), target)
            && message.fields().any(|field| is_concerned(&field, &types))
    });
    let mut items = quote!();
    for message in concerned {
        let types = Types::new(message.package_name(), target);
        let path = message.full_name()[message.package_name().len()..].trim_start_matches('.');
        let path: Vec<&str> = path.split('.').collect();
        if let Some(found) = find(&mut file.items, &path) {
            found.attrs.push(parse_quote!(#[prost(skip_debug)]));
            items.extend(item(message, &types, target));
        }
    }
    items
}

/// True for an ordered map, except one of bytes, whose type prost-derive does not name.
fn is_concerned(field: &FieldDescriptor, types: &Types<'_>) -> bool {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            types.is_ordered(field) && entry.map_entry_value_field().kind() != Kind::Bytes
        }
        _ => false,
    }
}

/// The struct of the message at `path`, by the names of the messages around it.
fn find<'a>(items: &'a mut [syn::Item], path: &[&str]) -> Option<&'a mut syn::ItemStruct> {
    let (first, rest) = path.split_first()?;
    items.iter_mut().find_map(|item| match item {
        syn::Item::Struct(found) if rest.is_empty() && found.ident == camel(first) => Some(found),
        syn::Item::Mod(inner) if !rest.is_empty() && inner.ident == snake(first) => {
            find(&mut inner.content.as_mut()?.1, rest)
        }
        _ => None,
    })
}

fn item(message: &MessageDescriptor, types: &Types<'_>, target: &Target<'_>) -> TokenStream {
    let ty = types.message(message);
    let name = camel(message.name());
    let runtime = target.runtime;
    let plain = message.fields().filter(|field| !is_in_oneof(field));
    let fields = plain.map(|field| {
        let name = ident(&snake(field.name()));
        match field.kind() {
            Kind::Enum(proto) if !field.is_list() && !is_option(&field) => {
                let ty = types.enumeration(&proto);
                (
                    snake(field.name()),
                    quote!(#runtime::Open::<#ty>::from_number(self.#name)),
                )
            }
            _ => (snake(field.name()), quote!(self.#name)),
        }
    });
    let oneofs: Vec<_> = oneofs(message)
        .map(|oneof| {
            let name = ident(&snake(oneof.name()));
            (snake(oneof.name()), quote!(self.#name))
        })
        .collect();
    let fields = fields
        .chain(oneofs)
        .map(|(name, value)| quote!(.field(#name, &#value)));
    quote! {
        impl ::core::fmt::Debug for #ty {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(#name) #(#fields)* .finish()
            }
        }
    }
}
