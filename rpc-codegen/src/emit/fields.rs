//! Fields of messages, as arguments and results.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use crate::model::{Field, FieldKind, ident};

/// The type of a field as a handler takes and returns it.
pub(super) fn value_type(field: &Field, runtime: &TokenStream) -> TokenStream {
    match &field.kind {
        FieldKind::Text => quote!(::std::string::String),
        FieldKind::Bytes => quote!(#runtime::Bytes),
        FieldKind::Enum(ty) => quote!(#runtime::Open<#ty>),
        FieldKind::OptionalEnum(ty) => quote!(::core::option::Option<#runtime::Open<#ty>>),
        FieldKind::Plain(ty) => ty.clone(),
    }
}

/// The value of a field of `message`, as a handler takes it and a stub returns it.
pub(super) fn value_in(message: &TokenStream, field: &Field, runtime: &TokenStream) -> TokenStream {
    let name = ident(&field.ident);
    match &field.kind {
        FieldKind::Enum(_) => quote!(#runtime::Open::from_number(#message.#name)),
        FieldKind::OptionalEnum(_) => quote!(#message.#name.map(#runtime::Open::from_number)),
        FieldKind::Text | FieldKind::Bytes | FieldKind::Plain(_) => quote!(#message.#name),
    }
}

/// An argument of a stub, with what makes calls short: `impl Into` for text, bytes and enums.
pub(super) fn argument(field: &Field, runtime: &TokenStream) -> TokenStream {
    let name: Ident = ident(&field.ident);
    match &field.kind {
        FieldKind::Text | FieldKind::Bytes | FieldKind::Enum(_) => {
            let ty = value_type(field, runtime);
            quote!(#name: impl ::core::convert::Into<#ty>)
        }
        // Numbers stay plain: `impl Into<u32>` would not take a bare `7`, nor `impl Into<Option<..>>` a bare `None`.
        _ => {
            let ty = value_type(field, runtime);
            quote!(#name: #ty)
        }
    }
}

/// The value of the request's field for that argument.
pub(super) fn of_argument(field: &Field, runtime: &TokenStream) -> TokenStream {
    let name = ident(&field.ident);
    match &field.kind {
        FieldKind::Text | FieldKind::Bytes => quote!(#name: #name.into()),
        FieldKind::Enum(_) => quote!(#name: #name.into().number()),
        FieldKind::OptionalEnum(_) => quote!(#name: #name.map(#runtime::Open::number)),
        FieldKind::Plain(_) => quote!(#name),
    }
}

/// The value of the reply's field for what a handler returned under the field's name.
pub(super) fn of_result(field: &Field, runtime: &TokenStream) -> TokenStream {
    let name = ident(&field.ident);
    match &field.kind {
        FieldKind::Enum(_) => quote!(#name: #name.number()),
        FieldKind::OptionalEnum(_) => quote!(#name: #name.map(#runtime::Open::number)),
        FieldKind::Text | FieldKind::Bytes | FieldKind::Plain(_) => quote!(#name),
    }
}
