//! The client of a service: the type that connects and hands out the stubs.

use proc_macro2::TokenStream;
use quote::quote;

use super::{
    docs::doc_lines,
    names::Names,
    stubs::{self, Family},
};
use crate::{model::Service, target::Target};

/// The client's half of a service: the client and both types of calls.
pub(super) fn items(service: &Service, names: &Names<'_>, target: &Target<'_>) -> TokenStream {
    let client = client(service, names, target);
    let send = stubs::stubs(service, names, Family::Send);
    let send_recv = stubs::stubs(service, names, Family::SendRecv);
    quote!(#client #send #send_recv)
}

/// The client itself: a struct, and the methods that depend on the service.
fn client(service: &Service, names: &Names<'_>, target: &Target<'_>) -> TokenStream {
    let Names {
        runtime,
        service: interface,
        server,
        client,
        send,
        send_recv,
        list,
        client_attributes,
        implementor,
        ..
    } = names;
    let docs = doc_lines(&[
        format!(
            "Calls `{}`: [`send`](Self::send) for one-way calls, [`send_recv`](Self::send_recv) for calls with a reply.",
            service.full_name
        ),
        String::new(),
        "Cheap to clone; all clones share one channel.".to_owned(),
    ]);
    let deprecated = service.is_deprecated.then(|| quote!(#[deprecated]));
    let in_process = target.parts(&service.full_name).server().then(|| {
        quote! {
            #[doc = " Creates a client of `server` in this process: no socket, otherwise the same behaviour."]
            pub fn in_process<#implementor: #interface>(server: #server<#implementor>) -> Self {
                Self::new(#runtime::Client::in_process(server))
            }
        }
    });
    quote! {
        #docs
        #deprecated
        #client_attributes
        #[derive(Clone, Debug)]
        pub struct #client {
            client: #runtime::Client,
        }
        #runtime::codegen::client_methods!(#client, #list);
        impl #client {
            #in_process
            #[doc = " Starts a one-way call. It has no reply: [`barrier`](Self::barrier) returns what became of it."]
            pub fn send(&self) -> #send<'_> {
                #send { call: self.client.call() }
            }
            #[doc = " Starts a call that waits for its reply."]
            pub fn send_recv(&self) -> #send_recv<'_> {
                #send_recv { call: self.client.call() }
            }
        }
    }
}
