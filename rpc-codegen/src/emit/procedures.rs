//! The list of a service's procedures, which its client and its server share.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::{growth::Growth, names::Names, nesting::Nesting};
use crate::model::{Priority, Procedure, Run, Service};

/// The static with one entry for each procedure.
pub(super) fn list(
    service: &Service,
    growth: &Growth<'_>,
    nesting: &Nesting<'_>,
    names: &Names<'_>,
) -> TokenStream {
    let Names { runtime, list, .. } = names;
    let len = Literal::usize_unsuffixed(service.procedures.len());
    let each = service.procedures.iter().map(|procedure| {
        let Procedure { path, id, .. } = procedure;
        let id: TokenStream = format!("0x{id:016x}").parse().unwrap_or_else(|_| quote!(#id));
        let run = match procedure.run {
            Run::InOrder => quote!(),
            Run::Spawn => quote!(.spawn()),
            Run::Blocking => quote!(.blocking()),
        };
        let requests = procedure
            .has_request_stream()
            .then(|| quote!(.with_request_stream()));
        let replies = procedure.has_reply_stream().then(|| quote!(.with_reply_stream()));
        let priority = match procedure.priority {
            Priority::Normal => quote!(),
            Priority::Control => quote!(.with_priority(#runtime::Priority::Control)),
            Priority::Bulk => quote!(.with_priority(#runtime::Priority::Bulk)),
        };
        let allow = &procedure.allow;
        let allow = (!allow.is_empty()).then(|| quote!(.with_allowed_roles(&[#(#allow),*])));
        let hash = procedure.hash_field.map(|number| {
            let number = Literal::u32_unsuffixed(number);
            quote!(.with_hash_field(#number))
        });
        let idempotent = procedure.is_idempotent.then(|| quote!(.idempotent()));
        let growth = growth.of(procedure);
        let nesting = nesting.of(procedure, &service.package);
        quote!(#runtime::codegen::Procedure::new(#path, #id) #run #requests #replies #priority #allow #hash #idempotent #growth #nesting)
    });
    quote!(static #list: [#runtime::codegen::Procedure; #len] = [#(#each),*];)
}
