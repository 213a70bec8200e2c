//! Documentation as attributes.

use proc_macro2::TokenStream;
use quote::quote;

/// Documentation, one attribute for each line, as the pretty-printer wants it.
pub(super) fn doc_lines(lines: &[impl AsRef<str>]) -> TokenStream {
    let lines = lines.iter().map(AsRef::as_ref).map(|line| {
        if line.is_empty() {
            String::new()
        } else {
            format!(" {line}")
        }
    });
    quote!(#(#[doc = #lines])*)
}

/// The documentation in the .proto file, or `missing` if there is none.
pub(super) fn docs_or(lines: &[String], missing: String) -> TokenStream {
    if lines.is_empty() {
        doc_lines(&[missing])
    } else {
        doc_lines(lines)
    }
}
