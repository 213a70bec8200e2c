//! Names that lead nowhere, and advice what to write instead.

use std::collections::HashMap;

use prost_reflect::DescriptorPool;

use super::{
    definitions::Kind,
    file::SourceFile,
    names::{Names, Symbol},
    references::Wanted,
    served::OPTIONS_NAME,
    spelling::{closest, is_near, shared_tail},
    visible::{Everything, Imports, Meaning, Scope},
};
use crate::error::Problem;

/// A name that leads nowhere.
pub(super) struct Unresolved<'a> {
    pub(super) source: &'a SourceFile,
    /// The number of the file.
    pub(super) file: usize,
    /// The name as it is written.
    pub(super) name: String,
    /// The full name of the innermost scope around it.
    pub(super) scope: String,
    pub(super) wanted: Wanted,
    /// The path of the name in the file's descriptor.
    pub(super) path: Vec<i32>,
    /// What the name leads to: not an item.
    pub(super) meaning: Meaning,
}

impl Unresolved<'_> {
    /// The problem, without advice.
    pub(super) fn problem(&self) -> Problem {
        let name = &self.name;
        let message = match &self.meaning {
            Meaning::NotInScope(full) if full != name => {
                format!("'{name}' resolves to '{full}', which is not defined")
            }
            _ => format!("name '{name}' is not defined"),
        };
        Problem::new(message)
            .at(self.source.place(&self.path))
            .narrowed_to(name)
    }
}

/// Finds what the author of an unresolved name meant.
pub(super) struct Advisor<'a> {
    names: &'a Names,
    files: &'a [&'a SourceFile],
    imports: &'a Imports,
    /// The messages and enums by the last part of their names.
    types: HashMap<&'a str, Vec<(&'a str, Symbol)>>,
}

impl<'a> Advisor<'a> {
    pub(super) fn new(names: &'a Names, files: &'a [&'a SourceFile], imports: &'a Imports) -> Self {
        let mut types: HashMap<&str, Vec<(&str, Symbol)>> = HashMap::new();
        for (name, symbol) in names.types() {
            types.entry(last(name)).or_default().push((name, symbol));
        }
        Self {
            names,
            files,
            imports,
            types,
        }
    }

    /// The advice for one name, if its author surely meant another one.
    pub(super) fn help(&self, one: &Unresolved<'_>) -> Option<String> {
        let Unresolved {
            name, scope, wanted, ..
        } = one;
        if let Meaning::Item(full) = Everything(self.names).meaning(scope, name, *wanted) {
            let file = self
                .names
                .get(&full)
                .map(|symbol| self.files[symbol.file].proto.name());
            return file.map(add_import);
        }
        let full = name.trim_start_matches('.');
        if *wanted == Wanted::Extension {
            return full
                .strip_prefix("rpc.")
                .map(|option| self.option_help(one, option));
        }
        if let Some(file) = google_file(full) {
            return Some(add_import(&file));
        }
        self.same_last_part(one).or_else(|| self.misspelt(one))
    }

    /// The advice for an option `(rpc.name)` that does not exist.
    fn option_help(&self, one: &Unresolved<'_>, name: &str) -> String {
        let proto = &one.source.proto;
        if !proto.dependency.iter().any(|import| import == OPTIONS_NAME) {
            return add_import(OPTIONS_NAME);
        }
        match closest(name, ["service", "procedure"]) {
            Some(close) if matches!(&one.meaning, Meaning::NotInScope(full) if *full != one.name) => {
                format!(
                    "in package {} write `option (.rpc.{close}) = ..`, with a dot before `rpc`",
                    proto.package()
                )
            }
            Some(close) => format!("write `option (rpc.{close}) = ..`"),
            None => "the options are `(rpc.service)` and `(rpc.procedure)`".to_owned(),
        }
    }

    /// The type with the same last part whose name agrees most from its end.
    fn same_last_part(&self, one: &Unresolved<'_>) -> Option<String> {
        let visible = self.visible(one);
        let found = self.types.get(last(&one.name))?.iter();
        let found = found.filter(|(full, symbol)| {
            let is_wanted = one.wanted == Wanted::Type || symbol.kind == Kind::Message;
            is_wanted && is_near(one.name.trim_start_matches('.'), full, '.')
        });
        let best = found.max_by_key(|(full, symbol)| {
            let near = self.shared_package(one, full);
            // The name itself decides at last, so that two runs give the same advice.
            (
                shared_tail(&one.name, full, '.'),
                visible(symbol),
                near,
                std::cmp::Reverse(*full),
            )
        });
        let (full, symbol) = best?;
        let write = format!("write `{}`", as_written(one, full));
        if visible(symbol) {
            return Some(write);
        }
        let file = self.files[symbol.file].proto.name();
        Some(format!("{write}, and {}", add_import(file)))
    }

    /// The visible type, or scalar, whose name differs in few letters.
    fn misspelt(&self, one: &Unresolved<'_>) -> Option<String> {
        let (before, word) = one.name.rsplit_once('.').unwrap_or(("", &one.name));
        let visible = self.visible(one);
        let types = self
            .types
            .iter()
            .flat_map(|(last, types)| types.iter().map(move |found| (*last, found)));
        let types = types.filter(|(_, (full, symbol))| {
            let is_wanted = one.wanted == Wanted::Type || symbol.kind == Kind::Message;
            // The parts before the last one must agree.
            let is_there = full.rsplit_once('.').map_or("", |(outer, _)| outer);
            is_wanted
                && visible(symbol)
                && (before.is_empty() || shared_tail(before, is_there, '.') == parts(before))
        });
        let mut types: Vec<(&str, &str)> = types.map(|(last, (full, _))| (last, *full)).collect();
        types.sort_unstable();
        // Procedures take and return messages, never scalars.
        let scalars = if one.wanted == Wanted::Type && before.is_empty() {
            &SCALARS[..]
        } else {
            &[]
        };
        if !scalars.is_empty() {
            let known = FOREIGN_SCALARS.iter().find(|(foreign, _)| *foreign == word);
            if let Some((_, scalar)) = known {
                return Some(format!("write `{scalar}`"));
            }
        }
        let close = closest(
            word,
            scalars.iter().copied().chain(types.iter().map(|(last, _)| *last)),
        )?;
        let same = types.iter().filter(|(last, _)| *last == close);
        let full = same.max_by_key(|(_, full)| (self.shared_package(one, full), std::cmp::Reverse(*full)));
        Some(match full {
            Some((_, full)) => format!("write `{}`", as_written(one, full)),
            None => format!("write `{close}`"),
        })
    }

    /// The number of parts at the beginning that a name shares with the scope of the unresolved one.
    fn shared_package(&self, one: &Unresolved<'_>, full: &str) -> usize {
        let pairs = one.scope.split('.').zip(full.split('.'));
        pairs.take_while(|(a, b)| a == b).count()
    }

    /// Whether the file of the unresolved name may use a symbol.
    fn visible(&self, one: &Unresolved<'_>) -> impl Fn(&Symbol) -> bool + use<> {
        let files = self.imports.visible(one.file);
        move |symbol| files.contains(&symbol.file)
    }
}

/// The type `full` as the file must write it: without its package, if that is the file's own.
fn as_written(one: &Unresolved<'_>, full: &str) -> String {
    match full.rsplit_once('.') {
        Some((outer, last)) if outer == one.source.proto.package() => last.to_owned(),
        _ => full.to_owned(),
    }
}

fn add_import(file: &str) -> String {
    format!("add `import \"{file}\";` at the top of the file")
}

/// The file of Google that defines `full`.
fn google_file(full: &str) -> Option<String> {
    let pool = DescriptorPool::global();
    let message = pool
        .get_message_by_name(full)
        .map(|message| message.parent_file());
    let file = message.or_else(|| Some(pool.get_enum_by_name(full)?.parent_file()));
    file.map(|file| file.name().to_owned())
}

/// The part of a name behind its last dot.
fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn parts(name: &str) -> usize {
    name.split('.').count()
}

/// The scalar types of protobuf.
const SCALARS: [&str; 15] = [
    "bool", "bytes", "double", "fixed32", "fixed64", "float", "int32", "int64", "sfixed32", "sfixed64",
    "sint32", "sint64", "string", "uint32", "uint64",
];

/// Scalar types of other languages, and the type in protobuf.
const FOREIGN_SCALARS: [(&str, &str); 20] = [
    ("Bytes", "bytes"),
    ("String", "string"),
    ("boolean", "bool"),
    ("byte", "bytes"),
    ("char", "string"),
    ("f32", "float"),
    ("f64", "double"),
    ("i32", "int32"),
    ("i64", "int64"),
    ("int", "int32"),
    ("integer", "int64"),
    ("long", "int64"),
    ("number", "double"),
    ("str", "string"),
    ("text", "string"),
    ("u16", "uint32"),
    ("u32", "uint32"),
    ("u64", "uint64"),
    ("u8", "uint32"),
    ("uint", "uint32"),
];
