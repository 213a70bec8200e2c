//! The client: what connects, and hands out the stubs.

use proc_macro2::TokenStream;
use quote::quote;

use super::{
    docs::doc_lines,
    names::Names,
    stubs::{self, Family},
};
use crate::{model::Service, target::Target};

/// The client's half of a service.
pub(super) fn items(service: &Service, names: &Names<'_>, target: &Target<'_>) -> TokenStream {
    let client = client(service, names, target);
    let send = stubs::stubs(service, names, target, Family::Send);
    let send_recv = stubs::stubs(service, names, target, Family::SendRecv);
    quote!(#client #send #send_recv)
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
        implementor,
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
            pub fn in_process<#implementor: #interface>(server: #server<#implementor>) -> Self {
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
            #[doc = " Waits until the server has read every earlier one-way call, and returns what has become of them until now."]
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
            #[doc = " Waits until every earlier one-way call has ended on the server, and returns what became of them."]
            #[doc = ""]
            #[doc = " It takes no longer than the client's timeout, 30 s if nothing else was said."]
            #[doc = ""]
            #[doc = " # Errors"]
            #[doc = ""]
            #[doc = " DEADLINE_EXCEEDED if some have not ended in time; UNAVAILABLE, once, if earlier one-way calls may be lost."]
            #[doc = ""]
            #[doc = " # Cancel safety"]
            #[doc = ""]
            #[doc = " Dropping the future affects nothing else."]
            pub async fn settled(&self) -> ::core::result::Result<#runtime::Account, #runtime::Error> {
                self.client.settled().await
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
