//! Clashes: two items with one name in Rust, and names that Rust cannot have.

use std::collections::{BTreeSet, HashMap, HashSet};

use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};

use super::{
    externs::is_generated,
    naming::{camel, full_name, is_nameable, module_path, snake, variant},
    oneof::{oneof_of, oneof_type},
    service_names::ServiceNames,
};
use crate::{error::Problem, source::Sources, target::Target};

/// What became of the names of all files.
pub(super) struct Names {
    /// The names of the items of each service, by its full name.
    pub(super) services: HashMap<String, ServiceNames>,
    /// The names that gave way to others.
    pub(super) warnings: Vec<String>,
    /// The names that clash in Rust or are impossible there.
    pub(super) problems: Vec<Problem>,
}

/// Gives everything in `files` its name.
pub(super) fn names(files: &[&FileDescriptorProto], sources: &Sources, target: &Target<'_>) -> Names {
    let mut scope = Scope {
        sources,
        target,
        names: HashMap::new(),
        warnings: Vec::new(),
        problems: Vec::new(),
    };
    for file in files {
        scope.file(file);
    }
    let services = scope.services(files);
    Names {
        services,
        warnings: scope.warnings,
        problems: scope.problems,
    }
}

/// The identifiers found so far.
struct Scope<'a> {
    sources: &'a Sources,
    target: &'a Target<'a>,
    /// The owners, by module or type, and identifier in it.
    names: HashMap<(Vec<String>, String), Owner>,
    warnings: Vec<String>,
    problems: Vec<Problem>,
}

/// The item that has an identifier.
#[derive(Clone)]
struct Owner {
    kind: Kind,
    what: String,
    file: String,
    path: Vec<i32>,
}

/// What an identifier stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Item,
    /// The module of a package.
    Package,
    /// The module of the types inside of a message. It is one with the module of a package of that name.
    Inside,
}

impl Scope<'_> {
    fn file(&mut self, file: &FileDescriptorProto) {
        if !is_generated(file.package(), self.target) {
            return;
        }
        let module = module_path(file.package());
        let names: Vec<&str> = file
            .package()
            .split('.')
            .filter(|part| !part.is_empty())
            .collect();
        for (at, name) in names.iter().enumerate() {
            let package = Owner {
                kind: Kind::Package,
                what: format!("package `{}`", names[..=at].join(".")),
                file: file.name().to_owned(),
                path: vec![2],
            };
            self.nameable(name, &package);
            self.claim(&module[..at], &module[at], package);
        }
        for (index, message) in (0..).zip(&file.message_type) {
            self.message(file, &module, file.package(), message, &[4, index]);
        }
        for (index, proto) in (0..).zip(&file.enum_type) {
            self.enumeration(file, &module, file.package(), proto, &[5, index]);
        }
    }

    /// The names of all services, whose items give way to messages, enums and other services.
    fn services(&mut self, files: &[&FileDescriptorProto]) -> HashMap<String, ServiceNames> {
        let mut services: Vec<(Vec<String>, Owner, String, ServiceNames)> = Vec::new();
        for file in files {
            for (index, service) in (0..).zip(&file.service) {
                let full = full_name(file.package(), service.name());
                if !is_generated(&full, self.target) {
                    continue;
                }
                let owner = Owner {
                    kind: Kind::Item,
                    what: format!("service `{full}`"),
                    file: file.name().to_owned(),
                    path: vec![6, index, 1],
                };
                self.nameable(service.name(), &owner);
                let mut names = ServiceNames::new(service.name());
                let module = module_path(file.package());
                if self.target.parts(&full).server() {
                    self.give_way(&module, &mut names.service, "the trait", &full);
                }
                services.push((module, owner, full, names));
            }
        }
        // The traits come first: two of them with one name are an error, and everything else gives way to them.
        for (module, owner, full, names) in &services {
            if self.target.parts(full).server() {
                self.claim(module, &names.service, owner.clone());
            }
        }
        for (module, owner, full, names) in &mut services {
            for (what, name) in names.beside_the_trait(full, self.target) {
                self.give_way(module, name, what, full);
                let owner = Owner {
                    what: format!("{what} of service `{full}`"),
                    ..owner.clone()
                };
                self.claim(module, name, owner);
            }
        }
        services
            .into_iter()
            .map(|(_, _, full, names)| (full, names))
            .collect()
    }

    /// Adds a `_` to `name`, which is `what` of a service, if something else in `module` has that name.
    fn give_way(&mut self, module: &[String], name: &mut String, what: &str, service: &str) {
        let Some(owner) = self.names.get(&(module.to_vec(), name.clone())) else {
            return;
        };
        self.warnings.push(format!(
            "service {service}: {what} is named `{name}_`, because {} is named `{name}`",
            owner.what
        ));
        name.push('_');
    }

    fn message(
        &mut self,
        file: &FileDescriptorProto,
        module: &[String],
        outer: &str,
        message: &DescriptorProto,
        path: &[i32],
    ) {
        let owner = |what: String, path: Vec<i32>| Owner {
            kind: Kind::Item,
            what,
            file: file.name().to_owned(),
            path,
        };
        let full = full_name(outer, message.name());
        if !is_generated(&full, self.target) {
            return;
        }
        let itself = owner(format!("message `{full}`"), below(path, &[1]));
        self.nameable(message.name(), &itself);
        self.claim(module, &camel(message.name()), itself);

        let nested = |index: usize| !is_map_entry(&message.nested_type[index]);
        // Each once, in order. The hidden oneofs of `optional` fields do not count.
        let oneofs: BTreeSet<usize> = message.field.iter().filter_map(oneof_of).collect();
        let has_module =
            !message.enum_type.is_empty() || !oneofs.is_empty() || (0..message.nested_type.len()).any(nested);
        let mut inner = module.to_vec();
        inner.push(snake(message.name()));
        if has_module {
            let what = format!("the module of the types inside message `{full}`");
            let inside = Owner {
                kind: Kind::Inside,
                ..owner(what, below(path, &[1]))
            };
            self.claim(module, &snake(message.name()), inside);
        }

        // Fields, and the variants of a oneof, have scopes of their own. `{}` in their key keeps them apart from modules.
        let fields: Vec<String> = inner.iter().cloned().chain(["{}".to_owned()]).collect();
        for (index, field) in (0..).zip(&message.field) {
            let field_owner = owner(
                format!("field `{full}.{}`", field.name()),
                below(path, &[2, index, 1]),
            );
            self.nameable(field.name(), &field_owner);
            match oneof_of(field) {
                Some(oneof) => {
                    let scope: Vec<String> = fields.iter().cloned().chain([oneof.to_string()]).collect();
                    self.claim(&scope, &camel(field.name()), field_owner);
                }
                None => self.claim(&fields, &snake(field.name()), field_owner),
            }
        }
        for oneof in oneofs {
            let name = message.oneof_decl[oneof].name();
            let index = i32::try_from(oneof).unwrap_or(i32::MAX);
            let what = owner(format!("oneof `{full}.{name}`"), below(path, &[8, index, 1]));
            self.nameable(name, &what);
            self.claim(&fields, &snake(name), what.clone());
            self.claim(&inner, &oneof_type(message, name), what);
        }
        for (index, inside) in (0..).zip(&message.nested_type) {
            if !is_map_entry(inside) {
                self.message(file, &inner, &full, inside, &below(path, &[3, index]));
            }
        }
        for (index, inside) in (0..).zip(&message.enum_type) {
            self.enumeration(file, &inner, &full, inside, &below(path, &[4, index]));
        }
    }

    fn enumeration(
        &mut self,
        file: &FileDescriptorProto,
        module: &[String],
        outer: &str,
        proto: &EnumDescriptorProto,
        path: &[i32],
    ) {
        let owner = |what: String, path: Vec<i32>| Owner {
            kind: Kind::Item,
            what,
            file: file.name().to_owned(),
            path,
        };
        let full = full_name(outer, proto.name());
        if !is_generated(&full, self.target) {
            return;
        }
        let itself = owner(format!("enum `{full}`"), below(path, &[1]));
        self.nameable(proto.name(), &itself);
        let ident = camel(proto.name());
        self.claim(module, &ident, itself);
        let variants: Vec<String> = module.iter().cloned().chain([ident, "{}".to_owned()]).collect();
        let mut numbers = HashSet::new();
        for (index, value) in (0..).zip(&proto.value) {
            // A second name of a number (`allow_alias`) has no variant.
            if !numbers.insert(value.number()) {
                continue;
            }
            let what = owner(
                format!("value `{full}.{}`", value.name()),
                below(path, &[2, index, 1]),
            );
            self.nameable(value.name(), &what);
            let name = if self.target.choices.retain_enum_prefix {
                camel(value.name())
            } else {
                variant(proto.name(), value.name())
            };
            self.claim(&variants, &name, what);
        }
    }

    /// Records `owner` as `ident` in `scope`, and reports a clash.
    fn claim(&mut self, scope: &[String], ident: &str, owner: Owner) {
        // `nameable` reports impossible names.
        if !is_nameable(ident) {
            return;
        }
        let key = (scope.to_vec(), ident.to_owned());
        match self.names.get(&key) {
            Some(first) if first.what != owner.what && !are_one_module(first, &owner) => {
                let problem = Problem::new(format!(
                    "{} and {} are both named `{ident}` in Rust",
                    first.what, owner.what
                ))
                .at(self.sources.place(&owner.file, &owner.path))
                .with_other(
                    "the other one is here",
                    self.sources.place(&first.file, &first.path),
                )
                .with_help("rename one of them");
                self.problems.push(problem);
            }
            Some(_) => {}
            None => {
                self.names.insert(key, owner);
            }
        }
    }

    fn nameable(&mut self, name: &str, owner: &Owner) {
        if !is_nameable(name) {
            let problem = Problem::new(format!("{} cannot be named in Rust", owner.what))
                .at(self.sources.place(&owner.file, &owner.path))
                .with_help("give it a name with a letter in it");
            self.problems.push(problem);
        }
    }
}

/// True if one of two modules is a package and the other one holds the types inside of a message: they become one.
fn are_one_module(a: &Owner, b: &Owner) -> bool {
    matches!(
        (a.kind, b.kind),
        (Kind::Package, Kind::Inside) | (Kind::Inside, Kind::Package)
    )
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message
        .options
        .as_ref()
        .is_some_and(prost_types::MessageOptions::map_entry)
}

fn below(path: &[i32], more: &[i32]) -> Vec<i32> {
    [path, more].concat()
}
