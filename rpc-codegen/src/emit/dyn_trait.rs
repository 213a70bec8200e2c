//! The trait of a service for `dyn`: its handlers in boxes, and the way back to the trait itself.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::{
    docs::doc_lines,
    names::Names,
    server::{arguments, result},
};
use crate::model::{Procedure, Reply, Service};

/// The trait, its implementation for all implementations of the service, and that of the service for `Arc<dyn ..>`.
pub(super) fn items(service: &Service, names: &Names<'_>) -> TokenStream {
    let Names {
        service: name,
        dyn_trait,
        implementor,
        ..
    } = names;
    let docs = doc_lines(&[
        format!("[`{name}`] for `dyn`: `Arc<dyn {dyn_trait}>` implements [`{name}`], so a server takes it."),
        String::new(),
        format!("Every implementation of [`{name}`] implements it: there is nothing to write."),
    ]);
    let procedures = &service.procedures;
    let declared = procedures.iter().map(|procedure| {
        let docs = doc_lines(&[format!("As [`{name}::{}`], in a box.", procedure.stem.method())]);
        let signature = boxed_signature(procedure, names);
        quote!(#docs #signature;)
    });
    let boxed = procedures.iter().map(|procedure| {
        let signature = boxed_signature(procedure, names);
        let body = boxed_body(procedure, names);
        quote!(#signature { #body })
    });
    let unboxed = procedures.iter().map(|procedure| {
        let signature = unboxed_signature(procedure, names);
        let body = unboxed_body(procedure, names);
        quote!(#signature { #body })
    });
    quote! {
        #docs
        pub trait #dyn_trait: ::core::marker::Send + ::core::marker::Sync + 'static {
            #(#declared)*
        }
        impl<#implementor: #name> #dyn_trait for #implementor {
            #(#boxed)*
        }
        impl #name for ::std::sync::Arc<dyn #dyn_trait> {
            #(#unboxed)*
        }
    }
}

/// A method of the trait for `dyn`, up to its body.
fn boxed_signature(procedure: &Procedure, names: &Names<'_>) -> TokenStream {
    let runtime = names.runtime;
    // Not the name of the service's own method: calls would be ambiguous where both traits are in scope.
    let method = format_ident!("{}", procedure.stem.dyn_method());
    let arguments = arguments(procedure, names)
        .into_iter()
        .map(|(name, ty)| quote!(#name: #ty));
    let result = match &procedure.reply {
        Reply::Stream(ty) => quote!(#runtime::codegen::BoxStream<'a, #ty>),
        _ => result(procedure, names),
    };
    quote! {
        fn #method<'a>(&'a self, cx: &'a #runtime::Context #(, #arguments)*)
            -> #runtime::codegen::BoxFuture<'a, #result>
    }
}

/// The service's own method, in a box.
fn boxed_body(procedure: &Procedure, names: &Names<'_>) -> TokenStream {
    let Names { runtime, service, .. } = names;
    let method = format_ident!("{}", procedure.stem.method());
    let arguments = arguments(procedure, names).into_iter().map(|(name, _)| name);
    let call = quote!(#service::#method(self, cx #(, #arguments)*));
    match &procedure.reply {
        Reply::Stream(ty) => quote! {
            ::std::boxed::Box::pin(async move {
                let replies: #runtime::codegen::BoxStream<'a, #ty> = ::std::boxed::Box::pin(#call.await?);
                ::core::result::Result::Ok(replies)
            })
        },
        _ => quote!(::std::boxed::Box::pin(#call)),
    }
}

/// The service's own method as `dyn` implements it, up to its body.
fn unboxed_signature(procedure: &Procedure, names: &Names<'_>) -> TokenStream {
    let runtime = names.runtime;
    let method = format_ident!("{}", procedure.stem.method());
    let arguments = arguments(procedure, names)
        .into_iter()
        .map(|(name, ty)| quote!(#name: #ty));
    let result = result(procedure, names);
    quote! {
        async fn #method(&self, cx: &#runtime::Context #(, #arguments)*) -> #runtime::Result<#result>
    }
}

/// The method for `dyn`, out of its box.
fn unboxed_body(procedure: &Procedure, names: &Names<'_>) -> TokenStream {
    let runtime = names.runtime;
    let method = format_ident!("{}", procedure.stem.dyn_method());
    let arguments = arguments(procedure, names).into_iter().map(|(name, _)| name);
    let call = quote!((**self).#method(cx #(, #arguments)*).await);
    match &procedure.reply {
        // The box has one lifetime for `self` and `cx`, which the returned type cannot name: the stream hides it.
        Reply::Stream(_) => quote! {
            ::core::result::Result::Ok(#runtime::stream(async move |out| {
                #runtime::codegen::forward(#call?, out).await
            }))
        },
        _ => call,
    }
}
