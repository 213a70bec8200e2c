//! The identifiers of the items generated for one service.

use proc_macro2::{Ident, TokenStream};
use quote::format_ident;

use crate::{
    model::{
        Service,
        naming::{camel, camel_with, procedures_of},
    },
    target::Target,
};

/// The identifiers of the items generated for one service.
pub(super) struct Names<'a> {
    pub(super) runtime: &'a TokenStream,
    pub(super) list: Ident,
    pub(super) service: Ident,
    pub(super) server: Ident,
    pub(super) client: Ident,
    pub(super) send: Ident,
    pub(super) send_recv: Ident,
    /// The type parameter for the implementor of the service; it differs from the service's name.
    pub(super) implementor: Ident,
}

impl<'a> Names<'a> {
    pub(super) fn new(service: &Service, target: &Target<'a>) -> Self {
        let name = &service.name;
        Self {
            runtime: target.runtime,
            list: format_ident!("{}", procedures_of(name)),
            service: format_ident!("{}", camel(name)),
            server: format_ident!("{}", camel_with(name, "Server")),
            client: format_ident!("{}", camel_with(name, "Client")),
            send: format_ident!("{}", camel_with(name, "Send")),
            send_recv: format_ident!("{}", camel_with(name, "SendRecv")),
            implementor: format_ident!("{}", if camel(name) == "T" { "U" } else { "T" }),
        }
    }
}
