//! One module for a package and for a message with types inside: `package a.b` beside `message B` of package `a`.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Item, ItemMod};

use super::Package;

/// Moves the types inside of a message into the package that has the same module, if there is one.
pub(super) fn merge(packages: &mut BTreeMap<Vec<String>, Package>) -> Result<(), syn::Error> {
    let modules: BTreeSet<Vec<String>> = packages.keys().flat_map(|module| outer(module)).collect();
    // A module comes before the modules inside it, so what has moved can move on.
    for module in &modules {
        let Some(package) = packages.get_mut(module) else {
            continue;
        };
        let names = package.names.clone();
        for (name, items) in taken(&mut package.text, module, &modules)? {
            let inside = packages.entry([&module[..], &[name]].concat()).or_default();
            inside.text.insert_str(0, &format!("{items}\n"));
            inside.names.extend(names.iter().cloned());
        }
    }
    Ok(())
}

/// A module, and all modules around it.
fn outer(module: &[String]) -> impl Iterator<Item = Vec<String>> {
    (0..=module.len()).map(|len| module[..len].to_vec())
}

/// Takes the modules out of `text` that are modules of packages, too.
fn taken(
    text: &mut String,
    module: &[String],
    modules: &BTreeSet<Vec<String>>,
) -> Result<Vec<(String, TokenStream)>, syn::Error> {
    let is_package = |name: &str| modules.contains(&[module, &[name.to_owned()]].concat());
    // Parsing takes time, and few texts have such a module.
    let mut rests = text.split("pub mod ").skip(1);
    if !rests.any(|rest| rest.split_once(" {").is_some_and(|(name, _)| is_package(name))) {
        return Ok(Vec::new());
    }
    let mut taken = Vec::new();
    let mut kept = Vec::new();
    for item in syn::parse_file(text)?.items {
        match item {
            Item::Mod(ItemMod {
                ident,
                content: Some((_, inner)),
                ..
            }) if is_package(&ident.to_string()) => taken.push((ident.to_string(), quote!(#(#inner)*))),
            item => kept.push(item),
        }
    }
    *text = quote!(#(#kept)*).to_string();
    Ok(taken)
}
