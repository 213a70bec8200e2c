//! Flattened fields: as arguments and results, and in messages.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use crate::{
    code::Code,
    model::{Field, FieldKind, ident},
};

/// The type of a field as handlers take and return it.
pub(super) fn value_type(field: &Field, runtime: &Code) -> TokenStream {
    match &field.kind {
        FieldKind::Text => quote!(::std::string::String),
        FieldKind::Enum(ty) => quote!(#runtime::Open<#ty>),
        FieldKind::OptionalEnum(ty) => quote!(::core::option::Option<#runtime::Open<#ty>>),
        FieldKind::Bytes(ty) | FieldKind::Plain(ty) => quote!(#ty),
    }
}

/// The value of a field of `message`, as handlers take it and stubs return it.
pub(super) fn value_in(message: &TokenStream, field: &Field, runtime: &Code) -> TokenStream {
    let name = ident(&field.ident);
    match &field.kind {
        FieldKind::Enum(_) => quote!(#runtime::Open::from_number(#message.#name)),
        FieldKind::OptionalEnum(_) => quote!(#message.#name.map(#runtime::Open::from_number)),
        FieldKind::Text | FieldKind::Bytes(_) | FieldKind::Plain(_) => quote!(#message.#name),
    }
}

/// The argument of a stub: `impl Into` for text, bytes and enums, which shortens calls.
pub(super) fn argument(field: &Field, runtime: &Code) -> TokenStream {
    let name: Ident = ident(&field.ident);
    match &field.kind {
        FieldKind::Text | FieldKind::Bytes(_) | FieldKind::Enum(_) => {
            let ty = value_type(field, runtime);
            quote!(#name: impl ::core::convert::Into<#ty>)
        }
        // Numbers and options keep their type: `impl Into<u32>` rejects a bare `7`, `impl Into<Option<..>>` a bare `None`.
        _ => {
            let ty = value_type(field, runtime);
            quote!(#name: #ty)
        }
    }
}

/// The field of the request, set from the stub's argument.
pub(super) fn of_argument(field: &Field, runtime: &Code) -> TokenStream {
    let name = ident(&field.ident);
    match &field.kind {
        FieldKind::Text | FieldKind::Bytes(_) => quote!(#name: #name.into()),
        FieldKind::Enum(_) => quote!(#name: #name.into().number()),
        FieldKind::OptionalEnum(_) => quote!(#name: #name.map(#runtime::Open::number)),
        FieldKind::Plain(_) => quote!(#name),
    }
}

/// The field of the reply, set from the handler's result.
pub(super) fn of_result(field: &Field, runtime: &Code) -> TokenStream {
    let name = ident(&field.ident);
    match &field.kind {
        FieldKind::Enum(_) => quote!(#name: #name.number()),
        FieldKind::OptionalEnum(_) => quote!(#name: #name.map(#runtime::Open::number)),
        FieldKind::Text | FieldKind::Bytes(_) | FieldKind::Plain(_) => quote!(#name),
    }
}
