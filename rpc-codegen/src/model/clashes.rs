//! Clashes: two items with one name in Rust, and names that Rust cannot have.

use std::collections::{BTreeSet, HashMap, HashSet};

use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};

use super::{
    naming::{camel, camel_with, is_nameable, module_path, procedures_of, snake, variant},
    oneof::{oneof_of, oneof_type},
};
use crate::{error::Problem, source::Sources, target::Parts};

/// The problems of all names in `files` that clash in Rust or are impossible there.
pub(super) fn problems(files: &[&FileDescriptorProto], sources: &Sources, parts: Parts) -> Vec<Problem> {
    let mut scope = Scope {
        sources,
        names: HashMap::new(),
        problems: Vec::new(),
    };
    for file in files {
        scope.file(file, parts);
    }
    scope.problems
}

/// The identifiers found so far.
struct Scope<'a> {
    sources: &'a Sources,
    /// The owners, by module or type, and identifier in it.
    names: HashMap<(Vec<String>, String), Owner>,
    problems: Vec<Problem>,
}

/// The item that has an identifier.
#[derive(Clone)]
struct Owner {
    what: String,
    file: String,
    path: Vec<i32>,
}

impl Scope<'_> {
    fn file(&mut self, file: &FileDescriptorProto, parts: Parts) {
        let module = module_path(file.package());
        let owner = |what: String, path: &[i32]| Owner {
            what,
            file: file.name().to_owned(),
            path: path.to_vec(),
        };
        let names: Vec<&str> = file
            .package()
            .split('.')
            .filter(|part| !part.is_empty())
            .collect();
        for (at, name) in names.iter().enumerate() {
            let what = format!("package `{}`", names[..=at].join("."));
            self.nameable(name, &owner(what.clone(), &[2]));
            self.claim(&module[..at], &module[at], owner(what, &[2]));
        }
        for (index, message) in (0..).zip(&file.message_type) {
            self.message(file, &module, file.package(), message, &[4, index]);
        }
        for (index, proto) in (0..).zip(&file.enum_type) {
            self.enumeration(file, &module, file.package(), proto, &[5, index]);
        }
        for (index, service) in (0..).zip(&file.service) {
            let name = service.name();
            let full = full_name(file.package(), name);
            let mut claim = |what: &str, ident: String| {
                self.claim(&module, &ident, owner(format!("{what} `{full}`"), &[6, index, 1]));
            };
            claim("the list of procedures of service", procedures_of(name));
            if parts.server() {
                claim("service", camel(name));
                claim("the server type of service", camel_with(name, "Server"));
            }
            if parts.client() {
                claim("the client type of service", camel_with(name, "Client"));
                claim("the type behind `send()` of service", camel_with(name, "Send"));
                claim(
                    "the type behind `send_recv()` of service",
                    camel_with(name, "SendRecv"),
                );
            }
            self.nameable(name, &owner(format!("service `{full}`"), &[6, index, 1]));
        }
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
            what,
            file: file.name().to_owned(),
            path,
        };
        let full = full_name(outer, message.name());
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
            self.claim(module, &snake(message.name()), owner(what, below(path, &[1])));
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
            what,
            file: file.name().to_owned(),
            path,
        };
        let full = full_name(outer, proto.name());
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
            self.claim(&variants, &variant(proto.name(), value.name()), what);
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
            Some(first) if first.what != owner.what => {
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

fn is_map_entry(message: &DescriptorProto) -> bool {
    message
        .options
        .as_ref()
        .is_some_and(prost_types::MessageOptions::map_entry)
}

fn full_name(outer: &str, name: &str) -> String {
    if outer.is_empty() {
        name.to_owned()
    } else {
        format!("{outer}.{name}")
    }
}

fn below(path: &[i32], more: &[i32]) -> Vec<i32> {
    [path, more].concat()
}
