//! The identifiers and attributes of the items generated for one service.

use proc_macro2::{Ident, TokenStream};
use quote::format_ident;

use super::descriptors;
use crate::{choices::ByPath, code::Code, model::Service, target::Target};

/// The identifiers and attributes of the items generated for one service.
pub(super) struct Names<'a> {
    pub(super) runtime: &'a Code,
    pub(super) list: Ident,
    pub(super) service: Ident,
    pub(super) server: Ident,
    pub(super) dyn_trait: Ident,
    pub(super) client: Ident,
    pub(super) send: Ident,
    pub(super) send_recv: Ident,
    /// The static with the descriptors that the server carries; none if it carries none.
    pub(super) descriptors: Option<Ident>,
    /// The attributes of the trait, the server and the client.
    pub(super) trait_attributes: TokenStream,
    pub(super) server_attributes: TokenStream,
    pub(super) client_attributes: TokenStream,
    /// The type parameter for the implementor of the service; it differs from the service's name.
    pub(super) implementor: Ident,
}

impl<'a> Names<'a> {
    pub(super) fn new(service: &Service, target: &Target<'a>) -> Self {
        let names = &service.names;
        let choices = target.choices;
        let attributes = |of: &ByPath<String>| -> TokenStream {
            // `options` has checked that they are attributes.
            let all = of.all(&service.full_name);
            all.map(|text| text.parse::<TokenStream>().unwrap_or_default())
                .collect()
        };
        Self {
            runtime: target.runtime,
            list: format_ident!("{}", names.list),
            service: format_ident!("{}", names.service),
            server: format_ident!("{}", names.server),
            dyn_trait: format_ident!("{}", names.dyn_trait),
            client: format_ident!("{}", names.client),
            send: format_ident!("{}", names.send),
            send_recv: format_ident!("{}", names.send_recv),
            descriptors: descriptors::of(service, target),
            trait_attributes: attributes(&choices.trait_attributes),
            server_attributes: attributes(&choices.server_attributes),
            client_attributes: attributes(&choices.client_attributes),
            implementor: format_ident!("{}", if names.service == "T" { "U" } else { "T" }),
        }
    }
}
