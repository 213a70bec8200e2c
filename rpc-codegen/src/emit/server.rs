//! The server of a service: the trait that users implement, and the type that serves it.

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};

use super::{
    docs::{doc_lines, docs_or},
    fields::{of_result, value_in, value_type},
    names::Names,
};
use crate::{
    model::{Procedure, Reply, Request, Service, ident},
    target::Target,
};

/// The server's half of a service.
pub(super) fn items(service: &Service, names: &Names<'_>, target: &Target<'_>) -> TokenStream {
    let interface = interface(service, names, target);
    let shared = shared(service, names);
    let server = server(service, names);
    quote!(#interface #shared #server)
}

/// The trait that users implement.
fn interface(service: &Service, names: &Names<'_>, target: &Target<'_>) -> TokenStream {
    let name = &names.service;
    let attributes = &names.trait_attributes;
    let docs = docs_or(
        &service.docs,
        format!("The procedures of `{}`.", service.full_name),
    );
    let has_defaults = target.choices.default_handlers.contains(&service.full_name);
    let methods = service.procedures.iter().map(|procedure| {
        let docs = docs_or(&procedure.docs, format!("The procedure `{}`.", procedure.path));
        let stream_docs = stream_docs(procedure);
        let signature = signature(procedure, names);
        let body = if has_defaults {
            default_handler(procedure, names)
        } else {
            quote!(;)
        };
        let deprecated = procedure.is_deprecated.then(|| quote!(#[deprecated]));
        quote!(#docs #stream_docs #deprecated #signature #body)
    });
    quote! {
        #docs
        #attributes
        pub trait #name: ::core::marker::Send + ::core::marker::Sync + 'static {
            #(#methods)*
        }
    }
}

/// The body of a method that an implementation may leave out.
fn default_handler(procedure: &Procedure, names: &Names<'_>) -> TokenStream {
    let runtime = names.runtime;
    let path = &procedure.path;
    let arguments = arguments(procedure, names).into_iter().map(|(name, _)| name);
    let answer = if procedure.has_reply_stream() {
        quote!(unimplemented_stream)
    } else {
        quote!(unimplemented)
    };
    quote!({
        let _ = (cx #(, #arguments)*);
        #runtime::codegen::#answer(#path)
    })
}

/// Advice for the author of a handler with streams, after the .proto file's documentation.
fn stream_docs(procedure: &Procedure) -> Option<TokenStream> {
    let requests = "Requests read to their end are complete. Pass their errors on with `?`.";
    let replies = "The returned stream may borrow from `self` and `cx`. An error in it ends the call.";
    let lines = match (procedure.has_request_stream(), procedure.has_reply_stream()) {
        (false, false) => return None,
        (false, true) => vec!["", replies],
        (true, false) => vec!["", requests],
        (true, true) => vec!["", requests, replies],
    };
    Some(doc_lines(&lines))
}

/// The trait for `Arc`, so that a program can share the service that it serves.
fn shared(service: &Service, names: &Names<'_>) -> TokenStream {
    let Names {
        service: name,
        implementor,
        ..
    } = names;
    let methods = service.procedures.iter().map(|procedure| {
        let signature = signature(procedure, names);
        let method = format_ident!("{}", procedure.stem.method());
        let arguments = arguments(procedure, names).into_iter().map(|(name, _)| name);
        quote!(#signature { (**self).#method(cx #(, #arguments)*) })
    });
    quote! {
        impl<#implementor: #name> #name for ::std::sync::Arc<#implementor> {
            #(#methods)*
        }
    }
}

/// A method of the trait, up to its body.
fn signature(procedure: &Procedure, names: &Names<'_>) -> TokenStream {
    let runtime = names.runtime;
    let method = format_ident!("{}", procedure.stem.method());
    let arguments = arguments(procedure, names)
        .into_iter()
        .map(|(name, ty)| quote!(#name: #ty));
    let result = result(procedure, names);
    quote! {
        fn #method(&self, cx: &#runtime::Context #(, #arguments)*)
            -> impl ::core::future::Future<Output = #runtime::Result<#result>> + ::core::marker::Send
    }
}

/// The type that a method resolves to, if it succeeds.
pub(super) fn result(procedure: &Procedure, names: &Names<'_>) -> TokenStream {
    let runtime = names.runtime;
    match &procedure.reply {
        Reply::Message(ty) => quote!(#ty),
        Reply::Field(_, field) => value_type(field, runtime),
        // It may borrow from `self` and `cx`, because the runtime drives it in the future that owns them.
        Reply::Stream(ty) => {
            quote!(impl #runtime::Stream<Item = #runtime::Result<#ty>> + ::core::marker::Send)
        }
    }
}

/// The names and types of a method's own arguments.
pub(super) fn arguments(procedure: &Procedure, names: &Names<'_>) -> Vec<(Ident, TokenStream)> {
    match &procedure.request {
        Request::Empty => Vec::new(),
        Request::Message(ty) | Request::Value(ty) => vec![(format_ident!("request"), quote!(#ty))],
        Request::Stream(ty) => {
            let runtime = names.runtime;
            vec![(format_ident!("requests"), quote!(#runtime::Requests<#ty>))]
        }
        Request::Fields(_, fields) => fields
            .iter()
            .map(|field| {
                // The name of the context is taken.
                let name = if field.ident == "cx" { "cx_" } else { &field.ident };
                (ident(name), value_type(field, names.runtime))
            })
            .collect(),
    }
}

/// The type that `Server::builder().service(..)` takes.
fn server(service: &Service, names: &Names<'_>) -> TokenStream {
    let Names {
        runtime,
        list,
        service: name,
        server,
        server_attributes,
        implementor,
        descriptors,
        ..
    } = names;
    let descriptors = descriptors.as_ref().map(|name| {
        quote! {
            fn descriptors(&self) -> &'static [u8] {
                #name
            }
        }
    });
    let type_docs = doc_lines(&[format!(
        "Serves `{}` with an implementation of [`{name}`].",
        service.full_name
    )]);
    let full_name = &service.full_name;
    let arms: Vec<TokenStream> = (0..)
        .zip(&service.procedures)
        .map(|(index, procedure)| {
            let index = Literal::usize_unsuffixed(index);
            let handler = handler(procedure, names);
            quote!(#index => #handler,)
        })
        .collect();
    let body = if arms.is_empty() {
        quote!(let _ = index; call.unknown())
    } else {
        quote! {
            let service = ::std::sync::Arc::clone(&self.service);
            match index { #(#arms)* _ => call.unknown() }
        }
    };
    quote! {
        #type_docs
        #server_attributes
        pub struct #server<#implementor> {
            service: ::std::sync::Arc<#implementor>,
        }
        #runtime::codegen::server_methods!(#server, #name, #implementor);
        impl<#implementor: #name> #runtime::codegen::Service for #server<#implementor> {
            fn name(&self) -> &'static str {
                #full_name
            }
            fn procedures(&self) -> &'static [#runtime::codegen::Procedure] {
                &#list
            }
            #descriptors
            fn takes_rows(&self) -> bool {
                true
            }
            fn call(&self, index: usize, call: #runtime::codegen::Incoming) -> #runtime::codegen::Handler {
                #body
            }
        }
    }
}

/// The expression that turns one call into its handler.
fn handler(procedure: &Procedure, names: &Names<'_>) -> TokenStream {
    if !procedure.has_stream() {
        return unary_handler(procedure, names);
    }
    let runtime = names.runtime;
    let method = format_ident!("{}", procedure.stem.method());
    let into_reply = match &procedure.reply {
        Reply::Message(_) | Reply::Stream(_) => quote!(),
        Reply::Field(ty, field) => {
            let name = ident(&field.ident);
            let value = of_result(field, runtime);
            quote!(.map(|#name| #ty { #value }))
        }
    };
    let replies = procedure.has_reply_stream();
    let sink = quote!(, replies);
    let run = |arguments: TokenStream| {
        if replies {
            quote! {{
                let stream = service.#method(&cx #arguments).await?;
                replies.forward(stream).await
            }}
        } else {
            quote!({ service.#method(&cx #arguments).await #into_reply })
        }
    };
    match &procedure.request {
        Request::Empty => {
            let run = run(quote!());
            quote!(call.handle_reply_stream(move |cx, (): () #sink| async move #run))
        }
        Request::Message(ty) | Request::Value(ty) => {
            let run = run(quote!(, request));
            quote!(call.handle_reply_stream(move |cx, request: #ty #sink| async move #run))
        }
        Request::Stream(ty) => {
            let run = run(quote!(, requests));
            let (handle, sink) = if replies {
                (quote!(handle_both_streams), sink)
            } else {
                (quote!(handle_request_stream), quote!())
            };
            quote!(call.#handle(move |cx, requests: #runtime::Requests<#ty> #sink| async move #run))
        }
        Request::Fields(ty, fields) if fields.is_empty() => {
            let run = run(quote!());
            quote!(call.handle_reply_stream(move |cx, _: #ty #sink| async move #run))
        }
        Request::Fields(ty, fields) => {
            let request = quote!(request);
            let values = fields.iter().map(|field| value_in(&request, field, runtime));
            let run = run(quote!(#(, #values)*));
            quote!(call.handle_reply_stream(move |cx, request: #ty #sink| async move #run))
        }
    }
}

/// As [`handler`], for a procedure without streams. Its handler borrows the service and the context, which one-way calls that
/// come together share.
fn unary_handler(procedure: &Procedure, names: &Names<'_>) -> TokenStream {
    let Names {
        runtime,
        service,
        implementor,
        ..
    } = names;
    let method = format_ident!("{}", procedure.stem.method());
    let (request, ty, arguments) = match &procedure.request {
        Request::Empty => (quote!((): ()), quote!(()), Vec::new()),
        Request::Message(ty) | Request::Value(ty) | Request::Stream(ty) => {
            (quote!(request: #ty), quote!(#ty), vec![quote!(request)])
        }
        Request::Fields(ty, fields) if fields.is_empty() => (quote!(_: #ty), quote!(#ty), Vec::new()),
        Request::Fields(ty, fields) => {
            let message = quote!(request);
            let values = fields.iter().map(|field| value_in(&message, field, runtime));
            (quote!(request: #ty), quote!(#ty), values.collect())
        }
    };
    let run = quote!(service.#method(cx #(, #arguments)*));
    let (reply, body) = match &procedure.reply {
        Reply::Message(reply) | Reply::Stream(reply) => (quote!(#reply), run),
        Reply::Field(reply, field) => {
            let name = ident(&field.ident);
            let value = of_result(field, runtime);
            let body = quote!(async move { #run.await.map(|#name| #reply { #value }) });
            (quote!(#reply), body)
        }
    };
    let is_as_declared = matches!(
        (&procedure.request, &procedure.reply),
        (Request::Message(_) | Request::Value(_), Reply::Message(_))
    );
    if is_as_declared {
        return quote! {
            call.handle_with::<#implementor, #ty, #reply, _>(service, <#implementor as #service>::#method)
        };
    }
    quote! {{
        #[allow(clippy::manual_async_fn, reason = "its type says that it is `Send`")]
        fn run<'a, #implementor: #service>(
            service: &'a #implementor,
            cx: &'a #runtime::Context,
            #request
        ) -> impl ::core::future::Future<Output = #runtime::Result<#reply>> + ::core::marker::Send + 'a {
            #body
        }
        call.handle_with::<#implementor, #ty, #reply, _>(service, run::<#implementor>)
    }}
}
