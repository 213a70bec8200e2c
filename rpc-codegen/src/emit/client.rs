//! The client, and the stubs behind `send()` and `send_recv()`.

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};

use super::{Names, Target, doc_lines, docs_or, server::value_type};
use crate::{
    config::Purpose,
    model::{Field, Kind, Procedure, Reply, Request, Service, ident},
};

/// The client's half of a service.
pub(super) fn items(service: &Service, names: &Names<'_>, target: &Target<'_>) -> TokenStream {
    let client = client(service, names, target);
    let send = stubs(service, names, target, Family::Send);
    let send_recv = stubs(service, names, target, Family::SendRecv);
    quote!(#client #send #send_recv)
}

/// The two families of calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Send,
    SendRecv,
}

/// The client, concrete and cheap to clone.
fn client(service: &Service, names: &Names<'_>, target: &Target<'_>) -> TokenStream {
    let Names {
        runtime,
        service: interface,
        server,
        client,
        send,
        send_recv,
        ..
    } = names;
    let docs = doc_lines(&[
        format!(
            "Calls `{}`: [`send`](Self::send) for one-way calls, [`send_recv`](Self::send_recv) for replies.",
            service.full_name
        ),
        String::new(),
        "Cheap to clone; all clones share one channel.".to_owned(),
    ]);
    let deprecated = service.is_deprecated.then(|| quote!(#[deprecated]));
    let allow_deprecated = service.is_deprecated.then(|| quote!(#[allow(deprecated)]));
    let in_process = target.parts.server().then(|| {
        quote! {
            #[doc = " A client of `server` in this process: no socket, and all else as over one."]
            pub fn in_process<T: #interface>(server: #server<T>) -> Self {
                Self::new(#runtime::Client::in_process(server))
            }
        }
    });
    quote! {
        #docs
        #deprecated
        #[derive(Clone, Debug)]
        pub struct #client {
            client: #runtime::Client,
        }
        impl #client {
            #[doc = " Connects to a server, such as `tcp://127.0.0.1:5005` or `unix:/run/app.sock`."]
            #[doc = ""]
            #[doc = " # Errors"]
            #[doc = ""]
            #[doc = " At once if nobody listens there, or if the peer does not speak the protocol."]
            #[doc = ""]
            #[doc = " # Cancel safety"]
            #[doc = ""]
            #[doc = " Dropping the future closes the connection."]
            pub async fn connect(
                address: impl ::core::convert::AsRef<str>,
            ) -> ::core::result::Result<Self, #runtime::Error> {
                #runtime::Client::connect(address).await.map(Self::new)
            }
            #[doc = " A client that connects when it is first used, and keeps trying within each call's deadline."]
            pub fn connect_lazy(address: impl ::core::convert::AsRef<str>) -> Self {
                Self::new(#runtime::Client::connect_lazy(address))
            }
            #[doc = " A client to be configured, by more addresses, limits, or services that the server may call."]
            pub fn builder(address: impl ::core::convert::AsRef<str>) -> #runtime::ClientBuilder<Self> {
                #runtime::ClientBuilder::new(address)
            }
            #in_process
            #[doc = " A client on a channel that other clients may share."]
            pub fn new(client: #runtime::Client) -> Self {
                Self { client }
            }
            #[doc = " The channel: services of one server can share it."]
            pub fn client(&self) -> &#runtime::Client {
                &self.client
            }
            #[doc = " Starts a one-way call: nothing comes back, see [`barrier`](Self::barrier) for what became of it."]
            pub fn send(&self) -> #send<'_> {
                #send { call: self.client.call() }
            }
            #[doc = " Starts a call that waits for its reply."]
            pub fn send_recv(&self) -> #send_recv<'_> {
                #send_recv { call: self.client.call() }
            }
            #[doc = " Asks the server to terminate, and waits until it is drained."]
            #[doc = ""]
            #[doc = " # Errors"]
            #[doc = ""]
            #[doc = " PERMISSION_DENIED if this peer may not, UNIMPLEMENTED if nobody may."]
            #[doc = ""]
            #[doc = " # Cancel safety"]
            #[doc = ""]
            #[doc = " Dropping the future stops waiting; a drain that has begun goes on."]
            pub async fn terminate(&self) -> ::core::result::Result<#runtime::DrainReport, #runtime::Error> {
                self.client.terminate().await
            }
            #[doc = " Asks the server for a sign of life, and returns how long it took."]
            #[doc = ""]
            #[doc = " # Errors"]
            #[doc = ""]
            #[doc = " UNAVAILABLE if the connection is lost, DEADLINE_EXCEEDED if there is no answer in time."]
            #[doc = ""]
            #[doc = " # Cancel safety"]
            #[doc = ""]
            #[doc = " Dropping the future affects nothing else."]
            pub async fn ping(&self) -> ::core::result::Result<::core::time::Duration, #runtime::Error> {
                self.client.ping().await
            }
            #[doc = " Waits until the operating system has every frame of earlier calls."]
            #[doc = ""]
            #[doc = " # Errors"]
            #[doc = ""]
            #[doc = " UNAVAILABLE, once, if earlier one-way calls may be lost."]
            #[doc = ""]
            #[doc = " # Cancel safety"]
            #[doc = ""]
            #[doc = " Dropping the future affects nothing else."]
            pub async fn flush(&self) -> ::core::result::Result<(), #runtime::Error> {
                self.client.flush().await
            }
            #[doc = " Waits until the server has read every earlier one-way call, and returns what became of them."]
            #[doc = ""]
            #[doc = " # Errors"]
            #[doc = ""]
            #[doc = " UNAVAILABLE, once, if earlier one-way calls may be lost."]
            #[doc = ""]
            #[doc = " # Cancel safety"]
            #[doc = ""]
            #[doc = " Dropping the future affects nothing else."]
            pub async fn barrier(&self) -> ::core::result::Result<#runtime::Account, #runtime::Error> {
                self.client.barrier().await
            }
            #[doc = " Closes the channel, for all clones: what was sent is written, and open calls may finish."]
            #[doc = ""]
            #[doc = " # Errors"]
            #[doc = ""]
            #[doc = " DEADLINE_EXCEEDED if open calls had to be cut, UNAVAILABLE if not all could be written."]
            #[doc = ""]
            #[doc = " # Cancel safety"]
            #[doc = ""]
            #[doc = " Dropping the future stops waiting; the channel closes all the same."]
            pub async fn close(&self) -> ::core::result::Result<(), #runtime::Error> {
                self.client.close().await
            }
        }
        #allow_deprecated
        impl ::core::convert::From<#runtime::Client> for #client {
            fn from(client: #runtime::Client) -> Self {
                Self::new(client)
            }
        }
    }
}

/// The type behind `send()` or `send_recv()`.
fn stubs(service: &Service, names: &Names<'_>, target: &Target<'_>, family: Family) -> TokenStream {
    let runtime = names.runtime;
    let (name, summary) = match family {
        Family::Send => (
            &names.send,
            "A one-way call of `{}`: options first, then the procedure.",
        ),
        Family::SendRecv => (
            &names.send_recv,
            "A call of `{}` with a reply: options first, then the procedure.",
        ),
    };
    let docs = match family {
        Family::Send => doc_lines(&[
            summary.replace("{}", &service.full_name),
            String::new(),
            "Each procedure resolves when the whole call is in the local queue.".to_owned(),
            String::new(),
            "# Errors".to_owned(),
            String::new(),
            "`executed()` is `No`: a call that fails here was not sent, and never will be.".to_owned(),
            String::new(),
            "# Cancel safety".to_owned(),
            String::new(),
            "A future that is dropped before it resolves has sent nothing, but for the very moment of resolving.".to_owned(),
        ]),
        Family::SendRecv => doc_lines(&[
            summary.replace("{}", &service.full_name),
            String::new(),
            "# Errors".to_owned(),
            String::new(),
            "What the handler refused with, or what happened on the way; `executed()` tells whether it ran."
                .to_owned(),
            String::new(),
            "# Cancel safety".to_owned(),
            String::new(),
            "Dropping a future abandons that call only: the server is told, and a late reply is discarded."
                .to_owned(),
        ]),
    };
    let procedures = service.procedures.iter().enumerate();
    let methods = procedures.filter_map(|(index, procedure)| {
        let place = Literal::usize_unsuffixed(index);
        // A one-way request is one message, and nothing comes back.
        let has_stream = procedure.has_request_stream() || procedure.has_reply_stream();
        (family == Family::SendRecv || !has_stream).then(|| stub(procedure, &place, names, family))
    });
    let options = (family == Family::SendRecv).then(|| {
        quote! {
            #[doc = " Bounds how long no message of the call's streams may move, in either direction."]
            pub fn idle_timeout(self, timeout: ::core::time::Duration) -> Self {
                Self { call: self.call.idle_timeout(timeout) }
            }
            #[doc = " Has what comes beside the reply written down: the handler's metadata, and how long it took."]
            pub fn receipt(self, receipt: &#runtime::Receipt) -> Self {
                Self { call: self.call.receipt(receipt) }
            }
        }
    });
    // The built-in service itself is what `terminate` calls.
    let terminate = (target.purpose == Purpose::User).then(|| terminate(runtime, family));
    quote! {
        #docs
        #[derive(Clone, Debug)]
        #[must_use = "a call starts when a procedure is named and awaited"]
        pub struct #name<'a> {
            call: #runtime::codegen::Call<'a>,
        }
        impl #name<'_> {
            #[doc = " Bounds the whole call; `None` for no bound of its own. Without it the client's own counts, usually 30 s."]
            pub fn timeout(
                self,
                timeout: impl ::core::convert::Into<::core::option::Option<::core::time::Duration>>,
            ) -> Self {
                Self { call: self.call.timeout(timeout) }
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

/// The stub of one procedure.
fn stub(procedure: &Procedure, place: &Literal, names: &Names<'_>, family: Family) -> TokenStream {
    let Names { runtime, list, .. } = names;
    let docs = docs_or(&procedure.docs, format!("Calls `{}`.", procedure.path));
    let deprecated = procedure.is_deprecated.then(|| quote!(#[deprecated]));
    let name = ident(&procedure.stem.stub());
    let (arguments, request): (Vec<TokenStream>, TokenStream) = match &procedure.request {
        Request::Stream(_) => (Vec::new(), quote!()),
        Request::Empty => (Vec::new(), quote!(())),
        Request::Message(ty) => (vec![quote!(request: #ty)], quote!(request)),
        Request::Fields(ty, fields) => {
            let arguments = fields.iter().map(|field| argument(field, runtime)).collect();
            let values = fields.iter().map(value);
            (arguments, quote!(#ty { #(#values),* }))
        }
    };
    let how = stream_docs(procedure);
    let (result, body) = match (family, &procedure.reply) {
        (Family::SendRecv, Reply::Stream(reply)) => match &procedure.request {
            Request::Stream(request) => (
                quote!((#runtime::Sender<#request>, #runtime::Streaming<#reply>)),
                quote!(self.call.both_streams(&#list[#place]).await),
            ),
            _ => (
                quote!(#runtime::Streaming<#reply>),
                quote!(self.call.reply_stream(&#list[#place], #request).await),
            ),
        },
        (Family::SendRecv, reply) if procedure.has_request_stream() => {
            let Request::Stream(request) = &procedure.request else {
                unreachable!("asked in the guard")
            };
            let (result, map) = mapped(reply, place, names);
            (
                quote!((#runtime::Sender<#request>, #runtime::Reply<#result>)),
                quote!(self.call.request_stream(&#list[#place], #map).await),
            )
        }
        (Family::Send, _) => (quote!(()), quote!(self.call.send(&#list[#place], #request).await)),
        (Family::SendRecv, Reply::Message(ty)) => (
            ty.clone(),
            quote!(self.call.send_recv(&#list[#place], #request).await),
        ),
        (Family::SendRecv, Reply::Field(ty, field)) => {
            let call = quote!(self.call.send_recv(&#list[#place], #request).await);
            (
                value_type(field, runtime),
                unwrapped(ty, field, &call, place, names),
            )
        }
    };
    quote! {
        #docs
        #how
        #deprecated
        pub async fn #name(self #(, #arguments)*) -> ::core::result::Result<#result, #runtime::Error> {
            #body
        }
    }
}

/// How to use a stub with streams, behind what the .proto says of it.
fn stream_docs(procedure: &Procedure) -> Option<TokenStream> {
    let lines: &[&str] = match (procedure.has_request_stream(), procedure.has_reply_stream()) {
        (false, false) => return None,
        (false, true) => {
            &["Resolves when the call is in the local queue; what the handler says comes by the stream."]
        }
        (true, false) => {
            &["Send the requests, say `finish()`, and await the reply: it may come before that."]
        }
        (true, true) => {
            &["Send the requests and read the replies in any order; say `finish()` when all is sent."]
        }
    };
    let lines = std::iter::once(String::new()).chain(lines.iter().map(|line| (*line).to_owned()));
    Some(doc_lines(&lines.collect::<Vec<_>>()))
}

/// What the one reply of a stream of requests is for the caller, and the function that makes it of the message.
fn mapped(reply: &Reply, place: &Literal, names: &Names<'_>) -> (TokenStream, TokenStream) {
    let Names { runtime, list, .. } = names;
    let (ty, field) = match reply {
        Reply::Message(ty) | Reply::Stream(ty) => {
            return (
                ty.clone(),
                quote!(::core::result::Result::<#ty, #runtime::Error>::Ok),
            );
        }
        Reply::Field(ty, field) => (ty, field),
    };
    let name = ident(&field.ident);
    let shown = &field.name;
    let check = quote!(#runtime::codegen::reply_enumeration);
    let map = match &field.kind {
        Kind::Enum(_) => quote!(|reply: #ty| #check(reply.#name, #shown, &#list[#place])),
        Kind::OptionalEnum(_) => quote! {
            |reply: #ty| reply.#name.map(|number| #check(number, #shown, &#list[#place])).transpose()
        },
        _ => quote!(|reply: #ty| ::core::result::Result::Ok(reply.#name)),
    };
    (value_type(field, runtime), map)
}

/// The only field of the reply to `call`.
fn unwrapped(
    ty: &TokenStream,
    field: &Field,
    call: &TokenStream,
    place: &Literal,
    names: &Names<'_>,
) -> TokenStream {
    let Names { runtime, list, .. } = names;
    let name = ident(&field.ident);
    let shown = &field.name;
    let check = quote!(#runtime::codegen::reply_enumeration);
    match &field.kind {
        Kind::Enum(_) => quote! {
            let reply: #ty = #call?;
            #check(reply.#name, #shown, &#list[#place])
        },
        Kind::OptionalEnum(_) => quote! {
            let reply: #ty = #call?;
            reply.#name.map(|number| #check(number, #shown, &#list[#place])).transpose()
        },
        _ => quote!(#call.map(|reply: #ty| reply.#name)),
    }
}

/// An argument of a stub, with what makes calls short: `impl Into` for text and bytes.
fn argument(field: &Field, runtime: &TokenStream) -> TokenStream {
    let name: Ident = ident(&field.ident);
    match &field.kind {
        Kind::Text | Kind::Bytes => {
            let ty = value_type(field, runtime);
            quote!(#name: impl ::core::convert::Into<#ty>)
        }
        // Numbers stay plain: `impl Into<u32>` would not take a bare `7`.
        _ => {
            let ty = value_type(field, runtime);
            quote!(#name: #ty)
        }
    }
}

/// The value of the request's field for that argument.
fn value(field: &Field) -> TokenStream {
    let name = ident(&field.ident);
    match &field.kind {
        Kind::Text | Kind::Bytes => quote!(#name: #name.into()),
        Kind::Enum(_) => quote!(#name: #name as i32),
        Kind::OptionalEnum(_) => quote!(#name: #name.map(|value| value as i32)),
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
