//! The identifiers of the items generated for one service.

use proc_macro2::{Ident, TokenStream};
use quote::format_ident;

use crate::{model::Service, target::Target};

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
        let names = &service.names;
        Self {
            runtime: target.runtime,
            list: format_ident!("{}", names.list),
            service: format_ident!("{}", names.service),
            server: format_ident!("{}", names.server),
            client: format_ident!("{}", names.client),
            send: format_ident!("{}", names.send),
            send_recv: format_ident!("{}", names.send_recv),
            implementor: format_ident!("{}", if names.service == "T" { "U" } else { "T" }),
        }
    }
}
