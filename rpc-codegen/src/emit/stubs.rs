//! Stubs: the methods of `send()` and `send_recv()`, one for each procedure.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::{
    docs::{doc_lines, docs_or},
    fields::{argument, of_argument, value_in, value_type},
    names::Names,
};
use crate::{
    code::Code,
    model::{Procedure, Reply, Request, Service, ident},
};

/// The two families of calls: one-way, and with a reply.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Send,
    SendRecv,
}

/// The type that `send()` or `send_recv()` returns, with its stubs.
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
        // A one-way call has one request message and no reply, so it has no streams.
        let is_there = family == Family::SendRecv || !procedure.has_stream();
        is_there.then(|| stub(procedure, &place, names, family))
    });
    // Only the futures of calls without streams name the lifetime.
    let has_unary = service.procedures.iter().any(|procedure| !procedure.has_stream());
    let (generics, lifetime) = if has_unary {
        (quote!(<'a>), quote!('a))
    } else {
        (quote!(), quote!('_))
    };
    quote! {
        #docs
        #[derive(Clone, Debug)]
        #[must_use = "a call starts when its stub is called and awaited"]
        pub struct #name<'a> {
            call: #runtime::codegen::Call<'a>,
        }
        #runtime::codegen::#methods!(#name);
        impl #generics #name<#lifetime> {
            #(#stubs)*
        }
    }
}

/// The documentation of the type that `send()` or `send_recv()` returns.
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
                "A one-way call of `{what}`: options first, then the stub."
            ));
            if !streams.is_empty() {
                lines.push(String::new());
                lines.push(format!(
                    "Procedures with streams have no one-way calls: {}.",
                    streams.join(", ")
                ));
            }
            lines.extend(SEND_DOCS.map(str::to_owned));
        }
        Family::SendRecv => {
            lines.push(format!(
                "A call of `{what}` with a reply: options first, then the stub."
            ));
            lines.extend(SEND_RECV_DOCS.map(str::to_owned));
        }
    }
    doc_lines(&lines)
}

const SEND_DOCS: [&str; 10] = [
    "",
    "A stub resolves when the whole call is in the local queue.",
    "",
    "# Errors",
    "",
    "A call that fails here was not sent, and never will be: `executed()` is `No`.",
    "",
    "# Cancel safety",
    "",
    "A future dropped before it resolves has sent nothing, unless it is dropped at the moment of resolving.",
];

const SEND_RECV_DOCS: [&str; 8] = [
    "",
    "# Errors",
    "",
    "The handler's status, or a failure on the way; `executed()` tells whether the handler ran.",
    "",
    "# Cancel safety",
    "",
    "Dropping a future cancels that call only. The server learns of it, and the client discards a late reply.",
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
    let (qualifier, output, body) = match family {
        Family::Send => {
            let requests = request_type(procedure);
            let output = quote!(#runtime::client::OneWayCall<'a, #requests>);
            (quote!(), output, quote!(self.call.send(#entry, #request)))
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

/// The declaration of a stub that waits for `result`: its qualifier and its output.
fn asynchronous(result: &TokenStream, runtime: &Code) -> (TokenStream, TokenStream) {
    (
        quote!(async),
        quote!(::core::result::Result<#result, #runtime::Error>),
    )
}

/// The declaration and the body of a stub with a reply; `entry` is its procedure in the list.
///
/// A call without streams returns a future of the runtime, which has methods of its own.
fn answered(
    procedure: &Procedure,
    request: &TokenStream,
    entry: &TokenStream,
    runtime: &Code,
) -> (TokenStream, TokenStream, TokenStream) {
    let requests = request_type(procedure);
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
            let output = quote!(#runtime::client::UnaryCall<'a, #requests, #ty>);
            return (quote!(), output, quote!(self.call.send_recv(#entry, #request)));
        }
        (_, Reply::Field(ty, field)) => {
            let result = value_type(field, runtime);
            let value = value_in(&quote!(reply), field, runtime);
            let output = quote!(#runtime::client::UnaryCall<'a, #requests, #ty, #result>);
            let body = quote!(self.call.send_recv_map(#entry, #request, |reply: #ty| #value));
            return (quote!(), output, body);
        }
    };
    let (qualifier, output) = asynchronous(&result, runtime);
    (qualifier, output, body)
}

/// The type of a request, or of each one of a stream.
fn request_type(procedure: &Procedure) -> TokenStream {
    match &procedure.request {
        Request::Empty => quote!(()),
        Request::Stream(ty) | Request::Message(ty) | Request::Value(ty) | Request::Fields(ty, _) => {
            quote!(#ty)
        }
    }
}

/// The documentation of a stub with streams, after that of the .proto file.
fn stream_docs(procedure: &Procedure) -> Option<&'static [&'static str]> {
    match (procedure.has_request_stream(), procedure.has_reply_stream()) {
        (false, false) => None,
        (false, true) => Some(&[
            "",
            "Read the replies with `message()`, which returns the handler's error, too. The timeout limits the whole",
            "stream: `.timeout(None)` removes the limit.",
            "",
            "# Errors",
            "",
            "A call that fails here was not sent: `executed()` is `No`.",
            "",
            "# Cancel safety",
            "",
            "Dropping the future, or the replies before their end, cancels that call only. The server learns of it.",
        ]),
        (true, false) => Some(&[
            "",
            "Send the requests, call `finish()`, and await the reply, which may come earlier. A sender dropped before",
            "`finish()` fails the call, so the handler never takes a part of the requests for all of them. The timeout",
            "limits the whole call: `.timeout(None)` removes the limit.",
            "",
            "# Errors",
            "",
            "A call that fails here was not sent: `executed()` is `No`. The reply returns later failures.",
            "",
            "# Cancel safety",
            "",
            "Dropping the future, or the reply before it has come, cancels that call only. The server learns of it.",
        ]),
        (true, true) => Some(&[
            "",
            "Send the requests and call `finish()`, and read the replies with `message()`. Neither waits for the other's",
            "end. A sender dropped before `finish()` fails the call, so the handler never takes a part of the requests",
            "for all of them. The timeout limits both streams: `.timeout(None)` removes the limit.",
            "",
            "# Errors",
            "",
            "A call that fails here was not sent: `executed()` is `No`. The replies return later failures.",
            "",
            "# Cancel safety",
            "",
            "Dropping the future, or the replies before their end, cancels that call only. The server learns of it.",
        ]),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use crate::model::naming::TAKEN_STUBS;

    #[test]
    fn taken_stub_names_are_the_methods_of_every_call() {
        let text = fs::read_to_string("../rpc-runtime/src/codegen/methods.rs")
            .expect("rpc-runtime is in the same workspace");
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
