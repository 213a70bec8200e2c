//! Documentation as `#[doc]` attributes.

use proc_macro2::TokenStream;
use quote::quote;

/// Documentation as one attribute for each line, which the pretty-printer prints as `///`.
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

/// The documentation from the .proto file, or `missing` if it has none.
pub(super) fn docs_or(lines: &[String], missing: String) -> TokenStream {
    if lines.is_empty() {
        doc_lines(&[missing])
    } else {
        doc_lines(lines)
    }
}
