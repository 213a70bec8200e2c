//! Clashes: two items with one name in Rust, and names that Rust cannot have.

use std::collections::{BTreeSet, HashMap, HashSet, hash_map::Entry};

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
pub(super) fn names<'a>(
    files: &[&'a FileDescriptorProto],
    sources: &'a Sources,
    target: &'a Target<'a>,
) -> Names {
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
    /// The owners, by path in Rust. Fields and variants are not among them: each type has a scope of its own for these.
    names: HashMap<String, Owner<'a>>,
    warnings: Vec<String>,
    problems: Vec<Problem>,
}

/// The item that has an identifier.
#[derive(Clone)]
struct Owner<'a> {
    kind: Kind,
    what: String,
    file: &'a str,
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

/// A field or a oneof of a message, by its index.
#[derive(Clone, Copy)]
enum Member {
    Field(usize),
    Oneof(usize),
}

impl<'a> Scope<'a> {
    fn file(&mut self, file: &'a FileDescriptorProto) {
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
                file: file.name(),
                path: vec![2],
            };
            self.nameable(name, || package.clone());
            self.claim(&module[..at].join("::"), &module[at], package);
        }
        let module = module.join("::");
        for (index, message) in (0..).zip(&file.message_type) {
            self.message(file, &module, file.package(), message, &[4, index]);
        }
        for (index, proto) in (0..).zip(&file.enum_type) {
            self.enumeration(file, &module, file.package(), proto, &[5, index]);
        }
    }

    /// The names of all services, whose items give way to messages, enums and other services.
    fn services(&mut self, files: &[&'a FileDescriptorProto]) -> HashMap<String, ServiceNames> {
        let mut services: Vec<(String, Owner<'a>, String, ServiceNames)> = Vec::new();
        for file in files {
            for (index, service) in (0..).zip(&file.service) {
                let full = full_name(file.package(), service.name());
                if !is_generated(&full, self.target) {
                    continue;
                }
                let owner = Owner {
                    kind: Kind::Item,
                    what: format!("service `{full}`"),
                    file: file.name(),
                    path: vec![6, index, 1],
                };
                self.nameable(service.name(), || owner.clone());
                let mut names = ServiceNames::new(service.name());
                let module = module_path(file.package()).join("::");
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
    fn give_way(&mut self, module: &str, name: &mut String, what: &str, service: &str) {
        let Some(owner) = self.names.get(&inside(module, name)) else {
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
        file: &'a FileDescriptorProto,
        module: &str,
        outer: &str,
        message: &DescriptorProto,
        path: &[i32],
    ) {
        let owner = |what: String, path: Vec<i32>| Owner {
            kind: Kind::Item,
            what,
            file: file.name(),
            path,
        };
        let full = full_name(outer, message.name());
        if !is_generated(&full, self.target) {
            return;
        }
        let itself = owner(format!("message `{full}`"), below(path, &[1]));
        self.nameable(message.name(), || itself.clone());
        self.claim(module, &camel(message.name()), itself);

        let nested = |index: usize| !is_map_entry(&message.nested_type[index]);
        // Each once, in order. The hidden oneofs of `optional` fields do not count.
        let oneofs: BTreeSet<usize> = message.field.iter().filter_map(oneof_of).collect();
        let has_module =
            !message.enum_type.is_empty() || !oneofs.is_empty() || (0..message.nested_type.len()).any(nested);
        let inner = inside(module, &snake(message.name()));
        if has_module {
            let what = format!("the module of the types inside message `{full}`");
            let types = Owner {
                kind: Kind::Inside,
                ..owner(what, below(path, &[1]))
            };
            self.claim(module, &snake(message.name()), types);
        }

        let member = |member: Member| match member {
            Member::Field(index) => owner(
                format!("field `{full}.{}`", message.field[index].name()),
                below(path, &[2, as_i32(index), 1]),
            ),
            Member::Oneof(index) => owner(
                format!("oneof `{full}.{}`", message.oneof_decl[index].name()),
                below(path, &[8, as_i32(index), 1]),
            ),
        };
        // Fields share a scope with oneofs. The variants of each oneof have another one.
        let mut members: HashMap<(Option<usize>, String), Member> = HashMap::new();
        for (index, field) in message.field.iter().enumerate() {
            let this = Member::Field(index);
            self.nameable(field.name(), || member(this));
            let oneof = oneof_of(field);
            let ident = match oneof {
                Some(_) => camel(field.name()),
                None => snake(field.name()),
            };
            self.claim_member(&mut members, (oneof, ident), this, member);
        }
        for oneof in oneofs {
            let name = message.oneof_decl[oneof].name();
            let this = Member::Oneof(oneof);
            self.nameable(name, || member(this));
            self.claim_member(&mut members, (None, snake(name)), this, member);
            self.claim(&inner, &oneof_type(message, name), member(this));
        }
        for (index, nested) in (0..).zip(&message.nested_type) {
            if !is_map_entry(nested) {
                self.message(file, &inner, &full, nested, &below(path, &[3, index]));
            }
        }
        for (index, nested) in (0..).zip(&message.enum_type) {
            self.enumeration(file, &inner, &full, nested, &below(path, &[4, index]));
        }
    }

    fn enumeration(
        &mut self,
        file: &'a FileDescriptorProto,
        module: &str,
        outer: &str,
        proto: &EnumDescriptorProto,
        path: &[i32],
    ) {
        let owner = |what: String, path: Vec<i32>| Owner {
            kind: Kind::Item,
            what,
            file: file.name(),
            path,
        };
        let full = full_name(outer, proto.name());
        if !is_generated(&full, self.target) {
            return;
        }
        let itself = owner(format!("enum `{full}`"), below(path, &[1]));
        self.nameable(proto.name(), || itself.clone());
        self.claim(module, &camel(proto.name()), itself);
        let variant_at = |index: usize| {
            owner(
                format!("value `{full}.{}`", proto.value[index].name()),
                below(path, &[2, as_i32(index), 1]),
            )
        };
        let mut variants: HashMap<(Option<usize>, String), usize> = HashMap::new();
        let mut numbers = HashSet::new();
        for (index, value) in proto.value.iter().enumerate() {
            // A second name of a number (`allow_alias`) has no variant.
            if !numbers.insert(value.number()) {
                continue;
            }
            self.nameable(value.name(), || variant_at(index));
            let name = if self.target.choices.retain_enum_prefix {
                camel(value.name())
            } else {
                variant(proto.name(), value.name())
            };
            self.claim_member(&mut variants, (None, name), index, variant_at);
        }
    }

    /// Records `owner` as `ident` in `module`, and reports a clash.
    fn claim(&mut self, module: &str, ident: &str, owner: Owner<'a>) {
        // `nameable` reports impossible names.
        if !is_nameable(ident) {
            return;
        }
        match self.names.entry(inside(module, ident)) {
            Entry::Occupied(first) => {
                let problem = clash(first.get(), &owner, ident, self.sources);
                self.problems.extend(problem);
            }
            Entry::Vacant(vacant) => {
                vacant.insert(owner);
            }
        }
    }

    /// Records `member` by its scope and identifier in one type, and reports a clash.
    fn claim_member<M: Copy>(
        &mut self,
        members: &mut HashMap<(Option<usize>, String), M>,
        key: (Option<usize>, String),
        member: M,
        owner: impl Fn(M) -> Owner<'a>,
    ) {
        if !is_nameable(&key.1) {
            return;
        }
        match members.entry(key) {
            Entry::Occupied(first) => {
                let (_, ident) = first.key();
                let problem = clash(&owner(*first.get()), &owner(member), ident, self.sources);
                self.problems.extend(problem);
            }
            Entry::Vacant(vacant) => {
                vacant.insert(member);
            }
        }
    }

    fn nameable(&mut self, name: &str, owner: impl FnOnce() -> Owner<'a>) {
        if !is_nameable(name) {
            let owner = owner();
            let problem = Problem::new(format!("{} cannot be named in Rust", owner.what))
                .at(self.sources.place(owner.file, &owner.path))
                .with_help("give it a name with a letter in it");
            self.problems.push(problem);
        }
    }
}

/// The problem of two items that are both named `ident`, unless they are one.
fn clash(first: &Owner<'_>, second: &Owner<'_>, ident: &str, sources: &Sources) -> Option<Problem> {
    if first.what == second.what || are_one_module(first, second) {
        return None;
    }
    let problem = Problem::new(format!(
        "{} and {} are both named `{ident}` in Rust",
        first.what, second.what
    ));
    let problem = problem
        .at(sources.place(second.file, &second.path))
        .with_other("the other one is here", sources.place(first.file, &first.path));
    Some(problem.with_help("rename one of them"))
}

/// The path of the item `ident` in `module`.
fn inside(module: &str, ident: &str) -> String {
    format!("{module}::{ident}")
}

fn as_i32(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

/// True if one of two modules is a package and the other one holds the types inside of a message: they become one.
fn are_one_module(a: &Owner<'_>, b: &Owner<'_>) -> bool {
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
