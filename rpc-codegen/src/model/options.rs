//! The options of the build script: paths that match nothing, and values that are not Rust.

use std::cell::OnceCell;

use prost_reflect::{DescriptorPool, EnumDescriptor, MessageDescriptor};

use super::{
    externs::is_generated,
    oneof::{oneofs, path_of},
    types::{bytes_type, can_be_boxed, has_bytes},
};
use crate::{
    choices::{ByPath, matches},
    error::Problem,
    source::{OPTIONS_NAME, closest, is_google},
    target::Target,
};

/// The problems of all options by path.
pub(super) fn problems(pool: &DescriptorPool, target: &Target<'_>) -> Vec<Problem> {
    let choices = target.choices;
    let mut check = Check {
        pool,
        items: OnceCell::new(),
        target,
        problems: Vec::new(),
    };
    check.elsewhere("extern_path", &choices.extern_paths);
    check.elsewhere("leave_out", &choices.left_out);
    for (path, ty) in choices.extern_paths.iter() {
        check.is_rust_path(path, ty);
    }
    check.here("type_names", &choices.type_names, &["message"]);
    check.here("default_handlers", &choices.default_handlers, &["service"]);
    check.here("btree_map", &choices.btree_maps, &["map field"]);
    check.here("bytes_type", &choices.bytes_types, &["bytes field"]);
    check.here("json", &choices.json, &["message", "enum"]);
    if !choices.bytes_types.is_empty() {
        for message in pool
            .all_messages()
            .filter(|message| is_generated(message.full_name(), target))
        {
            check.maps_agree(&message);
        }
    }
    check.here("boxed", &choices.boxed, &["message field"]);
    check.here("skip_debug", &choices.without_debug, &["message", "enum"]);
    let documented = [
        "message",
        "field",
        "oneof",
        "enum",
        "enum value",
        "service",
        "procedure",
    ];
    check.here("disable_comments", &choices.without_comments, &documented);
    check.here("dyn_trait", &choices.dyn_traits, &["service"]);
    check.here(
        "client_only_for` or `server_only_for",
        &choices.parts,
        &["service"],
    );
    let (types, enums) = (&["message", "enum", "oneof"][..], &["enum", "oneof"][..]);
    for (option, attributes, kinds) in [
        ("type_attribute", &choices.type_attributes, types),
        ("message_attribute", &choices.message_attributes, &["message"]),
        ("enum_attribute", &choices.enum_attributes, enums),
        (
            "field_attribute",
            &choices.field_attributes,
            &["field", "oneof", "enum value"],
        ),
        ("client_attribute", &choices.client_attributes, &["service"]),
        ("server_attribute", &choices.server_attributes, &["service"]),
        ("trait_attribute", &choices.trait_attributes, &["service"]),
    ] {
        check.here(option, attributes, kinds);
        check.are_attributes(option, attributes);
    }
    check.problems
}

/// An item of a .proto file: what it is, and its full name.
type Item = (&'static str, String);

/// Checks the options against all items of the .proto files.
struct Check<'a> {
    pool: &'a DescriptorPool,
    /// All items, once an option needs them.
    items: OnceCell<Vec<Item>>,
    target: &'a Target<'a>,
    problems: Vec<Problem>,
}

impl Check<'_> {
    /// Checks the paths of an option for items that exist elsewhere or nowhere.
    fn elsewhere<T>(&mut self, option: &str, choice: &ByPath<T>) {
        for (path, _) in choice.iter() {
            let name = path.trim_matches('.');
            // A script for many files may name Google's types where no file imports them.
            if path == format!(".{name}") && matches(".google.protobuf", name) {
                continue;
            }
            if path != format!(".{name}") || name.is_empty() {
                let problem = Problem::new(format!(
                    "`Config::{option}`: `{path}` is not the full path of a package, type or service"
                ));
                self.problems.push(problem.with_help(if name.is_empty() {
                    "write a path such as `.acme.shop.v1`".to_owned()
                } else {
                    format!("begin it with a dot: `.{name}`")
                }));
                continue;
            }
            let kinds = ["package", "message", "enum", "service"];
            let names = self.names(&kinds, |_| true);
            self.matches_one(option, path, &kinds, &names);
        }
    }

    /// Checks that each path of `option` matches an item of these kinds that is generated.
    fn here<T>(&mut self, option: &str, choice: &ByPath<T>, kinds: &[&str]) {
        if choice.is_empty() {
            return;
        }
        let target = self.target;
        let names = self.names(kinds, |name| is_generated(name, target));
        for (path, _) in choice.iter() {
            self.matches_one(option, path, kinds, &names);
        }
    }

    /// The names of all items of these kinds.
    fn names(&self, kinds: &[&str], is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let items = self
            .items
            .get_or_init(|| items(self.pool))
            .iter()
            .filter(|(kind, name)| kinds.contains(kind) && is_wanted(name));
        items.map(|(_, name)| name.clone()).collect()
    }

    /// Checks that `path` matches one of `names`, which are of these kinds.
    fn matches_one(&mut self, option: &str, path: &str, kinds: &[&str], names: &[String]) {
        if path == "." || names.iter().any(|name| matches(path, name)) {
            return;
        }
        let (last, rest) = kinds.split_last().unwrap_or((&"item", &[]));
        let shown = if rest.is_empty() {
            (*last).to_owned()
        } else {
            format!("{} or {last}", rest.join(", "))
        };
        let is_elsewhere = !self.names(kinds, |name| matches(path, name)).is_empty();
        let help = match near(path, names) {
            _ if is_elsewhere => "it exists elsewhere or is left out, so nothing is generated for it: remove this option".to_owned(),
            Some(near) => format!("write `{near}`"),
            None => "write `.acme.v1.Money` for one item and all inside of it, `Money` for each whose name ends in it, or `.` \
                     for all"
                .to_owned(),
        };
        let problem = Problem::new(format!(
            "`Config::{option}`: the path `{path}` matches no {shown}"
        ));
        self.problems.push(problem.with_help(help));
    }

    /// Checks that the maps of a message, and a field `value` beside them, have the same type of bytes.
    ///
    /// prost-build asks for all of them by one name.
    fn maps_agree(&mut self, message: &MessageDescriptor) {
        let shared = message
            .fields()
            .filter(|field| has_bytes(field) && (field.is_map() || field.name() == "value"));
        let shared: Vec<_> = shared.collect();
        let Some(first) = shared.first() else { return };
        let ty = bytes_type(first, self.target);
        if let Some(other) = shared.iter().find(|field| bytes_type(field, self.target) != ty) {
            let problem = Problem::new(format!(
                "`Config::bytes_type`: `{}` and `{}` must have the same type of bytes",
                first.full_name(),
                other.full_name()
            ));
            self.problems.push(problem.with_help(
                "all maps of one message have one type of bytes, and so has a field named `value` beside them",
            ));
        }
    }

    fn is_rust_path(&mut self, path: &str, ty: &str) {
        let parsed = syn::parse_str::<syn::Path>(ty);
        let is_rooted = parsed.is_ok_and(|parsed| {
            let first = parsed.segments.first().map(|segment| segment.ident.to_string());
            parsed.leading_colon.is_some() || first.is_some_and(|first| first == "crate")
        });
        if !is_rooted {
            let problem = Problem::new(format!(
                "`Config::extern_path`: `{ty}`, given for `{path}`, is not a Rust path from the root"
            ));
            self.problems.push(
                problem.with_help("begin it with `::` and a crate, or with `crate`: `::acme_api::shop::v1`"),
            );
        }
    }

    /// Checks that the values of `option` are attributes.
    fn are_attributes(&mut self, option: &str, choice: &ByPath<String>) {
        for (path, text) in choice.iter() {
            let parsed = syn::parse::Parser::parse_str(syn::Attribute::parse_outer, text);
            if parsed.is_ok_and(|attributes| !attributes.is_empty()) {
                continue;
            }
            let problem = Problem::new(format!(
                "`Config::{option}`: `{text}`, given for `{path}`, is not an attribute"
            ));
            self.problems
                .push(problem.with_help("write one such as `#[derive(Eq)]`"));
        }
    }
}

/// The path that `path` was meant to be.
fn near(path: &str, names: &[String]) -> Option<String> {
    let with_dot = format!(".{path}");
    if names.iter().any(|name| matches(&with_dot, name)) {
        return Some(with_dot);
    }
    let Some(full) = path.strip_prefix('.') else {
        // Only the ends of names, because the path is one.
        let parts = path.split('.').count();
        let ends = names.iter().map(|name| {
            let start = name
                .rmatch_indices('.')
                .nth(parts - 1)
                .map_or(0, |(at, _)| at + 1);
            &name[start..]
        });
        return closest(path, ends).map(str::to_owned);
    };
    // The oneof of a field is easily forgotten.
    let without_oneof = |name: &str| {
        let (outer, field) = name.rsplit_once('.')?;
        Some(format!("{}.{field}", outer.rsplit_once('.')?.0))
    };
    let in_oneof = names
        .iter()
        .find(|name| without_oneof(name).is_some_and(|short| short == full));
    let name = in_oneof
        .map(String::as_str)
        .or_else(|| closest(full, names.iter().map(String::as_str)))?;
    Some(format!(".{name}"))
}

/// All items of the .proto files.
fn items(pool: &DescriptorPool) -> Vec<Item> {
    let mut items = Vec::new();
    for file in pool
        .files()
        .filter(|file| !is_google(file.name()) && file.name() != OPTIONS_NAME)
    {
        items.push(("package", file.package_name().to_owned()));
        for message in file.messages() {
            add(&message, &mut items);
        }
        for proto in file.enums() {
            add_enum(&proto, &mut items);
        }
        for service in file.services() {
            items.push(("service", service.full_name().to_owned()));
            let methods = service.methods();
            items.extend(methods.map(|method| ("procedure", method.full_name().to_owned())));
        }
    }
    items
}

/// Adds a message and all inside of it.
fn add(message: &MessageDescriptor, items: &mut Vec<Item>) {
    if message.is_map_entry() {
        return;
    }
    items.push(("message", message.full_name().to_owned()));
    for field in message.fields() {
        items.push(("field", path_of(&field)));
        if field.is_map() {
            items.push(("map field", path_of(&field)));
        }
        if can_be_boxed(&field) {
            items.push(("message field", path_of(&field)));
        }
        if has_bytes(&field) {
            items.push(("bytes field", path_of(&field)));
        }
    }
    for oneof in oneofs(message) {
        items.push(("oneof", oneof.full_name().to_owned()));
    }
    for inner in message.child_messages() {
        add(&inner, items);
    }
    for proto in message.child_enums() {
        add_enum(&proto, items);
    }
}

fn add_enum(proto: &EnumDescriptor, items: &mut Vec<Item>) {
    items.push(("enum", proto.full_name().to_owned()));
    for value in proto.values() {
        // Protobuf puts the values beside their enum; their paths are inside of it.
        items.push(("enum value", format!("{}.{}", proto.full_name(), value.name())));
    }
}
