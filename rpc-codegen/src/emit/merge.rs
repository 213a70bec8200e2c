//! One module for a package and for a message with types inside: `package a.b` beside `message B` of package `a`.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Item, ItemMod};

use super::Package;

/// Moves the types inside of a message into the package that has the same module, if there is one.
pub(super) fn merge(packages: &mut BTreeMap<Vec<String>, Package>) {
    let modules: BTreeSet<Vec<String>> = packages.keys().flat_map(|module| outer(module)).collect();
    // A module comes before the modules inside it, so what has moved can move on.
    for module in &modules {
        let Some(package) = packages.get_mut(module) else {
            continue;
        };
        let files = package.files.clone();
        for (name, items) in taken(&mut package.messages, module, &modules) {
            let inside = packages.entry([&module[..], &[name]].concat()).or_default();
            inside.messages.splice(0..0, items);
            inside.files.extend(files.iter().cloned());
        }
    }
}

/// A module, and all modules around it.
fn outer(module: &[String]) -> impl Iterator<Item = Vec<String>> {
    (0..=module.len()).map(|len| module[..len].to_vec())
}

/// Takes the modules out of `items` that are modules of packages, too.
fn taken(
    items: &mut Vec<Item>,
    module: &[String],
    modules: &BTreeSet<Vec<String>>,
) -> Vec<(String, Vec<Item>)> {
    let mut taken = Vec::new();
    let mut kept = Vec::new();
    for item in items.drain(..) {
        match item {
            Item::Mod(ItemMod {
                ident,
                content: Some((_, inner)),
                ..
            }) if modules.contains(&[module, &[ident.to_string()]].concat()) => {
                taken.push((ident.to_string(), inner));
            }
            item => kept.push(item),
        }
    }
    *items = kept;
    taken
}
