//! Formats code as readable text.

/// The items of `file`, with blank lines between them.
pub(super) fn pretty(file: &syn::File) -> String {
    spaced(&prettyplease::unparse(file))
}

/// Adds a blank line before each item that follows another one.
fn spaced(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut before = "{";
    for line in text.lines() {
        let begins = line.trim_start();
        let is_item = [
            "///", "#[", "pub ", "fn ", "async ", "impl ", "impl<", "static ", "struct ",
        ]
        .iter()
        .any(|start| begins.starts_with(start));
        let is_docs = begins.starts_with("///") || begins.starts_with("#[");
        // The last line of a comment may end in a semicolon, and what it explains follows it at once.
        let is_explained = before.starts_with("///");
        let is_impl = begins.starts_with("impl");
        let is_macro = line.ends_with(");") && line.contains("!(") && line == begins;
        let is_apart = (before == "}" && (is_item || is_macro))
            || (before.ends_with([';', '}']) && (is_docs || is_impl));
        if is_apart && !is_explained {
            out.push('\n');
        }
        out.push_str(line);
        out.push('\n');
        before = line.trim();
    }
    out
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    #[test]
    fn items_stand_apart() {
        let tokens = quote!(
            struct A {}
            a::b!(A);
            impl A { fn b() {} fn c() {} }
            trait D { #[doc = " e"] fn e(); #[doc = " f;"] #[doc = " g }"] fn f(); }
        );
        let text = pretty(&syn::parse2(tokens).expect("it parses"));
        assert_eq!(
            text,
            "struct A {}\na::b!(A);\n\nimpl A {\n    fn b() {}\n    fn c() {}\n}\ntrait D {\n    /// e\n    fn e();\n\n    /// f;\n    /// g }\n    fn f();\n}\n"
        );
    }
}
