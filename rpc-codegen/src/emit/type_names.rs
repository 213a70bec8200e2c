//! Type names: `prost::Name` for messages, which `Any::from_msg` needs.

use proc_macro2::TokenStream;
use prost_reflect::MessageDescriptor;
use quote::quote;

use crate::{
    model::{Types, is_generated},
    target::Target,
};

/// The names of those of `messages` that the build script asks for.
pub(super) fn items(messages: &[MessageDescriptor], target: &Target<'_>) -> TokenStream {
    if target.choices.type_names.is_empty() {
        return quote!();
    }
    messages
        .iter()
        .filter(|message| !message.is_map_entry())
        .filter(|message| is_generated(message.full_name(), target))
        .filter_map(|message| {
            let domain = target.choices.type_names.last(message.full_name())?;
            Some(item(message, domain, target))
        })
        .collect()
}

fn item(message: &MessageDescriptor, domain: &str, target: &Target<'_>) -> TokenStream {
    let runtime = target.runtime;
    let types = Types::new(message.package_name(), target);
    let ty = types.message(message);
    let (name, package, full_name) = (message.name(), message.package_name(), message.full_name());
    let url = format!("{}/{full_name}", domain.trim_end_matches('/'));
    let string = quote!(::std::string::String);
    quote! {
        impl #runtime::codegen::prost::Name for #ty {
            const NAME: &'static str = #name;
            const PACKAGE: &'static str = #package;
            fn full_name() -> #string {
                #string::from(#full_name)
            }
            fn type_url() -> #string {
                #string::from(#url)
            }
        }
    }
}
