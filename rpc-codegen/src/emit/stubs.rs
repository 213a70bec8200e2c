//! The stubs behind `send()` and `send_recv()`: one method for each procedure.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::{
    docs::{doc_lines, docs_or},
    fields::{argument, of_argument, value_in, value_type},
    names::Names,
};
use crate::model::{Procedure, Reply, Request, Service, ident};

/// The two families of calls.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Send,
    SendRecv,
}

/// The type behind `send()` or `send_recv()`, with its stubs.
pub(super) fn stubs(service: &Service, names: &Names<'_>, family: Family) -> TokenStream {
    let runtime = names.runtime;
    let (name, methods) = match family {
        Family::Send => (&names.send, quote!(send_methods)),
        Family::SendRecv => (&names.send_recv, quote!(send_recv_methods)),
    };
    let docs = family_docs(service, family);
    let procedures = service.procedures.iter().enumerate();
    let stubs = procedures.filter_map(|(index, procedure)| {
        let place = Literal::usize_unsuffixed(index);
        // A one-way request is one message, and nothing comes back.
        let is_there = family == Family::SendRecv || !procedure.has_stream();
        is_there.then(|| stub(procedure, &place, names, family))
    });
    quote! {
        #docs
        #[derive(Clone, Debug)]
        #[must_use = "a call starts when a procedure is named and awaited"]
        pub struct #name<'a> {
            call: #runtime::codegen::Call<'a>,
        }
        #runtime::codegen::#methods!(#name);
        impl #name<'_> {
            #(#stubs)*
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
            let values = fields.iter().map(|field| of_argument(field, runtime));
            (arguments, quote!(#ty { #(#values),* }))
        }
    };
    let entry = quote!(&#list[#place]);
    let (result, body) = match family {
        Family::Send => (quote!(()), quote!(self.call.send(#entry, #request).await)),
        Family::SendRecv => answered(procedure, &request, &entry, runtime),
    };
    quote! {
        #docs
        #stream_docs
        #deprecated
        pub async fn #name(self #(, #arguments)*) -> ::core::result::Result<#result, #runtime::Error> {
            #body
        }
    }
}

/// What a stub that is answered gives, and how; `entry` is the procedure in the list.
fn answered(
    procedure: &Procedure,
    request: &TokenStream,
    entry: &TokenStream,
    runtime: &TokenStream,
) -> (TokenStream, TokenStream) {
    match (&procedure.request, &procedure.reply) {
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
        (_, Reply::Message(ty)) => (ty.clone(), quote!(self.call.send_recv(#entry, #request).await)),
        (_, Reply::Field(ty, field)) => {
            let value = value_in(&quote!(reply), field, runtime);
            (
                value_type(field, runtime),
                quote!(self.call.send_recv(#entry, #request).await.map(|reply: #ty| #value)),
            )
        }
    }
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use crate::model::naming::TAKEN_STUBS;

    #[test]
    fn the_names_that_no_stub_may_have_are_those_of_the_other_methods() {
        let text =
            fs::read_to_string("../rpc-runtime/src/codegen/methods.rs").expect("the runtime is beside us");
        // The methods of a call take it by value; those of a client borrow it.
        let methods = text.split("pub ").filter_map(|item| {
            let name = item.strip_prefix("async ").unwrap_or(item).strip_prefix("fn ")?;
            let (name, arguments) = name.split_once('(')?;
            let is_option = arguments.trim_start().starts_with("self");
            is_option.then_some(name)
        });
        assert_eq!(methods.collect::<BTreeSet<_>>(), TAKEN_STUBS.into());
    }
}
