//! Code: a piece of Rust that passes from one thread to another.

use proc_macro2::TokenStream;
use quote::ToTokens;

/// A piece of Rust code as text. Tokens cannot leave their thread, and text can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Code(String);

impl From<TokenStream> for Code {
    fn from(tokens: TokenStream) -> Self {
        Self(tokens.to_string())
    }
}

impl ToTokens for Code {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        // The text comes from tokens, so it can be parsed.
        tokens.extend(self.0.parse::<TokenStream>().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    #[test]
    fn code_means_the_tokens_it_was_made_of() {
        let tokens = quote!(::std::vec::Vec<r#type::A<'static>>);
        let code = Code::from(tokens.clone());
        assert_eq!(quote!(#code).to_string(), tokens.to_string());
    }
}
