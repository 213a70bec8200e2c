//! The stubs behind `send()` and `send_recv()`: one method for each procedure.

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};

use super::{
    Names, Target, doc_lines, docs_or,
    server::{value_in, value_type},
};
use crate::{
    config::Purpose,
    model::{Field, Kind, Procedure, Reply, Request, Service, ident},
};

/// The two families of calls.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Send,
    SendRecv,
}

/// The type behind `send()` or `send_recv()`.
pub(super) fn stubs(
    service: &Service,
    names: &Names<'_>,
    target: &Target<'_>,
    family: Family,
) -> TokenStream {
    let runtime = names.runtime;
    let name = match family {
        Family::Send => &names.send,
        Family::SendRecv => &names.send_recv,
    };
    let docs = family_docs(service, family);
    let procedures = service.procedures.iter().enumerate();
    let methods = procedures.filter_map(|(index, procedure)| {
        let place = Literal::usize_unsuffixed(index);
        // A one-way request is one message, and nothing comes back.
        let is_there = family == Family::SendRecv || !procedure.has_stream();
        is_there.then(|| stub(procedure, &place, names, family))
    });
    let options = (family == Family::SendRecv).then(|| {
        quote! {
            #[doc = " Bounds how long no message of the call's streams may move, in either direction."]
            pub fn idle_timeout(self, timeout: ::core::time::Duration) -> Self {
                Self { call: self.call.idle_timeout(timeout) }
            }
        }
    });
    // Only the future of a call without streams names the lifetime.
    let has_unary = service.procedures.iter().any(|procedure| !procedure.has_stream());
    let (generics, lifetime) = if family == Family::SendRecv && has_unary {
        (quote!(<'a>), quote!('a))
    } else {
        (quote!(), quote!('_))
    };
    // The built-in service itself is what `terminate` calls.
    let terminate = (target.purpose == Purpose::User).then(|| terminate(runtime, family));
    quote! {
        #docs
        #[derive(Clone, Debug)]
        #[must_use = "a call starts when a procedure is named and awaited"]
        pub struct #name<'a> {
            call: #runtime::codegen::Call<'a>,
        }
        impl #generics #name<#lifetime> {
            #[doc = " Bounds the whole call; `None` for no bound of its own. Without it the client's own counts, usually 30 s."]
            pub fn timeout(
                self,
                timeout: impl ::core::convert::Into<::core::option::Option<::core::time::Duration>>,
            ) -> Self {
                Self { call: self.call.timeout(timeout) }
            }
            #[doc = " Fails the call UNAVAILABLE, rather than wait, when its server is away."]
            pub fn fail_fast(self) -> Self {
                Self { call: self.call.fail_fast() }
            }
            #[doc = " Waits for a server that is away until the deadline, also if the client fails fast."]
            pub fn wait_for_ready(self) -> Self {
                Self { call: self.call.wait_for_ready() }
            }
            #[doc = " Adds an entry that the handler can read."]
            pub fn metadata(
                self,
                key: impl ::core::convert::Into<::std::string::String>,
                value: impl ::core::convert::Into<#runtime::Bytes>,
            ) -> Self {
                Self { call: self.call.metadata(key, value) }
            }
            #[doc = " Ends the call no later than the one that `cx` belongs to, also from a task of its own."]
            pub fn within(self, cx: &#runtime::Context) -> Self {
                Self { call: self.call.within(cx) }
            }
            #[doc = " Inherits nothing from the handler that makes the call: for what several callers share."]
            pub fn detached(self) -> Self {
                Self { call: self.call.detached() }
            }
            #[doc = " Sends the call before or after others that wait."]
            pub fn priority(self, priority: #runtime::Priority) -> Self {
                Self { call: self.call.priority(priority) }
            }
            #options
            #(#methods)*
            #terminate
        }
    }
}

/// The documentation of the type behind `send()` or `send_recv()`.
fn family_docs(service: &Service, family: Family) -> TokenStream {
    let what = &service.full_name;
    let streams: Vec<String> = service
        .procedures
        .iter()
        .filter(|procedure| procedure.has_stream())
        .map(|procedure| format!("`{}`", procedure.stem.stub()))
        .collect();
    let mut lines = Vec::new();
    match family {
        Family::Send => {
            lines.push(format!(
                "A one-way call of `{what}`: options first, then the procedure."
            ));
            if !streams.is_empty() {
                lines.push(String::new());
                lines.push(format!(
                    "Not for procedures with streams: {}.",
                    streams.join(", ")
                ));
            }
            lines.extend(SEND_DOCS.map(str::to_owned));
        }
        Family::SendRecv => {
            lines.push(format!(
                "A call of `{what}` with a reply: options first, then the procedure."
            ));
            lines.extend(SEND_RECV_DOCS.map(str::to_owned));
        }
    }
    doc_lines(&lines)
}

const SEND_DOCS: [&str; 10] = [
    "",
    "Each procedure resolves when the whole call is in the local queue.",
    "",
    "# Errors",
    "",
    "`executed()` is `No`: a call that fails here was not sent, and never will be.",
    "",
    "# Cancel safety",
    "",
    "A future that is dropped before it resolves has sent nothing, but for the very moment of resolving.",
];

const SEND_RECV_DOCS: [&str; 8] = [
    "",
    "# Errors",
    "",
    "What the handler refused with, or what happened on the way; `executed()` tells whether it ran.",
    "",
    "# Cancel safety",
    "",
    "Dropping a future abandons that call only: the server is told, and a late reply is discarded.",
];

/// The stub of one procedure.
fn stub(procedure: &Procedure, place: &Literal, names: &Names<'_>, family: Family) -> TokenStream {
    let Names { runtime, list, .. } = names;
    let docs = docs_or(&procedure.docs, format!("Calls `{}`.", procedure.path));
    let stream_docs = stream_docs(procedure).map(doc_lines);
    let deprecated = procedure.is_deprecated.then(|| quote!(#[deprecated]));
    let name = ident(&procedure.stem.stub());
    let (arguments, request): (Vec<TokenStream>, TokenStream) = match &procedure.request {
        Request::Stream(_) => (Vec::new(), quote!()),
        Request::Empty => (Vec::new(), quote!(())),
        Request::Message(ty) => (vec![quote!(request: #ty)], quote!(request)),
        Request::Value(ty) => (
            vec![quote!(request: impl ::core::convert::Into<#ty>)],
            quote!(request.into()),
        ),
        Request::Fields(ty, fields) => {
            let arguments = fields.iter().map(|field| argument(field, runtime)).collect();
            let values = fields.iter().map(|field| value(field, runtime));
            (arguments, quote!(#ty { #(#values),* }))
        }
    };
    let entry = quote!(&#list[#place]);
    let (qualifier, output, body) = match family {
        Family::Send => {
            let (qualifier, output) = asynchronous(&quote!(()), runtime);
            (qualifier, output, quote!(self.call.send(#entry, #request).await))
        }
        Family::SendRecv => answered(procedure, &request, &entry, runtime),
    };
    quote! {
        #docs
        #stream_docs
        #deprecated
        pub #qualifier fn #name(self #(, #arguments)*) -> #output {
            #body
        }
    }
}

/// How a stub is declared that waits for `result`: its qualifier, and what it returns.
fn asynchronous(result: &TokenStream, runtime: &TokenStream) -> (TokenStream, TokenStream) {
    (
        quote!(async),
        quote!(::core::result::Result<#result, #runtime::Error>),
    )
}

/// How a stub with a reply is declared, and its body; `entry` is the procedure in the list.
///
/// A call without streams is a future of a type of the runtime, which has methods of its own.
fn answered(
    procedure: &Procedure,
    request: &TokenStream,
    entry: &TokenStream,
    runtime: &TokenStream,
) -> (TokenStream, TokenStream, TokenStream) {
    let requests = match &procedure.request {
        Request::Empty => quote!(()),
        Request::Stream(ty) | Request::Message(ty) | Request::Value(ty) | Request::Fields(ty, _) => {
            ty.clone()
        }
    };
    let (result, body) = match (&procedure.request, &procedure.reply) {
        (Request::Stream(requests), Reply::Stream(replies)) => (
            quote!((#runtime::Sender<#requests>, #runtime::Streaming<#replies>)),
            quote!(self.call.both_streams(#entry).await),
        ),
        (_, Reply::Stream(replies)) => (
            quote!(#runtime::Streaming<#replies>),
            quote!(self.call.reply_stream(#entry, #request).await),
        ),
        (Request::Stream(requests), Reply::Message(ty)) => (
            quote!((#runtime::Sender<#requests>, #runtime::Reply<#ty>)),
            quote! {
                self.call.request_stream(#entry, ::core::result::Result::<#ty, #runtime::Error>::Ok).await
            },
        ),
        (Request::Stream(requests), Reply::Field(ty, field)) => {
            let result = value_type(field, runtime);
            let value = value_in(&quote!(reply), field, runtime);
            (
                quote!((#runtime::Sender<#requests>, #runtime::Reply<#result>)),
                quote! {
                    self.call.request_stream(#entry, |reply: #ty| ::core::result::Result::Ok(#value)).await
                },
            )
        }
        (_, Reply::Message(ty)) => {
            let output = quote!(#runtime::UnaryCall<'a, #requests, #ty>);
            return (quote!(), output, quote!(self.call.send_recv(#entry, #request)));
        }
        (_, Reply::Field(ty, field)) => {
            let result = value_type(field, runtime);
            let value = value_in(&quote!(reply), field, runtime);
            let output = quote!(#runtime::UnaryCall<'a, #requests, #ty, #result>);
            let body = quote!(self.call.send_recv_map(#entry, #request, |reply: #ty| #value));
            return (quote!(), output, body);
        }
    };
    let (qualifier, output) = asynchronous(&result, runtime);
    (qualifier, output, body)
}

/// How to use a stub with streams, behind what the .proto says of it: what differs from the calls without.
fn stream_docs(procedure: &Procedure) -> Option<&'static [&'static str]> {
    match (procedure.has_request_stream(), procedure.has_reply_stream()) {
        (false, false) => None,
        (false, true) => Some(&[
            "",
            "Read the replies by `message()`; what the handler fails with comes by them, too. The timeout bounds the",
            "whole stream: `.timeout(None)` lets it go on for as long as it likes.",
            "",
            "# Errors",
            "",
            "`executed()` is `No`: a call that fails here was not sent.",
            "",
            "# Cancel safety",
            "",
            "Dropping the future, or the replies before their end, abandons that call only: the server is told.",
        ]),
        (true, false) => Some(&[
            "",
            "Send the requests, say `finish()`, and await the reply, which may come earlier. A sender that is dropped",
            "before `finish()` fails the call: what is incomplete is never taken for the whole. The timeout bounds the",
            "whole call: `.timeout(None)` lets it go on for as long as it likes.",
            "",
            "# Errors",
            "",
            "`executed()` is `No`: a call that fails here was not sent. What fails later is told by the reply.",
            "",
            "# Cancel safety",
            "",
            "Dropping the future, or the reply before it is there, abandons that call only: the server is told.",
        ]),
        (true, true) => Some(&[
            "",
            "Send the requests and say `finish()`, and read the replies by `message()`: neither waits for the end of the",
            "other. A sender that is dropped before `finish()` fails the call: what is incomplete is never taken for the",
            "whole. The timeout bounds both streams: `.timeout(None)` lets them go on for as long as they like.",
            "",
            "# Errors",
            "",
            "`executed()` is `No`: a call that fails here was not sent. What fails later is told by the replies.",
            "",
            "# Cancel safety",
            "",
            "Dropping the future, or the replies before their end, abandons that call only: the server is told.",
        ]),
    }
}

/// An argument of a stub, with what makes calls short: `impl Into` for text, bytes and enums.
fn argument(field: &Field, runtime: &TokenStream) -> TokenStream {
    let name: Ident = ident(&field.ident);
    match &field.kind {
        Kind::Text | Kind::Bytes | Kind::Enum(_) => {
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
fn value(field: &Field, runtime: &TokenStream) -> TokenStream {
    let name = ident(&field.ident);
    match &field.kind {
        Kind::Text | Kind::Bytes => quote!(#name: #name.into()),
        Kind::Enum(_) => quote!(#name: #name.into().number()),
        Kind::OptionalEnum(_) => quote!(#name: #name.map(#runtime::Open::number)),
        Kind::Plain(_) => quote!(#name),
    }
}

/// The stub of the built-in `terminate`.
fn terminate(runtime: &TokenStream, family: Family) -> TokenStream {
    let name = format_ident!("terminate");
    match family {
        Family::Send => quote! {
            #[doc = " Asks the server to terminate, and does not wait for it."]
            pub async fn #name(self) -> ::core::result::Result<(), #runtime::Error> {
                self.call.send_terminate().await
            }
        },
        Family::SendRecv => quote! {
            #[doc = " Asks the server to terminate, and waits until it is drained."]
            pub async fn #name(self) -> ::core::result::Result<#runtime::DrainReport, #runtime::Error> {
                self.call.terminate().await
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{config::Parts, naming::TAKEN_STUBS};

    #[test]
    fn the_names_that_no_stub_may_have_are_those_of_the_other_methods() {
        let service = Service {
            name: "Kv".to_owned(),
            full_name: "demo.Kv".to_owned(),
            package: "demo".to_owned(),
            docs: Vec::new(),
            is_deprecated: false,
            procedures: Vec::new(),
        };
        let runtime = quote!(::rpc_runtime);
        let target = Target {
            runtime: &runtime,
            runtime_path: "::rpc_runtime",
            parts: Parts::Both,
            purpose: Purpose::User,
            type_attributes: &[],
            field_attributes: &[],
            include_env: true,
        };
        let names = Names::new(&service, &target);
        let mut methods = BTreeSet::new();
        for family in [Family::Send, Family::SendRecv] {
            let file: syn::File = syn::parse2(stubs(&service, &names, &target, family)).expect("it is Rust");
            for item in file.items {
                let syn::Item::Impl(item) = item else { continue };
                methods.extend(item.items.into_iter().filter_map(|item| match item {
                    syn::ImplItem::Fn(method) => Some(method.sig.ident.to_string()),
                    _ => None,
                }));
            }
        }
        assert_eq!(methods, TAKEN_STUBS.map(str::to_owned).into());
    }
}
