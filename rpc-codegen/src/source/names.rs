//! The index of all names that the files define, and the names that two files or two items share.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use prost_types::FileDescriptorProto;

use super::definitions::{self, Definition, Kind};

/// All names that the files define; a file is the number of its place in a list.
#[derive(Default)]
pub(super) struct Names {
    symbols: HashMap<String, Symbol>,
    /// The names that one file defines twice.
    pub(super) twice: Vec<Twice>,
    /// The names that two files define, by pair of files.
    pub(super) shared: BTreeMap<(usize, usize), Shared>,
}

/// The kind of a name, and the file that defines it.
#[derive(Clone, Copy)]
pub(super) struct Symbol {
    pub(super) kind: Kind,
    pub(super) file: usize,
}

/// A name that one file defines twice.
pub(super) struct Twice {
    pub(super) name: String,
    pub(super) file: usize,
    /// The place of the second definition.
    pub(super) path: Vec<i32>,
    /// True if both are values of enums.
    pub(super) is_value: bool,
}

/// The names that two files define.
pub(super) struct Shared {
    /// The first of them.
    pub(super) name: String,
    /// The place of its definition in the second file.
    pub(super) path: Vec<i32>,
    /// The number of other names, without the values of enums.
    pub(super) others: usize,
}

impl Names {
    /// Adds the names that file number `file` defines.
    pub(super) fn add(&mut self, file: usize, proto: &FileDescriptorProto) {
        definitions::visit(proto, &mut |one| self.define(file, one));
    }

    /// The symbol with the name `full_name`; for a package, one of its files.
    pub(super) fn get(&self, full_name: &str) -> Option<Symbol> {
        self.symbols.get(full_name).copied()
    }

    /// The messages and enums, each with its full name.
    pub(super) fn types(&self) -> impl Iterator<Item = (&str, Symbol)> {
        let symbols = self.symbols.iter().map(|(name, symbol)| (name.as_str(), *symbol));
        symbols.filter(|(_, symbol)| matches!(symbol.kind, Kind::Message | Kind::Enum))
    }

    fn define(&mut self, file: usize, one: Definition<'_>) {
        let first = match self.symbols.entry(one.full_name.to_owned()) {
            Entry::Vacant(entry) => {
                entry.insert(Symbol { kind: one.kind, file });
                return;
            }
            Entry::Occupied(entry) => *entry.get(),
        };
        if (first.kind, one.kind) == (Kind::Package, Kind::Package) {
            return;
        }
        if first.file == file {
            self.twice.push(Twice {
                name: one.full_name.to_owned(),
                file,
                path: one.path.to_vec(),
                is_value: (first.kind, one.kind) == (Kind::Value, Kind::Value),
            });
        } else if one.is_top {
            // What is inside of a shared message or service is shared, too.
            match self.shared.get_mut(&(first.file, file)) {
                Some(shared) => shared.others += usize::from(one.kind != Kind::Value),
                None => {
                    let shared = Shared {
                        name: one.full_name.to_owned(),
                        path: one.path.to_vec(),
                        others: 0,
                    };
                    self.shared.insert((first.file, file), shared);
                }
            }
        }
    }
}

/// The places of the first definitions of all names in a file.
pub(super) fn first_places(proto: &FileDescriptorProto) -> HashMap<String, Vec<i32>> {
    let mut places = HashMap::new();
    definitions::visit(proto, &mut |one| {
        if !places.contains_key(one.full_name) {
            places.insert(one.full_name.to_owned(), one.path.to_vec());
        }
    });
    places
}
